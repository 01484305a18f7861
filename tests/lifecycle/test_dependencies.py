"""Dependencies: who waits for whom, and what becomes of them when a parent ends."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest

from commandjobs import (
    AsyncCommandWithResult,
    BackgroundJobs,
    JobCancelled,
    JobRef,
    JobState,
    Storage,
    SyncCommandWithResult,
    UnknownDependency,
    WouldDeadlock,
    current_job,
    current_jobs,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import LifeEcho, LifeFail, LifeFailOnce, LifeHold, LifeNote, count, job, stage, state

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]


class DependenciesParents(AsyncCommandWithResult[list[str]]):
    """Gives the states and results of its parents, the first one's first, then all."""

    async def run(self) -> list[str]:
        me = current_job()
        assert me.parent is not None
        seen = [me.parent, *await me.parents()]
        return [f"{one.summary.id} {one.summary.state} {one.response()}" for one in seen]


class DependenciesParentsInThread(SyncCommandWithResult[list[str]]):
    def run(self) -> list[str]:
        return [f"{one.summary.state} {one.response()}" for one in current_job().parents_sync()]


class DependenciesWaitsForOwnDependent(AsyncCommandWithResult[str]):
    async def run(self) -> str:
        child = await current_jobs().enqueue_command(LifeEcho, "child", depends_on=current_job().id)
        with pytest.raises(WouldDeadlock, match="which depends on it"):
            await child.result(5)
        return "refused"


async def test_d01_a_dependent_starts_only_after_its_parent_is_completed(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeHold, "parent")
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
    await until(lambda: stage.inside == 1)
    waiting = await job(jobs, child.id)
    assert (waiting.state, waiting.wait_reason) == (JobState.QUEUED, f"Waits for job {parent.id}")
    stage.gate.set()

    assert (await child.wait(10)).completed is not None
    assert stage.done == ["parent", "child"]


async def test_d01_many_dependents_of_one_parent_all_run(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeHold, "parent")
    await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(2_500)], depends_on=parent)
    stage.gate.set()
    await until(lambda: len(stage.done) == 2_501, within=100)
    await jobs.wait_until_idle(100)

    assert (await jobs.find_jobs(states=[JobState.COMPLETED])).total == 2_501


async def test_d02_a_dependent_of_a_completed_parent_starts_at_once(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeEcho, "parent")
    await parent.wait(10)
    child = await jobs.enqueue_command(DependenciesParents, depends_on=parent.id)

    assert await child.result(10) == [f"{parent.id} Completed parent"] * 2


async def test_d03_a_dependent_reads_its_parents_and_their_results(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeEcho, "one")
    second = await jobs.enqueue_command(LifeEcho, "two")
    child = await jobs.enqueue_command(DependenciesParents, depends_on=[second, first.id])
    thread = await jobs.enqueue_command(DependenciesParentsInThread, depends_on=[first, second])

    assert await child.result(10) == [
        f"{second.id} Completed two", f"{second.id} Completed two", f"{first.id} Completed one",
    ]  # fmt: skip
    assert await thread.result(10) == ["Completed one", "Completed two"]


async def test_d04_parent_id_is_the_first_parent_unless_another_is_given(jobs: BackgroundJobs) -> None:
    first, second = [await jobs.enqueue_command(LifeEcho, name) for name in "ab"]
    child = await jobs.enqueue_command(LifeEcho, "c", depends_on=[second, first])
    given = await jobs.enqueue_command(LifeEcho, "d", depends_on=[second], parent_id=first.id)

    assert (await job(jobs, child.id)).parent_id == second.id
    assert (await job(jobs, given.id)).parent_id == first.id


async def chain(jobs: BackgroundJobs, parent: JobRef[Any], length: int) -> list[JobRef[Any]]:
    """Jobs that depend on each other in a row, the first of them on `parent`."""
    refs: list[JobRef[Any]] = []
    for n in range(length):
        refs.append(await jobs.enqueue_command(LifeNote, f"link {n}", depends_on=refs[-1] if refs else parent))
    return refs


