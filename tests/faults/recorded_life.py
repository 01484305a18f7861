"""Jobs of all kinds on a real engine, with every promise written on the tape at the moment the client has it.

The clock stands shortly before the end of a month, so that the jobs lie in two month files. What a storage does rarely
or when it is idle (checkpoints, a log that begins anew, confirmations) it does often here.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    BackgroundJobs,
    JobRef,
    SyncCommandWithResult,
    command,
    current_job,
    current_jobs,
    retry,
    worker,
)
from commandjobs.clock import SystemClock
from commandjobs.model.moment import to_moment
from commandjobs.storage.sqlite import archive, wal, writer
from commandjobs.storage.sqlite.connection import open_for_writing
from commandjobs.storage.sqlite.storage import SqliteStorage
from tests.faults.promises import Begun, Changed, Ended, Enqueued, Requeued
from tests.faults.recording import Tape

Durability = Literal["full", "relaxed"]

BEFORE_MONTH_END = to_moment(datetime(2026, 12, 1, tzinfo=UTC)) - 300_000
LATER = "later"
"""The tag of jobs that wait for a far date."""
PAGES = 90
"""After so many there is a checkpoint."""
LOG_SIZE = 100_000
"""Bytes to which the log is grown."""
IDLE = 0.08
"""Seconds; longer than the idle moments that are waited for."""


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Stage:
    """Where commands tell what they do."""

    tape: Tape = field(default_factory=lambda: Tape(Path()))
    ran: list[int] = field(default_factory=list)
    """Ids, each time that a job's work begins."""
    fixed: bool = False
    has_clients: bool = False
    """Whether anybody is there who cancels what is long: not where an image is recovered."""

    def enter(self) -> None:
        self.ran.append(current_job().id)


stage = Stage()


