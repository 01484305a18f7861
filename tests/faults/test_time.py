"""The wall clock is set forward and back while jobs wait and run."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import AsyncCommand, JobState, retry
from commandjobs.testing import FakeClock

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ran: list[str] = []
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def anew() -> None:
    global gate  # noqa: PLW0603  an event belongs to the loop of its test
    ran.clear()
    gate = asyncio.Event()


class TimeNote(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        ran.append(request)


class TimeHeld(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        ran.append(request)
        await gate.wait()


@retry(limit=1, backoff="fixed", delay=60)
class TimeRetried(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        ran.append(request)
        if len(ran) == 1:
            raise RuntimeError("not yet")


@pytest.mark.parametrize("step", [HOUR, -HOUR, timedelta(seconds=1), timedelta(milliseconds=-1)])
async def test_f46_a_running_job_does_not_notice_that_the_clock_is_set(
    engine: Callable[..., Any], clock: FakeClock, step: timedelta
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeHeld, "x", timeout=600)
        await clock.advance(1)
        clock.step(step)
        await clock.advance(120)
        gate.set()

        done = (await ref.wait(10)).job
    assert ran == ["x"]
    assert (done.state, done.attempts) == (JobState.COMPLETED, 1)


async def test_f46_a_clock_set_forward_starts_what_is_due_by_it_and_once(
    engine: Callable[..., Any], clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        soon = await jobs.enqueue_command(TimeNote, "soon", run_after=timedelta(minutes=30))
        later = await jobs.enqueue_command(TimeNote, "later", run_after=timedelta(minutes=90))
        clock.step(HOUR)
        await clock.advance(10)
        await soon.wait(10)
        assert ran == ["soon"]
        clock.step(HOUR)
        await clock.advance(10)
        await later.wait(10)

    assert ran == ["soon", "later"]


async def test_f46_a_clock_set_back_starts_nothing_before_its_date_and_nothing_twice(
    engine: Callable[..., Any], clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeNote, "x", run_after=timedelta(seconds=10))
        clock.step(-MINUTE)
        await clock.advance(20)
        assert ran == []
        await clock.advance(MINUTE)
        await ref.wait(10)
        clock.step(-MINUTE)
        await clock.advance(2 * MINUTE)

    assert ran == ["x"]


async def test_f46_a_clock_that_steps_to_and_fro_makes_a_retry_wait_and_loses_none(
    engine: Callable[..., Any], clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeRetried, "x")
        await clock.advance(1)
        for _ in range(5):
            clock.step(-HOUR)
            await clock.advance(5)
            clock.step(HOUR)
            await clock.advance(5)
        await clock.advance(60)

        assert (await ref.wait(10)).summary.state is JobState.COMPLETED
    assert ran == ["x", "x"]
