"""Looking: connections of their own, opened `mode=ro`, so that no look ever waits behind a write or does one.

(A `query_only` connection would still checkpoint when it is the last to close.) A job may move while it is looked for:
its live row goes in the commit that brings its summary, so whoever misses the one looks for the other, and then once
more for the first, should it have been requeued meanwhile.
"""

import asyncio
import json
import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import aiosqlite

from commandjobs.errors import StorageError, StorageUnavailable
from commandjobs.model.find import JobFilter
from commandjobs.model.job import LogLine
from commandjobs.model.moment import to_datetime
from commandjobs.model.node import NodeRow
from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import Copying, Found, Intent, LaneCount, MonthInfo
from commandjobs.storage.sqlite.archive import SQL as ARCHIVE_SQL
from commandjobs.storage.sqlite.change import SQL
from commandjobs.storage.sqlite.connection import translating
from commandjobs.storage.sqlite.find import where
from commandjobs.storage.sqlite.inserts import archive_key
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.nodes import to_node
from commandjobs.storage.sqlite.rows import ids_json, to_copying, to_row, to_summary
from commandjobs.storage.sqlite.tallies import to_tallies

OPEN_FILES = 3
Rows = list[tuple[Any, ...]]


class ReadOnlyFile:
    """One file, open for looking. Each call is one statement, and so one consistent view."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._pid = os.getpid()

    async def rows(self, sql: str, parameters: Any = ()) -> Rows:
        """Run one statement."""
        if self._pid != os.getpid():
            raise StorageUnavailable(f"{self._path} was opened before a fork: open it in each process that uses it.")
        with translating(self._path):
            # A caller that gives up meanwhile must not leave a connection behind that nobody closes.
            connection = self._connection
            if connection is None:
                connection = await asyncio.shield(asyncio.ensure_future(self._open()))
            return list(await connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def close(self) -> None:
        """Interrupt what runs, and close."""
        self._closed = True
        async with self._opening:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(ValueError):
                await connection.interrupt()
            await connection.close()

    async def _open(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._closed:
                raise StorageUnavailable(f"{self._path} was closed.")
            if self._connection is None:
                uri = f"{self._path.absolute().as_uri()}?mode=ro"
                connecting = aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=1.0)
                # A process that leaves a job's code behind leaves its storage open, and must be able to exit.
                connecting._thread.daemon = True  # noqa: SLF001  there is no public way
                self._connection = await connecting
                await self._connection.create_function("casefold", 1, _casefold, deterministic=True)
            return self._connection


class ArchiveFiles:
    """Month files, open for looking: the few that were used last."""

    def __init__(self, months: Months) -> None:
        self._months = months
        self._files: OrderedDict[date, tuple[int, ReadOnlyFile]] = OrderedDict()
        self._turn = asyncio.Lock()
        """One look at a time: a file must not be opened twice, nor closed under somebody who reads it."""

    async def rows(self, month: date, sql: str, parameters: Any = ()) -> Rows | None:
        """Run one statement on a month's file; None: there is no such file."""
        async with self._turn:
            while True:
                identity = _inode(self._months.path(month))
                try:
                    file = await self._file(month, identity)
                    return None if file is None else await file.rows(sql, parameters)
                except StorageError:
                    if _inode(self._months.path(month)) == identity:
                        raise
                    # it was dropped, quarantined or put back while it was looked into

    async def forget(self, month: date) -> None:
        """Close a month's file."""
        async with self._turn:
            await self._close(month)

    async def close(self) -> None:
        """Close all."""
        async with self._turn:
            for month in list(self._files):
                await self._close(month)

    async def _file(self, month: date, identity: int | None) -> ReadOnlyFile | None:
        known = self._files.get(month)
        if known is not None and known[0] != identity:  # dropped, quarantined, or put back
            await self._close(month)
            known = None
        if identity is None:
            return None
        if known is None:
            file = ReadOnlyFile(self._months.path(month))
            try:
                is_empty = await file.rows("pragma user_version") == [(0,)]
            except BaseException:
                await file.close()
                raise
            if is_empty:  # it is being created
                await file.close()
                return None
            known = self._files[month] = identity, file
            while len(self._files) > OPEN_FILES:
                await self._close(next(iter(self._files)))
        self._files.move_to_end(month)
        return known[1]

    async def _close(self, month: date) -> None:
        known = self._files.pop(month, None)
        if known is not None:
            await known[1].close()


