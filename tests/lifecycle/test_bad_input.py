"""Bad input: it is refused with a sentence that names what is wrong, and nothing is written."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from commandjobs import (
    AsyncCommand,
    BackgroundJobs,
    CommandJobsError,
    InvalidCommand,
    InvalidOption,
    InvalidRequest,
    StorageUnavailable,
    UnknownDependency,
)
from tests.lifecycle.commands import LifeEcho, LifeFailOnce, LifeNote, LifeNothing, count, job, stage

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class Item(BaseModel):
    name: str
    price: float = 0.0
    secret: str = Field(default="", exclude=True)


class PricierItem(Item):
    margin: float = 1.0


class Basket(BaseModel):
    items: list[Item]
    anything: Any = None


class BadInputBasket(AsyncCommand[Basket]):
    async def run(self, request: Basket) -> None:
        stage.done.append("run")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Basket(items=[Item(name="a", price=float("nan"))]), r"items\.0\.price"),
        (Basket(items=[Item(name="a", price=float("inf"))]), r"items\.0\.price"),
        (Basket(items=[Item(name="a\0b")]), r"items\.0\.name"),
        (Basket(items=[Item(name="\ud800")]), r"items\.0\.name"),
        (Basket(items=[Item(name="a", secret="s")]), r"items\.0\.secret"),
        (Basket(items=[PricierItem(name="a", margin=2.0)]), r"items\.0"),
        (Basket(items=[], anything=object()), "anything"),
        (Basket(items=[], anything={1, 2}), "anything"),
        (Basket(items=[], anything=(1, 2)), "anything"),
        (Item(name="a"), "must be Basket, got Item"),
        ("text", "must be Basket, got str"),
        (None, "must be Basket"),
    ],
)
async def test_a_request_that_would_not_come_back_is_refused_by_field(
    jobs: BackgroundJobs, request_: Any, field: str
) -> None:
    with pytest.raises(InvalidRequest, match=field):
        await jobs.enqueue_command(BadInputBasket, request_)

    assert await count(jobs) == 0


async def test_e15_a_request_over_the_limit_is_refused(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeEcho, "x" * 999_998)
    with pytest.raises(InvalidRequest, match=r"1,000,001 characters .* limit is 1,000,000"):
        await jobs.enqueue_command(LifeEcho, "x" * 999_999)

    assert await count(jobs) == 1


async def test_one_bad_request_among_many_refuses_all(jobs: BackgroundJobs) -> None:
    requests: list[Any] = ["a", "b", 3, "d"]
    with pytest.raises(InvalidRequest, match="must be str, got int"):
        await jobs.enqueue_many(LifeEcho, requests)

    assert await count(jobs) == 0


async def test_a_missing_and_an_extra_request_are_refused(jobs: BackgroundJobs) -> None:
    enqueue: Any = jobs.enqueue_command
    with pytest.raises(InvalidRequest, match="takes one request of type str"):
        await enqueue(LifeEcho)
    with pytest.raises(InvalidRequest, match="takes no request"):
        await enqueue(LifeNothing, "extra")

    assert await count(jobs) == 0


@pytest.mark.parametrize("text", ["{", "[]", '{"items": [{"price": "x"}]}', '{"items": 3}', None, ""])
async def test_json_that_does_not_validate_is_refused_with_its_fields(jobs: BackgroundJobs, text: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await jobs.enqueue_json("BadInputBasket", text)

    assert refused.value.errors
    assert await count(jobs) == 0


async def test_json_is_stored_as_the_request_it_stands_for(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_json("BadInputBasket", '{"items": [{"name": "a", "price": "2"}], "unknown": 1}')

    found = await ref.wait(10)
    assert found.request() == Basket(items=[Item(name="a", price=2.0)])
    assert stage.done == ["run"]


async def test_what_is_no_command_is_refused(jobs: BackgroundJobs) -> None:
    enqueue: Any = jobs.enqueue_command
    for thing in (Basket, BadInputBasket(), "BadInputBasket", None):
        with pytest.raises(InvalidCommand):
            await enqueue(thing, Basket(items=[]))

    assert await count(jobs) == 0


async def test_d11_an_unknown_parent_is_refused_and_nothing_is_written(jobs: BackgroundJobs) -> None:
    with pytest.raises(UnknownDependency, match="4711"):
        await jobs.enqueue_command(LifeEcho, "a", depends_on=4711)
    with pytest.raises(UnknownDependency, match="4711"):
        await jobs.enqueue_many(LifeEcho, ["a", "b"], depends_on=4711)

    assert await count(jobs) == 0


async def test_an_engine_that_is_not_entered_says_so() -> None:
    jobs = BackgroundJobs("memory://")
    with pytest.raises(StorageUnavailable, match="not entered"):
        await jobs.enqueue_command(LifeNote, "a")
    with pytest.raises(StorageUnavailable, match="not entered"):
        await jobs.get_job(1)


async def test_an_engine_is_entered_once(jobs: BackgroundJobs) -> None:
    with pytest.raises(CommandJobsError, match="is entered already"):
        await jobs.__aenter__()

    await (await jobs.enqueue_command(LifeNote, "a")).wait(10)


@pytest.mark.parametrize("id", [0, -1, True, "1", 1.0, None, 2**63])
async def test_what_is_no_id_is_refused(jobs: BackgroundJobs, id: Any) -> None:
    for method in (
        jobs.get_job, jobs.get_logs, jobs.get_attempts, jobs.cancel_job, jobs.requeue_failed_job, jobs.replay_job,
        jobs.update_job,
    ):  # fmt: skip
        with pytest.raises(InvalidOption, match="id"):
            await method(id)
    for several in (jobs.cancel_jobs, jobs.requeue_failed_jobs):
        with pytest.raises(InvalidOption, match="ids"):
            await several(ids=[id])


@pytest.mark.parametrize("id", [0, -1, True, 1.5, None, "", "x" * 201])
async def test_what_is_no_id_gives_no_handle(jobs: BackgroundJobs, id: Any) -> None:
    for face in (jobs, jobs.sync):
        with pytest.raises(InvalidOption, match="id must"):
            face.ref(id)


@pytest.mark.parametrize("timeout", ["5", True, [1]])
async def test_what_is_no_time_to_wait_is_refused(jobs: BackgroundJobs, timeout: Any) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "a")
    for wait in (ref.result, ref.wait, jobs.wait_until_idle):
        with pytest.raises(InvalidOption, match="timeout must be a number of seconds or a timedelta"):
            await wait(timeout)


async def test_a_wait_that_is_over_already_runs_out_at_once(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "a", run_after=timedelta(hours=1))
    with pytest.raises(TimeoutError):
        await ref.wait(-1)


@pytest.mark.parametrize("requests", ["abc", b"abc", Item(name="a"), None, 5])
async def test_one_request_is_not_many(jobs: BackgroundJobs, requests: Any) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^enqueue_many takes several requests of LifeEcho, .* use enqueue_command"
    ):
        await jobs.enqueue_many(LifeEcho, requests)

    assert await count(jobs) == 0


@pytest.mark.parametrize("by", ["", 5, "x" * 201])
async def test_an_actor_has_a_name(jobs: BackgroundJobs, by: Any) -> None:
    for method in (jobs.cancel_job, jobs.requeue_failed_job, jobs.replay_job, jobs.update_job):
        with pytest.raises(InvalidOption, match="by must"):
            await method(1, by=by)
    for several in (jobs.cancel_jobs, jobs.requeue_failed_jobs):
        with pytest.raises(InvalidOption, match="by must"):
            await several(ids=[1], by=by)


async def test_what_cannot_be_called_is_no_hook(jobs: BackgroundJobs) -> None:
    nothing: Any = None
    for add in (jobs.on_finished, jobs.on_failed):
        with pytest.raises(InvalidOption, match=f"^{add.__name__} needs a function that takes a Job, got None"):
            add(nothing)


@pytest.mark.parametrize(
    ("filters", "name"),
    [
        ({"states": ["Sleeping"]}, "states"),
        ({"states": "Queued"}, "states"),
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001  naive is the point
        ({"until": "today"}, "until"),
        ({"month": "2026-01"}, "month"),
        ({"limit": 0}, "limit"),
        ({"limit": 1_001}, "limit"),
        ({"after": "page 2"}, "after"),
        ({"after": 3}, "after"),
        ({"args": ["k"]}, "args"),
        ({"command": 3}, "command"),
        ({"parent_id": "1"}, "parent_id"),
        ({"tag": ["red"]}, "tag"),
        ({"text": 3}, "text"),
        ({"text": "a\0b"}, "text"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_name(
    jobs: BackgroundJobs, filters: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidOption, match=name):
        await jobs.find_jobs(**filters)


@pytest.mark.parametrize(
    "changes",
    [{"run_after": 5}, {"priority": "1"}, {"queue": ""}, {"run_after": datetime(2026, 1, 1)}],  # noqa: DTZ001
)
async def test_a_change_that_cannot_be_is_refused(jobs: BackgroundJobs, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(changes))):
        await jobs.update_job(1, **changes)


async def test_cancel_and_requeue_of_everything_must_be_said(jobs: BackgroundJobs) -> None:
    with pytest.raises(InvalidOption, match="all=True"):
        await jobs.cancel_jobs()
    with pytest.raises(InvalidOption, match="all=True"):
        await jobs.requeue_failed_jobs()
    with pytest.raises(InvalidOption, match="states"):
        await jobs.cancel_jobs(states=["Sleeping"])  # type: ignore[list-item]


async def test_a_failed_parent_cancels_its_dependent_at_once(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeFailOnce, "a")
    await parent.wait(10)
    dependent = await jobs.enqueue_command(LifeNote, "b", depends_on=parent)

    cancelled = await job(jobs, dependent.id)
    assert (cancelled.state.value, cancelled.error_code) == ("Cancelled", "ParentFailed")
    assert cancelled.error is not None
    assert cancelled.error.message == "Parent Job failed"
    assert stage.done == ["a"]
