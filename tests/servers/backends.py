"""Where tests find a database server: one that they are told of, one that is there, or else one of their own."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.servers.mariadb import PrivateMariaDB
from tests.servers.postgres import PrivatePostgres
from tests.servers.run import Run
from tests.servers.sql import ask_mysql, ask_postgres


@dataclass(frozen=True, slots=True)
class Found:
    """A server for all tests of a run; or why there is none, and how to get one."""

    url: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of database."""

    name: str
    variable: str
    """Of the environment, with the URL of the server to take."""
    default: str
    """Where a server is taken without asking, if one answers."""
    probe: Callable[[str], Awaitable[Any]]
    start: Callable[[Run], str]

    def find(self, run: Run) -> Found:
        """The same one for all processes of the run. It is started by the first that asks, if need be."""
        return Found(**json.loads(run.once(self.name, lambda: json.dumps(asdict(self._find(run))))))

    def _find(self, run: Run) -> Found:
        if (told := os.environ.get(self.variable)) is not None:
            return Found(told)  # one that does not answer is a failure of the tests, not a reason to leave them out
        if self._answers(self.default):
            return Found(self.default)
        try:
            return Found(self.start(run))
        except LookupError as error:
            return Found(missing=f"{error.args[0]} Or name a server in {self.variable}, as {self.default}")

    def _answers(self, url: str) -> bool:
        async def ask() -> None:
            async with asyncio.timeout(10):
                await self.probe(url)

        try:
            asyncio.run(ask())
        except Exception:
            return False
        return True


def start_postgres(run: Run) -> str:
    server = PrivatePostgres(run)
    server.start()
    run.keep(server)
    return server.url


def start_mariadb(run: Run) -> str:
    server = PrivateMariaDB(run)
    server.start()
    run.keep(server)
    return server.url


POSTGRES = Backend(
    "postgres", "COMMANDJOBS_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test", ask_postgres, start_postgres
)
MYSQL = Backend("mysql", "COMMANDJOBS_TEST_MYSQL", "mysql://root@127.0.0.1:3306/test", ask_mysql, start_mariadb)
