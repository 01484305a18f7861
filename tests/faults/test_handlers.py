"""Handlers that kill their process, or hold up its loop."""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commandjobs import AsyncCommand, BackgroundJobs, JobState
from tests.acceptance.nodes import Site, all_completed
from tests.acceptance.programs.commands import AccBlocking, AccNote
from tests.faults.workload import DATABASE

WAYS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(3),
    "segmentation fault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "no memory": lambda: os.kill(os.getpid(), signal.SIGKILL),  # what the kernel does to it
}


class FaultDeadly(AsyncCommand[str]):
    async def run(self, request: str) -> None:
        await asyncio.sleep(0.02)
        WAYS[request]()


class FaultBeside(AsyncCommand):
    async def run(self) -> None:
        await asyncio.sleep(0.05)


def live(folder: str, way: str) -> None:
    """Run until nothing is left to do, or until it is killed by a job."""
    asyncio.run(_live(Path(folder), way))


async def _live(folder: Path, way: str) -> None:
    async with BackgroundJobs(folder / DATABASE) as jobs:
        await jobs.enqueue_command(FaultBeside)
        deadly = await jobs.enqueue_command(FaultDeadly, way, ref_id="deadly", on_duplicate="return", retry_limit=50)
        await jobs.enqueue_command(FaultBeside)
        await deadly.wait(20)
        await jobs.wait_until_idle(20)


@pytest.mark.parametrize("way", WAYS)
async def test_f15_a_job_that_kills_its_process_has_failed_after_three_and_the_others_go_on(
    tmp_path: Path, way: str
) -> None:
    context, lives = multiprocessing.get_context("forkserver"), 0
    exit_code: int | None = 1
    while exit_code != 0 and lives < 8:
        lives += 1
        process = context.Process(target=live, args=(str(tmp_path), way))
        process.start()
        await asyncio.to_thread(process.join, 30)
        exit_code = process.exitcode

    async with BackgroundJobs(tmp_path / DATABASE, execute=False) as jobs:
        deadly = (await jobs.ref("deadly").wait(5)).job
        others = (await jobs.find_jobs(command="FaultBeside")).jobs
    assert (deadly.state, deadly.error_code, deadly.crashes) == (JobState.FAILED, "WorkerCrashed", 3)
    assert lives >= 4
    assert len(others) >= 3  # one of the first life, both of the last; a kill may come before those between
    assert {other.state for other in others} == {JobState.COMPLETED}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setenv("LEDGER", site.environment["LEDGER"])
    return site


async def test_f17_a_blocked_loop_keeps_its_jobs_and_nothing_runs_twice(site: Site) -> None:
    async with site.outside() as jobs, site.node() as node, site.node():
        blocking = await jobs.enqueue_command(AccBlocking, "loop")
        await site.noted("start loop")
        beside = [await jobs.enqueue_command(AccNote, f"{number}") for number in range(20)]
        time.sleep(0.3)  # noqa: ASYNC251  six looks of the standby
        assert site.texts == ["start loop"]
        site.open_gate()

        await all_completed(jobs, blocking.id, *[ref.id for ref in beside])
        assert {line.pid for line in site.lines} == {node.pid}
        assert len(site.texts) == 21
