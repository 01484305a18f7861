"""E-16, in the storage: what came with a caller's transaction gets its place by the first node that sees it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.storage import open_storage
from commandjobs.storage.base import Cancelling, Inserted, Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    HOUR,
    NOW,
    SECOND,
    begun,
    child,
    claim_ids,
    end,
    finished,
    job,
    node,
    put,
    running,
    state,
    stored,
)
from tests.transactional.callers import Asyncpg

pytestmark = pytest.mark.postgres


@pytest.fixture
async def storage(url: str) -> AsyncIterator[Storage]:
    """One node that executes, and that looks only when it is told to."""
    opened = open_storage(url)
    await opened.open(on_wake=lambda: None)
    await opened.register(node())
    assert await opened.try_execute()
    yield opened
    await opened.close()


async def came(storage: Storage, *rows: JobRow) -> list[Inserted]:
    """Jobs of a transaction that has committed."""
    async with Asyncpg() as caller:
        inserted = await storage.insert_within(rows, connection=caller.connection, blocking=False, now=NOW)
        await caller.end(commit=True)
    return inserted


async def came_one(storage: Storage, row: JobRow) -> int:
    [inserted] = await came(storage, row)
    return inserted.id


async def admit(storage: Storage, **options: Any) -> list[int]:
    """Let a node look; what it owns by it."""
    promoted = await storage.promote_due(now=NOW, **options)
    return [row.id for row in promoted.claimed]


async def test_job_that_waits_for_nothing_needs_no_admission(storage: Storage) -> None:
    id = await came_one(storage, job(unique_key="k"))

    assert (await stored(storage, id)).hold is None
    assert await claim_ids(storage) == [id]


async def test_job_with_a_lane_is_not_claimed_before(storage: Storage) -> None:
    id = await came_one(storage, job(worker="w"))

    assert (await stored(storage, id)).hold is Hold.ADMISSION
    assert await claim_ids(storage) == []
    await admit(storage)
    assert await claim_ids(storage) == [id]


async def test_node_that_admits_may_own(storage: Storage) -> None:
    first, second = [answer.id for answer in await came(storage, job(worker="w"), job(worker="w"))]

    assert await admit(storage, claim=ANY) == [first]
    assert (await stored(storage, second)).hold is Hold.LANE


async def test_better_one_pushes_in_before_a_job_that_nobody_owns(storage: Storage) -> None:
    worse = await put(storage, job(worker="w"))
    better = await came_one(storage, job(worker="w", priority=1))
    await admit(storage)

    assert (await stored(storage, worse)).hold is Hold.LANE
    assert await claim_ids(storage) == [better]


async def test_date_is_waited_for_first(storage: Storage) -> None:
    id = await came_one(storage, job(worker="w", run_after=NOW + HOUR))
    promoted = await storage.promote_due(now=NOW)

    assert (await stored(storage, id)).hold is Hold.TIME
    assert promoted.next_at == NOW + HOUR


async def test_child_waits_for_those_of_its_parents_that_have_not_ended(storage: Storage) -> None:
    ended, live = await finished(storage), await put(storage, job())
    id = await came_one(storage, child(ended, live))
    await admit(storage)
    row = await stored(storage, id)

    assert (row.hold, row.parents_left, row.parent_id) == (Hold.PARENTS, 1, ended)


async def test_child_of_a_child_that_is_cancelled_is_cancelled(storage: Storage) -> None:
    failed = await finished(storage, outcome=FAILURE, row=job(retry_limit=0))
    first = await came_one(storage, child(failed))
    second = await came_one(storage, child(first))
    await admit(storage)

    assert [await state(storage, id) for id in (first, second)] == [JobState.CANCELLED] * 2


async def test_cancelled_child_is_known_to_its_parent(storage: Storage) -> None:
    failed = await finished(storage, outcome=FAILURE, row=job(retry_limit=0))
    id = await came_one(storage, child(failed))
    await admit(storage)

    assert await storage.cancelled_dependents(failed) == [id]


async def test_end_of_an_attempt_cancels_its_jobs_before_they_are_admitted(storage: Storage) -> None:
    parent = await running(storage)
    first = await came_one(storage, child(parent.id, bound_attempt=1, ref_id="mail", unique_key="k"))
    await end(storage, parent, FAILURE)

    assert (await stored(storage, first)).error_code == "AttemptFailed"
    [again] = await came(storage, child(parent.id, bound_attempt=2, ref_id="mail", unique_key="k"))
    assert again.conflict is None


async def test_job_of_an_attempt_that_ended_before_the_commit_is_cancelled(storage: Storage) -> None:
    parent = await running(storage)
    async with Asyncpg() as caller:
        row = child(parent.id, bound_attempt=1)
        [late] = await storage.insert_within([row], connection=caller.connection, blocking=False, now=NOW)
        await end(storage, parent, FAILURE)
        await caller.end(commit=True)
    await admit(storage)

    assert (await stored(storage, late.id)).error_code == "AttemptFailed"


async def test_job_of_an_attempt_that_succeeded_runs(storage: Storage) -> None:
    parent = await running(storage)
    id = await came_one(storage, child(parent.id, bound_attempt=1))
    await end(storage, parent)
    await admit(storage)

    assert await claim_ids(storage) == [id]


async def test_change_of_a_job_does_not_admit_it(storage: Storage) -> None:
    parent = await put(storage, job(run_after=NOW + HOUR))
    id = await came_one(storage, child(parent))

    assert await storage.update(id, now=NOW, run_after=NOW - SECOND, queue="other")
    assert (await stored(storage, id)).hold is Hold.ADMISSION
    await admit(storage)
    assert (await stored(storage, id)).hold is Hold.PARENTS


async def test_job_can_be_cancelled_before(storage: Storage) -> None:
    id = await came_one(storage, job(worker="w"))

    assert await storage.cancel([id], by="me", now=NOW) == [Cancelling.CANCELLED]
    assert await admit(storage) == []


async def test_job_expires_before(storage: Storage) -> None:
    id = await came_one(storage, job(worker="w", expires=NOW))
    promoted = await storage.promote_due(now=NOW)

    assert [row.id for row in promoted.expired] == [id]
    assert await state(storage, id) is JobState.CANCELLED


async def test_more_than_one_look_takes_are_left_to_the_next(storage: Storage) -> None:
    await came(storage, *(job(worker=str(n)) for n in range(5)))
    promoted = await storage.promote_due(now=NOW, limit=3)

    assert promoted.next_at == NOW
    await storage.promote_due(now=NOW, limit=3)
    assert len(await claim_ids(storage)) == 5


async def test_two_nodes_admit_each_job_once(storage: Storage, url: str) -> None:
    other = open_storage(url)
    await other.open(on_wake=lambda: None)
    await other.register(node())
    assert await other.try_execute()
    ids = [answer.id for answer in await came(storage, *(job(worker=str(n)) for n in range(50)))]

    mine, theirs = await asyncio.gather(admit(storage, claim=ANY), admit(other, claim=ANY))
    await other.close()

    assert sorted(mine + theirs) == ids


async def test_lane_that_was_held_meanwhile_is_waited_for(storage: Storage) -> None:
    holder = await running(storage, job(worker="w"))
    id = await came_one(storage, job(worker="w"))
    await admit(storage, claim=ANY)
    assert (await stored(storage, id)).hold is Hold.LANE

    settled = await end(storage, holder, claim=ANY)

    assert [row.id for row in settled.claimed] == [id]
    await begun(storage, settled.claimed[0])
