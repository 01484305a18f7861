"""Start marks and outcomes: guarded writes, and what they leave behind."""

from dataclasses import replace

import pytest
from anyio import create_task_group

from commandjobs.model.outcome import Cancelled, Crashed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.settle import CANCELLED, Settlement, begin, cancel_waiting
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    FATAL,
    NOW,
    RETRY_DELAY,
    SECOND,
    begun,
    claim_ids,
    claim_one,
    end,
    ending,
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

GIVEN_BACK = [Snoozed(5), HandedBack(), Crashed("node")]


async def test_x01_a_start_mark_is_stored(storage: Storage) -> None:
    row = await running(storage, now=NOW + 5)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.attempts, kept.started, kept.node) == (JobState.STARTED, 1, NOW + 5, "node")
    assert (kept.owner, kept.last_activity, kept.hold) == (row.owner, NOW + 5, None)
    assert await state(storage, row.id) is JobState.STARTED


async def test_many_start_marks_are_answered_in_order(storage: Storage) -> None:
    rows = [job() for _ in range(50)]
    await storage.insert(rows, now=NOW, claim=ANY)
    for row in rows:
        begin(row, now=NOW, node="node")
    rows[7].owner = 4711

    marked = await storage.mark_started(rows)

    assert marked == [index != 7 for index in range(50)]


