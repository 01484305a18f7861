"""Transactions that are tried until they succeed or their deadline is over.

What is tried again must not have happened: a transaction that was rolled back has not, and where that is not known
(`OutcomeUnknown`) the work is told so, and looks first.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from random import Random
from time import monotonic
from typing import TypeVar

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.sql.driver import Connection, Driver, LanesWanted, MonthMissing, OutcomeUnknown, TryAgain

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds after which a call that cannot be made raises."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5
"""Seconds between tries, doubled from one to the next, of which a random part is waited."""
PATIENCE_FOR_NAMES = 0.25
"""Seconds that a transaction waits for a name before it gives its connection back, and tries again."""
WAIT_FOR_NAMES = 3
"""Connections on which names may be waited for at the same time: half of those that write."""


@dataclass(slots=True)
class Try:
    """What a try must know of those before it."""

    unknown: bool = False
    """One of them may have succeeded: its answer was lost."""
    lanes: frozenset[int] = frozenset()
    """Numbers of lanes that this one is to lock first."""


Work = Callable[[Connection, Try], Awaitable[T]]


class Transactions:
    """Runs work on a driver."""

    def __init__(self, driver: Driver, *, deadline: float = DEADLINE) -> None:
        """deadline: seconds for a call, all tries together."""
        self.driver = driver
        self.deadline = deadline
        self.make_month: Callable[[date], Awaitable[None]] | None = None
        """Makes room in the archive for a month that is missing there."""
        self._names = asyncio.Semaphore(WAIT_FOR_NAMES)
        self._random = Random()  # noqa: S311  for the jitter of tries

    async def write(
        self, work: Work[T], *, alone: bool = False, for_names: bool = False, deadline: float | None = None
    ) -> T:
        """Run work in a transaction. alone: it is one statement, which is a transaction of its own.

        for_names: it wants names that an open transaction of a stranger may hold for as long as he likes.
        deadline: on the clock of `time.monotonic`.
        """
        open_connection = self.driver.statement if alone else self.driver.transaction
        if for_names:
            open_connection = self._for_names
        ends = monotonic() + self.deadline if deadline is None else deadline
        this, pause = Try(), FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(max(0.05, ends - monotonic())), open_connection() as connection:
                    return await work(connection, this)
            except TimeoutError as error:
                raise self._late(error) from error
            except TryAgain as error:
                this.unknown = this.unknown or isinstance(error, OutcomeUnknown)
                if isinstance(error, MonthMissing) and self.make_month is not None:
                    await self.make_month(error.month)
                    continue
                if isinstance(error, LanesWanted):
                    this.lanes |= error.numbers
                if monotonic() + pause >= ends:
                    raise self._late(error) from error
            await asyncio.sleep(pause * (0.5 + self._random.random()))
            pause = min(LONGEST_PAUSE, pause * 2)

    async def look(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a look."""
        ends, pause = monotonic() + self.deadline, FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(max(0.05, ends - monotonic())), self.driver.looking() as connection:
                    return await work(connection)
            except TimeoutError as error:
                raise self._late(error) from error
            except TryAgain as error:
                if monotonic() + pause >= ends:
                    raise self._late(error) from error
            await asyncio.sleep(pause * (0.5 + self._random.random()))
            pause = min(LONGEST_PAUSE, pause * 2)

    @asynccontextmanager
    async def _for_names(self) -> AsyncGenerator[Connection]:
        """Whoever waits for a stranger has little patience and tries again, and never has all connections."""
        async with self._names, self.driver.transaction(patience=PATIENCE_FOR_NAMES) as connection:
            yield connection

    def _late(self, error: BaseException) -> StorageUnavailable:
        why = f" ({error})" if str(error) else ""
        return StorageUnavailable(
            f"{self.driver.place} did not do what was asked within {self.deadline:g} s{why}. "
            "Work goes on by itself when it answers again."
        )
