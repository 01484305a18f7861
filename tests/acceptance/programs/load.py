"""Twenty tasks that enqueue jobs of all kinds while their process runs them: `load.py DATABASE PREFIX COUNT-EACH`.

What they were promised, what ran, and which callbacks ran goes into a file each.
"""

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

from commandjobs import AsyncCommand, AsyncCommandWithResult, BackgroundJobs, SyncCommandWithResult
from tests.acceptance.programs.commands import folder

ENQUEUERS = 20


def write(name: str, line: str) -> None:
    """In the file once this returns, whatever happens to the process: a kill loses nothing that the system has."""
    descriptor = os.open(folder() / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


class LoadAsync(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        if request.endswith("7"):
            await asyncio.sleep(0.003)
        write("ran", request)
        return request


class LoadSync(SyncCommandWithResult[str, str]):
    def run(self, request: str) -> str:
        write("ran", request)
        return request


class LoadReply(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        write("replied", request)


def options(number: int) -> dict[str, Any]:
    if number % 5 == 0:
        return {"callback": LoadReply}
    if number % 5 == 1:
        return {"worker": f"w{random.randint(0, 3)}"}
    return {"concurrency_key": "key"} if number % 10 == 2 else {}


async def enqueue(jobs: BackgroundJobs, prefix: str, count: int) -> None:
    for number in range(count):
        key = f"{prefix}.{number}"
        command = LoadSync if number % 3 == 0 else LoadAsync
        ref = await jobs.enqueue_command(command, key, **options(number))
        write("promised", f"{ref.id} {key}")
        if number % 5 == 0:
            write("promised callbacks", key)
        if number % 8 == 0:
            child = await jobs.enqueue_command(LoadAsync, f"{key}.child", depends_on=ref)
            write("promised", f"{child.id} {key}.child")


async def main() -> None:
    async with BackgroundJobs(Path(sys.argv[1])) as jobs:
        print("ready", flush=True)
        await asyncio.gather(
            *(enqueue(jobs, f"{sys.argv[2]}.{number}", int(sys.argv[3])) for number in range(ENQUEUERS))
        )
        await jobs.wait_until_idle()
        print("idle", flush=True)
        await jobs.serve()


asyncio.run(main())