async def test_l10_a_start_mark_of_another_owner_is_refused(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    begin(row, now=NOW, node="node")

    assert await storage.mark_started([replace(row, owner=4711)]) == [False]
    assert (await stored(storage, row.id)).state is JobState.QUEUED


async def test_a_start_mark_of_a_job_that_nobody_owns_is_refused(storage: Storage) -> None:
    row = job()
    await put(storage, row)

    assert await storage.mark_started([row]) == [False]


async def test_a_start_mark_after_the_end_changes_nothing(storage: Storage) -> None:
    row = await running(storage)
    late = replace(row)
    await end(storage, row)

    assert await storage.mark_started([late]) == [False]
    assert await state(storage, row.id) is JobState.COMPLETED


async def test_a_start_mark_need_not_be_awaited(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    begin(row, now=NOW, node="node")

    mark = storage.mark_started([row])
    row.attempts = 99
    await end(storage, replace(row, attempts=1), FAILURE)

    await mark
    assert (await stored(storage, row.id)).attempts == 1


async def test_a_job_may_end_before_its_start_mark_is_written(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    begin(row, now=NOW, node="node")

    await end(storage, row)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.attempts, kept.started) == (JobState.COMPLETED, 1, NOW)


async def test_x02_the_result_of_a_job_is_stored(storage: Storage) -> None:
    row = await running(storage)

    await end(storage, row, Succeeded('{"id": 7}', type_name="Receipt"))

    kept = await stored(storage, row.id)
    assert (kept.response, kept.response_body, kept.progress) == ("Receipt", '{"id": 7}', 1.0)
    assert (kept.completed, kept.duration_ms, kept.owner) == (NOW + SECOND, 1000, None)


async def test_x02_a_job_may_have_no_result(storage: Storage) -> None:
    row = await running(storage)

    await end(storage, row, Succeeded(None))

    assert (await stored(storage, row.id)).response_body is None


async def test_x01_a_finished_job_is_completed_in_its_summary_too(storage: Storage) -> None:
    found = await storage.job(await finished(storage, job(worker="smtp", tags=("a",))))

    assert found is not None
    assert (found.summary.state, found.summary.attempts, found.summary.completed) == (
        JobState.COMPLETED,
        1,
        NOW + SECOND,
    )
    assert (found.summary.worker, found.summary.tags, found.summary.duration_ms) == ("smtp", ("a",), 1000)


async def test_x03_a_finished_job_is_no_longer_live(storage: Storage) -> None:
    id = await finished(storage)

    assert await storage.lanes() == []
    assert await storage.finished([id]) == {id}


async def test_x20_a_failed_job_keeps_its_error(storage: Storage) -> None:
    found = await storage.job(await finished(storage, outcome=FATAL))

    assert found is not None
    assert found.row is not None
    assert (found.summary.state, found.summary.error_code, found.summary.error_message) == (
        JobState.FAILED,
        "ValueError",
        "boom",
    )
    assert found.row.error is not None
    assert "boom" in found.row.error


async def test_r05_the_attempts_of_a_job_are_kept(storage: Storage) -> None:
    row = await running(storage)
    await end(storage, row, FAILURE)
    await storage.promote_due(now=NOW + 100 * SECOND)

    await end(storage, await begun(storage, await claim_one(storage)))

    kept = await stored(storage, row.id)
    assert (kept.attempts, len(kept.history)) == (2, 2)


async def test_r01_a_job_that_failed_waits_for_its_retry(storage: Storage) -> None:
    row = await running(storage)

    settled = await end(storage, row, FAILURE)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.hold, kept.owner, kept.attempts) == (JobState.QUEUED, Hold.TIME, None, 1)
    assert (kept.run_after, kept.error_code) == (NOW + (1 + RETRY_DELAY) * SECOND, "ValueError")
    assert (settled.claimed, settled.ready) == ([], False)
    assert await claim_ids(storage) == []


async def test_r02_a_job_out_of_retries_fails(storage: Storage) -> None:
    id = await finished(storage, job(retry_limit=0), FAILURE)

    assert await state(storage, id) is JobState.FAILED


async def test_l10_a_settlement_of_another_owner_changes_nothing(storage: Storage) -> None:
    row = await running(storage)
    stale = ending(replace(row, owner=4711), Succeeded("1"))

    settled = await storage.settle([stale], now=NOW)

    assert (settled.written, settled.claimed) == ([False], [])
    kept = await stored(storage, row.id)
    assert (kept.state, kept.owner, kept.response_body) == (JobState.STARTED, row.owner, None)


async def test_l10_a_job_is_settled_once(storage: Storage) -> None:
    row = await running(storage)
    late = ending(replace(row), FATAL)
    await end(storage, row)

    assert (await storage.settle([late], now=NOW)).written == [False]
    assert await state(storage, row.id) is JobState.COMPLETED


async def test_l10_a_released_job_refuses_its_former_owner(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    await storage.release([row], now=NOW)
    begin(row, now=NOW, node="node")

    assert (await storage.settle([ending(row, Succeeded())], now=NOW)).written == [False]
    assert await state(storage, row.id) is JobState.QUEUED


async def test_an_unknown_job_cannot_be_settled(storage: Storage) -> None:
    row = job(id=4711, owner=1, state=JobState.STARTED, attempts=1)

    assert (await storage.settle([ending(row, Succeeded())], now=NOW)).written == [False]


async def test_each_settlement_of_a_call_is_judged_by_itself(storage: Storage) -> None:
    good, stale, bad = [await running(storage) for _ in range(3)]
    late = replace(stale, owner=4711)

    settled = await storage.settle([ending(good, Succeeded()), ending(late, FATAL), ending(bad, FATAL)], now=NOW)

    assert settled.written == [True, False, True]
    assert await states(storage, good.id, stale.id, bad.id) == [JobState.COMPLETED, JobState.STARTED, JobState.FAILED]


async def test_hundreds_of_jobs_are_settled_by_one_call(storage: Storage) -> None:
    rows = [job() for _ in range(500)]
    await storage.insert(rows, now=NOW, claim=ANY)
    for row in rows:
        begin(row, now=NOW, node="node")
    await storage.mark_started(rows)

    settled = await storage.settle([ending(row, Succeeded()) for row in rows], now=NOW)

    assert settled.written == [True] * 500
    assert await storage.finished([row.id for row in rows]) == {row.id for row in rows}


async def test_simultaneous_settlements_do_not_disturb_each_other(storage: Storage) -> None:
    rows = [await running(storage, job(worker=f"w{number % 5}") if number < 5 else job()) for number in range(25)]

    async with create_task_group() as tasks:
        for row in rows:
            tasks.start_soon(end, storage, row)

    assert await storage.finished([row.id for row in rows]) == {row.id for row in rows}


async def test_settling_nothing_does_nothing(storage: Storage) -> None:
    settled = await storage.settle([], now=NOW)

    assert (settled.written, settled.claimed, settled.ready) == ([], [], False)


@pytest.mark.parametrize("outcome", GIVEN_BACK)
async def test_l06_what_uses_no_attempt_is_counted_as_returned(storage: Storage, outcome: Outcome) -> None:
    row = await running(storage)

    await end(storage, row, outcome)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.attempts, kept.attempts_returned, kept.owner) == (JobState.QUEUED, 1, 1, None)


async def test_l06_a_job_handed_back_is_claimable_again(storage: Storage) -> None:
    row = await running(storage)

    settled = await end(storage, row, HandedBack())

    assert (settled.claimed, settled.ready) == ([], True)
    assert await claim_ids(storage) == [row.id]


async def test_a_job_that_becomes_claimable_is_claimed_if_it_fits(storage: Storage) -> None:
    row = await running(storage)
    owner = row.owner

    settled = await end(storage, row, Crashed("node"), claim=ANY)

    [claimed] = settled.claimed
    assert (claimed.id, claimed.owner, claimed.suspect, claimed.crashes) == (row.id, owner, True, 1)
    assert not settled.ready


async def test_a_snoozed_job_waits_for_its_time(storage: Storage) -> None:
    row = await running(storage)

    await end(storage, row, Snoozed(5))

    kept = await stored(storage, row.id)
    assert (kept.hold, kept.run_after) == (Hold.TIME, NOW + 6 * SECOND)


async def test_r13_a_running_job_ends_cancelled(storage: Storage) -> None:
    id = await finished(storage, outcome=Cancelled())

    kept = await stored(storage, id)
    assert (kept.state, kept.error_code) == (JobState.CANCELLED, "Cancelled")


async def test_d21_a_job_with_a_callback_is_executed_and_keeps_its_result(storage: Storage) -> None:
    id = await executed(storage)

    kept = await stored(storage, id)
    assert (kept.state, kept.response_body, kept.work_done) == (JobState.EXECUTED, '"done"', True)
    assert (kept.owner, kept.hold, kept.completed, kept.notified) == (None, None, NOW + SECOND, None)
    assert await storage.finished([id]) == set()


async def test_d21_the_end_of_the_callback_ends_the_job(storage: Storage) -> None:
    id = await executed(storage)

    await end(storage, await begun(storage, await claim_one(storage), now=NOW + 2 * SECOND), now=NOW + 3 * SECOND)

    kept = await stored(storage, id)
    assert (kept.state, kept.notified, kept.completed) == (JobState.COMPLETED, NOW + 3 * SECOND, NOW + SECOND)
    assert (kept.attempts, kept.callback_attempts, kept.response_body) == (1, 1, '"done"')


async def test_d22_a_start_mark_of_a_callback_leaves_the_job_executed(storage: Storage) -> None:
    id = await executed(storage)

    await begun(storage, await claim_one(storage))

    kept = await stored(storage, id)
    assert (kept.state, kept.attempts, kept.callback_attempts) == (JobState.EXECUTED, 1, 1)


async def test_d23_a_callback_that_failed_waits_for_its_own_retry(storage: Storage) -> None:
    id = await executed(storage)

    await end(storage, await begun(storage, await claim_one(storage)), FAILURE)

    kept = await stored(storage, id)
    assert (kept.state, kept.hold, kept.callback_attempts) == (JobState.EXECUTED, Hold.TIME, 1)
    await storage.promote_due(now=NOW + 100 * SECOND)
    assert await claim_ids(storage) == [id]


async def test_d23_a_callback_that_failed_for_good_fails_the_job_which_keeps_its_result(storage: Storage) -> None:
    id = await executed(storage)

    await end(storage, await begun(storage, await claim_one(storage)), FATAL)

    kept = await stored(storage, id)
    assert (kept.state, kept.error_code, kept.response_body) == (JobState.FAILED, "CallbackFailed", '"done"')


async def test_a_waiting_job_can_be_ended_by_whoever_decides_so(storage: Storage) -> None:
    row = job()
    await put(storage, row)

    settled = await storage.settle([cancel_waiting(row, CANCELLED, now=NOW)], now=NOW)

    assert settled.written == [True]
    assert await state(storage, row.id) is JobState.CANCELLED
    assert await claim_ids(storage) == []


async def test_an_owned_job_cannot_be_ended_as_a_waiting_one(storage: Storage) -> None:
    row = await running(storage)

    settled = await storage.settle([cancel_waiting(replace(row), CANCELLED, now=NOW)], now=NOW)

    assert settled.written == [False]
    assert await state(storage, row.id) is JobState.STARTED


async def test_r14_a_cancellation_asked_for_meanwhile_prevents_the_retry(storage: Storage) -> None:
    row = await running(storage)
    await storage.cancel([row.id], by="anna", now=NOW + 1)
    settlement = ending(row, FAILURE)

    await storage.settle([settlement], now=NOW + SECOND)

    assert settlement.final
    kept = await stored(storage, row.id)
    assert (kept.state, kept.cancelled_by, kept.error_code) == (JobState.CANCELLED, "anna", "Cancelled")
    assert (await storage.promote_due(now=NOW + 100 * SECOND)).promoted == 0


async def test_r14_a_cancellation_asked_for_meanwhile_prevents_the_callback(storage: Storage) -> None:
    row = await running(storage, job(callback="Notify"))
    await storage.cancel([row.id], by=None, now=NOW + 1)

    await end(storage, row)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.response_body) == (JobState.CANCELLED, '"done"')
    assert await claim_ids(storage) == []


