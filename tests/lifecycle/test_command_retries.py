"""C-02 to C-07: what a command says about its retries, and what is checked before it runs."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    Fail,
    InvalidRequest,
    JobState,
    SyncCommand,
    current_job,
    retry,
)
from commandjobs.model.row import JobRow
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import count, job, stage, until_retry

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class RetriesOops(Exception):
    pass


class RetriesPlain(AsyncCommand):
    async def run(self) -> None:
        stage.done.append(f"attempt {current_job().attempt}")
        raise RetriesOops("plain")


@retry()
class RetriesDefault(RetriesPlain):
    pass


@retry(limit=1)
class RetriesOnce(RetriesPlain):
    pass


@retry(limit=4)
class RetriesFour(RetriesPlain):
    pass


@retry(limit=5, never_on=(LookupError,))
class RetriesNever(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        if request == "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        raise {"subclass": KeyError, "fail": Fail, "value": ValueError}[request](request)


class RetriesOrder(BaseModel):
    amount: Annotated[int, Field(gt=0)]
    name: str


class RetriesTakesOrder(AsyncCommandWithResult[RetriesOrder, int]):
    async def run(self, request: RetriesOrder) -> int:
        stage.done.append("ran")
        return request.amount


class RetriesValidates(SyncCommand):
    """Its own check of something else fails while it runs."""

    def run(self) -> None:
        RetriesOrder.model_validate({"amount": 0, "name": 1})


async def run_out(jobs: BackgroundJobs, clock: FakeClock, command: type[Any], **options: Any) -> list[str]:
    """All attempts of a transient run that always fails."""
    run = jobs.run_command(command, **options)
    for _ in range(10):
        await until(lambda: run.error)
        await clock.advance(300)
    with pytest.raises(RetriesOops):
        await run
    return stage.done


async def test_c02_a_run_in_memory_without_retry_is_made_once(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        assert await run_out(jobs, clock, RetriesPlain) == ["attempt 1"]


@pytest.mark.parametrize(("command", "executions"), [(RetriesDefault, 3), (RetriesOnce, 2), (RetriesFour, 5)])
async def test_c03_retry_gives_its_limit_of_retries_and_attempts_count_from_1(
    engine: Engine, clock: FakeClock, command: type[Any], executions: int
) -> None:
    async with engine(clock=clock) as jobs:
        done = await run_out(jobs, clock, command)

        assert done == [f"attempt {number}" for number in range(1, executions + 1)]


@pytest.mark.parametrize(
    ("command", "limit"), [(RetriesDefault, 2), (RetriesOnce, 1), (RetriesFour, 4), (RetriesPlain, 7)]
)
async def test_c06_retry_is_the_default_policy_of_the_commands_jobs_and_there_is_no_other(
    engine: Engine, command: type[Any], limit: int
) -> None:
    async with engine(retry_limit=7) as jobs:
        ref = await jobs.enqueue_command(command)

        assert (await job(jobs, ref.id)).retry_limit == limit


async def test_c06_retry_limit_of_the_call_wins(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(RetriesFour, retry_limit=1)
        await until_retry(jobs, ref.id, attempts=1)
        await clock.advance(300)
        await ref.wait(5)

        assert (await job(jobs, ref.id)).attempts == 2


async def test_c04_the_first_retry_waits_half_to_all_of_five_seconds(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(RetriesDefault)

        failed = await until_retry(jobs, ref.id, attempts=1)

        assert failed.run_after is not None
        assert 2.5 <= (failed.run_after - clock.at).total_seconds() <= 5.0


@pytest.mark.parametrize(("raised", "state"), [("subclass", "Failed"), ("fail", "Failed"), ("group", "Failed")])
async def test_c05_what_is_never_retried_fails_at_once(jobs: BackgroundJobs, raised: str, state: str) -> None:
    ref = await jobs.enqueue_command(RetriesNever, raised)
    await ref.wait(5)

    failed = await job(jobs, ref.id)

    assert (failed.state, failed.attempts) == (state, 1)


async def test_c05_a_handlers_own_value_error_is_retried(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(RetriesNever, "value")

    assert (await until_retry(jobs, ref.id, attempts=1)).error_code == "ValueError"


async def test_c05_a_handlers_own_validation_error_is_retried_and_names_its_fields(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(RetriesValidates)

    failed = await until_retry(jobs, ref.id, attempts=1)

    assert failed.error is not None
    assert (failed.error.code, [field.field for field in failed.error.errors]) == (
        "ValidationError",
        ["amount", "name"],
    )


async def test_c07_a_request_is_validated_before_anything_is_stored(jobs: BackgroundJobs) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await jobs.enqueue_json("RetriesTakesOrder", '{"amount": 0}')

    assert [(field, code) for field, code, _ in refused.value.errors] == [
        ("amount", "greater_than"),
        ("name", "missing"),
    ]
    assert await count(jobs) == 0


async def test_c07_a_stored_request_that_no_longer_validates_fails_with_its_fields_and_is_not_retried(
    jobs: BackgroundJobs,
) -> None:
    row = JobRow(ref_id="old", command="RetriesTakesOrder", created=1, request_body='{"amount": -1}', retry_limit=5)
    await jobs._engine.storage.insert([row], now=jobs._settings.clock.now())
    jobs._engine.dispatcher.fetcher.look()
    await jobs.ref(row.id).wait(5)

    failed = await job(jobs, row.id)

    assert (failed.state, failed.error_code, failed.attempts) == (JobState.FAILED, "InvalidRequest", 1)
    assert failed.error is not None
    assert [(field.field, field.code) for field in failed.error.errors] == [
        ("amount", "greater_than"),
        ("name", "missing"),
    ]
    assert stage.done == []
