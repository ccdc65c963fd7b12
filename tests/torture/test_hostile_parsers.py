"""Mutated bytes for whatever reads bytes from outside: a value, or the one error that is meant for it. A bounded share
of what ``python -m bgsuper.torture.mutate --inputs 1000000`` gives."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.errors import FrameError
from bgsuper.torture.mutate import campaign, damage
from bgsuper.torture.mutate.campaign import Tally, make_input, try_one
from bgsuper.torture.mutate.parsers import Parser, parsers

PARSERS = parsers()
#: For each parser. The slowest takes about 0.2 ms an input.
SHARE = 2000
#: An input has at most 64 KiB.
PEAK_BYTES = 4 * 1024 * 1024


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_bytes(name: str) -> None:
    """Nothing but the error that the parser names; never slow; some are taken and, where that is possible, some not."""
    account = campaign.run({name: PARSERS[name]}, SHARE, seed=2)
    assert account.held, account.findings
    tally = account.tallies[name]
    assert tally.inputs == tally.taken + tally.refused == SHARE
    assert tally.taken > SHARE // 100
    assert (tally.refused > SHARE // 4) == bool(PARSERS[name].refuses)


@pytest.mark.parametrize("name", PARSERS)
def test_memory_is_bounded_for_each_input(name: str) -> None:
    """No length that lies is believed: what an input makes a parser take is a small multiple of its size."""
    tracemalloc.start()
    try:
        for number in range(150):
            content = make_input(PARSERS[name], name, 3, number)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            assert try_one(PARSERS[name], name, number, content, Tally()) is None
            assert tracemalloc.get_traced_memory()[1] - before < PEAK_BYTES
    finally:
        tracemalloc.stop()


@given(name=st.sampled_from(sorted(PARSERS)), content=st.binary(max_size=400))
def test_any_bytes(name: str, content: bytes) -> None:
    """Hypothesis's own bytes, which need not look like anything."""
    assert try_one(PARSERS[name], name, 0, content, Tally()) is None


@given(
    name=st.sampled_from(sorted(PARSERS)),
    seed=st.integers(0, 2**32),
    at=st.integers(0, 400),
    more=st.binary(max_size=9),
)
def test_what_hypothesis_adds(name: str, seed: int, at: int, more: bytes) -> None:
    """A mutated input, with bytes of Hypothesis's put into it, so that what fails is shrunk."""
    content = PARSERS[name].make(Random(seed))
    assert try_one(PARSERS[name], name, 0, content[:at] + more + content[at:], Tally()) is None


def test_an_input_can_be_made_again() -> None:
    """From the seed, the name and the number alone."""
    for name, parser in PARSERS.items():
        first = [make_input(parser, name, 5, number) for number in range(20)]
        assert first == [make_input(parser, name, 5, number) for number in range(20)]
        assert len(set(first)) > 5
        assert max(map(len, first)) <= 1 << 18


def test_what_breaks_a_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the check: a parser that raises something else, or takes long, or takes much."""

    def raises(content: bytes) -> None:
        if content[:1] > b"\x80":
            raise IndexError("out of range")
        raise FrameError("refused")

    def slow(_: bytes) -> None:
        sum(range(5_000_000))

    account = campaign.run({"bad": Parser(lambda random: random.randbytes(3), raises, (FrameError,))}, 100, 1)
    assert not account.held
    [finding] = account.findings
    assert finding.content[0] > 0x80
    assert "IndexError" in finding.what
    # The process's real peak may have been higher before.
    peaks = iter((0, campaign.GROWTH_BYTES + 1))
    monkeypatch.setattr(campaign, "_peak_bytes", lambda: next(peaks))
    account = campaign.run({"large": Parser(lambda random: b"", lambda _: None, ())}, 1, 1)
    assert not account.findings
    assert not account.held
    monkeypatch.undo()
    monkeypatch.setattr(campaign, "SLOW_S", 0.02)
    assert "took" in campaign.run({"slow": Parser(lambda random: b"", slow, ())}, 1, 1).findings[0].what


def test_stores_damaged_at_random(tmp_path: Path) -> None:
    """A share of ``--stores``: no rule of `stores` is broken, and every kind of outcome is seen."""
    damaged = damage.run(tmp_path, 150, seed=1)
    assert damaged.broken == []
    assert damaged.opened == 150
    assert min(damaged.refused, damaged.whole, damaged.unreadable, damaged.dropped) > 0


def test_the_command(tmp_path: Path) -> None:
    """JSON on standard output, status 0, and nothing kept when every rule held."""
    command = [sys.executable, "-m", "bgsuper.torture.mutate", "--inputs", "200", "--stores", "4", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["inputs"] == 200
    assert report["stores"]["opened"] == 4
    assert report["findings"] == []
    assert list(tmp_path.iterdir()) == []