async def test_r14_a_job_that_ended_before_it_saw_its_cancellation_keeps_its_outcome(storage: Storage) -> None:
    row = await running(storage)
    await storage.cancel([row.id], by=None, now=NOW + 1)

    await end(storage, row)

    assert await state(storage, row.id) is JobState.COMPLETED
    assert len(await storage.runs(row.id)) == 1


async def test_what_the_caller_changes_after_a_settlement_is_not_stored(storage: Storage) -> None:
    row = await running(storage)
    await end(storage, row, FAILURE)

    row.state, row.run_after = JobState.FAILED, None

    kept = await stored(storage, row.id)
    assert (kept.state, kept.hold) == (JobState.QUEUED, Hold.TIME)


async def test_every_column_of_a_finished_job_is_kept(storage: Storage) -> None:
    row = await running(storage, job(request_body="{}", args={"a": "1"}, tags=("t",), tenant_id="t", reply_to="x"))
    settlement: Settlement = ending(row, Succeeded("1"))

    await storage.settle([settlement], now=NOW)

    kept: JobRow = await stored(storage, row.id)
    assert kept == settlement.row


async def test_nothing_is_ready_when_the_only_elected_job_was_claimed(storage: Storage) -> None:
    holder = await running(storage, job(worker="smtp"))
    await put_all(storage, job(worker="smtp"), job(worker="smtp"))

    settled = await end(storage, holder, claim=ANY)

    assert (len(settled.claimed), settled.ready) == (1, False)
