"""The cases: each asks every engine for the same work, once, one engine after the other, on one server.

Their letters are those of `benchmarks/cases.py`. A drain is timed from the first line of its first job to that of its
last: how long a process takes to start says nothing of either.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from time import monotonic_ns

from benchmarks.servers import engine as engines
from benchmarks.servers import history
from benchmarks.servers.engine import Engine
from benchmarks.servers.figure import Figure, latencies
from benchmarks.servers.process import Child, Workers, client, install, workers
from benchmarks.servers.server import Server, fresh_database

Figures = dict[str, Figure]
Case = Callable[[Server, Sequence[Engine]], Awaitable[Figures]]

PIECE = 10_000
"""Jobs of one bulk call."""
PAUSE = 0.02
"""Seconds between two jobs of an idle worker."""
WAIT = 300
"""Seconds that an engine may take, at most."""


async def sequential(server: Server, all: Sequence[Engine]) -> Figures:
    """(a) Enqueues, each awaited before the next; the engines take turns of 250."""
    took: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        clients: list[Child] = []
        for engine in _enqueuing(all):
            url = await stack.enter_async_context(_installed(server, engine))
            clients.append(await stack.enter_async_context(client(engine, url)))
        for each in clients:
            await each.ask(do="one_by_one", count=100)
        for _ in range(8):
            for each in clients:
                answer = await each.ask(do="one_by_one", count=250)
                took.setdefault(each.engine.name, []).extend(answer["took"])
    return {name: latencies(seconds) for name, seconds in took.items()}


async def concurrent(server: Server, all: Sequence[Engine]) -> Figures:
    """(b) 50 enqueuers at once; the bare driver makes its commits one after the other."""
    figures: Figures = {}
    for engine in _enqueuing(all):
        async with _installed(server, engine) as url, client(engine, url, connections=10) as enqueuer:
            if engine.unfinished is None:
                await enqueuer.ask(do="one_by_one", count=100)
                figures[engine.name] = latencies((await enqueuer.ask(do="one_by_one", count=2_000))["took"])
                continue
            await enqueuer.ask(do="at_once", count=1_000, callers=50)
            count = engine.drained // 2
            answer = await enqueuer.ask(do="at_once", count=count, callers=50)
            figures[engine.name] = Figure(count / answer["seconds"], cpu_us=answer["cpu"] / count * 1e6)
    return figures


async def bulk(server: Server, all: Sequence[Engine]) -> Figures:
    """(c) 10,000 jobs in one call; the bare driver inserts 1,000 rows a commit."""
    figures: Figures = {}
    for engine in _enqueuing(all):
        async with _installed(server, engine) as url, client(engine, url, connections=10) as enqueuer:
            await enqueuer.ask(do="many", count=1_000)
            answers = [await enqueuer.ask(do="many", count=PIECE) for _ in range(3)]
        seconds, cpu = (median(answer[name] for answer in answers) for name in ("seconds", "cpu"))
        figures[engine.name] = Figure(PIECE / seconds, cpu_us=cpu / PIECE * 1e6)
    return figures


async def drain(server: Server, all: Sequence[Engine]) -> Figures:
    """(d) 20,000 queued jobs, run by one process, and by two."""
    figures: Figures = {}
    for engine in _running(all):
        figures[engine.name] = await _drain(server, engine)
        figures[f"{engine.name}, 2 processes"] = await _drain(server, engine, processes=2)
    return figures


async def start_latency(server: Server, all: Sequence[Engine]) -> Figures:
    """(e) From the call of enqueue in one process to the first line of the job in another, which is idle."""
    figures: Figures = {}
    for engine in _running(all):
        async with _installed(server, engine) as url, client(engine, url, connections=10) as enqueuer:
            async with workers(engine, url, starts=True) as worker, asyncio.timeout(WAIT):
                await worker.go()
                await enqueuer.ask(do="paced", count=20, pause=PAUSE)
                await worker.have_run(20)
                answer = await enqueuer.ask(do="paced", count=300, pause=PAUSE)
                await worker.have_run(320)
            figures[engine.name] = latencies([(worker.reached[n] - called) / 1e9 for n, called in answer["called"]])
    return figures


async def life(server: Server, all: Sequence[Engine]) -> Figures:
    """(f) 500 enqueuers in one process, while another runs what they enqueue, until the last has been run."""
    figures: Figures = {}
    for engine in _running(all):
        count = engine.drained
        async with _installed(server, engine) as url, client(engine, url, connections=10) as enqueuer:
            async with workers(engine, url) as worker, asyncio.timeout(WAIT):
                await worker.go()
                await enqueuer.ask(do="paced", count=20, pause=PAUSE)
                await worker.have_run(20)
                answer = await enqueuer.ask(do="at_once", count=count, callers=500)
                await worker.have_run(count + 20)
            seconds, cpu = (worker.last - answer["began"]) / 1e9, worker.cpu + answer["cpu"]
            figures[engine.name] = Figure(count / seconds, cpu_us=cpu / count * 1e6)
    return figures


async def grown_archive(server: Server, all: Sequence[Engine]) -> Figures:
    """(g) Ours with 1,000,000 archived jobs, beside ours without."""
    [ours] = (engine for engine in all if engine.name == engines.OURS)
    empty = await _drain(server, ours)
    grown = await _drain(server, ours, grow=history.archived)
    return {f"{ours.name}, none archived": empty, f"{ours.name}, 1,000,000 archived": grown}


async def grown_backlog(server: Server, all: Sequence[Engine]) -> Figures:
    """(g) The first 20,000 of 200,000 queued jobs, beside 20,000 that are all."""
    figures: Figures = {}
    for engine in _running(all):
        figures[engine.name] = await _drain(server, engine)
        figures[f"{engine.name}, of ten times as many"] = await _drain(server, engine, queued=engine.backlog)
    return figures


async def _drain(
    server: Server,
    engine: Engine,
    *,
    processes: int = 1,
    queued: int = 0,
    grow: Callable[[Server, str], Awaitable[None]] | None = None,
) -> Figure:
    count = engine.drained
    async with _installed(server, engine) as url:
        if grow is not None:
            await grow(server, url)
        async with client(engine, url, connections=10) as enqueuer:
            for start in range(0, queued or count, PIECE):
                await enqueuer.ask(do="many", count=min(PIECE, (queued or count) - start))
        await server.tidy(url)
        async with workers(engine, url, count=processes) as running, asyncio.timeout(WAIT):
            await running.go()
            await running.have_run(count)
            seconds, ran = (running.last - running.first) / 1e9, running.ran
            ended_ms = None if queued else await _until_ended(server, engine, url, running)
            return Figure(ran / seconds, cpu_us=running.cpu / ran * 1e6, ended_ms=ended_ms)


async def _until_ended(server: Server, engine: Engine, url: str, running: Workers) -> float:
    """Milliseconds from the last job's first line until nothing is unfinished; looked at only after that line."""
    assert engine.unfinished is not None
    await server.until_none(url, engine.unfinished)
    return (monotonic_ns() - running.last) / 1e6


def _enqueuing(all: Sequence[Engine]) -> list[Engine]:
    return [engine for engine in all if engine.enqueues]


def _running(all: Sequence[Engine]) -> list[Engine]:
    return [engine for engine in all if engine.unfinished is not None]


@asynccontextmanager
async def _installed(server: Server, engine: Engine) -> AsyncGenerator[str]:
    """The URL of a database with the engine's tables."""
    async with fresh_database(server, engine.name) as url:
        await install(engine, url)
        yield url
