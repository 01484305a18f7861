"""Runs in memory: nothing of them is stored."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    InvalidOption,
    InvalidRequest,
    JobCancelled,
    JobState,
    JobTimeout,
    NoCurrentJob,
    Snooze,
    SyncCommand,
    SyncCommandWithResult,
    TransientJob,
    WouldDeadlock,
    current_job,
    current_jobs,
    current_user,
    retry,
    worker,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeHold, LifeNote, LifeThreadHold, count, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class TransientError(Exception):
    pass


class TransientDouble(AsyncCommandWithResult[int, int]):
    async def run(self, request: int) -> int:
        return request * 2


class TransientSyncDouble(SyncCommandWithResult[int, int]):
    def run(self, request: int) -> int:
        return request * 2


class TransientFail(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(request)
        raise TransientError(request)


@retry(limit=2, backoff="fixed", delay=60)
class TransientFlaky(AsyncCommandWithResult[int, int]):
    """Fails so many times, then returns the number of its attempt."""

    async def run(self, request: int) -> int:
        attempt = current_job().attempt
        current_job().log.info("attempt %d", attempt)
        if attempt <= request:
            raise TransientError(f"attempt {attempt}")
        return attempt


class TransientThreadFail(SyncCommand):
    def run(self) -> None:
        raise TransientError("in a thread")


class TransientSnooze(AsyncCommandWithResult[int, int]):
    async def run(self, request: int) -> int:
        if current_job().attempt <= request:
            raise Snooze(60)
        return current_job().attempt


@worker("transient-line")
class TransientLine(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        stage.enter(str(request))
        await asyncio.sleep(0)
        stage.leave()


class TransientReport(AsyncCommand):
    async def run(self) -> None:
        current_job().update_status(0.5, "half")
        current_job().log.info("half way")
        await stage.gate.wait()


class TransientTellResult(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        stage.done.append(f"{current_job().command} gave {request}, callback attempt {current_job().attempt}")


class TransientWho(AsyncCommandWithResult[list[str]]):
    async def run(self) -> list[str]:
        job = current_job()
        return [job.command, str(job.worker), str(current_user()), *job.tags, job.args["a"], str(job.tenant_id)]


class TransientOwnId(AsyncCommand):
    async def run(self) -> None:
        current_job().id  # noqa: B018


@worker("transient-self")
class TransientAwaitsOwnWorker(AsyncCommand[bool]):
    async def run(self, request: bool) -> None:
        if request:
            await current_jobs().run_command_async(TransientAwaitsOwnWorker, False)


class TransientVia(AsyncCommand):
    """Awaits a run on the worker of the one who awaits it."""

    async def run(self) -> None:
        await current_jobs().run_command_async(TransientAwaitsOwnWorker, False)


@worker("transient-self")
class TransientAwaitsOwnWorkerViaAnother(AsyncCommand):
    async def run(self) -> None:
        await current_jobs().run_command_async(TransientVia)


class TransientObedient(SyncCommand):
    def run(self) -> None:
        stage.enter("obedient")
        while True:
            current_job().raise_if_cancelled()
            threading.Event().wait(0.002)


async def test_t01_a_run_returns_at_once_as_a_live_job_and_nothing_is_stored(jobs: BackgroundJobs) -> None:
    run = jobs.run_command(TransientDouble, 21)
    assert (run.command, run.request, run.state, run.started) == ("TransientDouble", 21, JobState.QUEUED, None)

    assert await run == 42

    assert (run.state, run.error, run.progress) == (JobState.COMPLETED, None, 1.0)
    assert run.started is not None
    assert run.completed is not None
    assert run.created <= run.started <= run.completed
    assert await count(jobs) == 0


@pytest.mark.parametrize("command", [TransientDouble, TransientSyncDouble])
async def test_t02_a_run_that_is_awaited_gives_its_result(jobs: BackgroundJobs, command: type[Any]) -> None:
    assert await jobs.run_command_async(command, 21) == 42


async def test_t02_a_run_raises_the_exception_of_its_command(jobs: BackgroundJobs) -> None:
    with pytest.raises(TransientError, match="no"):
        await jobs.run_command_async(TransientFail, "no")
    with pytest.raises(TransientError, match="in a thread"):
        await jobs.run_command_async(TransientThreadFail)


async def test_t02_a_run_over_its_timeout_raises_job_timeout(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        run = jobs.run_command(LifeHold, "held", timeout=5)
        await until(lambda: stage.inside)
        await clock.advance(5)

        with pytest.raises(JobTimeout, match="did not end within its timeout of 5 s"):
            await run
        assert (run.state, stage.inside) == (JobState.FAILED, 0)


async def test_t02_timeouts_of_runs_in_threads_leave_the_threads_of_stored_jobs_alone(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock, threads=2) as jobs:
        runs = [jobs.run_command(LifeThreadHold, "held", timeout=5) for _ in range(5)]
        await until(lambda: stage.inside == 5)
        await clock.advance(5)
        stage.thread_gate.set()
        for run in runs:
            with pytest.raises(JobTimeout):
                await run
        stage.thread_gate.clear()

        for _ in range(4):
            await jobs.enqueue_command(LifeThreadHold, "stored", timeout=None)
        await until(lambda: stage.inside == 2)
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert stage.inside == 2
        stage.thread_gate.set()
        await until(lambda: stage.done.count("stored") == 4)


async def test_t03_many_runs_on_one_named_worker_keep_their_order(jobs: BackgroundJobs) -> None:
    runs = [jobs.run_command(TransientLine, number) for number in range(300)]

    for run in runs:
        await run

    assert stage.done == [str(number) for number in range(300)]
    assert stage.most_inside == 1


async def test_t03_runs_that_start_while_others_end_keep_their_order(jobs: BackgroundJobs) -> None:
    runs = list[TransientJob[None]]()
    for number in range(200):
        runs.append(jobs.run_command(TransientLine, number))
        if number % 3 == 0:
            await asyncio.sleep(0)

    await asyncio.gather(*runs)

    assert stage.done == [str(number) for number in range(200)]


async def test_t03_a_stored_job_gets_its_turn_among_runs_of_its_worker(jobs: BackgroundJobs) -> None:
    runs = [jobs.run_command(LifeHold, f"run {number}", worker="shared") for number in range(2)]
    await until(lambda: stage.inside == 1)
    ref = await jobs.enqueue_command(LifeNote, "stored", worker="shared")
    runs += [jobs.run_command(LifeNote, f"late {number}", worker="shared") for number in range(2)]
    stage.gate.set()

    await asyncio.gather(*runs)
    await ref.result(5)

    assert stage.done[:2] == ["run 0", "run 1"]
    assert sorted(stage.done[2:]) == ["late 0", "late 1", "stored"]
    assert stage.most_inside == 1


async def test_t04_one_of_many_runs_is_cancelled(jobs: BackgroundJobs) -> None:
    first, second = jobs.run_command(LifeHold, "first"), jobs.run_command(LifeHold, "second")
    await until(lambda: stage.inside == 2)

    assert second.cancel()
    with pytest.raises(JobCancelled, match="The run of LifeHold was cancelled"):
        await second
    stage.gate.set()
    await first

    assert (first.state, second.state) == (JobState.COMPLETED, JobState.CANCELLED)
    assert not second.cancel()


async def test_t04_a_run_that_waits_for_its_worker_is_cancelled_without_starting(jobs: BackgroundJobs) -> None:
    running = jobs.run_command(LifeHold, "running", worker="w")
    waiting, last = (jobs.run_command(LifeHold, name, worker="w") for name in ("waiting", "last"))
    await until(lambda: stage.inside == 1)

    waiting.cancel()
    with pytest.raises(JobCancelled):
        await waiting
    stage.gate.set()
    await asyncio.gather(running, last)

    assert stage.done == ["running", "last"]


async def test_t04_a_run_in_a_thread_sees_its_cancellation(jobs: BackgroundJobs) -> None:
    run = jobs.run_command(TransientObedient)
    await until(lambda: stage.inside)

    run.cancel()

    with pytest.raises(JobCancelled):
        await run


async def test_t04_who_stops_awaiting_run_command_async_cancels_the_run(jobs: BackgroundJobs) -> None:
    awaiting = asyncio.create_task(jobs.run_command_async(LifeHold, "held"))
    await until(lambda: stage.inside)

    awaiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaiting

    await until(lambda: not stage.inside and not jobs.transient_jobs())


async def test_who_stops_awaiting_a_run_leaves_it_running_and_no_error_unread(jobs: BackgroundJobs) -> None:
    complaints = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    run = jobs.run_command(LifeHold, "held")
    await until(lambda: stage.inside)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await run
    assert run.state is JobState.STARTED
    run.cancel()
    await until(lambda: run.state is JobState.CANCELLED)

    import gc

    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_t05_a_run_is_made_once_without_retry(jobs: BackgroundJobs) -> None:
    with pytest.raises(TransientError):
        await jobs.run_command_async(TransientFail, "once")

    assert stage.done == ["once"]


async def test_t05_a_run_takes_the_retry_policy_of_its_command(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        run = jobs.run_command(TransientFlaky, 2)
        for attempt in (1, 2):
            await until(lambda: run.error is not None and run.error.message == f"attempt {attempt}")  # noqa: B023
            await clock.advance(60)

        assert await run == 3
        assert run.error is None
        assert [line.message for line in run.logs] == ["attempt 1", "attempt 2", "attempt 3"]


async def test_c02_retry_limit_of_the_call_wins_over_the_command(jobs: BackgroundJobs) -> None:
    with pytest.raises(TransientError, match="attempt 1"):
        await jobs.run_command_async(TransientFlaky, 1, retry_limit=0)


async def test_a_run_that_snoozes_goes_on_later(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        run = jobs.run_command(TransientSnooze, 1)
        await until(lambda: run.started)
        await clock.advance(60)

        assert await run == 2


async def test_t04_a_run_that_waits_for_its_retry_is_cancelled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        run = jobs.run_command(TransientFlaky, 5)
        await until(lambda: run.error)

        run.cancel()

        with pytest.raises(JobCancelled):
            await run


async def test_t06_runs_are_seen_while_they_run_and_counted_when_they_have_ended(jobs: BackgroundJobs) -> None:
    run = jobs.run_command(TransientReport)
    await until(lambda: run.progress)
    assert jobs.transient_jobs() == [run]
    assert (run.progress, run.status, [line.message for line in run.logs]) == (0.5, "half", ["half way"])
    stage.gate.set()
    await run

    with pytest.raises(TransientError):
        await jobs.run_command_async(TransientFail, "counted")

    commands = {info.name: info for info in await jobs.get_commands()}
    assert (commands["TransientReport"].runs, commands["TransientReport"].failures) == (1, 0)
    assert (commands["TransientFail"].failures, commands["TransientFail"].last_error) == (1, "counted")
    assert jobs.transient_jobs() == []


async def test_a_callback_runs_after_the_run_with_its_result(jobs: BackgroundJobs) -> None:
    result = await jobs.run_command_async(TransientDouble, 21, callback=TransientTellResult)

    assert result == 42
    assert stage.done == ["TransientDouble gave 42, callback attempt 1"]


async def test_options_are_seen_inside_the_run(jobs: BackgroundJobs) -> None:
    seen = await jobs.run_command_async(
        TransientWho, worker="w", user_id="ann", tags=["x", "y"], args={"a": "b"}, tenant_id="t"
    )

    assert seen == ["TransientWho", "w", "ann", "x", "y", "b", "t"]


@pytest.mark.parametrize(
    "option", [{"queue": "q"}, {"ref_id": "r"}, {"run_after": 1}, {"unique_key": "k"}, {"depends_on": 1}]
)
async def test_options_that_need_a_stored_job_are_refused(jobs: BackgroundJobs, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="not an option of a transient run"):
        _ = jobs.run_command(TransientDouble, 1, **option)


async def test_a_missing_request_is_refused(jobs: BackgroundJobs) -> None:
    with pytest.raises(InvalidRequest, match="takes one request, got 0"):
        _ = jobs.run_command(cast("Any", TransientDouble))


@pytest.mark.parametrize("request_", ["4", None, 4.0])
async def test_a_request_of_another_type_is_refused(jobs: BackgroundJobs, request_: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^The request of TransientDouble must be int, got \w+\.$"):
        await jobs.run_command_async(TransientDouble, request_)
    with pytest.raises(InvalidRequest, match="must be int"):
        _ = jobs.run_command(TransientDouble, request_)

    assert jobs.transient_jobs() == []


async def test_a_run_has_no_id(jobs: BackgroundJobs) -> None:
    with pytest.raises(NoCurrentJob, match="This run is not stored"):
        await jobs.run_command_async(TransientOwnId)


async def test_a_process_that_does_not_execute_runs_transient_commands(engine: Engine) -> None:
    async with engine(execute=False) as jobs:
        assert await jobs.run_command_async(TransientDouble, 21) == 42
        assert await jobs.run_command_async(TransientSyncDouble, 21) == 42


async def test_a_run_that_awaits_another_on_its_own_worker_is_refused(jobs: BackgroundJobs) -> None:
    with pytest.raises(WouldDeadlock, match="worker transient-self"):
        await jobs.run_command_async(TransientAwaitsOwnWorker, True)
    with pytest.raises(WouldDeadlock, match="Run it without that worker, or enqueue it"):
        await jobs.run_command_async(TransientAwaitsOwnWorkerViaAnother)


async def test_waiting_on_the_loops_own_thread_is_refused(jobs: BackgroundJobs) -> None:
    run = jobs.run_command(TransientDouble, 1)

    with pytest.raises(WouldDeadlock, match="Await it instead"):
        run.wait()
    assert await asyncio.to_thread(run.wait, 5) == 2


async def test_a_run_is_waited_for_in_a_thread_and_a_wait_that_runs_out_leaves_it_running(jobs: BackgroundJobs) -> None:
    run = jobs.run_command(LifeHold, "held")
    await until(lambda: stage.inside)

    with pytest.raises(TimeoutError):
        await asyncio.to_thread(run.wait, 0.001)
    assert run.state is JobState.STARTED
    stage.gate.set()

    await asyncio.to_thread(run.wait, 5)


async def test_runs_are_cancelled_when_the_engine_is_left(engine: Engine) -> None:
    async with engine(shutdown_grace=0.0) as jobs:
        run = jobs.run_command(LifeHold, "held")
        await until(lambda: stage.inside)

    with pytest.raises(JobCancelled):
        await run
    assert stage.inside == 0


async def test_runs_may_end_within_the_grace(engine: Engine) -> None:
    async with engine(shutdown_grace=10.0) as jobs:
        run = jobs.run_command(LifeHold, "held")
        await until(lambda: stage.inside)
        asyncio.get_running_loop().call_later(0.02, stage.gate.set)

    assert run.state is JobState.COMPLETED


async def test_a_run_that_ignores_its_end_is_named_and_does_not_hold_the_stop_up(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine(shutdown_grace=0.0) as jobs:
        run = jobs.run_command(LifeThreadHold, "held")
        await until(lambda: stage.inside)

    assert stage.inside  # it would go on for twenty seconds
    assert "A run of LifeThreadHold has not ended although it was told to." in caplog.text
    stage.thread_gate.set()
    await until(lambda: run.state is JobState.CANCELLED)
