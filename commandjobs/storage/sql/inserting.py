"""New jobs, and requeued ones: what they wait for is decided, they get their ids, and they are written in bulk."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from commandjobs.errors import UnknownDependency
from commandjobs.model.job import JobError
from commandjobs.model.row import JobRow
from commandjobs.model.settle import ATTEMPT_FAILED, PARENT_FAILED, RELEASED_BY, attempt_is_lost, cancel_waiting
from commandjobs.model.state import FINAL, Hold, JobState
from commandjobs.storage.base import Inserted
from commandjobs.storage.sql.change import Change, Taking
from commandjobs.storage.sql.dependents import conclude
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Look, Taken
from commandjobs.storage.sql.rows import COMMON_COLUMNS, STATES, document

SIMPLE = frozenset({*COMMON_COLUMNS, "owner", "fresh", "rerun_after_crash", "hold", "parents_left"})
"""The columns of a row that waits for nothing but its claim: no parents, lane, date or key."""


@dataclass(slots=True)
class Insertion:
    """One call of `insert` or `reinsert`."""

    rows: Sequence[JobRow]
    now: int
    taking: Taking | None = None

    @property
    def is_simple(self) -> bool:
        """Whether nothing needs to be looked at for any of its rows."""
        return all(vars(row).keys() <= SIMPLE and row.fresh for row in self.rows)

    @property
    def goes_singly(self) -> bool:
        """Whether it has names that a stranger's open transaction may hold, so that nobody must wait beside it."""
        return any(row.unique_key is not None or not row.fresh or row.depends_on for row in self.rows)


class Parent(NamedTuple):
    """What a new job must know of one it depends on."""

    state: JobState
    attempts: int
    callback_attempts: int
    owner: int | None


Parents = dict[int, Parent]


@dataclass(slots=True)
class Names:
    """Ref ids and unique keys that are taken: in the database, and by the rows of this transaction."""

    refs: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    new_refs: dict[str, JobRow] = field(default_factory=dict)
    new_keys: dict[tuple[str, str], JobRow] = field(default_factory=dict)

    def conflict(self, row: JobRow) -> Inserted | JobRow | None:
        """The job that is in the row's way: one there is, or a new one before it; a row is not in its own."""
        if not row.fresh and self.refs.get(row.ref_id, row.id) != row.id:
            return Inserted(id=self.refs[row.ref_id], ref_id=row.ref_id, conflict="ref_id")
        if not row.fresh and row.ref_id in self.new_refs:
            return self.new_refs[row.ref_id]
        if row.unique_key is None:
            return None
        key = row.command, row.unique_key
        if key in self.keys:
            id, ref_id = self.keys[key]
            return Inserted(id=id, ref_id=ref_id, conflict="unique_key")
        return self.new_keys.get(key)

    def take(self, row: JobRow) -> None:
        """The row will be written."""
        if not row.fresh:
            self.new_refs[row.ref_id] = row
        if row.unique_key is not None and row.state not in FINAL:
            self.new_keys[row.command, row.unique_key] = row


async def insert(change: Change, call: Insertion) -> list[Inserted]:
    """Write new rows, with everything that follows. Raises `UnknownDependency` for parents that do not exist."""
    for row in call.rows:
        row.id, row.owner, row.hold = 0, None, None
    parents = await lock_parents(change, parents_of(call.rows))
    check_parents(call.rows, parents)
    names = await names_of(change.dialect, change.look, call.rows)
    written: list[JobRow] = []
    answers: list[Inserted | JobRow] = []
    for row in call.rows:
        conflict = names.conflict(row)
        answers.append(conflict or row)
        if conflict is None:
            _decide(change, row, parents)
            names.take(row)
            written.append(row)
    await _write(change, written, parents)
    await recheck(change, written)
    return answers_of(call.rows, answers)


