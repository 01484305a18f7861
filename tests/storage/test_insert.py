"""New jobs: ids, conflicts, and what is handed back."""

from dataclasses import asdict, fields

import pytest
from anyio import create_task_group

from commandjobs.errors import UnknownDependency
from commandjobs.model.find import JobFilter
from commandjobs.model.outcome import HandedBack, Outcome
from commandjobs.model.row import JobRow
from commandjobs.model.settle import begin
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Claim, Inserted, Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    FATAL,
    HOUR,
    NOW,
    begun,
    child,
    claim_ids,
    claim_one,
    end,
    finished,
    job,
    put,
    put_all,
    running,
    state,
    stored,
)

GIVEN_BY_THE_STORAGE = {"id", "hold", "parents_left", "owner"}


async def test_e21_ids_follow_the_order_of_the_rows(storage: Storage) -> None:
    rows = [job() for _ in range(100)]

    inserted = await storage.insert(rows, now=NOW)

    ids = [answer.id for answer in inserted]
    assert ids == sorted(set(ids))
    assert ids == [row.id for row in rows]
    assert [answer.ref_id for answer in inserted] == [row.ref_id for row in rows]


async def test_ids_go_on_after_finished_jobs(storage: Storage) -> None:
    first = await finished(storage)

    second = await put(storage, job())

    assert second > first


async def test_ids_never_repeat_even_if_every_job_was_dropped(storage: Storage) -> None:
    row = await running(storage)
    await end(storage, row)
    [month] = await storage.months()
    await storage.drop_month(month.month)

    assert await put(storage, job()) > row.id


async def test_e21_thousands_of_rows_go_in_at_once(storage: Storage) -> None:
    inserted = await storage.insert([job() for _ in range(5_000)], now=NOW)

    assert len({answer.id for answer in inserted}) == 5_000
    assert await storage.count(JobFilter(), limit=10_000) == 5_000


async def test_inserting_nothing_does_nothing(storage: Storage) -> None:
    assert await storage.insert([], now=NOW) == []


async def test_e01_a_new_job_is_found_by_id_and_by_ref_id(storage: Storage) -> None:
    id = await put(storage, job(ref_id="invoice-7"))

    by_id, by_ref = await storage.job(id), await storage.job("invoice-7")

    assert by_id is not None
    assert by_id == by_ref
    assert (by_id.summary.id, by_id.summary.ref_id, by_id.summary.state) == (id, "invoice-7", JobState.QUEUED)


async def test_e05_a_new_job_has_no_attempt_and_no_owner(storage: Storage) -> None:
    row = await stored(storage, await put(storage, job()))

    assert (row.state, row.attempts, row.owner, row.run) == (JobState.QUEUED, 0, None, 0)
    assert (row.hold, row.parents_left, row.started) == (None, 0, None)


async def test_e17_every_column_comes_back_as_it_was_given(storage: Storage) -> None:
    parent = await put(storage, job())
    given = full_row(parent)

    back = await stored(storage, await put(storage, given))

    expected = asdict(given) | {"hold": Hold.PARENTS, "parents_left": 1, "owner": None}
    assert asdict(back) == expected
    assert back.id == given.id


async def test_e17_a_claim_returns_every_column(storage: Storage) -> None:
    given = job(request="Req", request_body='{"a": 1}', tags=("x", "y"), args={"k": "v"}, meta={"m": "1"}, timeout=None)
    await put(storage, given)

    claimed = await claim_one(storage)

    assert asdict(claimed) == asdict(given) | {"owner": claimed.owner}


async def test_texts_of_any_language_and_length_come_back(storage: Storage) -> None:
    body = '{"text": "' + "żółć 漢字 🚀 \\u0000 '\\" * 10_000 + '"}'

    row = await stored(storage, await put(storage, job(request_body=body, worker="Drücker №1")))

    assert (row.request_body, row.worker) == (body, "Drücker №1")


