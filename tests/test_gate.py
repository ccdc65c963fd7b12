"""The gate against a naive model, and its rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgsuper.errors import ConfigError, GateShut
from bgsuper.gate import Gate, Stall, stall
from bgsuper.key import Key, Seq

KEYS = [Key("channels", "", name) for name in ("a", "b", "c")]
SESSIONS = ["alice", "bob", ("carol", 2), 4, None]


class NaiveGate:
    """The rules word by word: one list, searched from its start each time."""

    def __init__(self) -> None:
        self.durable = 0
        self.held: list[tuple[int, int, object]] = []  # output, after, connection
        self.commits: list[tuple[int, float, set[Key]]] = []

    def tag(self, records: set[Key]) -> int:
        return max((seq for seq, _, changed in self.commits if changed & records and seq > self.durable), default=0)

    def acked(self, seq: int) -> list[int]:
        self.durable = max(self.durable, seq)
        released, kept, waiting = [], [], set()
        for output, after, connection in self.held:
            if after > self.durable or connection in waiting:
                kept.append((output, after, connection))
                if connection is not None:
                    waiting.add(connection)
            else:
                released.append(output)
        self.held = kept
        return released


class GateMachine(RuleBasedStateMachine):
    """A loop that commits, holds, hears of acks, loses connections and at last its store."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: Gate[int] = Gate()
        self.model = NaiveGate()
        self.submitted = 0
        self.outputs = 0
        self.causes: dict[int, int] = {}
        self.gone: set[int] = set()  # released, dropped or discarded: never to be seen again
        self.now = 0.0
        self.shut = False

    @rule(records=st.sets(st.sampled_from(KEYS), max_size=3), seconds=st.integers(0, 30))
    def commit(self, records: set[Key], seconds: int) -> None:
        self.now += seconds
        self.submitted += 1
        self.gate.committed(records, Seq(self.submitted), now=self.now)
        self.model.commits.append((self.submitted, self.now, records))

    @precondition(lambda self: not self.shut)
    @rule(records=st.sets(st.sampled_from(KEYS), max_size=2), connection=st.sampled_from(SESSIONS))
    def hold(self, records: set[Key], connection: object) -> None:
        after = self.gate.tag(records)
        assert after == self.model.tag(records)
        self._hold(after, connection)

    @precondition(lambda self: not self.shut)
    @rule(back=st.integers(0, 3), connection=st.sampled_from(SESSIONS))
    def hold_by_number(self, back: int, connection: object) -> None:
        self._hold(Seq(max(0, self.submitted - back)), connection)

    def _hold(self, after: Seq, connection: object) -> None:
        self.outputs += 1
        self.gate.hold(self.outputs, after=after, connection=connection, now=self.now)
        self.model.held.append((self.outputs, after, connection))
        self.causes[self.outputs] = after

    @rule(fraction=st.floats(0, 1))
    def ack(self, fraction: float) -> None:
        seq = Seq(round(self.submitted * fraction))
        released = self.gate.acked(seq)
        assert released == self.model.acked(seq)
        assert all(self.causes[output] <= self.model.durable for output in released), "left before its cause"
        assert not self.gone.intersection(released), "left twice, or after it was dropped"
        self.gone.update(released)

    @rule(connection=st.sampled_from(SESSIONS))
    def drop(self, connection: object) -> None:
        lost = [entry for entry in self.model.held if entry[2] == connection and connection is not None]
        assert self.gate.drop(connection) == len(lost)
        self.model.held = [entry for entry in self.model.held if entry not in lost]
        self.gone.update(entry[0] for entry in lost)

    @precondition(lambda self: self.outputs > 8)
    @rule()
    def shut_down(self) -> None:
        self.gate.shut(OSError("the disk is gone"))
        self.gone.update(entry[0] for entry in self.model.held)
        self.model.held = []
        self.shut = True

    @precondition(lambda self: self.shut)
    @rule()
    def hold_after_the_end(self) -> None:
        with pytest.raises(GateShut):
            self.gate.hold(0, after=Seq(0))

    @invariant()
    def agrees(self) -> None:
        state = "shut" if self.shut else "holding" if self.model.held else "open"
        assert self.gate.state == state
        assert set(self.gate.connections()) == {c for _, _, c in self.model.held if c is not None}
        unacked = [since for seq, since, _ in self.model.commits if seq > self.model.durable]
        assert self.gate.unacked_s(self.now) == (self.now - unacked[0] if unacked else None)

    @invariant()
    def remembers_only_what_is_unacked(self) -> None:
        unacked = [entry for entry in self.model.commits if entry[0] > self.model.durable]
        assert set(self.gate._newest) == set().union(*(records for _, _, records in unacked))
        assert {entry.seq for entry in self.gate._unacked} == {entry[0] for entry in unacked}

    def teardown(self) -> None:
        rest = self.gate.acked(Seq(self.submitted))
        assert rest == [entry[0] for entry in self.model.held], "lost"
        self.gone.update(rest)
        assert self.gone == set(range(1, self.outputs + 1)), "an output neither left nor was dropped"
        assert self.gate.connections() == []


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_nothing_leaves_before_its_cause() -> None:
    """Rule 2 of the design: an output waits for the commit that it names, to the number."""
    gate: Gate[str] = Gate()
    gate.hold("revoke_and_ack", after=Seq(7), connection="alice")
    assert gate.acked(Seq(6)) == []
    assert gate.state == "holding"
    assert gate.acked(Seq(7)) == ["revoke_and_ack"]
    assert gate.acked(Seq(7)) == []
    assert gate.state == "open"