async def stored_before(change: Change, call: Insertion) -> list[Inserted] | None:
    """The answer to a call that was made before and whose answer was lost; None: nothing of it is there.

    A fresh ref id is nobody else's. One that somebody chose may be: then command, request and time must be the same.
    """
    refs = {row.ref_id: row for row in call.rows}
    found = await change.connection.rows(change.dialect.sql["taken_refs"], refs=sorted(refs))
    stored = {row.ref_id: row for row in await change.read([id for _, id in found], lock=False)}
    if not any(row.fresh and row.ref_id in {ref for ref, _ in found} for row in call.rows):
        same = [row for row in call.rows if _is_same(row, stored.get(row.ref_id))]
        if len(same) < len(call.rows):
            return None
    ids = {ref: id for ref, id in found}  # noqa: C416  rows are sequences
    answers: list[Inserted] = []
    for row in call.rows:
        there = stored.get(row.ref_id)
        row.id = ids.get(row.ref_id, 0)
        row.owner = there.owner if there is not None and call.taking and there.owner == call.taking.owner else None
        row.hold = there.hold if there is not None else None
        answers.append(Inserted(row.id, row.ref_id, None, row.owner is not None))
    return answers


def _is_same(row: JobRow, there: JobRow | None) -> bool:
    return there is not None and (there.command, there.request_body, there.created) == (
        row.command,
        row.request_body,
        row.created,
    )


async def reinsert(change: Change, call: Insertion) -> list[Inserted | None]:
    """Write requeued jobs under their old ids, and take away the summaries of their last runs."""
    wanted = document({"id": row.id, "run": row.run - 1} for row in call.rows)
    found = await change.connection.rows(change.dialect.sql["lock_summaries"], rows=wanted)
    ended = {id for id, _ in found}
    names = await names_of(change.dialect, change.look, [row for row in call.rows if row.id in ended])
    back: dict[int, JobRow] = {}
    answers: list[Inserted | JobRow | None] = []
    for row in call.rows:
        row.owner = None
        conflict = names.conflict(row) if row.id in ended and row.id not in back else None
        if row.id not in ended or row.id in back:
            answers.append(None)
        elif conflict is not None:
            answers.append(conflict)
        else:
            names.take(row)
            back[row.id] = row
            answers.append(row)
    if back:
        await _take_back(change, back)
    return [None if answer is None else _inserted(row, answer) for row, answer in zip(call.rows, answers, strict=True)]


async def _take_back(change: Change, back: dict[int, JobRow]) -> None:
    """Rows of one call may be each other's parents: those count as unfinished, whatever their order."""
    sql, connection = change.dialect.sql, change.connection
    rows = list(back.values())
    await connection.run(sql["delete_summaries"], ids=sorted(back))
    edges = [{"parent_id": parent, "child_id": row.id} for row in rows for parent in set(row.depends_on)]
    if edges:
        await connection.run(sql["forget_dependencies"], rows=document(edges))
    parents = await lock_parents(change, parents_of(row for row in rows if not row.work_done))
    for id in back.keys() & {id for row in rows for id in row.depends_on}:
        parents[id] = Parent(back[id].state, 0, 0, None)
    for row in rows:
        _decide(change, row, {} if row.work_done else parents)
    await _write(change, rows, parents)


def answers_of(rows: Iterable[JobRow], answers: Iterable[Inserted | JobRow]) -> list[Inserted]:
    """What became of rows. An answer that is a row says: this one was written, or was in the way."""
    return [_inserted(row, answer) for row, answer in zip(rows, answers, strict=True)]


def _inserted(row: JobRow, answer: Inserted | JobRow) -> Inserted:
    if isinstance(answer, Inserted):
        return answer
    if answer is row:
        return Inserted(row.id, row.ref_id, None, row.owner is not None)
    return Inserted(answer.id, answer.ref_id, "ref_id" if answer.ref_id == row.ref_id else "unique_key")


# ── what is there ───────────────────────────────────────────────────────────────────────────────────────────────────


async def lock_parents(change: Change, wanted: Iterable[int]) -> Parents:
    """Jobs that others depend on. Those that live stay until this transaction has ended, and know of it."""
    ids = sorted(set(wanted))
    if not ids:
        return {}
    sql, connection = change.dialect.sql, change.connection
    await connection.run(sql["note_dependents"], ids=ids)
    found = list(await connection.rows(sql["lock_parents"], ids=ids))
    ended = sorted(set(ids) - {columns[0] for columns in found})
    if ended:  # looked for after the lock: one that ended while it was waited for is there by now
        found += await connection.rows(sql["finished_parents"], ids=ended)
    return {id: Parent(STATES[state], attempts, callbacks, owner) for id, state, attempts, callbacks, owner in found}