async def test_the_callers_row_is_completed_in_place(storage: Storage) -> None:
    row = job(run_after=NOW + HOUR)

    id = await put(storage, row)

    assert (row.id, row.hold, row.parents_left, row.owner) == (id, Hold.TIME, 0, None)


async def test_what_the_caller_changes_later_is_not_stored(storage: Storage) -> None:
    args = {"a": "1"}
    row = job(args=args)
    id = await put(storage, row)

    row.priority, row.state = 99, JobState.FAILED
    args["a"] = "2"

    kept = await stored(storage, id)
    assert (kept.priority, kept.state, kept.args) == (0, JobState.QUEUED, {"a": "1"})


async def test_what_is_changed_in_a_row_read_is_not_stored(storage: Storage) -> None:
    id = await put(storage, job())

    (await stored(storage, id)).status = "changed"
    (await claim_one(storage)).status = "changed"

    assert (await stored(storage, id)).status is None


async def test_a_job_that_fits_the_claim_is_owned_at_once(storage: Storage) -> None:
    row = job()

    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert answer.claimed
    assert row.owner is not None
    assert (await stored(storage, row.id)).owner == row.owner
    assert await claim_ids(storage) == []


async def test_without_a_claim_a_job_waits_for_anybody(storage: Storage) -> None:
    [answer] = await storage.insert([job()], now=NOW)

    assert not answer.claimed
    assert await claim_ids(storage) == [answer.id]


@pytest.mark.parametrize(
    "claim", [Claim(frozenset({"Other"})), Claim(frozenset({"Work"}), frozenset({"mails"})), Claim(frozenset())]
)
async def test_a_job_that_does_not_fit_the_claim_stays_claimable(storage: Storage, claim: Claim) -> None:
    row = job()
    [answer] = await storage.insert([row], now=NOW, claim=claim)

    assert not answer.claimed
    assert (row.owner, row.hold) == (None, None)
    assert await claim_ids(storage) == [row.id]


async def test_each_row_is_claimed_by_its_own_fit(storage: Storage) -> None:
    rows = [job(), job("Other"), job(run_after=NOW + HOUR), job()]

    inserted = await storage.insert(rows, now=NOW, claim=Claim(frozenset({"Work"})))

    assert [answer.claimed for answer in inserted] == [True, False, False, True]


async def test_e09_a_job_for_later_is_parked(storage: Storage) -> None:
    row = job(run_after=NOW + 1)

    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert (answer.claimed, row.hold) == (False, Hold.TIME)
    assert await claim_ids(storage) == []


@pytest.mark.parametrize("run_after", [NOW, NOW - HOUR])
async def test_e09_a_job_whose_time_has_come_waits_for_nothing(storage: Storage, run_after: int) -> None:
    id = await put(storage, job(run_after=run_after))

    assert await claim_ids(storage) == [id]


async def test_e12_a_ref_id_in_use_is_told_and_nothing_is_written(storage: Storage) -> None:
    first = await put(storage, job(ref_id="same"))

    [answer] = await storage.insert([job(ref_id="same")], now=NOW, claim=ANY)

    assert answer == Inserted(first, "same", "ref_id")
    assert await storage.count(JobFilter(), limit=10) == 1


@pytest.mark.parametrize("outcome", [None, FATAL])
async def test_e12_a_finished_job_still_has_its_ref_id(storage: Storage, outcome: Outcome | None) -> None:
    id = await finished(storage, job(ref_id="same"), outcome)

    [answer] = await storage.insert([job(ref_id="same")], now=NOW)

    assert (answer.id, answer.conflict) == (id, "ref_id")


async def test_e12_the_other_rows_of_the_call_are_written(storage: Storage) -> None:
    taken = await put(storage, job(ref_id="taken"))

    first, second, third = await storage.insert([job(), job(ref_id="taken"), job()], now=NOW)

    assert [answer.conflict for answer in (first, second, third)] == [None, "ref_id", None]
    assert await claim_ids(storage) == [taken, first.id, third.id]


