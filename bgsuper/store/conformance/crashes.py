"""Cases: a process that has the store is killed, anywhere, and the next one finds what it had reported.

SIGKILL leaves the kernel's page cache: these cases tell a store that acknowledges before it has written, not one that
acknowledges before it has synced. For that it takes a power cut.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Final

from ...key import Key
from ..api import Opened, Store
from .backend import Backend, found, listed, put
from .process import Child
from .records import MIB, A, B
from .rules import Finding, case, expect, expect_same, shown
from .snapshots import GRAPH
from .workload import SPACES, Mark, State, marks

#: At most so many kills, and no further one after so many seconds; but a few in any case.
KILLS: Final = 40
SECONDS: Final = 5.0
LEAST_KILLS: Final = 5
#: A child is killed after at most so many reports, or when it has been silent for so many seconds.
MOST_REPORTS: Final = 30
QUIET_S: Final = 2.0


@case
def what_was_reported_survives_a_kill(backend: Backend) -> None:
    """A process is killed at any moment of its work: whatever had returned is there, in order and whole; of what had
    not, each batch is there wholly or not at all; nothing is there that was never submitted; the numbers claimed are
    those of the content; the epoch rises; the lock is free; and opening it once more changes nothing."""
    backend.must_survive()
    truth, epoch, killer = State(), 0, Killer()
    for random in kills(backend.seed, KILLS, SECONDS):
        reports = killer.kill(backend, "work", random, MOST_REPORTS)
        if reports:
            epoch = _check_claims(reports[0], truth, epoch)
        with backend.opened() as (store, claims):
            truth = _check(store, claims, backend.seed, truth, reports.count("durable"))
            expect(claims.epoch > epoch, f"its epoch is {claims.epoch} after {epoch}")
        with backend.opened() as (store, again):
            expect_same("the epoch of the next open()", claims.epoch + 1, again.epoch)
            expect_same("the numbers at the next open()", claims[1:3], again[1:3])
            _expect_state("opened once more", truth, _content(store))
        epoch = again.epoch


def kills(seed: int, most: int, seconds: float) -> Iterator[Random]:
    """A source of randomness for each kill, as long as there is time."""
    end = time.monotonic() + seconds
    for number in range(most):
        if number >= LEAST_KILLS and time.monotonic() > end:
            return
        yield Random(f"{seed}:{number}")


class Killer:
    """Kills children in the middle of what they do: it learns how long that takes, so as to strike anywhere in it."""

    def __init__(self) -> None:
        self._took: dict[str, float] = {}  #: seconds from a report, by its word, to the next one

    def kill(self, backend: Backend, job: str, random: Random, most_reports: int) -> list[str]:
        """Start a child that does `job`, let it report some times, once in a while not at all, and kill it before the
        next report; what it reported after "opening"."""
        reports: list[str] = []
        with Child.running(backend, job) as child:
            child.report("opening")
            word, since = "opening", time.monotonic()
            for _ in range(0 if random.random() < 0.1 else random.randint(1, most_reports)):
                report = child.line(QUIET_S)
                if report is None:
                    break
                self._took[word] = min(time.monotonic() - since, QUIET_S)
                word, since = report.split()[0], time.monotonic()
                reports.append(report)
            time.sleep(random.random() * self._took.get(word, 0.02))
            reports += child.kill()
            child.check_end()
        return reports


def _check_claims(report: str, truth: State, epoch: int) -> int:
    """What a child claimed when it opened the store; its epoch."""
    claimed = _numbers(report)
    expect(claimed[0] > epoch, f"a process claims epoch {claimed[0]} after {epoch}")
    expect_same("the numbers that a process claims", [truth.last_commit, truth.last_seq], claimed[1:])
    return claimed[0]


def _check(store: Store, claims: Opened, seed: int, before: State, durable: int) -> State:
    """The state that `store` is in, after a child that found `before` and reported `durable` returns."""
    row: list[Mark] = list(islice(marks(seed, before), durable + 1))
    acknowledged = row[durable - 1].passed[-1] if durable else before
    possible = (acknowledged, *row[durable].passed) if len(row) > durable else (acknowledged,)
    content = _content(store)
    expect(
        claims.last_commit >= acknowledged.last_commit,
        f"commit {acknowledged.last_commit} had returned, but the newest one that it claims is {claims.last_commit}",
    )
    for state in possible:
        if (state.last_commit, state.last_seq) == (claims.last_commit, claims.last_seq):
            if store.atomic:
                _expect_state(f"killed after {durable} returns, at commit {claims.last_commit}", state, content)
                return state
            return _torn(possible, row[durable].put if len(row) > durable else (), content, state)
    numbers = [(state.last_commit, state.last_seq) for state in possible]
    raise Finding(
        f"it claims commit {claims.last_commit} and number {claims.last_seq}, possible are {shown(numbers)}: "
        "others were never submitted, or something newer had returned"
    )


def _torn(
    possible: tuple[State, ...], put: tuple[tuple[Key, bytes], ...], content: dict[Key, bytes], state: State
) -> State:
    """The state that a store without atomic batches is in: of each key, one of the values that are possible."""
    for key in content.keys() | possible[0].records.keys():
        values = {each.records.get(key) for each in possible} | {value for of, value in put if of == key}
        expect(content.get(key) in values, f"{key} has {shown(content.get(key))}, none of the values put")
    return State(content, state.last_commit, state.last_snapshot)


def _content(store: Store) -> dict[Key, bytes]:
    """Everything that the workload may have written."""
    return dict(record for space in SPACES for record in listed(store, *space, limit=100_000))


def _expect_state(when: str, state: State, content: dict[Key, bytes]) -> None:
    for key in sorted(content.keys() | state.records.keys()):
        expected, value = state.records.get(key), content.get(key)
        if value == expected:
            continue
        if value is None:
            raise Finding(f"{when}: {key} is lost")
        if expected is None:
            raise Finding(f"{when}: {key} is there, but it was removed, or its commit is not there")
        raise Finding(f"{when}: {key} has {shown(value)}, expected {shown(expected)}")


@case
def a_kill_spares_the_snapshot_before(backend: Backend) -> None:
    """A process is killed while it writes or adopts a large snapshot: the key has that one whole, or the one before."""
    backend.must_survive()
    newest, killer = 0, Killer()
    for random in kills(backend.seed, KILLS // 2, SECONDS / 2):
        reports = killer.kill(backend, "replace", random, 8)
        written = [_numbers(report)[0] for report in reports if report.startswith("written")]
        newest = max([newest, *(_numbers(report)[0] for report in reports if report.startswith("durable"))])
        with backend.opened() as (store, claims):
            possible = {newest, *(seq for seq in written if seq > newest)}
            expect(claims.last_seq in possible, f"it claims number {claims.last_seq}, possible are {sorted(possible)}")
            newest = claims.last_seq
            content = found(store, GRAPH)
            expected = bytes([newest % 256]) * (4 * MIB) if newest else None
            expect(content == expected, f"the snapshot {newest} is {shown(content)}, expected {shown(expected)}")


@case
def a_kill_while_opening_changes_nothing(backend: Backend) -> None:
    """A process is killed while it opens or closes the store: every value is there, and each epoch that any process
    claimed is greater than those before."""
    backend.must_survive()
    records, killer = [(A, Random(8).randbytes(50_000)), (B, b"b")], Killer()
    with backend.opened() as (store, claims):
        put(store, 1, *records)
        epoch = claims.epoch
    for random in kills(backend.seed, KILLS // 2, SECONDS / 2):
        reports = killer.kill(backend, "reopen", random, 9)
        with backend.opened() as (store, claims):
            epochs = [_numbers(report)[0] for report in reports if report.startswith("opened")]
            for claimed in (*epochs, claims.epoch):
                expect(claimed > epoch, f"epoch {claimed} was claimed after {epoch}")
                epoch = claimed
            expect_same("last_commit and last_seq", (1, 1), claims[1:3])
            expect_same("the records", records, listed(store, "app"))


def _numbers(report: str) -> list[int]:
    return [int(number) for number in report.split()[1:]]


CASES = (
    what_was_reported_survives_a_kill,
    a_kill_spares_the_snapshot_before,
    a_kill_while_opening_changes_nothing,
)
