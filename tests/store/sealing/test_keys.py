"""Where the master key comes from, what is refused, and that nothing shows it."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError, StoreUnavailable
from bgsuper.store.sealing.keys import MasterKey, load_key

from .keys import MATERIAL, OTHER, key_file, sealer, shows

HEX = MATERIAL.hex().encode()


def fingerprint(options: Mapping[str, str]) -> bytes:
    return load_key(options).derive(b"test", 16)


EXPECTED = MasterKey(MATERIAL).derive(b"test", 16)


def refusal(options: Mapping[str, str]) -> str:
    """What is said of the key that `options` name, once it is sure that nothing of it is shown: not by the message, nor
    by a traceback that prints the variables of each frame."""
    with pytest.raises(ConfigError) as caught:
        load_key(options)
    error = caught.value
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    # The frames of the test itself hold what it put there.
    told = "".join(line for line in lines if "test_keys.py" not in line)
    for text in (told, str(error), repr(error), repr(error.args)):
        assert not shows(text)
        assert not shows(text, HEX)
    assert "\n" not in str(error)
    return str(error)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


# -- what is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [MATERIAL, HEX, HEX.upper(), HEX + b"\n", HEX + b"\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_file(tmp_path: Path, content: bytes, mode: int) -> None:
    """32 raw bytes, or 64 digits with or without a newline, all the same key."""
    assert fingerprint({"key-file": str(key_file(tmp_path / "key", content, mode))}) == EXPECTED


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a store: from the working directory."""
    key_file(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    assert fingerprint({"key-file": "key"}) == EXPECTED


def test_a_link_to_a_private_file(tmp_path: Path) -> None:
    """Followed: secrets are handed out that way."""
    key_file(tmp_path / "key")
    (tmp_path / "link").symlink_to("key")
    assert fingerprint({"key-file": str(tmp_path / "link")}) == EXPECTED


@pytest.mark.parametrize("value", [HEX, HEX.upper(), HEX + b"\n"])
def test_a_variable(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    """64 digits."""
    monkeypatch.setenv("NODE_KEY", value.decode())
    assert fingerprint({"key-env": "NODE_KEY", "compress": "zstd"}) == EXPECTED


def test_a_raw_key_that_ends_with_a_newline(tmp_path: Path) -> None:
    """Nothing is cut off 32 bytes."""
    material = MATERIAL[:-1] + b"\n"
    found = fingerprint({"key-file": str(key_file(tmp_path / "key", material))})
    assert found == MasterKey(material).derive(b"test", 16)


@pytest.mark.usefixtures("umask")
def test_the_advice_makes_a_key(tmp_path: Path) -> None:
    """Told that there is none, whoever runs the command that the message names has one."""
    path = tmp_path / "it's here"
    said = refusal({"key-file": str(path)})
    command = said[said.index("(umask") :]
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=60)
    assert path.stat().st_size == 32
    load_key({"key-file": str(path)})


@pytest.mark.usefixtures("umask")
def test_the_advice_makes_a_key_private(tmp_path: Path) -> None:
    """So does the command that mends its mode."""
    path = key_file(tmp_path / "a key", mode=0o644)
    said = refusal({"key-file": str(path)})
    subprocess.run(["/bin/sh", "-c", said[said.index("chmod") :]], check=True, timeout=60)
    assert fingerprint({"key-file": str(path)}) == EXPECTED


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_others_may_do_nothing_with_it(tmp_path: Path, mode: int) -> None:
    """Neither read nor write: whoever can write it can make us use a key of theirs."""
    said = refusal({"key-file": str(key_file(tmp_path / "key", mode=mode))})
    assert f"its mode is {mode:04o}" in said
    assert f"chmod 600 {tmp_path}/key" in said


def test_a_link_to_what_others_can_read(tmp_path: Path) -> None:
    """The mode of the file that is read counts."""
    key_file(tmp_path / "key", mode=0o644)
    (tmp_path / "link").symlink_to("key")
    assert "0644" in refusal({"key-file": str(tmp_path / "link")})


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "it is empty"),
        (b"\n", "it has 0 bytes"),
        (MATERIAL[:-1], "it has 31 bytes"),
        (MATERIAL + b"\n", "it has 32 bytes"),
        (HEX[:32], "it has 32 hexadecimal digits"),
        (HEX[:32] + b"\n", "it has 32 hexadecimal digits"),
        (HEX[:-1], "it has 63 hexadecimal digits"),
        (HEX[:-1] + b"g", "not all of its 64 characters"),
        (b" " + HEX[1:], "not all of its 64 characters"),
        (HEX + b"0", "it has 65 hexadecimal digits"),
        (HEX + b"\n\n", "it has 65 bytes"),
        (HEX + b"\r\n\n", "it has more"),
        (HEX * 100, "it has more"),
        (bytes(32), "one byte repeated"),
        (b"\xff" * 32, "one byte repeated"),
        (b"0" * 64 + b"\n", "one byte repeated"),
    ],
)
def test_what_no_key_file_holds(tmp_path: Path, content: bytes, hint: str) -> None:
    """The message names the file and what is wrong with it, and shows none of it."""
    path = key_file(tmp_path / "key", content)
    said = refusal({"key-file": str(path)})
    assert hint in said
    assert str(path) in said
    assert "32 bytes or 64 hexadecimal digits" in said


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory, a FIFO without a writer (which is not waited for), a device, nothing, a link to nothing, a loop."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    key_file(tmp_path / "file")
    for path, hint in (
        (tmp_path, "regular file"),
        (tmp_path / "fifo", "regular file"),
        (Path("/dev/zero"), "regular file"),
        (tmp_path / "missing", "cannot be read: No such file"),
        (tmp_path / "dangling", "cannot be read: No such file"),
        (tmp_path / "loop", "cannot be read: Too many levels"),
        (tmp_path / "file" / "key", "cannot be read: Not a directory"),
    ):
        said = refusal({"key-file": str(path)})
        assert hint in said
        assert str(path) in said


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission, a failing disk: the host's configuration is at fault. No descriptors: that passes."""
    path = str(key_file(tmp_path / "key"))

    def failing(number: int) -> None:
        def fail(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", fail)

    failing(errno.EACCES)
    assert "Permission denied; make it readable" in refusal({"key-file": path})
    failing(errno.EMFILE)
    with pytest.raises(StoreUnavailable, match="raise the limit"):
        load_key({"key-file": path})
    monkeypatch.undo()

    def read(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "read", read)
    assert "Input/output error" in refusal({"key-file": path})
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("", "it is empty"),
        ("x", "it has 1 bytes"),
        (HEX[:32].decode(), "it has 32 hexadecimal digits"),
        ("\u20ac" * 8 + "12345678", "it has 32 bytes"),
        ("0" * 64, "one byte repeated"),
        (HEX.decode() + "ff", "it has 66 hexadecimal digits"),
        (HEX.decode() * 2, "it has more"),
    ],
)
def test_what_no_variable_holds(monkeypatch: pytest.MonkeyPatch, value: str, hint: str) -> None:
    """Raw bytes neither: 32 bytes of text are no key."""
    monkeypatch.setenv("NODE_KEY", value)
    said = refusal({"key-env": "NODE_KEY"})
    assert hint in said
    assert "'NODE_KEY'" in said


