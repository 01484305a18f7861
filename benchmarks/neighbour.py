"""Another process that enqueues without pause, until it is killed: `python -m benchmarks.neighbour URL`."""

import asyncio
import sys

from benchmarks.commands import AsyncNoop, Mail
from commandjobs import BackgroundJobs


async def main(url: str) -> None:
    """One job after the other; says when the first is stored."""
    async with BackgroundJobs(url, execute=False) as jobs:
        number = 0
        while True:
            await jobs.enqueue_command(AsyncNoop, Mail(to="my@email.com", n=number))
            if number == 0:
                print("ready", flush=True)
            number += 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
