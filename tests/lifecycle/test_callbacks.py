"""Callbacks: after success the job is Executed, and its callback runs with the result until the job is Completed."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    Fail,
    InvalidOption,
    Job,
    JobCancelled,
    JobFailed,
    JobState,
    Snooze,
    Storage,
    SyncCommand,
    SyncCommandWithResult,
    UnknownCommand,
    command,
    current_job,
    current_user,
    retry,
    worker,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeError,
    LifeFailOnce,
    LifeHold,
    LifeNote,
    LifeNothing,
    count,
    eventually,
    job,
    stage,
    state,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
COMPLETED, EXECUTED, FAILED = JobState.COMPLETED, JobState.EXECUTED, JobState.FAILED


class CallbackWork(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.done.append(f"work {request}")
        return request.upper()


class CallbackThreadWork(SyncCommandWithResult[str, str]):
    def run(self, request: str) -> str:
        stage.done.append(f"work {request}")
        return request.upper()


@worker("callback-work")
class CallbackWorkerWork(CallbackWork):
    pass


class CallbackReply(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"reply {request}")


class CallbackThreadReply(SyncCommand[str]):
    def run(self, request: str) -> None:
        stage.done.append(f"reply {request}")


class CallbackBare(AsyncCommand):
    """Takes no result."""

    async def run(self) -> None:
        me = current_job()
        stage.done.append(f"{me.command} {me.id} attempt {me.attempt}")


class CallbackCounts(AsyncCommandWithResult[int]):
    async def run(self) -> int:
        return 3


class CallbackTakesWider(AsyncCommand[float]):
    async def run(self, request: float) -> None: ...


class CallbackTakesAny(AsyncCommand[Any]):
    async def run(self, request: Any) -> None: ...


class CallbackTakesUnion(AsyncCommand[str | int | None]):
    async def run(self, request: str | int | None) -> None: ...


class CallbackWho(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"{request} for {current_user()}")


@retry(limit=0, backoff="fixed", delay=30)
class CallbackFails(AsyncCommand[str]):
    """Always fails; its backoff is its own."""

    async def run(self, request: str) -> None:
        stage.done.append(f"reply {request}")
        raise LifeError(f"cannot reply {request}")


@retry(limit=0, backoff="fixed", delay=0.01)
class CallbackFlaky(AsyncCommand[str]):
    """Fails twice."""

    async def run(self, request: str) -> None:
        stage.done.append(f"reply {request}")
        if current_job().attempt < 3:
            raise LifeError("not yet")


class CallbackUntilFixed(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"reply {request}")
        if not stage.gate.is_set():
            raise Fail("not fixed yet")


class CallbackSnoozes(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"reply {request}")
        if current_job().attempt == 1:
            raise Snooze(60)


@worker("callback-line")
class CallbackOnWorker(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.enter(f"reply {request}")
        await asyncio.sleep(0)
        stage.leave()


@worker("callback-line")
class CallbackHoldOnWorker(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.enter(f"reply {request}")
        await stage.gate.wait()
        stage.leave()


@command(queue="callback-queue")
class CallbackHoldInQueue(CallbackHoldOnWorker):
    pass


async def until_callback_retries(jobs: BackgroundJobs, id: int) -> Job:
    """Wait until a callback has failed and waits for its next attempt; its job then."""

    async def waits() -> bool:
        found = await job(jobs, id)
        return found.state is EXECUTED and found.run_after is not None

    await eventually(waits)
    return await job(jobs, id)


# ── D-21 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("work", [CallbackWork, CallbackThreadWork])
@pytest.mark.parametrize("callback", [CallbackReply, CallbackThreadReply, "CallbackReply", "CallbackThreadReply"])
async def test_d21_a_callback_runs_after_success_with_the_result(
    jobs: BackgroundJobs, work: type[Any], callback: Any
) -> None:
    ref = await jobs.enqueue_command(work, "x", callback=callback)

    assert await ref.result(10) == "X"
    done = await job(jobs, ref.id)
    assert (done.state, done.attempts, done.callback_attempts) == (COMPLETED, 1, 1)
    assert done.notified is not None
    assert stage.done == ["work x", "reply X"]


async def test_d21_the_job_is_executed_meanwhile(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x", callback=LifeHold)
    await until(lambda: stage.inside == 1)

    executed = await until_state(jobs, ref.id, EXECUTED)
    assert (executed.response_body, executed.completed is None, executed.notified) == ('"x"', False, None)
    stage.gate.set()
    done = (await ref.wait(10)).job
    assert (done.state, done.completed, done.notified is None) == (COMPLETED, executed.completed, False)


async def test_d21_who_awaits_the_result_awaits_the_callback(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x", callback=LifeHold)
    await until(lambda: stage.inside == 1)

    with pytest.raises(TimeoutError):
        await ref.result(0.01)
    stage.gate.set()
    assert await ref.result(10) == "x"


async def test_d21_a_callback_without_a_request_runs_in_the_same_job(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNothing, callback=CallbackBare)
    await ref.wait(10)

    assert stage.done == [f"LifeNothing {ref.id} attempt 1"]
    assert [(one.phase, one.outcome) for one in await jobs.get_attempts(ref.id)] == [
        ("work", "Succeeded"), ("callback", "Succeeded"),
    ]  # fmt: skip
    assert await count(jobs) == 1


async def test_d21_a_failed_job_has_no_callback(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeFailOnce, "x", callback=CallbackReply)
    failed = (await ref.wait(10)).job

    assert (failed.state, failed.callback_attempts, failed.notified) == (FAILED, 0, None)
    assert stage.done == ["x"]


async def test_d21_an_unknown_name_is_refused_with_the_closest_one(jobs: BackgroundJobs) -> None:
    with pytest.raises(UnknownCommand, match="Did you mean 'CallbackReply'"):
        await jobs.enqueue_command(CallbackWork, "x", callback="CallbackReplay")

    assert await count(jobs) == 0


@pytest.mark.parametrize(
    ("work", "callback", "message"),
    [
        (CallbackCounts, CallbackReply, "^callback='CallbackReply' takes str, but CallbackCounts returns int"),
        (CallbackCounts, "CallbackReply", "^callback='CallbackReply' takes str, but CallbackCounts returns int"),
        (CallbackBare, CallbackReply, "^callback='CallbackReply' takes str, but CallbackBare has no result"),
    ],
)
async def test_d21_a_callback_that_does_not_take_the_result_is_refused(
    jobs: BackgroundJobs, work: Any, callback: Any, message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        await jobs.enqueue_command(work, callback=callback)
    with pytest.raises(InvalidOption, match=message):
        await jobs.enqueue_json(work.__name__, None, callback=callback)
    with pytest.raises(InvalidOption, match=message):
        await jobs.run_command_async(work, callback=callback)

    assert await count(jobs) == 0
    assert stage.done == []


@pytest.mark.parametrize("callback", [CallbackTakesWider, CallbackTakesAny, CallbackTakesUnion, CallbackBare])
async def test_d21_a_callback_may_take_a_wider_type(jobs: BackgroundJobs, callback: Any) -> None:
    ref = await jobs.enqueue_command(CallbackCounts, callback=callback)

    assert await ref.result(10) == 3


async def test_d21_what_depends_on_the_job_waits_for_its_callback(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x", callback=LifeHold)
    after = await jobs.enqueue_command(LifeNote, "after", depends_on=ref)
    await until_state(jobs, ref.id, EXECUTED)
    assert await state(jobs, after.id) is JobState.QUEUED
    stage.gate.set()

    assert (await after.wait(10)).summary.state is COMPLETED


# ── D-22 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_d22_a_callback_that_was_handed_back_runs_again_and_the_work_does_not(
    engine: Engine, place: str | Storage
) -> None:
    async with engine(place, shutdown_grace=0.0) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackHoldOnWorker)
        await until(lambda: stage.inside == 1)
    stage.gate.set()

    async with engine(place) as jobs:
        assert await jobs.ref(ref.id, CallbackWork).result(10) == "X"
        done = await job(jobs, ref.id)
        assert (done.attempts, done.callback_attempts) == (1, 2)
    assert stage.done == ["work x", "reply X", "reply X"]


async def test_d22_a_callback_that_nobody_started_runs_in_the_next_process(
    engine: Engine, place: str | Storage
) -> None:
    async with engine(place, queues={"default": 1}) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackHoldInQueue)
        await until_state(jobs, ref.id, EXECUTED)
    assert stage.done == ["work x"]
    stage.gate.set()

    async with engine(place) as jobs:
        assert (await jobs.ref(ref.id).wait(10)).summary.state is COMPLETED
    assert stage.done == ["work x", "reply X"]


# ── D-23 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_d23_a_callback_has_as_many_retries_as_its_job_and_the_work_is_not_repeated(
    jobs: BackgroundJobs,
) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackFlaky, retry_limit=2)

    assert await ref.result(10) == "X"
    done = await job(jobs, ref.id)
    assert (done.state, done.error, done.attempts, done.callback_attempts) == (COMPLETED, None, 1, 3)
    assert stage.done == ["work x", *["reply X"] * 3]


async def test_d23_the_budget_of_the_callback_is_not_that_of_the_work(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackFlaky, retry_limit=1)
    failed = (await ref.wait(10)).job

    assert (failed.state, failed.error_code, failed.callback_attempts) == (FAILED, "CallbackFailed", 2)


async def test_d23_a_retried_callback_waits_as_its_own_command_says(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackFails, retry_limit=1)
        waiting = await until_callback_retries(jobs, ref.id)
        assert waiting.run_after == clock.at + timedelta(seconds=30)
        assert (waiting.wait_reason or "").startswith("Retrying at")
        await clock.advance(30)

        assert (await ref.wait(10)).summary.error_code == "CallbackFailed"
    assert stage.done == ["work x", "reply X", "reply X"]


async def test_d23_a_callback_that_fails_for_good_fails_the_job_and_the_result_is_kept(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackFails, retry_limit=0)
    found = await ref.wait(10)

    assert (found.job.state, found.job.error_code, found.response()) == (FAILED, "CallbackFailed", "X")
    assert found.job.error is not None
    assert (found.job.error.message, found.job.notified is None) == ("cannot reply X", False)
    assert [(one.phase, one.outcome) for one in await jobs.get_attempts(ref.id)] == [
        ("work", "Succeeded"), ("callback", "Failed"),
    ]  # fmt: skip
    with pytest.raises(JobFailed, match="CallbackFailed: cannot reply X"):
        await ref.result(10)


async def test_d23_fail_ends_a_callback_without_retries(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackUntilFixed, retry_limit=5)

    assert (await ref.wait(10)).job.callback_attempts == 1


async def test_d23_a_requeue_runs_only_the_callback_again(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackUntilFixed)
    await ref.wait(10)
    stage.gate.set()
    again = await jobs.requeue_failed_job(ref.id)

    assert await again.result(10) == "X"
    done = await job(jobs, ref.id)
    assert (done.state, done.error, done.attempts, done.callback_attempts) == (COMPLETED, None, 1, 2)
    assert stage.done == ["work x", "reply X", "reply X"]


async def test_d23_a_requeued_callback_has_its_full_budget(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackFails, retry_limit=1)
        for run in range(2):
            await until_callback_retries(jobs, ref.id)
            await clock.advance(30)
            assert (await ref.wait(10)).job.callback_attempts == 2 * (run + 1)
            if run == 0:
                await jobs.requeue_failed_job(ref.id)

    assert stage.done == ["work x", *["reply X"] * 4]


async def test_d23_the_attempts_of_every_run_are_kept(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackUntilFixed)
    await ref.wait(10)
    stage.gate.set()
    await (await jobs.requeue_failed_job(ref.id)).wait(10)

    assert [(one.phase, one.number, one.outcome) for one in await jobs.get_attempts(ref.id)] == [
        ("work", 1, "Succeeded"), ("callback", 1, "Failed"), ("callback", 2, "Succeeded"),
    ]  # fmt: skip


async def test_d23_a_snoozed_callback_uses_no_budget(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackSnoozes, retry_limit=0)
        await until_callback_retries(jobs, ref.id)
        await clock.advance(60)

        assert await ref.result(10) == "X"
    assert stage.done == ["work x", "reply X", "reply X"]


async def test_d23_a_callback_that_times_out_has_failed(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "x", callback=LifeHold, timeout=5, retry_limit=0)
        await until(lambda: stage.inside == 1)
        await clock.advance(5)

        failed = (await ref.wait(10)).job
        assert (failed.state, failed.error_code, failed.response_body) == (FAILED, "CallbackFailed", '"x"')
        assert [one.error and one.error.code for one in await jobs.get_attempts(ref.id)] == [None, "Timeout"]


# ── D-24, D-25 ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_d24_a_callback_runs_as_the_user_of_its_job(jobs: BackgroundJobs) -> None:
    refs = [await jobs.enqueue_command(CallbackWork, id, callback=CallbackWho, user_id=id) for id in ("ann", "bob")]
    for ref in refs:
        await ref.wait(10)

    assert sorted(line for line in stage.done if " for " in line) == ["ANN for ann", "BOB for bob"]


async def test_d25_ten_jobs_with_callbacks_are_ten_callbacks(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(CallbackWork, [f"{n}" for n in range(10)], callback=CallbackReply)
    for ref in refs:
        await ref.wait(10)

    assert sorted(line for line in stage.done if line.startswith("reply")) == [f"reply {n}" for n in range(10)]
    assert await count(jobs) == 10


# ── slots ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_worker_of_the_work_is_free_at_executed(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWorkerWork, "a", callback=LifeHold)
    await until(lambda: stage.inside == 1)

    other = await jobs.enqueue_command(CallbackWorkerWork, "b")
    assert await other.result(10) == "B"
    assert await state(jobs, ref.id) is EXECUTED


async def test_the_key_of_the_work_is_free_at_executed(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "a", callback=LifeHold, concurrency_key="k")
    await until(lambda: stage.inside == 1)

    other = await jobs.enqueue_command(CallbackWork, "b", concurrency_key="k")
    assert await other.result(10) == "B"
    assert await state(jobs, ref.id) is EXECUTED


async def test_the_place_in_the_queue_is_free_at_executed(engine: Engine) -> None:
    async with engine(queues={"work": 1, "callback-queue": 1}) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "a", callback=CallbackHoldInQueue, queue="work")
        await until(lambda: stage.inside == 1)

        other = await jobs.enqueue_command(CallbackWork, "b", queue="work")
        assert await other.result(10) == "B"
        assert await state(jobs, ref.id) is EXECUTED


async def test_callbacks_on_a_named_worker_run_one_at_a_time(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(CallbackWork, [f"{n}" for n in range(20)], callback=CallbackOnWorker)
    for ref in refs:
        await ref.wait(10)

    assert (stage.most_inside, sum(line.startswith("reply") for line in stage.done)) == (1, 20)


async def test_a_callback_waits_for_its_named_worker_and_says_so(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "holder", worker="callback-line")
    await until(lambda: stage.inside == 1)
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackOnWorker)

    waiting = await until_state(jobs, ref.id, EXECUTED)
    assert (waiting.wait_reason, waiting.worker) == (
        "Waits for worker 'callback-line', which runs one job at a time", None,
    )  # fmt: skip
    stage.gate.set()
    assert await ref.result(10) == "X"


# ── cancelling ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancelling_while_the_callback_runs_keeps_the_result(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x", callback=LifeHold)
    await until(lambda: stage.inside == 1)
    await until_state(jobs, ref.id, EXECUTED)
    assert await ref.cancel()
    found = await ref.wait(10)

    assert (found.summary.state, found.response(), stage.inside) == (JobState.CANCELLED, "x", 0)
    with pytest.raises(JobCancelled):
        await ref.result(10)


async def test_cancelling_while_the_callback_waits_for_its_retry_ends_it(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackFails)
        await until_callback_retries(jobs, ref.id)
        assert await ref.cancel()

        found = await ref.wait(10)
        assert (found.summary.state, found.response()) == (JobState.CANCELLED, "X")
        await clock.advance(60)
    assert stage.done == ["work x", "reply X"]


async def test_a_requeue_after_that_runs_only_the_callback(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(CallbackWork, "x", callback=CallbackHoldOnWorker)
    await until(lambda: stage.inside == 1)
    await ref.cancel()
    await ref.wait(10)
    stage.gate.set()

    assert await (await jobs.requeue_failed_job(ref.id)).result(10) == "X"
    assert stage.done == ["work x", "reply X", "reply X"]
