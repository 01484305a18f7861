"""Jobs that go from one storage to another, of each kind into each kind."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from commandjobs.errors import ErrorCode, InvalidOption, StorageUnavailable
from commandjobs.model.carried import Carried
from commandjobs.model.find import JobFilter
from commandjobs.model.moment import to_moment
from commandjobs.model.node import NodeRow
from commandjobs.model.outcome import Crashed, Snoozed
from commandjobs.model.row import JobRow, LogRow
from commandjobs.model.settle import requeue
from commandjobs.model.state import Hold, JobState
from commandjobs.model.stats import Tally, TallyKey
from commandjobs.moving.pieces import pieces
from commandjobs.storage import open_storage
from commandjobs.storage.base import NOT_HERE, Copying, Storage
from tests import postgres
from tests.storage.conftest import STORAGES, make
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
    ending,
    executed,
    finished,
    job,
    node,
    put,
    requeued,
    running,
    state,
    states,
    stored,
    swept,
)

IN_MAY = to_moment(datetime(2026, 5, 1, tzinfo=UTC))
COPY = Copying(source="a test", run="this", last_id=0, source_node=0, target_node=0)


@pytest.fixture
def here(storage: Storage) -> Storage:
    """Where jobs live before they move."""
    return storage


@pytest.fixture(params=STORAGES)
async def there(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """Where they go to: open, empty, and nobody executes."""
    if request.param == "postgres":
        opened = open_storage(postgres.empty_url(postgres.OTHER_SCHEMA))
    else:
        opened = make(request.param, tmp_path / "there")
    await opened.open(on_wake=lambda: None)
    yield opened
    await opened.close()


async def all_of(storage: Storage, *, month: date | None = None) -> list[Carried]:
    """Everything, in pieces of three."""
    jobs: list[Carried] = []
    after = 0
    while piece := await storage.carry(after=after, limit=3, month=month):
        assert len(piece) <= 3
        jobs += piece
        after = piece[-1].row.id
    return jobs


async def move(here: Storage, there: Storage) -> NodeRow:
    """Take everything from here to there, and begin to execute there."""
    await swept(here)
    jobs = await all_of(here)
    copying = replace(COPY, last_id=(await here.contents()).last_id)
    await there.hold_still()
    await there.begin_copy(copying)
    for start in range(0, len(jobs), 2):
        await there.take_in(jobs[start : start + 2], copying=copying)
    await there.take_in([], copying=replace(copying, done=True), tallies=await here.tallies(since=0))
    new = node("there")
    await there.register(new)
    assert await there.try_execute()
    return new


async def rescued(storage: Storage) -> list[JobRow]:
    """Jobs that dead processes had started."""
    return (await storage.rescue(now=NOW)).started


# ── what arrives ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_column_of_a_waiting_job_arrives(here: Storage, there: Storage) -> None:
    row = job(
        "Work", worker="smtp", key="tenant", request_type="CMD", request="Mail", request_body='{"to": "ä\\u0000"}',
        queue="mail", priority=-3, tags=("a", "ü"), batch_id="b", callback="Notify", run_after=NOW + HOUR,
        expires=NOW + 2 * HOUR, created_by="anna", user_id="7", tenant_id="t", retry_limit=9, timeout=0.1,
        reply_to="https://x.example/", unique_key="k", unique_until="start", args={"a": "1"}, trace_id="trace",
        rerun_after_crash=False, meta={"m": "2"},
    )  # fmt: skip
    id = await put(here, row)
    before = await stored(here, id)

    await move(here, there)

    assert await stored(there, id) == before
    assert before.request_body == '{"to": "ä\\u0000"}'


async def test_every_run_of_a_finished_job_arrives(here: Storage, there: Storage) -> None:
    id = await finished(here, job(tags=("x",), args={"a": "1"}), FATAL)
    await requeued(here, id)
    await end(here, await begun(here, await claim_one(here)), now=NOW + HOUR)
    before = await here.runs(id)

    await move(here, there)

    assert await there.runs(id) == before
    assert [run.state for run in before] == [JobState.FAILED, JobState.COMPLETED]


async def test_a_requeued_job_arrives_with_its_history(here: Storage, there: Storage) -> None:
    id = await finished(here, outcome=FATAL)
    await requeued(here, id)
    before = await here.runs(id)

    await move(here, there)

    assert await there.runs(id) == before
    assert await claim_ids(there) == [id]


async def test_log_lines_keep_their_numbers(here: Storage, there: Storage) -> None:
    row = await running(here)
    await here.append_logs([LogRow(row.id, row.created, 1, NOW + n, "INFO", "Work", f"line {n}") for n in range(3)])
    await end(here, row, FATAL)
    before = await here.logs(row.id, after=0, limit=10)

    await move(here, there)
    await there.append_logs([LogRow(row.id, row.created, 2, NOW, "INFO", "Work", "one more")])

    after = await there.logs(row.id, after=0, limit=10)
    assert after[:-1] == before
    assert (after[-1].sequence, after[-1].message) == (4, "one more")


async def test_summaries_are_found_as_before(here: Storage, there: Storage) -> None:
    await finished(here, job(created=IN_MAY, user_id="7", tags=("x",)))
    await finished(here, job(worker="smtp", batch_id="b"), FATAL)
    await put(here, job(parent_id=1))
    before = await here.find(JobFilter(), after=None, limit=10)

    await move(here, there)

    assert await there.find(JobFilter(), after=None, limit=10) == before
    for wanted in (JobFilter(user_id="7"), JobFilter(tag="x"), JobFilter(error_code="ValueError")):
        assert await there.find(wanted, after=None, limit=10) == await here.find(wanted, after=None, limit=10) != []


async def test_archive_months_arrive(here: Storage, there: Storage) -> None:
    await end(here, await running(here, job(created=IN_MAY)), now=NOW + HOUR)
    await finished(here)
    before = [month for month in await here.months() if month.newest_end is not None]

    await move(here, there)

    assert [month for month in await there.months() if month.newest_end is not None] == before
    assert await there.drop_month(date(2026, 5, 1)) == 1


async def test_counts_arrive_once(here: Storage, there: Storage) -> None:
    counted = {TallyKey(NOW, "CMD", "Work", "", "default", "Completed"): Tally(3, 1.25, {4: 2, 7: 1})}
    row = await running(here)
    await here.settle([ending(row, FATAL)], now=NOW, tallies=counted)

    await move(here, there)
    await there.begin_copy(COPY)
    await there.take_in([], copying=replace(COPY, done=True), tallies=await here.tallies(since=0))

    assert await there.tallies(since=0) == counted


async def test_new_ids_go_on_above(here: Storage, there: Storage) -> None:
    await finished(here)
    last = await put(here, job())
    assert await here.cancel([last], by=None, now=NOW)
    if here.capabilities.durable:  # whatever was dropped: its ids are not given again
        await here.drop_month(date(2026, 11, 1))

    await move(here, there)

    assert await put(there, job()) == last + 1


# ── what goes on ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_priorities_order_the_claims(here: Storage, there: Storage) -> None:
    low, high, same = await put(here, job(priority=-1)), await put(here, job(priority=5)), await put(here, job())

    await move(here, there)

    assert await claim_ids(there) == [high, same, low]


async def test_a_named_worker_keeps_its_order(here: Storage, there: Storage) -> None:
    first, second = await put(here, job(worker="smtp")), await put(here, job(worker="smtp"))
    best = await put(here, job(worker="smtp", priority=1))

    await move(here, there)

    for id in (best, first, second):
        row = await claim_one(there)
        assert row.id == id
        await end(there, await begun(there, row))


async def test_a_concurrency_key_lets_one_at_a_time_go(here: Storage, there: Storage) -> None:
    ids = [await put(here, job(key="tenant")) for _ in range(3)]

    await move(here, there)

    row = await claim_one(there)
    assert row.id == ids[0]
    await end(there, await begun(there, row), claim=None)
    assert await claim_ids(there) == [ids[1]]


async def test_a_date_is_kept(here: Storage, there: Storage) -> None:
    id = await put(here, job(run_after=NOW + HOUR))

    await move(here, there)

    assert await claim_ids(there) == []
    assert (await there.promote_due(now=NOW + HOUR, claim=ANY)).claimed[0].id == id


async def test_a_job_expires_where_it_is_now(here: Storage, there: Storage) -> None:
    id = await put(here, job(expires=NOW + HOUR))

    await move(here, there)

    assert [row.id for row in (await there.promote_due(now=NOW + HOUR)).expired] == [id]


async def test_a_unique_key_is_still_held(here: Storage, there: Storage) -> None:
    id = await put(here, job(unique_key="k"))

    await move(here, there)

    [refused] = await there.insert([job(unique_key="k")], now=NOW)
    assert (refused.id, refused.conflict) == (id, "unique_key")


async def test_a_unique_key_that_its_start_has_freed_is_free(here: Storage, there: Storage) -> None:
    first = await running(here, job(unique_key="k", unique_until="start"))
    await end(here, first, Snoozed(30))
    second = await put(here, job(unique_key="k", unique_until="start"))

    await move(here, there)

    [refused] = await there.insert([job(unique_key="k")], now=NOW)
    assert (refused.id, refused.conflict) == (second, "unique_key")


async def test_a_ref_id_is_still_taken(here: Storage, there: Storage) -> None:
    waiting, over = await put(here, job(ref_id="one")), await finished(here, job(ref_id="two"))

    await move(here, there)

    refused = [(await there.insert([job(ref_id=ref)], now=NOW))[0] for ref in ("one", "two")]
    assert [(answer.id, answer.conflict) for answer in refused] == [(waiting, "ref_id"), (over, "ref_id")]


async def test_a_ref_id_that_was_given_up_is_free(here: Storage, there: Storage) -> None:
    parent = await running(here)
    bound = await put(here, child(parent.id, bound_attempt=1, ref_id="mine"))
    await end(here, parent, FAILURE)
    assert (await stored(here, bound)).error_code == ErrorCode.ATTEMPT_FAILED
    again = await put(here, job(ref_id="mine"))

    await move(here, there)

    found = await there.job("mine")
    assert found is not None
    assert (found.summary.id, await state(there, bound)) == (again, JobState.CANCELLED)


async def test_dependents_wait_until_their_parent_has_ended(here: Storage, there: Storage) -> None:
    parent = await put(here, job())
    released, refused = await put(here, child(parent)), await put(here, child(parent, parent))
    both = await put(here, child(parent, released))

    await move(here, there)

    assert await claim_ids(there) == [parent]
    await end(there, await begun(there, await stored(there, parent)))
    assert await claim_ids(there) == [released, refused]
    await end(there, await begun(there, await stored(there, released)))
    assert await claim_ids(there) == [both]


async def test_dependents_are_cancelled_with_their_parent(here: Storage, there: Storage) -> None:
    parent = await put(here, job())
    first, second = await put(here, child(parent)), await put(here, child(parent, depends_on_policy="finished"))

    await move(here, there)
    await there.cancel([parent], by=None, now=NOW)

    assert await states(there, first, second) == [JobState.CANCELLED, JobState.QUEUED]


async def test_who_was_cancelled_because_of_whom_is_still_known(here: Storage, there: Storage) -> None:
    parent = await put(here, job())
    dependent = await put(here, child(parent))
    await here.cancel([parent], by=None, now=NOW)

    await move(here, there)

    assert await there.cancelled_dependents(parent) == [dependent]
    rows = [requeue(await stored(there, id)) for id in (parent, dependent)]
    await there.reinsert(rows, now=NOW)
    assert await claim_ids(there) == [parent]


async def test_jobs_of_an_attempt_go_with_it(here: Storage, there: Storage) -> None:
    parent = await running(here)
    bound = await put(here, child(parent.id, bound_attempt=1))

    await move(here, there)
    [crashed] = await rescued(there)
    await there.settle([ending(crashed, Crashed("node"))], now=NOW)

    assert (await stored(there, bound)).error_code == ErrorCode.ATTEMPT_FAILED


async def test_a_callback_is_still_to_run(here: Storage, there: Storage) -> None:
    id = await executed(here, callback_lane="notify")

    await move(here, there)

    row = await claim_one(there)
    assert (row.id, row.state, row.lane) == (id, JobState.EXECUTED, "notify")


async def test_a_started_job_counts_as_crashed(here: Storage, there: Storage) -> None:
    row = await running(here, job(worker="smtp"))
    waiting = await put(here, job(worker="smtp"))

    await move(here, there)
    assert await claim_ids(there) == []
    [crashed] = await rescued(there)

    assert (crashed.id, crashed.owner, crashed.state) == (row.id, NOT_HERE, JobState.STARTED)
    settled = await there.settle([ending(crashed, Crashed("node"))], now=NOW)
    assert settled.written == [True]
    assert ((await stored(there, row.id)).crashes, await claim_ids(there)) == (1, [row.id])
    assert (await stored(there, waiting)).hold is Hold.LANE


async def test_a_started_callback_counts_as_crashed(here: Storage, there: Storage) -> None:
    await executed(here)
    await begun(here, await claim_one(here))

    await move(here, there)

    [crashed] = await rescued(there)
    assert (crashed.state, crashed.callback_attempts) == (JobState.EXECUTED, 1)


async def test_a_job_that_was_only_claimed_is_a_suspect(here: Storage, there: Storage) -> None:
    id = await put(here, job(worker="smtp"), claim=ANY)

    await move(here, there)
    assert await claim_ids(there) == []
    assert (await there.rescue(now=NOW)).released == 1

    row = await claim_one(there)
    assert (row.id, row.suspect) == (id, True)


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_carried_is_carried_the_same_from_there(here: Storage, there: Storage) -> None:
    await finished(here, outcome=FATAL)
    await requeued(here, 1)
    await executed(here, job(callback="Notify", worker="smtp"))
    await put(here, child(1, 2, unique_key="k"))
    await running(here)
    before = await all_of(here)

    await move(here, there)

    assert await all_of(there) == before


async def test_pieces_are_in_the_order_of_ids(here: Storage) -> None:
    ids = [await put(here, job()) for _ in range(4)]
    ids += [await finished(here) for _ in range(4)]

    carried = [job.row.id for job in await all_of(here)]

    assert carried == ids == [job.row.id async for piece in pieces(here) for job in piece]


async def test_a_piece_may_come_twice(here: Storage, there: Storage) -> None:
    await finished(here)
    await put(here, child(await put(here, job())))
    await move(here, there)
    before = await all_of(there)

    await there.begin_copy(COPY)
    assert await there.take_in(await all_of(here), copying=replace(COPY, done=True)) == len(before)

    assert await all_of(there) == before


async def test_what_has_changed_meanwhile_is_replaced(here: Storage, there: Storage) -> None:
    over, waiting, claimed = await finished(here, outcome=FATAL), await put(here, job()), await put(here, job(key="k"))
    await there.hold_still()
    await there.begin_copy(COPY)
    await there.take_in(await all_of(here), copying=COPY)
    await requeued(here, over)
    await here.cancel([waiting], by=None, now=NOW)
    await here.claim({}, 10, claim=ANY, now=NOW)

    await move(here, there)

    assert await all_of(there) == await all_of(here)
    assert await states(there, over, waiting, claimed) == [JobState.QUEUED, JobState.CANCELLED, JobState.QUEUED]
    assert (await there.rescue(now=NOW)).released == 2


async def test_only_finished_jobs_of_a_month_are_carried(here: Storage) -> None:
    in_may = await finished(here, job(created=IN_MAY))
    await finished(here)
    await put(here, job(created=IN_MAY))
    last = await finished(here, job(created=IN_MAY), FATAL)

    month = date(2026, 5, 1)

    assert [job.row.id for job in await all_of(here, month=month)] == [in_may, last]
    assert (await here.contents(month=month)).jobs == 2


async def test_contents_are_counted(here: Storage, there: Storage) -> None:
    await finished(here)
    await put(here, job())

    contents = await here.contents()

    assert (contents.jobs, contents.last_id) == (2, 2)
    assert contents.last_node >= 1
    assert (await there.contents()).jobs == (await there.contents()).last_id == 0


async def test_a_new_process_is_noticed(here: Storage) -> None:
    before = await here.contents()

    await here.register(node())

    assert (await here.contents()).last_node > before.last_node


# ── who may ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_executed_before_everything_is_there(there: Storage) -> None:
    await there.hold_still()
    await there.begin_copy(replace(COPY, after=17))
    await there.close()
    await there.open(on_wake=lambda: None)

    with pytest.raises(StorageUnavailable, match="holds only a part of a test: the jobs up to id 17"):
        await there.try_execute()


async def test_the_note_of_a_copy_is_kept(there: Storage) -> None:
    assert await there.copying() is None
    await there.hold_still()
    noted = Copying(source="a", run="r", last_id=9, source_node=2, target_node=3, after=5, ref_id="ref", done=True)
    await there.begin_copy(noted)

    await there.close()
    await there.open(on_wake=lambda: None)

    assert await there.copying() == noted


async def test_two_processes_cannot_make_the_same_copy(here: Storage, there: Storage) -> None:
    await put(here, job())
    await there.hold_still()
    await there.begin_copy(COPY)
    await there.begin_copy(replace(COPY, run="another"))

    with pytest.raises(StorageUnavailable, match="Another process goes on with this copy"):
        await there.take_in(await all_of(here), copying=COPY)

    assert (await there.contents()).jobs == 0


async def test_jobs_stay_where_somebody_executes(here: Storage, tmp_path: Path) -> None:
    busy = node("busy", executing=True)
    await here.register(busy)
    await here.heartbeat(busy)
    asked = here
    if here.capabilities.single_executor:
        asked = make("sqlite", tmp_path)  # another process: in its own, `here` is the one that executes
        await asked.open(on_wake=lambda: None)

    with pytest.raises(StorageUnavailable, match=r"(Node busy|Process \d+).* executes the jobs of .*Stop it first"):
        await asked.hold_still()

    await asked.close()


@pytest.mark.parametrize("storage", ["memory", "postgres"], indirect=True)
async def test_jobs_stay_where_somebody_owns_one(here: Storage) -> None:
    await running(here)

    with pytest.raises(StorageUnavailable, match=r"executes the jobs of .*Stop it first"):
        await here.hold_still()


# ── finished jobs beside others ─────────────────────────────────────────────────────────────────────────────────────


async def history(here: Storage) -> list[Carried]:
    """Two finished jobs, the second with a log."""
    await finished(here, outcome=FATAL)
    row = await running(here)
    await here.append_logs([LogRow(row.id, row.created, 1, NOW, "INFO", "Work", "line")])
    await end(here, row)
    return await all_of(here)


async def test_finished_jobs_are_added_to_an_empty_storage(here: Storage, there: Storage) -> None:
    jobs = await history(here)
    await there.hold_still()

    assert await there.take_in(jobs) == 2

    assert await all_of(there) == jobs
    assert await put(there, job()) == 3


async def test_finished_jobs_that_are_known_are_left(here: Storage, there: Storage) -> None:
    jobs = await history(here)
    await there.hold_still()
    await there.take_in(jobs[:1])
    await requeued(there, 1)

    assert await there.take_in(jobs) == 1

    assert await states(there, 1, 2) == [JobState.QUEUED, JobState.COMPLETED]


@pytest.mark.parametrize("first", [0, 1], ids=["id", "ref id"])
async def test_strangers_are_refused_whole(here: Storage, there: Storage, first: int) -> None:
    await finished(here)
    await finished(here, job(ref_id="taken"))
    await there.hold_still()
    stranger = await put(there, job(ref_id="taken"))

    with pytest.raises(InvalidOption, match=f"Job {stranger} with the ref id 'taken' is there already"):
        await there.take_in((await all_of(here))[first:])

    assert (await there.contents()).jobs == 1
