"""What a process does that becomes the executing one after another died: finish the moves that were under way.

A job whose archived row has the run of the live row had ended, so its move is finished as its settlement would have
done it. After a crash only what the month files note as unconfirmed is looked at. In a backup, whose files are from
different moments, a job can be in both with its move confirmed: there every live job is looked for once.
All other jobs are as the queue file says. A month that is damaged is put aside, as when it is written: the jobs whose
move it noted are live, and run again.

A month can have jobs that the queue file does not know: the months of a backup are copied after it, and with relaxed
durability a power cut takes the last enqueues. Nobody finds these rows, but the end of another job of such an id would
meet a row that is there already. So no id up to the highest of any month is given again; and a row that is looked at,
but is none of the queue file's, is deleted (somebody may have enqueued before this process began).
"""

import json
import sqlite3
from collections.abc import Sequence
from datetime import date
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from commandjobs.model.row import JobRow
from commandjobs.storage.sqlite.archive import SQL, Archiver
from commandjobs.storage.sqlite.change import SQL as QUEUE_SQL
from commandjobs.storage.sqlite.inserts import archive_key
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.moving import FINISH_MOVES, READ_KNOWN, Known, Move
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import ids_json, to_row
from commandjobs.storage.sqlite.writer import Writer

AT_ONCE = 1000


class Found(IntEnum):
    """In which state the queue file is found; the values are those of `meta`."""

    COPY = -1
    UNCLEAN = 0
    CLEAN = 1


class Left(NamedTuple):
    """What a process has left in a month."""

    unconfirmed: dict[int, list[int]]
    """The keys of each batch."""
    last_id: int


def begin_executing(connection: sqlite3.Connection, calls: Sequence[None]) -> list[Found]:
    """Note that a process executes; returns how the last one has left the file.

    A copy stays one until its `reconcile` is done: a crash in between must not make it an ordinary file.
    """
    found = Found(connection.execute(QUEUE_SQL["was_clean"]).fetchone()[0])
    if found is Found.CLEAN:
        connection.execute(QUEUE_SQL["set_clean"], (Found.UNCLEAN,))
    return [found] * len(calls)


def note_reconciled(connection: sqlite3.Connection, calls: Sequence[None]) -> list[None]:
    """What was a copy is an ordinary file now, at which a process works."""
    connection.execute(QUEUE_SQL["set_clean"], (Found.UNCLEAN,))
    return [None] * len(calls)


def read_live_keys(connection: sqlite3.Connection, calls: Sequence[int]) -> list[list[tuple[int, int, int]]]:
    """A piece of the live jobs above an id: id, run and creation."""
    return [connection.execute(QUEUE_SQL["live_keys"], (after, AT_ONCE)).fetchall() for after in calls]


def end_executing(connection: sqlite3.Connection, calls: Sequence[None]) -> list[None]:
    """Note that nothing is left to reconcile."""
    connection.execute(QUEUE_SQL["set_clean"], (Found.CLEAN,))
    return [None] * len(calls)


def raise_last_id(connection: sqlite3.Connection, calls: Sequence[int]) -> list[None]:
    """Let ids go on above this one."""
    connection.execute(QUEUE_SQL["begin_ids"])
    connection.execute(QUEUE_SQL["raise_last_id"], (max(calls),))
    return [None] * len(calls)


BEGIN_EXECUTING = Kind("begin executing", begin_executing, 4, flushed=True)
END_EXECUTING = Kind("end executing", end_executing, 4)
NOTE_RECONCILED = Kind("note reconciled", note_reconciled, 4)
READ_LIVE_KEYS = Kind("read live keys", read_live_keys, 4)
RAISE_LAST_ID = Kind("raise last id", raise_last_id, 4, flushed=True)


async def reconcile(writer: Writer, archiver: Archiver, months: Months, *, now: int) -> int:
    """Finish what a dead process has left between its two files; returns how many jobs that were."""
    finished = 0
    left = {month: await archiver.call(month, partial(_look, archiver, month)) for month in months.existing()}
    await writer.run(RAISE_LAST_ID, max((month.last_id for month in left.values()), default=0))
    for month, (unconfirmed, _) in left.items():
        keys = sorted({key for batch in unconfirmed.values() for key in batch})
        for start in range(0, len(keys), AT_ONCE):
            finished += await _finish(writer, archiver, month, keys[start : start + AT_ONCE], now)
        if unconfirmed:
            await archiver.call(month, partial(_confirm, archiver, month, list(unconfirmed)))
    return finished


async def reconcile_copy(writer: Writer, archiver: Archiver, months: Months, *, now: int) -> int:
    """Look for every live job of a restored backup in its archive; returns how many had ended."""
    finished = after = 0
    while live := await writer.run(READ_LIVE_KEYS, after):
        by_month: dict[date, list[int]] = {}
        for id, run, created in live:
            by_month.setdefault(months.of(created), []).append(archive_key(id, run))
        for month in by_month.keys() & set(months.existing()):
            finished += await _finish(writer, archiver, month, by_month[month], now)
        after = live[-1][0]
    await writer.run(NOTE_RECONCILED, None)
    return finished


async def _finish(writer: Writer, archiver: Archiver, month: date, keys: Sequence[int], now: int) -> int:
    rows = await archiver.call(month, partial(_read, archiver, month, keys))
    if not rows:
        return 0
    known: dict[int, Known] = await writer.run(READ_KNOWN, [row.id for row in rows])
    unknown = [row for row in rows if row.id not in known or not known[row.id].includes(row)]
    if unknown:
        await archiver.call(month, partial(_delete, archiver, month, unknown))
    ended = [row for row in rows if row.id in known and known[row.id].is_live_as(row)]
    if not ended:
        return 0
    effect = await writer.run(FINISH_MOVES, Move(ended, now), rows=len(ended))
    return int(effect.answer)


def _look(archiver: Archiver, month: date) -> Left:
    return archiver.look(month, _left, Left({}, 0))


def _left(file: sqlite3.Connection) -> Left:
    unconfirmed = {batch: json.loads(keys) for batch, keys in file.execute(SQL["unconfirmed"])}
    return Left(unconfirmed, file.execute(SQL["last_id"]).fetchone()[0])


def _read(archiver: Archiver, month: date, keys: Sequence[int]) -> list[JobRow]:
    found: list[Any] = archiver.look(
        month, lambda file: file.execute(SQL["read_rows"], (ids_json(keys),)).fetchall(), []
    )
    return [to_row(columns) for columns in found]


def _delete(archiver: Archiver, month: date, rows: Sequence[JobRow]) -> None:
    keys = [archive_key(row.id, row.run) for row in rows]
    archiver.file(month).execute(SQL["delete_rows"], (ids_json(keys),))


def _confirm(archiver: Archiver, month: date, batches: Sequence[int]) -> None:
    archiver.file(month).execute(SQL["confirm"], (ids_json(batches),))
