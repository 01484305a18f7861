"""New jobs, and requeued ones: what they wait for is decided, they get their ids, and they are written in bulk."""

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from commandjobs.errors import UnknownDependency
from commandjobs.model.job import JobError
from commandjobs.model.row import JobRow
from commandjobs.model.settle import ATTEMPT_FAILED, PARENT_FAILED, RELEASED_BY, attempt_is_lost, cancel_waiting
from commandjobs.model.state import FINAL, Hold, JobState
from commandjobs.storage.base import Inserted
from commandjobs.storage.sqlite.change import SQL, Change, Effect, Taking, claimable_as
from commandjobs.storage.sqlite.dependents import conclude
from commandjobs.storage.sqlite.inserts import JOBS, MOST_ROWS, Used
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import COMMON_COLUMNS, STATES, ids_json, to_json

FEW = 4
"""Up to so many ref ids are looked up one by one (2 us each): making a list for SQLite takes 8 us."""
COMMON = frozenset(COMMON_COLUMNS)
SIMPLE = COMMON | {"owner", "fresh", "rerun_after_crash"}
"""The columns of a row that waits for nothing but its claim: no parents, lane, date or key."""


@dataclass(slots=True)
class Insertion:
    """One call of `insert` or `reinsert`."""

    rows: Sequence[JobRow]
    now: int
    taking: Taking | None = None


@dataclass(slots=True)
class Accepted:
    """One call whose rows are written: an answer per row, and the change that it is."""

    inserted: list[Inserted | None] = field(default_factory=list)
    change: Change | None = None
    """What rows bring about that are not simple."""


class Parent(NamedTuple):
    """What a new job must know of one it depends on."""

    state: JobState
    attempts: int
    callback_attempts: int
    owner: int | None


Parents = dict[int, Parent]


class Names:
    """Ref ids and unique keys that are taken: in the file, and by the rows of this transaction.

    Only ref ids that somebody chose are looked up; should one that was made here ever be taken, the index refuses it.
    """

    def __init__(self, connection: sqlite3.Connection, rows: Iterable[JobRow]) -> None:
        self._connection = connection
        refs = [row.ref_id for row in rows if not row.fresh]
        if len(refs) <= FEW:
            found = [taken for ref in refs for taken in connection.execute(SQL["taken_ref"], {"ref": ref})]
        else:
            found = connection.execute(SQL["taken_refs"], {"refs": to_json(refs)}).fetchall()
        self._refs: dict[str, int] = dict(found)
        self._keys: dict[tuple[str, str], tuple[int, str]] = {}

    def conflict(self, row: JobRow) -> Inserted | None:
        """The job that is in the row's way (a row that comes back is not in its own)."""
        if not row.fresh and self._refs.get(row.ref_id, row.id) != row.id:
            return Inserted(id=self._refs[row.ref_id], ref_id=row.ref_id, conflict="ref_id")
        return None if row.unique_key is None else self._key_conflict(row, row.unique_key)

    def take(self, row: JobRow) -> None:
        """The row will be written."""
        if not row.fresh:
            self._refs[row.ref_id] = row.id
        if row.unique_key is not None and row.state not in FINAL:
            self._keys[row.command, row.unique_key] = row.id, row.ref_id

    def _key_conflict(self, row: JobRow, key: str) -> Inserted | None:
        holder = self._keys.get((row.command, key))
        holder = holder or self._connection.execute(SQL["key_holder_of"], (row.command, key)).fetchone()
        return None if holder is None else Inserted(id=holder[0], ref_id=holder[1], conflict="unique_key")


