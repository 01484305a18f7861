"""Changing jobs that wait."""

from typing import Any

import pytest

from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    HOUR,
    NOW,
    SECOND,
    child,
    claim_ids,
    claim_one,
    end,
    executed,
    finished,
    job,
    put,
    put_all,
    running,
    stored,
)


async def test_a_date_can_be_moved_forward(storage: Storage) -> None:
    id = await put(storage, job(run_after=NOW + HOUR))

    assert await storage.update(id, now=NOW, run_after=NOW)

    assert await claim_ids(storage) == [id]


async def test_a_date_can_be_moved_back(storage: Storage) -> None:
    id = await put(storage, job(run_after=NOW + SECOND))

    await storage.update(id, now=NOW, run_after=NOW + HOUR)

    early = await storage.promote_due(now=NOW + SECOND)
    assert (early.promoted, early.next_at) == (0, NOW + HOUR)
    assert (await storage.promote_due(now=NOW + HOUR)).promoted == 1


async def test_a_claimable_job_can_be_put_off(storage: Storage) -> None:
    id = await put(storage, job())

    await storage.update(id, now=NOW, run_after=NOW + HOUR)

    kept = await stored(storage, id)
    assert (kept.hold, kept.run_after) == (Hold.TIME, NOW + HOUR)
    assert await claim_ids(storage) == []


async def test_a_retry_can_be_brought_forward(storage: Storage) -> None:
    row = await running(storage)
    await end(storage, row, FAILURE)

    assert await storage.update(row.id, now=NOW + SECOND, run_after=NOW + SECOND)

    assert await claim_ids(storage) == [row.id]


async def test_e18_a_new_priority_changes_the_order(storage: Storage) -> None:
    first, second, third = await put_all(storage, job(), job(), job())

    await storage.update(third, now=NOW, priority=5)
    await storage.update(first, now=NOW, priority=-5)

    assert await claim_ids(storage) == [third, second, first]


async def test_a_job_moves_to_another_queue(storage: Storage) -> None:
    id = await put(storage, job())

    await storage.update(id, now=NOW, queue="mails")

    assert await storage.claim({"default": 9}, 0, claim=ANY, now=NOW) == []
    [row] = await storage.claim({"mails": 9}, 0, claim=ANY, now=NOW)
    assert (row.id, row.queue) == (id, "mails")


async def test_what_is_not_given_stays(storage: Storage) -> None:
    id = await put(storage, job(priority=3, queue="mails", run_after=NOW + HOUR))

    assert await storage.update(id, now=NOW)

    kept = await stored(storage, id)
    assert (kept.priority, kept.queue, kept.run_after, kept.hold) == (3, "mails", NOW + HOUR, Hold.TIME)


async def test_a_priority_of_zero_is_a_value(storage: Storage) -> None:
    id = await put(storage, job(priority=3))

    await storage.update(id, now=NOW, priority=0)

    assert (await stored(storage, id)).priority == 0


@pytest.mark.parametrize("columns", [{"worker": "smtp"}, {"key": "smtp"}])
async def test_a_raised_priority_takes_the_lane_from_an_unclaimed_job(
    storage: Storage, columns: dict[str, Any]
) -> None:
    first = await put(storage, job(**columns))
    second = await put(storage, job(**columns))

    await storage.update(second, now=NOW, priority=1)

    assert (await stored(storage, first)).hold is Hold.LANE
    assert await claim_ids(storage) == [second]


async def test_a_lowered_priority_gives_the_lane_to_a_better_job(storage: Storage) -> None:
    first, second = await put_all(storage, job(worker="smtp"), job(worker="smtp"))

    await storage.update(first, now=NOW, priority=-1)

    assert await claim_ids(storage) == [second]


async def test_a_lowered_priority_keeps_the_lane_if_nobody_is_better(storage: Storage) -> None:
    first, _ = await put_all(storage, job(worker="smtp"), job(worker="smtp", priority=-9))

    await storage.update(first, now=NOW, priority=-1)

    assert await claim_ids(storage) == [first]


async def test_a_job_that_is_put_off_frees_its_lane(storage: Storage, wakes: list[None]) -> None:
    first, second = await put_all(storage, job(worker="smtp"), job(worker="smtp"))
    wakes.clear()

    await storage.update(first, now=NOW, run_after=NOW + HOUR)

    assert await claim_ids(storage) == [second]
    assert wakes


async def test_a_raised_priority_waits_while_the_lane_is_owned(storage: Storage) -> None:
    row = await running(storage, job(worker="smtp"))
    _, last = await put_all(storage, job(worker="smtp"), job(worker="smtp"))

    await storage.update(last, now=NOW, priority=9)

    assert await claim_ids(storage) == []
    assert [claimed.id for claimed in (await end(storage, row, claim=ANY)).claimed] == [last]


async def test_a_job_that_waits_for_its_parent_still_does(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, run_after=NOW + HOUR))

    assert await storage.update(id, now=NOW, run_after=NOW, priority=5, queue="mails")

    assert (await stored(storage, id)).hold is Hold.PARENTS
    [row] = (await end(storage, parent, claim=ANY)).claimed
    assert (row.id, row.priority, row.queue) == (id, 5, "mails")


async def test_owned_jobs_cannot_be_changed(storage: Storage) -> None:
    claimed: JobRow = job()
    await put(storage, claimed, claim=ANY)
    started = await running(storage)

    answers = [await storage.update(row.id, now=NOW, priority=9) for row in (claimed, started)]

    assert answers == [False, False]
    assert (await stored(storage, claimed.id)).priority == 0


async def test_finished_executed_and_unknown_jobs_cannot_be_changed(storage: Storage) -> None:
    over, done = await finished(storage), await executed(storage)

    answers = [await storage.update(id, now=NOW, queue="mails") for id in (over, done, 4711)]

    assert answers == [False, False, False]
    assert (await stored(storage, done)).state is JobState.EXECUTED
    assert (await claim_one(storage)).id == done


async def test_a_changed_job_can_still_expire(storage: Storage) -> None:
    id = await put(storage, job(expires=NOW + SECOND))
    await storage.update(id, now=NOW, priority=5)

    promoted = await storage.promote_due(now=NOW + SECOND)

    assert [row.id for row in promoted.expired] == [id]
