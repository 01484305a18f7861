"""pgqueuer: asyncpg, jobs claimed and acknowledged in batches; finished ones are kept in a log table."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.commands import Mail
from benchmarks.servers.program import Client, Ran, main


class PgqueuerClient:
    """Stores jobs."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def send(self, mail: Mail) -> None:
        """One statement."""
        await self._queries.enqueue("send", _payload(mail))

    async def send_many(self, mails: Sequence[Mail]) -> None:
        """One statement over arrays."""
        payloads: list[bytes | None] = [_payload(mail) for mail in mails]
        await self._queries.enqueue(["send"] * len(payloads), payloads, [0] * len(payloads))


class Pgqueuer:
    """Its tables are durable unless one asks for others."""

    async def install(self, url: str) -> None:
        """As `pgq install` does."""
        connection = await asyncpg.connect(url)
        await Queries.from_asyncpg_connection(connection).install()
        await connection.close()

    @asynccontextmanager
    async def client(self, url: str, connections: int) -> AsyncGenerator[Client]:
        """A pool costs a lone caller time, so it has a connection."""
        if connections == 1:
            connection = await asyncpg.connect(url)
            yield PgqueuerClient(Queries.from_asyncpg_connection(connection))
            await connection.close()
            return
        async with asyncpg.create_pool(url, min_size=connections, max_size=connections) as pool:
            yield PgqueuerClient(Queries.from_asyncpg_pool(pool))

    async def work(self, url: str, ran: Ran) -> None:
        """Batches of 50 are quicker than its 10 by default; more would hold back how soon ends are written."""
        queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        async def send(job: Job) -> None:
            payload: Any = json.loads(job.payload or b"{}")
            ran(payload["n"])

        queuer.entrypoint("send")(send)
        await queuer.run(batch_size=50)


def _payload(mail: Mail) -> bytes:
    return json.dumps({"to": mail.to, "n": mail.n}).encode()


if __name__ == "__main__":
    main(Pgqueuer())
