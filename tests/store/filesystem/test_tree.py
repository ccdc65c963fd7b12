"""Names and places in the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.key import Key
from bgsuper.store.filesystem.tree import Kind, Tree, is_temporary_name, temporary_name

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,120}", fullmatch=True)


@given(NAMES, st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_a_temporary_name_is_told_from_all_others(name: str, epoch: int, attempt: int) -> None:
    """It is ours, no key, what LDK skips, and short enough for any file system."""
    temporary = temporary_name(Key("", "", name), epoch, attempt)
    assert is_temporary_name(temporary)
    assert not re.fullmatch(r"[A-Za-z0-9_-]+", temporary)
    assert temporary.endswith(".tmp")
    assert len(temporary) <= 255


@pytest.mark.parametrize(
    "name", ["manager.0.tmp", "manager.1-2.trash", "manager", ".1-2.tmp", "a.b.1-2.tmp", "a.1-٣.tmp"]
)
def test_ldks_temporary_names_are_not_ours(name: str) -> None:
    """Nor anybody else's: what is ours is removed."""
    assert not is_temporary_name(name)


@given(st.builds(Key, NAMES, st.just("") | NAMES, NAMES) | NAMES.map(lambda name: Key("", "", name)))
def test_a_key_has_one_place(key: Key) -> None:
    """Empty parts are left out, and the place tells the key."""
    path = Tree("/root").path(key)
    assert path == "/root/" + str(key)


def test_a_walk_finds_everything(tmp_path: Path) -> None:
    """Each name once, values in the order of their keys, files before directories."""
    for name in (
        *("b", "a", "a.1-2.tmp", "bgsuper.lock.tmp", "x.y", "p/b", "p/a", "p/s/a", "p/s/b.0.tmp", "p/s/t/u", "q/a"),
        *("p-/a", "lost+found/a", "d.tmp/a", "q/lost+found"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "q" / "link").symlink_to("a")
    tree = Tree(str(tmp_path))
    found = [(item.kind, str(Path(item.path).relative_to(tmp_path))) for item in tree.walk()]
    keys = [item.key for item in tree.walk() if item.kind is Kind.VALUE]
    assert [str(key) for key in keys] == ["a", "b", "p/a", "p/b", "p/s/a", "p-/a", "q/a"]
    assert keys == sorted(key for key in keys if key)
    assert {name for kind, name in found if kind is Kind.NAMESPACE} == {"p", "p-", "p/s", "q"}
    assert {name for kind, name in found if kind is Kind.LEFTOVER} == {"a.1-2.tmp"}
    assert {name for kind, name in found if kind is Kind.FOREIGN} == {"x.y", "p/s/t", "q/lost+found"}
    assert {name for kind, name in found if kind is Kind.IN_THE_WAY} == {"q/link"}
    assert {name for kind, name in found if kind is Kind.ARTIFACT} == {
        *("bgsuper.lock.tmp", "p/s/b.0.tmp", "lost+found", "d.tmp")
    }
    assert tree.names("p", "") == ["a", "b"]
    assert tree.names("p", "nothing") == []