def insert(connection: sqlite3.Connection, calls: Sequence[Insertion]) -> list[Any]:
    """Write the jobs of many callers. One whose parents are unknown gets the error, and nothing of his is written."""
    next_id = itertools.count(connection.execute(SQL["last_id"]).fetchone()[0] + 1)
    simple: list[JobRow] = []
    answers: list[Any] = []
    others: list[Insertion] = []
    for call in calls:
        if all(map(is_simple, call.rows)):
            answers.append([_take_in(row, next(next_id), call.taking, simple) for row in call.rows])
        else:
            answers.append(None)
            others.append(call)
    if others:
        decided = iter(_decide_all(connection, others, next_id, simple))
        answers = [next(decided) if answer is None else answer for answer in answers]
    JOBS.insert(connection, simple, _simple_head)
    return answers


def insert_at_once(connection: sqlite3.Connection, calls: Sequence[Insertion]) -> list[Any] | None:
    """Write simple rows by one statement, which gives them their ids."""
    if sum(len(call.rows) for call in calls) > MOST_ROWS:
        return None
    rows: list[JobRow] = []
    for call in calls:
        for row in call.rows:
            if not is_simple(row):
                return None
            row.id, row.owner = 0, _owner_of(row, call.taking)
            rows.append(row)
    last = JOBS.insert_at_once(connection, rows, _simple_head) if rows else None
    if last is None:
        return None
    next_id = itertools.count(last - len(rows) + 1)
    return [[_named(row, next(next_id)) for row in call.rows] for call in calls]


def is_simple(row: JobRow) -> bool:
    """Whether it waits for nothing but its claim, under a ref id that nobody else has."""
    return row.fresh and vars(row).keys() <= SIMPLE


def insert_simple(connection: sqlite3.Connection, rows: Sequence[JobRow]) -> list[Inserted]:
    """Write simple rows whose owners are set."""
    last_id: int = connection.execute(SQL["last_id"]).fetchone()[0]
    inserted = [_named(row, id) for id, row in enumerate(rows, last_id + 1)]
    JOBS.insert(connection, rows, _simple_head)
    return inserted


def insert_simple_at_once(connection: sqlite3.Connection, rows: Sequence[JobRow]) -> list[Inserted] | None:
    """The same by one statement, which gives them their ids; None: that cannot be done."""
    if len(rows) > MOST_ROWS:
        return None
    for row in rows:
        row.id = 0
    last = JOBS.insert_at_once(connection, rows, _simple_head)
    return None if last is None else [_named(row, id) for id, row in enumerate(rows, last - len(rows) + 1)]


def _named(row: JobRow, id: int) -> Inserted:
    row.id = id
    return Inserted(id, row.ref_id, None, row.owner is not None)


def _take_in(row: JobRow, id: int, taking: Taking | None, simple: list[JobRow]) -> Inserted:
    """What `_decide` comes to for a simple row: most are such, and this is three times as fast."""
    row.owner = _owner_of(row, taking)
    simple.append(row)
    return _named(row, id)


def _owner_of(row: JobRow, taking: Taking | None) -> int | None:
    """Who owns a row that waits for nothing."""
    return taking.owner if taking is not None and taking.claim.fits(row) else None


def _decide_all(
    connection: sqlite3.Connection, calls: Sequence[Insertion], next_id: Iterator[int], simple: list[JobRow]
) -> list[Effect | UnknownDependency]:
    """Calls with rows that need a look at what is there."""
    rows = [row for call in calls for row in call.rows]
    parents = _read_parents(connection, rows)
    names = Names(connection, rows)
    nobody_depends = not any(row.depends_on for row in rows)
    answers = [
        (None if nobody_depends else _missing(call.rows, parents))
        or _accept(connection, call, names, parents, next_id, simple)
        for call in calls
    ]
    accepted = [answer for answer in answers if isinstance(answer, Accepted)]
    write_jobs(connection, [row for answer in accepted if answer.change for row in answer.change.own.values()], parents)
    return [_finish(answer) if isinstance(answer, Accepted) else answer for answer in answers]


