"""The programs of the engines, from the outside: started, asked, and killed."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from benchmarks.servers.engine import Engine
from benchmarks.servers.program import Order

PROJECT = Path(__file__).parents[2]
LINE = 1 << 24
"""Bytes, at most."""


class EngineFailed(Exception):
    """A program ended before it was told to; what it had to say stands above."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program that runs."""

    engine: Engine
    process: Process

    async def line(self) -> dict[str, Any]:
        """The next that it says."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise EngineFailed(f"{self.engine.name} ended with {await self.process.wait()}.")
        return cast("dict[str, Any]", json.loads(line))

    async def ask(self, **asked: Any) -> dict[str, Any]:
        """What it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(asked)}\n".encode())
        await self.process.stdin.drain()
        return await self.line()


@dataclass(frozen=True, slots=True)
class Told:
    """A line of a worker."""

    ran: int
    """Jobs so far."""
    first: int
    last: int
    """When the first and the last of them was reached, in nanoseconds."""
    cpu: float
    """Seconds, since it was told to go."""


@dataclass(slots=True)
class Workers:
    """Programs that run jobs, and what they have told of it."""

    children: list[Child]
    told: dict[int, Told] = field(default_factory=dict)
    """The last line of each."""
    reached: dict[int, int] = field(default_factory=dict)
    """When each job's first line was reached, if they tell."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def go(self) -> None:
        """Let all begin at once: they are loaded, and none has connected yet."""
        for child in self.children:
            assert child.process.stdin is not None
            child.process.stdin.write(b"go\n")

    async def watch(self, index: int) -> None:
        """Keep what a worker tells; for a task."""
        while True:
            line = await self.children[index].line()
            self.reached.update(line.pop("reached"))
            self.told[index] = Told(**line)
            self._news.set()

    async def have_run(self, count: int) -> None:
        """Wait until so many jobs have been run by all together."""
        while self.ran < count:
            self._news.clear()
            await self._news.wait()

    @property
    def ran(self) -> int:
        """Jobs run so far."""
        return sum(line.ran for line in self.told.values())

    @property
    def first(self) -> int:
        """When the first of all was reached, in nanoseconds."""
        return min(line.first for line in self.told.values())

    @property
    def last(self) -> int:
        """When the last of all was reached, in nanoseconds."""
        return max(line.last for line in self.told.values())

    @property
    def cpu(self) -> float:
        """Seconds of all together, since they were told to go."""
        return sum(line.cpu for line in self.told.values())


async def install(engine: Engine, url: str) -> None:
    """Make its tables."""
    process = await asyncio.create_subprocess_exec(
        *_program(engine, Order("install", url, loop=engine.loop)), cwd=PROJECT
    )
    if code := await process.wait():
        raise EngineFailed(f"{engine.name} could not make its tables: it ended with {code}.")


@asynccontextmanager
async def client(engine: Engine, url: str, *, connections: int = 1) -> AsyncGenerator[Child]:
    """A program that stores jobs, connected."""
    async with _running(engine, Order("client", url, connections, loop=engine.loop)) as child:
        yield child


@asynccontextmanager
async def workers(engine: Engine, url: str, *, count: int = 1, starts: bool = False) -> AsyncGenerator[Workers]:
    """Programs that run jobs, loaded; they begin when they are told to go."""
    async with AsyncExitStack() as stack:
        order = Order("worker", url, starts=starts, loop=engine.loop)
        children = [await stack.enter_async_context(_running(engine, order)) for _ in range(count)]
        running = Workers(children)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        watching = [group.create_task(running.watch(index)) for index in range(count)]
        yield running
        for task in watching:
            task.cancel()


@asynccontextmanager
async def _running(engine: Engine, order: Order) -> AsyncGenerator[Child]:
    process = await asyncio.create_subprocess_exec(
        *_program(engine, order), stdin=PIPE, stdout=PIPE, limit=LINE, cwd=PROJECT
    )
    child = Child(engine, process)
    try:
        await child.line()
        yield child
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _program(engine: Engine, order: Order) -> tuple[str, ...]:
    return (*engine.program, order.argument)
