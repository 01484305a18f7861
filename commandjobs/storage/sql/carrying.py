"""Jobs with all that is stored of them, a piece at a time, for another storage."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from commandjobs.model.carried import Carried, KeptLine, Tie
from commandjobs.model.moment import month_range
from commandjobs.model.row import JobRow
from commandjobs.storage.base import NOT_HERE, Contents
from commandjobs.storage.sql.reader import Reader
from commandjobs.storage.sql.rows import to_row, to_row_of_summary


class Known(NamedTuple):
    """What is known of a job before its rows are read."""

    ref_id: str
    run: int
    created: int
    is_live: bool


class Carrier:
    """Reads whole jobs."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def contents(self, month: date | None) -> Contents:
        """What there is."""
        [(jobs, last_id, last_node)] = await self._reader.rows("contents")
        if month is not None:
            first, following = month_range(month)
            [(jobs,)] = await self._reader.rows("count_of_month", first=first, following=following)
        return Contents(jobs=jobs, last_id=last_id, last_node=last_node)

    async def carry(self, after: int, limit: int, month: date | None) -> list[Carried]:
        """The next jobs, in the order of ids."""
        known = await self._known(after, limit, month)
        if not known:
            return []
        live = await self._live([id for id, job in known.items() if job.is_live])
        archived = await self._archived(known)
        missing = [id for id, job in known.items() if not job.is_live and (id, job.run) not in archived]
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
        for id, *line in await self._reader.rows("carry_logs", **_span(known)):
            if id in jobs:
                jobs[id].log.append(KeptLine(*line))
        return list(jobs.values())

    async def _known(self, after: int, limit: int, month: date | None) -> dict[int, Known]:
        if month is None:
            found = await self._reader.rows("carry_ids", after=after, most=limit)
        else:
            first, following = month_range(month)
            found = await self._reader.rows(
                "carry_month_ids", after=after, most=limit, first=first, following=following
            )
        return {id: Known(ref_id, run, created, bool(is_live)) for id, ref_id, run, created, is_live in found}

    async def _live(self, ids: Sequence[int]) -> dict[int, JobRow]:
        rows = [to_row(columns) for columns in await self._reader.rows("read_jobs", ids=ids)] if ids else []
        for row in rows:
            row.owner = None if row.owner is None else NOT_HERE
        return {row.id: row for row in rows}

    async def _begun(self, live: Mapping[int, JobRow]) -> set[int]:
        owned = [id for id, row in live.items() if row.owner is not None]
        return {id for (id,) in await self._reader.rows("begun_among", ids=owned)} if owned else set()

    async def _archived(self, known: Mapping[int, Known]) -> dict[tuple[int, int], JobRow]:
        """All runs that lie in the archive, by id and run, ascending."""
        rows = [to_row(columns) for columns in await self._reader.rows("carry_runs", **_span(known))]
        return {(row.id, row.run): row for row in rows if row.id in known and known[row.id].ref_id == row.ref_id}

    async def _summaries(self, ids: Sequence[int]) -> dict[int, JobRow]:
        found = await self._reader.rows("carry_summaries", ids=ids) if ids else []
        return {columns[0]: to_row_of_summary(columns) for columns in found}

    async def _add_ties(self, jobs: Mapping[int, Carried]) -> None:
        parents = {id for job in jobs.values() for id in (*job.row.depends_on, job.row.parent_id) if id}
        if not parents:
            return
        wanted = {"parents": sorted(parents), "first": min(jobs), "last": max(jobs)}
        for child, parent, bound_attempt, cancelled in await self._reader.rows("carry_ties", **wanted):
            # A job that ended by itself may still be noted as waiting for a parent.
            if child in jobs and jobs[child].is_over == bool(cancelled):
                jobs[child].ties.append(Tie(parent, None if cancelled else bound_attempt, bool(cancelled)))


def _span(known: Mapping[int, Known]) -> dict[str, Any]:
    created = [job.created for job in known.values()]
    return {"first": min(known), "last": max(known), "oldest": min(created), "newest": max(created)}
