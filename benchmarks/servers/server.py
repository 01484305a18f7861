"""The database servers: each measurement gets a database of its own on one, and leaves nothing there."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import asyncmy
import asyncpg

LOOK = 0.002
"""Seconds between two looks at a count."""


class Kind(StrEnum):
    """Whose server it is."""

    POSTGRES = "PostgreSQL"
    MARIADB = "MariaDB"


class Server(Protocol):
    """Where engines keep their jobs."""

    kind: Kind

    async def describe(self) -> str:
        """Its version, and the settings on which figures hang."""
        ...

    async def create(self, name: str) -> str:
        """The URL of a new database; an old one of that name goes."""
        ...

    async def drop(self, name: str) -> None:
        """Remove it, whoever is connected."""
        ...

    async def execute(self, url: str, sql: str) -> Any:
        """The first value of what a statement gives, if any."""
        ...

    async def run_script(self, url: str, script: str) -> None:
        """Several statements, one after the other."""
        ...

    async def until_none(self, url: str, count: str) -> None:
        """Ask for a count, again and again, until it is 0."""
        ...

    async def tidy(self, url: str) -> None:
        """What the server does by itself some time after many rows were written."""
        ...

    async def flush(self, url: str) -> None:
        """Write what is in memory to where it belongs, as the server does by itself within minutes."""
        ...


class Postgres:
    """PostgreSQL, through asyncpg."""

    kind = Kind.POSTGRES

    def __init__(self, url: str) -> None:
        self._url = url

    async def describe(self) -> str:
        """The settings that decide what a commit costs."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "autovacuum", "shared_buffers")
        shown = [f"{name} {await self.execute(self._url, f'show {name}')}" for name in names]
        return "PostgreSQL: " + ", ".join(shown)

    async def create(self, name: str) -> str:
        """The address is that of the server, with another database."""
        await self.drop(name)
        await self.execute(self._url, f"create database {name}")
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    async def drop(self, name: str) -> None:
        """It may not be there."""
        await self.execute(self._url, f"drop database if exists {name} with (force)")

    async def execute(self, url: str, sql: str) -> Any:
        """A connection for each."""
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(sql)
            return rows[0][0] if rows else None
        finally:
            await connection.close()

    async def run_script(self, url: str, script: str) -> None:
        """In one call."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    async def until_none(self, url: str, count: str) -> None:
        """One connection."""
        connection = await asyncpg.connect(url)
        try:
            while (await connection.fetch(count))[0][0]:  # noqa: ASYNC110  another process's event
                await asyncio.sleep(LOOK)
        finally:
            await connection.close()

    async def tidy(self, url: str) -> None:
        """As autovacuum would; it may not have come yet."""
        await self.execute(url, "vacuum analyze")

    async def flush(self, url: str) -> None:
        """A checkpoint. (Right before a drain it would make each page that is changed go into the log as a whole.)"""
        await self.execute(url, "checkpoint")


class Mariadb:
    """MariaDB or MySQL, through asyncmy."""

    kind = Kind.MARIADB

    def __init__(self, url: str) -> None:
        self._url = url

    async def describe(self) -> str:
        """The settings that decide what a commit costs."""
        names = ("version", "innodb_flush_log_at_trx_commit", "log_bin", "innodb_buffer_pool_size")
        shown = [f"{name} {await self.execute(self._url, f'select @@{name}')}" for name in names]
        return "MariaDB: " + ", ".join(shown)

    async def create(self, name: str) -> str:
        """The address is that of the server, with another database."""
        await self.drop(name)
        await self.execute(self._url, f"create database {name}")
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    async def drop(self, name: str) -> None:
        """It may not be there."""
        await self.execute(self._url, f"drop database if exists {name}")

    async def execute(self, url: str, sql: str) -> Any:
        """A connection for each."""
        connection = await connect_mariadb(url)
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)
                row = await cursor.fetchone()
                return row[0] if row else None
        finally:
            await connection.ensure_closed()

    async def run_script(self, url: str, script: str) -> None:
        """Statement by statement; a semicolon at the end of a line ends one."""
        connection = await connect_mariadb(url)
        try:
            async with connection.cursor() as cursor:
                for statement in script.split(";\n"):
                    if statement.strip():
                        await cursor.execute(statement)
        finally:
            await connection.ensure_closed()

    async def until_none(self, url: str, count: str) -> None:
        """One connection; each statement sees what is committed by then."""
        connection = await connect_mariadb(url)
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(count)
                while (await cursor.fetchone())[0]:
                    await asyncio.sleep(LOOK)
                    await cursor.execute(count)
        finally:
            await connection.ensure_closed()

    async def tidy(self, url: str) -> None:
        """InnoDB does it by itself."""

    async def flush(self, url: str) -> None:
        """InnoDB flushes all the time."""


async def connect_mariadb(url: str) -> Any:
    """A connection that commits each statement."""
    parts = urlsplit(url)
    return await asyncmy.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=parts.path.removeprefix("/") or None,
        autocommit=True,
    )


@asynccontextmanager
async def fresh_database(server: Server, name: str) -> AsyncGenerator[str]:
    """The URL of an empty database, dropped when what is measured in it has ended."""
    name = "commandjobs_bench_" + re.sub(r"\W+", "_", name)
    url = await server.create(name)
    try:
        yield url
    finally:
        await server.drop(name)
