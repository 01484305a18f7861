"""Execution: states, results, the job's context, and who runs beside whom."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
import svcs
from pydantic import BaseModel, model_validator

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    JobFailed,
    JobState,
    NoCurrentJob,
    Registry,
    SyncCommand,
    SyncCommandWithResult,
    current_job,
    current_user,
    retry,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeFailOnce,
    LifeHold,
    LifeNote,
    LifeNothing,
    LifeThreadHold,
    LifeThreadNote,
    eventually,
    job,
    stage,
    state,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class Order(BaseModel):
    number: int
    lines: list[str] = []


class Receipt(BaseModel):
    total: int


class ExecutionReceipt(AsyncCommandWithResult[Order, Receipt]):
    async def run(self, request: Order) -> Receipt:
        return Receipt(total=request.number * len(request.lines))


class ExecutionNoResult(AsyncCommandWithResult[Receipt | None]):
    async def run(self) -> Receipt | None:
        return None


class ExecutionThread(SyncCommandWithResult[str]):
    def run(self) -> str:
        return f"{threading.current_thread() is threading.main_thread()} {current_job().command}"


class ExecutionThreadStops(SyncCommand):
    """Asks whether it was cancelled, as long code in a thread should."""

    def run(self) -> None:
        stage.enter("thread")
        while not stage.thread_gate.wait(0.002):
            current_job().raise_if_cancelled()


class ExecutionContext(AsyncCommandWithResult[dict[str, Any]]):
    async def run(self) -> dict[str, Any]:
        me = current_job()
        me.log.info("inside")
        return {
            "id": me.id,
            "ref_id": me.ref_id,
            "attempt": me.attempt,
            "cancelled": me.cancelled,
            "user": current_user(),
        }


class Connection:
    """A service with a life: opened for an attempt, closed after it."""


@retry(limit=1, backoff="fixed", delay=0.01)
class ExecutionWithService:
    """Plain, so that only the registry below knows it: every engine checks the services of the commands it knows."""

    def __init__(self, connection: Connection, log: logging.Logger) -> None:
        self.connection = connection
        stage.done.append(f"made with {log.name}")

    async def run(self, request: str) -> None:
        stage.done.append(request)
        if current_job().attempt == 1:
            raise ConnectionError("the first attempt")


class ExecutionThreadWithService:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(self) -> None:
        stage.done.append("run")


class Picky(BaseModel):
    """Validates until the stage's gate is open: as if its class had changed since it was enqueued."""

    text: str

    @model_validator(mode="after")
    def refuse(self) -> "Picky":
        if stage.gate.is_set():
            raise ValueError("no longer valid")
        return self


class ExecutionPicky(AsyncCommand[Picky]):
    async def run(self, request: Picky) -> None:
        stage.done.append(request.text)


class ExecutionExits(AsyncCommand):
    async def run(self) -> None:
        raise SystemExit(3)


class ExecutionThreadExits(SyncCommand):
    def run(self) -> None:
        raise SystemExit(3)


