"""Jobs with all that is stored of them, a piece at a time, for another storage.

A job's newest run is in the queue file as long as it lives; what has ended lies in its month, where there may also be
rows that nobody believes (`recovery`): only those of the queue file's runs of the same job are carried.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from commandjobs.model.carried import Carried, KeptLine, Tie
from commandjobs.model.moment import month_range
from commandjobs.model.row import JobRow
from commandjobs.storage.base import NOT_HERE, Contents
from commandjobs.storage.sqlite.archive import SQL as ARCHIVE_SQL
from commandjobs.storage.sqlite.inserts import archive_key
from commandjobs.storage.sqlite.months import Months
from commandjobs.storage.sqlite.reader import Reader
from commandjobs.storage.sqlite.rows import ids_json, to_row, to_row_of_summary

LAST_RUN = (1 << 16) - 1


class Known(NamedTuple):
    """What the queue file knows of a job."""

    ref_id: str
    run: int
    created: int
    is_here: bool
    """Its newest run is in the queue file."""


class Carrier:
    """Reads whole jobs."""

    def __init__(self, reader: Reader, months: Months) -> None:
        self._reader = reader
        self._months = months

    async def contents(self, month: date | None) -> Contents:
        """What there is."""
        [(jobs, last_id, last_node)] = await self._reader.search("contents")
        if month is not None:
            first, following = month_range(month)
            [(jobs,)] = await self._reader.search("count_of_month", {"first": first, "following": following})
        return Contents(jobs=jobs, last_id=last_id, last_node=last_node)

    async def carry(self, after: int, limit: int, month: date | None) -> list[Carried]:
        """The next jobs, in the order of ids."""
        known = await self._known(after, limit, month)
        if not known:
            return []
        live = await self._live([id for id, job in known.items() if job.is_here])
        archived = await self._archived(known)
        missing = [id for id, job in known.items() if not job.is_here and (id, job.run) not in archived]
        summaries = await self._summaries(missing)
        begun = await self._begun(live)
        jobs: dict[int, Carried] = {}
        for id, job in known.items():
            row = live.get(id) or archived.pop((id, job.run), None)
            if row is not None or id in summaries:  # else it was requeued meanwhile
                jobs[id] = Carried(row=row or summaries[id], is_whole=row is not None, begun=id in begun)
        for (id, run), row in archived.items():
            if id in jobs and run < known[id].run:
                jobs[id].earlier.append(row)
        await self._add_ties(jobs)
        await self._add_logs(jobs, known)
        return list(jobs.values())

    async def _known(self, after: int, limit: int, month: date | None) -> dict[int, Known]:
        wanted: dict[str, Any] = {"after": after, "most": limit}
        name = "carry_ids"
        if month is not None:
            name = "carry_month_ids"
            wanted["first"], wanted["following"] = month_range(month)
        found = await self._reader.search(name, wanted)
        return {id: Known(ref_id, run, created, bool(here)) for id, ref_id, run, created, here in found}

    async def _live(self, ids: Sequence[int]) -> dict[int, JobRow]:
        if not ids:
            return {}
        rows = [to_row(columns) for columns in await self._reader.search("read_jobs", (ids_json(ids),))]
        for row in rows:
            row.owner = None if row.owner is None else NOT_HERE
        return {row.id: row for row in rows}

    async def _begun(self, live: Mapping[int, JobRow]) -> set[int]:
        owned = [id for id, row in live.items() if row.owner is not None]
        found = await self._reader.search("begun_among", (ids_json(owned),)) if owned else []
        return {id for (id,) in found}

    async def _archived(self, known: Mapping[int, Known]) -> dict[tuple[int, int], JobRow]:
        """All runs that lie in months, by id and run, ascending."""
        span = {"first": archive_key(min(known), 0), "last": archive_key(max(known), LAST_RUN)}
        rows: dict[tuple[int, int], JobRow] = {}
        for month in self._months_of(known.values()):
            for columns in await self._reader.archives.rows(month, ARCHIVE_SQL["read_runs"], span) or ():
                row = to_row(columns)
                job = known.get(row.id)
                if job is not None and job.ref_id == row.ref_id:
                    rows[row.id, row.run] = row
        return rows

    async def _summaries(self, ids: Sequence[int]) -> dict[int, JobRow]:
        if not ids:
            return {}
        found = await self._reader.search("carry_summaries", (ids_json(ids),))
        return {columns[0]: to_row_of_summary(columns) for columns in found}

    async def _add_ties(self, jobs: Mapping[int, Carried]) -> None:
        parents = {id for job in jobs.values() for id in (*job.row.depends_on, job.row.parent_id) if id}
        if not parents:
            return
        wanted = {"parents": ids_json(parents), "first": min(jobs), "last": max(jobs)}
        for child, parent, bound_attempt, cancelled in await self._reader.search("carry_ties", wanted):
            # A job that ended by itself may still be noted as waiting for a parent.
            if child in jobs and jobs[child].is_over == bool(cancelled):
                jobs[child].ties.append(Tie(parent, None if cancelled else bound_attempt, bool(cancelled)))

    async def _add_logs(self, jobs: Mapping[int, Carried], known: Mapping[int, Known]) -> None:
        span = {"first": min(known), "last": max(known)}
        for month in self._months_of(known.values()):
            for id, *line in await self._reader.archives.rows(month, ARCHIVE_SQL["carry_logs"], span) or ():
                if id in jobs:
                    jobs[id].log.append(KeptLine(*line))

    def _months_of(self, known: Iterable[Known]) -> list[date]:
        return sorted({self._months.of(job.created) for job in known})
