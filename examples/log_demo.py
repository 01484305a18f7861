"""A job that logs for 20 seconds: `python -m examples.log_demo`.

Its log is printed while it runs. From the second start on the engine knows how long such a job usually takes, and
estimates how far it has got, though the job itself says nothing. Ctrl-C cancels it.
"""

import argparse
import asyncio
from pathlib import Path

from commandjobs import AsyncCommand, BackgroundJobs, JobResult, current_job

STEPS = 20


class LogSteps(AsyncCommand[float]):
    """Take as many seconds as requested, in twenty steps."""

    async def run(self, request: float) -> None:
        for step in range(1, STEPS + 1):
            await asyncio.sleep(request / STEPS)
            current_job().log.info("step %d of %d", step, STEPS)


async def main(seconds: float, db: Path) -> None:
    db.parent.mkdir(parents=True, exist_ok=True)
    async with BackgroundJobs(db) as jobs:
        job = await jobs.enqueue_command(LogSteps, seconds, unique_key="demo")
        print(f"Job {job.id} runs for {seconds:g} s." if job.created else f"Job {job.id} of an earlier start goes on.")
        try:
            await print_log(jobs, job.id)
        except asyncio.CancelledError:  # Ctrl-C
            await job.cancel()
        ended = (await job.wait(timeout=10)).job
        print(f"Job {job.id} is {ended.state} after {ended.duration_ms / 1000:.1f} s.")


async def print_log(jobs: BackgroundJobs, id: int) -> None:
    """Follow the log until the job has ended; the first column is how far the job has got, as far as anybody knows."""
    last = 0
    while True:
        found = await jobs.get_job(id)
        for line in await jobs.get_logs(id, after=last):
            last = line.sequence
            print(f"{how_far(found)}  {line.message}", flush=True)
        if found is None or found.queued is None:
            return
        await asyncio.sleep(0.1)


def how_far(found: JobResult | None) -> str:
    progress = None if found is None else found.job.progress
    return "  ? %" if progress is None else f"{progress:4.0%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="log_demo", description="Run a job that logs, and print its log live.")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long it takes (default: %(default)g)")
    parser.add_argument("--db", type=Path, default=Path(".demo/log_demo.db"), help="the queue (default: %(default)s)")
    given = parser.parse_args()
    asyncio.run(main(given.seconds, given.db))
