"""The same work with Huey on SQLite: what a user would pick instead. (Huey deletes a job before it runs it.)"""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from huey import SqliteHuey  # type: ignore[import-untyped]
from huey.consumer import Consumer  # type: ignore[import-untyped]

from benchmarks.cases import Measure, commit_rate


async def sequential(folder: Path) -> Measure:
    """(a) One enqueue after the other, from plain code."""
    floor, send = commit_rate(folder), _task(folder)
    before = perf_counter()
    for number in range(2_000):
        send("my@email.com", number)
    return Measure(2_000 / (perf_counter() - before), floor)


async def concurrent(folder: Path) -> Measure:
    """(b) 50 threads at once."""
    floor, send = commit_rate(folder), _task(folder)
    before = perf_counter()
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(lambda number: send("my@email.com", number), range(5_000)))
    return Measure(5_000 / (perf_counter() - before), floor)


async def drain(folder: Path) -> Measure:
    """(d) 5,000 queued jobs, run by a consumer with one thread, which is its fastest."""
    floor, done = commit_rate(folder), threading.Event()
    send = _task(folder, last=4_999, done=done)
    for number in range(5_000):
        send("my@email.com", number)
    consumer = Consumer(send.huey, workers=1, periodic=False, initial_delay=0.001, max_delay=0.01)
    before = perf_counter()
    consumer.start()
    done.wait(60)
    took = perf_counter() - before
    consumer.stop(graceful=True)
    return Measure(5_000 / took, floor)


def _task(folder: Path, *, last: int = -1, done: threading.Event | None = None) -> Any:
    def send(to: str, n: int) -> None:
        del to
        if n == last and done is not None:
            done.set()

    return SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False).task()(send)
