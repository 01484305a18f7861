"""Dependents: released or cancelled by the end of their parents, or of the attempt that made them."""

from datetime import UTC, date, datetime

import pytest

from commandjobs.model.moment import to_moment
from commandjobs.model.outcome import Cancelled, Crashed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Cancelling, Storage
from tests.storage.life import (
    ANY,
    DAY,
    FAILURE,
    FATAL,
    HOUR,
    NOW,
    SECOND,
    begun,
    child,
    claim_ids,
    claim_one,
    end,
    ending,
    executed,
    finished,
    job,
    put,
    put_all,
    requeued,
    running,
    state,
    states,
    stored,
    swept,
)

QUEUED, CANCELLED, COMPLETED = JobState.QUEUED, JobState.CANCELLED, JobState.COMPLETED
UNSUCCESSFUL: list[Outcome] = [FATAL, Cancelled()]
NO_SUCCESS: list[Outcome] = [FAILURE, FATAL, Snoozed(1), HandedBack(), Crashed("node"), Cancelled()]


def name_of(outcome: Outcome | None) -> str:
    return type(outcome).__name__


# ── one parent ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_d01_a_dependent_waits_for_its_parent(storage: Storage) -> None:
    parent = await put(storage, job())

    row = child(parent)
    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert (answer.claimed, row.hold, row.parents_left) == (False, Hold.PARENTS, 1)
    assert await claim_ids(storage) == [parent]


async def test_d01_a_dependent_is_released_when_its_parent_completes(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))

    settled = await end(storage, parent)

    kept = await stored(storage, id)
    assert (kept.state, kept.hold, kept.parents_left, settled.ready) == (QUEUED, None, 0, True)
    assert await claim_ids(storage) == [id]


async def test_d01_a_released_dependent_that_fits_is_claimed_by_the_same_write(storage: Storage) -> None:
    parent = await running(storage)
    known = await put(storage, child(parent.id))
    await put(storage, child(parent.id, command="Strange"))

    settled = await end(storage, parent, claim=ANY)

    assert [row.id for row in settled.claimed] == [known]
    assert settled.ready


@pytest.mark.parametrize("outcome", [FAILURE, Snoozed(1), HandedBack(), Crashed("node")], ids=name_of)
async def test_d01_a_parent_that_runs_again_releases_nobody(storage: Storage, outcome: Outcome) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, depends_on_policy="finished"))

    await end(storage, parent, outcome)

    assert (await stored(storage, id)).hold is Hold.PARENTS


async def test_d01_a_parent_whose_callback_is_to_run_releases_nobody(storage: Storage) -> None:
    parent = await executed(storage)
    id = await put(storage, child(parent))
    assert (await stored(storage, id)).hold is Hold.PARENTS

    settled = await end(storage, await begun(storage, await claim_one(storage)), claim=ANY)

    assert [row.id for row in settled.claimed] == [id]


async def test_d02_a_parent_that_has_completed_holds_nobody(storage: Storage) -> None:
    parent = await finished(storage)
    row = child(parent)

    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert (answer.claimed, row.hold, row.parents_left) == (True, None, 0)


async def test_d04_the_first_parent_is_the_parent_id(storage: Storage) -> None:
    first, second = await put_all(storage, job(), job())

    row = child(second, first)
    await put(storage, row)

    assert row.parent_id == second
    assert (await stored(storage, row.id)).parent_id == second


async def test_d04_a_parent_id_that_was_given_is_kept(storage: Storage) -> None:
    first, second = await put_all(storage, job(), job())

    id = await put(storage, child(second, parent_id=first))

    assert (await stored(storage, id)).parent_id == first


@pytest.mark.parametrize("outcome", UNSUCCESSFUL, ids=name_of)
async def test_d05_a_parent_without_success_cancels_its_dependent(storage: Storage, outcome: Outcome) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))

    await end(storage, parent, outcome)

    found = await storage.job(id)
    assert found is not None
    assert (found.summary.state, found.summary.error_code) == (CANCELLED, "ParentFailed")
    assert (found.summary.error_message, found.summary.completed) == ("Parent Job failed", NOW + SECOND)
    assert await claim_ids(storage) == []


