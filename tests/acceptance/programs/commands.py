"""What the programs under test do, and the ledger in which they write it down.

The ledger is a file beside the database: one line for each thing done, on disk before the code goes on. Held commands
end when a file of that name lies beside it, so that a test decides when.
"""

import asyncio
import os
import time
from pathlib import Path

from commandjobs import AsyncCommand, AsyncCommandWithResult, SyncCommand, command, current_job, worker


def folder() -> Path:
    return Path(os.environ["LEDGER"]).parent


def note(line: str) -> None:
    """Write a line down, with the process and the time."""
    with open(os.environ["LEDGER"], "a", encoding="utf-8") as ledger:  # noqa: PTH123
        ledger.write(f"{os.getpid()} {time.time():.6f} {line}\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def is_open(gate: str) -> bool:
    return (folder() / gate).exists()


def noted(line: str) -> int:
    """How often a line was written."""
    lines = Path(os.environ["LEDGER"]).read_text(encoding="utf-8").splitlines()
    return sum(one.split(" ", 2)[2] == line for one in lines)


async def held(gate: str) -> None:
    while not is_open(gate):  # noqa: ASYNC110  another process opens it
        await asyncio.sleep(0.002)


class AccNote(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        note(request)


@worker("acc-line")
class AccLine(AsyncCommand[int]):
    async def run(self, request: int) -> None:
        note(str(request))


class AccHeld(AsyncCommand[str]):
    """Ends when "gate" is open."""

    async def run(self, request: str) -> None:
        note(f"start {request}")
        await held("gate")
        note(f"end {request}")


class AccThreadHeld(SyncCommand[str]):
    """The same in a thread, whoever tells it to end."""

    def run(self, request: str) -> None:
        note(f"start {request}")
        while not is_open("gate"):
            time.sleep(0.002)
        note(f"end {request}")


class AccThreadPolite(SyncCommand[str]):
    """The same, but it ends when it is told to."""

    def run(self, request: str) -> None:
        note(f"start {request}")
        while not is_open("gate"):
            current_job().raise_if_cancelled()
            time.sleep(0.002)
        note(f"end {request}")


class AccBlocking(AsyncCommand[str]):
    """The same, and nothing else gets a turn on the loop meanwhile."""

    async def run(self, request: str) -> None:
        note(f"start {request}")
        while not is_open("gate"):
            time.sleep(0.002)  # noqa: ASYNC251  this is what is wrong with it


class AccStubborn(AsyncCommand[str]):
    """The same on the loop, whoever cancels it."""

    async def run(self, request: str) -> None:
        note(f"start {request}")
        while not is_open("gate"):
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                note("told to end")


@command(rerun_after_crash=False)
class AccOnce(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        note(f"start {request}")
        await held("gate")


class AccPoison(AsyncCommand[int]):
    """Kills its process as soon as so many bystanders have started in each of its first attempts."""

    async def run(self, request: int) -> None:
        note("poison")
        wanted = request * min(noted("poison"), 2)
        while noted("start bystander") < wanted and not is_open("gate"):  # noqa: ASYNC110  a file says so
            await asyncio.sleep(0.002)
        os._exit(13)


class AccPlain(AsyncCommandWithResult[int, int]):
    async def run(self, request: int) -> int:
        return request + 1


class AccUnlessFixed(AsyncCommand[str]):
    """Fails until "fixed" is open."""

    async def run(self, request: str) -> None:
        note(f"try {request}")
        if not is_open("fixed"):
            raise RuntimeError("not fixed yet")


class AccSpan(AsyncCommand[str]):
    """Writes down when it begins and when it ends; its caller gives the worker."""

    async def run(self, request: str) -> None:
        note(f"begin {request}")
        await asyncio.sleep(0.002)
        note(f"end {request}")


class AccFork(AsyncCommand[str]):
    """Leaves a child behind that lives until "gate" is open."""

    async def run(self, request: str) -> None:
        if os.fork() == 0:
            for inherited in (0, 1, 2):
                os.close(inherited)
            note("child lives")
            while not is_open("gate"):
                time.sleep(0.01)  # noqa: ASYNC251  there is no loop in the child
            os._exit(0)
        await held("gate")


class AccWork(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        note(f"work {request}")
        return request.upper()


class AccReply(AsyncCommand[str]):
    """A callback that ends when "gate" is open."""

    async def run(self, request: str) -> None:
        note(f"reply {request}")
        await held("gate")
        note(f"replied {request}")


class AccTalk(AsyncCommand):
    """Says a lot, and is then told to stop."""

    async def run(self) -> None:
        for number in range(100):
            current_job().note(f"line {number}")
        current_job().update_status(0.5, "half")
        note("start talk")
        await held("gate")