class Reader:
    """Looks into the queue file and the archives."""

    def __init__(self, path: Path, months: Months) -> None:
        self._months = months
        self._queue = ReadOnlyFile(path)
        self._searches = ReadOnlyFile(path)
        """What may take long, so that a look at one job does not wait behind it."""
        self.archives = ArchiveFiles(months)

    async def close(self) -> None:
        """Close all files."""
        for file in (self._queue, self._searches, self.archives):
            await file.close()

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def job(self, id: int | str) -> Found | None:
        """A job by id, or by ref id."""
        ids = (
            [id]
            if isinstance(id, int)
            else [found for (found,) in await self._queue.rows(SQL["id_of_ref"], {"ref": id})]
        )
        jobs = await self.jobs(ids)
        return jobs[0] if jobs else None

    async def jobs(self, ids: Sequence[int]) -> list[Found]:
        """Several jobs, in the order asked for."""
        found: dict[int, Found] = {}
        for _ in range(2):  # a second time for those that came back from the archive while we looked there
            missing = [id for id in dict.fromkeys(ids) if id not in found]
            if missing:
                found |= await self._live(missing)
            missing = [id for id in missing if id not in found]
            if not missing:
                break
            found |= await self._moved(missing)
        return [found[id] for id in ids if id in found]

    async def runs(self, id: int) -> list[JobRow]:
        """All runs of a job that are there."""
        runs: list[JobRow] = []
        for newest in await self.jobs([id]):
            month, run = self._months.of(newest.summary.created), newest.summary.run
            earlier = {"first": archive_key(id, 0), "last": archive_key(id, run - 1)}
            if run:
                runs += map(to_row, await self.archives.rows(month, ARCHIVE_SQL["read_runs"], earlier) or ())
            if newest.row is not None:
                runs.append(newest.row)
        return runs

    async def find(self, wanted: JobFilter, *, after: int | None, limit: int) -> list[SummaryRow]:
        """Matching jobs, highest id first."""
        conditions, parameters = where(wanted, after)
        sql = f"{SQL['find']}\n{conditions}\n{SQL['find_newest']}"
        return [to_summary(columns) for columns in await self._searches.rows(sql, {**parameters, "limit": limit})]

    async def count(self, wanted: JobFilter, *, limit: int) -> int:
        """How many match, up to a limit."""
        conditions, parameters = where(wanted, None)
        sql = f"{SQL['count']}\n{conditions}\n{SQL['count_end']}"
        [(count,)] = await self._searches.rows(sql, {**parameters, "limit": limit})
        return int(count)

    async def logs(self, id: int, *, after: int, limit: int) -> list[LogLine]:
        """Lines of a job's log."""
        known = await self._queue.rows(SQL["created"], {"id": id})
        if not known:
            return []
        lines = await self.archives.rows(self._months.of(known[0][0]), ARCHIVE_SQL["logs"], (id, after, limit))
        return [_log_line(*columns) for columns in lines or ()]

    async def finished(self, ids: Collection[int]) -> set[int]:
        """Which have ended: those that were given out and are not live any more, be their summary dropped or not."""
        found = await self._queue.rows(SQL["still_unfinished"], {"ids": ids_json(list(ids))})
        *unfinished, highest = [number for (number,) in found]
        return {id for id in ids if 0 < id <= -highest} - set(unfinished)

    async def cancelled_dependents(self, id: int) -> list[int]:
        """Jobs that were cancelled because of this one."""
        return [child for (child,) in await self._queue.rows(SQL["cancelled_dependents"], {"id": id})]

    async def _ids_of_ref(self, ref_id: str) -> list[int]:
        return [id for (id,) in await self._queue.rows(SQL["id_of_ref"], {"ref": ref_id})]

    async def _live(self, ids: Sequence[int]) -> dict[int, Found]:
        rows = [to_row(columns) for columns in await self._queue.rows(SQL["read_jobs"], (ids_json(ids),))]
        return {row.id: Found(SummaryRow.of(row), row) for row in rows}

    async def _moved(self, ids: Sequence[int]) -> dict[int, Found]:
        summaries = [to_summary(columns) for columns in await self._queue.rows(SQL["moved_summary"], (ids_json(ids),))]
        rows = await self._archived(summaries)
        return {summary.id: Found(summary, rows.get((summary.id, summary.run))) for summary in summaries}

    async def _archived(self, summaries: Iterable[SummaryRow]) -> dict[tuple[int, int], JobRow]:
        keys: dict[date, list[int]] = {}
        for summary in summaries:
            keys.setdefault(self._months.of(summary.created), []).append(archive_key(summary.id, summary.run))
        rows: dict[tuple[int, int], JobRow] = {}
        for month, wanted in keys.items():
            for columns in await self.archives.rows(month, ARCHIVE_SQL["read_rows"], (ids_json(wanted),)) or ():
                row = to_row(columns)
                rows[row.id, row.run] = row
        return rows

    # ── everything else ─────────────────────────────────────────────────────────────────────────────────────────────

    async def lanes(self) -> list[LaneCount]:
        """Live jobs by queue and worker."""
        return [LaneCount(*columns) for columns in await self._searches.rows(SQL["lanes"])]

    async def pending_commands(self) -> set[str]:
        """Commands of claimable jobs."""
        commands: set[str] = set()
        queue = command = ""
        while found := await self._queue.rows(SQL["next_claimable_kind"], {"queue": queue, "command": command}):
            queue, command = found[0]
            commands.add(command)
        return commands

    async def tallies(self, *, since: int) -> Tallies:
        """The roll-ups since then."""
        return to_tallies(await self._searches.rows(SQL["tallies"], (since,)))

    async def months(self) -> list[MonthInfo]:
        """The month files that are there."""
        infos: list[MonthInfo] = []
        for month in self._months.existing():
            found = await self.archives.rows(month, ARCHIVE_SQL["newest_end"])
            infos.append(MonthInfo(month, found[0][0] if found else None))
        return infos

    async def summaries_of_month(self, first: int, following: int, *, after: int, most: int) -> list[int]:
        """A piece of the jobs created between two moments that have ended."""
        wanted = {"after": after, "first": first, "following": following, "most": most}
        return [id for (id,) in await self._searches.rows(SQL["summaries_of_month"], wanted)]

    async def nodes(self) -> list[NodeRow]:
        """All processes known."""
        return [to_node(columns) for columns in await self._queue.rows(SQL["nodes"])]

    async def intents(self) -> list[Intent]:
        """Unanswered intents."""
        found = await self._queue.rows(SQL["intents"])
        return [Intent(id, action, json.loads(arguments)) for id, action, arguments in found]

    async def answer(self, id: int) -> str | None:
        """The JSON of an intent's answer; None: there is none yet."""
        found = await self._queue.rows(SQL["answered"], (id,))
        return found[0][0] if found else None

    async def search(self, name: str, parameters: Any = ()) -> Rows:
        """What a named statement returns that may take long."""
        return await self._searches.rows(SQL[name], parameters)

    async def copying(self) -> Copying | None:
        """The copy that is being made here, or was."""
        found = await self._queue.rows(SQL["copying"])
        return to_copying(found[0]) if found else None

    async def damage(self) -> str | None:
        """What `quick_check` says of the queue file; None: it is whole."""
        found = await self._searches.rows("pragma quick_check(1)")
        return None if found == [("ok",)] else str(found[0][0])


def _casefold(text: str | None) -> str | None:
    return None if text is None else str(text).casefold()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _log_line(
    sequence: int, at: int, level: str, logger: str, message: str, exception: str | None, attempt: int
) -> LogLine:
    return LogLine(
        sequence=sequence,
        at=to_datetime(at),
        level=level,
        logger=logger,
        message=message,
        exception=exception,
        attempt=attempt,
    )
