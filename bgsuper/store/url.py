"""Store URLs: one line that says which store to open, where, and with what options.

    sqlite:///var/lib/node/store       an absolute directory
    sqlite:data/store                  one relative to the working directory
    sqlite:///tmp/s?faults=/tmp/plan   with the faults of a plan (`bgsuper.faults.plan`), for tests and demos

Rules: percent-encoding is decoded once, strictly, after the URL is cut apart; what cannot be meant is a `ConfigError`
of one line that says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..errors import ConfigError

#: The options that each scheme takes.
SCHEMES: Final[Mapping[str, frozenset[str]]] = {"sqlite": frozenset({"faults"})}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")


class StoreURL(NamedTuple):
    """A store URL, decoded. `path` is absolute or relative, as it was written."""

    scheme: str
    path: str
    options: Mapping[str, str]


def parse(url: str) -> StoreURL:
    """Take `url` apart. Raises `ConfigError`."""
    match = _SCHEME.fullmatch(url)
    if match is None:
        raise ConfigError(f"expected a store URL such as sqlite:///path/to/directory, got {url!r:.200}")
    scheme, rest = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        raise ConfigError(
            f"expected a store URL that starts with {_names(SCHEMES)}, got {scheme!r:.40} in {url!r:.200}"
        )
    if "#" in rest:
        raise ConfigError(f"a store URL has no fragment; write %23 for # in {url!r:.200}")
    location, _, query = rest.partition("?")
    return StoreURL(scheme, _path(scheme, location, url), _options(scheme, query, url))


def _path(scheme: str, location: str, url: str) -> str:
    if location.startswith("//"):
        host, slash, path = location[2:].partition("/")
        if host:
            raise ConfigError(
                f"{url!r:.200} names the host {host!r:.80}, but a directory is expected: "
                f"write {scheme}:{location[2:]:.80} if it is relative, {scheme}:///{location[2:]:.80} if absolute"
            )
        location = slash + path
    path = _decode(location, url)
    if not path.strip("/"):
        raise ConfigError(f"{url!r:.200} names no directory: write {scheme}:///path/to/directory")
    return path


def _options(scheme: str, query: str, url: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = _decode(name, url)
        if name not in SCHEMES[scheme]:
            raise ConfigError(
                f"{scheme} URLs take the option {_names(SCHEMES[scheme])}, got {name!r:.80} in {url!r:.200}"
            )
        if name in options:
            raise ConfigError(f"the option {name!r} stands twice in {url!r:.200}: keep one")
        options[name] = _decode(value, url)
        if not options[name]:
            raise ConfigError(f"the option {name!r} has no value in {url!r:.200}: write {name}=value or leave it out")
    return options


def _decode(text: str, url: str) -> str:
    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise ConfigError(f"a % is not followed by two hexadecimal digits in {url!r:.200}: write %25 for a plain %")
        return bytes.fromhex(match[1].decode())

    try:
        decoded = _ESCAPE.sub(byte, text.encode()).decode()
    except UnicodeError:
        raise ConfigError(f"{url!r:.200} does not decode to UTF-8: check its %-escapes") from None
    if "\0" in decoded:
        raise ConfigError(f"{url!r:.200} contains a NUL character: no path does")
    return decoded


def _names(names: Mapping[str, object] | frozenset[str]) -> str:
    return " or ".join(sorted(names))
