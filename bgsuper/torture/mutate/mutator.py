"""A byte mutator: bytes that somebody wrote, made into bytes that nobody wrote.

Everything comes from the `Random` that is handed in, so an input can be made again from its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

#: Integers at the edges of what formats hold.
EDGES: Final = sorted(
    {
        sign * (1 << bits) + off
        for bits in (0, 4, 5, 7, 8, 15, 16, 24, 31, 32, 62, 63)
        for off in (-1, 0, 1)
        for sign in (1, -1)
    }
)
#: What a mutation may grow an input to.
MAX_BYTES: Final = 1 << 16

Mutation = Callable[[Random, bytearray, Sequence[bytes]], None]


def mutate(random: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """`content` after one to eight mutations; `corpus` is where pieces of others come from."""
    mutated = bytearray(content)
    for _ in range(1 + min(random.getrandbits(3), random.getrandbits(3))):
        random.choice(_MUTATIONS)(random, mutated, corpus)
    return bytes(mutated[:MAX_BYTES])


def _place(random: Random, content: bytearray) -> int:
    """Where to do something; half of the time near the start, where headers are."""
    limit = len(content) if random.getrandbits(1) else min(len(content), 32)
    return random.randrange(limit + 1)


def _flip(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[_place(random, content) - 1] ^= 1 << random.getrandbits(3)


def _replace(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[_place(random, content) - 1] = random.getrandbits(8)


def _insert(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    at = _place(random, content)
    content[at:at] = random.randbytes(1 + random.getrandbits(3))


def _delete(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    at = _place(random, content)
    del content[at : at + 1 + random.getrandbits(random.choice((1, 3, 6)))]


def _cut(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[_place(random, content) :]


def _duplicate(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    start = _place(random, content)
    piece = content[start : start + 1 + random.getrandbits(6)]
    at = _place(random, content)
    content[at:at] = piece * (1 + random.getrandbits(2))


def _splice(random: Random, content: bytearray, corpus: Sequence[bytes]) -> None:
    other = random.choice(corpus)
    start = random.randrange(len(other) + 1)
    at = _place(random, content)
    content[at : at + random.getrandbits(4)] = other[start : start + random.getrandbits(8)]


def _edge(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    """An integer at an edge, in any width and byte order: also a length that lies."""
    width = random.choice((1, 2, 4, 8))
    number = random.choice(EDGES) & ((1 << 8 * width) - 1)
    at = _place(random, content)
    content[at : at + width] = number.to_bytes(width, random.choice(("big", "little")))


def _nudge(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    """A byte that is one more or one less: lengths and counts that just do not fit."""
    if content:
        at = _place(random, content) - 1
        content[at] = (content[at] + random.choice((-1, 1))) & 0xFF


_MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip, _flip, _replace, _insert, _delete, _cut, _duplicate, _splice, _edge, _edge, _nudge, _nudge,
)  # fmt: skip


def mutate_value(random: Random, value: Any) -> Any:
    """A plain value (what msgpack gives) with some part replaced by something plausible: well-formed, and wrong."""
    if isinstance(value, list) and value and random.getrandbits(2):
        changed = list(value)
        at = random.randrange(len(changed))
        match random.getrandbits(3):
            case 0:
                del changed[at]
            case 1:
                changed.insert(at, changed[random.randrange(len(changed))])
            case 2:
                changed[at] = _other(random)
            case _:
                changed[at] = mutate_value(random, changed[at])
        return changed
    if isinstance(value, dict) and value and random.getrandbits(2):
        name = random.choice(list(value))
        if random.getrandbits(3):
            return {**value, name: mutate_value(random, value[name])}
        return {key: held for key, held in value.items() if key != name}
    if isinstance(value, int) and random.getrandbits(1):
        return value + random.choice((-1, 1))
    if isinstance(value, str | bytes) and value and random.getrandbits(1):
        return value[: random.randrange(len(value))]
    return _other(random)


def _other(random: Random) -> Any:
    nested: Any = 0
    for _ in range(random.choice((1, 2, 200))):
        nested = [nested]
    return random.choice(
        (None, True, False, 0.0, float("nan"), "", "a/b", "\0", "x" * 121, b"", b"\xff", [], {}, {"a": 1}, nested)
        + (random.choice([edge for edge in EDGES if -(1 << 63) <= edge < 1 << 64]),) * 5
    )
