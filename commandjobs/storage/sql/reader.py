"""Looking: on connections of its own, each look one statement and so one consistent view."""

from collections.abc import Collection, Sequence
from typing import Any

from commandjobs.model.job import LogLine
from commandjobs.model.moment import to_datetime
from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.stats import Tallies
from commandjobs.storage.base import Found, LaneCount
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection
from commandjobs.storage.sql.rows import to_row
from commandjobs.storage.sql.tallies import to_tallies
from commandjobs.storage.sql.transactions import Transactions


class Reader:
    """Looks into the database."""

    def __init__(self, dialect: Dialect, transactions: Transactions) -> None:
        """Through the reading connections of `transactions`."""
        self._dialect = dialect
        self._sql = dialect.sql
        self._transactions = transactions

    async def rows(self, name: str, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """What a named statement returns."""
        return await self.run(self._sql[name], **parameters)

    async def run(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """What a statement returns."""

        async def look(connection: Connection) -> Sequence[Sequence[Any]]:
            return await connection.rows(statement, **parameters)

        return await self._transactions.look(look)

    async def job(self, id: int | str) -> Found | None:
        """A job by id, or by ref id."""
        ids = [id] if isinstance(id, int) else [found for (found,) in await self.rows("id_of_ref", ref=id)]
        jobs = await self.jobs(ids)
        return jobs[0] if jobs else None

    async def jobs(self, ids: Sequence[int]) -> list[Found]:
        """Several jobs, in the order asked for."""
        if not ids:
            return []
        found: dict[int, Found] = {}
        for has_row, *columns in await self.rows("find_rows", ids=list(ids)):
            row = to_row(columns)
            found[row.id] = Found(SummaryRow.of(row), row if has_row else None)
        return [found[id] for id in ids if id in found]

    async def runs(self, id: int) -> list[JobRow]:
        """All runs of a job that are there."""
        newest = await self.job(id)
        if newest is None:
            return []
        runs: list[JobRow] = []
        if newest.summary.run:
            earlier = {"id": id, "created": newest.summary.created, "run": newest.summary.run}
            runs = [to_row(columns) for columns in await self.rows("earlier_runs", **earlier)]
        return runs if newest.row is None else [*runs, newest.row]

    async def logs(self, id: int, *, after: int, limit: int) -> list[LogLine]:
        """Lines of a job's log."""
        known = await self.rows("created", id=id)
        if not known:
            return []
        lines = await self.rows("logs", id=id, created=known[0][0], after=after, most=limit)
        return [_log_line(*columns) for columns in lines]

    async def finished(self, ids: Collection[int]) -> set[int]:
        """Which have ended: those that were given out and are not live any more, be their summary dropped or not."""
        if not ids:
            return set()
        found = [number for (number,) in await self.rows("unfinished_among", ids=list(ids))]
        highest = -min(found, default=0)
        return {id for id in ids if 0 < id <= highest} - set(found)

    async def cancelled_dependents(self, id: int) -> list[int]:
        """Jobs that were cancelled because of this one."""
        return [child for (child,) in await self.rows("cancelled_dependents", id=id)]

    async def lanes(self) -> list[LaneCount]:
        """Live jobs by queue and worker."""
        return [LaneCount(*columns) for columns in await self.rows("lanes")]

    async def pending_commands(self) -> set[str]:
        """Commands of claimable jobs."""
        return {command for _, command in await self.kinds()}

    async def kinds(self) -> set[tuple[str, str]]:
        """Queues and commands of claimable jobs."""
        return await self._transactions.look(self._dialect.kinds)

    async def tallies(self, *, since: int) -> Tallies:
        """The roll-ups since then."""
        return to_tallies(await self.rows("tallies", since=since))


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
