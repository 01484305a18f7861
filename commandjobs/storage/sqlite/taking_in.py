"""Jobs that come from another storage, stored as they are: first into their months, then into the queue file.

A process that dies in between leaves rows in a month that the queue file does not know, and the piece comes again.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.carried import Carried, holds_key
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import Copying, in_the_way
from commandjobs.storage.sqlite.archive import SQL as ARCHIVE_SQL
from commandjobs.storage.sqlite.archive import Archiver, storable
from commandjobs.storage.sqlite.change import SQL
from commandjobs.storage.sqlite.inserting import job_head
from commandjobs.storage.sqlite.inserts import JOBS, archive_key, insert_moved, insert_summaries
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import ids_json, to_copying, to_json
from commandjobs.storage.sqlite.tallies import replace_tallies
from commandjobs.storage.sqlite.writer import Writer

LAST_RUN = (1 << 16) - 1


@dataclass(slots=True)
class Piece:
    """One call of `take_in`."""

    carried: Sequence[Carried]
    copying: Copying | None = None
    tallies: Tallies | None = None
    known: Mapping[int, int] = field(default_factory=dict)
    """Those of its jobs that are here, with when they were created."""

    @property
    def last_id(self) -> int:
        """The highest id that is given away."""
        highest = max((job.row.id for job in self.carried), default=0)
        return highest if self.copying is None else max(highest, self.copying.last_id)


class TakerIn:
    """Writes jobs from elsewhere into months and queue file. (This process executes, so nobody else does.)"""

    def __init__(self, *, writer: Writer, archiver: Archiver, months: Months) -> None:
        self._writer = writer
        self._archiver = archiver
        self._months = months

    async def begin(self, copying: Copying) -> None:
        """Note that a copy begins, or goes on."""
        await self._writer.run(BEGIN_COPY, Piece((), copying))

    async def take_in(self, piece: Piece) -> int:
        """Store jobs; returns how many were stored."""
        piece.known = await self._writer.run(MEET, piece, rows=len(piece.carried))
        if piece.copying is None:
            piece.carried, piece.known = [job for job in piece.carried if job.row.id not in piece.known], {}
        for month, jobs in self._by_month(piece).items():
            gone = [id for id, created in piece.known.items() if self._months.of(created) == month]
            await self._archiver.call(month, partial(self._archive, month, jobs, gone))
        size = sum(job.size for job in piece.carried)
        await self._writer.run(TAKE_IN, piece, rows=len(piece.carried), size=size)
        return len(piece.carried)

    def _by_month(self, piece: Piece) -> dict[date, list[Carried]]:
        """The jobs of each month in which there is something to write, or to be taken away."""
        by_month: dict[date, list[Carried]] = {}
        for created in piece.known.values():
            by_month.setdefault(self._months.of(created), [])
        for job in piece.carried:
            if job.finished or job.log:
                by_month.setdefault(self._months.of(job.row.created), []).append(job)
        return by_month

    def _archive(self, month: date, jobs: Sequence[Carried], gone: Sequence[int]) -> None:
        """Within the archiver's thread."""
        file = self._archiver.file(month)
        file.execute("begin immediate")
        try:
            for id in gone:
                file.execute(
                    ARCHIVE_SQL["forget_runs"], {"first": archive_key(id, 0), "last": archive_key(id, LAST_RUN)}
                )
            file.execute(ARCHIVE_SQL["forget_logs"], (ids_json(list(gone)),))
            _write_month(file, jobs)
            file.execute("commit")
        except BaseException:
            file.execute("rollback")
            raise


def _write_month(file: sqlite3.Connection, jobs: Sequence[Carried]) -> None:
    runs = [run for job in jobs for run in job.finished]
    insert_moved(file, runs)
    if runs:
        file.execute(ARCHIVE_SQL["raise_newest_end"], {"at": max(run.last_activity or 0 for run in runs)})
    file.executemany(
        ARCHIVE_SQL["keep_log"],
        [
            (
                job.row.id, line.sequence, line.attempt, line.at, line.level, line.logger, storable(line.message),
                None if line.exception is None else storable(line.exception),
            )
            for job in jobs
            for line in job.log
        ],
    )  # fmt: skip