async def test_d05_dependents_of_a_failed_parent_are_cancelled_recursively(jobs: BackgroundJobs) -> None:
    hold = await jobs.enqueue_command(LifeHold, "hold")
    parent = await jobs.enqueue_command(LifeFailOnce, "parent", depends_on=hold)
    links = await chain(jobs, parent, 5)
    stage.gate.set()

    for ref in links:
        cancelled = (await ref.wait(10)).job
        assert (cancelled.state, cancelled.error_code, cancelled.attempts) == (JobState.CANCELLED, "ParentFailed", 0)
        assert cancelled.error is not None
        assert cancelled.error.message == "Parent Job failed"
    with pytest.raises(JobCancelled, match="Parent Job failed"):
        await links[0].result(1)
    assert stage.done == ["hold", "parent"]


async def test_d05_dependents_of_a_cancelled_parent_are_cancelled_recursively(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeNote, "parent", run_after=timedelta(hours=1))
    links = await chain(jobs, parent, 3)
    await parent.cancel()

    assert [(await ref.wait(10)).summary.error_code for ref in links] == ["ParentFailed"] * 3


async def test_d05_dependents_of_an_expired_parent_are_cancelled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        parent = await jobs.enqueue_command(
            LifeNote, "parent", run_after=timedelta(hours=1), expires=timedelta(minutes=1)
        )
        child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
        await clock.advance(60)

        assert (await child.wait(5)).summary.error_code == "ParentFailed"


async def test_d05_more_dependents_than_one_write_takes_are_all_cancelled(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeNote, "parent", run_after=timedelta(hours=1))
    refs = await jobs.enqueue_many(LifeNote, [f"{n}" for n in range(2_500)], depends_on=parent)
    await parent.cancel()

    for ref in refs:
        assert (await ref.wait(30)).summary.error_code == "ParentFailed"


