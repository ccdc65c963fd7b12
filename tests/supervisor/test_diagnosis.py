"""What a row of looks proves about a living worker, and what it does not. No process, no sleep."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgsuper.supervisor.diagnosis import GAP_INTERVALS, LOOKS, Diagnosis, Doctor, Finding
from bgsuper.supervisor.policy import RestartPolicy
from bgsuper.supervisor.vitals import Vitals

POLICY = RestartPolicy(hung_s=10.0, rss_soft_bytes=1000, rss_hard_bytes=3000)
#: So many looks from the first one on make `hung_s` go by.
HUNG_LOOKS = 11


class Ward:
    """A doctor, and a clock that moves by one interval from look to look."""

    def __init__(self, policy: RestartPolicy = POLICY) -> None:
        self.doctor = Doctor(policy, 1000.0)
        self.now = 1000.0

    def look(
        self, status: str = "sleeping", *, work_waits: bool = True, after: float = 1.0, **figures: object
    ) -> Diagnosis | None:
        self.now += after
        return self.doctor.look(Vitals(status, **figures), self.now, work_waits=work_waits)  # type: ignore[arg-type]

    def finds(self, status: str = "sleeping", **figures: object) -> Finding:
        diagnosis = self.look(status, **figures)  # type: ignore[arg-type]
        assert diagnosis is not None
        assert diagnosis.evidence  # nothing is said without it
        return diagnosis.finding

    def still(self, count: int, status: str = "sleeping", **figures: object) -> list[Finding]:
        """As many looks at which nothing has moved."""
        return [self.finds(status, **{"switches": 7, "write_bytes": 4096, **figures}) for _ in range(count)]


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_a_stall_is_believed_at_the_third_look_and_not_before() -> None:
    """One look in disk-sleep proves nothing: every sync is one."""
    assert Ward().still(LOOKS + 1, "disk-sleep") == [Finding.FINE, Finding.FINE, Finding.STALLED, Finding.STALLED]


def test_a_single_look_in_disk_sleep_between_others_proves_nothing() -> None:
    """The row must be unbroken."""
    ward = Ward()
    for _ in range(5):
        assert ward.still(LOOKS - 1, "disk-sleep") == [Finding.FINE] * (LOOKS - 1)
        assert ward.still(1) == [Finding.FINE]


@pytest.mark.parametrize("moves", ["switches", "write_bytes"])
def test_a_slow_disk_that_answers_is_no_stall(moves: str) -> None:
    """Between two looks the worker was scheduled, or something was written: it merely waits often."""
    ward = Ward()
    for number in range(20):
        assert ward.still(1, "disk-sleep", **{moves: number}) == [Finding.FINE]
    assert ward.still(LOOKS - 2, "disk-sleep") == [Finding.FINE]


def test_the_snapshot_threads_own_state_counts() -> None:
    """psutil's status is that of the main thread alone, which sleeps while its snapshot thread is stuck."""
    ward = Ward()
    assert ward.still(LOOKS, "sleeping", lane_status="disk-sleep")[-1] is Finding.STALLED
    diagnosis = ward.look("sleeping", switches=7, write_bytes=4096, lane_status="disk-sleep")
    assert diagnosis is not None
    assert "its snapshot thread" in diagnosis.evidence
    assert Ward().still(2 * LOOKS, "sleeping", lane_status="sleeping") == [Finding.FINE] * 2 * LOOKS


def test_the_evidence_of_a_stall_names_who_how_often_and_in_which_phase() -> None:
    """An operator reads it."""
    ward = Ward()
    ward.doctor.heartbeat("transaction", 1, ward.now)
    ward.still(LOOKS - 1, "disk-sleep")
    diagnosis = ward.look("disk-sleep", switches=7, write_bytes=4096)
    assert diagnosis is not None
    for words in ("disk-sleep", "its writer", f"{LOOKS} looks", "'transaction'"):
        assert words in diagnosis.evidence


