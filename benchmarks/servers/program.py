"""What the program of an engine answers: an order as its only argument, then JSON lines on stdin and stdout.

install   makes the engine's tables
client    answers {"do": "one_by_one" | "at_once" | "many" | "paced", …} with what that took
worker    says {"ready": true}, waits for a line, runs jobs until it is killed, and tells of those it has run
"""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from time import monotonic_ns, perf_counter, process_time
from typing import Any, Literal, Protocol

from benchmarks.commands import Mail, mails

Loop = Literal["asyncio", "uvloop"]

TELLING = 0.02
"""Seconds between two lines of a worker."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a program is to be."""

    role: Literal["install", "client", "worker"]
    url: str
    connections: int = 1
    """Of a client, where its engine leaves that to the caller."""
    starts: bool = False
    """Whether a worker tells when each job was reached."""
    loop: Loop = "uvloop"

    @property
    def argument(self) -> str:
        """As the last argument of a program."""
        return json.dumps(asdict(self))


class Client(Protocol):
    """Stores jobs."""

    async def send(self, mail: Mail, /) -> None: ...

    async def send_many(self, mails: Sequence[Mail], /) -> None: ...


@dataclass(slots=True)
class Ran:
    """The jobs that this worker has run: the first line of every engine's job calls it."""

    starts: bool
    count: int = 0
    first: int = 0
    last: int = 0
    """When the first and the last was reached: nanoseconds of the clock that all processes of a machine share."""
    reached: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, n: int = -1) -> None:
        """Job n runs."""
        self.last = monotonic_ns()
        self.first = self.first or self.last
        self.count += 1
        if self.starts:
            self.reached.append((n, self.last))


class Program(Protocol):
    """An engine: three roles."""

    async def install(self, url: str) -> None:
        """Make the tables."""
        ...

    def client(self, url: str, connections: int) -> AbstractAsyncContextManager[Client]:
        """One that stores jobs, connected."""
        ...

    async def work(self, url: str, ran: Ran) -> None:
        """Run jobs until cancelled."""
        ...


def main(program: Program) -> None:
    """Do what the last argument says."""
    order = Order(**json.loads(sys.argv[-1]))
    roles: dict[str, Callable[[Program, Order], Coroutine[Any, Any, None]]] = {
        "install": _install,
        "client": _client,
        "worker": _worker,
    }
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if order.loop == "uvloop":
        import uvloop  # noqa: PLC0415  there is none for Windows

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(roles[order.role](program, order))


async def _install(program: Program, order: Order) -> None:
    await program.install(order.url)


async def _client(program: Program, order: Order) -> None:
    ways: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
        "one_by_one": _one_by_one,
        "at_once": _at_once,
        "many": _many,
        "paced": _paced,
    }
    async with program.client(order.url, order.connections) as client:
        _freeze()
        _tell({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            _tell(await ways[asked.pop("do")](client, **asked))


async def _worker(program: Program, order: Order) -> None:
    ran = Ran(order.starts)
    _freeze()
    _tell({"ready": True})
    await asyncio.to_thread(sys.stdin.readline)
    telling = asyncio.ensure_future(_keep_telling(ran, process_time()))
    try:
        await program.work(order.url, ran)
    finally:
        telling.cancel()


async def _one_by_one(client: Client, count: int) -> dict[str, Any]:
    """Each awaited before the next: seconds of each."""
    took: list[float] = []
    for mail in mails(count):
        before = perf_counter()
        await client.send(mail)
        took.append(perf_counter() - before)
    return {"took": took}


async def _at_once(client: Client, count: int, callers: int) -> dict[str, Any]:
    """So many callers, each with one job at a time."""
    work = mails(count)

    async def caller() -> None:
        while work:
            await client.send(work.pop())

    began, before, cpu = monotonic_ns(), perf_counter(), process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"seconds": perf_counter() - before, "cpu": process_time() - cpu, "began": began}


async def _many(client: Client, count: int) -> dict[str, Any]:
    """One call."""
    work = mails(count)
    before, cpu = perf_counter(), process_time()
    await client.send_many(work)
    return {"seconds": perf_counter() - before, "cpu": process_time() - cpu}


async def _paced(client: Client, count: int, pause: float) -> dict[str, Any]:
    """One job after each pause: when it was called for."""
    called: list[tuple[int, int]] = []
    for mail in mails(count):
        await asyncio.sleep(pause)
        called.append((mail.n, monotonic_ns()))
        await client.send(mail)
    return {"called": called}


async def _keep_telling(ran: Ran, cpu_before: float) -> None:
    told = 0
    while True:
        await asyncio.sleep(TELLING)
        if ran.count > told:
            told, reached, ran.reached = ran.count, ran.reached, []
            cpu = process_time() - cpu_before
            _tell({"ran": told, "first": ran.first, "last": ran.last, "cpu": cpu, "reached": reached})


def _freeze() -> None:
    """As `jobs.serve()` does: what is imported is not walked again by the garbage collector."""
    gc.collect()
    gc.freeze()


def _tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)