async def test_d05_a_parent_that_will_be_retried_keeps_its_dependents(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        parent = await jobs.enqueue_command(LifeFail, "parent", retry_limit=1)
        child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
        await until(lambda: stage.done == ["parent"])
        await clock.advance(1)
        assert await state(jobs, child.id) is JobState.QUEUED
        await clock.advance(10)

        assert (await child.wait(5)).summary.error_code == "ParentFailed"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_d06_a_dependent_of_a_parent_that_did_not_succeed_never_runs(jobs: BackgroundJobs, end: str) -> None:
    parent = await jobs.enqueue_command(LifeFailOnce if end == "failed" else LifeHold, "parent")
    if end == "cancelled":
        await parent.cancel()
    await parent.wait(10)
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
    await jobs.wait_until_idle(10)

    assert (await job(jobs, child.id)).error_code == "ParentFailed"
    assert "child" not in stage.done


async def test_d07_a_waiting_dependent_is_never_started_because_it_is_old(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        parent = await jobs.enqueue_command(LifeNote, "parent", run_after=timedelta(days=2))
        child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
        await clock.advance(3_600)

        assert await state(jobs, child.id) is JobState.QUEUED
        assert stage.done == []


async def test_d08_a_released_dependent_waits_for_its_own_date(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        parent = await jobs.enqueue_command(LifeEcho, "parent")
        child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent, run_after=timedelta(minutes=5))
        await parent.wait(5)
        await clock.advance(299)
        assert await state(jobs, child.id) is JobState.QUEUED
        await clock.advance(1)

        assert (await child.wait(5)).completed is not None


async def test_d08_a_released_dependent_waits_for_its_worker_and_key(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(LifeHold, "worker", worker="w")
    await jobs.enqueue_command(LifeHold, "key", concurrency_key="k")
    parent = await jobs.enqueue_command(LifeEcho, "parent")
    of_worker = await jobs.enqueue_command(LifeNote, "a", depends_on=parent, worker="w")
    of_key = await jobs.enqueue_command(LifeNote, "b", depends_on=parent, concurrency_key="k")
    await until(lambda: stage.inside == 2)
    await parent.wait(10)
    assert "Waits for worker 'w'" in ((await job(jobs, of_worker.id)).wait_reason or "")
    assert "Waits for concurrency key 'k'" in ((await job(jobs, of_key.id)).wait_reason or "")
    stage.gate.set()
    await of_worker.wait(10)
    await of_key.wait(10)


async def test_d08_released_dependents_start_by_priority(engine: Engine) -> None:
    async with engine(concurrency=1) as jobs:
        parent = await jobs.enqueue_command(LifeHold, "parent")
        for name, priority in (("a", 0), ("b", 2), ("c", 1)):
            await jobs.enqueue_command(LifeNote, name, depends_on=parent, priority=priority)
        stage.gate.set()
        await jobs.wait_until_idle(10)

    assert stage.done == ["parent", "b", "c", "a"]


@pytest.mark.parametrize(("end", "seen"), [("completes", "Completed"), ("fails", "Failed"), ("cancelled", "Cancelled")])
async def test_d09_a_finished_policy_runs_after_every_end_and_sees_it(
    jobs: BackgroundJobs, end: str, seen: str
) -> None:
    parent: JobRef[Any]
    parent = await jobs.enqueue_command(LifeFailOnce if end == "fails" else LifeHold, "parent")
    child = await jobs.enqueue_command(DependenciesParents, depends_on=parent, depends_on_policy="finished")
    if end == "cancelled":
        await parent.cancel()
    stage.gate.set()

    assert await child.result(10) == [f"{parent.id} {seen} None"] * 2


async def test_d10_a_dependent_waits_for_all_its_parents(jobs: BackgroundJobs) -> None:
    quick = await jobs.enqueue_command(LifeEcho, "quick")
    slow = await jobs.enqueue_command(LifeHold, "slow")
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=[quick, slow])
    await quick.wait(10)
    assert (await job(jobs, child.id)).wait_reason == f"Waits for jobs {quick.id}, {slow.id}"
    stage.gate.set()

    assert (await child.wait(10)).completed is not None


async def test_d10_one_failed_parent_of_several_is_enough(jobs: BackgroundJobs) -> None:
    slow = await jobs.enqueue_command(LifeHold, "slow")
    bad = await jobs.enqueue_command(LifeFailOnce, "bad")
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=[slow, bad])

    assert (await child.wait(10)).summary.error_code == "ParentFailed"
    assert await state(jobs, slow.id) is not JobState.CANCELLED
    stage.gate.set()


async def test_d11_a_job_cannot_depend_on_what_comes_after_it(jobs: BackgroundJobs) -> None:
    """Ids exist only once a job is stored, so a circle could only be closed by guessing: that is refused."""
    last = await jobs.enqueue_command(LifeEcho, "a")
    with pytest.raises(UnknownDependency):
        await jobs.enqueue_command(LifeEcho, "b", depends_on=last.id + 1)
    with pytest.raises(UnknownDependency):
        await jobs.enqueue_many(LifeEcho, ["c", "d"], depends_on=[last.id, last.id + 1])

    assert await count(jobs) == 1


async def test_d12_a_chain_of_four_with_a_failure_in_the_middle(jobs: BackgroundJobs) -> None:
    first = await jobs.enqueue_command(LifeNote, "first")
    second = await jobs.enqueue_command(LifeFailOnce, "second", depends_on=first)
    third = await jobs.enqueue_command(LifeNote, "third", depends_on=second)
    last = await jobs.enqueue_command(LifeNote, "last", depends_on=third, depends_on_policy="finished")
    await last.wait(10)

    ends = [await state(jobs, ref.id) for ref in (first, second, third, last)]
    assert ends == [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED]
    assert stage.done == ["first", "second", "last"]


async def test_a_dependent_waits_over_a_restart(engine: Engine, place: str | Storage) -> None:
    async with engine(place, execute=False) as jobs:
        parent = await jobs.enqueue_command(LifeEcho, "parent")
        child = await jobs.enqueue_command(DependenciesParents, depends_on=parent)

    async with engine(place) as jobs:
        assert await jobs.ref(child.id, DependenciesParents).result(10) == [f"{parent.id} Completed parent"] * 2


async def test_waiting_for_ones_own_dependent_is_refused(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(DependenciesWaitsForOwnDependent)

    assert await ref.result(10) == "refused"


async def test_a_dependent_with_a_callback_parent_waits_for_the_callback(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(LifeEcho, "parent", callback=LifeHold)
    child = await jobs.enqueue_command(LifeNote, "child", depends_on=parent)
    await until(lambda: stage.inside == 1)
    assert await state(jobs, child.id) is JobState.QUEUED
    stage.gate.set()
    await child.wait(10)

    assert stage.done == ["parent", "child"]
