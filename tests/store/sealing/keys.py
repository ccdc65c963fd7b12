"""Keys and values for the tests of sealing."""

from __future__ import annotations

from pathlib import Path

from bgsuper.key import Key
from bgsuper.store.sealing.keys import MasterKey
from bgsuper.store.sealing.sealer import Sealer

#: No two bytes alike, and none of them a character of a message by chance.
MATERIAL = bytes(range(0xA0, 0xC0))
OTHER = bytes(range(0xC0, 0xE0))
NAME = Key("channels", "", "a")


def sealer(material: bytes = MATERIAL, *, compress: bool = False) -> Sealer:
    return Sealer(MasterKey(material), compress=compress)


def key_file(path: Path, content: bytes = MATERIAL, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def shows(text: str, material: bytes = MATERIAL) -> bool:
    """Whether `text` gives away any four bytes of `material` in a row, in any usual writing."""
    lower = text.lower()
    for start in range(len(material) - 3):
        part = material[start : start + 4]
        forms = (
            part.hex(),
            part.hex(" "),
            part.hex(":"),
            repr(part)[2:-1],
            part.decode("latin-1"),
            str(list(part))[1:-1],
        )
        if any(form.lower() in lower for form in forms):
            return True
    return False
