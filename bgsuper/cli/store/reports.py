"""What the commands print: tables for a person, JSON for a program. Pure: something for rich or `json` to write out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ...store.api import Damage, Entry
from ...store.copying import Counts
from ...store.identity import Identity

#: Before anything was read.
NOTHING: Final = Counts()
#: The width of tables where there is no terminal to ask.
WIDE: Final = 110
#: How many findings are kept to be listed: a store may have a million, and memory shall not grow with them.
LISTED: Final = 1000
#: How many of those a person is shown.
SHOWN: Final = 20


@dataclass
class Found:
    """What an examination came to: how much was whole, and what was not."""

    counts: Counts = NOTHING
    damaged: int = 0
    listed: list[Damage] = field(default_factory=list)

    def report(self, damage: Damage) -> None:
        """One more thing that is not whole."""
        self.damaged += 1
        if len(self.listed) < LISTED:
            self.listed.append(damage)

    def to_json(self) -> dict[str, object]:
        """Counts, and the findings as far as they are kept."""
        return {
            "records": self.counts.records,
            "snapshots": self.counts.snapshots,
            "bytes": self.counts.bytes,
            "damaged": self.damaged,
            "damage": [damage_to_json(damage) for damage in self.listed],
        }


def damage_to_json(damage: Damage) -> dict[str, object]:
    """`key` is null where it cannot be told."""
    return {"key": None if damage.key is None else str(damage.key), "text": damage.text}


class Census:
    """How much there is in each namespace."""

    def __init__(self) -> None:
        self._records: Counter[tuple[str, str]] = Counter()
        self._snapshots: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()

    def add(self, entry: Entry) -> None:
        """One value more."""
        namespace = entry.key[:2]
        (self._records if entry.seq is None else self._snapshots)[namespace] += 1
        self._bytes[namespace] += entry.length

    def rows(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Primary and secondary namespace, records, snapshots, bytes, in order."""
        for namespace in sorted(self._bytes):
            yield (*namespace, self._records[namespace], self._snapshots[namespace], self._bytes[namespace])

    def to_json(self) -> list[dict[str, object]]:
        """The rows, by name."""
        names = ("primary", "secondary", "records", "snapshots", "bytes")
        return [dict(zip(names, row, strict=True)) for row in self.rows()]


def grid(facts: Mapping[str, object]) -> Table:
    """Names and what there is to say of each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="grey70", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, Text(str(fact)))
    return table


def identity_facts(identity: Identity) -> dict[str, object]:
    """The identity in words."""
    return {
        "store id": identity.store_id.hex(),
        "epoch": f"{identity.epoch:,}",
        "last commit": f"{identity.last_commit:,}",
        "last snapshot": f"{identity.last_snapshot:,}" if identity.last_snapshot else "none",
        "sealed": "yes" if identity.seal else "no",
    }


def census_table(census: Census) -> Table:
    """A row a namespace, and their sum."""
    table = _table("namespace", "records", "snapshots", "bytes")
    rows = list(census.rows())
    for primary, secondary, *figures in rows:
        name = "/".join(part for part in (primary, secondary) if part) or "(none)"
        table.add_row(Text(name), *(f"{figure:,}" for figure in figures))
    table.add_section()
    table.add_row("all", *(f"{sum(column):,}" for column in list(zip(*rows, strict=True))[2:] or [(0,)] * 3))
    return table


def damage_table(found: Found) -> Table:
    """What is not whole, as far as a person wants to read."""
    table = _table("key")
    table.add_column("what is wrong", overflow="fold", vertical="bottom")
    for damage in found.listed[:SHOWN]:
        table.add_row(Text("(no key)" if damage.key is None else str(damage.key)), Text(damage.text))
    if found.damaged > SHOWN:
        table.add_row("...", f"and {found.damaged - SHOWN:,} more")
    return table


def verdict(good: bool, title: str, lines: Iterable[str]) -> RenderableType:
    """What it comes to, and what to do."""
    text = Text(title, "bold green" if good else "bold red")
    for line in lines:
        text.append(f"\n{line}", "default")
    return Panel(text, border_style="green" if good else "red")


def counted(counts: Counts) -> str:
    """The counts in words."""
    return f"{counts.records:,} records and {counts.snapshots:,} snapshots, {size(counts.bytes)}"


def findings_of(found: Found) -> str:
    """Their number in words."""
    return "1 finding" if found.damaged == 1 else f"{found.damaged:,} findings"


def size(length: int) -> str:
    """Bytes, as a person reads them."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if length >= 1 << power:
            return f"{length / (1 << power):,.1f} {unit}"
    return f"{length:,} bytes"


def _table(first: str, *figures: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table
