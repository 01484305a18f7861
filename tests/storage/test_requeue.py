"""Requeued jobs: the same id, the next run."""

import pytest

from commandjobs.model.outcome import Cancelled, Outcome
from commandjobs.model.row import JobRow
from commandjobs.model.settle import requeue
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Inserted, Storage
from tests.storage.life import (
    ANY,
    DAY,
    FAILURE,
    FATAL,
    HOUR,
    NOW,
    begun,
    child,
    claim_ids,
    claim_one,
    end,
    executed,
    finished,
    job,
    put,
    requeued,
    running,
    state,
    stored,
)


async def failed(storage: Storage, row: JobRow | None = None) -> int:
    return await finished(storage, row, FATAL)


@pytest.mark.parametrize("outcome", [FATAL, Cancelled()])
async def test_r19_a_requeued_job_waits_again_under_its_id(storage: Storage, outcome: Outcome) -> None:
    id = await finished(storage, job(ref_id="same"), outcome)

    answer = await requeued(storage, id)

    assert answer == Inserted(id, "same")
    found = await storage.job("same")
    assert found is not None
    assert (found.summary.id, found.summary.state, found.summary.run) == (id, JobState.QUEUED, 1)
    assert await storage.finished([id]) == set()
    assert await claim_ids(storage) == [id]


async def test_r19_a_requeued_job_has_its_full_budget_and_no_error(storage: Storage) -> None:
    id = await failed(storage)

    await requeued(storage, id)

    kept = await stored(storage, id)
    assert (kept.attempts, kept.budget_used, kept.error_code, kept.completed) == (1, 0, None, None)


async def test_r19_a_requeued_job_that_fits_is_claimed_at_once(storage: Storage) -> None:
    row = requeue(await stored(storage, await failed(storage)))

    [answer] = await storage.reinsert([row], now=NOW, claim=ANY)

    assert answer is not None
    assert answer.claimed
    assert row.owner is not None
    await end(storage, await begun(storage, row))
    assert await state(storage, row.id) is JobState.COMPLETED


async def test_r19_earlier_runs_stay_as_history(storage: Storage) -> None:
    id = await failed(storage)
    await requeued(storage, id)

    live = await storage.runs(id)
    await end(storage, await begun(storage, await claim_one(storage)))

    over = await storage.runs(id)
    assert [(run.run, run.state) for run in live] == [(0, JobState.FAILED), (1, JobState.QUEUED)]
    assert [(run.run, run.state) for run in over] == [(0, JobState.FAILED), (1, JobState.COMPLETED)]


async def test_r19_a_job_can_be_requeued_again_and_again(storage: Storage) -> None:
    id = await failed(storage)

    for _ in range(3):
        await requeued(storage, id)
        await end(storage, await begun(storage, await claim_one(storage)), FATAL)

    assert [run.run for run in await storage.runs(id)] == [0, 1, 2, 3]
    assert (await stored(storage, id)).attempts == 4


@pytest.mark.parametrize("row", [job(id=4711, run=1), job(id=4711)])
async def test_r19_an_unknown_job_cannot_be_requeued(storage: Storage, row: JobRow) -> None:
    assert await storage.reinsert([row], now=NOW) == [None]


async def test_r19_a_job_is_requeued_once_per_end(storage: Storage) -> None:
    id = await failed(storage)
    first, second = requeue(await stored(storage, id)), requeue(await stored(storage, id))

    answers = [*await storage.reinsert([first], now=NOW), *await storage.reinsert([second], now=NOW)]

    assert answers[0] is not None
    assert answers[1] is None
    assert len(await claim_ids(storage)) == 1


async def test_r19_a_job_that_ended_again_meanwhile_refuses_the_older_requeue(storage: Storage) -> None:
    id = await failed(storage)
    late = requeue(await stored(storage, id))
    await requeued(storage, id)
    await end(storage, await begun(storage, await claim_one(storage)), FATAL)

    assert await storage.reinsert([late], now=NOW) == [None]
    assert await state(storage, id) is JobState.FAILED


async def test_r20_each_row_of_a_call_is_judged_by_itself(storage: Storage) -> None:
    first, second = await failed(storage), await failed(storage)
    rows = [requeue(await stored(storage, id)) for id in (first, second)]

    answers = await storage.reinsert([rows[0], job(id=4711, run=1), rows[1]], now=NOW)

    assert [answer and answer.id for answer in answers] == [first, None, second]
    assert await claim_ids(storage) == [first, second]


async def test_r19_a_key_held_by_another_job_is_in_the_way(storage: Storage) -> None:
    id = await failed(storage, job(unique_key="k"))
    holder = await put(storage, job(unique_key="k", ref_id="holder"))

    answer = await requeued(storage, id)

    assert answer == Inserted(holder, "holder", "unique_key")
    assert await state(storage, id) is JobState.FAILED


@pytest.mark.parametrize("until", ["start", "finish"])
async def test_r19_a_requeued_job_holds_its_unique_key_again(storage: Storage, until: str) -> None:
    id = await failed(storage, job(unique_key="k", unique_until=until))
    await requeued(storage, id)

    [answer] = await storage.insert([job(unique_key="k", unique_until=until)], now=NOW)

    assert (answer.id, answer.conflict) == (id, "unique_key")


