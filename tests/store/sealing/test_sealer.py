"""One value sealed and opened: the format, nonces, and whatever anybody without the key may do to it."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError, StoreCorrupt, StoreTampered, StoreTooNew
from bgsuper.key import Key
from bgsuper.store.identity import SEAL_BYTES
from bgsuper.store.sealing import sealer as module
from bgsuper.store.sealing.compression import Zstd
from bgsuper.store.sealing.keys import MasterKey
from bgsuper.store.sealing.sealer import OVERHEAD_BYTES, SEGMENT_BYTES, Sealer

from .keys import MATERIAL, NAME, OTHER, key_file, sealer

SEGMENT = 64
HEADER_BYTES = 34
#: What `sealer()` made of "a value of the first version".
FIRST = (
    "b501000102030405060708090a0b0c0d0e0f0000000000000001000000000000001c4b0b926647661a1130e03952538c9392"
    "be79721ff3fd5a765f9bdd6451b13d6d2509ab337eecd7ba552ebf94"
)
parts = st.text("abcXYZ019_-", max_size=4)
names = st.builds(Key, parts.filter(bool), parts, parts.filter(bool)) | st.builds(
    partial(Key, "", ""), parts.filter(bool)
)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that a test can look at one by one."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", SEGMENT)


def refused(key: Key, sealed: bytes, by: Sealer | None = None) -> None:
    with pytest.raises(StoreTampered, match=f"the value of {key} is not what") as caught:
        (by or sealer()).open(key, sealed)
    assert caught.value.__cause__ is None


# -- what it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@given(name=names, value=st.binary(max_size=300) | st.builds(lambda n: b"ab" * n, st.integers(0, 3000)))
def test_opened_is_what_was_sealed(compress: bool, name: Key, value: bytes) -> None:
    """Any value, any name, compressed or not; and whoever has the key opens it, whether they compress or not."""
    sealed = sealer(compress=compress).seal(name, value)
    for opener in (sealer(), sealer(compress=True)):
        assert opener.open(name, sealed) == value
        assert opener.length(name, sealed) == len(value)
    assert len(sealed) <= len(value) + OVERHEAD_BYTES


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 129, 640, 6401])
@pytest.mark.usefixtures("short_segments")
def test_any_number_of_segments(length: int, compress: bool) -> None:
    """Around their borders."""
    value = os.urandom(length)
    sealed = sealer(compress=compress).seal(NAME, value)
    assert len(sealed) == HEADER_BYTES + length + 16 * max(1, -(-length // SEGMENT))
    assert sealer().open(NAME, sealed) == value


@pytest.mark.parametrize("length", [SEGMENT_BYTES, SEGMENT_BYTES + 1, 30 * 1024 * 1024])
def test_large_values(length: int) -> None:
    """Segments of their real size."""
    value = os.urandom(length)
    sealed = sealer().seal(NAME, value)
    assert sealer().open(NAME, sealed) == value


def hkdf(material: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 for one block, out of the standard library."""
    extracted = hmac.digest(salt or bytes(32), material, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:length]


@pytest.mark.usefixtures("short_segments")
def test_the_format_as_it_is_written_down() -> None:
    """Put together by hand from the module's docstring: what an older version sealed must open for ever."""
    value = bytes(range(SEGMENT + 10))
    salt, counter = b"0123456789abcdef", 7
    header = struct.pack(">BB16sQQ", 0xB5, 1, salt, counter, len(value))
    aead = ChaCha20Poly1305(hkdf(MATERIAL, salt, b"bgsuper sealing 1 values", 32))
    bound = header + b"channels//a"
    first = aead.encrypt(struct.pack(">QI", counter, 0), value[:SEGMENT], bound)
    second = aead.encrypt(struct.pack(">QI", counter, 3), value[SEGMENT:], bound)
    assert sealer().open(NAME, header + first + second) == value
    assert sealer().fingerprint == hkdf(MATERIAL, b"", b"bgsuper sealing 1 fingerprint", SEAL_BYTES)


def test_a_value_of_the_first_version() -> None:
    """Bytes that stand here for ever."""
    sealed = bytes.fromhex(FIRST)
    assert sealer().open(NAME, sealed) == b"a value of the first version"


