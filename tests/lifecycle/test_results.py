"""Results: what is stored and rebuilt, and what a `JobRef` gives to those who wait."""

import pickle
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobRef,
    JobState,
    ResultNotStored,
    StorageUnavailable,
    SyncCommandWithResult,
    command,
    retry,
)
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeFailOnce, LifeHold, LifeNote, LifeNothing, job, stage, state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
LIMIT = 1_000_000
LATER: dict[str, Any] = {"run_after": timedelta(hours=1)}


class Line(BaseModel):
    price: Decimal
    at: datetime
    id: UUID


@dataclass
class Receipt:
    lines: list[Line]
    notes: dict[str, str | None]


RECEIPT = Receipt(
    lines=[Line(price=Decimal("1.10"), at=datetime(2026, 1, 15, 12, tzinfo=UTC), id=UUID(int=7))],
    notes={"a": "ä€😀", "b": None},
)


class ResultReceipt(AsyncCommandWithResult[Receipt]):
    async def run(self) -> Receipt:
        return RECEIPT


class ResultThreadReceipt(SyncCommandWithResult[Receipt]):
    def run(self) -> Receipt:
        return RECEIPT


class ResultMaybe(AsyncCommandWithResult[bool, str | None]):
    async def run(self, request: bool) -> str | None:
        return "something" if request else None


class ResultLong(AsyncCommandWithResult[int, str]):
    """A result of so many characters of JSON."""

    async def run(self, request: int) -> str:
        return "x" * (request - 2)


