"""Waiting jobs that nobody owns: cancelled, changed, woken by time, expired; and dependents that were left to later."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from commandjobs.model.row import JobRow
from commandjobs.model.settle import EXPIRED, request_cancellation
from commandjobs.model.state import FINAL, JobState
from commandjobs.storage.base import Cancelling, Promoted, Settled
from commandjobs.storage.sqlite.change import SQL, Change, Effect, Taking, place, read_jobs, rewrite
from commandjobs.storage.sqlite.dependents import conclude
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import STATES, ids_json

PARENTS_AT_ONCE = 100
"""Markers that one sweep looks at; each is followed up to the limit of one change."""


@dataclass(frozen=True, slots=True)
class CancelCall:
    """One call of `cancel`."""

    ids: Sequence[int]
    by: str | None
    now: int


@dataclass(frozen=True, slots=True)
class Update:
    """One call of `update`."""

    id: int
    now: int
    run_after: int | None
    priority: int | None
    queue: str | None


@dataclass(frozen=True, slots=True)
class Waking:
    """One call of `promote_due` or `sweep`."""

    now: int
    taking: Taking | None
    limit: int = 0


def cancel(connection: sqlite3.Connection, calls: Sequence[CancelCall]) -> list[Effect]:
    """End waiting jobs, or ask their owners to."""
    return [_cancel(connection, call) for call in calls]


def _cancel(connection: sqlite3.Connection, call: CancelCall) -> Effect:
    change = Change(connection, call.now)
    live = {row.id: row for row in read_jobs(connection, call.ids)}
    moved = {id for (id,) in connection.execute(SQL["finished_among"], (ids_json(call.ids),))}
    answers: list[Cancelling] = []
    over: list[JobRow] = []
    for id in call.ids:
        row = live.get(id)
        if row is None:
            answers.append(Cancelling.FINISHED if id in moved else Cancelling.UNKNOWN)
        elif row.state in FINAL:
            answers.append(Cancelling.FINISHED)
        else:
            answers.append(_cancel_one(change, row, call.by, over))
    change.end(over)
    conclude(change)
    return change.effect(answers)


def _cancel_one(change: Change, row: JobRow, by: str | None, over: list[JobRow]) -> Cancelling:
    if request_cancellation(row, by=by, now=change.now) is None:
        change.connection.execute(SQL["request_cancellation"], (row.cancel_requested, row.cancelled_by, row.id))
        return Cancelling.REQUESTED
    change.contest(row)
    over.append(row)
    return Cancelling.CANCELLED


def update(connection: sqlite3.Connection, calls: Sequence[Update]) -> list[Effect]:
    """Change waiting jobs."""
    return [_update(connection, call) for call in calls]


def _update(connection: sqlite3.Connection, call: Update) -> Effect:
    for row in read_jobs(connection, [call.id]):
        if row.state is JobState.QUEUED and row.owner is None:
            return _change(Change(connection, call.now), row, call)
    return Effect(answer=False)


def _change(change: Change, row: JobRow, call: Update) -> Effect:
    row.run_after = row.run_after if call.run_after is None else call.run_after
    row.priority = row.priority if call.priority is None else call.priority
    row.queue = row.queue if call.queue is None else call.queue
    change.contest(row)
    if not row.parents_left:
        change.let_go(row)
    rewrite(change.connection, [row])
    conclude(change)
    return change.effect(answer=True)


def promote_due(connection: sqlite3.Connection, calls: Sequence[Waking]) -> list[Effect]:
    """Expire what was not started in time, and wake what is due."""
    return [_promote(connection, call) for call in calls]


def _promote(connection: sqlite3.Connection, call: Waking) -> Effect:
    change = Change(connection, call.now, call.taking)
    expired = _due(change, SQL["expired"], call.limit)
    change.cancel(expired, EXPIRED)
    due = _due(change, SQL["due"], call.limit)
    for row in due:
        change.let_go(row)
    place(change.connection, due)
    conclude(change)
    return change.effect(Promoted(_next_moment(connection), len(due), expired, change.claimed))


def _due(change: Change, sql: str, limit: int) -> list[JobRow]:
    found = change.connection.execute(sql, {"now": change.now, "most": limit})
    return read_jobs(change.connection, [id for (id,) in found])


def _next_moment(connection: sqlite3.Connection) -> int | None:
    moments = [connection.execute(SQL[name]).fetchone()[0] for name in ("next_due", "next_expiry")]
    return min((moment for moment in moments if moment is not None), default=None)


def sweep(connection: sqlite3.Connection, calls: Sequence[Waking]) -> list[Effect]:
    """Go on with dependents of jobs that had too many of them."""
    return [_sweep(connection, call) for call in calls]


def _sweep(connection: sqlite3.Connection, call: Waking) -> Effect:
    change = Change(connection, call.now, call.taking)
    budget = change.budget
    marked = connection.execute(SQL["unfollowed"], (PARENTS_AT_ONCE,)).fetchall()
    connection.execute(SQL["followed"], (ids_json([id for id, _ in marked]),))
    change.finished.extend((id, STATES[state]) for id, state in marked)
    conclude(change)
    settled = Settled([True] * (budget - change.budget), change.claimed, change.ready)
    return change.effect(settled, told=True)


CANCEL = Kind("cancel", cancel, 4, flushed=True)
UPDATE = Kind("update", update, 4)
PROMOTE = Kind("promote due", promote_due, 4, flushed=True)
SWEEP = Kind("sweep", sweep, 4, flushed=True)
