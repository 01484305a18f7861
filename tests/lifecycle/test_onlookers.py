"""Engines that do not execute, beside the one that does: what they enqueue runs, what they ask for is done."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from commandjobs import BackgroundJobs, JobState
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeFailOnce, LifeHold, LifeNote, job, stage, state, until_state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """SQLite alone: no other storage is shared by processes yet."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


async def test_e08_a_job_that_an_onlooker_enqueues_is_started(engine: Engine) -> None:
    async with engine() as _, engine(execute=False) as looks:
        ref = await looks.enqueue_command(LifeEcho, "from elsewhere")
        many = await looks.enqueue_many(LifeEcho, [f"{n}" for n in range(20)])

        assert await ref.result(10) == "from elsewhere"
        assert [await one.result(10) for one in many] == [f"{n}" for n in range(20)]


async def test_e09_a_date_that_an_onlooker_gives_is_kept(engine: Engine) -> None:
    async with engine() as _, engine(execute=False) as looks:
        ref = await looks.enqueue_command(LifeEcho, "a", run_after=timedelta(milliseconds=50))

        assert await ref.result(10) == "a"


async def test_e20_an_expiry_that_an_onlooker_gives_is_kept(engine: Engine) -> None:
    soon = timedelta(milliseconds=50)
    async with engine() as _, engine(execute=False) as looks:
        ref = await looks.enqueue_command(LifeEcho, "a", run_after=timedelta(hours=1), expires=soon)

        assert (await ref.wait(10)).summary.error_code == "JobExpired"


async def test_d08_a_dependent_that_an_onlooker_enqueues_is_released_at_its_time(engine: Engine) -> None:
    async with engine() as runs, engine(execute=False) as looks:
        parent = await runs.enqueue_command(LifeHold, "parent")
        child = await looks.enqueue_command(LifeEcho, "child", depends_on=parent, run_after=timedelta(seconds=0.3))
        await until_state(looks, parent.id, JobState.STARTED)
        stage.gate.set()

        assert await child.result(10) == "child"


async def test_d29_an_onlooker_waits_for_what_runs_elsewhere(engine: Engine) -> None:
    async with engine() as runs, engine(execute=False) as looks:
        ref = await runs.enqueue_command(LifeHold, "a")
        await until_state(looks, ref.id, JobState.STARTED)
        waiting = asyncio.create_task(looks.ref(ref.id).wait(10))
        stage.gate.set()

        assert (await waiting).summary.state is JobState.COMPLETED


async def test_r15_an_onlooker_cancels_what_waits_and_what_runs(engine: Engine) -> None:
    async with engine() as _, engine(execute=False) as looks:
        running = await looks.enqueue_command(LifeHold, "a")
        waiting = await looks.enqueue_command(LifeNote, "b", run_after=timedelta(hours=1))
        await until(lambda: stage.inside == 1)

        assert await looks.cancel_job(running.id)
        assert await looks.cancel_job(waiting.id)
        ends = [(await ref.wait(10)).summary.state for ref in (running, waiting)]
        assert ends == [JobState.CANCELLED] * 2
        errors = (await looks.cancel_jobs(ids=[running.id, 4711])).errors
        assert errors == {running.id: "can only cancel incomplete jobs", 4711: "not found"}


async def test_r19_an_onlooker_requeues_and_updates(engine: Engine) -> None:
    async with engine() as _, engine(execute=False) as looks:
        failed = await looks.enqueue_command(LifeFailOnce, "a")
        await failed.wait(10)
        await looks.requeue_failed_job(failed.id)
        assert (await failed.wait(10)).summary.attempts == 2
        waiting = await looks.enqueue_command(LifeEcho, "b", run_after=timedelta(hours=1))
        assert await looks.update_job(waiting.id, run_after=timedelta())

        assert await waiting.result(10) == "b"


async def test_an_onlooker_steers_in_nobodys_place(engine: Engine) -> None:
    async with engine(execute=False) as looks:
        ref = await looks.enqueue_command(LifeNote, "a")
        other = await looks.enqueue_command(LifeNote, "b")
        assert await looks.cancel_job(ref.id)
        assert await looks.update_job(other.id, priority=3)

        assert await state(looks, ref.id) is JobState.CANCELLED
        assert (await job(looks, other.id)).priority == 3
    assert stage.done == []


async def test_r12_a_job_in_a_lane_that_an_onlooker_cancels_frees_nothing_twice(engine: Engine) -> None:
    async with engine() as runs, engine(execute=False) as looks:
        holder = await runs.enqueue_command(LifeHold, "holder", worker="w")
        waiting = [await looks.enqueue_command(LifeNote, f"{n}", worker="w") for n in range(3)]
        await until(lambda: stage.inside == 1)
        assert await looks.cancel_job(waiting[0].id)
        stage.gate.set()
        await waiting[2].wait(10)

        assert (await holder.wait(10)).summary.state is JobState.COMPLETED
        assert stage.done == ["holder", "1", "2"]
