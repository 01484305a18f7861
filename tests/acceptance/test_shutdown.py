"""SIGTERM: what is handed back, what is written, and how long it takes."""

import asyncio
import os
import signal
import time
from contextlib import suppress

import pytest

from commandjobs import JobState
from tests.acceptance.nodes import Site, all_completed, attempts_on_disk, job
from tests.acceptance.programs.commands import AccBlocking, AccHeld, AccNote, AccStubborn, AccTalk, AccThreadHeld


async def test_l06_a_job_that_does_not_end_in_time_is_handed_back_without_using_an_attempt(site: Site) -> None:
    async with site.outside() as jobs:
        long = await jobs.enqueue_command(AccHeld, "long", retry_limit=0)
        async with site.node("--grace", "0.2") as node:
            await site.noted("start long")
            begun = time.monotonic()
            assert await node.stop() == 0
            assert 0.2 <= time.monotonic() - begun < 10.0  # the default grace

        handed_back = await job(jobs, long.id)
        assert (handed_back.state, handed_back.attempts, handed_back.attempts_returned) == (JobState.QUEUED, 1, 1)
        assert (handed_back.crashes, handed_back.error, handed_back.run_after) == (0, None, None)
        assert [attempt.outcome for attempt in await jobs.get_attempts(long.id)] == ["HandedBack"]
        site.open_gate()
        async with site.node():
            await all_completed(jobs, long.id)


async def test_l06_running_jobs_may_end_within_the_grace_and_no_other_starts(site: Site) -> None:
    async with site.outside() as jobs:
        long = await jobs.enqueue_command(AccHeld, "long", worker="w")
        waiting = await jobs.enqueue_command(AccNote, "waiting", worker="w")
        async with site.node() as node:
            await site.noted("start long")
            node.terminate()
            late = await jobs.enqueue_command(AccNote, "late")
            site.open_gate()
            assert await node.ended() == 0

        assert [(await job(jobs, ref.id)).state for ref in (long, waiting, late)] == [
            JobState.COMPLETED,
            JobState.QUEUED,
            JobState.QUEUED,
        ]
        assert site.texts == ["start long", "end long"]


async def test_l06_sync_jobs_that_wait_for_a_thread_are_not_started_any_more(site: Site) -> None:
    async with site.outside() as jobs:
        refs = await jobs.enqueue_many(AccThreadHeld, ["sync"] * 45)
        async with site.node() as node:
            await site.noted("start sync", 2)
            node.terminate()
            await node.logged("stops; .* jobs have")
            site.open_gate()
            assert await node.ended() == 0

        states = [(await job(jobs, ref.id)).state for ref in refs]
        assert states.count(JobState.COMPLETED) == site.texts.count("end sync") == site.texts.count("start sync")
        assert set(states) <= {JobState.COMPLETED, JobState.QUEUED}


async def test_l07_a_stop_writes_logs_and_progress(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccTalk)
        async with site.node("--grace", "0") as node:
            await site.noted("start talk")
            assert await node.stop() == 0

        assert [line.message for line in await jobs.get_logs(ref.id)] == [f"line {number}" for number in range(100)]
        handed_back = await job(jobs, ref.id)
        assert (handed_back.state, handed_back.status) == (JobState.QUEUED, "half")


async def test_l06_a_second_signal_leaves_at_once(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccHeld, "long")
        async with site.node("--grace", "60") as node:
            await site.noted("start long")
            await attempts_on_disk(jobs, ref.id, 1)
            node.terminate()
            await node.logged("stops; .* jobs have")
            node.terminate()

            assert await node.ended(within=20) == 128 + signal.SIGTERM  # of the sixty that it had
        site.open_gate()

        async with site.node():
            await all_completed(jobs, ref.id)
        assert (await job(jobs, ref.id)).crashes == 1


@pytest.mark.parametrize(("command", "code"), [(AccThreadHeld, 0), (AccStubborn, -signal.SIGTERM)])
async def test_l06_code_that_does_not_end_is_named_and_its_job_stays_started(
    site: Site, command: type[AccThreadHeld | AccStubborn], code: int
) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(command, "deaf")
        async with site.node("--grace", "0.1") as node:
            await site.noted("start deaf")
            await attempts_on_disk(jobs, ref.id, 1)
            node.terminate()
            await node.logged(rf"ERROR Job {ref.id} \({command.__name__}\) was told to end and has not")
            assert (await job(jobs, ref.id)).state is JobState.STARTED
            if code:
                node.terminate()
            assert await node.ended() == code
        site.open_gate()

        async with site.node():
            await all_completed(jobs, ref.id)
        assert (await job(jobs, ref.id)).crashes == 1


async def test_l06_a_second_signal_leaves_at_once_even_if_code_blocks_the_loop(site: Site) -> None:
    async with site.outside() as jobs, site.node() as node:
        await jobs.enqueue_command(AccBlocking, "block")
        await site.noted("start block")
        async with asyncio.timeout(20):
            while node.is_alive:  # two signals at once are one
                with suppress(ProcessLookupError):
                    os.kill(node.pid, signal.SIGINT)
                await asyncio.sleep(0.05)
        assert await node.ended() == 128 + signal.SIGINT
