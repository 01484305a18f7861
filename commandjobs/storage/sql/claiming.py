"""Owning jobs: claims, start marks, and what becomes of claims that were never started."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from commandjobs.model.row import JobRow, ProgressRow
from commandjobs.model.settle import heed_cancellation
from commandjobs.storage.base import Rescued
from commandjobs.storage.sql.change import Change
from commandjobs.storage.sql.dependents import conclude
from commandjobs.storage.sql.rows import document


@dataclass(frozen=True, slots=True)
class StartMark:
    """What `begin` had made of a row when the mark was asked for: the row itself goes on changing."""

    row: JobRow
    owner: int | None
    columns: Mapping[str, Any]

    @classmethod
    def of(cls, row: JobRow) -> "StartMark":
        """The mark of a row as it is now."""
        columns = {
            "id": row.id,
            "owner": row.owner,
            "state": row.state,
            "attempts": row.attempts,
            "callback_attempts": row.callback_attempts,
            "started": row.started,
            "last_activity": row.last_activity,
            "node": row.node,
            "suspect": row.suspect,
            "progress": row.progress,
            "status": row.status,
        }
        return cls(row, row.owner, columns)

    @property
    def is_wanted(self) -> bool:
        """Whether the job has not ended meanwhile: its settlement says it all."""
        return self.owner is not None and self.row.owner == self.owner


def reports(rows: Collection[ProgressRow]) -> str:
    """The newest report of each job."""
    newest = {row.job_id: row for row in rows}
    return document(
        {
            "id": row.job_id,
            "owner": row.owner,
            "progress": row.progress,
            "status": row.status,
            "at": row.at,
            "overrunning": row.overrunning,
        }
        for row in newest.values()
    )


async def release(change: Change, owners: Mapping[int, int | None]) -> None:
    """Hand back claims that were never started."""
    rows = await change.read(sorted(owners))
    found = await change.connection.rows(change.dialect.sql["begun_among"], ids=sorted(owners))
    begun = {id for (id,) in found}
    await _let_go(
        change,
        [row for row in rows if row.owner is not None and row.owner == owners[row.id] and row.id not in begun],
    )


async def rescue(change: Change, limit: int) -> Rescued:
    """Release what dead nodes have only claimed; return what they had started."""
    sql, connection = change.dialect.sql, change.connection
    if not await change.dialect.try_maintain(connection):  # another node is at it
        return Rescued([], 0)
    await connection.run(sql["bury"])
    found = {id: bool(begun) for id, begun in await connection.rows(sql["orphaned"], most=limit)}
    if not found:
        return Rescued([], 0)
    rows = await change.read(sorted(found))
    begun_now = await connection.rows(sql["begun_among"], ids=sorted(found))
    begun = {id for (id,) in begun_now}
    orphans = [row for row in rows if row.owner is not None]
    started = [row for row in orphans if row.id in begun]
    claimed = [row for row in orphans if row.id not in begun]
    for row in claimed:
        row.suspect = True
    await _let_go(change, claimed)
    return Rescued(started, len(claimed))


async def _let_go(change: Change, rows: Collection[JobRow]) -> None:
    """Owned rows wait again, unless somebody has asked for their cancellation."""
    for row in rows:
        change.contest(row)
        row.owner = None
        if heed_cancellation(row, now=change.now):
            change.end([row])
        else:
            change.let_go(row)
            change.place(row)
    await conclude(change)
