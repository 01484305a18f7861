"""What the end of a job, or of an attempt, means for the jobs that wait for it."""

from collections.abc import Iterable, Sequence

from commandjobs.model.row import JobRow
from commandjobs.model.settle import ATTEMPT_FAILED, PARENT_FAILED, RELEASED_BY
from commandjobs.model.state import FINAL, JobState
from commandjobs.storage.sqlite.change import SQL, Change, place, read_jobs, turn
from commandjobs.storage.sqlite.lanes import elect


def conclude(change: Change) -> None:
    """Do what follows from a change: its dependents, then its lanes."""
    if change.finished:
        follow(change)
    if change.lanes:
        elect(change)
    change.claimed.sort(key=turn)


def follow(change: Change) -> None:
    """Release or cancel the dependents of finished jobs, and the dependents of those that are cancelled by it.

    What does not fit into one transaction is left to `sweep` by a marker that is written in this one.
    """
    while change.finished:
        parent_id, state = change.finished.popleft()
        children = _children(change, parent_id)
        if len(children) > change.budget:
            change.connection.execute(SQL["follow_later"], (parent_id, state.value))
            change.unswept = True
            children = children[: change.budget]
        change.budget -= len(children)
        if children:
            _tell(change, parent_id, state, children)


def cancel_bound(change: Change, attempts: Iterable[tuple[int, int]]) -> None:
    """Cancel the jobs that belong to failed attempts, given as (job, number)."""
    for parent_id, number in attempts:
        bound = change.connection.execute(SQL["bound_children"], (parent_id, number)).fetchall()
        if bound:
            rows = _waiting(read_jobs(change.connection, [child_id for (child_id,) in bound]))
            change.connection.executemany(SQL["forget_dependency"], [(parent_id, row.id) for row in rows])
            change.cancel(rows, ATTEMPT_FAILED)


def _children(change: Change, parent_id: int) -> list[int]:
    """One more than may be followed now, to see whether there are more."""
    found = change.connection.execute(SQL["children"], (parent_id, change.budget + 1))
    return [child_id for (child_id,) in found]


def _tell(change: Change, parent_id: int, state: JobState, children: Sequence[int]) -> None:
    waiting = _waiting(read_jobs(change.connection, children))
    released = [row for row in waiting if row.depends_on_policy in RELEASED_BY[state]]
    cancelled = [row for row in waiting if row.depends_on_policy not in RELEASED_BY[state]]
    kept = {row.id for row in cancelled}
    forgotten = [(parent_id, child_id) for child_id in children if child_id not in kept]
    change.connection.executemany(SQL["forget_dependency"], forgotten)
    change.connection.executemany(SQL["keep_cancelled"], [(parent_id, child_id) for child_id in kept])
    _release(change, released)
    change.cancel(cancelled, PARENT_FAILED)


def _release(change: Change, rows: Sequence[JobRow]) -> None:
    """One parent less for each; the last one lets a job go on."""
    for row in rows:
        row.parents_left -= 1
        if not row.parents_left:
            change.let_go(row)
    place(change.connection, rows)


def _waiting(rows: Sequence[JobRow]) -> list[JobRow]:
    return [row for row in rows if row.state not in FINAL and row.owner is None]
