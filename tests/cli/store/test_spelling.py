"""Each key has one spelling, and each spelling one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.cli.store.spelling import parse_key, parse_namespaces
from bgsuper.errors import ConfigError
from bgsuper.key import Key

from ...store.test_copying import KEYS


@given(key=KEYS)
def test_a_key_comes_back_from_its_spelling(key: Key) -> None:
    """What `ls` prints, `get` takes."""
    assert parse_key(str(key)) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("manager", Key("", "", "manager")),
        ("monitors/a_0", Key("monitors", "", "a_0")),
        ("monitor_updates/a_0/17", Key("monitor_updates", "a_0", "17")),
    ],
)
def test_ldks_names(text: str, key: Key) -> None:
    """As in LDK's file layout."""
    assert parse_key(text) == key


@pytest.mark.parametrize(
    "text", ["", "/", "a/", "/a", "//a", "a//b", "a/b/", "a/b/c/d", "a b", "../a", "..", "a/.", "é", "a\n", "x" * 121]
)
def test_other_spellings_are_refused(text: str) -> None:
    """A second spelling, and what no store may hold."""
    with pytest.raises(ConfigError, match="expected a"):
        parse_key(text)


@given(keys=st.lists(KEYS, max_size=20), data=st.data())
def test_namespaces_are_found_and_left(keys: list[Key], data: st.DataObject) -> None:
    """`has` is right for each key, and once `are_before` says so, no more of them come."""
    one = data.draw(st.sampled_from(keys)) if keys else Key("a", "", "a")
    for text in (one.primary or "/", f"{one.primary}/", f"{one.primary}/{one.secondary}"):
        wanted = parse_namespaces(text)
        meant = {
            key
            for key in keys
            if key.primary == wanted.primary and ("/" not in text or key.secondary == text.partition("/")[2])
        }
        assert {key for key in keys if wanted.has(key)} == meant
        ordered = sorted(set(keys))
        for index, key in enumerate(ordered):
            if wanted.are_before(key):
                assert not meant & set(ordered[index:])
            assert not (key in meant and wanted.are_before(key))


@pytest.mark.parametrize("text", ["", "/x", "a/b/c", "a b", "..", "x" * 121, "a/" + "x" * 121])
def test_namespaces_that_no_store_has_are_refused(text: str) -> None:
    """One line, as for keys."""
    with pytest.raises(ConfigError):
        parse_namespaces(text)