async def test_d05_a_parent_cancelled_while_it_waits_cancels_its_dependent(storage: Storage) -> None:
    parent = await put(storage, job())
    id = await put(storage, child(parent))

    await storage.cancel([parent], by=None, now=NOW)

    assert (await stored(storage, id)).error_code == "ParentFailed"


async def test_d05_dependents_of_dependents_are_cancelled_too(storage: Storage) -> None:
    parent = await running(storage)
    generations = [parent.id]
    for _ in range(10):
        generations.append(await put(storage, child(generations[-1])))

    await end(storage, parent, FATAL)

    assert set(await states(storage, *generations[1:])) == {CANCELLED}
    assert await storage.finished(generations) == set(generations)


async def test_d05_each_cancelled_job_lies_in_the_month_it_was_created_in(storage: Storage) -> None:
    october = to_moment(datetime(2026, 10, 5, tzinfo=UTC))
    parent = await running(storage)
    await put(storage, child(parent.id, created=october))

    await end(storage, parent, FATAL)

    assert [month.month for month in await storage.months()] == [date(2026, 10, 1), date(2026, 11, 1)]


async def test_d05_a_cancelled_dependent_gives_its_unique_key_back(storage: Storage) -> None:
    parent = await running(storage)
    await put(storage, child(parent.id, unique_key="k"))
    await end(storage, parent, FATAL)

    [answer] = await storage.insert([job(unique_key="k")], now=NOW)

    assert answer.conflict is None


async def test_d06_a_parent_that_has_failed_cancels_at_once(storage: Storage) -> None:
    parent = await finished(storage, outcome=FATAL)
    row = child(parent)

    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert (answer.conflict, answer.claimed) == (None, False)
    assert (row.id, row.state, row.error_code) == (answer.id, CANCELLED, "ParentFailed")
    kept = await stored(storage, row.id)
    assert (kept.state, kept.error_message, kept.completed, kept.attempts) == (CANCELLED, "Parent Job failed", NOW, 0)
    assert await claim_ids(storage) == []


async def test_d06_a_job_cancelled_at_once_holds_no_key_and_no_lane(storage: Storage) -> None:
    parent = await finished(storage, outcome=FATAL)
    await put(storage, child(parent, unique_key="k", worker="smtp"))

    [answer] = await storage.insert([job(unique_key="k", worker="smtp")], now=NOW, claim=ANY)

    assert answer.claimed


async def test_d06_the_other_rows_of_the_call_are_not_cancelled(storage: Storage) -> None:
    parent = await finished(storage, outcome=FATAL)

    ids = await put_all(storage, job(), child(parent), job())

    assert await states(storage, *ids) == [QUEUED, CANCELLED, QUEUED]


async def test_d07_no_time_releases_a_dependent(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))

    promoted = await storage.promote_due(now=NOW + 400 * DAY)

    assert (promoted.promoted, promoted.next_at) == (0, None)
    assert (await stored(storage, id)).hold is Hold.PARENTS


async def test_d08_a_released_job_still_waits_for_its_own_date(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, run_after=NOW + HOUR))

    settled = await end(storage, parent, claim=ANY)

    assert settled.claimed == []
    assert (await stored(storage, id)).hold is Hold.TIME
    promoted = await storage.promote_due(now=NOW + HOUR, claim=ANY)
    assert [row.id for row in promoted.claimed] == [id]


async def test_d08_a_date_that_comes_first_does_not_release(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, run_after=NOW + 1))

    await storage.promote_due(now=NOW + HOUR)
    assert (await stored(storage, id)).hold is Hold.PARENTS

    settled = await end(storage, parent, now=NOW + HOUR, claim=ANY)
    assert [row.id for row in settled.claimed] == [id]


async def test_d08_a_released_job_still_waits_for_its_lane(storage: Storage) -> None:
    holder = await running(storage, job(key="tenant"))
    parent = await running(storage)
    id = await put(storage, child(parent.id, key="tenant"))

    await end(storage, parent)

    assert (await stored(storage, id)).hold is Hold.LANE
    assert [row.id for row in (await end(storage, holder, claim=ANY)).claimed] == [id]


