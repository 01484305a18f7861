"""One process steers what another executes, or what nobody does."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from commandjobs import JobNotFailed, JobState
from tests.acceptance.nodes import Site, all_completed, job
from tests.acceptance.programs.commands import AccHeld, AccNote, AccThreadPolite, AccUnlessFixed


async def test_l19_one_process_executes_what_several_enqueue_each_job_once(site: Site) -> None:
    each = 100
    async with site.outside() as jobs, site.node() as node, site.node():
        async with AsyncExitStack() as stack:
            enqueuers = [
                await stack.enter_async_context(site.program("enqueuer.py", str(number), str(each)))
                for number in range(3)
            ]
            own = [(await jobs.enqueue_command(AccNote, f"own {number}")).id for number in range(each)]
            ids = [int(await enqueuer.line()) for enqueuer in enqueuers for _ in range(each)]
            assert [await enqueuer.ended() for enqueuer in enqueuers] == [0, 0, 0]

        await all_completed(jobs, *own, *ids)
        assert len({*own, *ids}) == 4 * each
        assert sorted(site.texts) == sorted(f"{who} {number}" for who in ("own", 0, 1, 2) for number in range(each))
        assert {line.pid for line in site.lines} == {node.pid}


@pytest.mark.parametrize("command", [AccHeld, AccThreadPolite])
async def test_l19_a_process_cancels_what_another_runs(site: Site, command: type[AccHeld | AccThreadPolite]) -> None:
    async with site.outside() as jobs, site.node():
        ref = await jobs.enqueue_command(command, "long")
        await site.noted("start long")
        assert await jobs.cancel_job(ref.id)
        assert (await ref.wait(20)).summary.state is JobState.CANCELLED
        assert not await jobs.cancel_job(ref.id)
        assert site.texts == ["start long"]


async def test_l19_a_process_cancels_what_waits_in_another(site: Site) -> None:
    async with site.outside() as jobs, site.node():
        running = await jobs.enqueue_command(AccHeld, "running", worker="one")
        waiting = await jobs.enqueue_command(AccNote, "never", worker="one")
        await site.noted("start running")
        assert await waiting.cancel()
        assert (await job(jobs, waiting.id)).state is JobState.CANCELLED
        site.open_gate()
        await all_completed(jobs, running.id)
        await jobs.wait_until_idle(20)
        assert site.texts == ["start running", "end running"]


async def test_l19_a_process_requeues_and_updates_what_another_executes(site: Site) -> None:
    async with site.outside() as jobs, site.node():
        failed = await jobs.enqueue_command(AccUnlessFixed, "x", retry_limit=0)
        later = await jobs.enqueue_command(AccNote, "later", run_after=timedelta(hours=1))
        assert (await failed.wait(20)).summary.state is JobState.FAILED

        (site.folder / "fixed").touch()
        await jobs.requeue_failed_job(failed.id)
        assert await jobs.update_job(later.id, run_after=timedelta(0))

        await all_completed(jobs, failed.id, later.id)
        assert sorted(site.texts) == ["later", "try x", "try x"]
        with pytest.raises(JobNotFailed, match="is Completed"):
            await jobs.requeue_failed_job(failed.id)
        assert not await jobs.update_job(later.id, priority=1)


async def test_l19_a_process_steers_when_nobody_executes(site: Site) -> None:
    async with site.outside() as jobs, site.outside() as others:
        refs = [await jobs.enqueue_command(AccNote, f"{number}") for number in range(20)]
        sides = [jobs, others]
        met = await asyncio.gather(*(sides[ref.id % 2].cancel_job(ref.id) for ref in refs[:15]))
        assert met == [True] * 15
        await jobs.requeue_failed_job(refs[0].id)
        assert await jobs.update_job(refs[1].id, priority=1) is False
        assert await jobs.update_job(refs[19].id, priority=1)

        async with site.node():
            await all_completed(jobs, refs[0].id, *[ref.id for ref in refs[15:]])
        assert sorted(site.texts) == sorted(["0", "15", "16", "17", "18", "19"])


async def test_d29_a_process_waits_until_another_has_nothing_left_to_do(site: Site) -> None:
    async with site.outside() as jobs, site.node():
        for round_number in range(1, 6):
            await jobs.enqueue_many(AccNote, ["anyone"] * 50)
            await jobs.enqueue_many(AccNote, ["in line"] * 10, worker="line")
            await jobs.wait_until_idle(20)
            assert len(site.texts) == round_number * 60


async def test_l04_a_job_is_cancelled_though_its_process_is_dead_and_nobody_executes(site: Site) -> None:
    async with site.outside() as jobs:
        async with site.node() as node:
            ref = await jobs.enqueue_command(AccHeld, "held")
            await site.noted("start held")
            await node.kill()

        async with asyncio.timeout(20):
            assert await jobs.cancel_job(ref.id)

        async with site.node():
            assert (await ref.wait(20)).summary.state is JobState.CANCELLED
        assert site.texts == ["start held"]