def _accept(
    connection: sqlite3.Connection,
    call: Insertion,
    names: "Names",
    parents: Parents,
    next_id: Iterator[int],
    simple: list[JobRow],
) -> "Accepted":
    accepted = Accepted()
    for row in call.rows:
        row.id, row.owner = 0, None
        inserted = names.conflict(row)
        if inserted is None:
            if vars(row).keys() <= SIMPLE:
                inserted = _take_in(row, next(next_id), call.taking, simple)
            else:
                row.id = next(next_id)
                if accepted.change is None:
                    accepted.change = Change(connection, call.now, call.taking, only_own=True)
                _decide(accepted.change, row, parents)
                inserted = Inserted(row.id, row.ref_id, None, row.owner is not None)
            names.take(row)
        accepted.inserted.append(inserted)
    return accepted


def reinsert(connection: sqlite3.Connection, calls: Sequence[Insertion]) -> list[Effect]:
    """Write requeued jobs under their old ids, and take away the summaries of their last runs."""
    return [_reinsert(connection, call) for call in calls]


def _reinsert(connection: sqlite3.Connection, call: Insertion) -> Effect:
    change = Change(connection, call.now, call.taking, only_own=True)
    names = Names(connection, call.rows)
    inserted = [_take_back(connection, row, names) for row in call.rows]
    back = [row for row, answer in zip(call.rows, inserted, strict=True) if answer is not None and not answer.conflict]
    _replace(change, back)
    return _finish(Accepted(inserted, change=change))


def _take_back(connection: sqlite3.Connection, row: JobRow, names: "Names") -> Inserted | None:
    """Take the summary of the run before away, unless another job has taken over what the row needs."""
    if connection.execute(SQL["summary_of_run"], (row.id, row.run - 1)).fetchone() is None:
        return None
    if (conflict := names.conflict(row)) is not None:
        return conflict
    connection.execute(SQL["delete_summary"], (row.id,))
    connection.executemany(SQL["forget_dependency"], [(parent, row.id) for parent in set(row.depends_on)])
    names.take(row)
    return Inserted(id=row.id, ref_id=row.ref_id)


def _replace(change: Change, rows: Sequence[JobRow]) -> None:
    """Rows of one call may be each other's parents: those count as unfinished, whatever their order."""
    parents = _read_parents(change.connection, [row for row in rows if not row.work_done])
    back = {row.id: row for row in rows}
    for id in parents.keys() & back.keys():
        parents[id] = Parent(back[id].state, 0, 0, None)
    for id in back.keys() & {id for row in rows for id in row.depends_on}:
        parents[id] = Parent(back[id].state, 0, 0, None)
    for row in rows:
        row.owner = None
        _decide(change, row, {} if row.work_done else parents)
    write_jobs(change.connection, rows, parents)


def write_jobs(connection: sqlite3.Connection, rows: Sequence[JobRow], parents: Parents) -> None:
    """Insert rows that have their ids and places, with what belongs to them."""
    JOBS.insert(connection, rows, job_head)
    rare = [row for row in rows if row.unique_key is not None or row.depends_on or row.state in FINAL]
    if rare:
        _write_rare(connection, rare, parents)


def job_head(row: JobRow, used: Used) -> tuple[object, ...]:
    claim_queue, claim_command = claimable_as(row)
    common = not used or (COMMON.issuperset(used) and _is_exact_in_json(row.timeout))
    return (
        row.id or None, row.ref_id, row.command, row.created, row.request, row.request_body, row.owner, claim_queue,
        claim_command, common,
    )  # fmt: skip


def _simple_head(row: JobRow, used: Used) -> tuple[object, ...]:
    """The same of a simple row, in half the time."""
    owner, command = row.owner, row.command
    claim_queue, claim_command = (row.queue, command) if owner is None else (None, None)
    common = not used or (COMMON.issuperset(used) and _is_exact_in_json(row.timeout))
    return (
        row.id or None, row.ref_id, command, row.created, row.request, row.request_body, owner, claim_queue,
        claim_command, common,
    )  # fmt: skip


def _is_exact_in_json(timeout: float | None) -> bool:
    """SQLite writes 15 digits of a float into JSON, and common rows are claimed as JSON."""
    return timeout is None or float(f"{timeout:.15g}") == timeout


