"""The floor on MariaDB: what its driver makes of the same rows, with nothing of ours in between."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.commands import Mail
from benchmarks.floor import row
from benchmarks.servers.program import Client, Ran, main
from benchmarks.servers.server import connect_mariadb

SCHEMA = """
create table job (
    id bigint auto_increment primary key, ref_id varchar(100) character set ascii not null,
    command varchar(100) character set ascii not null, state varchar(20) character set ascii not null,
    created bigint not null, queue varchar(100), worker varchar(100), run_after bigint, request longtext,
    unique index job_ref (ref_id), index job_state (state, id), index job_run_after (run_after)
)
"""
ONE = "insert into job (ref_id, command, state, created, queue, request) values (%s, %s, %s, %s, %s, %s)"
BATCH = 1_000


class BareClient:
    """Inserts."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._number = 0

    async def send(self, mail: Mail) -> None:
        """One row, one commit."""
        await self._cursor.execute(ONE, self._row())

    async def send_many(self, mails: Sequence[Mail]) -> None:
        """1,000 rows a commit: the driver makes one statement of them."""
        for _ in range(0, len(mails), BATCH):
            await self._cursor.executemany(ONE, [self._row() for _ in range(BATCH)])

    def _row(self) -> tuple[str, str, str, int, str, str]:
        self._number += 1
        return row(self._number)


class Bare:
    """It runs nothing."""

    async def install(self, url: str) -> None:
        """One table with three indexes."""
        connection = await connect_mariadb(url)
        async with connection.cursor() as cursor:
            await cursor.execute(SCHEMA)
        await connection.ensure_closed()

    @asynccontextmanager
    async def client(self, url: str, connections: int) -> AsyncGenerator[Client]:
        """One connection."""
        connection = await connect_mariadb(url)
        async with connection.cursor() as cursor:
            yield BareClient(cursor)
        await connection.ensure_closed()

    async def work(self, url: str, ran: Ran) -> None:
        """There is nothing to run."""
        raise NotImplementedError


if __name__ == "__main__":
    main(Bare())
