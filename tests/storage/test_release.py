"""Handing back claims that were never started."""

from dataclasses import replace

from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Storage
from tests.storage.life import (
    ANY,
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
    state,
    stored,
)


async def test_l06_a_released_job_waits_again_and_has_used_no_attempt(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)

    await storage.release([row], now=NOW)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.owner, kept.attempts, kept.suspect) == (JobState.QUEUED, None, 0, False)
    assert await claim_ids(storage) == [row.id]


async def test_released_jobs_keep_their_place(storage: Storage) -> None:
    ids = await put_all(storage, *(job() for _ in range(5)))
    rows = await storage.claim({}, 3, claim=ANY, now=NOW)

    await storage.release(list(reversed(rows)), now=NOW)

    assert await claim_ids(storage) == ids


async def test_a_released_callback_waits_again(storage: Storage) -> None:
    id = await executed(storage)
    row = await claim_one(storage)

    await storage.release([row], now=NOW)

    kept = await stored(storage, id)
    assert (kept.state, kept.owner, kept.callback_attempts) == (JobState.EXECUTED, None, 0)
    assert await claim_ids(storage) == [id]


async def test_l10_a_release_by_another_owner_changes_nothing(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)

    await storage.release([replace(row, owner=4711)], now=NOW)

    assert (await stored(storage, row.id)).owner == row.owner
    assert await claim_ids(storage) == []


async def test_a_release_of_what_is_not_claimed_changes_nothing(storage: Storage) -> None:
    row = job()
    await put(storage, row)

    await storage.release([row], now=NOW)

    assert await claim_ids(storage) == [row.id]


async def test_a_started_job_is_not_released(storage: Storage) -> None:
    row = await running(storage)

    await storage.release([row], now=NOW)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.owner) == (JobState.STARTED, row.owner)
    await end(storage, row)


async def test_a_release_after_the_end_changes_nothing(storage: Storage) -> None:
    row = await running(storage)
    stale = replace(row)
    await end(storage, row)

    await storage.release([stale], now=NOW)

    assert await state(storage, row.id) is JobState.COMPLETED


async def test_a_released_job_gives_way_to_a_better_one_of_its_lane(storage: Storage) -> None:
    row = job(worker="smtp")
    await put(storage, row, claim=ANY)
    better = await put(storage, job(worker="smtp", priority=1))

    await storage.release([row], now=NOW)

    assert (await stored(storage, row.id)).hold is Hold.LANE
    assert await claim_ids(storage) == [better]


async def test_a_released_job_goes_before_worse_ones_of_its_lane(storage: Storage) -> None:
    row = job(key="tenant")
    await put(storage, row, claim=ANY)
    await put(storage, job(key="tenant"))

    await storage.release([row], now=NOW)

    assert await claim_ids(storage) == [row.id]


async def test_a_release_that_makes_something_claimable_wakes_the_engine(storage: Storage, wakes: list[None]) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    wakes.clear()

    await storage.release([row], now=NOW)
    await claim_one(storage)

    assert wakes


async def test_a_released_job_still_holds_its_unique_key(storage: Storage) -> None:
    row = job(unique_key="k", unique_until="start")
    await put(storage, row, claim=ANY)
    await storage.release([row], now=NOW)

    [answer] = await storage.insert([job(unique_key="k", unique_until="start")], now=NOW)

    assert answer.conflict == "unique_key"


async def test_a_released_job_can_still_expire(storage: Storage) -> None:
    row = job(expires=NOW + SECOND)
    await put(storage, row, claim=ANY)
    await storage.release([row], now=NOW)

    promoted = await storage.promote_due(now=NOW + SECOND)

    assert [expired.id for expired in promoted.expired] == [row.id]


async def test_a_released_job_with_a_finished_parent_waits_for_nothing(storage: Storage) -> None:
    row = child(await finished(storage))
    await put(storage, row, claim=ANY)

    await storage.release([row], now=NOW)

    assert await claim_ids(storage) == [row.id]


async def test_many_claims_are_released_by_one_call(storage: Storage) -> None:
    ids = await put_all(storage, *(job(worker=f"w{number}") for number in range(500)))
    rows = await storage.claim({}, 500, claim=ANY, now=NOW)

    await storage.release(rows, now=NOW)

    assert await claim_ids(storage) == ids
