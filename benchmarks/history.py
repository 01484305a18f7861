"""Years of use in a minute: finished jobs in their archives, or a backlog, written past the library."""

import sqlite3
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from benchmarks.commands import Endless, mails
from commandjobs import BackgroundJobs
from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState
from commandjobs.storage.sqlite.connection import migrate, open_for_writing
from commandjobs.storage.sqlite.inserts import insert_archived, insert_summaries
from commandjobs.storage.sqlite.months import Months

MONTHS = 12
PIECE = 10_000


async def archived(database: Path, jobs: int) -> None:
    """So many finished jobs, over the last twelve months."""
    async with BackgroundJobs(database):  # it makes the file
        pass
    queue = open_for_writing(database, synchronous="NORMAL")
    months, today = Months(database), datetime.now(tz=UTC).date().replace(day=1)
    id, each = 0, jobs // MONTHS
    for number in range(MONTHS, 0, -1):
        month = (today - timedelta(days=30 * number)).replace(day=1)
        archive = _month_file(months.path(month))
        for _ in range(0, each, PIECE):
            rows = [_finished(id + offset, month) for offset in range(1, PIECE + 1)]
            id += PIECE
            for connection, write in ((archive, insert_archived), (queue, insert_summaries)):
                connection.execute("begin")
                write(connection, rows)
                connection.execute("commit")
        archive.close()
    queue.execute("delete from sqlite_sequence where name = 'job'")
    queue.execute("insert into sqlite_sequence (name, seq) values ('job', ?)", (id,))
    queue.close()


async def backlog(database: Path, jobs: int) -> None:
    """So many jobs that wait behind one that never ends."""
    async with BackgroundJobs(database, execute=False) as engine:
        for _ in range(0, jobs, PIECE):
            await engine.enqueue_many(Endless, mails(PIECE), worker="busy")


def _month_file(path: Path) -> sqlite3.Connection:
    connection = open_for_writing(path, synchronous="NORMAL")
    migrate(connection, path, "archive_schema")
    return connection


def _finished(id: int, month: date) -> JobRow:
    created = int(datetime(month.year, month.month, 2, tzinfo=UTC).timestamp()) * 1_000_000 + id
    return JobRow(
        id=id,
        ref_id=f"{id:032x}",
        command="AsyncNoop",
        created=created,
        request="Mail",
        request_body=f'{{"to":"my@email.com","n":{id}}}',
        started=created + 1_000,
        completed=created + 2_000,
        last_activity=created + 2_000,
        state=JobState.COMPLETED,
        attempts=1,
        duration_ms=1,
        progress=1.0,
        response="int",
        response_body=str(id),
        node="bench:1",
    )
