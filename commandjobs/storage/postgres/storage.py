"""The PostgreSQL storage: what `sql.storage` does for every server, with asyncpg, partitions and LISTEN/NOTIFY.

Reading order: `schema/0001_initial.sql` (what lies where), `queries.sql`, `address`, `connections`, `errors`, `months`,
`migrating`, `hints`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from time import monotonic
from typing import TypeVar

import asyncpg

from commandjobs.errors import StorageUnavailable
from commandjobs.model.moment import month_of
from commandjobs.storage.base import Capabilities
from commandjobs.storage.postgres.address import parse, quoted
from commandjobs.storage.postgres.connections import PostgresDriver, in_transaction, is_pooled
from commandjobs.storage.postgres.dialect import PostgresDialect
from commandjobs.storage.postgres.errors import meaning, raise_translated
from commandjobs.storage.postgres.hints import Hints
from commandjobs.storage.postgres.migrating import check_current, migrate
from commandjobs.storage.postgres.months import drop_month, following, make_month, months_of
from commandjobs.storage.queries import load_bodies
from commandjobs.storage.sql.driver import TryAgain
from commandjobs.storage.sql.storage import LEASE, SqlStorage
from commandjobs.storage.sql.transactions import DEADLINE

T = TypeVar("T")

MONTHS_AHEAD = 2


class PostgresStorage(SqlStorage):
    """A `Storage` in a schema of a PostgreSQL database."""

    capabilities = Capabilities(many_nodes=True, transactional_enqueue=True)
    databases = frozenset({"postgresql"})

    def __init__(self, url: str, *, lease: float = LEASE, deadline: float = DEADLINE) -> None:
        """url: `postgresql://…?schema=jobs`; `pooled=true` behind PgBouncer in transaction mode if it is not noticed,
        `migrate=false` to leave the schema as it is.
        """
        self._address = parse(url)
        self._schema = self._address.schema
        self._postgres = PostgresDriver(self._address)
        bodies = load_bodies("commandjobs.storage.postgres", schema=quoted(self._schema))
        super().__init__(self._postgres, PostgresDialect(bodies, style="$1"), lease=lease, deadline=deadline)
        self._hints: Hints | None = None

    async def _prepare(self) -> None:
        await self._with_connection(self._set_up)
        if not self._postgres.pooled:
            self._hints = Hints(self._postgres, self._schema, on_hint=self._wake)
            self._hints.start()

    async def _set_up(self, connection: asyncpg.Connection) -> None:
        if self._address.pooled is None:
            self._postgres.pooled = await is_pooled(connection)
        if self._address.migrate:
            await migrate(connection, self._schema, self._postgres.place)
        else:
            await check_current(connection, self._schema, self._postgres.place)
        async with in_transaction(connection):
            [(now,)] = await connection.fetch(self._dialect.sql["clock"].text)
            [*there] = await connection.fetch(self._dialect.sql["partitions"].text)
        known, month = months_of([name for (name,) in there]), month_of(now)
        for _ in range(MONTHS_AHEAD + 1):
            if month not in known:
                await make_month(connection, self._schema, month)
            month = following(month)

    async def _end(self) -> None:
        if self._hints is not None:
            await self._hints.close()

    def pace(self) -> tuple[float, float]:
        """With hints a look is only the net behind them."""
        return (0.25, 1.0) if self._hints is not None and self._hints.listening else super().pace()

    def meaning(self, error: Exception, kind: str) -> Exception:
        """What an error on a connection of a caller's means."""
        return meaning(error, kind, self._postgres.place)

    def ring(self) -> None:
        """Tell other nodes that there is something to do."""
        if self._hints is not None:
            self._hints.ring()

    # ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _months(self) -> list[date]:
        return months_of([name for (name,) in await self._reader.rows("partitions")])

    async def _make_month(self, month: date) -> None:
        await self._with_connection(lambda connection: make_month(connection, self._schema, month))

    async def _drop_tables(self, month: date) -> None:
        await self._with_connection(lambda connection: drop_month(connection, self._schema, month))

    async def _with_connection(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Run work that is done seldom, and may be done again, on a connection of its own."""
        ends = monotonic() + self._deadline
        while True:
            try:
                connection = await self._postgres.connect()
                try:
                    return await work(connection)
                except Exception as error:
                    raise_translated(error, self._postgres.place, committing=False)
                finally:
                    await connection.close(timeout=2.0)
            except TryAgain as error:
                if monotonic() >= ends:
                    raise StorageUnavailable(f"{self._postgres.place} cannot be used now ({error}).") from error
                await asyncio.sleep(0.2)
