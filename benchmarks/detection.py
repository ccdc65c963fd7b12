"""How soon is each fault of a worker reported, how often is a busy one accused wrongly, and what does looking cost?

faults   each is brought about in a worker of its own, at a random moment between two looks; the clock runs until
         `on_transition` tells of the state that it is to be taken for. "Within" is what the policy's figures promise
busy     commits and snapshots on a disk whose syncs take 0-900 ms at random, beside processes that use up every core:
         no restart, and no state that accuses the worker
vitals   CPU time of the supervisor's thread beside an idle worker, with looks at the default interval and without
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.progress import track
from rich.table import Table

from bgsuper import Key, Limits, RestartPolicy, Supervisor
from bgsuper.faults.plan import Plan
from bgsuper.health import Transition, WorkerState
from bgsuper.key import NETWORK_GRAPH
from bgsuper.torture.power.frozen import mounted
from bgsuper.torture.power.loopmount import NoDisk

from .harness import Claim, Figures, Report, at_most, in_fresh_host, parser, scratch
from .machine import facts
from .worker_faults import CASES, DEFAULT, HASTY, PATIENCE_S, stage

MODULE: Final = "benchmarks.detection"
#: What the machine may add to what the policy promises.
SLACK_S: Final = 0.5

# -- faults -----------------------------------------------------------------------------------------------------------


def measure_fault(directory: Path, number: int, quick: bool) -> Figures:
    """Seconds from the fault to its report, and the report's own words."""
    case = CASES[number]
    policy, limits = (HASTY, Limits(lagging_s=0.5)) if quick else (DEFAULT, Limits())
    reported: list[tuple[float, Transition]] = []
    done = threading.Event()

    def note(transition: Transition) -> None:
        reported.append((time.perf_counter(), transition))
        if transition.state is case.state:
            done.set()

    logging.disable()  # the report says it all
    with stage(case, directory, policy, limits) as scene:
        time.sleep(policy.vitals_interval_s * (2 + random.random()))
        scene.supervisor.on_transition(note)
        began = time.perf_counter()
        case.inject(scene)
        done.wait(PATIENCE_S)
    at, found = next(((at, told) for at, told in reported if told.state is case.state), (None, None))
    return {
        "fault": case.name,
        "seconds": None if at is None else at - began,
        "within": case.within(policy, limits) + SLACK_S,
        "state": case.state.value,
        "evidence": "" if found is None else found.evidence,
    }


# -- a busy worker ----------------------------------------------------------------------------------------------------

SYNC_S: Final = 0.9
STREAM_S: Final = 1 / 200
SNAPSHOT_BYTES: Final = 8 * 2**20
HOG: Final = "while True: pass"
#: States that accuse the worker of what it did not do.
ACCUSED: Final = (
    WorkerState.HUNG,
    WorkerState.BLOATED,
    WorkerState.STOPPED,
    WorkerState.DISK_STALLED,
    WorkerState.DISK_FULL,
    WorkerState.RETRYING,
    WorkerState.DYING,
    WorkerState.WEDGED,
    WorkerState.EXITED,
    WorkerState.FAILED,
)


def measure_busy(directory: Path, seconds: float) -> Figures:
    """What a slow disk and a lack of CPU time are taken for: transitions by state, and restarts."""
    dice, entered = random.Random(1), Counter[str]()
    filling = dice.randbytes(SNAPSHOT_BYTES)
    with ExitStack() as stack:
        plan = stack.enter_context(Plan.create(directory / "plan"))
        for _ in range(2 * (os.cpu_count() or 1)):
            hog = stack.enter_context(subprocess.Popen([sys.executable, "-I", "-S", "-c", HOG]))
            stack.callback(hog.kill)
        supervisor = stack.enter_context(Supervisor(f"sqlite://{directory}/store?faults={directory}/plan"))
        stack.callback(setattr, plan, "sync_delay_ns", 0)
        supervisor.on_transition(lambda transition: entered.update([transition.state.value]))
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            plan.sync_delay_s = dice.uniform(0, SYNC_S)
            supervisor.commit({Key("app", "", str(number % 1000)): number.to_bytes(8) + filling[:1016]})
            if number % 1000 == 999:
                supervisor.snapshot(NETWORK_GRAPH, [filling])
            number += 1
            time.sleep(STREAM_S)
        health = supervisor.health()
        return {
            "seconds": seconds,
            "syncs": plan.syncs + plan.snapshot_syncs,
            "commits": health.durable,
            "oldest_unacked_s": health.oldest_unacked_s,
            "restarts": health.restarts,
            "entered": dict(entered),
            "accusations": sum(entered[state.value] for state in ACCUSED),
        }


