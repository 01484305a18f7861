"""An engine with nothing to do costs nothing, and is there at once when there is something."""

import asyncio
import random

import pytest

from commandjobs import BackgroundJobs, Registry
from tests.acceptance.nodes import Site
from tests.acceptance.programs.commands import AccNote, AccPlain


async def test_l20_an_idle_process_takes_less_than_two_percent_of_a_cpu(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    async with site.program("idle.py") as executing, site.program("idle.py") as standing_by:
        used = [float(await process.line()) for process in (executing, standing_by)]

    with capsys.disabled():
        print(f" idle: {used[0]:.2f} % executing, {used[1]:.2f} % standing by", end=" ")
    assert max(used) < 2.0


async def test_x14_no_job_is_stranded_when_it_is_enqueued_while_the_engine_goes_idle(site: Site) -> None:
    ended = 0

    async def enqueue_each_time_the_last_has_ended(jobs: BackgroundJobs, count: int) -> None:
        nonlocal ended
        for _ in range(count):
            assert await (await jobs.enqueue_command(AccPlain, 1)).result(10) == 2
            ended += 1
            for _ in range(random.randint(0, 5)):
                await asyncio.sleep(0)  # somewhere between "nothing to do" and "asleep"

    registry = Registry()
    registry.register(AccPlain)
    async with BackgroundJobs(site.database, registry=registry) as jobs:
        await asyncio.gather(*(enqueue_each_time_the_last_has_ended(jobs, count) for count in (1200,) * 4))
        await jobs.wait_until_idle(10)
    assert ended == 4800


async def test_x14_no_job_of_another_process_is_stranded_when_the_executing_one_goes_idle(site: Site) -> None:
    async with site.node(), site.outside() as jobs:
        for number in range(200):
            await jobs.enqueue_command(AccNote, str(number))
            await site.noted(str(number))
