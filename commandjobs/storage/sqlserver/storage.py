"""The SQL Server storage: what `sql.storage` does for every server, with Microsoft's driver in threads, a table a month
for what has ended, and looking now and then where others send hints.

Reading order: `schema/0001_initial.sql` (what lies where), `queries.sql`, `months.sql`, `address`, `parameters`,
`call_thread`, `connections`, `errors`, `dialect`, `months`, `migrating`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from time import monotonic
from typing import TypeVar

from commandjobs.errors import StorageUnavailable
from commandjobs.model.moment import month_of
from commandjobs.model.row import LogRow
from commandjobs.storage.queries import load_bodies
from commandjobs.storage.sql.driver import Connection, TryAgain
from commandjobs.storage.sql.logs import log_lines
from commandjobs.storage.sql.storage import LEASE, SqlStorage
from commandjobs.storage.sql.transactions import DEADLINE
from commandjobs.storage.sqlserver.address import parse
from commandjobs.storage.sqlserver.connections import SqlServerDriver
from commandjobs.storage.sqlserver.dialect import SqlServerDialect
from commandjobs.storage.sqlserver.loading import Loader
from commandjobs.storage.sqlserver.migrating import Migration
from commandjobs.storage.sqlserver.months import Months, following

T = TypeVar("T")

MONTHS_AHEAD = 2


class SqlServerStorage(SqlStorage):
    """A `Storage` in a schema of a SQL Server database."""

    def __init__(self, url: str, *, lease: float = LEASE, deadline: float = DEADLINE) -> None:
        """url: `mssql://user:password@host/database?schema=jobs`; `migrate=false` to leave the schema as it is."""
        self._address = parse(url)
        schema = self._address.schema
        self._months_there = Months(schema)
        self._statements = SqlServerDialect(load_bodies("commandjobs.storage.sqlserver", schema=f"[{schema}]"))
        self._server = SqlServerDriver(self._address, Loader(self._statements))
        super().__init__(self._server, self._statements, lease=lease, deadline=deadline)

    async def _prepare(self) -> None:
        migration = Migration(self._address.schema, self._server.place)
        await self._seldom(migration.check_database)
        await self._seldom(migration.run if self._address.migrate else migration.check_current)
        await self._seldom(self._make_months_ahead)

    async def _make_months_ahead(self, connection: Connection) -> None:
        [(now,)] = await connection.rows(self._dialect.sql["clock"])
        months = [month_of(now)]
        for _ in range(MONTHS_AHEAD):
            months.append(following(months[-1]))
        if not set(months) <= set(await self._months_there.known(connection)):
            await self._months_there.make(connection, *months)

    async def append_logs(self, rows: Sequence[LogRow]) -> None:
        """Append to the jobs' logs: those of each month are in a table of their own."""
        by_month: dict[date, list[LogRow]] = {}
        for row in rows:
            by_month.setdefault(month_of(row.created), []).append(row)
        for month, lines in sorted(by_month.items()):
            await self._run_statement(self._statements.of_month("append_logs", month), rows=log_lines(lines))

    # ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _months(self) -> list[date]:
        return await self._transactions.look(self._months_there.known)

    async def _make_month(self, month: date) -> None:
        await self._seldom(lambda connection: self._months_there.make(connection, month))

    async def _drop_tables(self, month: date) -> None:
        await self._seldom(lambda connection: self._months_there.drop(connection, month))

    async def _seldom(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run work that is done seldom, and may be done again and take long, in a transaction of its own."""
        ends = monotonic() + self._deadline
        while True:
            try:
                async with self._server.seldom() as connection:
                    return await work(connection)
            except TryAgain as error:
                if monotonic() >= ends:
                    raise StorageUnavailable(f"{self._server.place} cannot be used now ({error}).") from error
                await asyncio.sleep(0.2)