def _write_rare(connection: sqlite3.Connection, rows: Sequence[JobRow], parents: Parents) -> None:
    over = [row.id for row in rows if row.state in FINAL]
    keyed = [row.id for row in rows if row.unique_key is not None and row.state not in FINAL]
    if keyed:
        connection.execute(SQL["hold_keys"], (ids_json(keyed),))
    if over:
        connection.execute(SQL["mark_ended"], (ids_json(over),))
    edges = [edge for row in rows for edge in _edges(row, parents)]
    connection.executemany(SQL["depend"], edges)


def _edges(row: JobRow, parents: Parents) -> list[tuple[int, int, int | None, int | None]]:
    """To every parent the row waits for; if one has ended it, to that one only."""
    if row.state not in FINAL:
        unfinished = [id for id in dict.fromkeys(row.depends_on) if id in parents and parents[id].state not in FINAL]
        return [(id, row.id, row.bound_attempt if id == row.depends_on[0] else None, None) for id in unfinished]
    if row.error_code == PARENT_FAILED.code:
        return [(id, row.id, None, 1) for id in _refusing(row, parents)[:1]]
    return []


def _decide(change: Change, row: JobRow, parents: Parents) -> None:
    """What a row waits for, or that it is over at once."""
    change.own[row.id] = row
    if row.depends_on:
        if row.parent_id is None:
            row.parent_id = row.depends_on[0]
        fate = _fate(row, parents)
        if fate is not None:
            _end_at_once(change, row, fate)
            return
        row.parents_left = sum(parents[id].state not in FINAL for id in set(row.depends_on) if id in parents)
        if row.parents_left:
            row.hold = Hold.PARENTS
            return
    change.let_go(row)


def _fate(row: JobRow, parents: Parents) -> JobError | None:
    """Why a new row is over: its attempt is, or a parent has not succeeded."""
    if row.bound_attempt is not None and attempt_is_lost(row.bound_attempt, **parents[row.depends_on[0]]._asdict()):
        return ATTEMPT_FAILED
    return PARENT_FAILED if _refusing(row, parents) else None


def _refusing(row: JobRow, parents: Parents) -> list[int]:
    """The parents whose end does not let the row go on."""
    return [
        id
        for id in sorted(set(row.depends_on) & parents.keys())
        if (state := parents[id].state) in FINAL and row.depends_on_policy not in RELEASED_BY[state]
    ]


def _end_at_once(change: Change, row: JobRow, error: JobError) -> None:
    cancel_waiting(row, error, now=change.now)
    change.ended.append(copy(row))  # it is moved later, while the caller may do with his row what he likes
    change.finished.append((row.id, row.state))


def _finish(accepted: "Accepted") -> Effect:
    change = accepted.change
    if change is None:
        return Effect(accepted.inserted)
    if change.lanes or change.finished:
        conclude(change)
    taken = {row.id for row in change.claimed}
    for inserted in accepted.inserted:
        if inserted is not None and inserted.conflict is None:
            inserted.claimed = inserted.claimed or inserted.id in taken
    return change.effect(accepted.inserted)


def _missing(rows: Iterable[JobRow], parents: Parents) -> UnknownDependency | None:
    """The error for parents that do not exist; None if all do."""
    ids = {id for row in rows if row.depends_on for id in row.depends_on if id not in parents}
    return UnknownDependency.of(ids) if ids else None


def _read_parents(connection: sqlite3.Connection, rows: Iterable[JobRow]) -> Parents:
    ids = {id for row in rows if row.depends_on for id in row.depends_on}
    if not ids:
        return {}
    found = connection.execute(SQL["read_parents"], {"ids": ids_json(ids)})
    return {id: Parent(STATES[state], attempts, callbacks, owner) for id, state, attempts, callbacks, owner in found}


INSERT = Kind("insert", insert, 0, rings=True, at_once=insert_at_once)
REINSERT = Kind("reinsert", reinsert, 0)
