"""procrastinate: psycopg, one job claimed and finished a statement; finished ones are kept."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.commands import Mail
from benchmarks.servers.program import Client, Ran, main


class ProcrastinateClient:
    """Stores jobs."""

    def __init__(self, task: Any) -> None:
        self._task = task

    async def send(self, mail: Mail) -> None:
        """One call of a function in the database."""
        await self._task.defer_async(to=mail.to, n=mail.n)

    async def send_many(self, mails: Sequence[Mail]) -> None:
        """One call."""
        await self._task.batch_defer_async(*({"to": mail.to, "n": mail.n} for mail in mails))


class Procrastinate:
    """Its own pool of connections, and 20 jobs at a time."""

    async def install(self, url: str) -> None:
        """As `procrastinate schema --apply` does."""
        app, _ = _app(url, Ran(starts=False), connections=1)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def client(self, url: str, connections: int) -> AsyncGenerator[Client]:
        """The pool keeps what it was given open."""
        app, task = _app(url, Ran(starts=False), connections)
        async with app.open_async():
            yield ProcrastinateClient(task)

    async def work(self, url: str, ran: Ran) -> None:
        """It listens, and keeps finished jobs unless told otherwise."""
        app, _ = _app(url, ran, connections=20)
        async with app.open_async():
            await app.run_worker_async(concurrency=20)


def _app(url: str, ran: Ran, connections: int) -> tuple[App, Any]:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=connections, max_size=connections))

    async def send(to: str, n: int) -> None:
        del to
        ran(n)

    return app, app.task(name="send")(send)


if __name__ == "__main__":
    logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it warns of an app that is made here
    main(Procrastinate())
