"""Every kind of connection that a caller may bring, with a transaction open on it, behind one face."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from functools import cache, partial
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg
import django
import psycopg
import psycopg2
from django.conf import settings
from django.db import connection as django_connection
from django.db import transaction as django_transaction
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from commandjobs import BackgroundJobs
from tests import postgres

T = TypeVar("T")

address = postgres.address
ORDERS = f"{postgres.SCHEMA}_orders"
"""A table of the callers' own."""


def orders() -> list[str]:
    """What is in it for all to see."""
    return [name for (name,) in postgres.query(f"select name from {ORDERS} order by name")]


class Caller(ABC):
    """Somebody with a transaction. `connection` is what he gives as `connection=`."""

    connection: Any

    @abstractmethod
    async def begin(self) -> None:
        """Connect, and begin a transaction."""

    @abstractmethod
    async def execute(self, sql: str) -> None:
        """Do something of his own in it."""

    @abstractmethod
    async def end(self, *, commit: bool) -> None:
        """Commit it, or roll it back."""

    @abstractmethod
    async def leave(self) -> None:
        """Disconnect, whatever is open."""

    async def enqueue(self, jobs: BackgroundJobs, *what: Any, by: str = "enqueue_command", **options: Any) -> Any:
        """Enqueue in it; returns what `jobs.<by>` does, or `jobs.sync.<by>` where the connection blocks."""
        return await getattr(jobs, by)(*what, connection=self.connection, **options)

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.leave()


# ── async ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Asyncpg(Caller):
    async def begin(self) -> None:
        self.raw = self.connection = await asyncpg.connect(address())
        self.transaction = self.raw.transaction()
        await self.transaction.start()

    async def execute(self, sql: str) -> None:
        await self.connection.execute(sql)

    async def end(self, *, commit: bool) -> None:
        await (self.transaction.commit() if commit else self.transaction.rollback())

    async def leave(self) -> None:
        self.raw.terminate()


class AsyncpgPool(Asyncpg):
    async def begin(self) -> None:
        self.stack = AsyncExitStack()
        pool = await self.stack.enter_async_context(asyncpg.create_pool(address(), min_size=1, max_size=1))
        self.connection = await self.stack.enter_async_context(pool.acquire())
        self.transaction = self.connection.transaction()
        await self.transaction.start()

    async def leave(self) -> None:
        await self.stack.aclose()


class AsyncPsycopg(Caller):
    async def begin(self) -> None:
        self.connection = await psycopg.AsyncConnection.connect(address())

    async def execute(self, sql: str) -> None:
        await self.connection.execute(sql)

    async def end(self, *, commit: bool) -> None:
        await (self.connection.commit() if commit else self.connection.rollback())

    async def leave(self) -> None:
        await self.connection.close()


class AsyncSqlalchemyConnection(Caller):
    driver = "asyncpg"

    async def begin(self) -> None:
        self.engine = create_async_engine(address_for(self.driver), poolclass=NullPool)
        self.connection = await self.connect()

    async def connect(self) -> Any:
        return await self.engine.connect()

    async def execute(self, sql: str) -> None:
        await self.connection.execute(text(sql))

    async def end(self, *, commit: bool) -> None:
        await (self.connection.commit() if commit else self.connection.rollback())

    async def leave(self) -> None:
        await self.connection.close()
        await self.engine.dispose()


class AsyncSqlalchemyConnectionPsycopg(AsyncSqlalchemyConnection):
    driver = "psycopg"


class AsyncSqlalchemySession(AsyncSqlalchemyConnection):
    async def connect(self) -> Any:
        return AsyncSession(self.engine)


class AsyncSqlalchemySessionPsycopg(AsyncSqlalchemySession):
    driver = "psycopg"


class AsyncSqlalchemyScopedSession(AsyncSqlalchemyConnection):
    async def connect(self) -> Any:
        return async_scoped_session(async_sessionmaker(self.engine), scopefunc=asyncio.current_task)


# ── blocking: each in a thread of its own, which its connection never leaves ────────────────────────────────────────


class Blocking(Caller):
    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)

    async def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, partial(function, *arguments, **options))

    async def begin(self) -> None:
        await self.call(self.connect)

    async def enqueue(self, jobs: BackgroundJobs, *what: Any, by: str = "enqueue_command", **options: Any) -> Any:
        return await self.call(getattr(jobs.sync, by), *what, connection=self.connection, **options)

    async def execute(self, sql: str) -> None:
        await self.call(self.run, sql)

    async def end(self, *, commit: bool) -> None:
        await self.call(self.connection.commit if commit else self.connection.rollback)

    async def leave(self) -> None:
        await self.call(self.disconnect)
        self.thread.shutdown()

    @abstractmethod
    def connect(self) -> None: ...

    @abstractmethod
    def run(self, sql: str) -> None: ...

    def disconnect(self) -> None:
        self.connection.close()


class Psycopg(Blocking):
    def connect(self) -> None:
        self.connection = psycopg.connect(address())

    def run(self, sql: str) -> None:
        self.connection.execute(sql)


class Psycopg2(Blocking):
    def connect(self) -> None:
        self.connection = psycopg2.connect(address())

    def run(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)


class SqlalchemyConnection(Blocking):
    driver: ClassVar[str] = "psycopg"

    def connect(self) -> None:
        self.engine = create_engine(address_for(self.driver), poolclass=NullPool)
        self.connection = self.opened()

    def opened(self) -> Any:
        return self.engine.connect()

    def run(self, sql: str) -> None:
        self.connection.execute(text(sql))


class SqlalchemyConnectionPsycopg2(SqlalchemyConnection):
    driver = "psycopg2"


class SqlalchemySession(SqlalchemyConnection):
    def opened(self) -> Any:
        return Session(self.engine)


class SqlalchemySessionPsycopg2(SqlalchemySession):
    driver = "psycopg2"


class SqlalchemyScopedSession(SqlalchemyConnection):
    def opened(self) -> Any:
        return scoped_session(sessionmaker(self.engine))


class Django(Blocking):
    def connect(self) -> None:
        set_up_django()
        self.connection = django_connection
        self.stack = ExitStack()
        self.stack.enter_context(django_transaction.atomic())

    def run(self, sql: str) -> None:
        with django_connection.cursor() as cursor:
            cursor.execute(sql)

    async def end(self, *, commit: bool) -> None:
        if not commit:
            await self.call(django_transaction.set_rollback, True)
        await self.call(self.stack.close)

    def disconnect(self) -> None:
        if django_connection.in_atomic_block:
            django_transaction.set_rollback(True)
        self.stack.close()
        django_connection.close()


class DjangoAlias(Django):
    def connect(self) -> None:
        super().connect()
        self.connection = "default"


KINDS: tuple[type[Caller], ...] = (
    Asyncpg,
    AsyncpgPool,
    AsyncPsycopg,
    AsyncSqlalchemyConnection,
    AsyncSqlalchemyConnectionPsycopg,
    AsyncSqlalchemySession,
    AsyncSqlalchemySessionPsycopg,
    AsyncSqlalchemyScopedSession,
    Psycopg,
    Psycopg2,
    SqlalchemyConnection,
    SqlalchemyConnectionPsycopg2,
    SqlalchemySession,
    SqlalchemySessionPsycopg2,
    SqlalchemyScopedSession,
    Django,
    DjangoAlias,
)


def address_for(driver: str) -> str:
    """The tests' server as SQLAlchemy names it."""
    return "postgresql+" + driver + address()[address().index(":") :]


@cache
def set_up_django() -> None:
    parts = urlsplit(address())
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": parts.port or "",
    }
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()
