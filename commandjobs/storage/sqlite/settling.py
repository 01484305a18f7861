"""What attempts have led to, for many callers at once: finished jobs leave, the others are written anew."""

import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from commandjobs.model.row import JobRow
from commandjobs.model.settle import Settlement, heed_cancellation
from commandjobs.model.state import FINAL, Hold
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import Settled
from commandjobs.storage.sqlite.change import SQL, Change, Effect, Taking, place, read_jobs, rewrite
from commandjobs.storage.sqlite.dependents import cancel_bound, conclude
from commandjobs.storage.sqlite.inserts import insert_summaries
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import ids_json
from commandjobs.storage.sqlite.tallies import add_tallies


@dataclass(slots=True)
class Settling:
    """One call of `settle`."""

    settlements: Sequence[Settlement]
    now: int
    taking: Taking | None
    tallies: Tallies | None
    archived: bool = False
    """The rows of its final settlements lie in their archives. If not, they are marked here, and moved later."""


Held = tuple[int, int | None, str | None, str | None, int | None, str | None]
"""A job as the queue file has it: id, owner, lane, lane_key, cancel_requested, cancelled_by."""


@dataclass(slots=True)
class Sorted:
    """What is to be written for one call."""

    change: Change
    written: list[bool] = field(default_factory=list)
    leaving: list[JobRow] = field(default_factory=list)
    """Over, and in their archives."""
    rewritten: list[JobRow] = field(default_factory=list)
    heeded: list[int] = field(default_factory=list)
    """Were to wait again, and ended since their cancellation was asked for."""
    orphans: Sequence[JobRow] = ()


def settle(connection: sqlite3.Connection, calls: Sequence[Settling]) -> list[Effect]:
    """Write the settlements of many callers: first each job's own change, in bulk; then what follows from each call."""
    if _leave_at_once(connection, calls):
        _count(connection, calls)
        return [Effect(Settled([True] * len(call.settlements))) for call in calls]
    held = _held(connection, [settlement.row.id for call in calls for settlement in call.settlements])
    todo = [_sort(connection, call, held) for call in calls]
    leave(connection, [row for part in todo for row in part.leaving])
    rewrite(connection, [row for part in todo for row in part.rewritten])
    _count(connection, calls)
    _forget_childless(connection, [part.change for part in todo])
    return [_spread(call, part) for call, part in zip(calls, todo, strict=True)]


def _leave_at_once(connection: sqlite3.Connection, calls: Sequence[Settling]) -> bool:
    """If all are over and archived, and nothing else follows from it, they leave by one statement; most batches do.

    (The thread waits a millisecond for the GIL after each statement beside a busy loop, and reading who holds each job
    takes 40 us a job there: see `claimable` in queries.sql.)
    """
    settlements = [settlement for call in calls for settlement in call.settlements]
    owners = {settlement.owner for settlement in settlements}
    if len(owners) != 1 or None in owners or not all(call.archived for call in calls):
        return False
    if not all(settlement.failed_attempt is None and settlement.final for settlement in settlements):
        return False
    rows = [settlement.row for settlement in settlements]
    ids = ids_json([row.id for row in rows])
    plain = {"ids": ids, "owner": owners.pop(), "count": len(rows)}
    if connection.execute(SQL["delete_plain_jobs"], plain).rowcount != len(rows):
        return False
    insert_summaries(connection, rows)
    return True


def _count(connection: sqlite3.Connection, calls: Sequence[Settling]) -> None:
    add_tallies(connection, [call.tallies for call in calls if call.tallies])


def leave(connection: sqlite3.Connection, rows: Sequence[JobRow]) -> None:
    """Finished jobs that lie in their archives: only their summaries stay."""
    if rows:
        connection.execute(SQL["delete_jobs"], (ids_json([row.id for row in rows]),))
        insert_summaries(connection, rows)


def _held(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Held]:
    found = connection.execute(SQL["held"], (ids_json(ids),))
    return {columns[0]: columns for columns in found}


def _sort(connection: sqlite3.Connection, call: Settling, held: dict[int, Held]) -> Sorted:
    """Check each settlement's guard. What `held` says is used up: a job's second settlement meets the first one's."""
    todo = Sorted(Change(connection, call.now, call.taking))
    refused: list[JobRow] = []
    for settlement in call.settlements:
        row = settlement.row
        job = held.pop(row.id, None)
        if job is None or job[1] != settlement.owner:
            todo.written.append(False)
            refused.append(row)
            if job is not None:
                held[row.id] = job
            continue
        todo.written.append(True)
        _, _, lane, lane_key, cancel_requested, cancelled_by = job
        if lane is not None:
            todo.change.lanes.add(("worker", lane))
        if lane_key is not None:
            todo.change.lanes.add(("key", lane_key))
        if settlement.final:
            (todo.leaving if call.archived else todo.rewritten).append(row)
            todo.change.finished.append((row.id, row.state))
        else:
            if cancel_requested is not None:
                row.cancel_requested, row.cancelled_by = cancel_requested, cancelled_by
            _wait_or_heed(todo, row, held)
    if call.archived:
        todo.orphans = _orphans(connection, [row for row in refused if row.state in FINAL])
    return todo


def _wait_or_heed(todo: Sorted, row: JobRow, held: dict[int, Held]) -> None:
    """A row that would wait again knows of a cancellation only if it was asked for in its own process."""
    todo.rewritten.append(row)
    if heed_cancellation(row, now=todo.change.now):
        todo.heeded.append(row.id)
        todo.change.finished.append((row.id, row.state))
    else:
        held[row.id] = row.id, None, row.lane, row.lane_key, None, None


def _orphans(connection: sqlite3.Connection, refused: Sequence[JobRow]) -> list[JobRow]:
    """Those whose job still lives with the same run. (Is it gone, then an equal settlement was quicker.)"""
    if not refused:
        return []
    live = dict(connection.execute(SQL["live_runs"], (ids_json([row.id for row in refused]),)))
    return [row for row in refused if live.get(row.id) == row.run]


def _forget_childless(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """One look for all callers: most jobs have nobody who waits for them."""
    finished = [id for change in changes for id, _ in change.finished]
    if not finished:
        return
    parents = {id for (id,) in connection.execute(SQL["parents_among"], (ids_json(finished),))}
    for change in changes:
        change.finished = deque(entry for entry in change.finished if entry[0] in parents)


def _spread(call: Settling, todo: Sorted) -> Effect:
    """Attempt-bound jobs, dependents, lanes; most settlements touch none of them."""
    change = todo.change
    written = [settlement for settlement, ok in zip(call.settlements, todo.written, strict=True) if ok]
    cancel_bound(change, [(item.row.id, item.failed_attempt) for item in written if item.failed_attempt is not None])
    _wait_again(change, [row.id for row in todo.rewritten if row.state not in FINAL and row.hold is not Hold.TIME])
    conclude(change)
    change.ended += read_jobs(change.connection, todo.heeded)
    effect = change.effect(Settled(todo.written, change.claimed, change.ready), told=True)
    effect.orphans = todo.orphans
    return effect


def _wait_again(change: Change, ids: Sequence[int]) -> None:
    """Jobs that can go on at once: read anew, since the caller's rows are not ours to change.

    One that is owned already was elected and taken by another call in this same transaction.
    """
    rows = read_jobs(change.connection, ids)
    for row in rows:
        if row.hold is Hold.LANE:
            change.line_up(row)
        elif row.owner is None:
            change.take(row)
    place(change.connection, [row for row in rows if row.owner is not None])


SETTLE = Kind("settle", settle, 3, flushed=True)