async def test_d08_released_jobs_are_claimed_best_first(storage: Storage) -> None:
    parent = await running(storage)
    low, high = await put_all(storage, child(parent.id), child(parent.id, priority=1))

    settled = await end(storage, parent, claim=ANY)

    assert [row.id for row in settled.claimed] == [high, low]


@pytest.mark.parametrize("outcome", [None, *UNSUCCESSFUL], ids=name_of)
async def test_d09_policy_finished_runs_after_any_end(storage: Storage, outcome: Outcome | None) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, depends_on_policy="finished"))

    await end(storage, parent, outcome)

    assert await claim_ids(storage) == [id]


async def test_d09_policy_finished_takes_a_parent_that_has_failed(storage: Storage) -> None:
    parent = await finished(storage, outcome=FATAL)
    row = child(parent, depends_on_policy="finished")

    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert answer.claimed


async def test_d12_a_chain_with_a_failure_in_the_middle(storage: Storage) -> None:
    first = await running(storage)
    second = await put(storage, child(first.id))
    third = await put(storage, child(second))
    last = await put(storage, child(third, depends_on_policy="finished"))

    [row] = (await end(storage, first, claim=ANY)).claimed
    [row] = (await end(storage, await begun(storage, row), FATAL, claim=ANY)).claimed
    await end(storage, await begun(storage, row))

    assert await states(storage, second, third, last) == [JobState.FAILED, CANCELLED, COMPLETED]


async def test_a_dependent_that_was_cancelled_itself_is_not_released(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))
    await storage.cancel([id], by=None, now=NOW)

    settled = await end(storage, parent, claim=ANY)

    assert settled.claimed == []
    assert (await stored(storage, id)).error_code == "Cancelled"


# ── several parents ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_d10_a_job_waits_for_all_its_parents(storage: Storage) -> None:
    parents = [await running(storage) for _ in range(3)]
    row = child(*(parent.id for parent in parents))
    await put(storage, row)
    assert row.parents_left == 3

    claimed = [(await end(storage, parent, claim=ANY)).claimed for parent in parents]

    assert [[job.id for job in jobs] for jobs in claimed] == [[], [], [row.id]]


async def test_d10_parents_that_end_in_one_write_release_together(storage: Storage) -> None:
    parents = [await running(storage) for _ in range(3)]
    id = await put(storage, child(*(parent.id for parent in parents)))

    settled = await storage.settle([ending(parent, Succeeded()) for parent in parents], now=NOW, claim=ANY)

    assert [row.id for row in settled.claimed] == [id]


async def test_d10_a_parent_named_twice_counts_once(storage: Storage) -> None:
    parent = await running(storage)
    row = child(parent.id, parent.id)
    await put(storage, row)
    assert row.parents_left == 1

    assert [job.id for job in (await end(storage, parent, claim=ANY)).claimed] == [row.id]


async def test_d10_parents_that_have_completed_are_not_waited_for(storage: Storage) -> None:
    done = await finished(storage)
    parent = await running(storage)
    row = child(done, parent.id)
    await put(storage, row)
    assert row.parents_left == 1

    assert [job.id for job in (await end(storage, parent, claim=ANY)).claimed] == [row.id]


async def test_d10_one_failed_parent_cancels_while_the_others_run(storage: Storage) -> None:
    first, second = await running(storage), await running(storage)
    id = await put(storage, child(first.id, second.id))

    await end(storage, first, FATAL)
    assert await state(storage, id) is CANCELLED

    assert (await end(storage, second, claim=ANY)).claimed == []
    assert len(await storage.runs(id)) == 1


async def test_d10_one_parent_that_has_failed_cancels_at_once(storage: Storage) -> None:
    failed, unfinished = await finished(storage, outcome=FATAL), await put(storage, job())

    id = await put(storage, child(unfinished, failed))

    assert await state(storage, id) is CANCELLED


