"""The gate inside the processor: nothing leaves the node before its cause is durable."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bgsuper.key import MANAGER, Key
from bgsuper.processor.clock import suspended
from bgsuper.processor.turns import RELEASES, Turns

from .fake_store import FakeStore
from .stand_ins import Manager, Message, RecordManager, Setup

A, B, C = (Key("channels", "", name) for name in "abc")
ALICE, BOB = "alice's session", "bob's session"


def record_setup(store: FakeStore | None = None) -> tuple[Setup, RecordManager, FakeStore, Turns]:
    manager = RecordManager()
    setup = Setup(manager=manager, store=store, asleep=suspended, gossip=False)
    return setup, manager, setup.store, setup.turns()


def test_an_output_waits_for_its_commit() -> None:
    """Held at the number of the commit that its turn made; released by that ack, in order."""
    _, manager, store, turns = record_setup()
    manager.put(A, b"1", Message("commitment_signed", ALICE, (A,)), Message("revoke_and_ack", ALICE, (A,)))
    turns.turn()
    turns.turn()
    assert manager.released == []
    assert turns.gate_state == "holding"
    store.ack()
    turns.turn()
    assert manager.released == ["commitment_signed", "revoke_and_ack"]
    assert turns.gate_state == "open"


def test_one_turn_is_one_commit() -> None:
    """All that a turn changed goes together: puts and removes alike."""
    _, manager, store, turns = record_setup()
    manager.put(A, b"1")
    manager.put(B, b"2")
    manager.removes.add(C)
    turns.turn()
    turns.turn()
    [entry] = store.history
    assert (entry.puts, entry.removes, entry.lane) == ({A: b"1", B: b"2"}, (C,), "commit")


def test_a_stalls_end_does_not_make_a_long_turn() -> None:
    """What becomes durable all at once leaves in bounded portions, in order, with no rest between the turns."""
    _, manager, store, turns = record_setup()
    texts = [str(number) for number in range(5 * RELEASES)]
    for text in texts:
        manager.put(A, text.encode(), Message(text, ALICE, (A,)))
    turns.turn()
    store.ack()
    while len(before := list(manager.released)) < len(texts):
        turns.turn()
        assert 0 < len(manager.released) - len(before) <= 2 * RELEASES
        assert turns.rest_s() == 0.0 or manager.released == texts
    assert manager.released == texts
    assert turns.rest_s() > 0.0
    assert turns.gate_state == "open"


def test_a_failure_discards_what_had_not_left_yet() -> None:
    """Once the gate is shut nothing leaves, not even the rest of a portion."""
    _, manager, store, turns = record_setup()
    for number in range(5 * RELEASES):
        manager.put(A, b"1", Message(str(number), ALICE, (A,)))
    turns.turn()
    store.ack()
    turns.turn()
    left = list(manager.released)
    turns.fail(RuntimeError("test"))
    assert not turns.release()
    assert manager.released == left


def test_any_number_of_commits_may_be_under_way() -> None:
    """Each releases its own outputs."""
    _, manager, store, turns = record_setup()
    for number in (1, 2, 3):
        manager.put(A, b"%d" % number, Message(str(number), ALICE, (A,)))
        turns.turn()
    assert len(store.pending) == 3
    store.ack(2)
    turns.turn()
    assert manager.released == ["1", "2"]
    store.ack()
    turns.turn()
    assert manager.released == ["1", "2", "3"]


def test_a_turn_that_changes_nothing_inherits_the_tag_of_what_it_read() -> None:
    """Also a removed record counts as changed, and a removal alone is a commit; what is durable holds nothing up."""
    _, manager, store, turns = record_setup()
    manager.removes.add(A)
    turns.turn()
    assert [entry.removes for entry in store.history] == [(A,)]
    manager.outputs += [Message("of a", ALICE, (A,)), Message("of c", BOB, (C,)), Message("of none", None, ())]
    turns.turn()
    assert manager.released == ["of c", "of none"]
    store.ack()
    turns.turn()
    assert manager.released == ["of c", "of none", "of a"]


def test_an_output_whose_cause_comes_between_is_not_released_early() -> None:
    """Another thread changes a record between the two takes: its output must not pass with the older commit's tag, and
    so outputs are taken first."""
    _, manager, store, turns = record_setup()
    manager.put(A, b"1", Message("first", ALICE, (A,)))
    manager.between = lambda: manager.put(B, b"1", Message("second", BOB, (B,)))
    turns.turn()
    [entry] = store.history
    assert entry.puts == {A: b"1", B: b"1"}
    turns.turn()
    assert manager.released == []
    store.ack()
    turns.turn()
    assert manager.released == ["first", "second"]


def test_what_is_held_for_an_ended_connection_is_dropped() -> None:
    """Reestablish sends it again if it still matters."""
    _, manager, store, turns = record_setup()
    manager.put(A, b"1", Message("to alice", ALICE, (A,)), Message("to bob", BOB, (A,)))
    turns.turn()
    manager.disconnected.append(ALICE)
    turns.turn()
    store.ack()
    turns.turn()
    assert manager.released == ["to bob"]


def test_outputs_of_a_whole_manager_wait_for_its_snapshot() -> None:
    """The manager is one record, whatever an output says it was computed from."""

    class WholeWithOutbox(Manager):
        take_outputs = RecordManager.take_outputs
        take_disconnected = RecordManager.take_disconnected
        release = RecordManager.release
        between = None

        def __init__(self) -> None:
            super().__init__()
            self.outputs: list[Message] = []
            self.released: list[str] = []
            self.disconnected: list[object] = []
            self.lock = nullcontext()

    manager = WholeWithOutbox()
    setup = Setup(manager=manager, gossip=False)
    turns = setup.turns()
    manager.change()
    manager.outputs.append(Message("first", ALICE, (A,)))
    turns.turn()
    manager.change()
    manager.outputs.append(Message("second", ALICE, (A,)))
    turns.turn()
    assert manager.released == []
    setup.store.ack()
    turns.turn()
    assert manager.released == ["first"]
    setup.store.ack()
    turns.turn()
    assert manager.released == ["first", "second"]
    assert setup.store.durable == {MANAGER: b"manager 2"}


def test_while_the_store_is_behind_outputs_stay_in_the_outbox() -> None:
    """Their causes are not committed yet, so they have no tag."""
    _, manager, store, turns = record_setup()
    store.writable = False
    manager.put(A, b"1", Message("to alice", ALICE, (A,)))
    turns.turn()
    assert manager.released == []
    assert [message.text for message in manager.outputs] == ["to alice"]
    store.writable = True
    turns.turn()
    store.ack()
    turns.turn()
    assert manager.released == ["to alice"]


def test_stall() -> None:
    """Rule 10: un-acknowledged for over 20 s: no new HTLCs; over 45 s: peers with held messages are left; an ack ends
    both."""
    setup, manager, store, turns = record_setup()
    manager.put(A, b"1", Message("to alice", ALICE, (A,)), Message("broadcast", None, (A,)))
    turns.turn()
    manager.outputs.append(Message("to bob", BOB, (C,)))
    setup.clock.now += 20.0
    turns.turn()
    assert manager.admitting
    setup.clock.now += 0.1
    turns.turn()
    assert not manager.admitting
    setup.clock.now += 24.9
    turns.turn()
    assert setup.peers.disconnects == []
    setup.clock.now += 0.1
    turns.turn()
    turns.turn()
    assert setup.peers.disconnects == [ALICE]
    store.ack()
    turns.turn()
    assert manager.admitting
    assert manager.released == ["to bob", "broadcast"]


def test_failure_discards_what_is_held() -> None:
    """Rule 11: the gate is shut, the peers are disconnected, nothing new is taken on, and no late ack releases
    anything."""
    setup, manager, store, turns = record_setup()
    manager.put(A, b"1", Message("to alice", ALICE, (A,)))
    turns.turn()
    store.fail(lambda: PermissionError(13, "test"))
    with pytest.raises(PermissionError) as caught:
        turns.turn()
    turns.fail(caught.value)
    assert turns.gate_state == "shut"
    assert not manager.admitting
    assert setup.calls[-1] == "disconnect all"
    store.ack()
    turns.release()
    assert manager.released == []


class NodeMachine(RuleBasedStateMachine):
    """Whatever the order of changes, turns, acks, back-pressure and disconnections: an output leaves only when the
    version of each record it was computed from is durable, and everything leaves or was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.setup, self.manager, self.store, self.turns = record_setup()
        self.versions: dict[Key, int] = {}
        self.count = 0
        self.causes: dict[str, dict[Key, int]] = {}
        self.to: dict[str, object] = {}
        self.checked = 0

    def _send(self, records: set[Key], connection: object) -> None:
        self.count += 1
        text = str(self.count)
        self.causes[text] = {record: self.versions.get(record, 0) for record in records}
        self.to[text] = connection
        self.manager.outputs.append(Message(text, connection, tuple(records)))

    @rule(
        changed=st.sets(st.sampled_from([A, B, C]), min_size=1),
        read=st.sets(st.sampled_from([A, B, C])),
        connection=st.sampled_from([None, ALICE, BOB]),
    )
    def change(self, changed: set[Key], read: set[Key], connection: object) -> None:
        for record in changed:
            self.versions[record] = self.versions.get(record, 0) + 1
            self.manager.put(record, b"%d" % self.versions[record])
        self._send(changed | read, connection)

    @rule(read=st.sets(st.sampled_from([A, B, C])), connection=st.sampled_from([None, ALICE, BOB]))
    def answer(self, read: set[Key], connection: object) -> None:
        self._send(read, connection)

    @rule(during=st.booleans())
    def turn(self, during: bool) -> None:
        if during:
            self.manager.between = lambda: self.change({B}, {A}, ALICE)
        self.turns.turn()

    @rule(fraction=st.floats(0, 1))
    def ack(self, fraction: float) -> None:
        self.store.ack(round(self.store.submitted * fraction))

    @rule(writable=st.booleans())
    def pressure(self, writable: bool) -> None:
        self.store.become_writable(writable)

    @invariant()
    def nothing_left_before_its_cause(self) -> None:
        for text in self.manager.released[self.checked :]:
            for record, version in self.causes[text].items():
                assert int(self.store.durable.get(record, b"0")) >= version, f"{text} left before {record} was durable"
        self.checked = len(self.manager.released)

    @invariant()
    def each_connection_is_a_stream(self) -> None:
        for connection in (ALICE, BOB):
            numbers = [int(text) for text in self.manager.released if self.to[text] == connection]
            assert numbers == sorted(set(numbers))

    def teardown(self) -> None:
        self.store.writable = True
        self.turns.turn()
        self.store.ack()
        self.turns.turn()
        assert sorted(map(int, self.manager.released)) == list(range(1, self.count + 1)), "lost, or left twice"
        assert {record: int(value) for record, value in self.store.durable.items()} == self.versions


TestNodeMachine = NodeMachine.TestCase
TestNodeMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
