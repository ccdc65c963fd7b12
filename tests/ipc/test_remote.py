"""Exceptions that cross the pipe: the crash classes as a matrix, what is told about each, and its decoding."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from bgsuper.errors import FrameError, NotFound, RemoteError, ShutdownIncomplete, StoreFull, StoreLocked
from bgsuper.ipc.remote import (
    MAX_MESSAGE,
    MAX_NOTE,
    MAX_NOTES,
    MAX_PICKLE,
    MAX_TEXT,
    RemoteException,
    RemoteTraceback,
    describe,
)

from . import exceptions
from .crossing import LISTED, MODULE, NOTHING_LISTED, across, raised, with_notes


def chained() -> BaseException:
    """A StoreFull caused by an OSError that happened while a KeyError was handled."""
    hidden = raised(KeyError("missing"))
    cause = raised(OSError(28, "No space left on device", "segment"))
    cause.__context__, cause.__suppress_context__ = hidden, True
    error = StoreFull("expected room for 5 bytes")
    error.__cause__ = cause
    return error


def recursion() -> BaseException:
    def down() -> None:
        down()

    try:
        down()
    except RecursionError as error:
        return error
    raise AssertionError("the recursion ended")


def group_of_itself() -> BaseException:
    """A cycle: an exception that holds itself."""
    error = exceptions.Plain("cycle")
    error.itself = error  # type: ignore[attr-defined]
    return error


def deep_group(depth: int) -> BaseException:
    error: Exception = ValueError("innermost")
    for level in range(depth):
        error = ExceptionGroup(f"level {level}", [error])
    return error


def local_class() -> BaseException:
    class Local(Exception):
        pass

    return Local("nobody else has this class")


# -- what comes out as itself -----------------------------------------------------------------------------------------

AS_ITSELF: dict[str, Callable[[], BaseException]] = {
    "built-in": lambda: ValueError("expected 3"),
    "no arguments": lambda: MemoryError(),
    "several arguments": lambda: ValueError("a", 1, None, b"c", (2.5, ["d"], {"e": {3}})),
    "OSError with errno": lambda: OSError(28, "No space left on device"),
    "OSError that maps to a subclass": lambda: OSError(2, "No such file or directory", "manager"),
    "KeyError, whose text is a repr": lambda: KeyError("k"),
    "UnicodeDecodeError, built from five": lambda: UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid start byte"),
    "bgsuper's": lambda: StoreFull("expected room"),
    "bgsuper's with attributes": lambda: StoreLocked("locked", pid=7, epoch=3),
    "bgsuper's with an outcome": lambda: ShutdownIncomplete("late", unacked=4, outcome="killed"),
    "bgsuper's KeyError": lambda: NotFound("no such key"),
    "the user's": lambda: exceptions.Plain("mine"),
    "one that shares strings": lambda: ValueError("m" * 500, "m" * 500),
    "a group": lambda: ExceptionGroup("g", [ValueError("1"), ExceptionGroup("h", [exceptions.Plain("2")])]),
    "notes": lambda: with_notes(ValueError("x"), "first", "second"),
    "chained causes": chained,
    "deep recursion": recursion,
}


@pytest.mark.parametrize("make", AS_ITSELF.values(), ids=AS_ITSELF.keys())
def test_an_allowed_exception_comes_out_as_itself(make: Callable[[], BaseException]) -> None:
    """Same class, arguments, attributes, text and notes; the worker's traceback is its cause."""
    error = raised(make())
    rebuilt = across(error)
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)
    assert repr(rebuilt) == repr(error)
    ours, theirs = dict(vars(rebuilt)), dict(vars(error))
    assert ours.pop("__notes__") == theirs.pop("__notes__", [])
    assert ours == theirs
    assert getattr(rebuilt, "errno", None) == getattr(error, "errno", None)
    assert type(rebuilt.__cause__) is RemoteTraceback
    assert traceback.format_exception(error)[-1].strip() in str(rebuilt.__cause__)


# -- what comes out as text -------------------------------------------------------------------------------------------

