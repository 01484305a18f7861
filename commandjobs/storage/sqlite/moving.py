"""The queue file's part in the move of jobs that lie in their archives: the live row goes, its summary comes."""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState
from commandjobs.storage.sqlite.change import SQL, Change, Effect, read_jobs
from commandjobs.storage.sqlite.dependents import cancel_bound, conclude
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import ids_json
from commandjobs.storage.sqlite.settling import leave


class Leaving(NamedTuple):
    """A job as the queue file has it."""

    run: int
    ended: int | None
    lane: str | None
    lane_key: str | None


class Known(NamedTuple):
    """Which job an id is in the queue file, and the run that it has of it."""

    run: int
    ref_id: str
    is_live: bool

    def includes(self, row: JobRow) -> bool:
        """Whether an archived row is a run of this job."""
        return self.ref_id == row.ref_id and row.run <= self.run

    def is_live_as(self, row: JobRow) -> bool:
        """Whether that run is not yet over here."""
        return self.is_live and self.ref_id == row.ref_id and row.run == self.run


class Move(NamedTuple):
    """Rows that lie in their archives."""

    rows: Sequence[JobRow]
    now: int


def finish_moves(connection: sqlite3.Connection, calls: Sequence[Move]) -> list[Effect]:
    """Let archived jobs leave, if the queue file has the same run of them."""
    return [_finish(connection, call) for call in calls]


def _finish(connection: sqlite3.Connection, call: Move) -> Effect:
    change = Change(connection, call.now)
    found = connection.execute(SQL["leaving"], (ids_json([row.id for row in call.rows]),))
    here = {id: Leaving(*columns) for id, *columns in found}
    rows = [row for row in call.rows if row.id in here and here[row.id].run == row.run]
    if rows:
        leave(connection, rows)
    for row in rows:
        if here[row.id].ended is None:
            _catch_up(change, row, here[row.id])
    conclude(change)
    return change.effect(len(rows))


def _catch_up(change: Change, row: JobRow, job: Leaving) -> None:
    """The process that archived it died before it could tell anybody."""
    if job.lane is not None:
        change.lanes.add(("worker", job.lane))
    if job.lane_key is not None:
        change.lanes.add(("key", job.lane_key))
    change.finished.append((row.id, row.state))
    if row.state is not JobState.COMPLETED:
        cancel_bound(change, [(row.id, -row.callback_attempts if row.work_done else row.attempts)])


def read_ended(connection: sqlite3.Connection, limits: Sequence[int]) -> list[list[JobRow]]:
    """Jobs that are marked as over, and wait to be moved."""
    return [read_jobs(connection, [id for (id,) in connection.execute(SQL["ended"], (limit,))]) for limit in limits]


def read_known(connection: sqlite3.Connection, calls: Sequence[Sequence[int]]) -> list[dict[int, Known]]:
    """What the queue file knows of jobs, live or over."""
    found = [connection.execute(SQL["known"], {"ids": ids_json(list(ids))}) for ids in calls]
    return [{id: Known(*columns) for id, *columns in rows} for rows in found]


FINISH_MOVES = Kind("finish moves", finish_moves, 3, flushed=True)
READ_ENDED = Kind("read ended", read_ended, 4)
READ_KNOWN = Kind("read known", read_known, 4)
