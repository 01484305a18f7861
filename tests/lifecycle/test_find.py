"""`find_jobs`: every filter, over waiting, running and finished jobs of all months, in pages without doubles."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, Fail, InvalidOption, JobPage, JobRef, JobState, current_job
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeHold, LifeNote, LifeNothing, count, job, stage, until_state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
LATER: dict[str, Any] = {"run_after": timedelta(days=365)}
DECEMBER = datetime(2025, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
JANUARY = DECEMBER + timedelta(milliseconds=1)


class FindFails(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        raise Fail(request)


class FindOther(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        pass


class FindWakes(AsyncCommand[str]):
    """Runs until it is cancelled, or the gate opens."""

    async def run(self, request: str) -> None:
        stage.enter(f"{current_job().id}")
        await stage.gate.wait()
        stage.leave()


async def every_page(jobs: BackgroundJobs, limit: int, **filters: Any) -> list[JobPage]:
    """All pages, from the newest job to the oldest."""
    pages = [await jobs.find_jobs(limit=limit, **filters)]
    while pages[-1].next is not None:
        pages.append(await jobs.find_jobs(limit=limit, after=pages[-1].next, **filters))
    return pages


async def ids(jobs: BackgroundJobs, **filters: Any) -> list[int]:
    """The jobs that are found, oldest first; by pages of every size."""
    found = [summary.id for summary in (await jobs.find_jobs(**filters)).jobs]
    for limit in (1, 2):
        assert [one.id for page in await every_page(jobs, limit, **filters) for one in page.jobs] == found
    assert (await jobs.find_jobs(**filters)).total == len(found)
    return found[::-1]


OPTIONS: list[tuple[str, Any, dict[str, Any]]] = [
    ("command", "FindOther", {}),
    ("ref_id", "mine", {"ref_id": "mine"}),
    ("worker", "line", {"worker": "line"}),
    ("queue", "mail", {"queue": "mail"}),
    ("tag", "red", {"tags": ["green", "red"]}),
    ("batch_id", "b", {"batch_id": "b"}),
    ("created_by", "eve", {"created_by": "eve"}),
    ("user_id", "7", {"user_id": "7"}),
    ("tenant_id", "t", {"tenant_id": "t"}),
    ("args", {"order": "12"}, {"args": {"order": "12", "shop": "x"}}),
    ("text", "OTHER", {}),
    ("text", "e-nüm", {"ref_id": "the-nümber"}),
    ("text", "gree", {"tags": ["green"]}),
    ("text", "lin", {"worker": "line"}),
    ("text", "50%", {"tags": ["50%_off"]}),
]


@pytest.mark.parametrize(("name", "value", "options"), OPTIONS)
async def test_a_filter_finds_what_has_it_waiting_and_finished(
    jobs: BackgroundJobs, name: str, value: Any, options: dict[str, Any]
) -> None:
    others: list[dict[str, Any]] = [{"tags": ["x"], "args": {"order": "13"}}, {**LATER, "tags": ["reddish"]}]
    for other in others:
        await jobs.enqueue_command(LifeEcho, "other", **other)
    waiting = await jobs.enqueue_command(FindOther, "x", **LATER, **options)
    await jobs.wait_until_idle(10)
    assert await ids(jobs, **{name: value}) == [waiting.id]

    await jobs.update_job(waiting.id, run_after=timedelta(0))
    await waiting.wait(10)
    assert await ids(jobs, **{name: value}) == [waiting.id]


@pytest.mark.parametrize(
    "filters",
    [
        {"command": "NoSuchCommand"},
        {"tag": "re"},
        {"tag": "gre%"},
        {"args": {"order": "1"}},
        {"args": {"order": "12", "shop": "y"}},
        {"text": "no such text"},
        {"text": "_____________________________________"},
        {"states": [JobState.STARTED]},
        {"ref_id": "min"},
        {"parent_id": 4711},
    ],
)
async def test_a_filter_finds_nothing_else(jobs: BackgroundJobs, filters: dict[str, Any]) -> None:
    options: dict[str, Any] = {"tags": ["red", "green"], "args": {"order": "12", "shop": "x"}}
    await jobs.enqueue_command(LifeEcho, "finished", **options)
    await jobs.enqueue_command(LifeEcho, "waiting", **options, **LATER)
    await jobs.wait_until_idle(10)

    assert await ids(jobs, **filters) == []


async def test_by_state(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(FindFails, "no")
    refs: dict[JobState, JobRef[Any]] = {
        JobState.FAILED: parent,
        JobState.COMPLETED: await jobs.enqueue_command(LifeEcho, "x"),
        JobState.EXECUTED: await jobs.enqueue_command(LifeEcho, "x", callback=FindWakes),
        JobState.STARTED: await jobs.enqueue_command(LifeHold, "x"),
        JobState.QUEUED: await jobs.enqueue_command(LifeEcho, "x", **LATER),
        JobState.CANCELLED: await jobs.enqueue_command(LifeEcho, "x", depends_on=parent),
    }
    for state, ref in refs.items():
        await until_state(jobs, ref.id, state)

    for state, ref in refs.items():
        assert await ids(jobs, states=[state]) == [ref.id]
    both = [JobState.FAILED, JobState.STARTED]
    assert await ids(jobs, states=both) == sorted(refs[state].id for state in both)
    stage.gate.set()


async def test_by_error_code_and_by_error_message(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(FindFails, "no such account")
    child = await jobs.enqueue_command(LifeEcho, "x", depends_on=parent)
    await jobs.enqueue_command(LifeEcho, "x")
    await jobs.wait_until_idle(10)

    assert await ids(jobs, error_code="Fail") == [parent.id]
    assert await ids(jobs, error_code="ParentFailed") == [child.id]
    assert await ids(jobs, text="SUCH ACC") == [parent.id]


async def test_by_parent(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeEcho, "parent")
    waiting = await jobs.enqueue_command(LifeEcho, "x", parent_id=parent.id, **LATER)
    finished = await jobs.enqueue_command(LifeEcho, "x", parent_id=parent.id)
    dependent = await jobs.enqueue_command(LifeEcho, "x", depends_on=parent)
    await jobs.wait_until_idle(10)

    assert await ids(jobs, parent_id=parent.id) == [waiting.id, finished.id, dependent.id]


async def test_several_filters_are_combined_with_and(jobs: BackgroundJobs) -> None:
    for n in range(12):
        when = LATER if n % 2 else {}
        await jobs.enqueue_command(LifeEcho, "x", tags=["three"] if n % 3 == 0 else [], created_by=f"{n % 4}", **when)
    await jobs.wait_until_idle(10)
    all_ids = await ids(jobs)

    assert await ids(jobs, tag="three", states=[JobState.COMPLETED]) == [all_ids[0], all_ids[6]]
    assert await ids(jobs, tag="three", created_by="1") == [all_ids[9]]
    assert await ids(jobs, tag="three", created_by="1", command="LifeNote") == []


async def test_by_month_and_by_moment(engine: Engine, clock: FakeClock) -> None:
    clock.step(DECEMBER - clock.at)
    async with engine(clock=clock) as jobs:
        old = [await jobs.enqueue_command(LifeEcho, "x"), await jobs.enqueue_command(LifeEcho, "x", **LATER)]
        await jobs.wait_until_idle(10)
        clock.step(timedelta(milliseconds=1))
        new = [await jobs.enqueue_command(LifeEcho, "x"), await jobs.enqueue_command(LifeEcho, "x", **LATER)]
        await jobs.wait_until_idle(10)
        december, january = [ref.id for ref in old], [ref.id for ref in new]

        assert await ids(jobs, month=date(2025, 12, 1)) == await ids(jobs, month=date(2025, 12, 31)) == december
        assert await ids(jobs, month=date(2026, 1, 15)) == await ids(jobs, since=JANUARY) == january
        assert await ids(jobs, until=JANUARY) == await ids(jobs, since=DECEMBER, until=JANUARY) == december
        assert await ids(jobs, month=date(2026, 2, 1)) == await ids(jobs, month=date(2025, 12, 1), since=JANUARY) == []
        assert await ids(jobs, states=[JobState.COMPLETED]) == [december[0], january[0]]


async def test_a_requeued_job_is_found_once(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(FindFails, "no")
    await ref.wait(10)
    await jobs.enqueue_command(LifeHold, "holder", worker="line")
    await jobs.requeue_failed_job(ref.id)
    await jobs.ref(ref.id).wait(10)

    assert await ids(jobs, command="FindFails") == [ref.id]
    stage.gate.set()


async def test_a_summary_tells_what_the_full_record_does(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(
        FindFails, "no", worker="line", queue="q", tags=["a"], created_by="eve", user_id="7"
    )
    await ref.wait(10)

    full, [summary] = await job(jobs, ref.id), (await jobs.find_jobs()).jobs
    told = summary.model_dump(exclude={"error_message"})
    assert told == full.model_dump(include=set(told))
    assert full.error is not None
    assert summary.error_message == full.error.message


# ── pages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_newest_first_and_the_last_page_says_so(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(25)], **LATER)
    pages = await every_page(jobs, 10)

    assert [len(page.jobs) for page in pages] == [10, 10, 5]
    assert [one.id for page in pages for one in page.jobs] == [ref.id for ref in refs][::-1]
    assert [(page.total, page.total_is_exact) for page in pages] == [(25, True)] * 3


async def test_a_page_that_is_just_full_has_no_next(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(20)], **LATER)

    assert [len(page.jobs) for page in await every_page(jobs, 10)] == [10, 10]
    assert (await jobs.find_jobs(limit=20)).next is None


async def test_nothing_is_one_empty_page(jobs: BackgroundJobs) -> None:
    page = await jobs.find_jobs()

    assert (page.jobs, page.next, page.total, page.total_is_exact) == ([], None, 0, True)


async def test_pages_are_complete_and_without_doubles_while_jobs_end(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(FindWakes, [f"{n}" for n in range(60)])
    await until(lambda: stage.inside == 60)
    seen: list[int] = []
    after: str | None = None
    for turn in range(12):
        page = await jobs.find_jobs(limit=5, after=after)
        seen += [one.id for one in page.jobs]
        after = page.next
        for ref in refs[turn::12]:
            await ref.cancel()
        await jobs.enqueue_command(LifeNothing)

    assert seen == [ref.id for ref in refs][::-1]


async def test_pages_are_complete_at_every_moment_of_a_stream(jobs: BackgroundJobs) -> None:
    """Jobs are enqueued, run and archived all the while; none that was there before is missed or told twice."""
    before = {ref.id for ref in await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(300)])}
    stream = asyncio.create_task(enqueue_for_ever(jobs))
    try:
        for limit in (7, 50):
            found = [one.id for page in await every_page(jobs, limit) for one in page.jobs]
            assert len(found) == len(set(found))
            assert before <= set(found)
    finally:
        stream.cancel()
        await asyncio.wait([stream])


async def enqueue_for_ever(jobs: BackgroundJobs) -> None:
    while True:
        await jobs.enqueue_command(LifeNote, "more")
        await asyncio.sleep(0)


async def test_a_total_is_exact_up_to_ten_thousand(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_many(LifeNote, ["x"] * 10_000, **LATER, tags=["many"])
    exact = await jobs.find_jobs(limit=1)
    await jobs.enqueue_command(LifeNote, "one more", **LATER)
    more = await jobs.find_jobs(limit=1)

    assert (exact.total, exact.total_is_exact) == (10_000, True)
    assert (more.total, more.total_is_exact) == (10_000, False)
    assert ((await jobs.find_jobs(limit=1, tag="many")).total_is_exact, await count(jobs)) == (True, 10_000)


@pytest.mark.parametrize("cursor", ["", "x", "id-", "id-x", "id--1", "id-1.5", "id-٣", "12", f"id-{2**70}"])
async def test_a_foreign_cursor_is_refused(jobs: BackgroundJobs, cursor: str) -> None:
    with pytest.raises(InvalidOption, match="after"):
        await jobs.find_jobs(after=cursor)


async def test_a_cursor_outlives_the_jobs_of_its_page(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        refs = await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(10)], **LATER)
        page = await jobs.find_jobs(limit=5)
        for ref in refs:
            await ref.cancel()

        rest = await jobs.find_jobs(limit=5, after=page.next)
        assert [one.id for one in rest.jobs] == [ref.id for ref in refs[4::-1]]
        assert {one.state for one in rest.jobs} == {JobState.CANCELLED}


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1_001}, "limit"),
        ({"states": ["Sleeping"]}, "states"),
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001  naive is what is wrong
        ({"until": date(2026, 1, 1)}, "until"),
        ({"month": "2026-01"}, "month"),
        ({"tag": ""}, "tag"),
        ({"args": ["order"]}, "args"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_name(
    jobs: BackgroundJobs, filters: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidOption, match=named):
        await jobs.find_jobs(**filters)