#: (how it is made, the type that the host names, a part of the text)
AS_TEXT: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "dumps fails": (lambda: exceptions.DumpsFails("x1"), f"{MODULE}.DumpsFails", "x1"),
    "dumps exits": (lambda: exceptions.DumpsExits("x2"), f"{MODULE}.DumpsExits", "x2"),
    "loads fails": (lambda: with_notes(exceptions.LoadsFails("x3"), "n"), f"{MODULE}.LoadsFails", "x3"),
    "loads exits": (lambda: with_notes(exceptions.LoadsExits("x4"), "n"), f"{MODULE}.LoadsExits", "x4"),
    "custom __init__, fails to load": (lambda: exceptions.TwoArguments(5, "x5"), f"{MODULE}.TwoArguments", "5 at x5"),
    "custom __init__, loads garbled": (lambda: exceptions.Garbled("x6"), f"{MODULE}.Garbled", "code x6"),
    "pickles as another class": (lambda: exceptions.Impostor("x7"), f"{MODULE}.Impostor", "x7"),
    "not listed": (lambda: exceptions.SubPlain("x8"), f"{MODULE}.SubPlain", "x8"),
    "a local class": (local_class, "<locals>.Local", "nobody else"),
    "SystemExit": (lambda: SystemExit(3), "SystemExit", "3"),
    "KeyboardInterrupt": (lambda: KeyboardInterrupt(), "KeyboardInterrupt", ""),
    "GeneratorExit": (lambda: GeneratorExit("x9"), "GeneratorExit", "x9"),
    "a listed BaseException": (lambda: exceptions.ABaseException("xa"), f"{MODULE}.ABaseException", "xa"),
    "a group that holds SystemExit": (lambda: BaseExceptionGroup("xb", [SystemExit()]), "BaseExceptionGroup", "xb"),
    "a group that holds one not listed": (
        lambda: ExceptionGroup("xc", [exceptions.SubPlain()]),
        "ExceptionGroup",
        "xc",
    ),
    "an attribute that is a function": (lambda: ValueError("xd", print), "ValueError", "xd"),
    "an attribute that is a path": (lambda: ValueError(Path("xe")), "ValueError", "xe"),
    "a cycle": (group_of_itself, f"{MODULE}.Plain", "cycle"),
    "nested too deep to be safe": (lambda: deep_group(5000), "ExceptionGroup", "level 4999"),
    "a message of 10 MB": (lambda: ValueError("xf" * 5_000_000), "ValueError", "xf"),
    "megabytes it holds": (lambda: ValueError("xg", bytes(3_000_000)), "ValueError", "xg"),
    "lone surrogates": (lambda: exceptions.SubPlain("\ud800"), f"{MODULE}.SubPlain", "\\ud800"),
    "cannot be printed": (lambda: exceptions.Unprintable(), f"{MODULE}.Unprintable", "cannot be printed"),
    "exits when printed": (lambda: exceptions.ExitsWhenPrinted(), f"{MODULE}.ExitsWhenPrinted", "cannot be printed"),
    "prints as no string": (lambda: exceptions.NoString(), f"{MODULE}.NoString", "cannot be printed"),
    "hostile in every attribute": (lambda: exceptions.Hostile(), f"{MODULE}.Hostile", ""),
    "has no name": (lambda: exceptions.Nameless("xh"), "whose class has no name", "xh"),
}


@pytest.mark.parametrize("case", AS_TEXT.values(), ids=AS_TEXT.keys())
def test_any_other_exception_comes_out_as_text(case: tuple[Callable[[], BaseException], str, str]) -> None:
    """`describe` does not raise, and the host gets a RemoteError with the name, the message and the traceback."""
    make, type_name, message = case
    assert describe(make(), allowed=LISTED)[7] is None, "a pickle that the host could not use"
    rebuilt = across(raised(make()))
    assert type(rebuilt) is RemoteError
    assert rebuilt.type_name.endswith(type_name)
    assert str(rebuilt).startswith(f"{rebuilt.type_name}: ")
    assert message in str(rebuilt)
    assert rebuilt.text == rebuilt.__cause__.args[0]  # type: ignore[union-attr]
    assert rebuilt.type_name.rsplit(".")[-1] in rebuilt.text


def test_memory_error_is_an_exception_and_system_exit_is_not() -> None:
    """The list holds `Exception` subclasses: nothing the worker meets can end the host by itself."""
    assert type(across(MemoryError())) is MemoryError
    for error in SystemExit(0), KeyboardInterrupt(), GeneratorExit():
        assert type(across(error)) is RemoteError


def test_an_exception_off_the_list_is_not_asked_for_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its methods may be slow or worse, and the host would not take the result."""
    asked: list[object] = []
    monkeypatch.setattr(exceptions.SubPlain, "__reduce_ex__", lambda *arguments: asked.append(arguments))
    across(exceptions.SubPlain("x"))
    assert asked == []


def test_a_large_exception_is_not_copied() -> None:
    """A commit's data hanging on an exception must not double in a worker that may be short of memory."""
    error = exceptions.Plain("small text")
    error.pieces = [bytes(100_000) for _ in range(300)]  # type: ignore[attr-defined]
    tracemalloc.start()
    try:
        assert describe(error, allowed=LISTED)[7] is None
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_PICKLE
    finally:
        tracemalloc.stop()


