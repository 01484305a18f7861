"""What running jobs tell of themselves."""

from commandjobs.model.moment import to_datetime
from commandjobs.model.outcome import HandedBack
from commandjobs.model.row import JobRow, LogRow, ProgressRow
from commandjobs.model.state import JobState
from commandjobs.storage.base import Storage
from tests.storage.life import FATAL, HOUR, NOW, SECOND, begun, claim_one, end, job, put, requeued, running, stored


def report_of(row: JobRow, progress: float | None = 0.5, status: str | None = "half", **columns: int) -> ProgressRow:
    assert row.owner is not None
    return ProgressRow(
        **{"job_id": row.id, "owner": row.owner, "at": NOW + 7, **columns}, progress=progress, status=status
    )


def line_of(row: JobRow, message: str, exception: str | None = None) -> LogRow:
    return LogRow(
        job_id=row.id,
        created=row.created,
        attempt=row.attempts,
        at=NOW,
        level="INFO",
        logger="Work",
        message=message,
        exception=exception,
    )


async def test_p03_progress_and_status_are_stored(storage: Storage) -> None:
    row = await running(storage)

    await storage.report([report_of(row)])

    kept = await stored(storage, row.id)
    assert (kept.progress, kept.status, kept.last_activity) == (0.5, "half", NOW + 7)
    assert (kept.state, kept.owner) == (JobState.STARTED, row.owner)


async def test_p03_the_latest_value_wins(storage: Storage) -> None:
    row = await running(storage)

    await storage.report([report_of(row, 0.1, "first"), report_of(row, 0.2, "second")])
    await storage.report([report_of(row, 0.9, "third")])

    kept = await stored(storage, row.id)
    assert (kept.progress, kept.status) == (0.9, "third")


async def test_p03_many_jobs_report_at_once(storage: Storage) -> None:
    rows = [await running(storage) for _ in range(20)]

    await storage.report([report_of(row, index / 20) for index, row in enumerate(rows)])

    assert [(await stored(storage, row.id)).progress for row in rows] == [index / 20 for index in range(20)]


async def test_p03_a_completed_job_is_done(storage: Storage) -> None:
    row = await running(storage)
    await storage.report([report_of(row)])

    await end(storage, row)

    assert (await stored(storage, row.id)).progress == 1.0


async def test_an_overrunning_attempt_is_marked(storage: Storage) -> None:
    row = await running(storage)

    await storage.report([report_of(row, overrunning=NOW + 5)])

    assert (await stored(storage, row.id)).overrunning == NOW + 5


async def test_l10_a_report_of_another_owner_changes_nothing(storage: Storage) -> None:
    row = await running(storage)

    await storage.report([report_of(row, owner=4711)])

    assert (await stored(storage, row.id)).progress is None


async def test_l10_a_report_after_the_end_changes_nothing(storage: Storage) -> None:
    row = await running(storage)
    late = report_of(row)
    await end(storage, row, FATAL)

    await storage.report([late])

    kept = await stored(storage, row.id)
    assert (kept.state, kept.status) == (JobState.FAILED, None)


async def test_a_report_leaves_a_request_to_cancel_as_it_is(storage: Storage) -> None:
    row = await running(storage)
    await storage.cancel([row.id], by="anna", now=NOW + 1)

    await storage.report([report_of(row)])

    assert (await stored(storage, row.id)).cancel_requested == NOW + 1


async def test_the_next_attempt_starts_without_progress(storage: Storage) -> None:
    row = await running(storage)
    await storage.report([report_of(row)])
    await end(storage, row, HandedBack())

    await begun(storage, await claim_one(storage))

    kept = await stored(storage, row.id)
    assert (kept.progress, kept.status) == (None, None)


async def test_p01_log_lines_are_stored_in_order(storage: Storage) -> None:
    row = await running(storage)

    await storage.append_logs([line_of(row, "one"), line_of(row, "two", exception="Traceback ...")])

    first, second = await storage.logs(row.id, after=0, limit=10)
    assert (first.sequence, first.message, first.exception) == (1, "one", None)
    assert (second.sequence, second.message, second.exception) == (2, "two", "Traceback ...")
    assert (first.at, first.level, first.logger, first.attempt) == (to_datetime(NOW), "INFO", "Work", 1)


async def test_p01_sequences_go_on_from_call_to_call(storage: Storage) -> None:
    row = await running(storage)

    for number in range(5):
        await storage.append_logs([line_of(row, f"{number}a"), line_of(row, f"{number}b")])

    lines = await storage.logs(row.id, after=0, limit=100)
    assert [line.sequence for line in lines] == list(range(1, 11))
    assert [line.message for line in lines][:3] == ["0a", "0b", "1a"]


async def test_p01_each_job_has_its_own_sequence(storage: Storage) -> None:
    first, second = await running(storage), await running(storage)

    await storage.append_logs([line_of(first, "a"), line_of(second, "b"), line_of(first, "c"), line_of(second, "d")])

    assert [(line.sequence, line.message) for line in await storage.logs(first.id, after=0, limit=9)] == [
        (1, "a"),
        (2, "c"),
    ]
    assert [(line.sequence, line.message) for line in await storage.logs(second.id, after=0, limit=9)] == [
        (1, "b"),
        (2, "d"),
    ]


async def test_p01_logs_are_read_on_from_a_sequence(storage: Storage) -> None:
    row = await running(storage)
    await storage.append_logs([line_of(row, str(number)) for number in range(1, 11)])

    page = await storage.logs(row.id, after=4, limit=3)

    assert [line.sequence for line in page] == [5, 6, 7]
    assert await storage.logs(row.id, after=10, limit=3) == []


async def test_p09_lines_and_order_outlive_the_job(storage: Storage) -> None:
    row = await running(storage)
    await storage.append_logs([line_of(row, "before the end")])
    await end(storage, row, FATAL)
    await storage.append_logs([line_of(row, "flushed after it")])

    lines = await storage.logs(row.id, after=0, limit=9)

    assert [(line.sequence, line.message) for line in lines] == [(1, "before the end"), (2, "flushed after it")]


async def test_r19_logs_of_earlier_runs_are_kept_and_go_on(storage: Storage) -> None:
    row = await running(storage)
    await storage.append_logs([line_of(row, "first run")])
    await end(storage, row, FATAL)
    await requeued(storage, row.id)
    again = await begun(storage, await claim_one(storage), now=NOW + HOUR)

    await storage.append_logs([line_of(again, "second run")])

    lines = await storage.logs(row.id, after=0, limit=9)
    assert [(line.sequence, line.attempt, line.message) for line in lines] == [
        (1, 1, "first run"),
        (2, 2, "second run"),
    ]


async def test_a_job_without_lines_has_none(storage: Storage) -> None:
    assert await storage.logs(await put(storage, job()), after=0, limit=9) == []
    assert await storage.logs(4711, after=0, limit=9) == []


async def test_p04_thousands_of_lines_go_in_at_once(storage: Storage) -> None:
    row = await running(storage, now=NOW + SECOND)

    await storage.append_logs([line_of(row, str(number)) for number in range(5_000)])

    lines = await storage.logs(row.id, after=0, limit=10_000)
    assert [line.sequence for line in lines] == list(range(1, 5_001))


async def test_reporting_nothing_does_nothing(storage: Storage) -> None:
    await storage.report([])
    await storage.append_logs([])
