"""The picture of a run: two charts over the same time, how late the loop is and how long commits wait for the disk, and
the figures below them. Pure: a story and a width in, something for rich to draw out."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .series import Happening, Look, Story

#: Colours of the acts, in turn; neighbours differ.
_ACT_STYLES: Final = (
    *("grey50", "green", "yellow", "dark_orange", "red"),
    *("magenta", "medium_purple", "blue", "cyan", "green"),
)
_HAPPENING_STYLES: Final = {"act": "bold", "fault": "yellow", "death": "red", "worker": "cyan", "note": "bold yellow"}
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_CHART_ROWS: Final = 3
_LEAST_TOP_S: Final = 0.02
_LABEL: Final = 9  #: columns left of a chart
_EDGE: Final = 4  #: columns of the panel's own edges
_LINES: Final = 6  #: the happenings shown, at most
_OTHER_LINES: Final = 20  #: all the others


def draw(story: Story, width: int, height: int = 100) -> RenderableType:
    """The whole picture, `width` columns wide, and `height` lines high or less."""
    columns = max(20, width - _LABEL - _EDGE)
    spans = story.buckets(columns)
    late = [max((look.late_s for look in span), default=None) for span in spans]
    unacked = [max((look.unacked_s for look in span), default=None) for span in spans]
    last = story.looks[-1] if story.looks else None
    parts: list[RenderableType] = [
        _headline("How late the event loop is", _worst(story, last) if last else ""),
        *_chart(late, ["green"] * columns),
        _headline(
            "How long the oldest commit has waited for the disk", f"now {seconds(last.unacked_s)}" if last else ""
        ),
        *_chart(unacked, _column_styles(story, columns)),
        _deaths(story, columns),
        _acts(story, columns),
    ]
    if last is not None:
        parts += [Text(), _figures(last)]
    parts += [Text(), *map(_line, story.happenings[-max(1, min(_LINES, height - _OTHER_LINES)) :])]
    return Panel(
        Group(*parts),
        title=f"[bold]bgsuper demo[/bold]  {_progress(story)}",
        title_align="left",
        subtitle=story.directory,
        subtitle_align="right",
        border_style="grey50",
        width=width,
    )


def milliseconds(value: float) -> str:
    """`value`, in seconds, as a person reads it in milliseconds."""
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"


def seconds(value: float) -> str:
    """`value`, in seconds, as a person reads it."""
    return milliseconds(value) if value < 0.9995 else f"{value:.1f} s"


def size(value: int | None) -> str:
    """Bytes, as a person reads them."""
    if value is None:
        return "unknown"
    return f"{value / 1024:,.0f} KiB" if value < 1024 * 1024 else f"{value / 1024 / 1024:,.1f} MiB"


def act_style(index: int) -> str:
    """The colour of an act."""
    return _ACT_STYLES[index % len(_ACT_STYLES)]


# -- charts ------------------------------------------------------------------------------------------------------------


def _headline(what: str, figure: str) -> Text:
    return Text.assemble((what, "bold"), ("   " + figure, "grey70"), no_wrap=True, overflow="ellipsis")


def _worst(story: Story, last: Look) -> str:
    idle = max((look.late_s for look in story.looks if look.act == 0), default=0.0)
    return f"worst {milliseconds(last.late_max_s)}, without load {milliseconds(idle)}"


def _chart(values: Sequence[float | None], styles: Sequence[str]) -> list[Text]:
    """Bars, `_CHART_ROWS` high; the top is a round number of seconds, `_LEAST_TOP_S` at least."""
    top = _round_up(max([_LEAST_TOP_S, *(value for value in values if value is not None)]))
    rows = []
    for row in reversed(range(_CHART_ROWS)):
        text = _label(_scale(top) if row == _CHART_ROWS - 1 else "0" if row == 0 else "")
        for value, style in zip(values, styles, strict=True):
            cell = _cell(value, top, row)
            # A full cell is painted, so that no seam shows between two rows.
            text.append(cell, f"{style} on {style}" if cell == _BLOCKS[-1] else style)
        rows.append(text)
    return rows


def _label(words: str) -> Text:
    # The padding is a piece of its own: some viewers of SVG drop a piece's leading blanks.
    return Text.assemble(" " * (_LABEL - 1 - len(words)), (words, "grey70"), " ")


def _scale(top: float) -> str:
    return f"{top:g} s" if top >= 1 else f"{top * 1000:g} ms"


def _cell(value: float | None, top: float, row: int) -> str:
    if value is None:
        return " "
    steps = round(value / top * _CHART_ROWS * 8)
    # What was measured shows, however small it is.
    return _BLOCKS[max(1 if row == 0 else 0, min(8, steps - row * 8))]


def _round_up(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if unit * factor >= value * 0.999)


# -- the line of acts --------------------------------------------------------------------------------------------------


def _starts(story: Story) -> list[float]:
    """When each act began, or is planned to."""
    began: dict[int, float] = {}
    for look in story.looks:
        began.setdefault(look.act, look.at_s)
    return [began.get(index, act[2]) for index, act in enumerate(story.acts)]


def _whole(story: Story) -> float:
    return max(story.seconds, story.looks[-1].at_s if story.looks else 0.0)


def _edges(story: Story, columns: int) -> list[int]:
    """The column in which each act begins."""
    return [int(start / _whole(story) * columns) for start in _starts(story)]


def _column_styles(story: Story, columns: int) -> list[str]:
    edges = _edges(story, columns)
    return [act_style(max(bisect_right(edges, column) - 1, 0)) for column in range(columns)]


def _deaths(story: Story, columns: int) -> Text:
    dead = {
        min(columns - 1, int(happening.at_s / _whole(story) * columns))
        for happening in story.happenings
        if happening.kind == "death"
    }
    text = _label("deaths")
    for column in range(columns):
        text.append("✖" if column in dead else " ", "bold red" if column in dead else "")
    return text


def _acts(story: Story, columns: int) -> Text:
    edges = [*_edges(story, columns), columns]
    text = _label("act")
    for index, act in enumerate(story.acts):
        room = max(0, edges[index + 1] - edges[index])
        text.append(_fitted(act[0], room), f"bold black on {act_style(index)}")
    return text


def _fitted(title: str, room: int) -> str:
    if len(title) + 1 > room:
        title = title[: max(0, room - 2)] + "…"
    return f"{title[:room]:^{room}}" if room else ""


# -- figures -----------------------------------------------------------------------------------------------------------


def _figures(look: Look) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    for _ in range(3):
        table.add_column(style="grey70", no_wrap=True)
        table.add_column(no_wrap=True)
    ready = "bold green" if look.state == "ready" else "bold yellow"
    rows: tuple[tuple[str, str, str, RenderableType, str, str], ...] = (
        (
            "loop 50 %",
            milliseconds(look.late_p50_s),
            "worker",
            Text(look.state, ready),
            "submitted",
            f"{look.commits:,}",
        ),
        (
            "loop 99.9 %",
            milliseconds(look.late_p999_s),
            "process",
            _process(look),
            "durable",
            f"{look.commits_durable:,}",
        ),
        ("loop worst", milliseconds(look.late_max_s), "restarts", f"{look.restarts}", "syncs", f"{look.syncs:,}"),
        ("payments", f"{look.payments:,}", "memory", size(look.rss_bytes), "last group", _group(look.sync_last_s)),
        ("gossip", _gossip(look), "un-acked", size(look.unacked_bytes), "99 % group", _group(look.sync_p99_s)),
        ("graph", _graph(look), "gate", _gate(look), "refused", f"{look.refused:,}"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _process(look: Look) -> str:
    return "none" if look.pid is None else f"{look.pid}, epoch {look.epoch}"


def _group(took_s: float | None) -> str:
    return "-" if took_s is None else seconds(took_s)


def _gossip(look: Look) -> str:
    return f"{look.gossip_taken}, {look.gossip_refused} too old"


def _graph(look: Look) -> str:
    return f"{look.channels} ch., {look.nodes} nodes"


def _gate(look: Look) -> Text:
    return Text(f"{look.held} held, {look.released:,} out", "yellow" if look.held else "green")


# -- words -------------------------------------------------------------------------------------------------------------


def _progress(story: Story) -> str:
    if not story.looks:
        return ""
    last = story.looks[-1]
    title, what, _, _ = story.acts[last.act]
    style = act_style(last.act)
    return f"{last.at_s:.1f} of {story.seconds:g} s   [{style}]{title}[/]: {what}"


def _line(happening: Happening) -> Text:
    return Text.assemble(
        (f"{happening.at_s:7.2f} s  ", "grey70"),
        (happening.text, _HAPPENING_STYLES.get(happening.kind, "")),
        no_wrap=True,
        overflow="ellipsis",
    )