def test_figures_that_the_platform_denies_are_no_evidence_of_a_stall() -> None:
    """That two unknown figures are alike does not say that nothing moved."""
    ward = Ward()
    assert [ward.finds("disk-sleep") for _ in range(3 * LOOKS)] == [Finding.FINE] * 3 * LOOKS


# -- hung -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["sleeping", "running", "idle", "parked", "waking"])
def test_nothing_done_for_long_while_work_waits_is_hung(status: str) -> None:
    """Whether it sleeps or runs; from `hung_s` on, not a look earlier."""
    assert Ward().still(HUNG_LOOKS, status) == [Finding.FINE] * (HUNG_LOOKS - 1) + [Finding.HUNG]


def test_an_idle_worker_never_hangs() -> None:
    """It has nothing to do; and once it has, it gets the whole time."""
    ward = Ward()
    for _ in range(1000):
        assert ward.look(work_waits=False) == (Finding.FINE, "psutil says sleeping")
    assert ward.still(HUNG_LOOKS)[-2:] == [Finding.FINE, Finding.HUNG]


@pytest.mark.parametrize("where", ["status", "lane_status"])
def test_in_disk_sleep_it_is_never_hung(where: str) -> None:
    """However long, even if the third look is never reached; afterwards it has the whole time again."""
    ward = Ward()
    figures = {"lane_status": "disk-sleep"} if where == "lane_status" else {}
    for number in range(1000):
        status = "disk-sleep" if where == "status" else "sleeping"
        assert ward.still(1, status, switches=number, **figures) == [Finding.FINE]
    assert ward.still(HUNG_LOOKS - 2) == [Finding.FINE] * (HUNG_LOOKS - 2)
    assert ward.still(1) == [Finding.HUNG]


def test_whoever_writes_is_never_hung() -> None:
    """A slow disk is no hang, though no acknowledgement came for an hour."""
    ward = Ward()
    for number in range(3600):
        assert ward.still(1, write_bytes=number) == [Finding.FINE]


def test_switches_alone_are_no_progress() -> None:
    """Someone who polls for ever is scheduled all the time."""
    ward = Ward()
    assert [ward.still(1, switches=number)[0] for number in range(HUNG_LOOKS)][-1] is Finding.HUNG


def test_any_word_of_progress_starts_the_time_anew() -> None:
    """An ack, a RETRYING (`got_on`), and a heartbeat that tells of work done."""
    for word in ("got_on", "heartbeat"):
        ward = Ward()
        for number in range(20):
            assert Finding.HUNG not in ward.still(HUNG_LOOKS - 3)
            if word == "got_on":
                ward.doctor.got_on(ward.now)
            else:
                assert ward.doctor.heartbeat("transaction", number + 1, ward.now)
        assert ward.still(HUNG_LOOKS)[-1] is Finding.HUNG


def test_a_lively_heartbeat_without_progress_is_hung_all_the_same() -> None:
    """A deadlocked writer may have a lively reader: that a heartbeat comes says nothing of what is done."""
    ward = Ward()
    assert ward.doctor.heartbeat("transaction", 5, ward.now)
    findings = []
    for _ in range(HUNG_LOOKS):
        findings += ward.still(1)
        assert not ward.doctor.heartbeat("transaction", 5, ward.now)
    assert findings[-1] is Finding.HUNG


@pytest.mark.parametrize(("cpu_a_look", "says"), [(0.9, "it spins"), (0.01, "it waits for something")])
def test_the_evidence_tells_spinning_from_waiting(cpu_a_look: float, says: str) -> None:
    """By its CPU time since it last got on: an endless loop or a deadlock, an operator wants to know which."""
    ward = Ward()
    ward.doctor.heartbeat("snapshot", 1, ward.now)
    for number in range(HUNG_LOOKS - 1):
        ward.still(1, cpu_s=100.0 + number * cpu_a_look)
    diagnosis = ward.look(switches=7, write_bytes=4096, cpu_s=100.0 + (HUNG_LOOKS - 1) * cpu_a_look)
    assert diagnosis is not None
    assert diagnosis.finding is Finding.HUNG
    for words in (says, "'snapshot'", "psutil says sleeping", "10.0 s"):
        assert words in diagnosis.evidence