def check_parents(rows: Iterable[JobRow], known: Collection[int]) -> None:
    """Raise `UnknownDependency` for parents that do not exist."""
    missing = parents_of(rows) - set(known)
    if missing:
        raise UnknownDependency.of(missing)


def parents_of(rows: Iterable[JobRow]) -> set[int]:
    """The jobs that rows depend on."""
    return {id for row in rows for id in row.depends_on}


async def names_of(dialect: Dialect, look: Look, rows: Collection[JobRow]) -> Names:
    """Which of the names that rows want are taken, as far as `look` sees."""
    names = Names()
    refs = sorted({row.ref_id for row in rows if not row.fresh})
    keys = sorted({(row.command, row.unique_key) for row in rows if row.unique_key is not None})
    if refs:
        names.refs = {ref: id for ref, id in await look("taken_refs", refs=refs)}  # noqa: C416  the same
    if keys:
        found = await dialect.key_holders(look, keys)
        names.keys = {(command, key): (id, ref) for command, key, id, ref in found}
    return names


async def recheck(change: Change, rows: Collection[JobRow]) -> None:
    """A ref id that somebody chose may have been taken, and its job have ended, between the look and the insert."""
    refs = sorted(row.ref_id for row in rows if not row.fresh)
    if refs:
        found = await change.connection.rows(change.dialect.sql["finished_refs"], refs=refs)
        if {ref for (ref,) in found} - {row.ref_id for row in change.ended}:
            raise Taken("its ref id is taken")


# ── what becomes of a row ───────────────────────────────────────────────────────────────────────────────────────────


def _decide(change: Change, row: JobRow, parents: Parents) -> None:
    """What a row waits for, or that it is over at once."""
    if row.depends_on:
        if row.parent_id is None:
            row.parent_id = row.depends_on[0]
        fate = fate_of(row, parents)
        if fate is not None:
            cancel_waiting(row, fate, now=change.now)
            return
        row.parents_left = sum(parents[id].state not in FINAL for id in set(row.depends_on) if id in parents)
        if row.parents_left:
            row.hold = Hold.PARENTS
            return
    change.let_go_new(row)


def fate_of(row: JobRow, parents: Parents) -> JobError | None:
    """Why a new row is over: its attempt is, or a parent has not succeeded."""
    bound_to = None if row.bound_attempt is None else parents.get(row.depends_on[0])
    if bound_to is not None and attempt_is_lost(row.bound_attempt or 0, **bound_to._asdict()):
        return ATTEMPT_FAILED
    return PARENT_FAILED if _refusing(row, parents) else None


def _refusing(row: JobRow, parents: Parents) -> list[int]:
    """The parents whose end does not let the row go on."""
    return [
        id
        for id in sorted(set(row.depends_on) & parents.keys())
        if (state := parents[id].state) in FINAL and row.depends_on_policy not in RELEASED_BY[state]
    ]


async def _write(change: Change, rows: Sequence[JobRow], parents: Parents) -> None:
    """Insert rows that have their places, with what belongs to them and follows from them."""
    if not rows:
        return
    over = [row for row in rows if row.state in FINAL]
    for row, id in zip(rows, await change.dialect.insert(change.connection, rows, token=change.token), strict=True):
        row.id = id
        change.rows[id] = row
        change.own.add(id)
    edges = [edge for row in rows for edge in edges_of(row, parents)]
    if edges:
        await change.connection.run(change.dialect.sql["depend"], rows=document(edges))
    for row in rows:
        if row.hold is Hold.LANE:
            change.line_up(row)
    change.end(over)
    await conclude(change)


def edges_of(row: JobRow, parents: Parents) -> list[dict[str, object]]:
    """To every parent the row waits for; if one has ended it, to that one only."""
    if row.state not in FINAL:
        unfinished = [id for id in dict.fromkeys(row.depends_on) if id in parents and parents[id].state not in FINAL]
        return [_edge(id, row, row.bound_attempt if id == row.depends_on[0] else None) for id in unfinished]
    if row.error_code == PARENT_FAILED.code:
        return [_edge(id, row, None) for id in _refusing(row, parents)[:1]]
    return []


def _edge(parent: int, row: JobRow, bound_attempt: int | None) -> dict[str, object]:
    return {
        "parent_id": parent,
        "child_id": row.id,
        "bound_attempt": bound_attempt,
        "cancelled": row.state in FINAL,
    }