def test_values_that_do_not_shrink_stay_as_they_are() -> None:
    """Compression never makes a value longer, and what it did is written in the header."""
    noise, text = os.urandom(1000), b"node announcement " * 100
    sealer_ = sealer(compress=True)
    assert sealer_.seal(NAME, noise)[1] == sealer_.seal(NAME, b"")[1] == 1
    sealed = sealer_.seal(NAME, text)
    assert sealed[1] == 2
    assert len(sealed) < 200
    assert sealer().seal(NAME, text)[1] == 1


def test_fingerprints_tell_keys_apart() -> None:
    """The same for the same key whatever the settings; nothing of a subkey."""
    assert sealer().fingerprint == sealer(compress=True).fingerprint
    assert len(sealer().fingerprint) == SEAL_BYTES
    assert sealer().fingerprint != sealer(OTHER).fingerprint


# -- nonces ------------------------------------------------------------------------------------------------------------


class Recorder:
    """A ChaCha20Poly1305 that notes under which key and nonce it sealed what."""

    used: list[tuple[bytes, bytes]]

    def __init__(self, subkey: bytes) -> None:
        self._subkey, self._aead = subkey, ChaCha20Poly1305(subkey)
        self.decrypt = self._aead.decrypt

    def encrypt(self, nonce: bytes, content: bytes, bound: bytes) -> bytes:
        self.used.append((self._subkey, nonce))
        return self._aead.encrypt(nonce, content, bound)


@pytest.mark.usefixtures("short_segments")
def test_no_nonce_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one subkey: for equal values, for all segments, on four threads at once, in several epochs."""
    Recorder.used = []
    monkeypatch.setattr(module, "ChaCha20Poly1305", Recorder)
    epochs = [sealer(), sealer(), sealer(compress=True)]

    def work() -> None:
        for n in range(100):
            for one in epochs:
                one.seal(NAME, bytes(n))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert len({subkey for subkey, _ in Recorder.used}) == 3
    assert len(set(Recorder.used)) == len(Recorder.used) > 1200


def test_each_epoch_has_a_salt_of_its_own() -> None:
    """So a value sealed again after a restart shows nothing of being the same."""
    one, two = sealer().seal(NAME, b"same"), sealer().seal(NAME, b"same")
    assert one[2:18] != two[2:18]
    assert one[18:26] == two[18:26]
    assert one[HEADER_BYTES:] != two[HEADER_BYTES:]


def test_subkeys_are_kept_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One derivation for all values of an epoch; a store of very many epochs takes bounded memory."""
    derived = 0

    def derive(self: MasterKey, purpose: bytes, length: int, salt: bytes | None = None) -> bytes:
        nonlocal derived
        derived += 1
        return original(self, purpose, length, salt)

    sealed = [sealer().seal(NAME, b"x") for _ in range(30)]
    original = MasterKey.derive
    monkeypatch.setattr(MasterKey, "derive", derive)
    monkeypatch.setattr(module, "_SUBKEYS_KEPT", 8)
    opener = sealer()
    derived = 0
    for value in sealed[:5] * 10:
        opener.open(NAME, value)
    assert derived == 5
    for value in sealed * 2:
        opener.open(NAME, value)
    assert derived > 30
    assert opener._aead.cache_info().currsize <= 8


# -- whoever has no key ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.usefixtures("short_segments")
def test_every_flipped_byte(compress: bool) -> None:
    """Each bit of each byte, header, content and tags: never another value. The form's byte may tell a later one."""
    value = os.urandom(100) if not compress else os.urandom(90) + bytes(200)
    sealed = sealer(compress=compress).seal(NAME, value)
    opener, too_new = sealer(), 0
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises((StoreTampered, StoreTooNew)) as caught:
                opener.open(NAME, bytes(changed))
            if isinstance(caught.value, StoreTooNew):
                assert place == 1
                too_new += 1
    assert too_new == 7


