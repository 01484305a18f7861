"""Requeue: the same job again with its full budget; and replay, update: a new job, a changed one."""

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
    DuplicateUniqueKey,
    Fail,
    JobNotFailed,
    JobNotFound,
    JobState,
    current_job,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeFail,
    LifeFailOnce,
    LifeHold,
    LifeNote,
    count,
    job,
    stage,
    state,
    until_retry,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class RequeueFailsUntilOpen(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.done.append(request)
        current_job().log.info("run %d", current_job().attempt)
        current_job().update_status(0.5, "half way")
        if not stage.gate.is_set():
            raise Fail("the gate is closed")
        return f"{request} at last"


class RequeueNothing(AsyncCommand):
    async def run(self) -> None:
        pass


class RequeueCallback(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"callback {request}")
        if not stage.gate.is_set():
            raise Fail("the gate is closed")


async def failed(jobs: BackgroundJobs, **options: Any) -> int:
    """A job that has failed, and would succeed if it ran again."""
    ref = await jobs.enqueue_command(RequeueFailsUntilOpen, "work", **options)
    assert (await ref.wait(10)).summary.state is JobState.FAILED
    stage.gate.set()
    return ref.id


async def test_r19_a_requeued_job_runs_again_under_its_id(jobs: BackgroundJobs) -> None:
    id = await failed(jobs)
    before = await job(jobs, id)

    ref = await jobs.requeue_failed_job(id, by="eve")

    assert await ref.result(10) == "work at last"
    again = await job(jobs, id)
    assert (ref.id, ref.ref_id, again.created) == (id, before.ref_id, before.created)
    assert (again.state, again.attempts, again.error, again.error_code) == (JobState.COMPLETED, 2, None, None)


async def test_r19_a_requeued_job_waits_as_if_it_were_new(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        id = await failed(jobs)
        stage.gate.clear()
        holder = await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        await jobs.requeue_failed_job(id)

        waiting = await job(jobs, id)
        assert (waiting.state, waiting.error, waiting.response_body) == (JobState.QUEUED, None, None)
        assert (waiting.started, waiting.completed, waiting.progress, waiting.status) == (None,) * 4
        assert id in {found.id for found in (await jobs.find_jobs(states=[JobState.QUEUED])).jobs}
        stage.gate.set()
        await holder.wait(10)


async def test_r19_a_requeued_job_has_its_full_retry_budget(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeFail, "x", retry_limit=1)
        for run in (0, 2):
            waiting = await until_retry(jobs, ref.id, attempts=run + 1)
            assert waiting.run_after is not None
            await clock.advance(waiting.run_after - clock.at)
            ended = (await ref.wait(5)).job
            assert (ended.state, ended.attempts, ended.attempts_returned) == (JobState.FAILED, run + 2, run)
            if run == 0:
                await jobs.requeue_failed_job(ref.id)


async def test_r19_what_it_left_is_kept_as_history(jobs: BackgroundJobs) -> None:
    id = await failed(jobs)
    ref = await jobs.requeue_failed_job(id)
    await ref.wait(10)

    attempts = await jobs.get_attempts(id)
    assert [(one.number, one.outcome) for one in attempts] == [(1, "Failed"), (2, "Succeeded")]
    logged = [line.message for line in await jobs.get_logs(id) if line.level == "INFO"]
    assert logged == ["run 1", "run 2"]
    assert [line.sequence for line in await jobs.get_logs(id)] == [1, 2, 3]


async def test_r19_a_job_that_failed_in_its_callback_runs_only_that_again(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "result", callback=RequeueCallback)
    assert (await ref.wait(10)).summary.error_code == "CallbackFailed"
    stage.gate.set()

    await jobs.requeue_failed_job(ref.id)

    done = (await ref.wait(10)).job
    assert (done.state, done.attempts, done.response_body) == (JobState.COMPLETED, 1, '"result"')
    assert stage.done == ["callback result"] * 2


async def test_r19_a_cancelled_job_can_be_requeued(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeNote, "a", run_after=timedelta(hours=1))
    await ref.cancel()
    await jobs.requeue_failed_job(ref.id)

    done = (await ref.wait(10)).job
    assert (done.state, done.cancel_requested) == (JobState.COMPLETED, None)


async def test_r19_a_cancelled_running_job_can_be_requeued(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeHold, "a")
    await until(lambda: stage.inside == 1)
    await ref.cancel()
    await ref.wait(10)
    stage.gate.set()
    await jobs.requeue_failed_job(ref.id)

    assert (await ref.wait(10)).summary.state is JobState.COMPLETED


async def test_r19_its_dependency_is_kept(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeFailOnce, "parent")
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
    await child.wait(10)

    await jobs.requeue_failed_job(child.id)

    assert (await job(jobs, child.id)).error_code == "ParentFailed"
    assert stage.done == ["parent"]


async def test_r19_dependents_stay_cancelled_unless_asked_for(jobs: BackgroundJobs) -> None:
    parent = await failed(jobs)
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
    assert await state(jobs, child.id) is JobState.CANCELLED
    await jobs.requeue_failed_job(parent)
    await jobs.wait_until_idle(10)

    assert await state(jobs, child.id) is JobState.CANCELLED


async def test_r19_dependents_come_back_with_their_parent_if_asked_for(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(RequeueFailsUntilOpen, "parent")
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
    grandchild = await jobs.enqueue_command(LifeNote, "grandchild", depends_on=child)
    await grandchild.wait(10)
    stage.gate.set()

    await jobs.requeue_failed_job(parent.id, dependents=True)

    await grandchild.wait(10)
    assert [await state(jobs, ref.id) for ref in (parent, child, grandchild)] == [JobState.COMPLETED] * 3
    assert stage.done == ["parent", "parent", "child", "grandchild"]


async def test_r19_only_failed_and_cancelled_jobs_can_be_requeued(jobs: BackgroundJobs) -> None:
    done = await jobs.enqueue_command(LifeEcho, "a")
    await done.wait(10)
    waiting = await jobs.enqueue_command(LifeEcho, "b", run_after=timedelta(hours=1))

    with pytest.raises(JobNotFailed, match=f"Job {done.id} is Completed"):
        await jobs.requeue_failed_job(done.id)
    with pytest.raises(JobNotFailed, match=f"Job {waiting.id} is Queued"):
        await jobs.requeue_failed_job(waiting.id)
    with pytest.raises(JobNotFound, match="4711"):
        await jobs.requeue_failed_job(4711)


async def test_r19_a_job_cannot_be_requeued_into_a_key_that_another_holds(jobs: BackgroundJobs) -> None:
    id = await failed(jobs, unique_key="u")
    holder = await jobs.enqueue_command(RequeueFailsUntilOpen, "other", unique_key="u", run_after=timedelta(hours=1))

    with pytest.raises(DuplicateUniqueKey, match=f"job {holder.id} holds its unique_key 'u'"):
        await jobs.requeue_failed_job(id)
    assert await state(jobs, id) is JobState.FAILED


async def test_r19_a_requeued_job_that_fails_again_can_be_requeued_again(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(RequeueFailsUntilOpen, "a")
    for _ in range(3):
        await ref.wait(10)
        await jobs.requeue_failed_job(ref.id)
    await ref.wait(10)

    attempts = await jobs.get_attempts(ref.id)
    assert [one.number for one in attempts] == [1, 2, 3, 4]
    assert (await jobs.find_jobs()).total == 1


async def test_r20_many_are_requeued_by_id_with_an_error_for_each_that_cannot_be(jobs: BackgroundJobs) -> None:
    first, second = await failed(jobs), await failed_again(jobs)
    done = await jobs.enqueue_command(LifeEcho, "done")
    await done.wait(10)

    result = await jobs.requeue_failed_jobs(ids=[first, second, done.id, 4711])

    assert result.ids == [first, second]
    assert "only failed and cancelled jobs" in result.errors[done.id]
    assert "no job with id 4711" in result.errors[4711]
    await jobs.wait_until_idle(10)
    assert [await state(jobs, id) for id in (first, second)] == [JobState.COMPLETED] * 2


async def failed_again(jobs: BackgroundJobs, **options: Any) -> int:
    stage.gate.clear()
    return await failed(jobs, **options)


async def test_r20_failed_jobs_are_requeued_by_tag_batch_command_and_date(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        old = await failed(jobs, tags=["red"])
        await clock.advance(60)
        noon = clock.at
        red = await failed_again(jobs, tags=["red"])
        batch = await failed_again(jobs, batch_id="b")
        other = await jobs.enqueue_command(LifeFailOnce, "other")
        await other.wait(5)

        assert (await jobs.requeue_failed_jobs(tag="red", since=noon)).ids == [red]
        assert (await jobs.requeue_failed_jobs(batch_id="b")).ids == [batch]
        assert (await jobs.requeue_failed_jobs(command="LifeFailOnce")).ids == [other.id]
        assert (await jobs.requeue_failed_jobs(tag="red")).ids == [old]


async def test_r20_all_takes_failed_jobs_and_not_what_was_cancelled(jobs: BackgroundJobs) -> None:
    id = await failed(jobs)
    cancelled = await jobs.enqueue_command(LifeNote, "a", run_after=timedelta(hours=1))
    await cancelled.cancel()

    assert (await jobs.requeue_failed_jobs(all=True)).ids == [id]
    assert await state(jobs, cancelled.id) is JobState.CANCELLED


async def test_r21_a_replay_is_a_new_job_with_the_same_arguments(jobs: BackgroundJobs) -> None:
    options: dict[str, Any] = {
        "worker": "w", "queue": "q", "priority": 3, "retry_limit": 5, "timeout": 7.0, "tags": ["red"],
        "args": {"k": "v"}, "user_id": "ada", "tenant_id": "t", "reply_to": "https://example.com", "batch_id": "b",
    }  # fmt: skip
    original = await jobs.enqueue_command(LifeEcho, "hello", **options, created_by="ada", unique_key="u")
    await original.wait(10)

    replay = await jobs.replay_job(original.id, by="eve")

    assert replay.id != original.id
    assert await replay.result(10) == "hello"
    before, new = (await job(jobs, original.id)).model_dump(), (await job(jobs, replay.id)).model_dump()
    same = set(options) | {"command", "request", "request_body"}
    assert {option: new[option] for option in same} == {option: before[option] for option in same}
    assert (new["created_by"], new["unique_key"], before["state"]) == ("eve", None, JobState.COMPLETED)


async def test_r21_a_failed_and_a_waiting_job_can_be_replayed(jobs: BackgroundJobs) -> None:
    id = await failed(jobs)
    waiting = await jobs.enqueue_command(LifeEcho, "now", run_after=timedelta(hours=1))

    assert await (await jobs.replay_job(id)).result(10) == "work at last"
    assert await (await jobs.replay_job(waiting.id)).result(10) == "now"
    assert await state(jobs, id) is JobState.FAILED
    assert await state(jobs, waiting.id) is JobState.QUEUED
    with pytest.raises(JobNotFound):
        await jobs.replay_job(4711)


async def test_a_replay_of_a_job_without_a_request_or_a_timeout_is_one(jobs: BackgroundJobs) -> None:
    original = await jobs.enqueue_command(RequeueNothing, timeout=None)
    await original.wait(10)
    replay = await jobs.replay_job(original.id)

    assert (await replay.wait(10)).job.timeout is None


async def test_an_update_changes_a_waiting_job(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeNote, "a", run_after=timedelta(hours=1))

        assert await jobs.update_job(ref.id, run_after=timedelta(minutes=1), priority=5, queue="q", by="eve")

        changed = await job(jobs, ref.id)
        assert (changed.priority, changed.queue) == (5, "q")
        assert changed.run_after == clock.at + timedelta(minutes=1)
        await clock.advance(60)
        assert (await ref.wait(5)).summary.queue == "q"


async def test_an_update_can_let_a_job_start_now(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(LifeEcho, "a", run_after=timedelta(hours=1))
    assert await jobs.update_job(ref.id, run_after=timedelta())

    assert await ref.result(10) == "a"


async def test_an_update_can_put_off_a_job_that_was_about_to_start(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock, concurrency=1) as jobs:
        holder = await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        ref = await jobs.enqueue_command(LifeNote, "a")
        assert await jobs.update_job(ref.id, run_after=timedelta(minutes=1))
        stage.gate.set()
        await holder.wait(5)
        assert (await job(jobs, ref.id)).wait_reason == "Scheduled at 2026-01-15 12:01:00 UTC"
        await clock.advance(60)

        assert (await ref.wait(5)).completed is not None


async def test_an_update_changes_the_place_of_a_job_in_the_memory_queue(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        await jobs.enqueue_command(LifeNote, "a", priority=5)
        b = await jobs.enqueue_command(LifeNote, "b", priority=1)
        c = await jobs.enqueue_command(LifeNote, "c", priority=9)
        assert await jobs.update_job(b.id, priority=10)
        assert await jobs.update_job(c.id, priority=0)
        stage.gate.set()
        await jobs.wait_until_idle(10)

    assert stage.done == ["holder", "b", "a", "c"]


async def test_an_update_moves_a_job_to_another_queue(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        await jobs.enqueue_command(LifeHold, "holder")
        await until(lambda: stage.inside == 1)
        ref = await jobs.enqueue_command(LifeEcho, "a")
        assert await jobs.update_job(ref.id, queue="free")

        assert await ref.result(10) == "a"
        assert (await job(jobs, ref.id)).queue == "free"
        stage.gate.set()


async def test_an_update_of_a_job_behind_a_busy_worker_keeps_its_worker(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "holder", worker="w")
    await until(lambda: stage.inside == 1)
    await jobs.enqueue_command(LifeNote, "a", worker="w")
    b = await jobs.enqueue_command(LifeNote, "b", worker="w")
    assert await jobs.update_job(b.id, priority=1)
    stage.gate.set()
    await jobs.wait_until_idle(10)

    assert stage.done == ["holder", "b", "a"]


async def test_an_update_is_refused_once_a_job_has_started_or_ended(jobs: BackgroundJobs) -> None:
    running = await jobs.enqueue_command(LifeHold, "a")
    await until_state(jobs, running.id, JobState.STARTED)
    assert not await jobs.update_job(running.id, priority=1)
    stage.gate.set()
    await running.wait(10)

    assert not await jobs.update_job(running.id, priority=1)
    assert not await jobs.update_job(4711, priority=1)
    assert (await job(jobs, running.id)).priority == 0


async def test_an_update_that_is_accepted_holds_whenever_it_comes(jobs: BackgroundJobs) -> None:
    """Asked at every moment of a short job's life: True always means that the job has the new value in the end."""
    for turns in range(25):
        ref = await jobs.enqueue_command(LifeEcho, f"{turns}")
        for _ in range(turns):
            await asyncio.sleep(0)
        accepted = await jobs.update_job(ref.id, priority=7)
        assert (await ref.wait(10)).job.priority == (7 if accepted else 0)
    assert await count(jobs) == 25