# -- the cost of looking ----------------------------------------------------------------------------------------------

#: No look ever comes.
NEVER_S: Final = 1e9


def measure_vitals(directory: Path, seconds: float, looking: bool) -> Figures:
    """CPU seconds of the supervisor's thread beside an idle worker, for each second."""
    policy = RestartPolicy() if looking else RestartPolicy(vitals_interval_s=NEVER_S)
    with Supervisor(f"sqlite://{directory}/store", restart=policy) as supervisor:
        supervisor.wait(supervisor.commit({Key("app", "", "k"): b"value"}), PATIENCE_S)
        time.sleep(min(2.0, seconds))
        (thread,) = [thread.native_id for thread in threading.enumerate() if thread.name == "bgsuper-supervisor"]
        before = _cpu_s(thread)
        time.sleep(seconds)
        return {"share": (_cpu_s(thread) - before) / seconds}


def _cpu_s(thread: int | None) -> float:
    """What a thread of ours has had of the CPU; the kernel counts it in nanoseconds here."""
    return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0]) / 1e9


MEASURES: Final[dict[str, Callable[..., Figures]]] = {
    "fault": measure_fault,
    "busy": measure_busy,
    "vitals": measure_vitals,
}


def measure(directory: Path, what: str, **settings: object) -> Figures:
    """One cell, in this process."""
    with scratch(directory) as path:
        return MEASURES[what](path, **settings)


# -- what is promised and shown ---------------------------------------------------------------------------------------


def judge(faults: dict[str, list[Figures]], busy: Figures, cost: float) -> list[Claim]:
    missed = sum(run["seconds"] is None for runs in faults.values() for run in runs)
    late = sum(run["seconds"] is None or run["seconds"] > run["within"] for runs in faults.values() for run in runs)
    return [
        at_most("faults never reported as what they are", missed, 0, "", "count"),
        at_most("faults reported later than the policy promises", late, 0, ""),
        at_most(f"restarts in {busy['seconds']:g} busy s without a fault", busy["restarts"], 0, "", "count"),
        at_most("states entered there that accuse the worker", busy["accusations"], 0, "", "count"),
        at_most("CPU share of the looks at the default interval", 100 * cost, 0.1, "% of a core"),
    ]


def faults_table(faults: dict[str, list[Figures]]) -> Table:
    made = Table(title="From the fault to its report (seconds)")
    for column in ("fault", "state", "p50", "max", "within", "evidence"):
        made.add_column(column, justify="right" if column in ("p50", "max", "within") else "left")
    for name, runs in faults.items():
        taken = [run["seconds"] for run in runs if run["seconds"] is not None]
        row = (
            [f"{statistics.median(taken):.3f}", f"{max(taken):.3f}"] if len(taken) == len(runs) else ["[red]never"] * 2
        )
        made.add_row(name, runs[0]["state"], *row, f"{runs[0]['within']:.1f}", runs[0]["evidence"])
    return made


def busy_table(busy: Figures) -> Table:
    made = Table(title=f"{busy['seconds']:g} s on a disk whose syncs take 0-{SYNC_S * 1e3:g} ms, all cores in use")
    for column in ("commits", "syncs", "restarts", "accusations", "states entered"):
        made.add_column(column, justify="right")
    entered = ", ".join(f"{state} {count}" for state, count in busy["entered"].items()) or "none"
    made.add_row(*(f"{busy[name]:,}" for name in ("commits", "syncs", "restarts", "accusations")), entered)
    return made


