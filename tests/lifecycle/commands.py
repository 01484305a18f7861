"""Commands that the tests of a job's life run, what they have done, and how to wait for a job."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    Job,
    JobState,
    SyncCommand,
    current_job,
    retry,
)


@dataclass
class Stage:
    """What the jobs of one test wait for, and what they have done."""

    done: list[str] = field(default_factory=list)
    """What was noted, in order."""
    inside: int = 0
    """Held jobs that run now."""
    most_inside: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Held async jobs end when it is set."""
    thread_gate: threading.Event = field(default_factory=threading.Event)
    """The same for held sync jobs."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, name: str) -> None:
        with self.lock:
            self.done.append(name)
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def open(self) -> None:
        """Let go whatever is held."""
        self.gate.set()
        self.thread_gate.set()


stage = Stage()


def clear_stage() -> None:
    """Nothing was done yet, and every gate is closed."""
    stage.__init__()  # type: ignore[misc]


class LifeNote(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        stage.done.append(request)


class LifeNothing(AsyncCommand):
    async def run(self) -> None:
        pass


class LifeThreadNote(SyncCommand[str]):
    def run(self, request: str) -> None:
        stage.done.append(request)


class LifeEcho(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        return request


class LifeError(Exception):
    pass


class LifeFail(AsyncCommand[str]):
    """Fails with the default policy."""

    async def run(self, request: str) -> None:
        stage.done.append(request)
        raise LifeError(request)


@retry(limit=0)
class LifeFailOnce(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.done.append(request)
        raise LifeError(request)


@retry(limit=3, backoff="fixed", delay=0.01)
class LifeFlaky(AsyncCommandWithResult[int, int]):
    """Fails so many times, then returns the number of its attempt."""

    async def run(self, request: int) -> int:
        attempt = current_job().attempt
        stage.done.append(f"attempt {attempt}")
        if attempt <= request:
            raise LifeError(f"attempt {attempt}")
        return attempt


class LifeHold(AsyncCommand[str]):
    """Runs until the gate opens."""

    async def run(self, request: str) -> None:
        stage.enter(request)
        try:
            await stage.gate.wait()
        finally:
            stage.leave()


class LifeThreadHold(SyncCommand[str]):
    """Holds a thread until the gate opens, whoever cancels it."""

    def run(self, request: str) -> None:
        stage.enter(request)
        stage.thread_gate.wait(20)
        stage.leave()


async def eventually(condition: Callable[[], Awaitable[object]], *, within: float = 30.0) -> None:
    """Wait until an awaited condition holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110  nothing tells of a change in a database
            await asyncio.sleep(0.002)


async def job(jobs: BackgroundJobs, id: int) -> Job:
    """The full record of a job."""
    found = await jobs.get_job(id)
    assert found is not None
    return found.job


async def state(jobs: BackgroundJobs, id: int) -> JobState:
    """Where a job is, by its summary and by its full record."""
    found = await jobs.get_job(id)
    assert found is not None
    assert found.summary.state is found.job.state
    return found.summary.state


async def until_state(jobs: BackgroundJobs, id: int, wanted: JobState) -> Job:
    """Wait until a job is there; its record then."""

    async def is_there() -> bool:
        return await state(jobs, id) is wanted

    await eventually(is_there)
    return await job(jobs, id)


async def until_retry(jobs: BackgroundJobs, id: int, *, attempts: int) -> Job:
    """Wait until a job has failed so many times and waits for the next attempt; its record then."""

    async def waits() -> bool:
        found = await job(jobs, id)
        return found.state is JobState.QUEUED and found.attempts == attempts and found.run_after is not None

    await eventually(waits)
    return await job(jobs, id)


async def count(jobs: BackgroundJobs, *states: JobState) -> int:
    """How many jobs are stored, in these states or in any."""
    return (await jobs.find_jobs(states=states)).total
