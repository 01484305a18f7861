"""What time brings about: dates that come, and jobs that expire."""

from typing import Any

import pytest

from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Claim, Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    HOUR,
    NOW,
    RETRY_DELAY,
    SECOND,
    child,
    claim_ids,
    end,
    job,
    put,
    put_all,
    running,
    state,
    states,
    stored,
)


async def test_nothing_is_due_in_an_empty_storage(storage: Storage) -> None:
    promoted = await storage.promote_due(now=NOW)

    assert (promoted.next_at, promoted.promoted, promoted.expired, promoted.claimed) == (None, 0, [], [])


async def test_e09_a_job_is_not_woken_before_its_time(storage: Storage) -> None:
    await put(storage, job(run_after=NOW + HOUR))

    promoted = await storage.promote_due(now=NOW + HOUR - 1)

    assert (promoted.promoted, promoted.next_at) == (0, NOW + HOUR)
    assert await claim_ids(storage) == []


async def test_e09_a_job_is_claimable_from_its_time_on(storage: Storage) -> None:
    id = await put(storage, job(run_after=NOW + HOUR))

    promoted = await storage.promote_due(now=NOW + HOUR)

    assert (promoted.promoted, promoted.next_at, promoted.claimed) == (1, None, [])
    kept = await stored(storage, id)
    assert (kept.hold, kept.run_after) == (None, NOW + HOUR)
    assert await claim_ids(storage) == [id]


async def test_e09_a_job_that_fits_is_claimed_when_its_time_comes(storage: Storage) -> None:
    known, _ = await put_all(storage, job(run_after=NOW + 1), job("Strange", run_after=NOW + 1))

    promoted = await storage.promote_due(now=NOW + 1, claim=ANY)

    assert [row.id for row in promoted.claimed] == [known]
    assert promoted.claimed[0].owner is not None
    assert promoted.promoted == 2


async def test_the_next_moment_is_the_earliest(storage: Storage) -> None:
    await put_all(storage, *(job(run_after=NOW + hours * HOUR) for hours in (3, 1, 2)))

    first = await storage.promote_due(now=NOW)
    second = await storage.promote_due(now=NOW + HOUR)

    assert (first.next_at, second.next_at) == (NOW + HOUR, NOW + 2 * HOUR)


async def test_r04_a_retry_wakes_at_its_time(storage: Storage) -> None:
    row = await running(storage)
    await end(storage, row, FAILURE, now=NOW)

    early = await storage.promote_due(now=NOW + RETRY_DELAY * SECOND - 1, claim=ANY)
    due = await storage.promote_due(now=NOW + RETRY_DELAY * SECOND, claim=ANY)

    assert (early.claimed, early.next_at) == ([], NOW + RETRY_DELAY * SECOND)
    assert [claimed.id for claimed in due.claimed] == [row.id]


async def test_jobs_that_are_due_together_are_claimed_best_first(storage: Storage) -> None:
    low, high = await put_all(storage, job(run_after=NOW + 1), job(run_after=NOW + 2, priority=1))

    promoted = await storage.promote_due(now=NOW + 5, claim=ANY)

    assert [row.id for row in promoted.claimed] == [high, low]


async def test_a_limit_leaves_the_rest_for_the_next_call(storage: Storage) -> None:
    ids = await put_all(storage, *(job(run_after=NOW + number) for number in range(1, 26)))

    calls = [await storage.promote_due(now=NOW + HOUR, limit=10) for _ in range(3)]

    assert [call.promoted for call in calls] == [10, 10, 5]
    assert calls[0].next_at is not None
    assert calls[0].next_at <= NOW + HOUR
    assert calls[2].next_at is None
    assert await claim_ids(storage) == ids


@pytest.mark.parametrize("columns", [{}, {"run_after": NOW + HOUR}, {"worker": "busy"}, {"key": "busy"}])
async def test_e20_a_job_that_was_not_started_in_time_is_cancelled(storage: Storage, columns: dict[str, Any]) -> None:
    await running(storage, job(worker="busy", key="busy"))
    id = await put(storage, job(expires=NOW + SECOND, **columns))

    promoted = await storage.promote_due(now=NOW + SECOND, claim=ANY)

    [expired] = promoted.expired
    assert (expired.id, expired.state, expired.error_code) == (id, JobState.CANCELLED, "JobExpired")
    assert (await stored(storage, id)).completed == NOW + SECOND
    assert await claim_ids(storage) == []


async def test_e20_a_job_that_waits_for_its_parent_expires(storage: Storage) -> None:
    parent = await put(storage, job())
    id = await put(storage, child(parent, expires=NOW + SECOND))

    promoted = await storage.promote_due(now=NOW + SECOND)

    assert [row.id for row in promoted.expired] == [id]