class ExecutionForEver(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        await self.run(request + 1)


class ExecutionWrongResult(AsyncCommandWithResult[Receipt]):
    async def run(self) -> Receipt:
        return object()  # type: ignore[return-value]


class ExecutionHuge(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        return "x" * 1_200_000


class ExecutionCancelsItself(AsyncCommand):
    """Raises what a cancellation raises, without one: as code does whose own task group was cancelled."""

    async def run(self) -> None:
        raise asyncio.CancelledError


class ExecutionJustEnds(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        stage.inside += 1
        if request % 3 == 0:
            await asyncio.sleep(0)


async def test_x01_a_job_goes_from_queued_to_started_to_completed(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "a")
    started = await until_state(jobs, ref.id, JobState.STARTED)
    stage.gate.set()

    ended = (await ref.wait(10)).job

    assert (started.attempts, started.completed) == (1, None)
    assert (ended.state, ended.attempts, ended.error) == (JobState.COMPLETED, 1, None)
    assert started.started is not None
    assert ended.completed is not None
    assert ended.created <= started.started <= ended.completed
    assert await state(jobs, ref.id) is JobState.COMPLETED


async def test_x02_a_result_is_stored_and_comes_back_typed(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionReceipt, Order(number=7, lines=["a", "b"]))

    assert await ref.result(10) == Receipt(total=14)
    done = await jobs.get_job(ref.id)
    assert done is not None
    assert (done.job.response, done.job.response_body) == ("Receipt", '{"total":14}')
    assert done.response() == Receipt(total=14)
    assert done.request() == Order(number=7, lines=["a", "b"])


async def test_x02_a_null_result_is_a_result(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionNoResult)

    assert await ref.result(10) is None
    assert (await job(jobs, ref.id)).response_body == "null"


async def test_x02_a_command_without_a_result_stores_none(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNothing)
    done = (await ref.wait(10)).job

    assert (done.response, done.response_body) == (None, None)


async def test_x05_a_job_is_found_by_id_and_by_ref_id(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "a", ref_id="order-1")
    live = await jobs.get_job_by_ref_id("order-1")
    stage.gate.set()
    await ref.wait(10)
    ended = await jobs.get_job(ref.id)

    assert live is not None
    assert ended is not None
    assert (live.summary.id, live.queued is None, live.completed, live.failed) == (ref.id, False, None, None)
    assert (ended.queued, ended.completed is None, ended.failed) == (None, False, None)
    assert await jobs.get_job(ref.id + 1000) is None
    assert await jobs.get_job_by_ref_id("order-2") is None


@pytest.fixture
def services() -> svcs.Registry:
    """A registry whose `Connection` notes when it is opened and closed."""

    async def connection() -> AsyncIterator[Connection]:
        stage.done.append("open")
        yield Connection()
        stage.done.append("close")

    registry = svcs.Registry()
    registry.register_factory(Connection, connection)
    return registry


async def test_x06_every_attempt_has_its_own_services_and_its_own_instance(
    engine: Engine, services: svcs.Registry
) -> None:
    registry = Registry()
    registry.register(ExecutionWithService)
    async with engine(services=services, registry=registry) as jobs:
        ref = await jobs.enqueue_json("ExecutionWithService", '"run"')
        assert (await ref.wait(10)).completed is not None

    attempt = ["open", "made with ExecutionWithService", "run", "close"]
    assert stage.done == attempt * 2


async def test_x06_services_of_a_thread_are_closed_before_the_job_counts_as_ended(
    engine: Engine, services: svcs.Registry
) -> None:
    registry = Registry()
    registry.register(ExecutionThreadWithService)
    async with engine(services=services, registry=registry) as jobs:
        ref = await jobs.enqueue_json("ExecutionThreadWithService", None)
        await ref.wait(10)
        assert stage.done == ["open", "run", "close"]


async def test_x07_running_code_knows_its_job_its_user_and_has_a_log(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionContext, user_id="ada")

    assert await ref.result(10) == {"id": ref.id, "ref_id": ref.ref_id, "attempt": 1, "cancelled": False, "user": "ada"}
    assert [line.message for line in await jobs.get_logs(ref.id)] == ["inside"]


async def test_x07_there_is_no_current_job_outside_of_one(jobs: BackgroundJobs) -> None:
    await (await jobs.enqueue_command(LifeNothing)).wait(10)

    with pytest.raises(NoCurrentJob):
        current_job()


async def test_x08_async_jobs_of_a_queue_are_limited_by_concurrency(engine: Engine) -> None:
    async with engine(concurrency=3) as jobs:
        refs = [await jobs.enqueue_command(LifeHold, f"{n}") for n in range(10)]
        await until(lambda: stage.inside == 3)
        stage.gate.set()
        for ref in refs:
            await ref.wait(10)

    assert stage.most_inside == 3


async def test_x08_each_queue_has_its_own_limit(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "a", queue="a")
        await jobs.enqueue_command(LifeHold, "b", queue="b")
        await until(lambda: stage.inside == 2)
        stage.gate.set()


async def test_x08_sync_jobs_are_limited_by_threads(engine: Engine) -> None:
    async with engine(threads=2) as jobs:
        refs = [await jobs.enqueue_command(LifeThreadHold, f"{n}") for n in range(6)]
        await until(lambda: stage.inside == 2)
        stage.thread_gate.set()
        for ref in refs:
            await ref.wait(10)

    assert stage.most_inside == 2


async def test_x08_sync_jobs_that_wait_for_threads_do_not_stop_async_ones(engine: Engine) -> None:
    async with engine(threads=1, concurrency=4) as jobs:
        for n in range(10):
            await jobs.enqueue_command(LifeThreadHold, f"{n}")
        await until(lambda: stage.inside == 1)

        assert await (await jobs.enqueue_command(LifeEcho, "async")).result(10) == "async"
        stage.thread_gate.set()
        await jobs.wait_until_idle(10)


async def test_x13_the_same_job_never_runs_twice_at_once(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "once")
    await until(lambda: stage.inside == 1)
    for _ in range(20):  # whatever makes the engine look again
        await jobs.update_job(ref.id, priority=1)
        await jobs.enqueue_command(LifeNote, "other", run_after=timedelta())
    stage.gate.set()
    await ref.wait(10)

    assert stage.done.count("once") == 1


async def test_x14_no_job_is_stranded_when_enqueues_race_idling(jobs: BackgroundJobs) -> None:
    """The engine falls idle again and again between these enqueues, at every place where it can."""

    async def enqueue_some(first: int) -> None:
        for n in range(first, first + 500):
            await jobs.enqueue_command(ExecutionJustEnds, n, queue=f"q{n % 3}")
            for _ in range(n % 7):
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for first in range(0, 5_000, 500):
            group.create_task(enqueue_some(first))
    await jobs.wait_until_idle(100)

    assert stage.inside == 5_000
    assert (await jobs.find_jobs(states=[JobState.COMPLETED])).total == 5_000


async def test_x14_no_sync_job_is_stranded_either(engine: Engine) -> None:
    async with engine(threads=3) as jobs:
        for n in range(1_000):
            await jobs.enqueue_command(LifeThreadNote, f"{n}")
            if n % 5 == 0:
                await asyncio.sleep(0)
        await jobs.wait_until_idle(30)

    assert len(stage.done) == 1_000


async def test_x15_a_sync_command_runs_in_a_thread_and_knows_its_job(jobs: BackgroundJobs) -> None:
    assert await (await jobs.enqueue_command(ExecutionThread)).result(10) == "False ExecutionThread"


async def test_x15_a_sync_command_sees_that_it_was_cancelled(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionThreadStops)
    await until(lambda: stage.inside == 1)
    assert await ref.cancel()

    assert (await ref.wait(10)).summary.state is JobState.CANCELLED


async def test_x17_a_result_over_the_limit_is_dropped_and_the_job_completes(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionHuge)
    done = (await ref.wait(10)).job

    assert (done.state, done.response_body) == (JobState.COMPLETED, None)
    assert "1,200,002 characters" in done.meta["result"]


async def test_x17_a_result_over_the_limit_fails_a_job_whose_callback_needs_it(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionHuge, callback=LifeNote)
    done = (await ref.wait(10)).job

    assert (done.state, done.error_code, done.attempts) == (JobState.FAILED, "ResultTooLarge", 1)
    assert stage.done == []


async def test_x19_a_workers_counts_are_right(jobs: BackgroundJobs) -> None:
    for n in range(3):
        await jobs.enqueue_command(LifeNote, f"{n}", worker="w")
    await jobs.enqueue_command(LifeFailOnce, "bad", worker="w")
    await jobs.wait_until_idle(10)
    running = await jobs.enqueue_command(LifeHold, "now", worker="w")
    await until(lambda: stage.inside == 1)
    await jobs.enqueue_command(LifeNote, "waits", worker="w")

    async def start_is_written() -> bool:  # behind the start itself
        return (await jobs.get_workers())[0].queued == 1

    await eventually(start_is_written)
    (worker,) = await jobs.get_workers()

    assert (worker.name, worker.received, worker.completed, worker.failed) == ("w", 5, 3, 1)
    assert (worker.queued, worker.running_job) == (1, running.id)
    assert worker.running_seconds is not None
    stage.gate.set()


async def test_x20_a_request_that_no_longer_validates_fails_without_retries(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        bad = await jobs.enqueue_command(ExecutionPicky, Picky(text="a"), run_after=timedelta(seconds=60), worker="w")
        after = await jobs.enqueue_command(LifeNote, "next", run_after=timedelta(seconds=60), worker="w")
        stage.gate.set()
        await clock.advance(60)

        failed = (await bad.wait(5)).job
        assert (failed.state, failed.error_code, failed.attempts) == (JobState.FAILED, "InvalidRequest", 1)
        assert failed.error is not None
        assert "no longer valid" in failed.error.errors[0].message
        assert (await after.wait(5)).completed is not None


@pytest.mark.parametrize("command", [ExecutionExits, ExecutionThreadExits, ExecutionCancelsItself])
async def test_whatever_a_handler_raises_is_its_jobs_failure(jobs: BackgroundJobs, command: Any) -> None:
    ref = await jobs.enqueue_command(command, retry_limit=0)

    failed = (await ref.wait(10)).job
    assert (failed.state, failed.error_code) == (JobState.FAILED, failed.error.code if failed.error else None)
    assert await (await jobs.enqueue_command(LifeEcho, "goes on")).result(10) == "goes on"


async def test_endless_recursion_is_its_jobs_failure(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionForEver, 0, retry_limit=0)

    failed = (await ref.wait(10)).job
    assert failed.error_code == "RecursionError"
    assert failed.error is not None
    assert len(failed.error.stack_trace or "") < 30_000


async def test_a_result_of_the_wrong_type_is_its_jobs_failure_and_not_retried(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ExecutionWrongResult)

    with pytest.raises(JobFailed, match="must be Receipt, got object"):
        await ref.result(10)
    assert (await job(jobs, ref.id)).attempts == 1


async def test_a_job_of_an_unknown_command_is_left_alone_and_says_so(engine: Engine) -> None:
    async with engine(registry=Registry()) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "a")
        await jobs.wait_until_idle(10)

        waiting = await job(jobs, ref.id)
    assert (waiting.state, waiting.wait_reason) == (JobState.QUEUED, "Waits for a node that knows its command")
