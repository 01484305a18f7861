"""Cancelling: at once where nobody owns the job, on request where somebody does."""

from typing import Any

import pytest

from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState
from commandjobs.storage.base import Cancelling, Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    HOUR,
    NOW,
    SECOND,
    begun,
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
    states,
    stored,
)

CANCELLED = JobState.CANCELLED


async def cancel(storage: Storage, id: int, *, by: str | None = None, now: int = NOW) -> Cancelling:
    [answer] = await storage.cancel([id], by=by, now=now)
    return answer


@pytest.mark.parametrize("columns", [{}, {"run_after": NOW + HOUR}, {"worker": "busy"}, {"key": "busy"}])
async def test_r12_a_waiting_job_is_cancelled_whatever_it_waits_for(storage: Storage, columns: dict[str, Any]) -> None:
    await running(storage, job(worker="busy", key="busy"))
    id = await put(storage, job(**columns))

    assert await cancel(storage, id, by="anna", now=NOW + 5) is Cancelling.CANCELLED

    kept = await stored(storage, id)
    assert (kept.state, kept.error_code, kept.cancelled_by) == (CANCELLED, "Cancelled", "anna")
    assert (kept.completed, kept.hold, kept.attempts) == (NOW + 5, None, 0)


async def test_r12_a_job_that_waits_for_its_parent_is_cancelled(storage: Storage) -> None:
    parent = await put(storage, job())
    id = await put(storage, child(parent))

    assert await cancel(storage, id) is Cancelling.CANCELLED
    assert await states(storage, parent, id) == [JobState.QUEUED, CANCELLED]


async def test_r12_a_job_that_waits_for_a_retry_is_cancelled(storage: Storage) -> None:
    row = await running(storage)
    await end(storage, row, FAILURE)

    assert await cancel(storage, row.id) is Cancelling.CANCELLED

    kept = await stored(storage, row.id)
    assert (kept.state, kept.error_code, kept.attempts) == (CANCELLED, "Cancelled", 1)


async def test_r12_a_cancelled_job_is_never_claimed(storage: Storage) -> None:
    id, other = await put_all(storage, job(), job())
    await cancel(storage, id)

    assert await claim_ids(storage) == [other]
    assert (await storage.promote_due(now=NOW + HOUR)).promoted == 0


async def test_r12_a_cancelled_date_never_wakes(storage: Storage) -> None:
    id = await put(storage, job(run_after=NOW + HOUR))
    await cancel(storage, id)

    promoted = await storage.promote_due(now=NOW + HOUR)

    assert (promoted.promoted, promoted.next_at) == (0, None)


async def test_r12_a_claimed_job_is_asked_to_end(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)

    assert await cancel(storage, row.id, by="anna", now=NOW + 5) is Cancelling.REQUESTED

    kept = await stored(storage, row.id)
    assert (kept.state, kept.cancel_requested, kept.cancelled_by) == (JobState.QUEUED, NOW + 5, "anna")
    assert kept.owner == row.owner


async def test_r13_a_running_job_is_asked_to_end(storage: Storage) -> None:
    row = await running(storage)

    assert await cancel(storage, row.id, now=NOW + 5) is Cancelling.REQUESTED

    kept = await stored(storage, row.id)
    assert (kept.state, kept.cancel_requested) == (JobState.STARTED, NOW + 5)


async def test_r13_the_first_request_counts(storage: Storage) -> None:
    row = await running(storage)
    await cancel(storage, row.id, by="anna", now=NOW + 5)

    assert await cancel(storage, row.id, by="ben", now=NOW + 6) is Cancelling.REQUESTED

    kept = await stored(storage, row.id)
    assert (kept.cancel_requested, kept.cancelled_by) == (NOW + 5, "anna")