def test_cpu_used_before_it_last_got_on_does_not_count() -> None:
    """An hour of honest work does not make a deadlock a spin."""
    ward = Ward()
    for number in range(100):
        ward.still(1, cpu_s=float(number))
        ward.doctor.got_on(ward.now)
    for _ in range(HUNG_LOOKS - 1):
        diagnosis = ward.look(switches=7, write_bytes=4096, cpu_s=100.0)
    assert diagnosis is not None
    assert diagnosis.finding is Finding.HUNG
    assert "waits for something" in diagnosis.evidence


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_spike_of_memory_is_ignored_and_a_row_is_not() -> None:
    """One look over the soft limit is a large snapshot that passes through."""
    ward = Ward()
    for _ in range(5):
        assert ward.still(LOOKS - 1, rss_bytes=1001) == [Finding.FINE] * (LOOKS - 1)
        assert ward.still(1, rss_bytes=1000) == [Finding.FINE]
        ward.doctor.got_on(ward.now)
    assert ward.still(LOOKS, rss_bytes=1001)[-1] is Finding.OVER_SOFT


def test_the_hard_limit_holds_at_once() -> None:
    """There is no time to look again: the machine would swap. Exactly at the limit it is still kept."""
    assert Ward().finds(rss_bytes=3001) is Finding.OVER_HARD
    assert Ward().finds(rss_bytes=3000) is Finding.FINE


# -- stopped ----------------------------------------------------------------------------------------------------------


def test_a_stop_and_a_debugger_are_told_at_the_first_look() -> None:
    """They are the kernel's word, not a guess; whatever else is wrong with it."""
    for status, finding in (("stopped", Finding.STOPPED), ("tracing-stop", Finding.TRACED)):
        assert Ward().finds(status, rss_bytes=10**9) is finding


def test_time_in_a_stop_is_not_time_hung() -> None:
    """Continued after an hour, it has the whole time to show what it can do."""
    for status in ("stopped", "tracing-stop"):
        ward = Ward()
        ward.still(3600, status)
        assert ward.still(HUNG_LOOKS - 2) == [Finding.FINE] * (HUNG_LOOKS - 2)
        assert ward.still(1) == [Finding.HUNG]


# -- looks that came late ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [60.0, 3600.0, GAP_INTERVALS + 0.001])
def test_late_looks_begin_anew(gap: float) -> None:
    """Host and worker were suspended, or we starved: what was seen before the gap proves nothing after it."""
    ward = Ward()
    ward.still(HUNG_LOOKS - 1)
    assert ward.still(1, after=gap) == [Finding.FINE]
    assert ward.still(HUNG_LOOKS - 2) == [Finding.FINE] * (HUNG_LOOKS - 2)
    assert ward.still(1) == [Finding.HUNG]

    ward = Ward()
    ward.still(LOOKS - 1, "disk-sleep", rss_bytes=1001)
    assert ward.look("disk-sleep", rss_bytes=1001, after=gap) is None  # it proves no stall, and no thaw
    assert ward.still(LOOKS - 1, "disk-sleep", rss_bytes=1001) == [Finding.FINE] * (LOOKS - 1)
    assert ward.still(1, "disk-sleep", rss_bytes=1001)[-1] is Finding.STALLED


def test_where_writes_cannot_be_seen_one_that_says_it_writes_is_believed() -> None:
    """macOS tells no write_bytes: a slow disk must not pass for a hang there. In any other phase it still can hang."""
    for phase, hangs in (("transaction", False), ("snapshot", False), ("checkpoint", False), ("idle", True)):
        ward = Ward()
        ward.doctor.heartbeat(phase, 1, ward.now)
        findings = [ward.finds() for _ in range(5 * HUNG_LOOKS)]
        assert (Finding.HUNG in findings) is hangs
        assert set(findings) <= {Finding.FINE, Finding.HUNG}