def test_a_class_that_the_host_lacks() -> None:
    """The worker could load the pickle and the host cannot: text."""
    fields = describe(exceptions.Plain("here"), allowed=LISTED)
    assert fields[7] is not None
    rebuilt = RemoteException.decode(fields, allowed=NOTHING_LISTED).rebuild()
    assert type(rebuilt) is RemoteError
    assert str(rebuilt) == f"{MODULE}.Plain: here"


def test_a_class_that_went_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed, but not in its module any more: text."""
    fields = describe(exceptions.Plain("here"), allowed=LISTED)
    monkeypatch.delattr(exceptions, "Plain")
    assert type(RemoteException.decode(fields, allowed=LISTED).rebuild()) is RemoteError


@pytest.mark.parametrize("make", [exceptions.Falsy, exceptions.Plain])
def test_a_false_exception_is_still_rebuilt(make: type[Exception]) -> None:
    """Whether an exception is there does not depend on its truth value."""
    assert type(across(make("x"))) is make


def test_an_exception_that_refuses_notes_comes_out_as_text() -> None:
    """Without its notes and its cause it would tell less than text does."""
    assert type(across(exceptions.Refuses("x"))) is RemoteError


# -- what is told about it --------------------------------------------------------------------------------------------


def test_fields_hold_what_was_asked_for() -> None:
    """The order in the module's docstring, all plain values."""
    error = raised(with_notes(OSError(5, "Input/output error"), "while syncing"))
    type_name, message, notes, text, errno, seq, epoch, pickled = describe(error, allowed=LISTED, seq=12, epoch=3)
    assert (type_name, message, notes, errno, seq, epoch) == ("OSError", str(error), ["while syncing"], 5, 12, 3)
    assert isinstance(text, str)
    assert text.startswith("Traceback (most recent call last):")
    assert "in raised" in text
    assert text.endswith("OSError: [Errno 5] Input/output error\nwhile syncing\n")
    assert isinstance(pickled, bytes)


def test_the_cause_is_the_remote_traceback_with_its_chain() -> None:
    """As concurrent.futures does: printing the rebuilt exception shows what happened in the worker, causes first."""
    error = across(chained())
    shown = "".join(traceback.format_exception(raised(error)))
    causes = ["No space left on device", "direct cause", "StoreFull: expected room", '"""', "direct cause", "in raised"]
    places: list[int] = []
    for cause in causes:
        places.append(shown.index(cause, places[-1] if places else 0))
    assert "KeyError" not in shown, "suppressed by `from None` in the worker"


def test_a_remote_traceback_can_be_pickled() -> None:
    """A host app's own process pool may carry the exception further."""
    cause = pickle.loads(pickle.dumps(RemoteTraceback("text")))
    assert str(cause) == str(RemoteTraceback("text"))


def test_each_rebuild_is_fresh() -> None:
    """Two `join()`s must not add to one traceback (cpython#101267), whichever way the exception was rebuilt."""
    for error in with_notes(ValueError("x"), "n"), with_notes(exceptions.SubPlain("x"), "n"):
        remote = RemoteException.decode(describe(error, allowed=LISTED), allowed=LISTED)
        first, second = raised(remote.rebuild()), raised(remote.rebuild())
        assert first is not second
        assert first.__cause__ is not second.__cause__
        assert first.__traceback__ is not second.__traceback__
        first.add_note("only here")
        assert second.__notes__ == ["n"]
        assert remote.rebuild().__traceback__ is None


def test_what_is_long_keeps_head_and_tail() -> None:
    """Caps hold in bytes of UTF-8, and both ends of what was said survive."""
    long = "HEAD" + "\N{SNOWMAN}" * 400_000 + "TAIL"
    error = raised(exceptions.SubPlain(long))
    error.__notes__ = [long] * 100
    fields = describe(error, allowed=LISTED)
    remote = RemoteException.decode(fields, allowed=LISTED)
    assert len(remote.message.encode()) <= MAX_MESSAGE
    assert len(remote.text.encode()) <= MAX_TEXT
    assert [len(note.encode()) <= MAX_NOTE for note in remote.notes] == [True] * MAX_NOTES
    for told in remote.message, *remote.notes:
        assert told.startswith("HEAD")
        assert told.endswith("TAIL")
        assert " bytes omitted " in told
    assert remote.text.startswith("Traceback")
    assert len(msgpack.packb(fields)) < 1_300_000


