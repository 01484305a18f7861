"""The cases: each runs on a fresh file and gives what it measured, beside the floor of the same moment."""

import asyncio
import gc
import resource
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import Any

from benchmarks.commands import AsyncNoop, Mail, NoteStart, SyncNoop, mails, started
from benchmarks.floor import bare_batches, bare_commits
from benchmarks.history import archived, backlog
from commandjobs import BackgroundJobs, Command

PAUSE = 0.005
"""Seconds between jobs of the idle engine. (Disk and CPU fall asleep meanwhile: a bare commit takes twice as long.)"""
BUSY_TURN = 0.002


@dataclass(frozen=True, slots=True)
class Measure:
    """One run of one case."""

    rate: float
    """Per second; for latencies, 1 over the median."""
    floor: float
    """The same of the bare SQLite."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    floor_p50_ms: float | None = None
    floor_p99_ms: float | None = None
    cpu_us: float | None = None
    """Microseconds of CPU per job, of the whole process."""
    grown_mb: float | None = None
    """Megabytes that the process has grown by."""

    @property
    def ratio(self) -> float:
        """How many times the floor."""
        return self.rate / self.floor


async def sequential(folder: Path) -> Measure:
    """(a) Enqueues, one awaited after the other, while no job runs; chunks of the floor between."""
    took: list[float] = []
    floor: list[float] = []
    async with BackgroundJobs(_url(folder), execute=False) as jobs:
        await _warm_up(jobs)
        for _ in range(4):
            floor += bare_commits(folder, commits=500)
            for mail in mails(500):
                before = perf_counter()
                await jobs.enqueue_command(AsyncNoop, mail)
                took.append(perf_counter() - before)
    return _latencies(took, floor)


async def concurrent(folder: Path) -> Measure:
    """(b) 50 enqueuers at once."""
    floor = commit_rate(folder)
    work = mails(20_000)

    async with BackgroundJobs(_url(folder), execute=False) as jobs:
        count = len(work)
        before, cpu = perf_counter(), process_time()
        await _enqueue(jobs, work, callers=50)
        return Measure(count / (perf_counter() - before), floor, cpu_us=(process_time() - cpu) / count * 1e6)


async def bulk(folder: Path) -> Measure:
    """(c) One call with 10,000 jobs; the floor is executemany in batches of 1,000."""
    floor = bare_batches(folder, rows=50_000)
    async with BackgroundJobs(_url(folder), execute=False) as jobs:
        await _warm_up(jobs)
        rates: list[float] = []
        for _ in range(3):
            work = mails(10_000)
            before = perf_counter()
            await jobs.enqueue_many(AsyncNoop, work)
            rates.append(len(work) / (perf_counter() - before))
    return Measure(median(rates), floor)


async def drain_async(folder: Path) -> Measure:
    """(d) 20,000 queued jobs, from the start of an engine until the last is archived; async commands."""
    return await _drain(folder, AsyncNoop)


async def drain_sync(folder: Path) -> Measure:
    """(d) The same with sync commands."""
    return await _drain(folder, SyncNoop)


async def start_latency(folder: Path) -> Measure:
    """(e) From the call of enqueue to the first line of the body, on an idle engine; the floor commits as rarely."""
    floor: list[float] = []
    took: list[float] = []
    async with BackgroundJobs(_url(folder)) as jobs:
        await _warm_up(jobs)
        for mail in mails(400):
            await asyncio.sleep(PAUSE)
            before = perf_counter()
            ref = await jobs.enqueue_command(NoteStart, mail)
            await ref.result()
            took.append(started.pop(mail.n) - before)
            if mail.n % 50 == 0:
                floor += bare_commits(folder, commits=50, pause=PAUSE)
    return _latencies(took, floor)


async def life(folder: Path) -> Measure:
    """(f) A whole life: 500 enqueuers, an engine that runs at the same time, until the last job is archived."""
    floor = commit_rate(folder)
    work = mails(20_000)

    async with BackgroundJobs(_url(folder)) as jobs:
        count = len(work)
        before, cpu = perf_counter(), process_time()
        await _enqueue(jobs, work, callers=500)
        await jobs.wait_until_idle()
        return Measure(count / (perf_counter() - before), floor, cpu_us=(process_time() - cpu) / count * 1e6)


async def busy_loop(folder: Path) -> Measure:
    """An enqueue while the loop is busy with Python in turns of 2 ms; the floor is one turn."""
    took, _ = await _beside_a_busy_loop(folder)
    return _latencies(took, [BUSY_TURN] * 100)


async def loop_lag(folder: Path) -> Measure:
    """What the engine adds to such a turn: from its end to the beginning of the next; the floor is an empty loop's."""
    _, lag = await _beside_a_busy_loop(folder)
    empty: list[float] = []
    for _ in range(300):
        before = perf_counter()
        await asyncio.sleep(0)
        empty.append(perf_counter() - before)
    return _latencies(lag, empty)