@pytest.mark.usefixtures("short_segments")
def test_every_truncation_and_addition() -> None:
    """From either end, to nothing; at segments' borders above all."""
    sealed = sealer().seal(NAME, os.urandom(3 * SEGMENT))
    for length in range(len(sealed)):
        refused(NAME, sealed[:length])
        # What follows may look like the header of a later form by chance.
        with pytest.raises((StoreTampered, StoreTooNew)):
            sealer().open(NAME, sealed[length + 1 :])
    for more in (b"\0", sealed[-(SEGMENT + 16) :], sealed[HEADER_BYTES:], bytes(1000)):
        refused(NAME, sealed + more)


def moves(segments: list[bytes], others: list[bytes]) -> dict[str, list[bytes]]:
    first, second, third, last = segments
    return {
        "swapped": [second, first, third, last],
        "last swapped": [first, second, last, third],
        "dropped first": [second, third, last],
        "dropped middle": [first, third, last],
        "dropped last": [first, second, third],
        "doubled": [first, first, second, third, last],
        "doubled last": [first, second, third, last, last],
        "of another value": [first, others[1], third, last],
        "last of another value": [first, second, third, others[3]],
    }


@pytest.mark.parametrize("move", moves([b""] * 4, [b""] * 4))
@pytest.mark.usefixtures("short_segments")
def test_segments_stay_where_they_are(move: str) -> None:
    """Cut, swapped, dropped, doubled, or from another value of the same epoch and name: refused, whatever length the
    header is made to tell."""
    one = sealer()
    sealed, other = (one.seal(NAME, os.urandom(4 * SEGMENT)) for _ in range(2))
    size = SEGMENT + 16
    cut = [[whole[i : i + size] for i in range(HEADER_BYTES, len(whole), size)] for whole in (sealed, other)]
    body = b"".join(moves(*cut)[move])
    refused(NAME, sealed[:HEADER_BYTES] + body)
    content = len(body) - 16 * -(-len(body) // size)
    refused(NAME, sealed[: HEADER_BYTES - 8] + struct.pack(">Q", content) + body)


@given(names, names)
def test_a_value_under_another_name(one: Key, other: Key) -> None:
    """The three parts are told apart: ("a", "b", "c") is not ("ab", "", "c")."""
    sealed = sealer().seal(one, b"value")
    if one == other:
        assert sealer().open(other, sealed) == b"value"
    else:
        refused(other, sealed)


def test_another_key() -> None:
    """Opens nothing, even if the header is whole."""
    refused(NAME, sealer().seal(NAME, b"value"), by=sealer(OTHER))


def test_plain_bytes() -> None:
    """What was never sealed is no value of ours."""
    for plain in (b"", b"value", bytes(1000), b"\x93" + bytes(100), os.urandom(5000)):
        if plain[:1] != b"\xb5":
            refused(NAME, plain)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xb5", b"\xb5\x01", b"\xb5\x02"]))
def test_total(content: bytes, start: bytes) -> None:
    """Any bytes give a typed error, before and after a header that looks right; so does the length."""
    for call in (SEALER.open, SEALER.length):
        try:
            call(NAME, start + content)
        except (StoreTampered, StoreTooNew):
            continue
        assert call == SEALER.length


SEALER = sealer()


def test_a_later_form() -> None:
    """StoreTooNew, not tampering: upgrade."""
    sealed = bytearray(sealer().seal(NAME, b"value"))
    sealed[1] = 3
    with pytest.raises(StoreTooNew, match="upgrade bgsuper"):
        sealer().open(NAME, bytes(sealed))


# -- compression -------------------------------------------------------------------------------------------------------


class Doctored:
    """In the place of `Zstd`: whoever has the key, and a bug, seals such frames."""

    def __init__(self, frame: Callable[[bytes], bytes]) -> None:
        self.compress = frame


def forged(frame: bytes, length: int) -> bytes:
    """`frame`, sealed as if it had been made of `length` bytes."""
    one = sealer()
    one._compression = Doctored(lambda _: frame)  # type: ignore[assignment]
    return one.seal(NAME, bytes(length))


@pytest.mark.parametrize("length", [10_000, 1_000_000])
def test_no_bomb(length: int) -> None:
    """A frame that unpacks to more, or to less, than its authenticated length is refused before it takes memory."""
    bomb = Zstd().compress(bytes(100_000))
    with pytest.raises(StoreCorrupt, match=f"{NAME} was sealed as what is no zstd frame"):
        sealer().open(NAME, forged(bomb, length))
    assert sealer().open(NAME, forged(bomb, 100_000)) == bytes(100_000)


@pytest.mark.parametrize("frame", [b"", b"no frame", bytes(50)])
def test_no_frame(frame: bytes) -> None:
    """Nor anything else that zstd does not read."""
    with pytest.raises(StoreCorrupt, match="no zstd frame"):
        sealer().open(NAME, forged(frame, 1000))


def test_a_frame_that_lies() -> None:
    """It announces what the header tells, and holds more: no more is unpacked."""
    frame = bytearray(Zstd().compress(bytes(1000)))
    short = Zstd().compress(bytes(900))
    place = next(i for i in range(len(frame)) if frame[i] != short[i])
    frame[place : place + 2] = short[place : place + 2]
    try:
        opened = sealer().open(NAME, forged(bytes(frame), 900))
    except StoreCorrupt:
        return
    assert len(opened) == 900


def test_threads_compress_beside_each_other() -> None:
    """Each has a compressor of its own: zstandard's are not safe to share."""
    one, failures = sealer(compress=True), []
    noise = os.urandom(200_000)

    def work(seed: int) -> None:
        for n in range(20):
            value = noise[seed * 1000 : (100 + n) * 1000] + bytes(100_000)
            try:
                if one.open(NAME, one.seal(NAME, value)) != value:
                    failures.append(seed)
            except StoreCorrupt:
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# -- packages ----------------------------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from bgsuper.errors import ConfigError
from bgsuper.key import Key
try:
    from bgsuper.store.sealing.keys import MasterKey
    from bgsuper.store.sealing.sealer import Sealer
    sealer = Sealer(MasterKey(bytes(range(32))))
    sealer.open(Key("", "", "a"), sealer.seal(Key("", "", "a"), b"plain"))
    print("plain works")
    Sealer(MasterKey(bytes(range(32))), compress=True)
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(("package", "before"), [("cryptography", []), ("zstandard", ["plain works"])])
def test_without_a_package(package: str, before: list[str]) -> None:
    """One line that says what to install; zstandard is needed only where values are compressed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package], capture_output=True, text=True, check=True, timeout=60
    )
    *first, last = done.stdout.splitlines()
    assert first == before
    assert package in last
    assert last.endswith("pip install 'bgsuper[seal]'")


def test_zstd_for_a_value_that_was_compressed_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner left compress=zstd out since, and zstandard is gone: ConfigError, not damage."""

    def missing() -> None:
        raise ConfigError("pip install 'bgsuper[seal]'")

    sealed = sealer(compress=True).seal(NAME, bytes(1000))
    monkeypatch.setattr(module, "_zstd", missing)
    with pytest.raises(ConfigError, match="bgsuper"):
        sealer().open(NAME, sealed)


LAZY = """
import sys
from bgsuper.store.schemes import Opening, make_store
from bgsuper.store.url import parse
make_store(parse(sys.argv[1]), Opening(1)).open()
print(*sys.modules)
"""


@pytest.mark.parametrize(("query", "loaded"), [("", 0), ("?key-file={}", 1), ("?key-file={}&compress=zstd", 2)])
def test_only_who_seals_pays_for_it(tmp_path: Path, query: str, loaded: int) -> None:
    """A store without a key imports neither cryptography nor zstandard, one without compression no zstandard."""
    url = f"sqlite:{tmp_path}/store" + query.format(key_file(tmp_path / "key"))
    done = subprocess.run([sys.executable, "-c", LAZY, url], capture_output=True, text=True, check=True, timeout=60)
    modules = set(done.stdout.split())
    assert ("cryptography" in modules) == ("bgsuper.store.sealing" in modules) == (loaded > 0)
    assert ("zstandard" in modules) == (loaded > 1)
    assert not modules & {"asyncio", "logging", "subprocess", "ssl"}
