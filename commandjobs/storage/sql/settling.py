"""What attempts have led to: finished jobs leave for the archive, the others are written anew."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

from commandjobs.model.row import JobRow
from commandjobs.model.settle import Settlement, heed_cancellation
from commandjobs.model.state import FINAL, Hold
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import Settled
from commandjobs.storage.sql.change import Change, Taking
from commandjobs.storage.sql.dependents import cancel_bound, conclude
from commandjobs.storage.sql.rows import is_plain_end


@dataclass(slots=True)
class Settling:
    """One call of `settle`."""

    settlements: Sequence[Settlement]
    now: int
    taking: Taking | None
    tallies: Tallies | None


@dataclass(slots=True)
class Held:
    """A job as the database has it."""

    owner: int | None
    lane: str | None
    lane_key: str | None
    cancel_requested: int | None
    cancelled_by: str | None
    has_dependents: bool


@dataclass(slots=True)
class Sorted:
    """What is to be written for one call."""

    written: list[bool] = field(default_factory=list)
    leaving: list[JobRow] = field(default_factory=list)
    waiting: list[JobRow] = field(default_factory=list)
    childless: set[int] = field(default_factory=set)


async def settle(change: Change, call: Settling, *, again: bool = False) -> Settled:
    """Write settlements. again: an earlier try may have done it, and its answer was lost."""
    quick = set[int]() if again else await _finish_plain(change, call)
    ids = sorted({settlement.row.id for settlement in call.settlements} - quick)
    found = await change.connection.rows(change.dialect.sql["held"], ids=ids) if ids else ()
    held = {id: Held(*columns) for id, *columns in found}
    before = await _ended_before(change, call.settlements, held) if again else set[int]()
    todo = _sort(change, call, held, quick)
    change.finish(todo.leaving, childless=todo.childless)
    for row in todo.waiting:
        _wait_again(change, row)
    written = [settlement for settlement, ok in zip(call.settlements, todo.written, strict=True) if ok]
    await cancel_bound(change, [(item.row.id, item.failed_attempt) for item in written if item.failed_attempt])
    await conclude(change)
    if before:
        todo.written = [
            ok or settlement.row.id in before for settlement, ok in zip(call.settlements, todo.written, strict=True)
        ]
    return Settled(todo.written, change.claimed, change.ready)


async def _finish_plain(change: Change, call: Settling) -> set[int]:
    """End those that ask for nothing else; a job that is settled twice in one call is none of them."""
    rows: dict[int, JobRow] = {}
    owner = call.settlements[0].owner if call.settlements else None
    for settlement in call.settlements:
        if settlement.row.id in rows:
            return set()
        if settlement.owner == owner and is_plain_end(settlement.row):
            rows[settlement.row.id] = settlement.row
    if owner is None:
        return set()
    return await change.dialect.finish_plain(change.connection, list(rows.values()), owner=owner)


def _sort(change: Change, call: Settling, held: dict[int, Held], quick: set[int]) -> Sorted:
    """Check each settlement's guard. What `held` says is used up: a job's second settlement meets the first one's."""
    todo = Sorted()
    for settlement in call.settlements:
        row = settlement.row
        if row.id in quick:
            todo.written.append(True)
            continue
        job = held.get(row.id)
        if job is None or job.owner != settlement.owner:
            todo.written.append(False)
            continue
        todo.written.append(True)
        if job.lane is not None:
            change.lanes.add(("worker", job.lane))
        if job.lane_key is not None:
            change.lanes.add(("key", job.lane_key))
        if not settlement.final:
            if job.cancel_requested is not None:
                row.cancel_requested, row.cancelled_by = job.cancel_requested, job.cancelled_by
            heed_cancellation(row, now=change.now)
        if not job.has_dependents:
            todo.childless.add(row.id)
        if row.state in FINAL:
            todo.leaving.append(row)
            del held[row.id]
        else:
            todo.waiting.append(copy(row))  # the caller's row is not ours to change
            held[row.id] = Held(None, row.lane, row.lane_key, None, None, job.has_dependents)
    left = {row.id for row in todo.leaving}
    todo.waiting = [row for row in todo.waiting if row.id not in left]
    return todo


def _wait_again(change: Change, row: JobRow) -> None:
    change.rewrite(row)
    if row.hold is Hold.LANE:
        change.line_up(row)
    elif row.hold is None:
        change.take(row)


async def _ended_before(change: Change, settlements: Sequence[Settlement], held: dict[int, Held]) -> set[int]:
    """Which of these jobs have ended just as their settlements say."""
    gone = {item.row.id: item.row for item in settlements if item.row.id not in held and item.final}
    if not gone:
        return set()
    found = await change.connection.rows(change.dialect.sql["ended_as"], ids=sorted(gone))
    return {
        id
        for id, run, state, last_activity in found
        if (gone[id].run, gone[id].state, gone[id].last_activity) == (run, state, last_activity)
    }
