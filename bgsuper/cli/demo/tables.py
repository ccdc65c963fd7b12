"""The report for a person: verdict, acts, figures, and what to do if something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .report import Report
from .sampler import ActResult
from .screen import act_style, milliseconds, seconds, size

_HEADINGS: Final = (
    "length",
    "loop\n50 %",
    "loop\n99.9 %",
    "loop\nworst",
    "commit\nwaited",
    "commits\ndurable",
    "deaths",
)
#: How many problems are listed; the rest is in report.json.
_LISTED: Final = 10


def tables(report: Report) -> Iterator[RenderableType]:
    """What to print, in order."""
    yield _acts(report)
    yield _figures(report)
    yield _verdict(report)


def _acts(report: Report) -> Table:
    table = Table(
        title="How late the loop was in each act, and how long a commit waited at most",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("act", no_wrap=True, vertical="bottom")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for index, result in enumerate(report.acts):
        table.add_row(Text(result.act.title, act_style(index)), *_act_figures(result))
    return table


def _act_figures(result: ActResult) -> list[str]:
    late = result.lateness
    return [
        f"{result.length_s:.1f} s",
        *("-" if value is None else milliseconds(value) for value in (late.p50_s, late.p999_s, late.max_s)),
        seconds(result.unacked_most_s),
        f"{result.commits:,}",
        f"{result.restarts}",
    ]


def _figures(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="grey70", no_wrap=True)
    table.add_column()
    findings = report.findings
    rows = {
        "store": f"{report.commits_durable:,} of {report.commits_submitted:,} commits and snapshots durable, "
        f"{report.syncs:,} syncs, the slowest group {seconds(report.sync_most_s)}; "
        f"{report.refused} syncs and writes made to fail",
        "worker": f"{report.restarts} restarts, last epoch {report.epoch}",
        "gate": f"{report.outputs_released:,} receipts released, {report.outputs_held_most:,} held at most, "
        f"{report.outputs_held} held at the end, {len(report.too_early)} too early",
        "payments": f"{report.payments:,} made, {report.settled:,} settled",
        "gossip": f"{report.gossip_taken} real messages taken, {report.gossip_refused} refused (too old); "
        f"{report.channels} channels, {report.nodes} nodes",
        "compared": f"after reopening: {findings.records:,} records, {size(findings.bytes)}; "
        "the graph, from its records and from its snapshot",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _verdict(report: Report) -> Panel:
    text = Text(report.verdict[:1].upper() + report.verdict[1:] + ".", "bold green" if report.ok else "bold red")
    if report.interrupted_by is not None:
        text.append(f"\nInterrupted after {report.ran_s:.1f} of {report.planned_s:g} s: this is the part that ran.")
    for problem in report.problems[:_LISTED]:
        text.append(f"\n  {problem}", "red")
    if len(report.problems) > _LISTED:
        text.append(f"\n  ... and {len(report.problems) - _LISTED} more, in report.json", "red")
    if report.kept:
        text.append(f"\nKept for a look: {report.directory} (store/, demo.log, report.json)", "default")
    return Panel(text, border_style="green" if report.ok else "red")
