"""Ours, as a program that the benchmark starts."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from benchmarks.commands import Mail
from benchmarks.servers.program import Client, Ran, main
from commandjobs import AsyncCommand, BackgroundJobs


class Send(AsyncCommand[Mail]):
    """Returns at once. It gives no result: none of the others' does."""

    ran: ClassVar = Ran(starts=False)
    """This process's own."""

    async def run(self, request: Mail) -> None:
        """Say so."""
        self.ran(request.n)


class OursClient:
    """Stores jobs."""

    def __init__(self, jobs: BackgroundJobs) -> None:
        self._jobs = jobs

    async def send(self, mail: Mail) -> None:
        """One."""
        await self._jobs.enqueue_command(Send, mail)

    async def send_many(self, mails: Sequence[Mail]) -> None:
        """All in one transaction."""
        await self._jobs.enqueue_many(Send, mails)


class Ours:
    """As an app would use it, without any settings."""

    async def install(self, url: str) -> None:
        """The storage makes its tables when it is opened."""
        async with BackgroundJobs(url, execute=False):
            pass

    @asynccontextmanager
    async def client(self, url: str, connections: int) -> AsyncGenerator[Client]:
        """It has connections of its own."""
        async with BackgroundJobs(url, execute=False) as jobs:
            yield OursClient(jobs)

    async def work(self, url: str, ran: Ran) -> None:
        """As a worker's process does."""
        Send.ran = ran
        await BackgroundJobs(url).serve()


if __name__ == "__main__":
    main(Ours())
