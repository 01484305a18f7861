"""A few connections for one purpose, opened when they are needed and kept for the next who needs one."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar


class Pooled(Protocol):
    """A connection of a driver."""

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        ...

    async def close(self) -> None:
        """Say good-bye to the server."""
        ...

    def is_lost_by(self, error: BaseException) -> bool:
        """Whether this error, which was raised by what was done with it, leaves it of no use."""
        ...

    def drop(self) -> None:
        """Close it without a word: it may be in the middle of something."""
        ...


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """Connections of one kind."""

    def __init__(self, connect: Callable[[], Awaitable[C]], size: int) -> None:
        """size: most connections at once."""
        self._connect = connect
        self._places = asyncio.Semaphore(size)
        self._idle: list[C] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[C]:
        """One of them; it is thrown away if what is done with it leaves it in the middle of something."""
        async with self._places:
            connection = await self._take()
            try:
                yield connection
            except BaseException as error:
                if not isinstance(error, Exception) or connection.is_lost_by(error):
                    connection.drop()
                    self.drop_idle()
                raise
            finally:
                if self._closed:
                    connection.drop()
                elif not connection.is_closed:
                    self._idle.append(connection)

    async def close(self) -> None:
        """Close all that are idle, and each other one when it comes back."""
        self._closed = True
        while self._idle:
            with suppress(Exception):
                await self._idle.pop().close()

    def drop_idle(self) -> None:
        """Where one connection died the others may have: each would cost its caller a deadline to find out."""
        while self._idle:
            self._idle.pop().drop()

    async def _take(self) -> C:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        return await self._connect()
