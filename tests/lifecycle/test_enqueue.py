"""Enqueueing: what is stored, when it starts, and in which order."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    JobState,
    Registry,
    Storage,
    SyncCommand,
    UnknownCommand,
    command,
    current_jobs,
    worker,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeHold,
    LifeNote,
    LifeNothing,
    LifeThreadHold,
    LifeThreadNote,
    count,
    eventually,
    job,
    stage,
    state,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


@worker("enqueue-marked")
class EnqueueMarked(AsyncCommand):
    async def run(self) -> None:
        pass


@command(queue="enqueue-mail", priority=7, tags=["marked"])
class EnqueueDecorated(AsyncCommand):
    async def run(self) -> None:
        pass


class EnqueueOldName:
    """Plain, so that only the registries below know it."""

    async def run(self, request: str) -> str:
        raise AssertionError(f"the old class runs {request}")


@command(aliases=["EnqueueOldName"])
class EnqueueNewName(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        return f"new {request}"


class EnqueueFromLoop(AsyncCommand):
    async def run(self) -> None:
        await current_jobs().enqueue_command(LifeNote, "from the loop")


class EnqueueFromThread(SyncCommand):
    def run(self) -> None:
        current_jobs().sync.enqueue_command(LifeNote, "from the thread")


def registry_of(*commands: type[Any]) -> Registry:
    registry = Registry()
    for one in commands:
        registry.register(one)
    return registry


async def test_e01_an_enqueue_returns_id_and_ref_id_of_a_stored_job(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "a", run_after=timedelta(hours=1))

    id, ref_id = ref
    found = await jobs.get_job(id)
    assert found is not None
    assert (found.summary.id, found.summary.ref_id, found.job.ref_id) == (id, ref_id, ref_id)
    assert (ref.id, ref.ref_id, ref.created) == (id, ref_id, True)


async def test_e01_a_stored_job_outlives_its_engine(engine: Engine, place: str | Storage) -> None:
    async with engine(place, execute=False) as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "kept")

    async with engine(place) as jobs:
        assert await jobs.ref(ref.id, LifeEcho).result(10) == "kept"


async def test_e03_an_unknown_command_is_refused_and_nothing_is_written(jobs: BackgroundJobs) -> None:
    with pytest.raises(UnknownCommand, match="EnqueueNoSuchCommand"):
        await jobs.enqueue_json("EnqueueNoSuchCommand", "{}")

    assert await count(jobs) == 0


async def test_e03_an_unknown_callback_is_refused_and_nothing_is_written(jobs: BackgroundJobs) -> None:
    with pytest.raises(UnknownCommand, match="EnqueueNoSuchCommand"):
        await jobs.enqueue_command(LifeEcho, "a", callback="EnqueueNoSuchCommand")

    assert await count(jobs) == 0


async def test_e04_a_default_ref_id_has_32_hex_characters_and_is_unique(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(LifeNote, [str(n) for n in range(100)])

    assert all(re.fullmatch("[0-9a-f]{32}", ref.ref_id) for ref in refs)
    assert len({ref.ref_id for ref in refs}) == 100


async def test_e05_a_new_row_has_its_values(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, execute=False) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "hello")

        new = await job(jobs, ref.id)
    assert (new.state, new.attempts, new.queue, new.priority) == (JobState.QUEUED, 0, "default", 0)
    assert (new.created, new.last_activity) == (clock.at, clock.at)
    assert (new.command, new.request_type, new.request, new.request_body) == ("LifeNote", "CMD", "str", '"hello"')
    assert (new.retry_limit, new.timeout, new.worker, new.tags, new.args) == (2, 600.0, None, [], {})
    assert (new.started, new.completed, new.error, new.response_body, new.run_after) == (None,) * 5


async def test_e05_the_engines_own_defaults_are_stored(engine: Engine) -> None:
    async with engine(execute=False, retry_limit=5, timeout=None) as jobs:
        ref = await jobs.enqueue_command(LifeNothing)

        new = await job(jobs, ref.id)
    assert (new.retry_limit, new.timeout, new.request, new.request_body) == (5, None, None, None)


async def test_e06_the_callers_options_are_not_changed_and_can_be_used_again(jobs: BackgroundJobs) -> None:
    tags, args = ["a"], {"k": "v"}
    delay = timedelta(hours=1)

    first = await jobs.enqueue_command(LifeNote, "1", tags=tags, args=args, run_after=delay)
    second = await jobs.enqueue_command(LifeNote, "2", tags=tags, args=args, run_after=delay)

    assert (tags, args) == (["a"], {"k": "v"})
    assert (await job(jobs, first.id)).args == (await job(jobs, second.id)).args == {"k": "v"}


async def test_e06_changing_what_was_passed_does_not_change_the_job(jobs: BackgroundJobs) -> None:
    args = {"k": "v"}
    ref = await jobs.enqueue_command(LifeNote, "1", args=args, run_after=timedelta(hours=1))
    args["k"] = "other"

    assert (await job(jobs, ref.id)).args == {"k": "v"}


async def test_e07_the_worker_option_wins_over_the_decorator(jobs: BackgroundJobs) -> None:
    marked = await jobs.enqueue_command(EnqueueMarked)
    chosen = await jobs.enqueue_command(EnqueueMarked, worker="enqueue-other")

    assert (await job(jobs, marked.id)).worker == "enqueue-marked"
    assert (await job(jobs, chosen.id)).worker == "enqueue-other"


async def test_e07_options_win_over_what_the_command_says(jobs: BackgroundJobs) -> None:
    says = await job(jobs, (await jobs.enqueue_command(EnqueueDecorated)).id)
    given = await jobs.enqueue_command(EnqueueDecorated, queue="q", priority=1, tags=["t"])

    chosen = await job(jobs, given.id)
    assert (says.queue, says.priority, says.tags) == ("enqueue-mail", 7, ["marked"])
    assert (chosen.queue, chosen.priority, chosen.tags) == ("q", 1, ["t"])


async def test_e08_a_due_job_starts_at_once(engine: Engine, clock: FakeClock) -> None:
    """Nothing but the enqueue makes it start: the clock, on which every round of the engine waits, stands still."""
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "now")

        assert (await ref.wait(5)).completed is not None
        assert stage.done == ["now"]


async def test_e09_a_job_for_later_starts_at_its_time(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "later", run_after=timedelta(minutes=10))
        await clock.advance(599)
        assert await state(jobs, ref.id) is JobState.QUEUED
        assert stage.done == []

        await clock.advance(1)

        assert (await ref.wait(5)).summary.started == clock.at


async def test_e09_a_job_for_later_starts_at_its_time_after_a_restart(
    engine: Engine, place: str | Storage, clock: FakeClock
) -> None:
    async with engine(place, clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "later", run_after=timedelta(minutes=10))

    async with engine(place, clock=clock) as jobs:
        await clock.advance(599)
        assert await state(jobs, ref.id) is JobState.QUEUED
        await clock.advance(1)
        assert (await jobs.ref(ref.id).wait(5)).completed is not None


async def test_e09_a_waiting_job_says_for_when_it_is_scheduled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "later", run_after=timedelta(minutes=10))

        assert (await job(jobs, ref.id)).wait_reason == "Scheduled at 2026-01-15 12:10:00 UTC"


async def test_e10_eligible_jobs_of_a_worker_run_by_priority_then_id(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "holder", worker="w")
    await until(lambda: stage.inside == 1)
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        await jobs.enqueue_command(LifeNote, name, worker="w", priority=priority)
    stage.gate.set()
    await jobs.wait_until_idle(10)

    assert stage.done == ["holder", "b", "d", "a", "c"]


async def test_e11_run_after_takes_a_date_or_a_delay(engine: Engine, clock: FakeClock) -> None:
    date = datetime(2026, 1, 16, 1, 30, tzinfo=UTC)
    async with engine(clock=clock) as jobs:
        by_date = await jobs.enqueue_command(LifeNote, "date", run_after=date)
        by_delay = await jobs.enqueue_command(LifeNote, "delay", run_after=timedelta(minutes=5))

        assert (await job(jobs, by_date.id)).run_after == date
        assert (await job(jobs, by_delay.id)).run_after == clock.at + timedelta(minutes=5)


async def test_e11_a_date_in_the_past_starts_at_once(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "past", run_after=datetime(2020, 1, 1, tzinfo=UTC))

    assert (await ref.wait(10)).completed is not None


async def test_e18_higher_priority_starts_first_and_equals_in_order(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        for name, priority in (("a", 0), ("b", -1), ("c", 3), ("d", 0), ("e", 3)):
            await jobs.enqueue_command(LifeNote, name, priority=priority)
        stage.gate.set()
        await jobs.wait_until_idle(10)

    assert stage.done == ["holder", "c", "e", "a", "d", "b"]


async def test_e18_priority_holds_for_jobs_in_threads(engine: Engine) -> None:
    async with engine(concurrency=1, threads=1) as jobs:
        await jobs.enqueue_command(LifeThreadHold, "holder")
        await until(lambda: stage.inside == 1)
        # The threads are fed some jobs ahead, so that none waits for the loop; those keep their place.
        for name, priority in (*((f"ahead {n}", 0) for n in range(4)), ("low", 0), ("high", 5)):
            await jobs.enqueue_command(LifeThreadNote, name, priority=priority)
        stage.thread_gate.set()
        await jobs.wait_until_idle(10)

    assert stage.done.index("high") < stage.done.index("low")


async def test_e19_a_queue_needs_no_set_up(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "a", queue="enqueue never seen before")

    assert await ref.result(10) == "a"
    assert (await job(jobs, ref.id)).queue == "enqueue never seen before"


async def test_e20_a_job_not_started_by_its_expiry_is_cancelled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        ref = await jobs.enqueue_command(LifeNote, "late", expires=timedelta(seconds=30))

        await clock.advance(31)

        expired = await until_state(jobs, ref.id, JobState.CANCELLED)
        assert (expired.error_code, expired.attempts) == ("JobExpired", 0)
        stage.gate.set()
        await jobs.wait_until_idle(10)
        assert stage.done == ["holder"]


async def test_e20_a_parked_job_expires_at_its_time(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        later = {"run_after": timedelta(hours=1), "expires": timedelta(seconds=30)}
        ref = await jobs.enqueue_command(LifeNote, "late", run_after=later["run_after"], expires=later["expires"])

        await clock.advance(30)

        assert (await ref.wait(5)).summary.error_code == "JobExpired"


async def test_e20_a_job_that_waits_for_a_thread_expires_at_its_time(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, threads=1) as jobs:
        await jobs.enqueue_command(LifeThreadHold, "holder")
        await until(lambda: stage.inside == 1)
        ref = await jobs.enqueue_command(LifeThreadNote, "late", expires=timedelta(seconds=30))

        await clock.advance(31)

        assert (await ref.wait(5)).summary.error_code == "JobExpired"
        stage.thread_gate.set()
        await jobs.wait_until_idle(10)
        assert stage.done == ["holder"]


async def test_e20_a_started_job_is_unaffected_by_its_expiry(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeHold, "in time", expires=timedelta(seconds=30))
        await until(lambda: stage.inside == 1)
        await clock.advance(60)
        stage.gate.set()

        assert (await ref.wait(5)).completed is not None


async def test_e21_many_jobs_are_stored_at_once_with_ids_in_order(jobs: BackgroundJobs) -> None:
    refs = await jobs.enqueue_many(LifeEcho, [f"{n}" for n in range(500)])

    ids = [ref.id for ref in refs]
    assert ids == list(range(ids[0], ids[0] + 500))
    assert [await ref.result(10) for ref in refs] == [f"{n}" for n in range(500)]


async def test_e21_no_jobs_at_all_is_no_problem(jobs: BackgroundJobs) -> None:
    assert await jobs.enqueue_many(LifeEcho, []) == []


async def test_e22_an_alias_runs_jobs_stored_under_the_old_name(engine: Engine, place: str | Storage) -> None:
    async with engine(place, execute=False, registry=registry_of(EnqueueOldName)) as jobs:
        ref = await jobs.enqueue_json("EnqueueOldName", '"work"')

    async with engine(place, registry=registry_of(EnqueueNewName)) as jobs:
        assert await jobs.ref(ref.id).result(10) == "new work"
        assert (await job(jobs, ref.id)).command == "EnqueueOldName"


async def test_e23_sync_code_enqueues_from_any_thread(jobs: BackgroundJobs) -> None:
    def in_a_thread() -> str:
        return jobs.sync.enqueue_command(LifeEcho, "from a thread").result(10)

    assert await asyncio.to_thread(in_a_thread) == "from a thread"


async def test_e23_a_job_enqueues_from_its_thread_and_from_the_loop(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(EnqueueFromLoop)
    await jobs.enqueue_command(EnqueueFromThread)

    await eventually(lambda: _noted(2))
    assert sorted(stage.done) == ["from the loop", "from the thread"]


async def _noted(how_many: int) -> bool:
    return len(stage.done) == how_many