class PowerEcho(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.enter()
        return f"{request}!"


class PowerThread(SyncCommandWithResult[str, str]):
    def run(self, request: str) -> str:
        stage.enter()
        return f"{request}!"


@worker("power-line")
class PowerLine(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.enter()
        await asyncio.sleep(0.001)
        return f"{request}!"


@retry(limit=2, backoff="fixed", delay=0.01)
class PowerFlaky(AsyncCommandWithResult[str, str]):
    """Its second attempt succeeds."""

    async def run(self, request: str) -> str:
        stage.enter()
        if current_job().attempt == 1:
            raise RuntimeError("the first attempt")
        return f"{request}!"


@retry(limit=0)
class PowerBroken(AsyncCommandWithResult[str, str]):
    """Fails until it is fixed."""

    async def run(self, request: str) -> str:
        stage.enter()
        if not stage.fixed:
            raise RuntimeError("not fixed yet")
        return f"{request}!"


class PowerTalk(AsyncCommandWithResult[str, str]):
    """Logs three lines, and tells how far it is."""

    async def run(self, request: str) -> str:
        stage.enter()
        for number in range(3):
            current_job().note(f"line {number}")
            current_job().update_status(number / 3, f"step {number}")
            await asyncio.sleep(0.004)
        return f"{request}!"


class PowerLong(AsyncCommandWithResult[str, str]):
    """Is cancelled while it runs."""

    async def run(self, request: str) -> str:
        stage.enter()
        await asyncio.sleep(60 if stage.has_clients else 0.1)
        return f"{request}!"


class PowerReply(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        pass


@command(rerun_after_crash=False)
class PowerOnce(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        stage.enter()
        stage.tape.tell(Begun(current_job().id))
        await asyncio.sleep(0.005)
        return f"{request}!"


@retry(limit=2, backoff="fixed", delay=0.01)
class PowerFamily(AsyncCommandWithResult[str, str]):
    """Enqueues jobs that belong to its attempt; the first attempt fails."""

    async def run(self, request: str) -> str:
        stage.enter()
        for _ in range(2):
            await put(current_jobs(), PowerEcho, request, depends_on=current_job().id)
        if current_job().attempt == 1:
            raise RuntimeError("the first attempt")
        return f"{request}!"


# ── what clients do ─────────────────────────────────────────────────────────────────────────────────────────────────


async def put(jobs: BackgroundJobs, command: type[Any], request: str, **options: Any) -> JobRef[Any]:
    """Enqueue, and note the promise."""
    ref: JobRef[Any] = await jobs.enqueue_command(command, request, **options)
    stage.tape.tell(Enqueued(ref.id, ref.ref_id, json.dumps(request)))
    return ref


async def end(ref: JobRef[Any], *, run: int = 0, lines: int = 0) -> None:
    """Wait for the end, and note it."""
    result = await ref.wait(20)
    stage.tape.tell(Ended(ref.id, run, result.summary.state.value, result.job.response_body, lines))


async def one_after_the_other(jobs: BackgroundJobs, name: str) -> None:
    for number in range(12):
        await put(jobs, PowerThread if number % 3 == 0 else PowerEcho, f"{name}.{number}")


async def one_by_one_to_the_end(jobs: BackgroundJobs, name: str) -> None:
    for number in range(8):
        await end(await put(jobs, PowerThread if number % 3 == 0 else PowerEcho, f"{name}.{number}"))


async def in_bulk(jobs: BackgroundJobs, name: str) -> None:
    requests = [f"{name}.{number}" for number in range(40)]
    refs = await jobs.enqueue_many(PowerEcho, requests)
    for ref, request in zip(refs, requests, strict=True):
        stage.tape.tell(Enqueued(ref.id, ref.ref_id, json.dumps(request)))
    for ref in refs:
        await end(ref)


async def on_a_named_worker(jobs: BackgroundJobs, name: str) -> None:
    refs = [await put(jobs, PowerLine, f"{name}.{number}") for number in range(6)]
    await asyncio.gather(*map(end, refs))


async def with_a_key(jobs: BackgroundJobs, name: str) -> None:
    refs = [await put(jobs, PowerThread, f"{name}.{number}", concurrency_key="power") for number in range(4)]
    await asyncio.gather(*map(end, refs))


async def cancelled_while_running(jobs: BackgroundJobs, name: str) -> None:
    for number in range(3):
        ref = await put(jobs, PowerLong, f"{name}.{number}")
        await asyncio.sleep(0.01)
        assert await ref.cancel()
        await end(ref)


async def with_retries(jobs: BackgroundJobs, name: str) -> None:
    refs = [await put(jobs, PowerFlaky, f"{name}.{number}") for number in range(4)]
    await asyncio.gather(*map(end, refs))


async def with_callbacks(jobs: BackgroundJobs, name: str) -> None:
    for number in range(4):
        await end(await put(jobs, PowerEcho, f"{name}.{number}", callback=PowerReply))


async def with_dependents(jobs: BackgroundJobs, name: str) -> None:
    for number in range(3):
        parent = await put(jobs, PowerTalk, f"{name}.{number}")
        child = await put(jobs, PowerEcho, f"{name}.{number}.child", depends_on=parent)
        grandchild = await put(jobs, PowerThread, f"{name}.{number}.grandchild", depends_on=[parent, child])
        await end(grandchild)


async def with_a_family(jobs: BackgroundJobs, name: str) -> None:
    for number in range(2):
        await end(await put(jobs, PowerFamily, f"{name}.{number}"))


async def with_a_log(jobs: BackgroundJobs, name: str) -> None:
    for number in range(4):
        await end(await put(jobs, PowerTalk, f"{name}.{number}"), lines=3)


async def at_most_once(jobs: BackgroundJobs, name: str) -> None:
    for number in range(4):
        await end(await put(jobs, PowerOnce, f"{name}.{number}"))


async def failing_and_coming_back(jobs: BackgroundJobs, name: str) -> None:
    for number in range(3):
        stage.fixed = False
        ref = await put(jobs, PowerBroken, f"{name}.{number}")
        child = await put(jobs, PowerEcho, f"{name}.{number}.child", depends_on=ref)
        await asyncio.gather(end(ref), end(child))
        stage.fixed = True
        again = await jobs.requeue_failed_job(ref.id, dependents=True)
        stage.tape.tell(Requeued(ref.id, 1))
        stage.tape.tell(Requeued(child.id, 1))
        await asyncio.gather(end(again, run=1), end(child, run=1))


async def waiting_for_a_date(jobs: BackgroundJobs, name: str) -> None:
    for number in range(4):
        ref = await put(jobs, PowerEcho, f"{name}.{number}", run_after=timedelta(hours=1), tags=[LATER])
        if number % 2:
            assert await jobs.cancel_job(ref.id)
            await end(ref)
        else:
            assert await jobs.update_job(ref.id, priority=number + 7)
            stage.tape.tell(Changed(ref.id, number + 7))


CLIENTS = (
    one_after_the_other, one_by_one_to_the_end, in_bulk, on_a_named_worker, with_a_key, with_retries, with_callbacks,
    with_dependents, with_a_family, with_a_log, at_most_once, failing_and_coming_back, cancelled_while_running,
    waiting_for_a_date,
)  # fmt: skip


class MonthEnd(SystemClock):
    """A clock that stands before the end of a month when it is made or set, or some seconds later."""

    def __init__(self, *, later: float = 0.0) -> None:
        self.set(later=later)

    def set(self, *, later: float = 0.0) -> None:
        self._ahead = BEFORE_MONTH_END + int(later * 1_000_000) - super().now()

    def now(self) -> int:
        return super().now() + self._ahead


@asynccontextmanager
async def engine(path: Path, clock: MonthEnd, durability: Durability = "full") -> AsyncGenerator[BackgroundJobs]:
    """The engine that all of this runs on."""
    storage = SqliteStorage(path, durability=durability, wal_size=LOG_SIZE)
    async with BackgroundJobs(storage, clock=clock, shutdown_grace=2.0) as jobs:
        yield jobs


async def live(
    tape: Tape, *, durability: Durability = "full", open_month: Callable[..., sqlite3.Connection] = open_for_writing
) -> None:
    """Two starts of a process, on the tape. Each is idle, has one client, then all at once, and is left.

    The month ends while all are there for the first time, however long the machine takes to come to that.
    """
    stage.tape, stage.has_clients, clock = tape, True, MonthEnd(later=-3600)
    with often(open_month):
        for start in range(2):
            async with engine(tape.folder / "jobs.db", clock, durability) as jobs:
                await asyncio.sleep(IDLE)
                for number in range(3):  # alone for long enough to be committed on the loop's thread
                    await one_by_one_to_the_end(jobs, f"alone.{start}.{number}")
                if start == 0:
                    clock.set()
                async with asyncio.TaskGroup() as clients:
                    for client in CLIENTS:
                        clients.create_task(client(jobs, f"{client.__name__}.{start}"))
                await asyncio.sleep(IDLE)
                await one_after_the_other(jobs, f"last.{start}")  # and left while they run
    stage.has_clients = False


@contextmanager
def often(open_month: Callable[..., sqlite3.Connection] = open_for_writing) -> Generator[None]:
    """What is rare happens often. open_month: opens month files."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(wal, "LONG", PAGES))
        patches.enter_context(patch.object(archive, "open_for_writing", partial(open_month, autocheckpoint=PAGES)))
        patches.enter_context(patch.object(writer, "POLL", IDLE / 4))
        patches.enter_context(patch.object(writer, "CHECKPOINT_AFTER", IDLE / 2))
        patches.enter_context(patch.object(archive, "CONFIRM_AFTER", IDLE / 2))
        yield
