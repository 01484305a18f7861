"""E-16: a caller's transaction may stay open for long, and holds up nobody but those who want its keys."""

import asyncio

import pytest

from commandjobs import BackgroundJobs, JobState, StorageUnavailable
from tests.lifecycle.commands import LifeHold, LifeNote, LifeNothing, stage, until_state
from tests.transactional.callers import Asyncpg, Caller

pytestmark = pytest.mark.postgres


async def test_e16_open_transaction_holds_up_no_lane(jobs: BackgroundJobs, someone: Caller) -> None:
    await someone.enqueue(jobs, LifeNote, "mine", worker="w", concurrency_key="k")
    for n in range(3):
        ref = await jobs.enqueue_command(LifeNote, str(n), worker="w", concurrency_key="k")
        await ref.wait(timeout=60)

    assert stage.done == ["0", "1", "2"]


async def test_e16_open_transaction_holds_up_no_parent(jobs: BackgroundJobs, someone: Caller) -> None:
    parent = await jobs.enqueue_command(LifeHold, "parent")
    await until_state(jobs, parent.id, JobState.STARTED)
    await someone.enqueue(jobs, LifeNote, "child", depends_on=parent)
    stage.open()
    await parent.wait(timeout=60)

    assert stage.done == ["parent"]


async def test_e16_those_who_want_its_key_hold_up_nobody(jobs: BackgroundJobs, someone: Caller) -> None:
    """There are six connections that write; ten callers wait for the key."""
    await someone.enqueue(jobs, LifeNote, "mine", unique_key="k")
    waiting = [asyncio.ensure_future(jobs.enqueue_command(LifeNote, "x", unique_key="k")) for _ in range(10)]
    for n in range(3):
        ref = await jobs.enqueue_command(LifeNote, str(n), unique_key=f"another {n}")
        await ref.wait(timeout=60)
        assert not any(one.done() for one in waiting)
    await someone.end(commit=False)
    refs = await asyncio.gather(*waiting)

    assert sum(ref.created for ref in refs) >= 1


async def test_e16_key_of_a_transaction_that_stays_open_is_not_waited_for_for_ever(jobs: BackgroundJobs) -> None:
    async with Asyncpg() as first, Asyncpg() as second:
        await first.enqueue(jobs, LifeNothing, unique_key="k")
        await second.execute("set local lock_timeout = '20ms'")

        with pytest.raises(StorageUnavailable, match="keeps the ref id or unique key"):
            await second.enqueue(jobs, LifeNothing, unique_key="k")
        ref = await second.enqueue(jobs, LifeNothing)
        await second.end(commit=True)

    assert ref.created


@pytest.mark.parametrize("his", ["0", "20ms", "1min"])
async def test_e16_how_long_he_waits_for_locks_is_his_again(jobs: BackgroundJobs, his: str) -> None:
    async with Asyncpg() as someone:
        await someone.execute(f"set local lock_timeout = '{his}'")
        await someone.enqueue(jobs, LifeNothing, unique_key="k", ref_id="r")

        assert await someone.raw.fetch("show lock_timeout") == [(his,)]


async def test_e16_lane_goes_on_with_what_has_committed(jobs: BackgroundJobs) -> None:
    """The older id is still in an open transaction: the lane does not wait for it."""
    async with Asyncpg() as first, Asyncpg() as second:
        older = await first.enqueue(jobs, LifeNote, "older", worker="w")
        younger = await second.enqueue(jobs, LifeNote, "younger", worker="w")
        await second.end(commit=True)
        await jobs.ref(younger.id).wait(timeout=60)
        await first.end(commit=True)
        await jobs.ref(older.id).wait(timeout=60)

    assert older.id < younger.id
    assert stage.done == ["younger", "older"]
