"""Keys: LDK's KVStore takes exactly the keys that `check_key` lets through."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError
from bgsuper.key import MANAGER, NETWORK_GRAPH, SCORER, Key, check_key, check_keys, check_namespace

ALPHABET = string.ascii_letters + string.digits + "_-"
#: Text in which good and bad parts, and nearly good ones, are all likely.
parts = st.one_of(
    st.text(max_size=3),
    st.text(ALPHABET, max_size=130),
    st.builds(
        "".join, st.tuples(st.text(ALPHABET, max_size=5), st.sampled_from(["\n", "\x00", "/", ".", " ", "é", "²", "٣"]))
    ),
)


def ldk_takes(primary: str, secondary: str, name: str) -> bool:
    """The rules of LDK's `check_namespace_key_validity`, written another way."""
    if not name or (secondary and not primary):
        return False
    return all(len(part) <= 120 and set(part) <= set(ALPHABET) for part in (primary, secondary, name))


@given(parts, parts, parts)
def test_what_passes_is_what_ldk_takes(primary: str, secondary: str, name: str) -> None:
    """Neither stricter nor laxer, for any text."""
    key = Key(primary, secondary, name)
    if ldk_takes(*key):
        assert check_key(key) == key
    else:
        with pytest.raises(ConfigError):
            check_key(key)


@given(st.lists(st.tuples(parts, parts, parts), max_size=4))
def test_columns_are_checked_as_single_keys_are(keys: list[tuple[str, str, str]]) -> None:
    """All of them or none, in their order."""
    columns = tuple(zip(*keys, strict=True)) or ((), (), ())
    if all(ldk_takes(*key) for key in keys):
        found = check_keys(*columns)
        assert found == tuple(keys)
        assert all(type(key) is Key for key in found)
    else:
        with pytest.raises(ConfigError):
            check_keys(*columns)


@pytest.mark.parametrize("part", [None, 7, b"bytes", ["a"], True])
def test_a_column_with_something_that_is_no_text_is_refused(part: object) -> None:
    """A typed error, as for a single key."""
    with pytest.raises(ConfigError, match="three strings"):
        check_keys(["p", "p"], ["s", "s"], ["n", part])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "key", [("a/b", "", "c"), ("a", "b/c", "d"), ("a", "b", "c/d"), ("a/b/c", "", ""), ("/", "", "a")]
)
def test_a_slash_in_a_part_is_refused(key: tuple[str, str, str]) -> None:
    """Parts are joined with slashes to be checked, so one inside must not pass for such a joint."""
    with pytest.raises(ConfigError):
        check_key(Key(*key))


def test_ldks_own_keys() -> None:
    """The names that LDK persists its three large values under."""
    assert [str(check_key(key)) for key in (MANAGER, NETWORK_GRAPH, SCORER)] == ["manager", "network_graph", "scorer"]


def test_a_plain_tuple_becomes_a_key() -> None:
    """Callers may write `("p", "s", "n")`."""
    key = check_key(("p", "s", "n"))  # type: ignore[arg-type]
    assert type(key) is Key
    assert key == Key("p", "s", "n")


@pytest.mark.parametrize(
    "value",
    [
        "abc",
        b"abc",
        None,
        7,
        ("p", "n"),
        ("p/s", "n"),
        ("p/s/n",),
        ("p", "s", "n", "x"),
        ["p", "s", "n"],
        {"p": 1, "s": 2, "n": 3},
    ],
)
def test_what_is_no_key_is_refused(value: object) -> None:
    """Above all a string of three characters, which would unpack into three parts."""
    with pytest.raises(ConfigError, match="expected Key"):
        check_key(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("part", [None, 7, b"bytes", ["a"], True])
def test_a_part_that_is_no_text_is_refused(place: int, part: object) -> None:
    """A typed error, not a TypeError out of the check itself."""
    fields: list[object] = ["p", "s", "n"]
    fields[place] = part
    with pytest.raises(ConfigError, match="120 characters"):
        check_key(Key(*fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [120, 121])
def test_the_longest_part(length: int) -> None:
    """120 characters and not one more, in each place."""
    for key in Key("a" * length, "b", "c"), Key("a", "b" * length, "c"), Key("a", "b", "c" * length):
        if length == 120:
            assert check_key(key) == key
        else:
            with pytest.raises(ConfigError, match="120 characters"):
                check_key(key)


def test_messages_stay_short() -> None:
    """The refused part is quoted, but not all of it."""
    with pytest.raises(ConfigError) as caught:
        check_namespace("x" * 10_000_000, "")
    assert len(str(caught.value)) < 300


def test_a_key_reads_as_a_path_without_its_empty_parts() -> None:
    """As LDK's FilesystemStore lays it out."""
    assert str(Key("monitors", "", "abc_0")) == "monitors/abc_0"
    assert str(Key("a", "b", "c")) == "a/b/c"
