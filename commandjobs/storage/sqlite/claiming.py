"""Owning jobs: claims, start marks, and what becomes of claims that were never started."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from commandjobs.model.row import JobRow, ProgressRow
from commandjobs.model.settle import heed_cancellation
from commandjobs.storage.base import Claim, Rescued
from commandjobs.storage.sqlite.change import SQL, Change, Effect, place, read_jobs
from commandjobs.storage.sqlite.dependents import conclude
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import ids_json

Candidate = tuple[int, int, JobRow | None]
"""Its place (the priority, highest first), its id, and the whole row if that is a common one."""


@dataclass(frozen=True, slots=True)
class Claiming:
    """One call of `claim`."""

    room: Mapping[str, int]
    other: int
    claim: Claim
    owner: int
    now: int


@dataclass(frozen=True, slots=True)
class StartMark:
    """What `begin` had made of a row when the mark was asked for: the row itself goes on changing."""

    row: JobRow
    owner: int | None
    values: tuple[Any, ...]

    @classmethod
    def of(cls, row: JobRow) -> "StartMark":
        """The mark of a row as it is now."""
        values = (
            str(row.state), row.attempts, row.callback_attempts, row.started, row.last_activity, row.node, row.suspect,
            row.progress, row.status, row.id, row.owner,
        )  # fmt: skip
        return cls(row, row.owner, values)


@dataclass(frozen=True, slots=True)
class Releasing:
    """One call of `release`: which jobs, and who owns them."""

    owners: Mapping[int, int | None]
    now: int


@dataclass(frozen=True, slots=True)
class Rescuing:
    """One call of `rescue`; everybody else than `owner` is dead."""

    owner: int
    now: int
    limit: int


def claim(connection: sqlite3.Connection, calls: Sequence[Claiming]) -> list[list[JobRow]]:
    """Own the best claimable jobs."""
    return [_claim(connection, call) for call in calls]


def _claim(connection: sqlite3.Connection, call: Claiming) -> list[JobRow]:
    kinds: dict[str, list[str]] = {}
    for queue, command in claimable_kinds(connection):
        if command in call.claim.commands and call.claim.serves(queue):
            kinds.setdefault(queue, []).append(command)
    chosen: list[Candidate] = []
    for queue, commands in kinds.items():
        chosen += _best(connection, call, queue, commands)
    if not chosen:
        return []
    ids = ids_json([id for _, id, _ in chosen])
    connection.execute(SQL["own"], {"owner": call.owner, "ids": ids})
    return _read(connection, chosen, call.owner)


def claimable_kinds(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Which (queue, command) have claimable jobs."""
    queue = command = ""
    while found := connection.execute(SQL["next_claimable_kind"], {"queue": queue, "command": command}).fetchone():
        queue, command = found
        yield queue, command


def _best(connection: sqlite3.Connection, call: Claiming, queue: str, commands: Sequence[str]) -> Iterable[Candidate]:
    """The best of a queue: its commands are walked side by side, each little further than it is chosen from."""
    most = call.room.get(queue, call.other)
    if len(commands) == 1:
        return _page(connection, call, queue, commands[0], most=most) if most else ()
    page = most // len(commands) + 1
    return islice(merge(*(_walk(connection, call, queue, command, page) for command in commands)), most)


def _walk(connection: sqlite3.Connection, call: Claiming, queue: str, command: str, most: int) -> Iterator[Candidate]:
    """The claimable jobs of one queue and command in their order, page by page."""
    offset = 0
    while page := _page(connection, call, queue, command, most=most, offset=offset):
        yield from page
        if len(page) < most:
            return
        offset += most


def _page(
    connection: sqlite3.Connection, call: Claiming, queue: str, command: str, *, most: int, offset: int = 0
) -> list[Candidate]:
    """(Rows are made here, from columns: a row a list, as JSON or of the driver, takes 1.5 us more of a job's 25.)"""
    wanted = {"queue": queue, "command": command, "now": call.now, "most": most, "offset": offset}
    columns = map(json.loads, connection.execute(SQL["claimable"], wanted).fetchone())
    owner = call.owner
    return [
        (-priority, id, JobRow.of({
            "id": id, "ref_id": ref_id, "command": command, "created": created, "request": request,
            "request_body": request_body, "queue": queue, "priority": priority, "retry_limit": retry_limit,
            "timeout": timeout, "owner": owner,
        }) if common else None)
        for id, ref_id, created, request, request_body, priority, retry_limit, timeout, common in zip(
            *columns, strict=True
        )
    ]  # fmt: skip


