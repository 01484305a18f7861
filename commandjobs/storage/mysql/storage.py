"""The storage on MySQL 8 and MariaDB 10.6 or newer: what `sql.storage` does for every server, with asyncmy and native
partitions. There is nothing like NOTIFY, so other nodes' jobs are found by looking.

Reading order: `schema/0001_initial.sql` (what lies where), `queries.sql`, `dialect`, `address`, `connections`,
`literals`, `errors`, `months`, `migrating`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date
from time import monotonic
from typing import TypeVar

import asyncmy

from commandjobs.errors import StorageUnavailable
from commandjobs.model.moment import month_of
from commandjobs.storage.mysql.address import parse
from commandjobs.storage.mysql.connections import MysqlConnection, MysqlDriver
from commandjobs.storage.mysql.dialect import MysqlDialect
from commandjobs.storage.mysql.errors import raise_translated
from commandjobs.storage.mysql.migrating import check_current, check_server, migrate
from commandjobs.storage.mysql.months import drop_month, following, make_month, months_of
from commandjobs.storage.sql.driver import Connection, TryAgain
from commandjobs.storage.sql.storage import LEASE, SqlStorage
from commandjobs.storage.sql.transactions import DEADLINE

T = TypeVar("T")

MONTHS_AHEAD = 2


class MysqlStorage(SqlStorage):
    """A `Storage` in tables of a MySQL or MariaDB database."""

    def __init__(self, url: str, *, lease: float = LEASE, deadline: float = DEADLINE) -> None:
        """url: `mysql://user:password@host/database?prefix=jobs_`, or `mariadb://…`; `migrate=false` to leave the
        tables as they are; `ssl=true` or `ssl_ca=FILE` to encrypt; `unix_socket=PATH`.
        """
        self._address = parse(url)
        self._prefix = self._address.prefix
        self._mysql = MysqlDriver(self._address)
        super().__init__(self._mysql, MysqlDialect(self._prefix), lease=lease, deadline=deadline)

    async def _prepare(self) -> None:
        await self._with_connection(self._set_up)

    async def _set_up(self, connection: MysqlConnection) -> None:
        check_server(connection.raw.server_version, self._mysql.place)
        if self._address.migrate:
            await migrate(connection, self._address)
        else:
            await check_current(connection, self._address)
        [(now,)] = await connection.rows(self._dialect.sql["clock"])
        names = await connection.rows(self._dialect.sql["partitions"])
        known, month = months_of([name for (name,) in names]), month_of(now)
        for _ in range(MONTHS_AHEAD + 1):
            if month not in known:
                await make_month(connection, self._prefix, month)
            month = following(month)

    # ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _months(self) -> list[date]:
        return months_of([name for (name,) in await self._reader.rows("partitions")])

    async def _make_month(self, month: date) -> None:
        await self._with_connection(lambda connection: make_month(connection, self._prefix, month))

    async def _drop_tables(self, month: date) -> None:
        await self._with_connection(lambda connection: drop_month(connection, self._prefix, month))

    async def _forget(self, connection: Connection, ids: list[int]) -> None:
        await connection.run(self._dialect.sql["note_highest"], highest=max(ids))
        await super()._forget(connection, ids)

    async def _with_connection(self, work: Callable[[MysqlConnection], Awaitable[T]]) -> T:
        """Run work that is done seldom, and may be done again, on a connection of its own."""
        ends = monotonic() + self._deadline
        while True:
            try:
                connection = await self._mysql.connect()
                try:
                    return await work(connection)
                except Exception as error:
                    raise_translated(error, self._mysql.place, committing=False)
                finally:
                    with suppress(Exception):
                        await connection.close()
            except TryAgain as error:
                if monotonic() >= ends:
                    raise StorageUnavailable(f"{self._mysql.place} cannot be used now ({error}).") from error
                await asyncio.sleep(0.2)
            except asyncmy.MySQLError as error:
                raise StorageUnavailable(f"{self._mysql.place} refuses what jobs need ({error}).") from error
