"""Real processes that run jobs, their ledger, and a look at their database from outside."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commandjobs import BackgroundJobs, Job, JobState
from tests.conftest import until

ROOT = Path(__file__).parents[2]


@dataclass
class Line:
    pid: int
    at: float
    text: str


class Site:
    """A folder with a database, a ledger, and gates for held commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "jobs.db"
        self._ledger = folder / "ledger"
        self._ledger.touch()

    @property
    def lines(self) -> list[Line]:
        """What was done so far."""
        found = list[Line]()
        for line in self._ledger.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                pid, at, text = line[:-1].split(" ", 2)
                found.append(Line(int(pid), float(at), text))
        return found

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    async def noted(self, text: str, times: int = 1) -> Line:
        """Wait until something was done so many times; its last line."""
        await until(lambda: self.texts.count(text) >= times, within=60)
        return [line for line in self.lines if line.text == text][-1]

    @asynccontextmanager
    async def outside(self, **settings: Any) -> AsyncGenerator[BackgroundJobs]:
        """An engine in this process that does not execute."""
        async with BackgroundJobs(self.database, execute=False, **settings) as jobs:
            yield jobs

    @asynccontextmanager
    async def node(self, *options: str, may_die: bool = False) -> AsyncGenerator["Node"]:
        """A process that runs jobs. may_die: even before it says that it is ready."""
        async with self.program("node.py", *options) as node:
            async with asyncio.timeout(60):
                assert await node.line() in ("ready", *([""] if may_die else [])), node.errors
            yield node

    @asynccontextmanager
    async def program(self, name: str, *options: str) -> AsyncGenerator["Node"]:
        """A process that is given the database and these options."""
        program = str(ROOT / "tests" / "acceptance" / "programs" / name)
        errors = self.folder / f"errors-{len(list(self.folder.glob('errors-*')))}"
        with errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, program, str(self.database), *options),
                env=self.environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        node = Node(process, errors)
        try:
            yield node
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "LEDGER": str(self._ledger), "PYTHONFAULTHANDLER": "1"}


class Node:
    """A process that runs jobs."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def errors(self) -> str:
        """What it has logged."""
        return self._errors.read_text(encoding="utf-8")

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def line(self) -> str:
        """The next line it prints; empty when it has ended."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().removesuffix("\n")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    async def stopping(self) -> None:
        """SIGTERM, and wait until it starts nothing more."""
        self.terminate()
        async with asyncio.timeout(60):
            assert await self.line() == "stopping", self.errors

    async def logged(self, pattern: str) -> None:
        """Wait until it has logged this."""
        await until(lambda: re.search(pattern, self.errors), within=60)

    async def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        await self._process.wait()

    async def kill_if_alive(self) -> None:
        with suppress(ProcessLookupError):
            await self.kill()

    async def ended(self, within: float = 60.0) -> int:
        """Wait until it has ended; its exit code."""
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and wait."""
        self.terminate()
        return await self.ended()


async def job(jobs: BackgroundJobs, id: int) -> Job:
    found = await jobs.get_job(id)
    assert found is not None
    return found.job


async def all_completed(jobs: BackgroundJobs, *ids: int) -> None:
    """Wait until these jobs have ended, and see that they have succeeded."""
    for id in ids:
        result = await jobs.ref(id).wait(20)
        assert result.summary.state is JobState.COMPLETED, result.job.error


async def attempts_on_disk(jobs: BackgroundJobs, id: int, attempts: int) -> None:
    """Wait until the start of an attempt is on disk, so that a crash counts."""
    async with asyncio.timeout(60):
        while (await job(jobs, id)).attempts < attempts:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.002)


async def dead_or_final(node: Node, jobs: BackgroundJobs, id: int) -> None:
    """Wait until a node has died or a job has ended."""
    async with asyncio.timeout(60):
        while node.is_alive and not (await job(jobs, id)).state.is_final:  # noqa: ASYNC110  another process again
            await asyncio.sleep(0.005)
