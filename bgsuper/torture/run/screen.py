"""A run as a person sees it: the picture while it goes on, and the report at its end. Pure: something for rich to draw
out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .overseer import Overseer
from .timeline import Outcome, Timeline, percentiles

#: How many violations are shown in words.
_SHOWN: Final = 10


def draw(overseer: Overseer) -> RenderableType:
    """The run at this moment."""
    watch, options = overseer.watch, overseer.options
    goal = [f"of {options.seconds / 60:g} minutes"] if math.isfinite(options.seconds) else []
    goal += [f"until {options.kills:,} kills"] if math.isfinite(options.kills) else []
    bad = watch.timeline.violations
    figures: dict[str, RenderableType] = {
        "elapsed": f"{minutes(watch.now)} {', '.join(goal)}",
        "commits": f"{watch.account.commits:,} and {watch.account.snapshots:,} snapshots; "
        f"up to {watch.account.acked:,} acknowledged",
        "now": f"{overseer.doing}; host {watch.hosts}, its worker is {watch.state}; {watch.weather.name}",
        "kills": f"{watch.timeline.killed:,} processes",
        "looks": f"{watch.timeline.looks:,}, {watch.timeline.records:,} records compared",
        "violations": Text(str(len(bad)), "bold red" if bad else "bold green"),
    }
    return Panel(
        Group(_grid(figures), Text(), blows(watch.timeline)),
        title="[bold]bgsuper torture[/bold]",
        title_align="left",
        subtitle=f"seed {options.seed}, {overseer.workspace.store.path}",
        subtitle_align="right",
        border_style="red" if bad else "grey50",
    )


def line(overseer: Overseer) -> str:
    """The same in one line."""
    watch = overseer.watch
    return (
        f"{minutes(watch.now)}  {watch.timeline.killed:,} kills, {watch.account.commits:,} commits, "
        f"{watch.timeline.looks:,} looks, {len(watch.timeline.violations)} violations; {overseer.doing}"
    )


def blows(timeline: Timeline) -> Table:
    """What was done, and how long it took until commits were acknowledged again."""
    made = Table(box=None, padding=(0, 2), pad_edge=False)
    made.add_column("blow", style="grey70", no_wrap=True)
    for name in ("times", "killed", "recovered in p50", "p95", "max"):
        made.add_column(name, justify="right", no_wrap=True)
    for name, times in sorted(timeline.blows.items()):
        made.add_row(name, f"{times:,}", f"{timeline.kills[name]:,}", *_times(timeline.recoveries.get(name, ())))
    foul = [took for of, values in timeline.recoveries.items() if of not in timeline.blows for took in values]
    if foul:
        made.add_row("any, on a slow or full disk", f"{len(foul):,}", "", *_times(foul))
    if timeline.drains:
        made.add_row("orphans, until they end", f"{len(timeline.drains):,}", "", *_times(timeline.drains))
    return made


def summary(outcome: Outcome, evidence: str | None) -> Iterable[RenderableType]:
    """The report at the end. `evidence`: where it is kept."""
    yield blows(outcome.timeline)
    text = Text(outcome.verdict[:1].upper() + outcome.verdict[1:] + ".", "bold green" if outcome.ok else "bold red")
    text.append(
        f"\n{minutes(outcome.ran_s)}, seed {outcome.seed}, {outcome.hosts:,} hosts, {outcome.epochs:,} workers"
        f"{', interrupted' if outcome.interrupted else ''}",
        "default",
    )
    if outcome.timeline.late_drains:
        text.append(
            f"\n{outcome.timeline.late_drains} orphans took longer than two syncs and a second; nothing of theirs was "
            "lost",
            "yellow",
        )
    for violation in outcome.timeline.violations[:_SHOWN]:
        text.append(f"\n  {violation.what}: {violation.text}", "red")
    if evidence is not None:
        text.append(f"\nThe evidence is in {evidence}; its README says how to see it again", "default")
    yield Panel(text, border_style="green" if outcome.ok else "red")


def minutes(seconds: float) -> str:
    """As a clock shows it."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _times(values: Iterable[float]) -> list[str]:
    found = percentiles(list(values))
    return [f"{found[name] * 1000:,.0f} ms" for name in ("p50_s", "p95_s", "max_s")] if found else ["-"] * 3


def _grid(figures: Mapping[str, RenderableType]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="grey70", no_wrap=True)
    made.add_column()
    for name, figure in figures.items():
        made.add_row(name, figure)
    return made
