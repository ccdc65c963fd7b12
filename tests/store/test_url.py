"""Store URLs."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import ConfigError
from bgsuper.store.url import StoreURL, parse


@pytest.mark.parametrize(
    ("url", "path", "options"),
    [
        ("sqlite:///var/lib/node", "/var/lib/node", {}),
        ("sqlite:/var/lib/node", "/var/lib/node", {}),
        ("sqlite:node/store", "node/store", {}),
        ("SQLite:./node", "./node", {}),
        ("sqlite:///a%20b/%C3%A9%3F%23", "/a b/é?#", {}),
        ("sqlite:///s?faults=/tmp/plan", "/s", {"faults": "/tmp/plan"}),
        ("sqlite:s?faults=a%26b%3Dc", "s", {"faults": "a&b=c"}),
        ("sqlite:s?", "s", {}),
        ("sqlite:s?key-file=/etc/a%20key&compress=zstd", "s", {"key-file": "/etc/a key", "compress": "zstd"}),
        ("sqlite:s?key-env=NODE_KEY", "s", {"key-env": "NODE_KEY"}),
    ],
)
def test_what_is_meant(url: str, path: str, options: dict[str, str]) -> None:
    """Absolute and relative directories, escapes, and the one option."""
    assert parse(url) == StoreURL("sqlite", path, options)


def test_memory_is_nowhere() -> None:
    """Neither a path nor an option."""
    assert parse("memory:") == parse("Memory:?") == StoreURL("memory", "", {})


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("/var/lib/node", "sqlite:///path"),
        ("", "sqlite:///path"),
        ("postgres://host/db", "starts with "),
        ("sqlite://dir", "write sqlite:dir if it is relative, sqlite:///dir if absolute"),
        ("sqlite://dir/sub", "sqlite:dir/sub if it is relative"),
        ("sqlite:", "names no directory"),
        ("sqlite:///", "names no directory"),
        ("sqlite:?faults=x", "names no directory"),
        ("sqlite:a%00b", "NUL"),
        ("sqlite:a\0b", "NUL"),
        ("sqlite:a%zz", "write %25 for a plain %"),
        ("sqlite:a%", "write %25 for a plain %"),
        ("sqlite:a%ff", "UTF-8"),
        ("sqlite:a\udcff", "UTF-8"),
        ("sqlite:a#b", "write %23 for #"),
        ("sqlite:a?mode=ro", "got 'mode' in"),
        ("sqlite:a?faults=x&faults=y", "stands twice"),
        ("sqlite:a?faults=x&%66aults=y", "stands twice"),
        ("sqlite:a?faults=", "has no value"),
        ("sqlite:a?faults", "has no value"),
        ("sqlite:a?faults=x&", "got ''"),
        ("sqlite:a?compress=gzip", "'compress' takes zstd alone"),
        ("sqlite:a?a-name-that-no-option-has=1", "got a name of 25 characters"),
        ("memory:x", "write memory: alone"),
        ("memory:///x", "write memory: alone"),
        ("memory:?faults=x", "memory URLs take no options, got 'faults'"),
        ("memory:#x", "fragment"),
    ],
)
def test_what_cannot_be_meant(url: str, hint: str) -> None:
    """A ConfigError of one line that says what to write."""
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "{}",
        "nosuch:a?key-env={}",
        "sqlite:a?key={}",
        "sqlite:a?{}",
        "sqlite:a?{}=",
        "sqlite:a?key-file=x&{}=x",
        "sqlite:a?key-env={}&key-env=x",
        "sqlite:a?key-env={}&compress=gzip",
        "sqlite:a?compress={}",
        "sqlite:a?key-env={}%",
        "sqlite:a?key-env={}%ff",
        "sqlite:a?key-env={}%00",
        "sqlite:a?key-env={}#",
        "sqlite:?key-env={}",
        "sqlite://host?key-env={}",
        "memory:?key-env={}",
        "memory:x?key-env={}",
    ],
)
def test_no_message_repeats_the_options(url: str) -> None:
    """Somebody may have put a key there instead of its name. Before the question mark no key is expected."""
    key = "0123456789abcdef" * 4
    with pytest.raises(ConfigError) as caught:
        parse(url.format(key))
    assert (key[:20] in str(caught.value)) == (url == "{}")


@given(st.text(min_size=1).filter(lambda path: "\0" not in path and path.strip("/") and not path.startswith("//")))
def test_any_path_can_be_written(path: str) -> None:
    """Quoting and parsing give the same path back."""
    try:
        quoted = quote(path)
    except UnicodeEncodeError:
        return
    assert parse(f"sqlite:{quoted}").path == path
    assert parse(f"sqlite:s?faults={quote(path, safe='')}").options == {"faults": path}


@given(st.text())
def test_total(text: str) -> None:
    """Any text gives a URL or a ConfigError of one line and bounded length."""
    for url in (text, f"sqlite:{text}", f"sqlite:a?{text}"):
        try:
            parse(url)
            said = ""
        except ConfigError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 1000