def test_an_output_whose_cause_is_durable_leaves_at_the_next_call() -> None:
    """There is one way out, and it needs no new ack."""
    gate: Gate[str] = Gate(Seq(5))
    gate.hold("pong", after=Seq(0), connection="alice")
    gate.hold("event", after=Seq(5))
    assert gate.acked(Seq(0)) == ["pong", "event"]


def test_a_lower_tag_never_overtakes_on_its_connection() -> None:
    """BOLT 8 is a stream: what was said first leaves first."""
    gate: Gate[str] = Gate()
    gate.hold("commitment_signed", after=Seq(9), connection="alice")
    gate.hold("update_fee", after=Seq(3), connection="alice")
    gate.hold("to bob", after=Seq(3), connection="bob")
    assert gate.acked(Seq(3)) == ["to bob"]
    assert gate.acked(Seq(9)) == ["commitment_signed", "update_fee"]


def test_outputs_without_a_connection_do_not_wait_for_each_other() -> None:
    """A broadcast whose time has come is not delayed by another, and the order among the ready is that of hold()."""
    gate: Gate[str] = Gate()
    gate.hold("late", after=Seq(9))
    gate.hold("second", after=Seq(2))
    gate.hold("third", after=Seq(1))
    assert gate.acked(Seq(2)) == ["second", "third"]
    assert gate.acked(Seq(9)) == ["late"]


def test_a_turn_that_changes_nothing_inherits_the_tags_of_what_it_read() -> None:
    """The highest un-acked number among the records counts; what is durable counts as 0."""
    a, b, c = KEYS
    gate: Gate[str] = Gate()
    gate.committed([a, b], Seq(4))
    gate.committed([b], Seq(6))
    assert (gate.tag([a]), gate.tag([a, b]), gate.tag([c]), gate.tag([])) == (4, 6, 0, 0)
    gate.acked(Seq(5))
    assert (gate.tag([a]), gate.tag([b])) == (0, 6)
    gate.acked(Seq(6))
    assert gate.tag(KEYS) == 0


def test_commits_are_reported_in_order() -> None:
    """A number that goes back is the host's mistake and changes nothing; one that is durable needs no memory."""
    gate: Gate[str] = Gate(Seq(10))
    gate.committed(KEYS, Seq(10))
    assert gate.tag(KEYS) == 0
    gate.committed([KEYS[0]], Seq(12))
    with pytest.raises(ConfigError):
        gate.committed([KEYS[1]], Seq(11))
    assert gate.tag(KEYS) == 12
    assert gate.tag([KEYS[1]]) == 0


def test_what_is_dropped_stays_dropped() -> None:
    """A new session with the same peer starts empty."""
    gate: Gate[str] = Gate()
    gate.hold("old", after=Seq(5), connection="alice")
    gate.hold("to bob", after=Seq(5), connection="bob")
    assert gate.drop("alice") == 1
    assert gate.drop("alice") == 0
    gate.hold("new", after=Seq(6), connection="alice")
    assert gate.connections() == ["bob", "alice"]
    assert gate.acked(Seq(6)) == ["to bob", "new"]


def test_dropping_one_connection_disturbs_no_other() -> None:
    """Whatever the order in which the others wait, each leaves when its own time has come."""
    gate: Gate[str] = Gate()
    for connection, after in [("alice", 1), ("bob", 9), ("carol", 5)]:
        gate.hold(f"to {connection}", after=Seq(after), connection=connection)
    gate.drop("alice")
    assert gate.acked(Seq(5)) == ["to carol"]
    assert gate.acked(Seq(9)) == ["to bob"]


def test_shut_is_for_good() -> None:
    """Held outputs are discarded, nothing leaves any more, and each refusal names the first cause."""
    gate: Gate[str] = Gate()
    gate.hold("to alice", after=Seq(1), connection="alice")
    gate.hold("broadcast", after=Seq(1))
    failure = OSError("first")
    gate.shut(failure)
    gate.shut(OSError("second"))
    assert gate.state == "shut"
    assert gate.connections() == []
    assert gate.acked(Seq(1)) == []
    refusals = []
    for _ in range(2):
        with pytest.raises(GateShut) as caught:
            gate.hold("late", after=Seq(0))
        refusals.append(caught.value)
    assert refusals[0] is not refusals[1]
    assert [refusal.__cause__ for refusal in refusals] == [failure, failure]
    assert gate.acked(Seq(1)) == []


@pytest.mark.parametrize(
    ("unacked_s", "expected"),
    [
        (None, Stall.NONE),
        (0.0, Stall.NONE),
        (20.0, Stall.NONE),
        (20.001, Stall.REFUSE),
        (45.0, Stall.REFUSE),
        (45.001, Stall.DISCONNECT),
        (1e9, Stall.DISCONNECT),
    ],
)
def test_stall_by_the_unacked_age(unacked_s: float | None, expected: Stall) -> None:
    """Rule 10: over 20 s no new HTLCs or opens, over 45 s the waiting peers are disconnected."""
    assert stall(unacked_s) is expected


def test_the_unacked_age_is_that_of_the_oldest_commit_not_of_the_newest() -> None:
    """An ack moves it to the next one; what is only held by number counts from when it was held."""
    gate: Gate[str] = Gate()
    gate.committed(KEYS, Seq(1), now=100.0)
    gate.committed(KEYS, Seq(2), now=130.0)
    assert gate.stall(146.0) is Stall.DISCONNECT
    gate.acked(Seq(1))
    assert gate.stall(146.0) is Stall.NONE
    gate.acked(Seq(2))
    assert gate.unacked_s(999.0) is None
    gate.hold("by number", after=Seq(3), now=200.0)
    assert gate.unacked_s(221.0) == 21.0
