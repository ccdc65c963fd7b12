"""Exceptions that cross the pipe: described in the worker, built anew in the host.

    worker: describe(error) -> [type name, message, notes, text, errno, seq, epoch, pickle | nil]
    host:   RemoteException.decode(fields) -> .rebuild() -> raise

Rules:
1. Text always, pickle sometimes. A pickle goes along only if it survived loading *in the worker*, under the host's
   own rules: exceptions with an `__init__` of their own often dump well and fail to load, or load with another text.
2. `describe` never raises, whatever the exception's own methods do, and what it returns is small and plain.
3. Unpickling builds exceptions and nothing else. `find_class` knows an exact list of `Exception` subclasses (a check
   for `BaseException` would let the worker end the host by SystemExit) and imports no module that is not on it.
4. A pickle is read before it is run: no opcode that allocates by a number it names (a five-byte PUT can claim
   gigabytes), nothing shared but strings and classes, so that what is built, and what its text takes, is bounded by
   the pickle's size. No cycle gets through either: such an exception arrives as text.
5. `rebuild` gives each caller an exception of its own: one shared object would collect the tracebacks of all.

`pickle`, `pickletools` and `traceback` are imported when an error is there, since a worker without one needs none.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Final, NamedTuple, Self, TypeVar

from .. import errors
from ..errors import ConfigError, FrameError, RemoteError

#: Caps in bytes of UTF-8. What is longer keeps its head and its tail.
MAX_TEXT: Final = 64 * 1024
MAX_MESSAGE: Final = 16 * 1024
MAX_NOTE: Final = 4 * 1024
MAX_NOTES: Final = 32
#: A longer pickle is not sent, and refused unread.
MAX_PICKLE: Final = 1024 * 1024
#: Nesting costs at least one opcode a level, and C code recurses over what a pickle nests.
MAX_OPCODES: Final = 16 * 1024

#: What protocol 4 writes for plain values and for objects. Missing on purpose: PUT (allocates by its argument),
#: EXT (bypasses find_class through a cache), PERSID, BYTEARRAY8 and everything of older protocols.
_OPCODES: Final = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK MEMOIZE BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    EMPTY_SET ADDITEMS FROZENSET STACK_GLOBAL REDUCE NEWOBJ NEWOBJ_EX BUILD
    """.split()  # noqa: SIM905 - a table of 44 words
)
_PROTOCOL: Final = 4
_CLASS_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

T = TypeVar("T")