async def test_d10_many_children_of_many_parents(storage: Storage) -> None:
    parents = [await running(storage) for _ in range(5)]
    ids = await put_all(storage, *(child(*(parent.id for parent in parents)) for _ in range(50)))

    claimed = [len((await end(storage, parent, claim=ANY)).claimed) for parent in parents]

    assert claimed == [0, 0, 0, 0, 50]
    assert await claim_ids(storage) == []
    assert len(ids) == 50


async def test_a_parent_that_ends_again_after_a_requeue_is_not_counted_twice(storage: Storage) -> None:
    first, second = await running(storage), await running(storage)
    id = await put(storage, child(first.id, second.id, depends_on_policy="finished"))
    await end(storage, first, FATAL)
    await requeued(storage, first.id)

    await end(storage, await begun(storage, await claim_one(storage)), FATAL)

    assert (await stored(storage, id)).hold is Hold.PARENTS
    assert [row.id for row in (await end(storage, second, claim=ANY)).claimed] == [id]


# ── by the thousand ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_thousand_dependents_are_released_by_the_same_write(storage: Storage) -> None:
    parent = await running(storage)
    ids = await put_all(storage, *(child(parent.id) for _ in range(1_000)))

    settled = await end(storage, parent, claim=ANY)

    assert sorted(row.id for row in settled.claimed) == ids
    assert (await storage.sweep(now=NOW)).written == []


async def test_more_than_a_thousand_dependents_are_released_by_sweeps(storage: Storage) -> None:
    parent = await running(storage)
    ids = await put_all(storage, *(child(parent.id) for _ in range(2_500)))
    await end(storage, parent)

    await swept(storage)

    assert await claim_ids(storage) == ids


async def test_more_than_a_thousand_dependents_are_cancelled_by_sweeps(storage: Storage) -> None:
    parent = await running(storage)
    ids = await put_all(storage, *(child(parent.id) for _ in range(1_500)))
    grandchildren = await put_all(storage, *(child(id) for id in ids))
    await end(storage, parent, FATAL)

    await swept(storage)

    assert await storage.finished([*ids, *grandchildren]) == {*ids, *grandchildren}
    assert await state(storage, grandchildren[-1]) is CANCELLED


async def test_a_sweep_claims_what_it_releases(storage: Storage) -> None:
    parent = await running(storage)
    ids = await put_all(storage, *(child(parent.id) for _ in range(1_200)))
    claimed = (await end(storage, parent, claim=ANY)).claimed

    while (settled := await storage.sweep(now=NOW, claim=ANY)).written:
        claimed += settled.claimed

    assert sorted(row.id for row in claimed) == ids


async def test_a_new_dependent_need_not_wait_for_the_sweep(storage: Storage) -> None:
    parent = await running(storage)
    await put_all(storage, *(child(parent.id) for _ in range(1_500)))
    await end(storage, parent)

    [answer] = await storage.insert([child(parent.id)], now=NOW, claim=ANY)

    assert answer.claimed


async def test_a_job_cancelled_before_its_sweep_is_left_alone(storage: Storage) -> None:
    parent = await running(storage)
    ids = await put_all(storage, *(child(parent.id) for _ in range(1_500)))
    await end(storage, parent)
    await storage.cancel([ids[-1]], by="anna", now=NOW)

    await swept(storage)

    assert await state(storage, ids[-1]) is CANCELLED
    assert await claim_ids(storage) == ids[:-1]


async def test_l17_there_is_nothing_to_sweep_in_a_new_storage(storage: Storage) -> None:
    settled = await storage.sweep(now=NOW)

    assert (settled.written, settled.claimed) == ([], [])


async def test_work_left_for_a_sweep_wakes_the_engine(storage: Storage, wakes: list[None]) -> None:
    parent = await running(storage)
    await put_all(storage, *(child(parent.id) for _ in range(1_500)))
    wakes.clear()

    await end(storage, parent)
    await storage.nodes()

    assert wakes


# ── who was cancelled by whom ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_dependents_that_a_job_took_along_are_known(storage: Storage) -> None:
    parent = await running(storage)
    first, second = await put_all(storage, child(parent.id), child(parent.id))
    await put(storage, child(parent.id, depends_on_policy="finished"))
    grandchild = await put(storage, child(first))
    await end(storage, parent, FATAL)
    late = await put(storage, child(parent.id))

    assert await storage.cancelled_dependents(parent.id) == [first, second, late]
    assert await storage.cancelled_dependents(first) == [grandchild]


