"""Waiting jobs that nobody owns: cancelled, changed, woken by time, expired; and dependents that were left to later."""

from collections.abc import Sequence

from commandjobs.model.row import JobRow
from commandjobs.model.settle import EXPIRED, request_cancellation
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Cancelling, Promoted, Settled
from commandjobs.storage.sql.admitting import admit
from commandjobs.storage.sql.change import Change
from commandjobs.storage.sql.dependents import conclude
from commandjobs.storage.sql.rows import STATES, document, to_row

PARENTS_AT_ONCE = 100
"""Markers that one sweep looks at; each is followed up to the limit of one change."""


async def cancel(change: Change, ids: Sequence[int], by: str | None) -> list[Cancelling]:
    """End waiting jobs, or ask their owners to."""
    live = {row.id: row for row in await change.read(list(dict.fromkeys(ids)))}
    gone = sorted(set(ids) - live.keys())
    sql, connection = change.dialect.sql, change.connection
    ended = {id for (id,) in await connection.rows(sql["finished_among"], ids=gone)} if gone else set[int]()
    asked: list[JobRow] = []
    answers: list[Cancelling] = []
    for id in ids:
        row = live.get(id)
        if row is None:
            answers.append(Cancelling.FINISHED if id in ended else Cancelling.UNKNOWN)
        elif row.state.is_final:
            answers.append(Cancelling.FINISHED)
        elif request_cancellation(row, by=by, now=change.now) is None:
            asked.append(row)
            answers.append(Cancelling.REQUESTED)
        else:
            change.contest(row)
            change.end([row])
            answers.append(Cancelling.CANCELLED)
    if asked:
        wishes = [
            {"id": row.id, "cancel_requested": row.cancel_requested, "cancelled_by": row.cancelled_by} for row in asked
        ]
        await connection.run(sql["request_cancellation"], rows=document(wishes))
    await conclude(change)
    return answers


async def update(change: Change, id: int, *, run_after: int | None, priority: int | None, queue: str | None) -> bool:
    """Change a waiting job."""
    for row in await change.read([id]):
        if row.state is JobState.QUEUED and row.owner is None:
            row.run_after = row.run_after if run_after is None else run_after
            row.priority = row.priority if priority is None else priority
            row.queue = row.queue if queue is None else queue
            change.contest(row)
            if not row.parents_left and row.hold is not Hold.ADMISSION:
                change.let_go(row)
            change.rewrite(row)
            await conclude(change)
            return True
    return False


async def promote_due(change: Change, limit: int) -> Promoted:
    """Expire what was not started in time, wake what is due, and admit what came with transactions of callers."""
    sql, connection = change.dialect.sql, change.connection
    expired = await _due(change, "expired", limit)
    change.cancel(expired, EXPIRED)
    gone = {row.id for row in expired}
    due = [row for row in await _due(change, "due", limit) if row.id not in gone]
    for row in due:
        change.let_go(row)
        change.place(row)
    admitted = await admit(change, limit, gone=gone)
    await conclude(change)
    [(next_at,)] = await connection.rows(sql["next_moment"])
    if admitted == limit:
        next_at = change.now  # there are more
    return Promoted(next_at, len(due), expired, change.claimed)


async def _due(change: Change, name: str, limit: int) -> list[JobRow]:
    """Rows whose moment has come, locked; those that another node is waking are left to it."""
    found = await change.connection.rows(change.dialect.sql[name], now=change.now, most=limit)
    rows = [to_row(columns) for columns in found]
    return [change.rows.setdefault(row.id, row) for row in rows]


async def sweep(change: Change) -> Settled:
    """Go on with dependents of jobs that had too many of them."""
    sql, connection, budget = change.dialect.sql, change.connection, change.budget
    marked = await connection.rows(sql["unfollowed"], most=PARENTS_AT_ONCE)
    if marked:
        await connection.run(sql["followed"], ids=sorted(id for id, _ in marked))
        change.finished |= {id: STATES[state] for id, state in marked}
        await conclude(change)
    return Settled([True] * (budget - change.budget), change.claimed, change.ready)