def cost_table(shares: dict[bool, list[float]]) -> Table:
    made = Table(title="CPU of the supervisor's thread beside an idle worker (% of a core, medians)")
    for column in ("with a look a second", "without", "a look costs, us"):
        made.add_column(column, justify="right")
    on, off = (statistics.median(shares[looking]) for looking in (True, False))
    made.add_row(f"{100 * on:.4f}", f"{100 * off:.4f}", f"{(on - off) * RestartPolicy().vitals_interval_s * 1e6:.0f}")
    return made


def draw(faults: dict[str, list[Figures]], path: Path) -> None:
    """A dot a fault, and a line up to what the policy promises."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axis = pyplot.subplots(figsize=(7.5, 0.4 * len(faults) + 1))
    labels = []
    for row, (name, runs) in enumerate(faults.items()):
        labels.append(f"{name}: {runs[0]['state']}")
        axis.plot([1e-3, runs[0]["within"]], [row, row], color="#d9d9d9", linewidth=6, solid_capstyle="butt", zorder=1)
        taken = [run["seconds"] for run in runs if run["seconds"] is not None]
        axis.plot(taken, [row] * len(taken), "o", color="#1b7837", markersize=5)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set(xscale="log", xlim=(1e-3, 100), xlabel="seconds from the fault to its report (grey: promised)")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(axis="x", alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def can_freeze(directory: Path) -> bool:
    try:
        with scratch(directory) as path, mounted(path):
            return True
    except NoDisk as reason:
        print(f"detection: without the frozen disk: {reason}", file=sys.stderr)
        return False


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3, help="how often each fault is brought about")
    options.add_argument("--busy-seconds", type=float, default=600.0, help="how long the busy run takes")
    options.add_argument("--idle-seconds", type=float, default=60.0, help="how long an idle worker is watched")
    chosen = options.parse_args()
    if chosen.cell:
        print(json.dumps(measure(chosen.dir, **json.loads(chosen.cell))))
        return
    if chosen.quick:
        chosen.runs, chosen.busy_seconds, chosen.idle_seconds = 1, 3.0, 1.0
    machine = facts(chosen.dir)

    def cell(what: str, **settings: object) -> Figures:
        timeout = 3 * PATIENCE_S + 2 * max(chosen.busy_seconds, chosen.idle_seconds)
        return in_fresh_host(MODULE, {"what": what, **settings}, directory=chosen.dir, timeout=timeout)

    freezing = can_freeze(chosen.dir)
    numbers = [number for number, case in enumerate(CASES) if freezing or not case.frozen]
    faults: defaultdict[str, list[Figures]] = defaultdict(list)
    for number in track(numbers * chosen.runs, "faults", disable=not sys.stderr.isatty()):
        faults[CASES[number].name].append(cell("fault", number=number, quick=chosen.quick))
    shares: dict[bool, list[float]] = {True: [], False: []}
    for looking in track([True, False] * chosen.runs, "vitals", disable=not sys.stderr.isatty()):
        found = cell("vitals", seconds=chosen.idle_seconds, looking=looking)
        shares[looking].append(found["share"])
    busy = cell("busy", seconds=chosen.busy_seconds)
    cost = statistics.median(shares[True]) - statistics.median(shares[False])
    settings = {name: getattr(chosen, name) for name in ("runs", "busy_seconds", "idle_seconds", "quick")}
    figures = {"faults": dict(faults), "busy": busy, "vitals": {"with": shares[True], "without": shares[False]}}
    claims = judge(faults, busy, cost)
    report = Report("detection", (__doc__ or "").splitlines()[0], machine, settings, figures, claims)
    report.show(faults_table(faults), busy_table(busy), cost_table(shares))
    report.save(chosen.json)
    if chosen.plot:
        draw(faults, chosen.plot)


if __name__ == "__main__":
    main()