async def test_a_job_cancelled_for_another_reason_was_not_taken_along(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))
    await storage.cancel([id], by=None, now=NOW)

    await end(storage, parent, FATAL)

    assert await storage.cancelled_dependents(parent.id) == []


async def test_a_successful_parent_took_nobody_along(storage: Storage) -> None:
    good, bad = await running(storage), await running(storage)
    id = await put(storage, child(good.id, bad.id))
    await end(storage, good)
    await end(storage, bad, FATAL)

    assert await storage.cancelled_dependents(good.id) == []
    assert await storage.cancelled_dependents(bad.id) == [id]


async def test_a_dependent_requeued_since_is_no_longer_among_those_taken_along(storage: Storage) -> None:
    parent = await running(storage)
    await put(storage, child(parent.id))
    await end(storage, parent, FATAL)
    [id] = await storage.cancelled_dependents(parent.id)

    await requeued(storage, parent.id)
    await requeued(storage, id)

    assert await storage.cancelled_dependents(parent.id) == []


# ── bound to one attempt ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("outcome", NO_SUCCESS, ids=name_of)
async def test_d30_an_attempt_without_success_cancels_what_it_enqueued(storage: Storage, outcome: Outcome) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, bound_attempt=1, depends_on_policy="finished"))

    await end(storage, parent, outcome)

    kept = await stored(storage, id)
    assert (kept.state, kept.error_code) == (CANCELLED, "AttemptFailed")


async def test_d30_the_successful_attempts_dependents_run(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, bound_attempt=1))

    settled = await end(storage, parent, claim=ANY)

    assert [row.id for row in settled.claimed] == [id]


async def test_d30_only_the_last_attempts_dependents_run(storage: Storage) -> None:
    parent = await running(storage)
    first = await put(storage, child(parent.id, bound_attempt=1))
    await end(storage, parent, HandedBack())
    again = await begun(storage, await claim_one(storage))
    second = await put(storage, child(parent.id, bound_attempt=2))

    settled = await end(storage, again, claim=ANY)

    assert [row.id for row in settled.claimed] == [second]
    assert await state(storage, first) is CANCELLED


async def test_d30_the_next_attempt_may_use_the_same_ref_ids_and_unique_keys(storage: Storage) -> None:
    parent = await running(storage)
    first = await put(storage, child(parent.id, bound_attempt=1, ref_id="mail-1", unique_key="k"))
    await end(storage, parent, HandedBack())
    again = await begun(storage, await claim_one(storage))

    second = child(parent.id, bound_attempt=2, ref_id="mail-1", unique_key="k")
    [answer] = await storage.insert([second], now=NOW)

    assert (answer.conflict, answer.id > first) == (None, True)
    found = await storage.job("mail-1")
    assert found is not None
    assert found.summary.id == second.id
    assert [row.id for row in (await end(storage, again, claim=ANY)).claimed] == [second.id]


async def test_d30_a_job_cancelled_with_its_attempt_is_still_found_by_id(storage: Storage) -> None:
    parent = await running(storage)
    first = await put(storage, child(parent.id, bound_attempt=1, ref_id="mail-1"))
    await end(storage, parent, HandedBack())
    await begun(storage, await claim_one(storage))
    await put(storage, child(parent.id, bound_attempt=2, ref_id="mail-1"))

    found = await storage.job(first)

    assert found is not None
    assert (found.summary.ref_id, found.summary.state) == ("mail-1", CANCELLED)


async def test_d30_more_than_a_thousand_jobs_of_an_attempt_go_in_the_same_write(storage: Storage) -> None:
    parent = await running(storage)
    refs = [f"mail-{number}" for number in range(1_200)]
    first = await put_all(storage, *(child(parent.id, bound_attempt=1, ref_id=ref) for ref in refs))

    await end(storage, parent, HandedBack())

    assert await storage.finished(first) == set(first)
    await begun(storage, await claim_one(storage))
    inserted = await storage.insert([child(parent.id, bound_attempt=2, ref_id=ref) for ref in refs], now=NOW)
    assert {answer.conflict for answer in inserted} == {None}


