"""The picture and the plain lines: what a person sees."""

from __future__ import annotations

import io
import os
import re

import pytest
from rich.console import Console

from bgsuper.cli.demo.screen import draw, milliseconds, seconds, size
from bgsuper.cli.demo.series import Happening, Look, Story, from_line, to_line
from bgsuper.cli.demo.show import Lines, picture
from bgsuper.cli.demo.viewer import view

ACTS = [("idle", "nothing", 0.0, 1.0), ("slow disk", "syncs wait", 1.0, 3.0)]


def _look(at_s: float, **changes: object) -> Look:
    act = 0 if at_s < 1 else 1
    fields: dict[str, object] = {
        **dict.fromkeys(("epoch", "commits", "commits_durable", "unacked_bytes", "syncs", "refused", "payments"), 7),
        **dict.fromkeys(("held", "released", "gossip_taken", "gossip_refused", "channels", "nodes", "restarts"), 3),
        **dict.fromkeys(("late_s", "late_p50_s", "late_p999_s", "late_max_s"), 0.004),
        "at_s": at_s,
        "act": act,
        "unacked_s": 0.5 * act,
        "pid": 11,
        "rss_bytes": None,
        "gate": "holding",
        "state": "ready",
        "evidence": "said HELLO",
        "sync_last_s": None,
        "sync_p99_s": 0.3,
    }
    return Look(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def story() -> Story:
    story = Story("here", 4.0, ACTS)
    story.looks += [_look(index / 20) for index in range(60)]
    story.happenings.append(Happening(1.0, "act", "slow disk: syncs wait"))
    story.happenings.append(Happening(2.0, "death", "worker 11 died: signal SIGKILL"))
    return story


def _text(story: Story, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(draw(story, width))
    return console.export_text()


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_the_picture_fits_any_terminal(story: Story, width: int) -> None:
    """No line is wider than the terminal, and the height stays the same."""
    lines = _text(story, width).splitlines()
    assert all(len(line) == width for line in lines)
    assert len(lines) == len(_text(story, 120).splitlines())


@pytest.mark.parametrize("height", [23, 26, 40])
def test_the_picture_fits_a_low_terminal(story: Story, height: int) -> None:
    """The last happenings make room; what is higher than the terminal would not be drawn over."""
    story.happenings += [Happening(2.0, "note", f"note {number}") for number in range(20)]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(draw(story, 80, height))
    text = console.export_text()
    assert len(text.splitlines()) <= height
    assert "note 19" in text


@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_is_whole_on_a_terminal_of_80_columns(story: Story, width: int) -> None:
    """Nothing is cut off but the titles of short acts."""
    story.looks.append(_look(3.0, pid=1234567, commits=123456, released=12345, late_max_s=0.0123, rss_bytes=10**8))
    text = _text(story, width)
    for words in ("1234567, epoch 7", "123,456", "3 held, 12,345 out", "12.3 ms", "95.4 MiB", "3 ch., 3 nodes"):
        assert words in text


def test_the_picture_shows_what_matters(story: Story) -> None:
    """Both charts with their scales, acts, deaths, the worker, the gate, the last happenings."""
    text = _text(story, 120)
    for words in ("20 ms", "500 ms", "✖", "slow disk", "ready", "11, epoch 7", "3 held, 3 out", "signal SIGKILL"):
        assert words in text


def test_a_story_without_looks_can_be_drawn() -> None:
    """The first picture comes before the first look."""
    assert "How late the event loop is" in _text(Story("here", 4.0, ACTS), 80)


def test_the_chart_of_the_run_so_far_has_no_holes(story: Story) -> None:
    """More columns than looks: each column up to now has a bar, none after."""
    spans = story.buckets(400)
    reached = max(index for index, span in enumerate(spans) if span)
    assert all(spans[: reached + 1])
    assert reached == pytest.approx(0.74 * 400, abs=3)


def test_what_the_viewer_is_sent_arrives_whole(story: Story) -> None:
    """Each line read back is what was written; the viewer draws from nothing else."""
    for item in (story.looks[0], story.happenings[0]):
        assert from_line(to_line(item)) == item
    assert from_line(to_line(story)) == Story("here", 4.0, ACTS)
    lines = io.BytesIO(b"".join([to_line(story), *map(to_line, story.looks), *map(to_line, story.happenings)]))
    console = Console(width=100, file=io.StringIO(), record=True, force_terminal=True)
    readied: list[bool] = []
    view(lines, console, ready=lambda: readied.append(True))
    assert readied == [True]
    assert "signal SIGKILL" in console.export_text()


def test_the_svg_fetches_nothing_and_names_no_directory(story: Story) -> None:
    """It can be shown anywhere: no fonts from elsewhere, no path of the machine where it was made."""
    svg = picture(story, "a directory of its own")
    assert svg.startswith("<svg")
    assert "url(" not in svg.replace("url(#", "")
    assert "font-family: Fira Code, DejaVu Sans Mono" in svg
    assert "@font-face" not in svg
    assert not re.search(r"https?://(?!www\.w3\.org|www\.textualize\.io)", svg)
    assert ">here<" not in svg


def test_without_a_terminal_each_happening_is_a_line(story: Story) -> None:
    """Looks are not printed."""
    stream = io.StringIO()
    lines = Lines(stream)
    lines.begin(story)
    lines.tell(story.looks[0])
    lines.tell(story.happenings[1])
    assert stream.getvalue().splitlines() == [
        "bgsuper demo: 4 s in here",
        "   2.00 s     worker 11 died: signal SIGKILL",
    ]


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0.0 ms"), (0.00123, "1.2 ms"), (0.3, "300 ms"), (0.9996, "1.0 s"), (2.34, "2.3 s")]
)
def test_durations_read_well(value: float, said: str) -> None:
    """Milliseconds below a second, seconds above."""
    assert seconds(value) == said
    assert milliseconds(2.0) == "2000 ms"


def test_sizes_read_well() -> None:
    """KiB, MiB, or unknown where the platform denies it."""
    assert (size(None), size(2048), size(3 * 1024 * 1024)) == ("unknown", "2 KiB", "3.0 MiB")


def test_lines_that_nobody_reads_stop_nothing() -> None:
    """``bgsuper demo | head -1``: the run goes on to its clean end."""
    readable, writable = os.pipe()
    os.close(readable)
    with open(writable, "w") as stream:
        lines = Lines(stream)
        for number in range(3):
            lines.end(f"step {number}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writable)


def test_a_death_is_marked_in_its_own_act() -> None:
    """Right at an act's beginning, whatever the number of columns."""
    # Titles that fill their acts show where those begin.
    acts = [("1" * 99, "", 0.0, 17.03), ("2" * 99, "", 17.03, 12.97)]
    story = Story("here", 30.0, acts, [_look(0.0, act=0), _look(17.03, act=1)])
    story.happenings.append(Happening(17.04, "death", "worker 1 died"))
    for width in range(60, 121):
        marks, titles = (line for line in _text(story, width).splitlines() if "deaths" in line or "  act " in line)
        assert marks.index("✖") in (titles.index("2"), titles.index("2") + 1)
