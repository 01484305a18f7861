"""Several processes on one SQLite file: one executes, the others enqueue, steer and stand by."""

import asyncio
import time
from datetime import timedelta

from commandjobs import JobState, NodeInfo
from tests.acceptance.nodes import Site, all_completed, attempts_on_disk, job
from tests.acceptance.programs.commands import AccHeld, AccNote, AccStubborn, AccWork
from tests.conftest import until


async def test_l19_a_process_that_does_not_execute_enqueues_and_awaits_results(site: Site) -> None:
    async with site.node() as node, site.outside() as jobs:
        results = await asyncio.gather(*[enqueue_and_wait(site, str(number)) for number in range(5)])
        ref = await jobs.enqueue_command(AccWork, "one more")

        assert await ref.result(10) == "ONE MORE"
        assert results == [str(number) for number in range(5)]
        assert {line.pid for line in site.lines} == {node.pid}


async def enqueue_and_wait(site: Site, name: str) -> str:
    async with site.outside() as jobs:
        return await (await jobs.enqueue_command(AccWork, name)).result(10)


async def test_l19_one_of_three_processes_executes_and_each_job_runs_once(site: Site) -> None:
    async with site.node() as first, site.node(), site.node(), site.outside() as jobs:
        refs = await jobs.enqueue_many(AccNote, [f"note {number}" for number in range(1000)])
        await all_completed(jobs, *[ref.id for ref in refs])

        assert sorted(site.texts) == sorted(f"note {number}" for number in range(1000))
        assert {line.pid for line in site.lines} == {first.pid}


async def test_l19_a_standby_takes_over_at_once_after_a_kill(site: Site) -> None:
    async with site.node() as first, site.node() as second, site.outside() as jobs:
        held = await jobs.enqueue_command(AccHeld, "held")
        await site.noted("start held")
        await attempts_on_disk(jobs, held.id, 1)

        killed_at = time.time()
        await first.kill()
        again = await site.noted("start held", 2)

        assert again.pid == second.pid
        assert again.at - killed_at < 5.0  # of a tenth of a second; to wait for a heartbeat would take ten and more
        site.open_gate()
        await all_completed(jobs, held.id)


async def test_l19_a_standby_takes_over_after_a_graceful_stop(site: Site) -> None:
    async with site.node("--grace", "0") as first, site.node() as second, site.outside() as jobs:
        held = await jobs.enqueue_command(AccHeld, "held")
        await site.noted("start held")
        assert await first.stop() == 0
        assert (await site.noted("start held", 2)).pid == second.pid
        site.open_gate()

        await all_completed(jobs, held.id)
        assert (await job(jobs, held.id)).crashes == 0


async def test_l19_a_running_job_is_cancelled_from_another_process(site: Site) -> None:
    async with site.node(), site.outside() as jobs:
        held = await jobs.enqueue_command(AccHeld, "held")
        waiting = await jobs.enqueue_command(AccNote, "never", depends_on=held)
        await site.noted("start held")

        assert await held.cancel()

        assert (await held.wait(10)).summary.state is JobState.CANCELLED
        assert (await waiting.wait(10)).summary.error_code == "ParentFailed"
        assert not await held.cancel()


async def test_l19_r14_a_job_that_ignores_its_cancellation_is_shown_as_cancelling_until_it_returns(site: Site) -> None:
    async with site.node(), site.outside() as jobs:
        deaf = await jobs.enqueue_command(AccStubborn, "deaf")
        await site.noted("start deaf")
        assert await deaf.cancel()
        await site.noted("told to end")

        cancelling = await job(jobs, deaf.id)
        assert (cancelling.state, cancelling.cancel_requested is not None) == (JobState.STARTED, True)
        site.open_gate()

        assert (await deaf.wait(10)).summary.state is JobState.CANCELLED


async def test_l19_a_failed_job_is_requeued_and_a_waiting_one_changed_from_another_process(site: Site) -> None:
    async with site.node(), site.outside() as jobs:
        held = await jobs.enqueue_command(AccHeld, "held")
        await site.noted("start held")
        await held.cancel()
        await held.wait(10)
        later = await jobs.enqueue_command(AccNote, "later", run_after=timedelta(hours=1))
        site.open_gate()

        again = await jobs.requeue_failed_job(held.id)
        assert await jobs.update_job(later.id, run_after=(await job(jobs, held.id)).created)

        await all_completed(jobs, again.id, later.id)


async def test_l19_steering_works_when_nobody_executes(site: Site) -> None:
    async with site.outside() as jobs, site.outside() as other:
        ref = await jobs.enqueue_command(AccNote, "never")

        assert await other.cancel_job(ref.id)

        assert (await ref.wait(10)).summary.state is JobState.CANCELLED
        assert (await jobs.requeue_failed_job(ref.id)).id == ref.id
        assert (await job(other, ref.id)).state is JobState.QUEUED


async def test_l19_a_process_sees_progress_of_a_job_that_another_runs(site: Site) -> None:
    from tests.acceptance.programs.commands import AccTalk

    async with site.node(), site.outside() as jobs:
        ref = await jobs.enqueue_command(AccTalk)
        await site.noted("start talk")

        async with asyncio.timeout(20):
            while len(await jobs.get_logs(ref.id)) < 100:  # noqa: ASYNC110  another process writes
                await asyncio.sleep(0.01)
            while (await job(jobs, ref.id)).progress != 0.5:  # noqa: ASYNC110  the same
                await asyncio.sleep(0.01)
        site.open_gate()
        await all_completed(jobs, ref.id)


async def test_design6_an_executor_that_knows_none_of_the_waiting_commands_hands_over(site: Site) -> None:
    async with site.node("--commands", "AccNote", "--name", "small") as small, site.outside() as jobs:
        await all_completed(jobs, (await jobs.enqueue_command(AccNote, "small job")).id)
        work = await jobs.enqueue_command(AccWork, "large job")

        health = await jobs.health()
        assert health.status == "degraded"
        assert f"the executing process, pid {small.pid} (small), does not know: AccWork" in health.reasons[0]

        async with site.node("--name", "large") as large:
            assert await work.result(20) == "LARGE JOB"
            assert [line.pid for line in site.lines] == [small.pid, large.pid]


async def test_l12_every_process_is_listed(site: Site) -> None:
    async with site.node("--name", "one") as one, site.node("--name", "two"), site.outside() as jobs:
        await one.stop()
        nodes = {node.name: node for node in await jobs.get_nodes()}

        assert {"one", "two"} <= nodes.keys()
        assert nodes["one"].stopped is not None
        assert nodes["two"].stopped is None
        assert isinstance(nodes["one"], NodeInfo)


async def test_l19_many_processes_enqueue_at_once_and_nothing_is_lost(site: Site) -> None:
    async def script(number: int) -> None:
        async with site.outside() as jobs:
            for step in range(50):
                await jobs.enqueue_command(AccNote, f"{number}-{step}")

    async with site.node():
        await asyncio.gather(*[script(number) for number in range(4)])
        await until(lambda: len(site.texts) == 200, within=20)

    assert len(set(site.texts)) == 200