@command(queue="elsewhere")
class ResultElsewhere(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        return request


class ResultWrong(AsyncCommandWithResult[int]):
    async def run(self) -> int:
        return "many"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@retry(limit=2, backoff="fixed", delay=0.01)
class ResultFails(AsyncCommand):
    async def run(self) -> None:
        stage.done.append("run")
        raise LookupError(f"attempt {len(stage.done)}")


# ── what is stored ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", [ResultReceipt, ResultThreadReceipt])
async def test_x02_a_result_is_stored_with_its_type_and_rebuilt(jobs: BackgroundJobs, command: type[Any]) -> None:
    ref = await jobs.enqueue_command(command)

    assert await ref.result(10) == RECEIPT
    found = await jobs.get_job(ref.id)
    assert found is not None
    assert (found.job.response, found.response()) == ("Receipt", RECEIPT)
    assert '"price":"1.10"' in (found.job.response_body or "")


async def test_x02_a_result_may_be_none(jobs: BackgroundJobs) -> None:
    some, none = await jobs.enqueue_many(ResultMaybe, [True, False])

    assert (await some.result(10), await none.result(10)) == ("something", None)
    assert (await job(jobs, none.id)).response_body == "null"


async def test_x02_a_command_without_a_result_has_none(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNothing)
    await ref.wait(10)

    done = await job(jobs, ref.id)
    assert (done.response, done.response_body, done.meta) == (None, None, {})


async def test_x02_a_result_of_the_wrong_type_fails_the_job_without_retries(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ResultWrong, retry_limit=5)

    with pytest.raises(JobFailed, match="InvalidResult"):
        await ref.result(10)
    assert (await job(jobs, ref.id)).attempts == 1


async def test_x17_a_result_of_just_the_limit_is_stored(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ResultLong, LIMIT)

    assert len(await ref.result(10)) == LIMIT - 2


async def test_x17_a_result_over_the_limit_is_dropped_and_meta_says_so(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ResultLong, LIMIT + 1)
    found = await ref.wait(10)

    assert (found.job.state, found.job.response_body, found.response()) == (JobState.COMPLETED, None, None)
    assert found.job.meta == {"result": "dropped: 1,000,001 characters are over the limit"}
    with pytest.raises(ResultNotStored, match=rf"job {ref.id} \(ResultLong\) was not stored: dropped: 1,000,001"):
        await ref.result(10)


async def test_x17_with_a_callback_that_needs_it_the_job_has_failed(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ResultLong, LIMIT + 1, callback=LifeNote, retry_limit=5)
    failed = (await ref.wait(10)).job

    assert (failed.state, failed.error_code, failed.attempts) == (JobState.FAILED, "ResultTooLarge", 1)
    assert failed.error is not None
    assert "the job's callback needs it" in failed.error.message
    assert (stage.done, failed.callback_attempts) == ([], 0)


# ── awaiting ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_d29_many_wait_for_one_job(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "x")
    waits = [jobs.ref(ref.id).wait(10), jobs.ref(ref.ref_id).wait(10), ref.wait(timedelta(seconds=10))]
    stage.gate.set()

    assert [(await wait).summary.state for wait in waits] == [JobState.COMPLETED] * 3


async def test_d29_a_wait_for_an_ended_job_returns_at_once(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x")
    await jobs.wait_until_idle(10)

    assert await ref.result(10) == await ref.result(10) == "x"


async def test_d29_a_wait_that_runs_out_raises_and_does_not_touch_the_job(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "x")
    await until(lambda: stage.inside == 1)
    with pytest.raises(TimeoutError):
        await ref.wait(0.01)
    with pytest.raises(TimeoutError):
        await ref.result(timedelta(milliseconds=10))

    assert await state(jobs, ref.id) is JobState.STARTED
    stage.gate.set()
    assert (await ref.wait(10)).summary.state is JobState.COMPLETED


async def test_d29_a_wait_of_no_time_only_looks(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "x", **LATER)

    with pytest.raises(TimeoutError):
        await ref.result(0)


async def test_job_failed_tells_of_the_job_and_its_last_error(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(ResultFails)

    with pytest.raises(JobFailed, match=rf"Job {ref.id} \(ResultFails\) failed with LookupError: attempt 3") as caught:
        await ref.result(10)
    assert (caught.value.job.id, caught.value.job.attempts, caught.value.job.state) == (ref.id, 3, JobState.FAILED)
    assert (caught.value.error.code, caught.value.error.message) == ("LookupError", "attempt 3")
    assert "raise LookupError" in (caught.value.error.stack_trace or "")


async def test_a_wait_does_not_raise_what_the_job_failed_with(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeFailOnce, "x")
    found = await ref.wait(10)

    assert (found.summary.state, found.failed is found.job, found.completed) == (JobState.FAILED, True, None)


async def test_job_cancelled_tells_which_job_and_why(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeHold, "parent")
    ref = await jobs.enqueue_command(LifeEcho, "x", depends_on=parent)
    assert await parent.cancel()

    with pytest.raises(JobCancelled, match=rf"Job {parent.id} \(LifeHold\) was cancelled"):
        await parent.result(10)
    with pytest.raises(JobCancelled, match=rf"Job {ref.id} \(LifeEcho\) was cancelled: Parent Job failed"):
        await ref.result(10)


@pytest.mark.parametrize("key", [4711, "no-such-job"])
async def test_an_unknown_job_is_not_found(jobs: BackgroundJobs, key: int | str) -> None:
    ref: JobRef[Any] = jobs.ref(key)
    with pytest.raises(JobNotFound, match=repr(key)):
        await ref.wait(1)
    with pytest.raises(JobNotFound, match=repr(key)):
        await ref.result(1)

    assert not await ref.cancel()


# ── handles ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_handle_by_id_or_ref_id_gives_the_same_job(jobs: BackgroundJobs) -> None:
    id, ref_id = await jobs.enqueue_command(ResultReceipt, ref_id="receipt-7")

    assert await jobs.ref(id, ResultReceipt).result(10) == RECEIPT
    assert await jobs.ref(ref_id, ResultReceipt).result(10) == RECEIPT
    assert (jobs.ref(id).ref_id, jobs.ref(ref_id).id) == ("", 0)


async def test_a_handle_by_ref_id_cancels(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "x", ref_id="mine", **LATER)

    assert await jobs.ref("mine").cancel()
    assert await state(jobs, ref.id) is JobState.CANCELLED
    assert not await jobs.ref("mine").cancel()


async def test_a_handle_is_a_pair_that_can_be_passed_on(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "x")
    passed_on: JobRef[str] = pickle.loads(pickle.dumps(ref))

    assert passed_on == ref == (ref.id, ref.ref_id)
    with pytest.raises(StorageUnavailable, match=r"Use `jobs\.ref\(id\)`"):
        await passed_on.result(10)
    assert await jobs.ref(passed_on.id, LifeEcho).result(10) == "x"


async def test_a_handle_whose_engine_was_left_says_so(engine: Engine) -> None:
    async with engine() as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "x")

    with pytest.raises(StorageUnavailable, match="not entered"):
        await ref.wait(10)


# ── from another process (SQLite) ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'shared.db'}"


async def test_another_process_waits_for_a_result(engine: Engine, database: str) -> None:
    async with engine(database) as here, engine(database, execute=False) as outside:
        by_it = await outside.enqueue_command(LifeEcho, "enqueued there")
        by_us = await here.enqueue_command(LifeEcho, "enqueued here")

        assert await by_it.result(10) == "enqueued there"
        assert await outside.ref(by_us.id, LifeEcho).result(10) == "enqueued here"
        assert await outside.ref(by_us.ref_id, LifeEcho).result(10) == "enqueued here"


async def test_another_process_sees_where_a_job_is(engine: Engine, database: str) -> None:
    async with engine(database) as here, engine(database, execute=False) as outside:
        ref = await here.enqueue_command(LifeEcho, "x", callback=LifeHold)
        await until(lambda: stage.inside == 1)
        assert await state(outside, ref.id) is JobState.EXECUTED
        with pytest.raises(TimeoutError):
            await outside.ref(ref.id).wait(0.05)
        stage.gate.set()

        found = await outside.ref(ref.id).wait(10)
        assert (found.summary.state, found.request(), found.response()) == (JobState.COMPLETED, "x", "x")


async def test_another_process_is_told_what_a_job_failed_with(engine: Engine, database: str) -> None:
    async with engine(database), engine(database, execute=False) as outside:
        ref = await outside.enqueue_command(LifeFailOnce, "no")

        with pytest.raises(JobFailed, match="LifeError: no") as caught:
            await ref.result(10)
        assert caught.value.job.attempts == 1


async def test_another_process_cancels(engine: Engine, database: str) -> None:
    async with engine(database) as here, engine(database, execute=False) as outside:
        running = await here.enqueue_command(LifeHold, "x")
        waiting = await here.enqueue_command(LifeHold, "x", **LATER)
        await until(lambda: stage.inside == 1)
        assert await outside.ref(running.id).cancel()
        assert await outside.ref(waiting.ref_id).cancel()

        for ref in (running, waiting):
            assert (await outside.ref(ref.id).wait(10)).summary.state is JobState.CANCELLED
        assert not await outside.ref(running.id).cancel()


async def test_nobody_runs_a_job_while_only_onlookers_are_there(engine: Engine, database: str) -> None:
    async with engine(database, execute=False) as outside:
        ref = await outside.enqueue_command(LifeEcho, "x")
        with pytest.raises(TimeoutError):
            await ref.result(0.05)
        assert await state(outside, ref.id) is JobState.QUEUED

        async with engine(database):
            assert await ref.result(10) == "x"


async def test_a_queue_that_nobody_serves_keeps_its_jobs(engine: Engine, database: str) -> None:
    async with engine(database, queues={"default": 5}) as here, engine(database, execute=False) as outside:
        ref = await outside.enqueue_command(ResultElsewhere, "x")
        assert await (await outside.enqueue_command(LifeEcho, "default")).result(10) == "default"

        assert await state(here, ref.id) is JobState.QUEUED
