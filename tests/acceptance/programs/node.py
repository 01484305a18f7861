"""A process that runs jobs until it is told to stop: `node.py DATABASE [options]`."""

import argparse
import asyncio
import logging
import signal
import threading
import time
from pathlib import Path

from commandjobs import BackgroundJobs, Registry
from tests.acceptance.programs import commands as known


def tell_when_signals_are_handled() -> None:
    """A signal that came earlier would kill the process. From a thread, since a job may block the loop."""
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.001)
    print("ready", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--commands", nargs="*")
    parser.add_argument("--name")
    options = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    registry = None
    if options.commands is not None:
        registry = Registry()
        for name in options.commands:
            registry.register(getattr(known, name))
    jobs = BackgroundJobs(
        Path(options.database), shutdown_grace=options.grace, registry=registry, node_name=options.name, concurrency=50
    )
    async with jobs:
        threading.Thread(target=tell_when_signals_are_handled, daemon=True).start()
        await jobs.serve()
        print("stopping", flush=True)


asyncio.run(main())
