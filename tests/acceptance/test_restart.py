"""A process that stops, and another one that goes on."""

from datetime import timedelta

from commandjobs import JobState
from tests.acceptance.nodes import Site, all_completed, job
from tests.acceptance.programs.commands import AccHeld, AccLine, AccNote


async def test_l01_jobs_that_wait_when_a_process_stops_all_run_in_order_in_the_next(site: Site) -> None:
    async with site.outside() as jobs:
        refs = await jobs.enqueue_many(AccLine, range(300))
        for number in (5, 100):
            async with site.node() as node:
                await site.noted(str(number))
                assert await node.stop() == 0

        async with site.node():
            await all_completed(jobs, *[ref.id for ref in refs])

        assert site.texts == [str(number) for number in range(300)]
        assert len({line.pid for line in site.lines}) == 3


async def test_l01_jobs_that_wait_when_a_process_is_killed_all_run_in_order_in_the_next(site: Site) -> None:
    async with site.outside() as jobs:
        refs = await jobs.enqueue_many(AccLine, range(300))
        async with site.node() as node:
            await site.noted("50")
            await node.kill()

        async with site.node():
            await all_completed(jobs, *[ref.id for ref in refs])

        numbers = [int(text) for text in site.texts]
        assert sorted(set(numbers)) == list(range(300))
        assert numbers == sorted(numbers)  # one that the crash hit may be there twice, in its place


async def test_l01_jobs_enqueued_while_nobody_executes_run_at_the_next_start(site: Site) -> None:
    async with site.outside() as jobs:
        refs = [await jobs.enqueue_command(AccNote, f"note {number}") for number in range(10)]
        assert (await job(jobs, refs[0].id)).state is JobState.QUEUED
    assert site.texts == []

    async with site.node(), site.outside() as jobs:
        await all_completed(jobs, *[ref.id for ref in refs])


async def test_e09_a_job_for_later_is_started_by_a_process_that_was_not_there_when_it_was_enqueued(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccNote, "later", run_after=timedelta(seconds=0.5))

    async with site.node(), site.outside() as jobs:
        await all_completed(jobs, ref.id)
        done = await job(jobs, ref.id)

    assert done.run_after is not None
    assert site.lines[0].at >= done.run_after.timestamp()


async def test_l01_a_batch_of_dependents_goes_on_after_a_restart(site: Site) -> None:
    async with site.outside() as jobs:
        first = await jobs.enqueue_command(AccHeld, "first")
        second = await jobs.enqueue_command(AccNote, "second", depends_on=first)
        third = await jobs.enqueue_command(AccNote, "third", depends_on=[second])
        async with site.node("--grace", "0") as node:
            await site.noted("start first")
            assert await node.stop() == 0
        site.open_gate()

        async with site.node():
            await all_completed(jobs, first.id, second.id, third.id)

        assert site.texts == ["start first", "start first", "end first", "second", "third"]