async def test_e20_a_job_does_not_expire_before_its_time(storage: Storage) -> None:
    id = await put(storage, job(expires=NOW + SECOND))

    promoted = await storage.promote_due(now=NOW + SECOND - 1)

    assert (promoted.expired, promoted.next_at) == ([], NOW + SECOND)
    assert await claim_ids(storage) == [id]


async def test_e20_a_started_job_is_unaffected(storage: Storage) -> None:
    row = await running(storage, job(expires=NOW + SECOND))

    promoted = await storage.promote_due(now=NOW + HOUR)

    assert (promoted.expired, promoted.next_at) == ([], None)
    assert await state(storage, row.id) is JobState.STARTED


async def test_e20_a_job_that_was_started_once_is_unaffected(storage: Storage) -> None:
    row = await running(storage, job(expires=NOW + SECOND))
    await end(storage, row, FAILURE)

    promoted = await storage.promote_due(now=NOW + HOUR, claim=ANY)

    assert promoted.expired == []
    assert [claimed.id for claimed in promoted.claimed] == [row.id]


async def test_e20_a_claimed_job_is_left_to_its_owner(storage: Storage) -> None:
    row = job(expires=NOW + SECOND)
    await put(storage, row, claim=ANY)

    promoted = await storage.promote_due(now=NOW + HOUR)

    assert promoted.expired == []
    assert (await stored(storage, row.id)).owner == row.owner


async def test_e20_a_job_that_expires_when_it_is_due_is_not_claimed(storage: Storage) -> None:
    await put(storage, job(run_after=NOW + SECOND, expires=NOW + SECOND))

    promoted = await storage.promote_due(now=NOW + SECOND, claim=ANY)

    assert (len(promoted.expired), promoted.claimed) == (1, [])


async def test_e20_an_expired_job_frees_its_lane(storage: Storage) -> None:
    await put(storage, job(worker="smtp", expires=NOW + SECOND, priority=1))
    id = await put(storage, job(worker="smtp"))

    promoted = await storage.promote_due(now=NOW + SECOND, claim=ANY)

    assert [row.id for row in promoted.claimed] == [id]


async def test_e20_a_lane_freed_by_an_expired_job_wakes_the_engine(storage: Storage, wakes: list[None]) -> None:
    await put(storage, job(worker="smtp", expires=NOW + SECOND, priority=1))
    id = await put(storage, job(worker="smtp"))
    wakes.clear()

    await storage.promote_due(now=NOW + SECOND)

    assert await claim_ids(storage) == [id]
    assert wakes


async def test_e20_an_expired_job_frees_its_unique_key(storage: Storage) -> None:
    await put(storage, job(unique_key="k", expires=NOW + SECOND))
    await storage.promote_due(now=NOW + SECOND)

    [answer] = await storage.insert([job(unique_key="k")], now=NOW)

    assert answer.conflict is None


async def test_e20_an_expired_job_takes_its_dependents_along(storage: Storage) -> None:
    parent = await put(storage, job(expires=NOW + SECOND))
    cancelled, released = await put_all(storage, child(parent), child(parent, depends_on_policy="finished"))

    promoted = await storage.promote_due(now=NOW + SECOND, claim=ANY)

    assert await states(storage, parent, cancelled) == [JobState.CANCELLED] * 2
    assert [row.id for row in promoted.claimed] == [released]
    assert [row.id for row in promoted.expired] == [parent]


async def test_the_next_moment_counts_dates_and_expiries(storage: Storage) -> None:
    await put_all(storage, job(run_after=NOW + 2 * HOUR), job(expires=NOW + HOUR))

    first = await storage.promote_due(now=NOW)
    second = await storage.promote_due(now=NOW + HOUR)

    assert (first.next_at, second.next_at) == (NOW + HOUR, NOW + 2 * HOUR)


async def test_many_jobs_expire_in_steps(storage: Storage) -> None:
    ids = await put_all(storage, *(job(expires=NOW + 1) for _ in range(25)))

    expired = [len((await storage.promote_due(now=NOW + 1, limit=10)).expired) for _ in range(3)]

    assert expired == [10, 10, 5]
    assert await storage.finished(ids) == set(ids)


async def test_a_woken_job_without_a_free_lane_is_parked_there(storage: Storage) -> None:
    row: JobRow = job(worker="smtp", run_after=NOW + 1)
    await running(storage, job(worker="smtp"))
    await put(storage, row)

    promoted = await storage.promote_due(now=NOW + 1, claim=Claim(frozenset({"Work"})))

    assert (promoted.promoted, promoted.claimed, promoted.next_at) == (1, [], None)
    assert (await stored(storage, row.id)).hold is Hold.LANE
