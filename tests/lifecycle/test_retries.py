"""Retries: how often, when, after what, and what is kept of each attempt."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import (
    AsyncCommand,
    BackgroundJobs,
    Fail,
    InvalidRequest,
    Job,
    JobState,
    Snooze,
    SyncCommand,
    current_job,
    retry,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeError, LifeFail, LifeFlaky, LifeNote, job, stage, state, until_retry

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


@retry(limit=3, backoff="fixed", delay=10)
class RetriesFixed(AsyncCommand):
    async def run(self) -> None:
        raise LifeError("fixed")


@retry(limit=3, backoff="linear", delay=10)
class RetriesLinear(AsyncCommand):
    async def run(self) -> None:
        raise LifeError("linear")


@retry(limit=4, backoff="exponential", delay=10, max_delay=30)
class RetriesExponential(AsyncCommand):
    async def run(self) -> None:
        raise LifeError("exponential")


class RetriesFails(AsyncCommand):
    async def run(self) -> None:
        stage.done.append("run")
        raise Fail("there is no such account")


class PermanentError(LifeError):
    pass


class ClosedAccount(PermanentError):
    pass


@retry(limit=2, backoff="fixed", delay=0.01, never_on=(PermanentError,))
class RetriesNeverOn(AsyncCommand):
    async def run(self) -> None:
        stage.done.append("run")
        raise ClosedAccount("for good")


@retry(limit=2, backoff="fixed", delay=0.01, on=(ConnectionError,))
class RetriesOnly(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append("run")
        raise ConnectionResetError("again") if request == "connection" else LifeError("no")


@retry(limit=2, backoff="fixed", delay=0.01)
class RetriesRaises(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append("run")
        if request == "value":
            raise ValueError("the handler's own")
        if request == "invalid":
            raise InvalidRequest("refused")
        raise ExceptionGroup("several", [LifeError("one"), Fail("another")])


class RetriesSnoozes(AsyncCommand[int]):
    """Snoozes so many times, then ends."""

    async def run(self, request: int) -> None:
        if current_job().attempt <= request:
            raise Snooze(60)


@retry(limit=2, backoff="fixed", delay=0.01)
class RetriesInThread(SyncCommand):
    def run(self) -> None:
        stage.done.append("run")
        raise LifeError("in a thread")


async def test_r01_a_job_that_always_fails_runs_three_times(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeFail, "x")
        for attempts in (1, 2):
            waiting = await until_retry(jobs, ref.id, attempts=attempts)
            assert waiting.run_after is not None
            await clock.advance(waiting.run_after - clock.at)

        failed = (await ref.wait(5)).job
    assert (failed.state, failed.attempts, stage.done) == (JobState.FAILED, 3, ["x"] * 3)
    assert failed.error is not None
    assert (failed.error_code, failed.error.message) == ("LifeError", "x")
    assert "raise LifeError(request)" in (failed.error.stack_trace or "")


@pytest.mark.parametrize(("limit", "executions"), [(0, 1), (1, 2), (4, 5)])
async def test_r02_a_retry_limit_of_n_gives_n_plus_one_executions(
    jobs: BackgroundJobs, limit: int, executions: int
) -> None:
    ref = await jobs.enqueue_command(RetriesInThread, retry_limit=limit)
    failed = (await ref.wait(10)).job

    assert (failed.state, failed.attempts, len(stage.done)) == (JobState.FAILED, executions, executions)


async def test_r02_the_engines_limit_is_for_jobs_whose_call_and_command_say_nothing(engine: Engine) -> None:
    async with engine(retry_limit=0) as jobs:
        ref = await jobs.enqueue_command(LifeFail, "x")
        assert (await ref.wait(10)).summary.attempts == 1
        flaky = await jobs.enqueue_command(LifeFlaky, 2)
        assert await flaky.result(10) == 3


async def delays(jobs: BackgroundJobs, clock: FakeClock, command: type[Any], count: int) -> list[float]:
    """How long a failing job of this command waits before each retry."""
    ref = await jobs.enqueue_command(command)
    waits: list[float] = []
    for attempts in range(1, count + 1):
        waiting = await until_retry(jobs, ref.id, attempts=attempts)
        assert waiting.run_after is not None
        waits.append((waiting.run_after - clock.at).total_seconds())
        await clock.advance(waits[-1])
    await ref.wait(5)
    return waits


@pytest.mark.parametrize(
    ("command", "expected"),
    [(RetriesFixed, [10, 10, 10]), (RetriesLinear, [10, 20, 30]), (RetriesExponential, [10, 20, 30, 30])],
)
async def test_r03_run_after_shows_the_next_time_of_each_backoff(
    engine: Engine, clock: FakeClock, command: type[Any], expected: list[float]
) -> None:
    async with engine(clock=clock) as jobs:
        assert await delays(jobs, clock, command, len(expected)) == expected


async def test_r03_the_default_backoff_is_exponential_with_jitter_from_five_seconds(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeFail, "x")
        first = await until_retry(jobs, ref.id, attempts=1)
        assert first.run_after is not None
        assert 2.5 <= (first.run_after - clock.at).total_seconds() <= 5
        await clock.advance(5)
        second = await until_retry(jobs, ref.id, attempts=2)
        assert second.run_after is not None
        assert second.started is not None
        assert 5 <= (second.run_after - second.started).total_seconds() <= 10


async def test_r04_a_retry_runs_at_its_time(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(RetriesFixed)
        waiting = await until_retry(jobs, ref.id, attempts=1)
        assert waiting.wait_reason == "Retrying at 2026-01-15 12:00:10 UTC"
        await clock.advance(9.999)
        assert (await job(jobs, ref.id)).attempts == 1

        await clock.advance(0.001)

        again = await until_retry(jobs, ref.id, attempts=2)
        assert again.started == clock.at


async def test_r05_every_attempt_is_stored_with_its_node_start_duration_and_error(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeFlaky, 2)
    await ref.result(10)

    attempts = await jobs.get_attempts(ref.id)

    assert [(one.number, one.phase, one.outcome) for one in attempts] == [
        (1, "work", "Failed"), (2, "work", "Failed"), (3, "work", "Succeeded"),
    ]  # fmt: skip
    assert [one.error.message if one.error else None for one in attempts] == ["attempt 1", "attempt 2", None]
    assert all(one.node for one in attempts)
    assert attempts[0].started < attempts[1].started < attempts[2].started
    assert all(one.duration_ms >= 0 for one in attempts)


async def test_r05_a_job_that_succeeds_at_once_has_one_attempt(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "a")
    await ref.wait(10)

    (attempt,) = await jobs.get_attempts(ref.id)
    assert (attempt.number, attempt.phase, attempt.outcome, attempt.error) == (1, "work", "Succeeded", None)


async def test_r06_a_flaky_job_completes_at_its_third_attempt(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeFlaky, 2)

    assert await ref.result(10) == 3
    done = await job(jobs, ref.id)
    assert (done.state, done.attempts, done.error, done.error_code) == (JobState.COMPLETED, 3, None, None)


async def test_r07_fail_ends_a_job_without_retries(jobs: BackgroundJobs) -> None:
    failed = (await (await jobs.enqueue_command(RetriesFails)).wait(10)).job

    assert (failed.state, failed.error_code, stage.done) == (JobState.FAILED, "Fail", ["run"])
    assert failed.error is not None
    assert failed.error.message == "there is no such account"


async def test_r07_subclasses_of_never_on_are_not_retried(jobs: BackgroundJobs) -> None:
    failed = (await (await jobs.enqueue_command(RetriesNeverOn)).wait(10)).job

    assert (failed.error_code, stage.done) == ("ClosedAccount", ["run"])


@pytest.mark.parametrize(("what", "executions"), [("connection", 3), ("other", 1)])
async def test_r07_only_what_is_named_by_on_is_retried(jobs: BackgroundJobs, what: str, executions: int) -> None:
    await (await jobs.enqueue_command(RetriesOnly, what)).wait(10)

    assert len(stage.done) == executions


@pytest.mark.parametrize(("what", "executions"), [("value", 3), ("invalid", 1), ("group", 1)])
async def test_c05_fail_and_invalid_request_are_never_retried_and_a_value_error_is(
    jobs: BackgroundJobs, what: str, executions: int
) -> None:
    await (await jobs.enqueue_command(RetriesRaises, what)).wait(10)

    assert len(stage.done) == executions


async def test_r07_snooze_runs_again_later_without_using_the_budget(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(RetriesSnoozes, 3, retry_limit=0)
        for attempts in (1, 2, 3):
            waiting = await until_retry(jobs, ref.id, attempts=attempts)
            assert waiting.run_after == clock.at + timedelta(seconds=60)
            await clock.advance(60)

        done = (await ref.wait(5)).job
    assert (done.state, done.attempts, done.attempts_returned) == (JobState.COMPLETED, 4, 3)


async def test_r08_hooks_are_called_once_for_the_final_outcome(jobs: BackgroundJobs) -> None:
    finished: list[Job] = []
    failed: list[Job] = []
    jobs.on_finished(finished.append)
    jobs.on_failed(failed.append)
    flaky = await jobs.enqueue_command(LifeFlaky, 2)
    bad = await jobs.enqueue_command(RetriesInThread)

    await until(lambda: len(finished) == 2)
    await jobs.wait_until_idle(10)
    assert sorted((one.id, one.state, one.attempts) for one in finished) == [
        (flaky.id, JobState.COMPLETED, 3),
        (bad.id, JobState.FAILED, 3),
    ]
    assert [one.id for one in failed] == [bad.id]


async def test_r08_a_hook_that_fails_changes_nothing(jobs: BackgroundJobs, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Job) -> None:
        raise LifeError("in the hook")

    jobs.on_finished(broken)
    ref = await jobs.enqueue_command(LifeNote, "a")
    await ref.wait(10)
    await jobs.wait_until_idle(10)

    assert await state(jobs, ref.id) is JobState.COMPLETED
    assert f"A hook failed for job {ref.id}" in caplog.text


async def test_r08_a_removed_hook_is_not_called(jobs: BackgroundJobs) -> None:
    finished: list[Job] = []
    remove = jobs.on_finished(finished.append)
    remove()
    await (await jobs.enqueue_command(LifeNote, "a")).wait(10)
    await jobs.wait_until_idle(10)

    assert finished == []
