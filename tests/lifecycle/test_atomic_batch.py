"""D-30: a job enqueued inside an attempt with `depends_on` on its own job belongs to that attempt."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    Fail,
    Job,
    JobNotFailed,
    JobState,
    Snooze,
    Storage,
    SyncCommandWithResult,
    current_job,
    current_jobs,
    retry,
)
from commandjobs.testing import FakeClock
from tests.conftest import until
from tests.lifecycle.commands import (
    LifeEcho,
    LifeError,
    LifeHold,
    LifeNote,
    LifeNothing,
    eventually,
    job,
    stage,
    state,
    until_retry,
    until_state,
)

Engine = Callable[..., AbstractAsyncContextManager[BackgroundJobs]]
CANCELLED, COMPLETED, FAILED, QUEUED = JobState.CANCELLED, JobState.COMPLETED, JobState.FAILED, JobState.QUEUED


async def end_of_first_attempt(how: str) -> None:
    """The first attempt ends like this, every later one succeeds; "fatal" is how each of them ends."""
    if how == "fatal":
        raise Fail("for good")
    if current_job().attempt > 1:
        return
    match how:
        case "error":
            raise LifeError("the first attempt")
        case "snooze":
            raise Snooze(60)
        case "hold":
            stage.enter("hold")
            await asyncio.Event().wait()
        case _:
            pass


@retry(limit=2, backoff="fixed", delay=60)
class AtomicParent(AsyncCommand[str]):
    """Each attempt enqueues a mail with the same ref id and key."""

    async def run(self, request: str) -> None:
        me = current_job()
        mail = f"mail of attempt {me.attempt}"
        child = await current_jobs().enqueue_command(
            LifeNote, mail, depends_on=me.id, ref_id=f"mail-{me.id}", unique_key=f"mail-{me.id}", tags=["mail"]
        )
        assert child.created
        await end_of_first_attempt(request)


@retry(limit=2, backoff="fixed", delay=60)
class AtomicSyncParent(SyncCommandWithResult[str, int]):
    """The same in a thread, where a first attempt that holds goes on after its end until the gate opens."""

    def run(self, request: str) -> int:
        me, jobs = current_job(), current_jobs().sync
        jobs.enqueue_command(LifeNote, f"mail of attempt {me.attempt}", depends_on=me.id, tags=["mail"])
        if me.attempt == 1 and request == "error":
            raise LifeError("the first attempt")
        if me.attempt == 1 and request == "hold":
            stage.enter("hold")
            stage.thread_gate.wait(20)
            return jobs.enqueue_command(LifeNote, "late mail", depends_on=me.id, tags=["mail"]).id
        return 0


@retry(limit=2, backoff="fixed", delay=60)
class AtomicParentOfMany(AsyncCommand[list[int]]):
    """Enqueues three mails that also wait for other jobs; its first attempt fails."""

    async def run(self, request: list[int]) -> None:
        me = current_job()
        mails = [f"mail {n} of attempt {me.attempt}" for n in range(3)]
        await current_jobs().enqueue_many(LifeNote, mails, depends_on=[*request, me.id], tags=["mail"])
        await end_of_first_attempt("error")


class AtomicOther(AsyncCommand):
    """Enqueues jobs that do not depend on it, and one that depends on another job; then fails."""

    async def run(self) -> None:
        other = await current_jobs().enqueue_command(LifeNote, "first")
        await current_jobs().enqueue_command(LifeNote, "second", depends_on=other)
        raise Fail("for good")


@retry(limit=2, backoff="fixed", delay=60)
class AtomicGrandparent(AsyncCommand):
    """Enqueues a chain of two; its first attempt fails."""

    async def run(self) -> None:
        me, jobs = current_job(), current_jobs()
        child = await jobs.enqueue_command(LifeNote, f"child {me.attempt}", depends_on=me.id, tags=["mail"])
        await jobs.enqueue_command(LifeNote, f"grandchild {me.attempt}", depends_on=child, tags=["mail"])
        await end_of_first_attempt("error")


@retry(limit=2, backoff="fixed", delay=60)
class AtomicCallback(AsyncCommand[str]):
    """A callback that enqueues a mail each time; its first attempt fails, or every one."""

    async def run(self, request: str) -> None:
        stage.done.append("callback")
        number = stage.done.count("callback")
        await current_jobs().enqueue_command(
            LifeNote, f"mail of callback {number}", depends_on=current_job().id, tags=["mail"]
        )
        if request == "fatal":
            raise Fail("for good")
        if number == 1:
            raise LifeError("the first callback")


class AtomicWork(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        await current_jobs().enqueue_command(LifeNote, "mail of the work", depends_on=current_job().id, tags=["mail"])
        return request


async def mails(jobs: BackgroundJobs) -> list[Job]:
    """What was enqueued inside attempts, oldest first."""
    page = await jobs.find_jobs(tag="mail")
    return [found.job for found in await jobs.get_jobs([one.id for one in reversed(page.jobs)])]


async def ends(jobs: BackgroundJobs) -> list[tuple[JobState, str | None]]:
    return [(mail.state, mail.error_code) for mail in await mails(jobs)]


GONE = (CANCELLED, "AttemptFailed")
SENT = (COMPLETED, None)


@pytest.mark.parametrize("command", [AtomicParent, AtomicSyncParent])
async def test_d30_jobs_of_a_successful_attempt_run_after_it(jobs: BackgroundJobs, command: type[Any]) -> None:
    ref = await jobs.enqueue_command(command, "succeed")
    await ref.wait(10)
    await jobs.wait_until_idle(10)

    [mail] = await mails(jobs)
    assert (mail.state, mail.depends_on, mail.parent_id) == (COMPLETED, [ref.id], ref.id)
    assert stage.done == ["mail of attempt 1"]


async def test_d30_they_wait_for_the_end_of_their_attempt(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "hold")
    await until(lambda: stage.inside == 1 or stage.done)

    [mail] = await mails(jobs)
    assert (mail.state, mail.wait_reason) == (QUEUED, f"Waits for job {ref.id}")


@pytest.mark.parametrize("command", [AtomicParent, AtomicSyncParent])
async def test_d30_jobs_of_a_failed_attempt_are_cancelled_and_only_those_of_the_successful_one_run(
    engine: Engine, clock: FakeClock, command: type[Any]
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(command, "error")
        await until_retry(jobs, ref.id, attempts=1)
        assert await ends(jobs) == [GONE]
        await clock.advance(60)
        await ref.wait(10)
        await jobs.wait_until_idle(10)

        assert await ends(jobs) == [GONE, SENT]
    assert stage.done == ["mail of attempt 2"]


async def test_d30_jobs_of_a_snoozed_attempt_are_cancelled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicParent, "snooze")
        await until_retry(jobs, ref.id, attempts=1)
        assert await ends(jobs) == [GONE]
        await clock.advance(60)
        await ref.wait(10)
        await jobs.wait_until_idle(10)

    assert stage.done == ["mail of attempt 2"]


async def test_d30_jobs_of_an_attempt_that_was_handed_back_are_cancelled(engine: Engine, place: str | Storage) -> None:
    async with engine(place, shutdown_grace=0.0) as jobs:
        ref = await jobs.enqueue_command(AtomicParent, "hold")
        await until(lambda: stage.done == ["hold"])

    async with engine(place) as jobs:
        await jobs.ref(ref.id).wait(10)
        await jobs.wait_until_idle(10)
        assert await ends(jobs) == [GONE, SENT]
    assert stage.done == ["hold", "mail of attempt 2"]


async def test_d30_jobs_of_an_attempt_that_timed_out_are_cancelled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicParent, "hold", timeout=5)
        await until(lambda: stage.done == ["hold"])
        await clock.advance(5)
        await until_retry(jobs, ref.id, attempts=1)

        assert await ends(jobs) == [GONE]


async def test_d30_jobs_of_a_cancelled_attempt_are_cancelled(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "hold")
    await until(lambda: stage.done == ["hold"])
    await ref.cancel()
    await ref.wait(10)

    assert await ends(jobs) == [GONE]


async def test_d30_jobs_of_an_attempt_that_failed_for_good_are_cancelled(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "fatal")
    assert (await ref.wait(10)).summary.state is FAILED

    [mail] = await mails(jobs)
    assert (mail.error_code, mail.attempts, mail.completed is not None) == ("AttemptFailed", 0, True)
    assert mail.error is not None
    assert "attempt that enqueued this job did not succeed" in mail.error.message


async def test_d30_code_that_goes_on_after_its_attempt_has_timed_out_enqueues_in_vain(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicSyncParent, "hold", timeout=5)
        await until(lambda: stage.done == ["hold"])
        await clock.advance(5)
        stage.thread_gate.set()
        await until_retry(jobs, ref.id, attempts=1)

        assert await ends(jobs) == [GONE, GONE]


async def test_d30_cancelled_ones_hold_no_ref_id_and_no_key(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicParent, "error")
        await until_retry(jobs, ref.id, attempts=1)
        assert await jobs.get_job_by_ref_id(f"mail-{ref.id}") is None
        await clock.advance(60)
        await ref.wait(10)

        found = await jobs.ref(f"mail-{ref.id}").wait(10)
        assert (found.summary.state, found.request()) == (COMPLETED, "mail of attempt 2")


async def test_d30_a_requeue_never_revives_them(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "fatal")
    await ref.wait(10)
    [mail] = await mails(jobs)

    with pytest.raises(JobNotFailed, match="never revived"):
        await jobs.requeue_failed_job(mail.id)
    result = await jobs.requeue_failed_jobs(ids=[mail.id])
    assert (result.ids, list(result.errors)) == ([], [mail.id])
    assert await state(jobs, mail.id) is CANCELLED


@pytest.mark.parametrize("dependents", [False, True])
async def test_d30_a_requeue_of_the_parent_does_not_revive_them(jobs: BackgroundJobs, dependents: bool) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "fatal")
    await ref.wait(10)
    await jobs.requeue_failed_job(ref.id, dependents=dependents)
    await jobs.ref(ref.id).wait(10)

    assert await ends(jobs) == [GONE, GONE]
    assert stage.done == []


async def test_d30_the_next_run_of_a_requeued_parent_has_jobs_of_its_own(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "hold")
    await until(lambda: stage.done == ["hold"])
    await ref.cancel()
    await ref.wait(10)
    await jobs.requeue_failed_job(ref.id)
    await jobs.ref(ref.id).wait(10)
    await jobs.wait_until_idle(10)

    assert await ends(jobs) == [GONE, SENT]
    assert stage.done == ["hold", "mail of attempt 2"]


async def test_d30_with_several_parents_they_wait_for_all(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        other = await jobs.enqueue_command(LifeHold, "other")
        ref = await jobs.enqueue_command(AtomicParentOfMany, [other.id])
        await until_retry(jobs, ref.id, attempts=1)
        assert await ends(jobs) == [GONE] * 3
        await clock.advance(60)
        await ref.wait(10)
        assert [end for end, _ in await ends(jobs)] == [CANCELLED] * 3 + [QUEUED] * 3

        stage.gate.set()
        await other.wait(10)
        await jobs.wait_until_idle(10)
        assert await ends(jobs) == [GONE] * 3 + [SENT] * 3


async def test_d30_with_several_parents_the_failure_of_another_cancels_them_too(jobs: BackgroundJobs) -> None:
    other = await jobs.enqueue_command(AtomicParent, "hold")
    await until(lambda: stage.done == ["hold"])
    ref = await jobs.enqueue_command(AtomicParentOfMany, [other.id])
    await until_retry(jobs, ref.id, attempts=1)
    await other.cancel()
    await other.wait(10)

    assert {end for end, _ in await ends(jobs)} == {CANCELLED}


async def test_d30_jobs_that_do_not_depend_on_the_attempt_are_not_touched(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicOther)
    assert (await ref.wait(10)).summary.state is FAILED
    await jobs.wait_until_idle(10)

    assert stage.done == ["first", "second"]


async def test_d30_what_depends_on_them_goes_with_them(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicGrandparent)
        await until_retry(jobs, ref.id, attempts=1)
        assert await ends(jobs) == [GONE, (CANCELLED, "ParentFailed")]
        await clock.advance(60)
        await ref.wait(10)
        await jobs.wait_until_idle(10)

    assert stage.done == ["child 2", "grandchild 2"]


async def test_d30_a_job_that_depends_on_the_parent_from_outside_waits_through_its_retries(
    engine: Engine, clock: FakeClock
) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicParent, "error")
        outside = await jobs.enqueue_command(LifeNote, "outside", depends_on=ref)
        await until_retry(jobs, ref.id, attempts=1)
        assert await state(jobs, outside.id) is QUEUED
        await clock.advance(60)

        assert (await outside.wait(10)).summary.state is COMPLETED


async def test_d30_jobs_of_a_failed_callback_are_cancelled(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(LifeEcho, "x", callback=AtomicCallback)

        async def waits() -> bool:
            return (await job(jobs, ref.id)).run_after is not None

        await eventually(waits)
        assert await ends(jobs) == [GONE]
        await clock.advance(60)
        await ref.wait(10)
        await jobs.wait_until_idle(10)

    assert stage.done == ["callback", "callback", "mail of callback 2"]


async def test_d30_jobs_of_the_work_survive_a_failed_callback_attempt(engine: Engine, clock: FakeClock) -> None:
    async with engine(clock=clock) as jobs:
        ref = await jobs.enqueue_command(AtomicWork, "x", callback=AtomicCallback)

        async def waits() -> bool:
            return (await job(jobs, ref.id)).run_after is not None

        await eventually(waits)
        assert await ends(jobs) == [(QUEUED, None), GONE]
        await clock.advance(60)
        await ref.wait(10)
        await jobs.wait_until_idle(10)

        assert await ends(jobs) == [SENT, GONE, SENT]


async def test_d30_jobs_of_the_work_go_when_the_callback_failed_for_good(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicWork, "fatal", callback=AtomicCallback)
    assert (await ref.wait(10)).summary.state is FAILED
    await jobs.wait_until_idle(10)

    work, callback = await mails(jobs)
    assert (work.state, work.error_code) == (CANCELLED, "ParentFailed")
    assert (callback.state, callback.error_code) == GONE


async def test_d30_an_attempt_that_is_cancelled_before_it_enqueues_leaves_nothing(jobs: BackgroundJobs) -> None:
    ref = await jobs.enqueue_command(AtomicParent, "hold")
    await ref.cancel()
    await until_state(jobs, ref.id, CANCELLED)
    await jobs.wait_until_idle(10)

    assert {end for end, _ in await ends(jobs)} <= {CANCELLED}
    assert (await (await jobs.enqueue_command(LifeNothing)).wait(10)).summary.state is COMPLETED
