"""A process whose engine has nothing to do: `idle.py DATABASE`. It prints how much CPU time that takes.

In percent, of the quietest second of three: a busy machine makes everything dearer.
"""

import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path

from commandjobs import BackgroundJobs
from tests.acceptance.programs.commands import AccNote


async def main() -> None:
    async with BackgroundJobs(Path(sys.argv[1])) as jobs:
        await jobs.enqueue_many(AccNote, [str(number) for number in range(2000)], run_after=timedelta(days=1))
        await (await jobs.enqueue_command(AccNote, "warm")).wait(10)
        await asyncio.sleep(0.5)
        print(min([await used() for _ in range(3)]), flush=True)


async def used() -> float:
    """Over a second, in percent."""
    began, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(1.0)
    return 100 * (time.process_time() - cpu) / (time.monotonic() - began)


asyncio.run(main())
