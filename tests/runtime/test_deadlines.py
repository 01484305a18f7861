"""One heap and one timer for all timeouts."""

import weakref

from commandjobs.model.outcome import Succeeded
from commandjobs.runtime.deadlines import Deadlines
from commandjobs.runtime.execution import Execution
from commandjobs.testing import FakeClock
from tests.runtime.attempts import attempt


class Watch:
    def __init__(self, clock: FakeClock) -> None:
        self.expired: list[int] = []
        self.deadlines = Deadlines(clock=clock, expire=self.expire)
        self.clock = clock

    def expire(self, execution: Execution) -> None:
        self.expired.append(execution.row.id)

    def start(self, id: int, seconds: float) -> Execution:
        execution = attempt(id)
        self.deadlines.watch(execution, self.clock.monotonic(), seconds)
        return execution


async def test_r09_attempts_expire_at_their_own_time(clock: FakeClock) -> None:
    watch = Watch(clock)
    for id, seconds in ((1, 30.0), (2, 10.0), (3, 20.0)):
        watch.start(id, seconds)

    await clock.advance(9.9)
    assert watch.expired == []
    await clock.advance(0.1)
    assert watch.expired == [2]
    await clock.advance(100)

    assert watch.expired == [2, 3, 1]


async def test_an_attempt_that_has_ended_does_not_expire(clock: FakeClock) -> None:
    watch = Watch(clock)
    ended, _ = watch.start(1, 10.0), watch.start(2, 10.0)
    ended.outcome = Succeeded()

    await clock.advance(20)

    assert watch.expired == [2]


async def test_a_timeout_is_counted_from_the_start_of_the_attempt(clock: FakeClock) -> None:
    watch = Watch(clock)
    await clock.advance(100)
    watch.deadlines.watch(attempt(1), 95.0, 10.0)

    await clock.advance(4.9)
    assert watch.expired == []
    await clock.advance(0.2)

    assert watch.expired == [1]


async def test_a_step_of_the_wall_clock_expires_nothing(clock: FakeClock) -> None:
    from datetime import timedelta

    watch = Watch(clock)
    watch.start(1, 10.0)

    clock.step(timedelta(days=1))
    await clock.advance(1)

    assert watch.expired == []


async def test_ended_attempts_do_not_pile_up(clock: FakeClock) -> None:
    watch = Watch(clock)
    watch.start(0, 1.0)

    for id in range(1, 30_000):
        watch.start(id, 600.0).outcome = Succeeded()

    assert len(watch.deadlines._heap) <= 10_001


async def test_closed_deadlines_expire_nothing(clock: FakeClock) -> None:
    watch = Watch(clock)
    watch.start(1, 10.0)

    watch.deadlines.close()
    await clock.advance(20)

    assert watch.expired == []


async def test_attempts_that_have_ended_are_let_go_long_before_their_time(clock: FakeClock) -> None:
    watch = Watch(clock)
    running = watch.start(0, 600.0)
    ended = [weakref.ref(end(watch.start(id, 600.0))) for id in range(1, 1_000)]

    held = [execution for reference in ended if (execution := reference()) is not None]

    assert len(held) < 200
    await clock.advance(600)
    assert watch.expired == [running.row.id]


def end(execution: Execution) -> Execution:
    execution.outcome = Succeeded()
    return execution