@pytest.mark.parametrize("notes", [7, None, "text", [1, "good", None], {"good": 1}])
def test_of_malformed_notes_the_strings_are_told(notes: object) -> None:
    """`__notes__` may hold anything."""
    error = ValueError("x")
    error.__notes__ = notes  # type: ignore[assignment]
    assert across(error).__notes__ == (["good"] if "good" in str(notes) else list("text") if notes == "text" else [])


@pytest.mark.parametrize(("errno", "told"), [(5, 5), (True, None), ("5", None), (-1, None), (2**40, None)])
def test_errno_is_told_of_any_exception_that_has_one(errno: object, told: int | None) -> None:
    """Drivers put it on classes of their own; what is no errno is left out."""
    error = exceptions.SubPlain("x")
    error.errno = errno  # type: ignore[attr-defined]
    rebuilt = across(error)
    assert isinstance(rebuilt, RemoteError)
    assert rebuilt.errno == told


def test_describe_survives_a_used_up_stack() -> None:
    """An exception is described where it is caught, maybe a few frames below the recursion limit."""

    def at_depth(depth: int) -> object:
        if depth:
            return at_depth(depth - 1)
        return describe(ValueError("x"), allowed=LISTED)

    described = 0
    for depth in range(sys.getrecursionlimit()):
        try:
            fields = at_depth(depth)
        except RecursionError:
            break  # there was no room to call it
        RemoteException.decode(fields, allowed=LISTED).rebuild()
        described += 1
    assert described > 100


def test_nothing_heavy_is_imported_before_there_is_an_error() -> None:
    """An idle worker pays for none of what errors need."""
    code = (
        "import sys, bgsuper.ipc.remote; print(*{'pickle', 'pickletools', 'dataclasses', 'inspect'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, timeout=30).strip() == ""


def test_across_two_real_processes() -> None:
    """The list as strings, the modules imported where needed, and only the listed ones."""
    code = (
        "import sys, msgpack; from bgsuper.ipc.remote import Allowed, describe; "
        f"allowed = Allowed(['{MODULE}:Plain']); assert '{MODULE}' not in sys.modules; "
        f"from {MODULE} import Plain; sys.stdout.buffer.write(msgpack.packb(describe(Plain('far'), allowed=allowed)))"
    )
    root = Path(exceptions.__file__).parents[2]
    fields = msgpack.unpackb(subprocess.check_output([sys.executable, "-c", code], cwd=root, timeout=30))
    rebuilt = RemoteException.decode(fields, allowed=LISTED).rebuild()
    assert type(rebuilt) is exceptions.Plain
    assert str(rebuilt) == "far"


# -- decoding ---------------------------------------------------------------------------------------------------------

GOOD = ["T", "m", ["n"], "t", 5, 6, 7, b"p"]


def but(place: int, value: object) -> list[object]:
    return [*GOOD[:place], value, *GOOD[place + 1 :]]


@pytest.mark.parametrize(
    "fields",
    [
        None, 7, "T", b"T", {}, [], GOOD[:-1], [*GOOD, 1], *(but(place, {}) for place in range(8)),
        *(but(place, None) for place in range(4)), *(but(place, True) for place in (4, 5, 6)),
        *(but(place, -1) for place in (4, 5, 6)), *(but(place, 1.5) for place in (4, 5, 6)), but(4, 2**31),
        but(5, 2**64), but(2, [1]), but(2, ["n"] * (MAX_NOTES + 1)), but(7, "p"), but(7, bytes(MAX_PICKLE + 1)),
    ],
)  # fmt: skip
def test_fields_of_another_shape_are_a_frame_error(fields: object) -> None:
    """Decoding is total; what no `describe` writes is no exception."""
    with pytest.raises(FrameError):
        RemoteException.decode(fields, allowed=LISTED)


def test_fields_too_deep_to_print_are_a_frame_error() -> None:
    """The error about them does not print them."""
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(FrameError):
        RemoteException.decode(deep, allowed=LISTED)


def test_decoding_runs_nothing() -> None:
    """Only `rebuild` looks into the pickle; a host may decode and log without it."""
    remote = RemoteException.decode(but(7, b"not a pickle"), allowed=LISTED)
    assert (remote.type_name, remote.seq, remote.epoch) == ("T", 6, 7)
    assert "not a pickle" not in repr(remote)
