"""A process that forks while its engine runs: `fork.py DATABASE`. What parent and child meet goes to the output."""

import asyncio
import os
import sys
import warnings
from pathlib import Path

from commandjobs import BackgroundJobs, StorageUnavailable
from tests.acceptance.programs.commands import AccNote, AccWork


async def main() -> None:
    async with BackgroundJobs(Path(sys.argv[1])) as jobs:
        await (await jobs.enqueue_command(AccWork, "before")).result(10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
            child = os.fork()
        if child == 0:
            try:
                jobs.sync.enqueue_command(AccNote, "from the child")
            except StorageUnavailable as error:
                print(f"child, blocking: {error}", flush=True)
            try:
                await jobs.enqueue_command(AccNote, "from the child")
            except StorageUnavailable as error:
                print(f"child, async: {error}", flush=True)
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        print(f"parent: {await (await jobs.enqueue_command(AccWork, 'after')).result(10)}", flush=True)


asyncio.run(main())
