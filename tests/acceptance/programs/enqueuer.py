"""A process that only enqueues: `enqueuer.py DATABASE PREFIX COUNT`. It prints the id of each job it was promised."""

import asyncio
import sys
from pathlib import Path

from commandjobs import BackgroundJobs
from tests.acceptance.programs.commands import AccNote


async def main() -> None:
    async with BackgroundJobs(Path(sys.argv[1]), execute=False) as jobs:
        for number in range(int(sys.argv[3])):
            ref = await jobs.enqueue_command(AccNote, f"{sys.argv[2]} {number}")
            print(ref.id, flush=True)


asyncio.run(main())