def test_a_look_that_is_a_little_late_is_a_look() -> None:
    """A busy host is not a suspended one: up to two intervals count."""
    ward = Ward()
    ward.still(1)
    findings = [ward.still(1, "disk-sleep", after=float(GAP_INTERVALS))[0] for _ in range(LOOKS)]
    assert findings[-1] is Finding.STALLED


# -- what says nothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["zombie", "gone", "unknown"])
def test_of_the_dead_and_the_unknown_nothing_is_said(status: str) -> None:
    """Death is the pidfd's to tell."""
    ward = Ward()
    for _ in range(100):
        assert ward.look(status) is None
    ward.still(LOOKS - 1, "disk-sleep")
    assert ward.look(status) is None
    assert ward.still(1, "disk-sleep") == [Finding.FINE]


def test_a_worker_of_which_nothing_is_known_but_that_it_sleeps() -> None:
    """macOS has no switches and no write_bytes to show: it can still hang, and nothing crashes."""
    ward = Ward()
    findings = [ward.finds() for _ in range(HUNG_LOOKS)]
    assert findings == [Finding.FINE] * (HUNG_LOOKS - 1) + [Finding.HUNG]
    diagnosis = ward.look()
    assert diagnosis is not None
    assert "CPU" not in diagnosis.evidence


def test_any_row_of_looks_gives_a_finding_with_evidence() -> None:
    """Total over statuses and missing figures, in any order of two."""
    statuses = ("sleeping", "running", "disk-sleep", "stopped", "tracing-stop", "zombie", "gone", "unknown", "?")
    for first, second, missing in product(statuses, statuses, ("rss_bytes", "cpu_s", "write_bytes", "switches", "all")):
        figures: dict[str, object] = {"rss_bytes": 1, "cpu_s": 1.0, "write_bytes": 1, "switches": 1}
        ward = Ward()
        ward.look(first, **figures)  # type: ignore[arg-type]
        for name in figures:
            if missing in (name, "all"):
                figures[name] = None
        diagnosis = ward.look(second, **figures)  # type: ignore[arg-type]
        assert diagnosis is None or diagnosis.evidence


FIGURES = st.none() | st.integers(0, 5)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sleeping", "running", "disk-sleep", "stopped", "unknown"]),
            st.sampled_from([0.9, 1.0, 1.5, 2.0, 2.1, 60.0]),
            st.booleans(),
            st.sampled_from(["", "ack", "beat"]),
            FIGURES,
            FIGURES,
        ),
        max_size=40,
    )
)
def test_it_is_never_hung_before_its_time(
    looks: list[tuple[str, float, bool, str, int | None, int | None]],
) -> None:
    """Whatever comes: HUNG needs `hung_s` in which work waited at each look, none was late, none saw disk-sleep, a
    stop or a write, and no word of progress came; STALLED needs `LOOKS` looks in disk-sleep in a row."""
    ward = Ward()
    free = asleep = 0.0
    before: tuple[int | None, int | None] | None = None
    for number, (status, after, work_waits, word, switches, write_bytes) in enumerate(looks):
        diagnosis = ward.look(status, after=after, work_waits=work_waits, switches=switches, write_bytes=write_bytes)
        seen, written = (switches, write_bytes), before is not None and before[1] != write_bytes
        late = after > GAP_INTERVALS or before is None
        free = 0.0 if late or written or not work_waits or status in ("disk-sleep", "stopped") else free + after
        asleep = asleep + 1 if status == "disk-sleep" else 0
        if diagnosis is not None and diagnosis.finding is Finding.HUNG:
            assert free >= POLICY.hung_s - 1e-6
        if diagnosis is not None and diagnosis.finding is Finding.STALLED:
            assert asleep >= LOOKS
            assert not late
            assert seen == before
        before = seen
        if word == "ack":
            ward.doctor.got_on(ward.now)
            free = asleep = 0.0
        elif word == "beat" and ward.doctor.heartbeat("transaction", number // 2 + 1, ward.now):
            free = asleep = 0.0
