"""The hierarchy: drawn as it is, each class fit to cross the pipe."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from bgsuper import errors
from bgsuper.errors import BgsuperError, NotFound, RemoteError, ReplayEvent, ShutdownIncomplete, StoreLocked

#: `ReplayEvent` is raised by hosts, at us, and is no error.
CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and value is not ReplayEvent]


def drawn() -> dict[str, tuple[str | None, set[str]]]:
    """name -> (parent, further built-in bases), read from the tree in the module's docstring."""
    tree: dict[str, tuple[str | None, set[str]]] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( *(?:[|` -]*[|`]- )?)([A-Z]\w+)(?: \((\w+)\))?(?:  .*)?$", line)
        if not found or not (path or found[2] == "BgsuperError"):
            continue
        indent, name = len(found[1]), found[2]
        while path and path[-1][0] >= indent:
            path.pop()
        tree[name] = (path[-1][1] if path else None, {found[3]} if found[3] else set())
        path.append((indent, name))
    return tree


def test_the_tree_in_the_docstring_is_the_hierarchy() -> None:
    """A reader finds every class where it is drawn, its built-in base too, and no class that is not drawn."""
    ours = {cls.__name__: cls for cls in CLASSES}
    tree = drawn()
    assert tree.keys() == ours.keys()
    for name, (parent, builtin) in tree.items():
        bases = {base.__name__ for base in ours[name].__bases__}
        assert bases == ({parent} if parent else {"Exception"}) | builtin, name


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_documented_and_ours(cls: type) -> None:
    """One root to catch, and never outside `Exception`."""
    assert issubclass(cls, BgsuperError)
    assert issubclass(cls, Exception)
    assert cls.__doc__
    assert cls.__doc__ is not cls.__bases__[0].__doc__


@pytest.mark.parametrize("cls", CLASSES)
def test_the_message_is_the_text(cls: type[BgsuperError]) -> None:
    """What a user reads is what was written, KeyError's quoting notwithstanding."""
    assert str(cls("expected a, got 'b'")) == "expected a, got 'b'"
    assert str(cls("expected a, got 'b'")) in repr(cls("expected a, got 'b'")).replace('"', "")


WITH_ATTRIBUTES = [
    ShutdownIncomplete("late", unacked=3, outcome="abandoned"),
    StoreLocked("taken", pid=7, epoch=2),
    RemoteError("far", type_name="m.E", text="Traceback", errno=5),
]


@pytest.mark.parametrize("error", [*(cls("m") for cls in CLASSES), *WITH_ATTRIBUTES], ids=repr)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_an_error_survives_pickle_and_copy_with_its_attributes(error: BgsuperError, again) -> None:  # type: ignore[no-untyped-def]
    """Positional arguments hold the message alone, so that loading calls `__init__` with what it takes."""
    error.add_note("n")
    twin = again(error)
    assert type(twin) is type(error)
    assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


def test_what_python_code_may_catch_instead() -> None:
    """A mapping's user catches KeyError, a validator's ValueError."""
    with pytest.raises(KeyError, match=r"^no such key$"):
        raise NotFound("no such key")
    assert str(NotFound()) == ""
    for cls in errors.ConfigError, errors.DecodeError, errors.FrameError:
        assert issubclass(cls, ValueError)
    assert not issubclass(errors.StoreError, ValueError | OSError)