async def test_r19_a_failed_callback_goes_back_to_executed(storage: Storage) -> None:
    id = await executed(storage)
    await end(storage, await begun(storage, await claim_one(storage)), FATAL)

    await requeued(storage, id)

    kept = await stored(storage, id)
    assert (kept.state, kept.response_body, kept.attempts) == (JobState.EXECUTED, '"done"', 1)
    await end(storage, await begun(storage, await claim_one(storage)))
    assert (await stored(storage, id)).state is JobState.COMPLETED


async def test_r19_a_job_that_goes_back_to_its_callback_waits_for_no_parent(storage: Storage) -> None:
    parent = await failed(storage)
    id = await executed(storage, child(parent, callback="Notify", depends_on_policy="finished"))
    await end(storage, await begun(storage, await claim_one(storage)), FATAL)
    await requeued(storage, parent)
    await begun(storage, await claim_one(storage))

    await requeued(storage, id)

    assert await claim_ids(storage) == [id]


async def test_r19_dependencies_are_kept(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))
    await end(storage, parent, FATAL)
    await requeued(storage, parent.id)

    await requeued(storage, id)

    kept = await stored(storage, id)
    assert (kept.hold, kept.parents_left, kept.depends_on) == (Hold.PARENTS, 1, (parent.id,))
    settled = await end(storage, await begun(storage, await claim_one(storage)), claim=ANY)
    assert [row.id for row in settled.claimed] == [id]


async def test_r19_a_dependent_requeued_without_its_failed_parent_is_cancelled_again(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))
    await end(storage, parent, FATAL)

    answer = await requeued(storage, id)

    assert answer is not None
    assert (answer.conflict, answer.claimed) == (None, False)
    kept = await stored(storage, id)
    assert (kept.state, kept.run, kept.error_code) == (JobState.CANCELLED, 1, "ParentFailed")
    assert [run.run for run in await storage.runs(id)] == [0, 1]


@pytest.mark.parametrize("order", [1, -1])
async def test_r19_a_parent_and_its_dependent_are_requeued_together_in_any_order(storage: Storage, order: int) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))
    await end(storage, parent, FATAL)
    rows = [requeue(await stored(storage, each)) for each in (parent.id, id)]

    await storage.reinsert(rows[::order], now=NOW)

    assert (await stored(storage, id)).hold is Hold.PARENTS
    assert await claim_ids(storage) == [parent.id]


async def test_r19_a_job_that_had_started_needs_its_completed_parents_no_more(storage: Storage) -> None:
    parent = await finished(storage)
    id = await failed(storage, child(parent))

    await requeued(storage, id)

    assert await claim_ids(storage) == [id]


async def test_r19_a_parent_whose_month_was_dropped_counts_as_satisfied(storage: Storage) -> None:
    parent = await finished(storage, job(created=NOW - 60 * DAY))
    id = await failed(storage, child(parent))
    [old, _] = await storage.months()
    await storage.drop_month(old.month)

    await requeued(storage, id)

    assert await claim_ids(storage) == [id]


async def test_r19_new_dependents_wait_for_a_requeued_job(storage: Storage) -> None:
    id = await failed(storage)
    await requeued(storage, id)

    dependent = await put(storage, child(id))

    assert (await stored(storage, dependent)).hold is Hold.PARENTS


async def test_r19_dependents_it_had_cancelled_stay_cancelled(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))
    await end(storage, parent, FATAL)
    await requeued(storage, parent.id)

    settled = await end(storage, await begun(storage, await claim_one(storage)), claim=ANY)

    assert settled.claimed == []
    assert await state(storage, id) is JobState.CANCELLED


async def test_r19_a_requeued_job_may_be_retried_like_a_new_one(storage: Storage) -> None:
    id = await failed(storage, job(retry_limit=1))
    await requeued(storage, id)

    await end(storage, await begun(storage, await claim_one(storage)), FAILURE, now=NOW + HOUR)

    kept = await stored(storage, id)
    assert (kept.state, kept.hold) == (JobState.QUEUED, Hold.TIME)


async def test_r19_a_ref_id_taken_over_meanwhile_is_in_the_way(storage: Storage) -> None:
    parent = await running(storage)
    first = await put(storage, child(parent.id, bound_attempt=1, ref_id="mail"))
    await end(storage, parent, FATAL)
    second = await put(storage, job(ref_id="mail"))

    answer = await requeued(storage, first)

    assert answer == Inserted(second, "mail", "ref_id")


async def test_r19_what_the_caller_changes_later_is_not_stored(storage: Storage) -> None:
    row = requeue(await stored(storage, await failed(storage)))
    await storage.reinsert([row], now=NOW)

    row.priority = 99

    assert (await stored(storage, row.id)).priority == 0


async def test_requeueing_nothing_does_nothing(storage: Storage) -> None:
    assert await storage.reinsert([], now=NOW) == []
