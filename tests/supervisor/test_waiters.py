"""Coroutines that wait: woken when their number is durable, and let go of when they give up."""

from __future__ import annotations

import asyncio
from asyncio import Future

from bgsuper.key import Seq
from bgsuper.supervisor.waiters import Waiters

from .rig import A, Rig


def waiting(rig: Rig, loop: asyncio.AbstractEventLoop, count: int) -> tuple[Waiters, list[Future[None]]]:
    waiters = Waiters(rig.core)
    futures = [loop.create_future() for _ in range(count)]
    for number, future in enumerate(futures):
        waiters.add_durable(Seq(1 + number % 3), (loop, future))
    return waiters, futures


def test_whoever_gave_up_is_let_go_of_and_the_others_are_woken() -> None:
    """In whatever order they give up; what is swept late is bounded by the half of what waits."""
    loop = asyncio.new_event_loop()
    rig = Rig()
    rig.up()
    for _ in range(3):
        rig.commit(A)
    waiters, futures = waiting(rig, loop, 100)
    for future in futures[10:]:
        waiters.forget(future)
        assert 2 * len(waiters._forgotten) <= len(waiters._durable)
    assert len(waiters._durable) <= 20
    rig.take_all()
    rig.ack(3)
    assert {future for _, future in waiters.due()} >= set(futures[:10])
    loop.close()


def test_thousands_that_give_up_at_once_are_swept_a_few_times() -> None:
    """Each on its own would be quadratic, under the lock that a submit takes."""
    loop = asyncio.new_event_loop()
    rig = Rig()
    rig.up()
    rig.commit(A)
    waiters, futures = waiting(rig, loop, 4096)
    sweeps = 0
    for future in futures:
        before = len(waiters._durable)
        waiters.forget(future)
        sweeps += len(waiters._durable) != before
    assert waiters._durable == []
    assert sweeps <= 13
    loop.close()