def begin_copy(connection: sqlite3.Connection, calls: Sequence[Piece]) -> list[None]:
    """Note copies that begin."""
    for call in calls:
        _raise_last_id(connection, call.last_id)
        _note(connection, call)
    return [None] * len(calls)


def meet(connection: sqlite3.Connection, calls: Sequence[Piece]) -> list[Any]:
    """Which of the jobs that come are here already, or the error if somebody else has their ids or ref ids.

    From now on their ids are not given to others.
    """
    return [_meet(connection, call) for call in calls]


def _meet(connection: sqlite3.Connection, call: Piece) -> dict[int, int] | InvalidOption:
    _raise_last_id(connection, call.last_id)
    coming = {job.row.id: job.row.ref_id for job in call.carried}
    known = connection.execute(SQL["known_among"], {"ids": ids_json(list(coming))}).fetchall()
    refs = [job.row.ref_id for job in call.carried if job.holds_ref]
    taken = connection.execute(SQL["taken_refs"], {"refs": to_json(refs) or "[]"}).fetchall()
    for id, ref_id in [(id, ref_id) for id, ref_id, _ in known] + [(id, ref_id) for ref_id, id in taken]:
        if coming.get(id) != ref_id:
            return InvalidOption(in_the_way(id, ref_id))
    return {id: created for id, _, created in known}


def take_in(connection: sqlite3.Connection, calls: Sequence[Piece]) -> list[Any]:
    """Store the queue file's part of jobs that lie in their months."""
    return [_take_in(connection, call) for call in calls]


def _take_in(connection: sqlite3.Connection, call: Piece) -> StorageUnavailable | None:
    if call.copying is not None:
        found = connection.execute(SQL["copying"]).fetchone()
        if found is None or to_copying(found).run != call.copying.run:
            return StorageUnavailable("Another process goes on with this copy now, so this one has ended.")
    known = ids_json(list(call.known))
    for statement in ("delete_jobs", "drop_summaries", "forget_ties"):
        connection.execute(SQL[statement], (known,))
    _write_jobs(connection, [job for job in call.carried if not job.is_over])
    insert_summaries(connection, [job.row for job in call.carried if job.is_over])
    connection.executemany(
        SQL["depend"],
        [
            (tie.parent, job.row.id, tie.bound_attempt, 1 if tie.cancelled else None)
            for job in call.carried
            for tie in job.ties
        ],
    )
    replace_tallies(connection, call.tallies or {})
    _note(connection, call)
    return None


def _write_jobs(connection: sqlite3.Connection, live: Sequence[Carried]) -> None:
    JOBS.insert(connection, [job.row for job in live], job_head)
    keyed = [job.row.id for job in live if holds_key(job.row)]
    begun = [job.row.id for job in live if job.begun]
    connection.execute(SQL["hold_keys"], (ids_json(keyed),))
    connection.execute(SQL["begin_again"], (ids_json(begun),))


def _note(connection: sqlite3.Connection, call: Piece) -> None:
    if call.copying is not None:
        values = {name: getattr(call.copying, name) for name in COPYING_COLUMNS}
        connection.execute(SQL["note_copying"], values)


def _raise_last_id(connection: sqlite3.Connection, last_id: int) -> None:
    connection.execute(SQL["begin_ids"])
    connection.execute(SQL["raise_last_id"], (last_id,))


COPYING_COLUMNS = ("source", "run", "last_id", "source_node", "target_node", "after", "ref_id", "done")

BEGIN_COPY = Kind("begin copy", begin_copy, 4, flushed=True)
MEET = Kind("meet", meet, 4, flushed=True)
TAKE_IN = Kind("take in", take_in, 4, flushed=True)