async def test_d30_dependents_that_are_not_bound_stay(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id))

    await end(storage, parent, FAILURE)

    assert (await stored(storage, id)).hold is Hold.PARENTS


async def test_d30_dependents_of_a_cancelled_bound_job_are_cancelled_as_its_dependents(storage: Storage) -> None:
    parent = await running(storage)
    bound = await put(storage, child(parent.id, bound_attempt=1))
    after, whatever = await put_all(storage, child(bound), child(bound, depends_on_policy="finished"))

    settled = await end(storage, parent, FAILURE, claim=ANY)

    assert (await stored(storage, after)).error_code == "ParentFailed"
    assert [row.id for row in settled.claimed] == [whatever]


async def test_d30_an_attempt_of_another_parent_does_not_matter(storage: Storage) -> None:
    enqueuing, other = await running(storage), await running(storage)
    id = await put(storage, child(enqueuing.id, other.id, bound_attempt=1))

    await end(storage, other, FAILURE)

    assert await state(storage, id) is QUEUED


async def test_d30_a_callbacks_attempt_cancels_what_it_enqueued(storage: Storage) -> None:
    parent = await executed(storage)
    callback = await begun(storage, await claim_one(storage))
    id = await put(storage, child(parent, bound_attempt=-1))

    await end(storage, callback, FAILURE)

    assert (await stored(storage, id)).error_code == "AttemptFailed"


async def test_d30_a_callbacks_failure_spares_what_the_work_enqueued(storage: Storage) -> None:
    row = await running(storage, job(callback="Notify"))
    id = await put(storage, child(row.id, bound_attempt=1))
    await end(storage, row)

    callback = await begun(storage, await claim_one(storage))
    await end(storage, callback, FAILURE)

    assert (await stored(storage, id)).hold is Hold.PARENTS


async def test_d30_a_job_enqueued_by_an_attempt_that_is_over_is_cancelled_at_once(storage: Storage) -> None:
    parent = await running(storage)
    await end(storage, parent, FAILURE)

    waiting = await put(storage, child(parent.id, bound_attempt=1, ref_id="late"))
    await storage.promote_due(now=NOW + 100 * SECOND)
    await begun(storage, await claim_one(storage))
    while_next = await put(storage, child(parent.id, bound_attempt=1, ref_id="late"))

    assert [(await stored(storage, id)).error_code for id in (waiting, while_next)] == ["AttemptFailed"] * 2


async def test_d30_a_job_enqueued_by_the_successful_attempt_after_its_end_runs(storage: Storage) -> None:
    parent = await finished(storage)

    row = child(parent, bound_attempt=1)
    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert answer.claimed


async def test_d30_a_job_enqueued_before_the_start_mark_is_written_is_bound_all_the_same(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    id = await put(storage, child(row.id, bound_attempt=1))
    assert (await stored(storage, id)).hold is Hold.PARENTS

    await end(storage, await begun(storage, row), FAILURE)

    assert (await stored(storage, id)).error_code == "AttemptFailed"


async def test_d30_a_requeue_revives_nothing(storage: Storage) -> None:
    parent = await running(storage)
    id = await put(storage, child(parent.id, bound_attempt=1))
    await end(storage, parent, FATAL)
    await requeued(storage, parent.id)

    settled = await end(storage, await begun(storage, await claim_one(storage)), claim=ANY)

    assert settled.claimed == []
    assert await state(storage, id) is CANCELLED
    assert await storage.cancelled_dependents(parent.id) == []


async def test_cancelling_a_parent_and_its_dependent_in_one_call_cancels_each_by_request(storage: Storage) -> None:
    parent = await put(storage, job())
    id = await put(storage, child(parent))

    answers = await storage.cancel([parent, id], by="anna", now=NOW)

    assert answers == [Cancelling.CANCELLED] * 2
    assert [(await stored(storage, each)).error_code for each in (parent, id)] == ["Cancelled"] * 2