def test_a_variable_that_is_not_set() -> None:
    """The message names it."""
    assert "'NO_SUCH_KEY', which is not set" in refusal({"key-env": "NO_SUCH_KEY"})


@pytest.mark.parametrize("option", ["key-file", "key-env"])
@pytest.mark.parametrize("digits", [HEX.decode(), HEX.decode().upper(), HEX.decode()[:40]])
def test_a_key_in_the_place_of_its_name(option: str, digits: str) -> None:
    """It is not repeated, not even to say that there is no such file."""
    with pytest.raises(ConfigError, match=f"{option} takes the ") as caught:
        load_key({option: digits})
    assert not shows(repr(caught.value))


@pytest.mark.parametrize("name", ["=" + HEX.decode(), "/" + HEX.decode(), "A B", "1A", "\u00c4", "A=B", "A\n"])
def test_what_is_no_variables_name(name: str) -> None:
    """Not repeated either."""
    with pytest.raises(ConfigError, match="takes the name of an environment variable") as caught:
        load_key({"key-env": name})
    assert name not in str(caught.value)


def test_exactly_one_source(tmp_path: Path) -> None:
    """Both, or none."""
    assert "leave one of them out" in refusal({"key-file": str(tmp_path), "key-env": "X"})
    assert "add ?key-file=PATH or ?key-env=NAME" in refusal({"compress": "zstd"})


@given(st.binary(max_size=80))
def test_any_content_is_a_key_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Total, and the message is one line that does not quote it."""
    path = key_file(tmp_path_factory.getbasetemp() / "any-key", content)
    try:
        key = load_key({"key-file": str(path)})
    except ConfigError as error:
        said = str(error)
        assert "\n" not in said
        assert len(content) < 8 or repr(content)[2:-1] not in said
    else:
        assert len(content) in (32, 64, 65, 66)
        assert key.derive(b"", 32)


# -- what shows it -----------------------------------------------------------------------------------------------------


def test_nothing_shows_the_key() -> None:
    """No repr of it, of what was made of it, or of a traceback's variables; it can be neither pickled nor copied."""
    key = MasterKey(MATERIAL)
    made = sealer()
    for text in (repr(key), str(key), f"{key}", repr(made), repr(vars(made)), repr(made.fingerprint)):
        assert not shows(text)
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="does not travel"):
            carry(key)


def test_what_finds_it_does_find_it() -> None:
    """The instrument of this file."""
    assert shows(f"key {MATERIAL!r}")
    assert shows(MATERIAL.hex().upper())
    assert shows(repr(vars(type("Leak", (), {"material": MATERIAL}))))
    assert not shows(repr(OTHER))


def test_keys_derived_are_apart() -> None:
    """Another purpose, another salt, another key: another result; the same gives the same."""
    one = MasterKey(MATERIAL)
    results = {
        one.derive(b"a", 16),
        one.derive(b"b", 16),
        one.derive(b"a", 16, b"salt"),
        MasterKey(OTHER).derive(b"a", 16),
    }
    assert len(results) == 4
    assert MasterKey(MATERIAL).derive(b"a", 16) in results