async def neighbour(folder: Path) -> Measure:
    """An enqueue while another process commits to the same file without pause; the floor is a bare commit alone."""
    floor = bare_commits(folder, commits=500)
    took: list[float] = []
    async with BackgroundJobs(_url(folder), execute=False) as jobs:
        await _warm_up(jobs)
        program = [sys.executable, "-m", "benchmarks.neighbour", _url(folder)]
        other = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        assert other.stdout is not None
        await other.stdout.readline()
        for mail in mails(1_000):
            before = perf_counter()
            await jobs.enqueue_command(AsyncNoop, mail)
            took.append(perf_counter() - before)
        other.kill()
        await other.wait()
    return _latencies(took, floor)


async def memory(folder: Path) -> Measure:
    """What an engine has grown by, from its first 10,000 jobs to 1,000,000; the rate is of all of them."""
    floor = commit_rate(folder)
    count, piece = 1_000_000, 10_000
    before = perf_counter()
    async with BackgroundJobs(_url(folder)) as jobs:
        first = 0.0
        for _ in range(0, count, piece):
            await jobs.enqueue_many(AsyncNoop, mails(piece))
            await jobs.wait_until_idle()
            first = first or _memory_mb()
        grown = _memory_mb() - first
    return Measure(count / (perf_counter() - before), floor, grown_mb=grown)


async def grown_archive(folder: Path) -> Measure:
    """(g) The drain with 1,000,000 archived jobs; the floor is the drain without."""
    floor = await _rate_to_the_last(folder / "empty.db")
    await archived(folder / "grown.db", 1_000_000)
    return Measure(await _rate_to_the_last(folder / "grown.db"), floor)


async def grown_backlog(folder: Path) -> Measure:
    """(g) The drain with 200,000 jobs behind one busy worker; the floor is the drain without."""
    floor = await _rate_to_the_last(folder / "empty.db")
    await backlog(folder / "grown.db", 200_000)
    return Measure(await _rate_to_the_last(folder / "grown.db"), floor)


async def _beside_a_busy_loop(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of each enqueue, and those between one turn of the loop's own work and the next."""
    took: list[float] = []
    lag: list[float] = []
    stop = False

    async def busy() -> None:
        ended = perf_counter()
        while not stop:
            lag.append(perf_counter() - ended)
            until = perf_counter() + BUSY_TURN
            while perf_counter() < until:
                pass
            ended = perf_counter()
            await asyncio.sleep(0)

    async with BackgroundJobs(_url(folder), execute=False) as jobs:
        await _warm_up(jobs)
        turning = asyncio.ensure_future(busy())
        for mail in mails(300):
            before = perf_counter()
            await jobs.enqueue_command(AsyncNoop, mail)
            took.append(perf_counter() - before)
        stop = True
        await turning
    return took, lag


async def _drain(folder: Path, command: type[Command[Any, Any]]) -> Measure:
    floor = commit_rate(folder)
    count = 20_000
    async with BackgroundJobs(_url(folder), execute=False) as jobs:
        await jobs.enqueue_many(command, mails(count))
    before, cpu = perf_counter(), process_time()
    async with BackgroundJobs(_url(folder)) as jobs:
        await jobs.wait_until_idle()
        took, used = perf_counter() - before, process_time() - cpu
    return Measure(count / took, floor, cpu_us=used / count * 1e6)


async def _rate_to_the_last(database: Path) -> float:
    """Jobs per second, until the last of 20,000 has ended, whatever else waits."""
    count = 20_000
    async with BackgroundJobs(database, execute=False) as jobs:
        refs = await jobs.enqueue_many(AsyncNoop, mails(count))
    async with BackgroundJobs(database, shutdown_grace=0) as jobs:
        before = perf_counter()
        await jobs.ref(refs[-1].id).result()
        return count / (perf_counter() - before)


async def _enqueue(jobs: BackgroundJobs, work: list[Mail], *, callers: int) -> None:
    async def caller() -> None:
        while work:
            await jobs.enqueue_command(AsyncNoop, work.pop())

    await asyncio.gather(*(caller() for _ in range(callers)))


async def _warm_up(jobs: BackgroundJobs) -> None:
    """As a process is that has been up for a moment: the log has grown, what runs first has run."""
    await asyncio.sleep(1)
    for mail in mails(50):
        await jobs.enqueue_command(AsyncNoop, mail)
    await asyncio.sleep(0.2)


def commit_rate(folder: Path) -> float:
    """Commits of one row per second, on this disk now."""
    return 1 / median(bare_commits(folder, commits=1_000))


def _latencies(took: list[float], floor: list[float]) -> Measure:
    mine, bare = _quantiles_ms(took), _quantiles_ms(floor)
    return Measure(len(took) / sum(took), len(floor) / sum(floor), *mine, floor_p50_ms=bare[0], floor_p99_ms=bare[1])


def _quantiles_ms(seconds: list[float]) -> tuple[float, float]:
    cuts = quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'jobs.db'}"


def _memory_mb() -> float:
    """What this process holds now, after the garbage is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1024**2


def peak_memory_mb() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


Case = Callable[[Path], Coroutine[Any, Any, Measure]]
