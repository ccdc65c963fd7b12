"""What may come out of a worker's pickle: exceptions on the list, and nothing else, whatever bytes it holds."""

from __future__ import annotations

import copyreg
import os
import pickle
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper import errors
from bgsuper.errors import ConfigError, RemoteError, StoreLocked
from bgsuper.ipc.remote import MAX_OPCODES, MAX_PICKLE, Allowed, RemoteException, class_name, describe

from . import exceptions
from .crossing import LISTED, MODULE, NOTHING_LISTED, across, with_notes

# -- the list ---------------------------------------------------------------------------------------------------------


def test_all_of_bgsupers_errors_are_on_the_list() -> None:
    """They are what a store raises; each crosses with its message."""
    for name, value in vars(errors).items():
        if isinstance(value, type):
            assert NOTHING_LISTED.find("bgsuper.errors", name) is value
            assert type(across(value("m"), NOTHING_LISTED)) is value


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ValueError",
        "os.system",
        "a:",
        ":b",
        "a:b:c",
        "a:f.<locals>.E",
        "a b:c",
        "a:b\n",
        "__main__:E",
        ".a:b",
        7,
        None,
    ],
)
def test_a_name_that_cannot_be_found_again_is_refused(name: str) -> None:
    """`__main__` is another module in the worker; a local class is nobody's."""
    with pytest.raises(ConfigError):
        Allowed([name])


def test_class_name_is_what_the_list_takes() -> None:
    """What a host writes from a class finds that class."""
    assert class_name(exceptions.Plain) == f"{MODULE}:Plain"
    assert Allowed([class_name(exceptions.Plain)]).find(MODULE, "Plain") is exceptions.Plain


@pytest.mark.parametrize("name", ["NOT_AN_EXCEPTION", "ABaseException", "NameOfNothing"])
def test_only_exception_subclasses_are_found(name: str) -> None:
    """Whatever a user lists: functions and BaseExceptions stay out."""
    with pytest.raises((TypeError, AttributeError)):
        Allowed([f"{MODULE}:{name}"]).find(MODULE, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "SystemExit"), ("builtins", "BaseException"), ("builtins", "eval"), ("os", "system"),
     ("bgsuper.errors", "annotations"), ("bgsuper.errors", "BgsuperError.__init__"), (MODULE, "Plain.__class__"),
     (MODULE, "SubPlain"), ("copyreg", "__newobj__"), ("copyreg", "_reconstructor")],
)  # fmt: skip
def test_nothing_else_is_found(module: str, name: str) -> None:
    """An exact list: no subclass, no attribute of a listed class, no BaseException."""
    with pytest.raises(LookupError):
        LISTED.find(module, name)


# -- pickles that must not be run -------------------------------------------------------------------------------------


class Evil:
    """Runs a callable when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


def from_pickle(pickled: bytes, type_name: str = "ValueError") -> Exception:
    """What the host makes of a pickle that a worker sent."""
    fields: list[object] = [type_name, "message", [], "text", None, None, None, pickled]
    return RemoteException.decode(fields, allowed=LISTED).rebuild()


def text_op(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def global_op(module: str, name: str) -> bytes:
    return text_op(module) + text_op(name) + b"\x93"


VALUE_ERROR = global_op("builtins", "ValueError")


def value_error_of(argument: bytes) -> bytes:
    """A pickle of ValueError(argument), `argument` given as opcodes."""
    return b"\x80\x04" + VALUE_ERROR + argument + b"\x85R."


def test_the_hand_made_pickles_are_sound() -> None:
    """The tests below would prove nothing if their frame did not load."""
    assert repr(from_pickle(value_error_of(b"K\x07"))) == "ValueError(7)"


def test_no_callable_of_a_pickle_is_called(tmp_path: Path) -> None:
    """A pickle is a program; the only words it has here are exception classes."""
    trace = tmp_path / "trace"
    for evil in (
        Evil(os.mkdir, str(trace)),
        Evil(exec, f"open({str(trace)!r}, 'w')"),
        Evil(print, "x"),
        Evil(os._exit, 3),
    ):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert type(from_pickle(pickle.dumps(ValueError(evil), protocol))) is RemoteError
        assert describe(ValueError(evil), allowed=LISTED)[7] is None
    assert not trace.exists()


def test_no_module_off_the_list_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing runs code: it waits for the list's word."""
    (tmp_path / "bgsuper_test_unlisted.py").write_text("class E(Exception): pass")
    monkeypatch.syspath_prepend(tmp_path)
    pickled = b"\x80\x04" + global_op("bgsuper_test_unlisted", "E") + b")R."
    assert type(from_pickle(pickled, "bgsuper_test_unlisted.E")) is RemoteError
    assert "bgsuper_test_unlisted" not in sys.modules
    listed = Allowed(["bgsuper_test_unlisted:E"])
    fields: list[object] = ["bgsuper_test_unlisted.E", "", [], "", None, None, None, pickled]
    try:
        assert type(RemoteException.decode(fields, allowed=listed).rebuild()).__name__ == "E"
    finally:
        sys.modules.pop("bgsuper_test_unlisted", None)


