"""The planted bugs: each breaks one rule of the supervisor's, the worker's or the store's, in one place."""

from __future__ import annotations

from typing import Final

from .plant import Bug, Edit

_CORE = "bgsuper/supervisor/core.py"
_HEALTH = "tests/supervisor/test_core_health.py"
_POISON = "tests/supervisor/test_core_poison.py"
_TEST_CORE = "tests/supervisor/test_core.py"

BUGS: Final = (
    # -- evidence -----------------------------------------------------------------------------------------------------
    Bug(
        "no evidence",
        "each change of state says what it rests on",
        (Edit(_CORE, "self.state, state, evidence, self._worker.pid", 'self.state, state, "", self._worker.pid'),),
        (f"{_HEALTH}::test_every_row_is_brought_about_by_what_a_shell_reports",),
    ),
    Bug(
        "one look believed",
        "one look in disk-sleep proves nothing",
        (Edit("bgsuper/supervisor/diagnosis.py", "if self._asleep >= LOOKS:", "if self._asleep >= 1:"),),
        ("tests/supervisor/test_diagnosis.py::test_a_stall_is_believed_at_the_third_look_and_not_before",),
    ),
    Bug(
        "disk taken for a hang",
        "a worker in disk-sleep is never hung",
        (Edit("bgsuper/supervisor/diagnosis.py", "if asleep or wrote or ", "if wrote or "),),
        ("tests/supervisor/test_diagnosis.py::test_in_disk_sleep_it_is_never_hung",),
    ),
    Bug(
        "gap overlooked",
        "looks that came late begin anew: nobody ran",
        (
            Edit(
                "bgsuper/supervisor/diagnosis.py",
                "late = now - self._looked_at > GAP_INTERVALS * self.policy.vitals_interval_s",
                "late = False",
            ),
        ),
        (
            "tests/supervisor/test_diagnosis.py::test_late_looks_begin_anew",
            f"{_HEALTH}::test_a_minute_that_nobody_ran_hangs_nobody",
        ),
    ),
    Bug(
        "heartbeat believed",
        "a lively reader does not make a deadlocked writer get on",
        (Edit("bgsuper/supervisor/diagnosis.py", "moved = done != self.done", "moved = True"),),
        (
            "tests/supervisor/test_diagnosis.py::test_a_lively_heartbeat_without_progress_is_hung_all_the_same",
            f"{_HEALTH}::test_a_heartbeat_without_progress_spares_nobody",
        ),
    ),
    Bug(
        "killed without a word",
        "a hung worker writes down where it hangs before it is killed",
        (Edit(_CORE, "self.actions.append(Action.DUMP)", "pass"),),
        (f"{_HEALTH}::test_a_hung_worker_writes_its_stacks_and_is_killed_and_replaced",),
    ),
    # -- death --------------------------------------------------------------------------------------------------------
    Bug(
        "psutil waits",
        "a pidfd is the only truth about death; psutil never waits for a worker",
        (
            Edit(
                "bgsuper/supervisor/shell.py",
                "        status = child.reap()\n",
                "        import psutil\n\n        from .children import Exit\n\n"
                "        status = Exit(psutil.Process(child.pid).wait(5.0), None)\n",
            ),
        ),
        ("tests/supervisor/test_processes_hosts.py::test_a_death_is_seen_though_another_takes_the_status",),
    ),
    Bug(
        "killed by pid",
        "a signal goes through the pidfd, never to whoever has the pid by now",
        (
            Edit(
                "bgsuper/supervisor/children/pidfd.py",
                "signal.pidfd_send_signal(self._pidfd, number)",
                "os.kill(self.pid, number)",
            ),
        ),
        ("tests/supervisor/test_pidfd.py::test_signals_go_through_the_pidfd",),
    ),
    Bug(
        "two writers",
        "a wedged worker is never replaced before it is dead",
        (
            Edit(
                "bgsuper/supervisor/life.py",
                "    (State.EXITED, Event.LAUNCH): State.STARTING,\n",
                "    (State.EXITED, Event.LAUNCH): State.STARTING,\n"
                "    (State.WEDGED, Event.LAUNCH): State.STARTING,\n",
            ),
            Edit(
                _CORE,
                "        self._go(Event.OUTLIVE, now,",
                "        self._launch_at = now + 1.0\n        self._go(Event.OUTLIVE, now,",
            ),
        ),
        (f"{_HEALTH}::test_a_wedged_worker_is_reported_waited_for_and_never_doubled",),
    ),
    Bug(
        "outsiders are poison",
        "a SIGKILL from outside never counts as poison",
        (
            Edit(
                _CORE,
                "cause is DeathCause.CRASHED)",
                "cause in (DeathCause.CRASHED, DeathCause.OUTSIDE))",
            ),
        ),
        (f"{_POISON}::test_a_kill_from_outside_is_never_poison",),
    ),
    Bug(
        "condemned at once",
        "one death with a commit alone might be chance; two are proof",
        (Edit("bgsuper/supervisor/poison.py", "PROOFS: Final = 2", "PROOFS: Final = 1"),),
        (f"{_POISON}::test_the_commit_that_kills_its_workers_is_found_and_named",),
    ),
    Bug(
        "search in groups",
        "during the search successors are handed one thing at a time",
        (
            Edit(
                "bgsuper/supervisor/backlog.py",
                "most = 1 if self.one_at_a_time else TAKE_COMMITS",
                "most = TAKE_COMMITS",
            ),
        ),
        ("tests/supervisor/test_backlog.py::test_one_at_a_time_is_one_at_a_time",),
    ),
    # -- restarts -----------------------------------------------------------------------------------------------------
    Bug(
        "streak for ever",
        "a worker that proved itself ends the streak: the next restart is at once",
        (
            Edit(
                "bgsuper/supervisor/restarts.py",
                "        if up_s >= self._policy.period_s:\n            self._streak = 0",
                "        if up_s >= self._policy.period_s:\n            self._streak += 0",
            ),
        ),
        ("tests/supervisor/test_restarts.py::test_the_streak_is_over_after_a_whole_period",),
    ),
    Bug(
        "budget for life",
        "deaths that are a whole period old no longer count",
        (
            Edit(
                "bgsuper/supervisor/restarts.py",
                "while self._deaths[0] <= now - policy.period_s:",
                "while self._deaths[0] < 0.0:",
            ),
        ),
        ("tests/supervisor/test_restarts.py::test_the_restart_window_slides",),
    ),
    Bug(
        "recycling charged",
        "what we asked for is free",
        (
            Edit(
                "bgsuper/supervisor/restarts.py",
                "        if cause is DeathCause.ASKED:\n            return 0.0\n",
                "",
            ),
        ),
        (f"{_HEALTH}::test_planned_replacements_are_free",),
    ),
    Bug(
        "recycled again and again",
        "a worker that is too large is replaced once a period at most",
        (Edit("bgsuper/supervisor/restarts.py", "        self._recycled_at = now\n", ""),),
        (f"{_HEALTH}::test_it_is_replaced_once_a_period_at_most",),
    ),
    # -- stop(), errors, forks ----------------------------------------------------------------------------------------
    Bug(
        "deadline lifted",
        "a second stop() can only tighten the deadline",
        (Edit("bgsuper/supervisor/stopping.py", "if self.stop_by is None or stop_by < self.stop_by:", "if True:"),),
        ("tests/supervisor/test_stopping.py::test_asked_again_it_only_tightens",),
    ),
    Bug(
        "one error for all",
        "each caller gets an exception object of its own",
        (
            Edit(
                _CORE,
                "            self._failure, self._failed_for = recipe, why",
                "            error = recipe()\n            self._failure, self._failed_for = (lambda: error), why",
            ),
        ),
        (f"{_TEST_CORE}::test_a_crash_storm_fails_with_everything_unacknowledged_intact",),
    ),
    Bug(
        "forks welcome",
        "a forked copy of the host is refused",
        (Edit("bgsuper/supervisor/shell.py", "        self.forked = True\n", "        self.forked = False\n"),),
        ("tests/supervisor/test_processes_hosts.py::test_a_forked_copy_of_the_host_is_refused_and_harmless",),
    ),
    # -- what is durable ----------------------------------------------------------------------------------------------
    Bug(
        "dropped at death",
        "what is un-acknowledged survives every death",
        (
            Edit(
                "bgsuper/supervisor/backlog.py",
                "        while self._queued:\n            self._sent.append",
                "        self._sent.clear()\n        while self._queued:\n            self._sent.append",
            ),
        ),
        (f"{_TEST_CORE}::test_one_failed_sync_is_survived_by_a_worker_that_distrusts_the_cache",),
    ),
    Bug(
        "replay out of order",
        "commits are replayed in order",
        (
            Edit(
                "bgsuper/supervisor/backlog.py",
                "        self._queued, self._sent = self._sent, self._queued\n",
                "        self._queued, self._sent = self._sent, self._queued\n        self._queued.reverse()\n",
            ),
        ),
        (f"{_TEST_CORE}::test_nonsense_kills_the_worker_and_loses_nothing",),
    ),
    Bug(
        "cache trusted",
        "after a failed sync the page cache is not believed",
        (Edit(_CORE, "self.distrust_cache = True", "self.distrust_cache = False"),),
        (f"{_TEST_CORE}::test_one_failed_sync_is_survived_by_a_worker_that_distrusts_the_cache",),
    ),
    Bug(
        "ack before the sync",
        "an ACK is sent only after the sync",
        (
            Edit(
                "bgsuper/worker/writer.py",
                "            self._persistently(lambda: self._store.apply(fresh))\n",
                "            self._link.send(Kind.ACK, fresh[-1].seq, [0.0, len(fresh)])\n"
                "            self._persistently(lambda: self._store.apply(fresh))\n",
            ),
        ),
        ("tests/worker/test_writer.py::test_no_ack_before_the_sync",),
    ),
    Bug(
        "no epoch bump",
        "each open of the store commits a new epoch before it claims anything",
        (Edit("bgsuper/store/sqlite.py", "max(identity.epoch, recorded) + 1", "max(identity.epoch, recorded, 1)"),),
        ("tests/store/test_sqlite.py::test_a_new_store_starts_at_nothing",),
    ),
    Bug(
        "lock after HELLO",
        "a worker says HELLO only when it holds the writer lock",
        (
            Edit(
                "bgsuper/worker/__main__.py",
                "        opened = owner.checked(store.open())\n",
                "        link.greet([1, 0, 0, True, None])\n        opened = owner.checked(store.open())\n",
            ),
            Edit(
                "bgsuper/worker/__main__.py",
                "            link.greet([opened.epoch, opened.last_commit, last_seq, None if batchless else "
                "bool(store.atomic), behind])\n",
                "",
            ),
        ),
        ("tests/supervisor/test_processes_start.py::test_two_supervisors_on_one_store",),
    ),
    Bug(
        "heartbeat starved",
        "however busy the pipe, the heartbeat goes out",
        (
            Edit(
                "bgsuper/worker/link.py",
                "if time.monotonic() >= beat_at:",
                "if not came and time.monotonic() >= beat_at:",
            ),
        ),
        ("tests/worker/test_heartbeat.py::test_a_busy_stream_starves_no_heartbeat",),
    ),
    # -- the high-water mark ------------------------------------------------------------------------------------------
    Bug(
        "mark before the sync",
        "a mark is never ahead of what is durable",
        (
            Edit(
                "bgsuper/worker/writer.py",
                "            self._persistently(lambda: self._store.apply(fresh))\n",
                "            self._mark and self._mark.acknowledged(fresh[-1].seq)\n"
                "            self._persistently(lambda: self._store.apply(fresh))\n",
            ),
        ),
        ("tests/worker/test_high_water.py::test_a_worker_that_dies_at_any_step_never_leaves_its_store_behind",),
    ),
    Bug(
        "durable record overwritten",
        "a write of the mark that is torn leaves the record before it",
        (Edit("bgsuper/store/high_water.py", "1 - self._durable_slot)", "self._newest.serial % 2)"),),
        ("tests/store/test_high_water.py::test_it_is_rewritten_in_place",),
    ),
    Bug(
        "behind forgotten",
        "commits made in recovery mode do not hide that the store is an old backup",
        (
            Edit(
                "bgsuper/store/high_water.py",
                "mark._replace(highest=commit, epoch=epoch, snapshot=snapshot)",
                "mark._replace(highest=commit, epoch=epoch, snapshot=snapshot, behind=None)",
            ),
        ),
        ("tests/store/test_high_water.py::test_a_store_below_its_mark_is_behind_until_proved_current",),
    ),
    Bug(
        "lost numbers again",
        "no number of a lost future comes again",
        (Edit("bgsuper/store/high_water.py", "return max(last_seq, self.mark.floor)", "return last_seq"),),
        ("tests/store/test_high_water.py::test_numbers_of_the_lost_future_do_not_come_again",),
    ),
    Bug(
        "silence ends recovery mode",
        "nothing but a proof ends recovery mode",
        (Edit(_CORE, "self.behind = behind or self.behind", "self.behind = behind"),),
        ("tests/supervisor/test_high_water.py::test_nothing_but_a_proof_ends_it",),
    ),
)
