"""Timeouts: an attempt that runs too long is a failure, and its code is never started twice at once."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, JobFailed, JobState, SyncCommand, current_job, retry, timeout
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeHold, LifeThreadHold, LifeThreadNote, job, stage, state, until_retry

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


@timeout(5)
@retry(limit=2, backoff="fixed", delay=0)
class TimeoutsSlow(AsyncCommand):
    async def run(self) -> None:
        stage.done.append("run")
        await asyncio.Event().wait()


@timeout(5)
class TimeoutsStubborn(AsyncCommand):
    """Goes on after its cancellation, and returns as if nothing had been."""

    async def run(self) -> None:
        stage.enter("run")
        while not stage.gate.is_set():
            with suppress(asyncio.CancelledError):
                await stage.gate.wait()
        stage.leave()


@timeout(5)
@retry(limit=0)
class TimeoutsRaisesItsOwn(AsyncCommand):
    async def run(self) -> None:
        stage.enter("run")
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while it was cancelled")


@timeout(None)
class TimeoutsNever(AsyncCommand):
    async def run(self) -> None:
        stage.enter("run")
        await stage.gate.wait()


@timeout(5)
@retry(limit=0)
class TimeoutsAsks(SyncCommand):
    def run(self) -> None:
        stage.enter("run")
        while not stage.thread_gate.wait(0.002):
            current_job().raise_if_cancelled()


async def test_r09_an_attempt_over_its_timeout_is_a_failure_and_retried(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeoutsSlow)
        for attempt in (1, 2, 3):
            await until(lambda attempt=attempt: len(stage.done) == attempt)  # type: ignore[misc]
            await clock.advance(5)

        with pytest.raises(JobFailed, match="did not end within its timeout of 5 s"):
            await ref.result(5)
        failed = await job(jobs, ref.id)
        assert (failed.state, failed.error_code, failed.attempts) == (JobState.FAILED, "Timeout", 3)
        assert [one.outcome for one in await jobs.get_attempts(ref.id)] == ["Failed"] * 3


async def test_r09_an_attempt_within_its_timeout_is_left_alone(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeHold, "a")
        await until(lambda: stage.inside == 1)
        await clock.advance(599)
        assert await state(jobs, ref.id) is JobState.STARTED
        stage.gate.set()

        assert (await ref.wait(5)).completed is not None


async def test_r09_each_attempt_has_the_whole_timeout(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeHold, "a", timeout=10, retry_limit=1)
        await until(lambda: stage.inside == 1)
        await clock.advance(10)
        waiting = await until_retry(jobs, ref.id, attempts=1)
        assert waiting.run_after is not None
        await clock.advance(waiting.run_after - clock.at)
        await until(lambda: stage.inside == 1)
        await clock.advance(9)
        assert await state(jobs, ref.id) is JobState.STARTED
        stage.gate.set()

        assert (await ref.wait(5)).completed is not None


async def test_r09_what_the_code_raises_when_it_is_ended_does_not_count(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeoutsRaisesItsOwn)
        await until(lambda: stage.inside == 1)
        await clock.advance(5)

        assert (await ref.wait(5)).summary.error_code == "Timeout"


async def test_r09_no_timeout_is_no_limit(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeoutsNever)
        await until(lambda: stage.inside == 1)
        await clock.advance(2_000)
        stage.gate.set()

        assert (await ref.wait(5)).completed is not None


async def test_r09_a_thread_that_asks_ends_at_its_timeout(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeoutsAsks)
        await until(lambda: stage.inside == 1)
        await clock.advance(5)

        assert (await ref.wait(5)).summary.error_code == "Timeout"


async def test_r10_async_code_that_goes_on_keeps_its_job_started_and_its_result_is_refused(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(TimeoutsStubborn, retry_limit=0)
        await until(lambda: stage.inside == 1)
        await clock.advance(60)
        overrunning = await job(jobs, ref.id)
        assert (overrunning.state, overrunning.overrunning is None) == (JobState.STARTED, False)
        stage.gate.set()

        assert (await ref.wait(5)).summary.error_code == "Timeout"


async def test_r10_a_thread_that_goes_on_is_never_started_twice_meanwhile(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeThreadHold, "stuck", timeout=5, retry_limit=1)
        await until(lambda: stage.inside == 1)
        await clock.advance(600)
        overrunning = await job(jobs, ref.id)
        assert (overrunning.state, overrunning.attempts) == (JobState.STARTED, 1)
        assert overrunning.overrunning is not None
        assert (await jobs.health()).status == "degraded"
        assert stage.done == ["stuck"]
        stage.thread_gate.set()

        waiting = await until_retry(jobs, ref.id, attempts=1)
        assert (waiting.error_code, waiting.overrunning) == ("Timeout", None)


async def test_r10_the_place_of_a_stuck_thread_is_given_to_another(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, threads=1) as jobs:
        stuck = await jobs.enqueue_command(LifeThreadHold, "stuck", timeout=5, retry_limit=0)
        await until(lambda: stage.inside == 1)
        other = await jobs.enqueue_command(LifeThreadNote, "other")
        await clock.advance(5)

        assert (await other.wait(5)).completed is not None
        assert await state(jobs, stuck.id) is JobState.STARTED
        stage.thread_gate.set()
        await stuck.wait(5)


async def test_r11_a_long_healthy_job_runs_once(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeHold, "long", timeout=None)
        await until(lambda: stage.inside == 1)
        await clock.advance(3_600)
        assert await (await jobs.enqueue_command(LifeEcho, "beside it")).result(5) == "beside it"
        stage.gate.set()

        assert (await ref.wait(5)).summary.attempts == 1
        assert stage.done == ["long"]