def doubled(times: int) -> bytes:
    """A tuple that holds one tuple twice, and so on: small as a pickle, 2**times items as a text."""
    return b")\x94" + b"".join(b"h" + bytes([n]) * 1 + b"h" + bytes([n]) + b"\x86\x94" for n in range(times))


BAD_PICKLES = {
    "empty": b"",
    "garbage": b"\xffgarbage",
    "cut off": value_error_of(b"K\x07")[:-1],
    "no exception": b"\x80\x04K\x07.",
    "the class itself": b"\x80\x04" + VALUE_ERROR + b".",
    "SystemExit": b"\x80\x04" + global_op("builtins", "SystemExit") + b")R.",
    "SystemExit inside": value_error_of(global_op("builtins", "SystemExit") + b")R"),
    "another class than announced": b"\x80\x04" + global_op("builtins", "KeyError") + b")R.",
    "PUT that claims 32 GiB": value_error_of(b"K\x07r\xff\xff\xff\xff"),
    "GLOBAL": b"\x80\x04cbuiltins\nValueError\n)R.",
    "INST": b"\x80\x04(ibuiltins\nValueError\n.",
    "a persistent id": value_error_of(b"Px\n"),
    "a bytearray that claims 2^62 bytes": value_error_of(b"\x96" + (2**62).to_bytes(8, "little")),
    "bytes that claim 2^62": value_error_of(b"\x8e" + (2**62).to_bytes(8, "little")),
    "a frame that claims 2^62": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + VALUE_ERROR + b")R.",
    "an out-of-band buffer": value_error_of(b"\x97"),
    "a tuple of tuples that doubles": value_error_of(doubled(60)),
    "a text that is shared too often": b"\x80\x04" + VALUE_ERROR + b"(X" + (10**6).to_bytes(4, "little") + b"x" * 10**6
    + b"\x94" + b"h\x00" * 5000 + b"tR.",
    "too many opcodes": value_error_of(b"(" + b"\x8f" * MAX_OPCODES + b"t"),
    "a tuple too deep to print": value_error_of(b")" + b"\x85" * 10_000),
    "a key too deep to hash": value_error_of(b"})" + b"\x85" * (MAX_OPCODES - 100) + b"Ns"),
    "a memo entry that is not there": value_error_of(b"h\x63"),
    "too long": value_error_of(b"X" + MAX_PICKLE.to_bytes(4, "little") + b"x" * MAX_PICKLE)[: MAX_PICKLE],
    "attributes of a class": b"\x80\x04" + VALUE_ERROR + b"}" + text_op("polluted") + b"K\x01sb.",
    "an argument that cannot be printed": value_error_of(global_op(MODULE, "Unprintable") + b")R"),
}  # fmt: skip


@pytest.mark.parametrize("pickled", BAD_PICKLES.values(), ids=BAD_PICKLES.keys())
def test_a_bad_pickle_is_passed_over_for_the_text(pickled: bytes) -> None:
    """Nothing that a pickle says takes memory, time or stack out of proportion, and the text is there all the same."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    rebuilt = from_pickle(pickled)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert type(rebuilt) is RemoteError
    assert str(rebuilt) == "ValueError: message"
    assert after.ru_maxrss - before.ru_maxrss < 64 * 1024
    assert after.ru_utime - before.ru_utime < 2
    assert not hasattr(ValueError, "polluted")


def test_a_listed_class_that_exits_when_loaded() -> None:
    """The worker would not have sent it; a listed class may do so in the host alone."""
    pickled = pickle.dumps(with_notes(exceptions.LoadsExits("x"), "a note, so that there is a state to load"), 4)
    assert type(from_pickle(pickled, f"{MODULE}.LoadsExits")) is RemoteError


def test_a_class_is_no_exception() -> None:
    """Notes and cause would be set on the class, for all its exceptions to come."""
    pickled = b"\x80\x04" + global_op(MODULE, "Plain") + b"."
    assert type(from_pickle(pickled, "type")) is RemoteError
    assert "__notes__" not in vars(exceptions.Plain)


def test_a_registered_extension_code_is_no_way_round_the_list() -> None:
    """EXT opcodes name objects by number, and a cache answers before `find_class` is asked."""
    copyreg.add_extension("posix", "getcwd", 200)
    try:
        assert b"\x82\xc8" in pickle.dumps(os.getcwd, 4)
        assert type(from_pickle(value_error_of(b"\x82\xc8)R"))) is RemoteError
    finally:
        copyreg.remove_extension("posix", "getcwd", 200)
        copyreg.clear_extension_cache()


@given(st.data())
def test_a_mutated_pickle_gives_an_exception(data: st.DataObject) -> None:
    """Real pickles with bytes changed: some exception of the host's own classes, never anything else."""
    error = ExceptionGroup("g", [StoreLocked("m", pid=1), OSError(5, "e"), exceptions.Plain("p", {"k": (1, 2.5)})])
    pickled = bytearray(pickle.dumps(error, 4))
    for _ in range(data.draw(st.integers(1, 3))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    assert type(from_pickle(bytes(pickled), "ExceptionGroup")) in (ExceptionGroup, RemoteError)
