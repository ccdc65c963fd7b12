"""The master key: 32 bytes, from a file or an environment variable that a store's URL names.

    sqlite:///var/lib/node?key-file=/etc/node/key    32 raw bytes, or 64 hexadecimal digits (and a newline)
    sqlite:///var/lib/node?key-env=NODE_KEY          64 hexadecimal digits

One is made by `(umask 077; head -c 32 /dev/urandom > /etc/node/key)`. Whoever loses it loses the store, backups
included. It is read again by each worker, so it stays where it is while the node runs.

Rules:
1. No byte of a key is in any message, repr or log. What judges the bytes returns its verdict in words, and the frame
   that raises has never held them: a traceback that prints its variables shows nothing either.
2. A key that is in the URL by mistake, in the place of its name, is not repeated.
3. What is checked is what was opened, not what has the same name. A symbolic link is followed, as those who hand out
   secrets (systemd, Kubernetes) use them; the file that it leads to must be its owner's alone.
4. A key that nobody drew at random is refused where that can be seen.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping
from typing import Final, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...errors import ConfigError
from ..failures import NO_DESCRIPTORS, from_os_error

KEY_BYTES: Final = 32
_HEX_BYTES: Final = 2 * KEY_BYTES
#: Enough to tell that a file is too long: the digits, "\r\n", and one more.
_MOST: Final = _HEX_BYTES + 3

_HEX: Final = re.compile(rb"[0-9A-Fa-f]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What a key looks like in the place of a name.
_KEYLIKE: Final = re.compile(r"[0-9A-Fa-f]{32,}")
#: Whether group or others may do anything with a file.
_NOT_PRIVATE: Final = stat.S_IRWXG | stat.S_IRWXO


class MasterKey:
    """A key that does not show itself. What it is good for is to derive others from it."""

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        self._material = material

    def __repr__(self) -> str:
        return "MasterKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MasterKey does not travel: load it where it is needed")

    def derive(self, purpose: bytes, length: int, salt: bytes | None = None) -> bytes:
        """`length` bytes for `purpose` by HKDF-SHA256 (RFC 5869). They tell nothing of the key, nor of those for
        another purpose or with another salt."""
        return HKDF(algorithm=SHA256(), length=length, salt=salt, info=purpose).derive(self._material)


def load_key(options: Mapping[str, str]) -> MasterKey:
    """The key that a store URL's options name. Raises `ConfigError`, or `StoreUnavailable` where this process is
    short of descriptors."""
    match options.get("key-file"), options.get("key-env"):
        case str(path), None:
            return _from_file(path)
        case None, str(name):
            return _from_environment(name)
        case None, None:
            raise ConfigError("expected a key for the store: add ?key-file=PATH or ?key-env=NAME to its URL")
    raise ConfigError("expected one key, got key-file and key-env: leave one of them out")


def _from_file(path: str) -> MasterKey:
    if _KEYLIKE.fullmatch(path):
        raise ConfigError(
            "key-file takes the path of a file, and what came looks like a key itself: put the key into a file of mode "
            "0600, and its path into the URL (write ./NAME if it is a path)"
        )
    where = f"the key file {os.path.abspath(path)!r:.4200}"
    try:
        # A FIFO must not make us wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise from_os_error(error, f"opening {where}") from error
        _refuse_unreadable(path, where, error)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"expected {where} to be a regular file; name the file that holds the key")
        if status.st_mode & _NOT_PRIVATE:
            raise ConfigError(
                f"expected {where} to be its owner's alone, but its mode is {stat.S_IMODE(status.st_mode):04o}: "
                f"chmod 600 {shlex.quote(os.path.abspath(path))}"
            )
        found = _from_content(os.read(fd, _MOST))
    except OSError as error:
        _refuse_unreadable(path, where, error)
    finally:
        os.close(fd)
    if isinstance(found, MasterKey):
        return found
    raise ConfigError(f"expected {where} to hold {KEY_BYTES} bytes or {_HEX_BYTES} hexadecimal digits; {found}")


def _refuse_unreadable(path: str, where: str, error: OSError) -> NoReturn:
    hint = "make it readable for the user that the node runs as"
    if isinstance(error, FileNotFoundError):
        make = f"(umask 077; head -c {KEY_BYTES} /dev/urandom > {shlex.quote(os.path.abspath(path))})"
        hint = f"a store that exists needs the key that it was made with; for a new one: {make}"
    raise ConfigError(f"{where} cannot be read: {error.strerror}; {hint}") from None


def _from_environment(name: str) -> MasterKey:
    if _KEYLIKE.fullmatch(name) or not _VARIABLE.fullmatch(name):
        raise ConfigError(
            "key-env takes the name of an environment variable ([A-Za-z_][A-Za-z0-9_]*), and what came is none; it is "
            "not repeated here, in case that it is the key"
        )
    where = f"the environment variable {name!r:.200}"
    if name not in os.environ:
        raise ConfigError(f"expected the key in {where}, which is not set; set it before the node starts")
    found = _from_digits(os.environb[name.encode()])
    if isinstance(found, MasterKey):
        return found
    raise ConfigError(f"expected {where} to hold {_HEX_BYTES} hexadecimal digits; {found}")


def _from_content(content: bytes) -> MasterKey | str:
    """The key that a file holds, or what is wrong with it: an exception raised here would carry the bytes along."""
    if len(content) == KEY_BYTES and not _HEX.fullmatch(content):
        return _drawn(content)
    return _from_digits(content)


def _from_digits(content: bytes) -> MasterKey | str:
    digits = content.removesuffix(b"\n").removesuffix(b"\r")
    if len(digits) != _HEX_BYTES:
        what = "hexadecimal digits" if _HEX.fullmatch(digits) else "bytes"
        return (
            f"it has {len(digits)} {what}" if 0 < len(content) < _MOST else "it has more" if content else "it is empty"
        )
    if not _HEX.fullmatch(digits):
        return f"not all of its {_HEX_BYTES} characters are hexadecimal digits"
    return _drawn(bytes.fromhex(digits.decode()))


def _drawn(material: bytes) -> MasterKey | str:
    if len(set(material)) == 1:
        return "it holds one byte repeated, which is no key: draw one at random"
    return MasterKey(material)