class RemoteTraceback(Exception):
    """The `__cause__` of a rebuilt exception: its text is the traceback rendered in the worker."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""' if self.args else ""


def class_name(cls: type) -> str:
    """`"module:QualName"`, the form in which classes are listed for `Allowed`."""
    return f"{cls.__module__}:{cls.__qualname__}"


_ALWAYS: Final[dict[str, type[Exception]]] = {
    class_name(value): value
    for module in (builtins, errors)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Exception)
}


class Allowed:
    """Which exceptions may be rebuilt: the built-in ones, bgsuper's, and `additions`.

    `additions` are exact `"module:QualName"` strings of `Exception` subclasses; no subclass is admitted with them.
    They travel to the worker as they are; either side imports their modules when such an exception first turns up.
    Raises `ConfigError` for a name that cannot be found again by both processes.
    """

    __slots__ = ("additions",)

    def __init__(self, additions: Iterable[str] = ()) -> None:
        self.additions: Final = tuple(additions)
        for name in self.additions:
            if not isinstance(name, str) or not _CLASS_NAME.fullmatch(name):
                raise ConfigError(f"expected an exception class as 'module:QualName', got {name!r:.200}")
            if name.startswith("__main__:"):
                raise ConfigError(f"{name!r:.200} is another module in the worker: define it in one it can import")

    def find(self, module: str, qualname: str) -> type[Exception]:
        """The class of that name, if it is listed.

        Raises `LookupError` if it is not, `TypeError` if it is no `Exception` subclass, and whatever importing a
        listed module raises.
        """
        name = f"{module}:{qualname}"
        if (known := _ALWAYS.get(name)) is not None:
            return known
        if name not in self.additions:
            raise LookupError(f"{name!r:.200} is not on the list of exceptions that may be rebuilt")
        found: object = import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
        if not (isinstance(found, type) and issubclass(found, Exception)):
            raise TypeError(f"expected {name!r:.200} to be a subclass of Exception, got {found!r:.200}")
        return found


# -- in the worker ----------------------------------------------------------------------------------------------------


def describe(
    error: BaseException, *, allowed: Allowed, seq: int | None = None, epoch: int | None = None
) -> list[object]:
    """The fields that tell the host about `error`; under 1.3 MiB, and all of it fit for msgpack.

    `seq` is the commit or snapshot it happened in, `epoch` the writer's. Never raises. (An exception that calls
    `os._exit` from one of its methods cannot be survived: the host then sees the worker die.)
    """
    type_name = _attempt(partial(_type_name, type(error)), "an exception whose class has no name")
    message = _attempt(partial(_message, error), f"<a {type_name} that cannot be printed>")
    text = _attempt(partial(_render, error), f"{type_name}: {message}\n(its traceback cannot be rendered)\n")
    no_notes: list[str] = []
    notes = _attempt(partial(_notes, error), no_notes)
    errno = _attempt(partial(_errno, error), None)
    pickled = _attempt(partial(_pickle, error, allowed), None)
    return [type_name, message, notes, text, errno, seq, epoch, pickled]


def _attempt(foreign: Callable[[], T], otherwise: T) -> T:
    """What `foreign` returns, or `otherwise`: someone else's exception may raise anything, SystemExit too."""
    try:
        return foreign()
    except BaseException:  # noqa: BLE001 - see above; the worker's signal handlers raise nothing
        return otherwise


