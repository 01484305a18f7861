"""What the processes of the bench run: commands that write down what they do, and sometimes do not succeed."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    Fail,
    Snooze,
    SyncCommandWithResult,
    command,
    current_job,
    current_jobs,
    retry,
)


class Errand(BaseModel):
    """A request that says what a job is to do, and what the audit is to expect of it."""

    key: str
    kind: str
    lane: str = ""
    pause: float = 0.0
    held: bool = False
    """Until the gate is open."""


def nowhere(_did: str, **_fields: Any) -> None:
    """Writes nothing down: a process of the bench puts its ledger's `write` in this place."""


gate = Path("gate")
"""A file. When it is there, everything goes on."""
note: Callable[..., None] = nowhere


def set_up(write: Callable[..., None], folder: Path) -> None:
    """From here on, write down what is done; the gate is in this folder."""
    global note, gate
    note, gate = write, folder / gate.name


def tell(did: str, errand: Errand) -> None:
    job = current_job()
    note(did, key=errand.key, kind=errand.kind, id=job.id, attempt=job.attempt, lane=errand.lane)


async def work(errand: Errand) -> str:
    """Do it, and say so."""
    tell("start", errand)
    if errand.pause or errand.held:
        current_job().update_status(0.5, "half")
        try:
            await asyncio.sleep(errand.pause)
            while errand.held and not gate.exists():  # noqa: ASYNC110, ASYNC240  another process opens it
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            tell("cut", errand)
            raise
    tell("end", errand)
    return errand.key


class FaultAsync(AsyncCommandWithResult[Errand, str]):
    async def run(self, request: Errand) -> str:
        return await work(request)


class FaultSync(SyncCommandWithResult[Errand, str]):
    def run(self, request: Errand) -> str:
        tell("start", request)
        current_job().note(f"log of {request.key}")
        tell("end", request)
        return request.key


@command(rerun_after_crash=False)
class FaultOnce(AsyncCommandWithResult[Errand, str]):
    async def run(self, request: Errand) -> str:
        return await work(request)


@retry(limit=2, backoff="fixed", delay=0.01)
class FaultRetried(AsyncCommandWithResult[Errand, str]):
    """Does not succeed at once."""

    async def run(self, request: Errand) -> str:
        if current_job().attempt > 1:
            return await work(request)
        tell("start", request)
        tell("fail", request)
        raise RuntimeError("not yet")


class FaultSnoozed(AsyncCommandWithResult[Errand, str]):
    async def run(self, request: Errand) -> str:
        if current_job().attempt > 1:
            return await work(request)
        tell("start", request)
        tell("snooze", request)
        raise Snooze(0.01)


class FaultFailing(AsyncCommandWithResult[Errand, str]):
    """Succeeds only after a requeue (or a crash)."""

    async def run(self, request: Errand) -> str:
        if current_job().attempt > 1:
            return await work(request)
        tell("start", request)
        tell("fail", request)
        raise Fail("for good")


@retry(limit=1, backoff="fixed", delay=0.01)
class FaultParent(AsyncCommandWithResult[Errand, str]):
    """Enqueues two jobs that belong to its attempt, and fails at first."""

    async def run(self, request: Errand) -> str:
        tell("start", request)
        job = current_job()
        for number in range(2):
            key = f"{request.key}.bound.{job.attempt}.{number}"
            note("asked", key=key, kind="bound", attempt=job.attempt)
            errand = Errand(key=key, kind="bound")
            ref = await current_jobs().enqueue_command(FaultAsync, errand, depends_on=job.id)
            note("promised", key=key, kind="bound", id=ref.id, attempt=job.attempt)
        if job.attempt == 1:
            tell("fail", request)
            raise RuntimeError("the attempt fails, and takes its jobs along")
        tell("end", request)
        return request.key


class FaultFork(AsyncCommandWithResult[Errand, str]):
    """Leaves a child behind that lives until the gate is open, and has all that its parent had open."""

    async def run(self, request: Errand) -> str:
        if current_job().attempt == 1 and os.fork() == 0:
            note("child", key=request.key)
            while not gate.exists():  # noqa: ASYNC240  there is no loop in the child
                time.sleep(0.01)  # noqa: ASYNC251
            os._exit(0)
        return await work(request.model_copy(update={"held": current_job().attempt == 1}))


class FaultReply(AsyncCommand[str]):
    """A callback."""

    async def run(self, request: str) -> None:
        note("reply", key=request, id=current_job().id, attempt=current_job().attempt)
        note("replied", key=request, id=current_job().id, attempt=current_job().attempt)


class FaultSlow(AsyncCommand[str]):
    """One of a backlog."""

    async def run(self, request: str) -> None:
        note("start", key=request, kind="backlog", id=current_job().id)
        await asyncio.sleep(0.5)
