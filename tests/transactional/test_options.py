"""E-16: every option means in a caller's transaction what it means outside, and gets the same answers."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from commandjobs import (
    AsyncCommand,
    BackgroundJobs,
    Command,
    DuplicateRefId,
    InvalidOption,
    InvalidRequest,
    JobState,
    SyncCommand,
    UnknownDependency,
    current_job,
    current_jobs,
    retry,
)
from tests.lifecycle.commands import (
    LifeEcho,
    LifeFailOnce,
    LifeHold,
    LifeNote,
    LifeNothing,
    eventually,
    job,
    stage,
    state,
    until_state,
)
from tests.transactional.callers import Asyncpg, Caller, address

pytestmark = pytest.mark.postgres


class TransactionalCallback(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(f"back: {request}")


async def test_e16_options_are_stored(jobs: BackgroundJobs, either: Caller) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    said: dict[str, Any] = {
        "worker": "smtp", "queue": "mail", "priority": 3, "retry_limit": 7, "timeout": 12.0, "run_after": later,
        "tags": ["a"], "args": {"b": "c"}, "user_id": "u", "tenant_id": "t", "created_by": "me", "parent_id": 5,
        "concurrency_key": "k", "expires": later + timedelta(days=1), "unique_key": "once", "ref_id": "mine",
    }  # fmt: skip
    ref = await either.enqueue(jobs, LifeNothing, callback=LifeNothing, reply_to="http://a", batch_id="b", **said)
    await either.end(commit=True)
    found = await job(jobs, ref.id)

    assert {name: getattr(found, name) for name in said} == said
    assert (found.callback, found.batch_id) == ("LifeNothing", "b")


async def test_e16_callback_follows(jobs: BackgroundJobs, someone: Caller) -> None:
    ref = await someone.enqueue(jobs, LifeEcho, "done", callback=TransactionalCallback)
    await someone.end(commit=True)
    await jobs.ref(ref.id).wait(timeout=60)

    assert stage.done == ["back: done"]


async def test_e16_date_is_waited_for(jobs: BackgroundJobs, someone: Caller) -> None:
    ref = await someone.enqueue(jobs, LifeNote, "later", run_after=timedelta(days=1), worker="smtp")
    due = await someone.enqueue(jobs, LifeNote, "soon", run_after=timedelta(milliseconds=20))
    await someone.end(commit=True)
    await jobs.ref(due.id).wait(timeout=60)

    async def is_scheduled() -> bool:
        return str((await job(jobs, ref.id)).wait_reason).startswith("Scheduled at")

    await eventually(is_scheduled)
    assert stage.done == ["soon"]


async def test_e16_expired_at_the_commit_never_runs(jobs: BackgroundJobs, someone: Caller) -> None:
    ref = await someone.enqueue(jobs, LifeNote, "late", expires=datetime.now(UTC) - timedelta(seconds=1), worker="smtp")
    await someone.end(commit=True)
    found = await jobs.ref(ref.id).wait(timeout=60)

    assert (found.summary.state, found.summary.error_code) == (JobState.CANCELLED, "JobExpired")
    assert stage.done == []


@pytest.mark.parametrize(
    ("what", "options", "error"),
    [
        ((LifeNote, "a"), {"priorty": 1}, InvalidOption),
        ((LifeNote,), {}, InvalidRequest),
        ((LifeNote, "a"), {"depends_on": 999_999}, UnknownDependency),
        ((LifeNote, "a"), {"timeout": -1}, InvalidOption),
    ],
)
async def test_e16_what_is_wrong_is_refused_as_outside(
    jobs: BackgroundJobs, either: Caller, what: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await either.enqueue(jobs, *what, **options)
    ref = await either.enqueue(jobs, LifeNote, "b")
    await either.end(commit=True)
    await jobs.ref(ref.id).wait(timeout=60)

    assert stage.done == ["b"]


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_unique_key_gives_the_job_that_holds_it(jobs: BackgroundJobs, either: Caller) -> None:
    outside = await jobs.enqueue_command(LifeHold, "outside", unique_key="k")
    inside = await either.enqueue(jobs, LifeHold, "inside", unique_key="k")

    assert (inside.id, inside.ref_id, inside.created) == (outside.id, outside.ref_id, False)


async def test_e16_unique_key_holds_within_one_transaction(jobs: BackgroundJobs, either: Caller) -> None:
    first = await either.enqueue(jobs, LifeNote, "first", unique_key="k")
    second = await either.enqueue(jobs, LifeNote, "second", unique_key="k")
    await either.end(commit=True)
    await jobs.ref(first.id).wait(timeout=60)

    assert (second.id, second.created) == (first.id, False)
    assert stage.done == ["first"]


async def test_e16_same_ref_id_and_work_gives_the_job_of_this_transaction(jobs: BackgroundJobs, either: Caller) -> None:
    first = await either.enqueue(jobs, LifeNote, "a", ref_id="mine")
    again = await either.enqueue(jobs, LifeNote, "a", ref_id="mine", on_duplicate="return")

    assert (again.id, again.created) == (first.id, False)
    with pytest.raises(DuplicateRefId, match="other work"):
        await either.enqueue(jobs, LifeNote, "b", ref_id="mine", on_duplicate="return")


async def test_e16_ref_id_of_a_finished_job_is_taken(jobs: BackgroundJobs, either: Caller) -> None:
    ref = await jobs.enqueue_command(LifeNote, "a", ref_id="mine")
    await ref.wait(timeout=60)
    again = await either.enqueue(jobs, LifeNote, "a", ref_id="mine", on_duplicate="return")

    assert (again.id, again.created) == (ref.id, False)
    with pytest.raises(DuplicateRefId, match="exists already"):
        await either.enqueue(jobs, LifeNote, "a", ref_id="mine")


@pytest.mark.parametrize("options", [{"unique_key": "k"}, {"ref_id": "mine", "on_duplicate": "return"}])
async def test_e16_name_of_an_open_transaction_is_waited_for(jobs: BackgroundJobs, options: dict[str, Any]) -> None:
    async with Asyncpg() as first, Asyncpg() as second:
        held = await first.enqueue(jobs, LifeHold, "a", **options)
        waiting = asyncio.ensure_future(second.enqueue(jobs, LifeHold, "a", **options))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done

        await first.end(commit=True)
        ref = await waiting

    assert (ref.id, ref.created) == (held.id, False)


async def test_e16_name_of_a_transaction_that_is_rolled_back_is_free(jobs: BackgroundJobs) -> None:
    async with Asyncpg() as first, Asyncpg() as second:
        await first.enqueue(jobs, LifeNote, "a", unique_key="k")
        waiting = asyncio.ensure_future(second.enqueue(jobs, LifeNote, "b", unique_key="k"))
        await asyncio.wait([waiting], timeout=0.1)
        await first.end(commit=False)
        ref = await waiting
        await second.end(commit=True)

    await jobs.ref(ref.id).wait(timeout=60)
    assert ref.created
    assert stage.done == ["b"]


async def test_e16_name_that_an_older_snapshot_does_not_show_is_seen(jobs: BackgroundJobs) -> None:
    """At REPEATABLE READ a transaction sees no job that came after its first statement."""
    async with Asyncpg() as someone:
        await someone.end(commit=False)
        someone.transaction = someone.raw.transaction(isolation="repeatable_read")
        await someone.transaction.start()
        await someone.execute("select 1")
        parent = await jobs.enqueue_command(LifeHold, "a", unique_key="k")
        held = await someone.enqueue(jobs, LifeHold, "b", unique_key="k")
        child = await someone.enqueue(jobs, LifeNote, "c", depends_on=parent)
        await someone.end(commit=True)

    assert (held.id, held.created) == (parent.id, False)
    assert list((await job(jobs, child.id)).depends_on) == [parent.id]


# ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lane", ["worker", "concurrency_key"])
async def test_e16_lane_is_kept(jobs: BackgroundJobs, either: Caller, lane: str) -> None:
    await jobs.enqueue_command(LifeHold, "first", **{lane: "l"})  # type: ignore[arg-type]
    refs = [await either.enqueue(jobs, LifeHold, str(n), **{lane: "l"}) for n in range(5)]
    await either.end(commit=True)
    await until_state(jobs, refs[0].id, JobState.QUEUED)
    stage.open()
    for ref in refs:
        await jobs.ref(ref.id).wait(timeout=60)

    assert stage.most_inside == 1
    assert stage.done == ["first", "0", "1", "2", "3", "4"]


async def test_e16_priority_decides_in_a_lane(jobs: BackgroundJobs, someone: Caller) -> None:
    await jobs.enqueue_command(LifeHold, "first", worker="l")
    low = await someone.enqueue(jobs, LifeHold, "low", worker="l")
    await someone.enqueue(jobs, LifeHold, "high", worker="l", priority=1)
    await someone.end(commit=True)

    async def are_in_line() -> bool:
        found = await jobs.find_jobs(states=[JobState.QUEUED])
        reasons = [str((await job(jobs, one.id)).wait_reason) for one in found.jobs]
        return len(reasons) == 2 and all(reason.startswith("Waits for worker") for reason in reasons)

    await eventually(are_in_line)
    stage.open()
    await jobs.ref(low.id).wait(timeout=60)

    assert stage.done == ["first", "high", "low"]


# ── parents ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_parent_of_the_same_transaction_goes_first(jobs: BackgroundJobs, either: Caller) -> None:
    parent = await either.enqueue(jobs, LifeNote, "parent")
    child = await either.enqueue(jobs, LifeNote, "child", depends_on=parent)
    await either.end(commit=True)
    await jobs.ref(child.id).wait(timeout=60)

    assert stage.done == ["parent", "child"]


async def test_e16_parent_that_runs_is_waited_for(jobs: BackgroundJobs, either: Caller) -> None:
    parent = await jobs.enqueue_command(LifeHold, "parent")
    child = await either.enqueue(jobs, LifeNote, "child", depends_on=[parent.id])
    await either.end(commit=True)
    await until_state(jobs, parent.id, JobState.STARTED)
    assert (await job(jobs, child.id)).wait_reason == f"Waits for job {parent.id}"
    stage.open()
    await jobs.ref(child.id).wait(timeout=60)

    assert stage.done == ["parent", "child"]


@pytest.mark.parametrize("end", ["before the enqueue", "before the commit"])
async def test_e16_parent_that_failed_cancels(jobs: BackgroundJobs, someone: Caller, end: str) -> None:
    parent = await jobs.enqueue_command(LifeFailOnce, "parent")
    if end == "before the enqueue":
        await parent.wait(timeout=60)
    child = await someone.enqueue(jobs, LifeNote, "child", depends_on=parent, worker="w")
    whatever = await someone.enqueue(jobs, LifeNote, "whatever", depends_on=parent, depends_on_policy="finished")
    await parent.wait(timeout=60)
    await someone.end(commit=True)
    found = await jobs.ref(child.id).wait(timeout=60)
    await jobs.ref(whatever.id).wait(timeout=60)

    assert (found.summary.state, found.summary.error_code) == (JobState.CANCELLED, "ParentFailed")
    assert stage.done == ["parent", "whatever"]


async def test_e16_parent_that_ended_before_the_commit_lets_go(jobs: BackgroundJobs, someone: Caller) -> None:
    parent = await jobs.enqueue_command(LifeNote, "parent")
    child = await someone.enqueue(jobs, LifeNote, "child", depends_on=parent)
    await parent.wait(timeout=60)
    await someone.end(commit=True)
    await jobs.ref(child.id).wait(timeout=60)

    assert stage.done == ["parent", "child"]


# ── what an attempt enqueues ────────────────────────────────────────────────────────────────────────────────────────


@retry(limit=1, backoff="fixed", delay=0.0)
class TransactionalBatch(AsyncCommand[str]):
    """Enqueues what belongs to its attempt, in a transaction that commits, and fails the first time."""

    async def run(self, request: str) -> None:
        attempt = current_job().attempt
        async with Asyncpg() as own:
            await own.enqueue(
                current_jobs(), LifeNote, f"of attempt {attempt}", depends_on=current_job().id, ref_id=request
            )
            await own.end(commit=True)
        if attempt == 1:
            raise RuntimeError("not yet")


@retry(limit=1, backoff="fixed", delay=0.0)
class TransactionalThreadBatch(SyncCommand[str]):
    """The same in a thread, with a blocking connection."""

    def run(self, request: str) -> None:
        job = current_job()
        with psycopg.connect(address()) as own:
            note = f"of attempt {job.attempt}"
            enqueue = current_jobs().sync.enqueue_command
            enqueue(LifeNote, note, depends_on=job.id, ref_id=request, connection=own)
        if job.attempt == 1:
            raise RuntimeError("not yet")


@pytest.mark.parametrize("batch", [TransactionalBatch, TransactionalThreadBatch])
async def test_e16_jobs_of_an_attempt_that_failed_do_not_run_and_give_their_ref_id_free(
    jobs: BackgroundJobs, batch: type[Command[str, None]]
) -> None:
    ref = await jobs.enqueue_command(batch, "mine")
    await ref.wait(timeout=60)

    assert await state(jobs, ref.id) is JobState.COMPLETED
    await jobs.ref("mine").wait(timeout=60)
    assert stage.done == ["of attempt 2"]


# ── steering ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_e16_job_can_be_changed_and_cancelled_before_it_is_admitted(url: str, someone: Caller) -> None:
    async with BackgroundJobs(url, execute=False) as jobs:
        ref = await someone.enqueue(jobs, LifeNote, "a", worker="smtp")
        other = await someone.enqueue(jobs, LifeNote, "b", worker="smtp")
        await someone.end(commit=True)

        assert await jobs.update_job(ref.id, priority=5)
        assert await jobs.cancel_job(other.id)
        assert (await job(jobs, ref.id)).priority == 5
    async with BackgroundJobs(url, shutdown_grace=1.0) as jobs:
        await jobs.ref(ref.id).wait(timeout=60)

    assert stage.done == ["a"]
