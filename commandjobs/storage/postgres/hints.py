"""LISTEN and NOTIFY: one coalesced hint that there is something to do, sent off the write path.

Inside the enqueuing transaction a NOTIFY would make all commits wait for each other (24,700 to 5,000 a second in the
trial). A hint carries nothing and may get lost: behind it there is a poll.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any
from zlib import crc32

import asyncpg

from commandjobs.storage.postgres.connections import PostgresDriver

_log = logging.getLogger("commandjobs.storage")

GAP = 0.005
"""Seconds between two hints."""
LONGEST_PAUSE = 5.0
"""Seconds between attempts to listen again."""


class Hints:
    """One connection that listens, and rings for others."""

    def __init__(self, driver: PostgresDriver, schema: str, *, on_hint: Callable[[], None]) -> None:
        """on_hint: called when another process has rung."""
        self._driver = driver
        self._channel = f"commandjobs_{crc32(schema.encode()):08x}"
        self._on_hint = on_hint
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._rung = asyncio.Event()
        self._random = Random()  # noqa: S311  so that nodes that lost their server do not all come back together

    @property
    def listening(self) -> bool:
        """Whether hints of others are heard."""
        return self._connection is not None and not self._connection.is_closed()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="commandjobs hints")

    def ring(self) -> None:
        """There is something to do for others."""
        self._rung.set()

    async def close(self) -> None:
        """Send what is to be sent, and listen no more."""
        task, self._task = self._task, None
        if self._rung.is_set() and self.listening:
            with suppress(Exception):
                await self._notify()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._connection is not None:
            with suppress(Exception):
                await self._connection.close(timeout=1.0)

    async def _run(self) -> None:
        pause = 0.1
        while True:
            try:
                await self._listen()
                pause = 0.1
                await self._ring_for_ever()
            except Exception as error:  # whatever it is: who hears nothing must try again
                _log.info("Hints are not heard now (%s); jobs of other nodes are found by looking.", error)
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            await asyncio.sleep(pause * (0.5 + self._random.random()))
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _listen(self) -> None:
        # A NOTIFY is a transaction of its own, and would wait until nothing is on disk.
        connection = await self._driver.connect(synchronous_commit="off")
        try:
            connection.add_termination_listener(self._ended)
            await connection.add_listener(self._channel, self._heard)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self._on_hint()  # whatever was rung meanwhile

    async def _ring_for_ever(self) -> None:
        while self.listening:
            await self._rung.wait()
            self._rung.clear()
            async with asyncio.timeout(5.0):
                await self._notify()
            await asyncio.sleep(GAP)

    async def _notify(self) -> None:
        assert self._connection is not None
        await self._connection.execute(f"notify {self._channel}")

    def _ended(self, _connection: Any) -> None:
        self._rung.set()  # notices it

    def _heard(self, connection: Any, pid: int, _channel: str, _payload: str) -> None:
        if pid != connection.get_server_pid():
            self._on_hint()
