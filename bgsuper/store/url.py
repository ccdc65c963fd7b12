"""Store URLs: one line that says which store to open, where, and with what options.

    sqlite:///var/lib/node/store       an absolute directory
    sqlite:data/store                  one relative to the working directory
    sqlite:///tmp/s?faults=/tmp/plan   with the faults of a plan (`bgsuper.faults.plan`), for tests and demos
    sqlite:///s?high-water=/var/mark   with a high-water mark (`high_water`), which tells an old backup
    sqlite:///s?key-file=/etc/key      with sealed values (`sealing.keys`); &compress=zstd makes them smaller before
    file:///var/lib/node/store         in LDK's own directory layout; takes the same options
    memory:                            nowhere: gone with its worker; for tests

Rules: percent-encoding is decoded once, strictly, after the URL is cut apart; what cannot be meant is a `ConfigError`
of one line that says what to write instead. No message repeats what stands behind the question mark, where somebody may
have put a key instead of its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..errors import ConfigError

#: The options that each scheme takes.
SCHEMES: Final[Mapping[str, frozenset[str]]] = {
    "sqlite": frozenset({"faults", "high-water", "key-file", "key-env", "compress"}),
    "file": frozenset({"faults", "high-water", "key-file", "key-env", "compress"}),
    "memory": frozenset(),
}
#: Options that take one of few words.
_WORDS: Final[Mapping[str, frozenset[str]]] = {"compress": frozenset({"zstd"})}
#: Those whose stores lie in no directory.
_NOWHERE: Final = frozenset({"memory"})

#: Of an unknown option's name: no option is longer.
_MOST_SHOWN: Final = 16

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")


class StoreURL(NamedTuple):
    """A store URL, decoded. `path` is absolute or relative, as it was written; empty for memory:."""

    scheme: str
    path: str
    options: Mapping[str, str]


def parse(url: str) -> StoreURL:
    """Take `url` apart. Raises `ConfigError`."""
    match, shown = _SCHEME.fullmatch(url), url.partition("?")[0]
    if match is None:
        raise ConfigError(f"expected a store URL such as sqlite:///path/to/directory, got {shown!r:.200}")
    scheme, rest = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        raise ConfigError(
            f"expected a store URL that starts with {_names(SCHEMES)}, got {scheme!r:.40} in {shown!r:.200}"
        )
    if "#" in rest:
        raise ConfigError(f"a store URL has no fragment; write %23 for # in {shown!r:.200}")
    location, _, query = rest.partition("?")
    if scheme in _NOWHERE and location:
        raise ConfigError(f"a {scheme}: store lies in no directory: write {scheme}: alone, got {shown!r:.200}")
    return StoreURL(
        scheme, "" if scheme in _NOWHERE else _path(scheme, location, shown), _options(scheme, query, shown)
    )


def _path(scheme: str, location: str, shown: str) -> str:
    if location.startswith("//"):
        host, slash, path = location[2:].partition("/")
        if host:
            raise ConfigError(
                f"{shown!r:.200} names the host {host!r:.80}, but a directory is expected: "
                f"write {scheme}:{location[2:]:.80} if it is relative, {scheme}:///{location[2:]:.80} if absolute"
            )
        location = slash + path
    path = _decode(location, shown)
    if not path.strip("/"):
        raise ConfigError(f"{shown!r:.200} names no directory: write {scheme}:///path/to/directory")
    return path


def _options(scheme: str, query: str, shown: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = _decode(name, shown)
        if name not in SCHEMES[scheme]:
            got = repr(name) if len(name) <= _MOST_SHOWN else f"a name of {len(name)} characters"
            raise ConfigError(f"{scheme} URLs take {_options_of(scheme)}, got {got} in {shown!r:.200}")
        if name in options:
            raise ConfigError(f"the option {name!r} stands twice in {shown!r:.200}: keep one")
        options[name] = _decode(value, shown)
        if not options[name]:
            raise ConfigError(f"the option {name!r} has no value in {shown!r:.200}: write {name}=value or leave it out")
        words = _WORDS.get(name)
        if words is not None and options[name] not in words:
            raise ConfigError(f"the option {name!r} takes {_names(words)} alone in {shown!r:.200}")
    return options


def _decode(text: str, shown: str) -> str:
    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise ConfigError(
                f"a % is not followed by two hexadecimal digits in {shown!r:.200}: write %25 for a plain %"
            )
        return bytes.fromhex(match[1].decode())

    try:
        decoded = _ESCAPE.sub(byte, text.encode()).decode()
    except UnicodeError:
        raise ConfigError(f"{shown!r:.200} does not decode to UTF-8: check its %-escapes") from None
    if "\0" in decoded:
        raise ConfigError(f"{shown!r:.200} contains a NUL character: no path does")
    return decoded


def _options_of(scheme: str) -> str:
    return f"the option {_names(SCHEMES[scheme])}" if SCHEMES[scheme] else "no options"


def _names(names: Mapping[str, object] | frozenset[str]) -> str:
    return " or ".join(sorted(names))