def _capped(text: str, cap: int) -> str:
    """`text` as valid UTF-8 of about `cap` bytes at most. Calls `str`'s methods, not those of a subclass."""
    raw = str.encode(text, "utf-8", "backslashreplace")
    if len(raw) <= cap:
        return raw.decode()
    head, tail = raw[: cap // 2], raw[-(cap // 2 - 64) :]
    omitted = len(raw) - len(head) - len(tail)
    return f"{head.decode(errors='ignore')}\n[... {omitted} bytes omitted ...]\n{tail.decode(errors='ignore')}"


def _type_name(cls: type) -> str:
    return _capped(cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}", 512)


def _message(error: BaseException) -> str:
    return _capped(str(error), MAX_MESSAGE)


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    return [_capped(note, MAX_NOTE) for note in list(notes)[:MAX_NOTES] if isinstance(note, str)]


def _errno(error: BaseException) -> int | None:
    errno = getattr(error, "errno", None)
    return int(errno) if isinstance(errno, int) and _fits(errno, 31) else None


def _fits(number: int, bits: int) -> bool:
    return not isinstance(number, bool) and 0 <= number < 1 << bits


def _render(error: BaseException) -> str:
    import traceback

    return _capped("".join(traceback.format_exception(error)), MAX_TEXT)


def _pickle(error: BaseException, allowed: Allowed) -> bytes | None:
    """`error` pickled, if a host that allows the same classes will get an equal exception out of it."""
    import pickle

    cls = type(error)
    if allowed.find(cls.__module__, cls.__qualname__) is not cls:
        return None
    sink = _Sink()
    pickle.Pickler(sink, _PROTOCOL).dump(error)
    pickled = bytes(sink.written)
    copy = _load(pickled, allowed)
    return pickled if type(copy) is cls and str(copy) == str(error) else None


class _Sink:
    """A file for the pickler that ends it at the cap, lest an exception that holds a gigabyte be copied."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        if len(self.written) + len(data) > MAX_PICKLE:
            raise ValueError(f"the pickle exceeds {MAX_PICKLE} bytes")
        self.written += data
        return len(data)


# -- in the host ------------------------------------------------------------------------------------------------------


class RemoteException(NamedTuple):
    """What the worker told about an exception."""

    type_name: str  #: dotted; without a module for built-in classes
    message: str
    notes: tuple[str, ...]
    text: str  #: the traceback with its causes, as Python prints it
    errno: int | None
    seq: int | None  #: the commit or snapshot it happened in
    epoch: int | None
    pickled: bytes | None
    allowed: Allowed

    def __repr__(self) -> str:
        return f"<RemoteException {self.type_name}: {self.message:.200}>"

    @property
    def summary(self) -> str:
        """One line for logs and health."""
        return f"{self.type_name}: {self.message:.200}".replace("\n", " ")

    @classmethod
    def decode(cls, fields: object, *, allowed: Allowed) -> Self:
        """The exception that `fields` describe; any other value raises `FrameError`. Unpickles nothing."""
        match fields:
            case [
                str() as type_name,
                str() as message,
                list() as notes,
                str() as text,
                (int() | None) as errno,
                (int() | None) as seq,
                (int() | None) as epoch,
                (bytes() | None) as pickled,
            ] if (
                all(isinstance(note, str) for note in notes)
                and len(notes) <= MAX_NOTES
                and (errno is None or _fits(errno, 31))
                and (seq is None or _fits(seq, 64))
                and (epoch is None or _fits(epoch, 64))
                and (pickled is None or len(pickled) <= MAX_PICKLE)
            ):
                return cls(type_name, message, tuple(notes), text, errno, seq, epoch, pickled, allowed)
        raise FrameError(f"expected the eight fields that describe an exception, got {_shape(fields)}")

    def rebuild(self) -> Exception:
        """A fresh exception to raise: the worker's own if it may be rebuilt, else a `RemoteError` with all its text.

        Its notes are those of the original, its `__cause__` a `RemoteTraceback`.
        """
        original = self._original()
        if original is not None:
            return original
        message = f"{self.type_name}: {self.message}"
        return self._dressed(RemoteError(message, type_name=self.type_name, text=self.text, errno=self.errno))

    def _original(self) -> Exception | None:
        if self.pickled is None:
            return None
        try:
            error = _load(self.pickled, self.allowed)
            return self._dressed(error) if _type_name(type(error)) == self.type_name else None
        except (Exception, SystemExit):  # noqa: BLE001 - from a listed class; KeyboardInterrupt is the user's own
            return None

    def _dressed(self, error: Exception) -> Exception:
        error.__notes__ = list(self.notes)
        error.__cause__ = RemoteTraceback(self.text)
        return error


def _shape(fields: object) -> str:
    """What came, without its `repr`: that may be huge, or nested too deep to print."""
    return f"a list of {len(fields)}" if isinstance(fields, list) else type(fields).__name__


# -- in both ----------------------------------------------------------------------------------------------------------


def _load(pickled: bytes, allowed: Allowed) -> Exception:
    """The exception in `pickled`. Raises whatever a refused or damaged pickle, or a listed class, raises."""
    import io
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> type[Exception]:
            return allowed.find(module, name)

    _inspect(pickled)
    error = Unpickler(io.BytesIO(pickled), fix_imports=False).load()
    if not isinstance(error, Exception):
        raise TypeError(f"expected a pickled Exception, got {type(error).__name__}")
    str(error)  # one that cannot be printed is better told by the worker's text
    return error


def _inspect(pickled: bytes) -> None:
    """Raise `ValueError` unless running `pickled`, at most `MAX_PICKLE` bytes, is bounded in time, depth and memory."""
    import pickletools

    shareable: dict[object, int | None] = {}  # for each memo entry: its size if it is a string or a class
    size: int | None = None
    shared = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if opcode.name not in _OPCODES or count >= MAX_OPCODES:
            raise ValueError(f"{opcode.name} at opcode {count} is not what describe() writes")
        if opcode.name == "MEMOIZE":
            shareable[len(shareable)] = size
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            again = shareable.get(argument)
            if again is None or (shared := shared + again) > MAX_PICKLE:
                raise ValueError("a pickle that shares more than a few strings and classes may unfold without bound")
        size = len(argument) if isinstance(argument, str | bytes) else 0 if opcode.name == "STACK_GLOBAL" else None