async def test_r13_a_start_mark_does_not_forget_the_request(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    await cancel(storage, row.id, now=NOW + 5)

    await begun(storage, row)

    assert (await stored(storage, row.id)).cancel_requested == NOW + 5


async def test_r17_a_finished_job_cannot_be_cancelled(storage: Storage) -> None:
    id = await finished(storage)

    assert await cancel(storage, id) is Cancelling.FINISHED
    assert await state(storage, id) is JobState.COMPLETED


async def test_r17_a_job_is_cancelled_once(storage: Storage) -> None:
    id = await put(storage, job())
    await cancel(storage, id, by="anna")

    assert await cancel(storage, id, by="ben") is Cancelling.FINISHED
    assert (await stored(storage, id)).cancelled_by == "anna"
    assert len(await storage.runs(id)) == 1


async def test_r17_an_unknown_job_is_unknown(storage: Storage) -> None:
    assert await cancel(storage, 4711) is Cancelling.UNKNOWN


async def test_r16_each_id_of_a_call_is_answered_in_order(storage: Storage) -> None:
    over = await finished(storage)
    row = await running(storage)
    waiting = await put(storage, job())

    answers = await storage.cancel([4711, waiting, row.id, over, waiting], by=None, now=NOW)

    assert answers == [
        Cancelling.UNKNOWN,
        Cancelling.CANCELLED,
        Cancelling.REQUESTED,
        Cancelling.FINISHED,
        Cancelling.FINISHED,
    ]


async def test_r16_a_thousand_jobs_are_cancelled_by_one_call(storage: Storage) -> None:
    ids = await put_all(storage, *(job(worker="smtp") for _ in range(1_000)))

    answers = await storage.cancel(ids, by=None, now=NOW)

    assert set(answers) == {Cancelling.CANCELLED}
    assert await storage.finished(ids) == set(ids)
    assert await claim_ids(storage) == []


async def test_an_executed_job_that_nobody_owns_is_cancelled_and_keeps_its_result(storage: Storage) -> None:
    id = await executed(storage)

    assert await cancel(storage, id, now=NOW + HOUR) is Cancelling.CANCELLED

    kept = await stored(storage, id)
    assert (kept.state, kept.response_body, kept.completed) == (CANCELLED, '"done"', NOW + SECOND)
    assert await claim_ids(storage) == []


async def test_an_executed_job_whose_callback_runs_is_asked_to_end(storage: Storage) -> None:
    id = await executed(storage)
    await begun(storage, await claim_one(storage))

    assert await cancel(storage, id) is Cancelling.REQUESTED
    assert await state(storage, id) is JobState.EXECUTED


async def test_a_cancelled_job_frees_its_unique_key_and_keeps_its_ref_id(storage: Storage) -> None:
    id = await put(storage, job(unique_key="k", ref_id="same"))
    await cancel(storage, id)

    by_key, by_ref = await storage.insert([job(unique_key="k"), job(ref_id="same")], now=NOW)

    assert (by_key.conflict, by_ref.conflict, by_ref.id) == (None, "ref_id", id)


async def test_what_a_cancellation_makes_claimable_is_not_claimed_by_it(storage: Storage, wakes: list[None]) -> None:
    first, second = await put_all(storage, job(worker="smtp"), job(worker="smtp"))
    follower = await put(storage, child(first, depends_on_policy="finished"))
    wakes.clear()

    await storage.cancel([first], by=None, now=NOW, claim=ANY)

    assert await claim_ids(storage) == [second, follower]
    assert wakes


async def test_a_cancelled_job_has_one_archived_run(storage: Storage) -> None:
    id = await put(storage, job())
    await cancel(storage, id)

    [run] = await storage.runs(id)

    assert (run.id, run.state) == (id, CANCELLED)


async def test_cancelling_nothing_does_nothing(storage: Storage) -> None:
    assert await storage.cancel([], by=None, now=NOW) == []


async def test_r14_a_job_asked_to_end_that_is_released_ends(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    await cancel(storage, row.id, by="anna")

    await storage.release([row], now=NOW + SECOND)

    kept: JobRow = await stored(storage, row.id)
    assert (kept.state, kept.cancelled_by, kept.completed) == (CANCELLED, "anna", NOW + SECOND)
    assert await claim_ids(storage) == []