def _read(connection: sqlite3.Connection, chosen: Sequence[Candidate], owner: int) -> list[JobRow]:
    """The rows in the order chosen. Common ones are complete already, which halves the cost of a claim."""
    incomplete = [id for _, id, row in chosen if row is None]
    rare = {row.id: row for row in read_jobs(connection, incomplete)} if incomplete else {}
    for row in rare.values():
        row.owner = owner
    return [rare[id] if row is None else row for _, id, row in chosen]


def mark_started(connection: sqlite3.Connection, calls: Sequence[Sequence[StartMark]]) -> list[list[bool]]:
    """Write start marks, except of jobs that have ended by now: their settlement says it all."""
    return [[_mark(connection, mark) for mark in marks] for marks in calls]


def _mark(connection: sqlite3.Connection, mark: StartMark) -> bool:
    if mark.owner is None or mark.row.owner != mark.owner:
        return False
    return connection.execute(SQL["mark_started"], mark.values).rowcount == 1


def report(connection: sqlite3.Connection, calls: Sequence[Sequence[ProgressRow]]) -> list[None]:
    """Keep the newest progress of jobs."""
    connection.executemany(
        SQL["report"],
        [(row.progress, row.status, row.at, row.overrunning, row.job_id, row.owner) for rows in calls for row in rows],
    )
    return [None] * len(calls)


def release(connection: sqlite3.Connection, calls: Sequence[Releasing]) -> list[Effect]:
    """Hand back claims that were never started."""
    return [_release(connection, call) for call in calls]


def _release(connection: sqlite3.Connection, call: Releasing) -> Effect:
    change = Change(connection, call.now)
    begun = {id for (id,) in connection.execute(SQL["begun_among"], (ids_json(list(call.owners)),))}
    rows = [
        row
        for row in read_jobs(connection, list(call.owners))
        if row.owner is not None and row.owner == call.owners[row.id] and row.id not in begun
    ]
    _let_go(change, rows)
    return change.effect(None)


def rescue(connection: sqlite3.Connection, calls: Sequence[Rescuing]) -> list[Effect]:
    """Release what the dead have only claimed; return what they had started."""
    return [_rescue(connection, call) for call in calls]


def _rescue(connection: sqlite3.Connection, call: Rescuing) -> Effect:
    change = Change(connection, call.now)
    orphaned = connection.execute(SQL["orphaned"], {"owner": call.owner, "most": call.limit}).fetchall()
    free = [id for id, begun, free in orphaned if free and not begun]
    if free:
        connection.execute(SQL["release_free"], (ids_json(free),))
        change.ready = True
    claimed = read_jobs(connection, [id for id, begun, free in orphaned if not (free or begun)])
    for row in claimed:
        row.suspect = True
    _let_go(change, claimed)
    started = read_jobs(connection, [id for id, begun, _ in orphaned if begun])
    return change.effect(Rescued(started, len(free) + len(claimed)))


def _let_go(change: Change, rows: Sequence[JobRow]) -> None:
    """Owned rows wait again, unless somebody has asked for their cancellation."""
    over: list[JobRow] = []
    for row in rows:
        change.contest(row)
        row.owner = None
        if heed_cancellation(row, now=change.now):
            over.append(row)
        else:
            change.let_go(row)
    place(change.connection, [row for row in rows if not row.state.is_final])
    change.end(over)
    conclude(change)


MARK_STARTED = Kind("mark started", mark_started, 1)
REPORT = Kind("report", report, 2)
CLAIM = Kind("claim", claim, 4)
RELEASE = Kind("release", release, 4, flushed=True)
RESCUE = Kind("rescue", rescue, 4, flushed=True)
