"""`kill -9` at the worst moments, and a restart that puts things right."""

from commandjobs import JobState
from tests.acceptance.nodes import Site, all_completed, attempts_on_disk, dead_or_final, job
from tests.acceptance.programs.commands import (
    AccHeld,
    AccNote,
    AccOnce,
    AccPoison,
    AccReply,
    AccStubborn,
    AccThreadHeld,
    AccWork,
)


async def test_l02_a_job_whose_process_was_killed_is_run_again(site: Site) -> None:
    async with site.outside() as jobs:
        notes = [await jobs.enqueue_command(AccNote, f"note {number}") for number in range(20)]
        slow = await jobs.enqueue_command(AccHeld, "slow")
        async with site.node() as node:
            await all_completed(jobs, *[ref.id for ref in notes])
            await site.noted("start slow")
            await attempts_on_disk(jobs, slow.id, 1)
            await node.kill()
        site.open_gate()

        async with site.node():
            await all_completed(jobs, slow.id)

        again = await job(jobs, slow.id)
        assert (again.attempts, again.attempts_returned, again.crashes) == (2, 1, 1)
        assert [attempt.outcome for attempt in await jobs.get_attempts(slow.id)] == ["Crashed", "Succeeded"]
        assert sorted(site.texts) == sorted(
            [*(f"note {number}" for number in range(20)), "start slow", "start slow", "end slow"]
        )


async def test_l02_a_sync_job_whose_process_was_killed_is_run_again(site: Site) -> None:
    async with site.outside() as jobs:
        slow = await jobs.enqueue_command(AccThreadHeld, "slow")
        async with site.node() as node:
            await site.noted("start slow")
            await node.kill()
        site.open_gate()

        async with site.node():
            await all_completed(jobs, slow.id)

        assert site.texts == ["start slow", "start slow", "end slow"]


async def test_l02_a_job_whose_third_process_was_killed_has_failed(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccHeld, "doomed", retry_limit=50)
        for times in (1, 2, 3):
            async with site.node() as node:
                await site.noted("start doomed", times)
                await attempts_on_disk(jobs, ref.id, times)
                await node.kill()

        async with site.node():
            failed = (await ref.wait(20)).job

        assert (failed.state, failed.error_code, failed.crashes) == (JobState.FAILED, "WorkerCrashed", 3)
        assert site.texts.count("start doomed") == 3


async def test_l03_a_job_that_must_not_be_rerun_fails_when_its_process_is_killed(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccOnce, "payment", retry_limit=5)
        async with site.node() as node:
            await site.noted("start payment")
            await node.kill()
        site.open_gate()

        async with site.node():
            failed = (await ref.wait(20)).job

        assert (failed.state, failed.error_code, failed.attempts) == (JobState.FAILED, "WorkerCrashed", 1)
        assert "rerun_after_crash=False" in (failed.error.message if failed.error else "")
        assert site.texts == ["start payment"]


async def test_l04_a_cancelled_job_is_not_resurrected_by_a_crash(site: Site) -> None:
    async with site.outside() as jobs:
        async with site.node() as node:
            running = await jobs.enqueue_command(AccStubborn, "running")
            await site.noted("start running")
            waiting = await jobs.enqueue_command(AccNote, "never", depends_on=running)
            assert await waiting.cancel()
            assert await running.cancel()
            await site.noted("told to end")
            await node.kill()
        site.open_gate()

        async with site.node():
            assert (await running.wait(20)).summary.state is JobState.CANCELLED
            await jobs.wait_until_idle(20)

        assert (await job(jobs, waiting.id)).state is JobState.CANCELLED
        assert site.texts == ["start running", "told to end"]


async def test_l05_a_crash_between_the_work_and_its_callback_does_not_repeat_the_work(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccWork, "x", callback=AccReply)
        async with site.node() as node:
            await site.noted("reply X")
            assert (await job(jobs, ref.id)).state is JobState.EXECUTED
            await node.kill()
        site.open_gate()

        async with site.node():
            await all_completed(jobs, ref.id)

        assert site.texts == ["work x", "reply X", "reply X", "replied X"]
        assert await ref.result(5) == "X"


async def test_z08_a_job_that_kills_its_process_is_failed_and_the_others_finish(site: Site) -> None:
    bystanders = 5
    async with site.outside() as jobs:
        others = [await jobs.enqueue_command(AccHeld, "bystander") for _ in range(bystanders)]
        poison = await jobs.enqueue_command(AccPoison, bystanders)
        starts = 0
        while not (await job(jobs, poison.id)).state.is_final and starts < 12:
            starts += 1
            if site.texts.count("poison") >= 2:
                site.open_gate()
            async with site.node(may_die=True) as node:
                await dead_or_final(node, jobs, poison.id)

        async with site.node():
            site.open_gate()
            await all_completed(jobs, *[ref.id for ref in others])

        failed = await job(jobs, poison.id)
        assert (failed.state, failed.error_code, failed.crashes) == (JobState.FAILED, "WorkerCrashed", 3)
        assert 3 <= site.texts.count("poison") <= 4  # a first crash may come before the start is on disk
        assert max([(await job(jobs, ref.id)).crashes for ref in others]) <= 2
