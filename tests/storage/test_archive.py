"""Archives: finished jobs by the month they were created in, until the month is dropped."""

from datetime import UTC, date, datetime

from commandjobs.model.find import JobFilter
from commandjobs.model.moment import to_moment
from commandjobs.model.row import LogRow
from commandjobs.model.state import JobState
from commandjobs.storage.base import Storage
from tests.storage.life import (
    FATAL,
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
    requeued,
    running,
    stored,
)

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
IN_OCTOBER = to_moment(datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC))
IN_NOVEMBER = IN_OCTOBER + 1


async def months(storage: Storage) -> list[date]:
    """Months in which a job has ended."""
    return [month.month for month in await storage.months() if month.newest_end is not None]


async def test_x03_a_job_lies_in_the_month_it_was_created_in(storage: Storage) -> None:
    await finished(storage, job(created=IN_OCTOBER))
    await finished(storage, job(created=IN_NOVEMBER))

    assert await months(storage) == [OCTOBER, NOVEMBER]


async def test_unfinished_jobs_are_in_no_archive(storage: Storage) -> None:
    await put(storage, job())
    await running(storage)
    await executed(storage)

    assert await months(storage) == []


async def test_a_month_knows_its_newest_end(storage: Storage) -> None:
    for row, now in [(job(created=IN_OCTOBER), NOW + 9 * HOUR), (job(created=IN_OCTOBER), NOW + HOUR)]:
        await end(storage, await running(storage, row), now=now)

    [month] = await storage.months()

    assert (month.month, month.newest_end) == (OCTOBER, NOW + 9 * HOUR)


async def test_the_end_of_a_callback_counts_as_the_end(storage: Storage) -> None:
    await executed(storage)
    await end(storage, await begun(storage, await claim_one(storage)), now=NOW + HOUR)

    [month] = await storage.months()

    assert month.newest_end == NOW + HOUR


async def test_the_cancellation_of_an_executed_job_counts_as_the_end(storage: Storage) -> None:
    await storage.cancel([await executed(storage)], by=None, now=NOW + HOUR)

    [month] = await storage.months()

    assert month.newest_end == NOW + HOUR


async def test_x03_a_job_of_every_month_is_read_back(storage: Storage) -> None:
    ids = [
        await finished(storage, job(created=to_moment(datetime(2026, month, 1, tzinfo=UTC)))) for month in range(1, 13)
    ]

    jobs = await storage.jobs(ids)

    assert [each.summary.id for each in jobs] == ids
    assert all(each.row is not None and each.row.response_body == '"done"' for each in jobs)
    assert len(await months(storage)) == 12


async def test_the_runs_of_a_live_job_are_its_row(storage: Storage) -> None:
    id = await put(storage, job())

    assert await storage.runs(id) == [await stored(storage, id)]


async def test_the_runs_of_a_finished_job_are_its_archived_row(storage: Storage) -> None:
    id = await finished(storage)

    assert await storage.runs(id) == [await stored(storage, id)]


async def test_an_unknown_job_has_no_runs(storage: Storage) -> None:
    assert await storage.runs(4711) == []


async def test_the_newest_run_is_the_job(storage: Storage) -> None:
    id = await finished(storage, outcome=FATAL)
    await requeued(storage, id)
    await end(storage, await begun(storage, await claim_one(storage)))

    found = await storage.job(id)

    assert found is not None
    assert found.row is not None
    assert (found.summary.run, found.row.run, found.row.state) == (1, 1, JobState.COMPLETED)


async def test_an_older_run_is_not_taken_for_the_live_job(storage: Storage) -> None:
    id = await finished(storage, outcome=FATAL)
    await requeued(storage, id)

    found = await storage.job(id)

    assert found is not None
    assert found.row is not None
    assert (found.row.run, found.row.state) == (1, JobState.QUEUED)
    assert await storage.count(JobFilter(), limit=9) == 1


