"""E-16, for each kind of connection: commit runs it, rollback leaves nothing, and it never runs before the commit."""

from typing import Any

import pytest

from commandjobs import BackgroundJobs, DuplicateRefId, JobNotFound
from tests import postgres
from tests.lifecycle.commands import LifeEcho, LifeNote, LifeNothing, stage
from tests.transactional.callers import ORDERS, Caller, orders

pytestmark = pytest.mark.postgres


async def anything_stored_would_have_run(jobs: BackgroundJobs) -> None:
    """A job behind it has come from the storage and ended: whatever could be claimed before that was."""
    ref = await jobs.enqueue_command(LifeNothing, worker="behind everything")
    await ref.wait(timeout=60)


async def test_e16_commit_runs_it(jobs: BackgroundJobs, caller: Caller) -> None:
    await caller.execute(f"insert into {ORDERS} values ('one')")
    ref = await caller.enqueue(jobs, LifeEcho, "sent")
    await caller.end(commit=True)

    assert await jobs.ref(ref.id, LifeEcho).result(timeout=60) == "sent"
    assert orders() == ["one"]


async def test_e16_rollback_leaves_nothing(jobs: BackgroundJobs, caller: Caller) -> None:
    await caller.execute(f"insert into {ORDERS} values ('one')")
    ref = await caller.enqueue(jobs, LifeNote, "sent", ref_id="mine", unique_key="k", worker="smtp")
    await caller.end(commit=False)
    await anything_stored_would_have_run(jobs)

    assert stage.done == []
    assert orders() == []
    assert await jobs.get_job(ref.id) is None
    assert await jobs.get_job_by_ref_id("mine") is None
    assert postgres.query(f"select count(*) from {postgres.SCHEMA}.job") == [(0,)]


async def test_e16_never_runs_before_the_commit(jobs: BackgroundJobs, caller: Caller) -> None:
    ref = await caller.enqueue(jobs, LifeNote, "sent")
    await anything_stored_would_have_run(jobs)

    assert stage.done == []
    assert await jobs.get_job(ref.id) is None

    await caller.end(commit=True)
    await jobs.ref(ref.id).wait(timeout=60)

    assert stage.done == ["sent"]


async def test_e16_nobody_can_wait_for_it_before_the_commit(jobs: BackgroundJobs, someone: Caller) -> None:
    ref = await someone.enqueue(jobs, LifeNote, "sent")

    with pytest.raises(JobNotFound, match=f"no job with id {ref.id}"):
        await ref.wait(timeout=60)


async def test_e16_connection_lost_before_the_commit_leaves_nothing(jobs: BackgroundJobs, either: Caller) -> None:
    await either.execute(f"insert into {ORDERS} values ('one')")
    ref = await either.enqueue(jobs, LifeNote, "sent")
    holders = f"select pid from pg_locks where relation = '{ORDERS}'::regclass"
    postgres.execute(f"select pg_terminate_backend(pid) from ({holders}) as holder")
    await anything_stored_would_have_run(jobs)

    assert stage.done == []
    assert await jobs.get_job(ref.id) is None


async def test_e16_what_is_refused_leaves_the_callers_transaction_as_it_was(
    jobs: BackgroundJobs, caller: Caller
) -> None:
    await jobs.enqueue_command(LifeNothing, ref_id="taken")
    await caller.execute(f"insert into {ORDERS} values ('one')")

    with pytest.raises(DuplicateRefId, match="'taken' exists already"):
        await caller.enqueue(jobs, LifeNothing, ref_id="taken")
    await caller.execute(f"insert into {ORDERS} values ('two')")
    await caller.end(commit=True)

    assert orders() == ["one", "two"]


@pytest.mark.parametrize(
    ("by", "what"),
    [
        ("enqueue_command", (LifeNote, "a")),
        ("enqueue_many", (LifeNote, ["a", "b"])),
        ("enqueue_json", ("LifeNote", '"a"')),
    ],
)
async def test_e16_every_enqueue_takes_a_connection(
    jobs: BackgroundJobs, either: Caller, by: str, what: tuple[Any, ...]
) -> None:
    made = await either.enqueue(jobs, *what, by=by)
    await either.end(commit=True)
    for ref in made if isinstance(made, list) else [made]:
        await jobs.ref(ref.id).wait(timeout=60)

    assert sorted(stage.done) == (["a", "b"] if by == "enqueue_many" else ["a"])


async def test_e16_many_are_all_there_or_none(jobs: BackgroundJobs, either: Caller) -> None:
    refs = await either.enqueue(jobs, LifeNote, [str(n) for n in range(500)], by="enqueue_many", worker="one")

    assert [ref.id for ref in refs] == list(range(refs[0].id, refs[0].id + 500))
    assert (await jobs.find_jobs()).total == 0
    await either.end(commit=True)
    assert (await jobs.find_jobs()).total == 500
    await jobs.cancel_jobs(all=True)


async def test_e16_is_found_by_another_node(url: str, someone: Caller) -> None:
    async with (
        BackgroundJobs(url, execute=False) as web,
        BackgroundJobs(url, shutdown_grace=1.0) as worker,
    ):
        ref = await someone.enqueue(web, LifeNote, "sent", concurrency_key="k")
        await anything_stored_would_have_run(worker)
        assert stage.done == []

        await someone.end(commit=True)
        found = await web.ref(ref.id).wait(timeout=60)

    assert found.summary.state == "Completed"


async def test_e16_is_found_long_after_the_enqueue(url: str, someone: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is open for so long that nobody looks out for its end any more."""
    monkeypatch.setattr("commandjobs.storage.sql.watching.GIVEN_UP_AFTER", 0.0)
    async with BackgroundJobs(url, shutdown_grace=1.0) as jobs:
        ref = await someone.enqueue(jobs, LifeNote, "sent", worker="smtp")
        await anything_stored_would_have_run(jobs)
        await someone.end(commit=True)

        await jobs.ref(ref.id).wait(timeout=60)

    assert stage.done == ["sent"]