async def test_e12_two_rows_of_one_call_with_the_same_ref_id(storage: Storage) -> None:
    first, second = await storage.insert([job(ref_id="same"), job(ref_id="same")], now=NOW, claim=ANY)

    assert (first.conflict, first.claimed) == (None, True)
    assert second == Inserted(first.id, "same", "ref_id")


async def test_e12_a_ref_id_is_free_again_once_its_month_is_dropped(storage: Storage) -> None:
    await finished(storage, job(ref_id="same"))
    [month] = await storage.months()
    await storage.drop_month(month.month)

    [answer] = await storage.insert([job(ref_id="same")], now=NOW)

    assert answer.conflict is None


async def test_e14_a_unique_key_in_use_gives_the_job_that_holds_it(storage: Storage) -> None:
    first = await put(storage, job(unique_key="k", ref_id="holder"))

    [answer] = await storage.insert([job(unique_key="k")], now=NOW, claim=ANY)

    assert answer == Inserted(first, "holder", "unique_key")
    assert await storage.count(JobFilter(), limit=10) == 1


async def test_e14_a_unique_key_belongs_to_its_command(storage: Storage) -> None:
    await put(storage, job(unique_key="k"))

    [answer] = await storage.insert([job("Other", unique_key="k")], now=NOW)

    assert answer.conflict is None


async def test_e14_two_rows_of_one_call_with_the_same_unique_key(storage: Storage) -> None:
    first, second = await storage.insert([job(unique_key="k"), job(unique_key="k")], now=NOW)

    assert (second.id, second.conflict) == (first.id, "unique_key")


@pytest.mark.parametrize("outcome", [None, FATAL])
async def test_e14_a_finished_job_gives_its_unique_key_back(storage: Storage, outcome: Outcome | None) -> None:
    await finished(storage, job(unique_key="k"), outcome)

    [answer] = await storage.insert([job(unique_key="k")], now=NOW)

    assert answer.conflict is None


async def test_e14_a_cancelled_job_gives_its_unique_key_back(storage: Storage) -> None:
    id = await put(storage, job(unique_key="k"))
    await storage.cancel([id], by=None, now=NOW)

    [answer] = await storage.insert([job(unique_key="k")], now=NOW)

    assert answer.conflict is None


@pytest.mark.parametrize("outcome", [FAILURE, HandedBack()])
async def test_e14_a_job_that_runs_again_keeps_its_unique_key(storage: Storage, outcome: Outcome) -> None:
    row = await running(storage, job(unique_key="k"))
    await end(storage, row, outcome)

    [answer] = await storage.insert([job(unique_key="k")], now=NOW)

    assert (answer.id, answer.conflict) == (row.id, "unique_key")


async def test_e14_a_job_with_a_callback_holds_its_unique_key_until_that_is_done(storage: Storage) -> None:
    row = await running(storage, job(unique_key="k", callback="Notify"))
    await end(storage, row)
    [during] = await storage.insert([job(unique_key="k")], now=NOW)

    await end(storage, await begun(storage, await claim_one(storage)))

    [after] = await storage.insert([job(unique_key="k")], now=NOW)
    assert (during.conflict, after.conflict) == ("unique_key", None)


async def test_e14_until_start_the_key_is_free_from_the_start_mark_on(storage: Storage) -> None:
    row = job(unique_key="k", unique_until="start")
    await put(storage, row, claim=ANY)
    [while_claimed] = await storage.insert([job(unique_key="k", unique_until="start")], now=NOW)

    await begun(storage, row)

    [while_running] = await storage.insert([job(unique_key="k", unique_until="start")], now=NOW)
    assert (while_claimed.conflict, while_running.conflict) == ("unique_key", None)


async def test_e14_until_start_a_retry_does_not_take_the_key_again(storage: Storage) -> None:
    row = await running(storage, job(unique_key="k", unique_until="start"))
    await end(storage, row, FAILURE)

    [answer] = await storage.insert([job(unique_key="k", unique_until="start")], now=NOW)

    assert answer.conflict is None


