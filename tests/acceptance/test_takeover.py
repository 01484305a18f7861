"""A process that dies, or is stopped, and one that stood by."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from commandjobs import BackgroundJobs, JobState, Registry
from commandjobs.clock import SystemClock
from tests.acceptance.nodes import Line, Node, Site, all_completed, attempts_on_disk, job
from tests.acceptance.programs.commands import AccFork, AccHeld, AccNote, AccSpan, AccStubborn, AccThreadHeld, AccWork
from tests.conftest import until


class LaterClock(SystemClock):
    """Two minutes fast."""

    def now(self) -> int:
        return super().now() + 120_000_000


async def test_l19_a_standby_takes_over_at_once_from_a_killed_process(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    async with site.outside() as jobs, site.node() as node, site.node() as standby:
        held = await jobs.enqueue_command(AccHeld, "held")
        await site.noted("start held")
        await attempts_on_disk(jobs, held.id, 1)
        killed = time.time()
        await node.kill()
        again = await site.noted("start held", 2)
        site.open_gate()
        await all_completed(jobs, held.id)

        with capsys.disabled():
            print(f" taken over in {(again.at - killed) * 1000:.0f} ms", end=" ")
        assert again.pid == standby.pid
        assert again.at - killed < 5.0  # of a tenth of a second; to wait for a heartbeat would take ten and more


async def test_l19_x11_named_workers_stay_serial_and_in_order_across_takeovers(site: Site) -> None:
    workers, each = 3, 60
    async with site.outside() as jobs, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(site.node()) for _ in range(3)]
        refs = [
            ref
            for worker in range(workers)
            for ref in await jobs.enqueue_many(
                AccSpan, [f"{worker} {number}" for number in range(each)], worker=f"w{worker}"
            )
        ]
        for killed in range(2):
            await until(lambda: sum(line.pid in living(nodes) for line in site.lines) > 20, within=20)
            executing = {line.pid for line in site.lines} & living(nodes)
            (executor,) = [node for node in nodes if node.pid in executing]
            await executor.kill()
            assert len({line.pid for line in site.lines}) == killed + 1

        await all_completed(jobs, *[ref.id for ref in refs])
        assert len({line.pid for line in site.lines}) == 3
        for worker in range(workers):
            assert_serial([line for line in site.lines if line.text.split(" ")[1] == str(worker)], each)


def living(nodes: list[Node]) -> set[int]:
    return {node.pid for node in nodes if node.is_alive}


def assert_serial(lines: list[Line], count: int) -> None:
    """Each begins after all before it have ended. One whose process was killed may have begun, or ended, twice."""
    ended = -1
    for before, line, after in zip([None, *lines[:-1]], lines, [*lines[1:], None], strict=True):
        kind, _, number = line.text.split(" ")
        if kind == "end":
            assert before is not None
            assert (before.pid, before.text) == (line.pid, line.text.replace("end", "begin"))
            ended = int(number)
        else:
            assert int(number) == ended + 1 or (before is not None and before.pid != line.pid and int(number) == ended)
            assert after is not None
            assert after.pid != line.pid or after.text == line.text.replace("begin", "end")
    assert ended == count - 1


async def test_l19_a_stopped_process_keeps_its_jobs_is_called_silent_and_nothing_runs_twice(site: Site) -> None:
    async with site.outside() as jobs, site.outside(clock=LaterClock()) as later, site.node() as node, site.node():
        held = await jobs.enqueue_command(AccHeld, "held")
        await site.noted("start held")
        await attempts_on_disk(jobs, held.id, 1)
        node.signal(signal.SIGSTOP)
        waiting = await jobs.enqueue_command(AccNote, "waiting")
        health = await later.health()
        assert any(f"Executor pid {node.pid}" in reason and "silent for" in reason for reason in health.reasons)
        site.open_gate()
        with pytest.raises(TimeoutError):
            await waiting.wait(0.3)  # six looks of the standby
        node.signal(signal.SIGCONT)

        await all_completed(jobs, held.id, waiting.id)
        assert sorted(site.texts) == ["end held", "start held", "waiting"]
        assert {line.pid for line in site.lines} == {node.pid}


@pytest.mark.parametrize("command", [AccStubborn, AccThreadHeld])
async def test_l06_a_process_with_code_that_does_not_end_keeps_its_jobs_from_a_standby_until_it_dies(
    site: Site, command: type[AccStubborn | AccThreadHeld]
) -> None:
    async with site.outside() as jobs, site.node("--grace", "0.1") as node, site.node() as standby:
        ref = await jobs.enqueue_command(command, "deaf")
        await site.noted("start deaf")
        await attempts_on_disk(jobs, ref.id, 1)
        node.terminate()
        await node.logged("was told to end and has not")
        assert (await job(jobs, ref.id)).state is JobState.STARTED
        assert site.texts.count("start deaf") == 1

        await node.kill_if_alive()
        assert (await site.noted("start deaf", 2)).pid == standby.pid
        site.open_gate()
        await all_completed(jobs, ref.id)
        assert (await job(jobs, ref.id)).crashes == 1


async def test_design6_a_child_that_a_job_has_forked_does_not_hold_the_role_of_its_dead_parent(site: Site) -> None:
    async with site.outside() as jobs:
        async with site.node() as node:
            await jobs.enqueue_command(AccFork, "x")
            child = await site.noted("child lives")
            await node.kill()
            assert is_there(child.pid)
            async with site.node():
                await all_completed(jobs, (await jobs.enqueue_command(AccNote, "goes on")).id)
                assert is_there(child.pid)
        site.open_gate()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_l19_a_standby_steers_while_it_takes_over(site: Site) -> None:
    registry = Registry()
    for command in (AccNote, AccWork):
        registry.register(command)
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(site.node())
        jobs = await stack.enter_async_context(BackgroundJobs(site.database, registry=registry))
        held = [await jobs.enqueue_command(AccNote, f"{n}", run_after=timedelta(hours=1)) for n in range(200)]
        await node.kill()
        for ref in held:
            assert await jobs.cancel_job(ref.id)
        after = await jobs.enqueue_command(AccWork, "after")
        assert await after.result(20) == "AFTER"
        assert [n.pid for n in await jobs.get_nodes() if n.stopped is None and n.pid == os.getpid()] == [os.getpid()]
    assert site.texts == ["work after"]


async def test_l19_a_standby_does_itself_what_it_has_asked_of_a_process_that_died(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commandjobs.storage.sqlite.steering.POLL", 0.5)  # it takes over before it looks for the answer
    registry = Registry()
    registry.register(AccNote)
    async with site.node() as node, BackgroundJobs(site.database, registry=registry) as standby:
        ref = await standby.enqueue_command(AccNote, "later", run_after=timedelta(hours=1))
        node.signal(signal.SIGSTOP)
        asked = asyncio.create_task(standby.cancel_job(ref.id))
        await asyncio.sleep(0.3)
        await node.kill()

        async with asyncio.timeout(20):
            assert await asked
