"""The work: jobs that do nothing, so that what is measured is the library."""

import asyncio
from time import perf_counter

from pydantic import BaseModel

from commandjobs import AsyncCommandWithResult, SyncCommandWithResult

started: dict[int, float] = {}
"""When the body of job n was reached."""


class Mail(BaseModel):
    """The request of every case."""

    to: str
    n: int


class AsyncNoop(AsyncCommandWithResult[Mail, int]):
    """Returns at once, on the loop."""

    async def run(self, request: Mail) -> int:
        """Give a result, so that one is stored."""
        return request.n


class SyncNoop(SyncCommandWithResult[Mail, int]):
    """Returns at once, in a thread."""

    def run(self, request: Mail) -> int:
        """Give a result, so that one is stored."""
        return request.n


class NoteStart(AsyncCommandWithResult[Mail, int]):
    """Says when it was reached."""

    async def run(self, request: Mail) -> int:
        """Note the time."""
        started[request.n] = perf_counter()
        return request.n


class Endless(AsyncCommandWithResult[Mail, int]):
    """Keeps its worker busy."""

    async def run(self, request: Mail) -> int:
        """Wait until the engine stops."""
        await asyncio.Event().wait()
        return request.n


def mails(count: int) -> list[Mail]:
    """So many requests."""
    return [Mail(to="my@email.com", n=number) for number in range(count)]