async def test_e14_until_start_the_key_is_free_even_if_the_start_mark_was_never_written(storage: Storage) -> None:
    row = job(unique_key="k", unique_until="start")
    await put(storage, row, claim=ANY)
    begin(row, now=NOW, node="node")
    await end(storage, row, FAILURE)

    [answer] = await storage.insert([job(unique_key="k", unique_until="start")], now=NOW)

    assert answer.conflict is None


async def test_e14_until_start_the_end_of_a_job_does_not_free_its_successors_key(storage: Storage) -> None:
    row = await running(storage, job(unique_key="k", unique_until="start"))
    successor = await put(storage, job(unique_key="k", unique_until="start"))
    await end(storage, row)

    [answer] = await storage.insert([job(unique_key="k", unique_until="start")], now=NOW)

    assert (answer.id, answer.conflict) == (successor, "unique_key")


async def test_a_row_in_conflict_takes_no_lane(storage: Storage) -> None:
    await put(storage, job(ref_id="same"))
    await storage.insert([job(ref_id="same", worker="smtp", priority=9)], now=NOW, claim=ANY)

    row = job(worker="smtp")
    [answer] = await storage.insert([row], now=NOW, claim=ANY)

    assert answer.claimed


async def test_d11_an_unknown_parent_is_named_and_nothing_is_written(storage: Storage) -> None:
    known = await put(storage, job())

    with pytest.raises(UnknownDependency, match="4711"):
        await storage.insert([job(ref_id="beside"), child(known, 4711)], now=NOW, claim=ANY)

    assert await storage.job("beside") is None
    assert await storage.count(JobFilter(), limit=10) == 1


async def test_one_callers_bad_row_does_not_harm_calls_beside_it(storage: Storage) -> None:
    async def refused() -> None:
        with pytest.raises(UnknownDependency):
            await storage.insert([child(4711)], now=NOW)

    async with create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(put, storage, job())
            tasks.start_soon(refused)

    assert len(await claim_ids(storage)) == 10


async def test_e13_of_simultaneous_callers_with_one_ref_id_one_wins(storage: Storage) -> None:
    answers: list[Inserted] = []

    async def insert() -> None:
        answers.extend(await storage.insert([job(ref_id="same")], now=NOW))

    async with create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(insert)

    assert [answer.conflict for answer in answers].count(None) == 1
    assert len({answer.id for answer in answers}) == 1


async def test_e18_rows_of_one_call_are_claimed_best_first(storage: Storage) -> None:
    low, high, middle = await put_all(storage, job(priority=-5), job(priority=5), job())

    assert await claim_ids(storage) == [high, middle, low]


async def test_a_new_job_is_queued(storage: Storage) -> None:
    assert await state(storage, await put(storage, job())) is JobState.QUEUED


def full_row(parent: int) -> JobRow:
    """A row with a value of its own in every column that a new job can have."""
    row = job(
        worker="smtp",
        key="tenant-1",
        request_type="API",
        request="Req",
        request_body='{"a": 1}',
        queue="mails",
        priority=-3,
        tags=("red", "green"),
        batch_id="batch",
        callback="Notify",
        depends_on=(parent,),
        depends_on_policy="finished",
        parent_id=parent,
        run_after=NOW + 5,
        expires=NOW + 9,
        created_by="anna",
        user_id="7",
        tenant_id="t",
        retry_limit=0,
        timeout=1.5,
        reply_to="https://example.org/hook",
        unique_key="k",
        unique_until="start",
        args={"x": "1"},
        trace_id="trace",
        rerun_after_crash=False,
        response="Res",
        meta={"y": "2"},
    )
    defaults = JobRow(ref_id="", command="", created=0)
    asked_for = [field.name for field in fields(JobRow)][: [field.name for field in fields(JobRow)].index("run")]
    same = {name for name in asked_for if getattr(row, name) == getattr(defaults, name)}
    assert same <= {"id", "fresh", "callback_queue", "bound_attempt"} | GIVEN_BY_THE_STORAGE
    return row
