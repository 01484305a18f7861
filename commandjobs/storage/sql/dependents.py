"""What the end of jobs, or of attempts, means for the jobs that wait for them."""

from collections.abc import Collection, Sequence

from commandjobs.model.settle import ATTEMPT_FAILED, PARENT_FAILED, RELEASED_BY
from commandjobs.model.state import JobState
from commandjobs.storage.sql.change import Change, is_waiting, turn
from commandjobs.storage.sql.dialect import edges
from commandjobs.storage.sql.lanes import elect
from commandjobs.storage.sql.rows import document

Edge = tuple[int, int]
"""Parent and child."""


async def conclude(change: Change) -> None:
    """Do what follows from a change: its dependents, then its lanes; and write it."""
    if change.finished:
        await follow(change)
    await change.write()
    if change.lanes:
        await elect(change)
    change.claimed.sort(key=turn)


async def follow(change: Change) -> None:
    """Release or cancel the dependents of finished jobs, and the dependents of those that are cancelled by it, level
    by level.

    What does not fit into one transaction is left to `sweep` by markers that are written in this one.
    """
    while change.finished:
        parents, change.finished = change.finished, {}
        told = await _children(change, parents)
        if told:
            await _tell(change, parents, told)


async def cancel_bound(change: Change, attempts: Collection[tuple[int, int]]) -> None:
    """Cancel the jobs that belong to failed attempts, given as (job, number)."""
    if not attempts:
        return
    lost = document({"parent_id": parent, "attempt": number} for parent, number in attempts)
    found = await change.connection.rows(change.dialect.sql["bound_children"], rows=lost)
    bound = [(parent, child) for parent, child in found]
    if not bound:
        return
    rows = {row.id: row for row in await change.read(sorted({child for _, child in bound})) if is_waiting(row)}
    told = [(parent, child) for parent, child in bound if child in rows]
    if told:
        await change.connection.run(change.dialect.sql["forget_dependencies"], rows=edges(told))
    change.cancel(rows.values(), ATTEMPT_FAILED)


async def _children(change: Change, parents: dict[int, JobState]) -> list[Edge]:
    """Who is to be told now. One more than may be is looked for, to see whether there are more."""
    sql, connection = change.dialect.sql, change.connection
    found = await connection.rows(sql["children"], ids=sorted(parents), most=change.budget + 1)
    told = [(parent, child) for parent, child in found]
    if len(told) > change.budget:
        first_left, told = told[change.budget][0], told[: change.budget]
        left = [{"parent_id": id, "state": state.value} for id, state in parents.items() if id >= first_left]
        await connection.run(sql["follow_later"], rows=document(left))
        change.unswept = True
    change.budget -= len(told)
    return told


async def _tell(change: Change, parents: dict[int, JobState], told: Sequence[Edge]) -> None:
    rows = {row.id: row for row in await change.read(sorted({child for _, child in told}))}
    kept: list[Edge] = []
    for parent, child in told:
        row = rows.get(child)
        if row is None or not is_waiting(row):
            continue
        if row.depends_on_policy not in RELEASED_BY[parents[parent]]:
            kept.append((parent, child))
            change.cancel([row], PARENT_FAILED)
            continue
        row.parents_left -= 1
        if not row.parents_left:
            change.let_go(row)
        change.place(row)
    forgotten = set(told) - set(kept)
    if forgotten:
        await change.connection.run(change.dialect.sql["forget_dependencies"], rows=edges(sorted(forgotten)))
    if kept:
        await change.connection.run(change.dialect.sql["keep_cancelled"], rows=edges(kept))