async def test_l21_a_dropped_month_takes_its_jobs_and_their_summaries(storage: Storage) -> None:
    gone = [
        await finished(storage, job(created=IN_OCTOBER, ref_id="gone")),
        await finished(storage, job(created=IN_OCTOBER)),
    ]
    kept = await finished(storage, job(created=IN_NOVEMBER))

    assert await storage.drop_month(OCTOBER) == 2

    assert await months(storage) == [NOVEMBER]
    assert await storage.jobs(gone) == []
    assert await storage.job("gone") is None
    assert [row.id for row in await storage.find(JobFilter(), after=None, limit=9)] == [kept]
    assert await storage.runs(gone[0]) == []


async def test_l21_dropping_a_month_leaves_its_unfinished_jobs(storage: Storage) -> None:
    await finished(storage, job(created=IN_OCTOBER))
    waiting = await put(storage, job(created=IN_OCTOBER))
    row = await running(storage, job(created=IN_OCTOBER))

    assert await storage.drop_month(OCTOBER) == 1

    await end(storage, row)
    assert await storage.finished([row.id]) == {row.id}
    assert sorted(await claim_ids(storage)) == [waiting]
    assert await months(storage) == [OCTOBER]


async def test_l21_dropping_a_month_leaves_a_requeued_job(storage: Storage) -> None:
    id = await finished(storage, job(created=IN_OCTOBER), FATAL)
    await requeued(storage, id)

    assert await storage.drop_month(OCTOBER) == 0

    assert [run.run for run in await storage.runs(id)] == [1]
    await end(storage, await begun(storage, await claim_one(storage)))
    assert (await stored(storage, id)).state is JobState.COMPLETED


async def test_l21_a_month_that_is_not_there_drops_nothing(storage: Storage) -> None:
    await finished(storage)

    assert await storage.drop_month(date(2020, 1, 1)) == 0
    assert await months(storage) == [NOVEMBER]


async def test_l21_a_dropped_month_takes_its_logs(storage: Storage) -> None:
    row = await running(storage, job(created=IN_OCTOBER))
    await storage.append_logs([LogRow(row.id, row.created, 1, NOW, "INFO", "Work", "hello")])
    await end(storage, row)

    await storage.drop_month(OCTOBER)

    assert await storage.logs(row.id, after=0, limit=9) == []


async def test_l21_dropping_a_parents_month_leaves_its_dependents(storage: Storage) -> None:
    parent = await running(storage, job(created=IN_OCTOBER))
    id = await put(storage, child(parent.id))
    await end(storage, parent)

    await storage.drop_month(OCTOBER)

    assert await claim_ids(storage) == [id]
    assert await storage.cancelled_dependents(parent.id) == []


async def test_l21_a_dropped_dependent_is_forgotten_by_its_parent(storage: Storage) -> None:
    parent = await running(storage)
    await put(storage, child(parent.id, created=IN_OCTOBER))
    await end(storage, parent, FATAL)

    await storage.drop_month(OCTOBER)

    assert await storage.cancelled_dependents(parent.id) == []


async def test_a_month_can_fill_again_after_it_was_dropped(storage: Storage) -> None:
    await finished(storage, job(created=IN_OCTOBER))
    await storage.drop_month(OCTOBER)

    id = await finished(storage, job(created=IN_OCTOBER))

    assert await months(storage) == [OCTOBER]
    assert (await stored(storage, id)).completed == NOW + SECOND


async def test_l21_a_month_of_thousands_is_dropped(storage: Storage) -> None:
    ids = [answer.id for answer in await storage.insert([job(created=IN_OCTOBER) for _ in range(3_000)], now=NOW)]
    await storage.cancel(ids, by=None, now=NOW)

    assert await storage.drop_month(OCTOBER) == 3_000
    assert await storage.count(JobFilter(), limit=10) == 0


async def test_x04_every_job_is_in_exactly_one_place(storage: Storage) -> None:
    rows = [await running(storage) for _ in range(10)]
    for row in rows[::2]:
        await end(storage, row)

    found = await storage.find(JobFilter(), after=None, limit=99)

    assert sorted(row.id for row in found) == [row.id for row in rows]
    assert [len(await storage.runs(row.id)) for row in rows] == [1] * 10
