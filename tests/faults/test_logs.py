"""What a job had said before its process was killed."""

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.nodes import Site, all_completed, attempts_on_disk
from tests.acceptance.programs.commands import AccTalk


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setenv("LEDGER", site.environment["LEDGER"])
    return site


async def test_f04_the_log_of_an_attempt_that_was_killed_is_kept_and_says_which_attempt_it_was(site: Site) -> None:
    async with site.outside() as jobs:
        ref = await jobs.enqueue_command(AccTalk)
        async with site.node() as node:
            await site.noted("start talk")
            await attempts_on_disk(jobs, ref.id, 1)
            while not await jobs.get_logs(ref.id):  # noqa: ASYNC110  written each second, by another process
                await asyncio.sleep(0.02)
            await node.kill()
        site.open_gate()
        async with site.node():
            await all_completed(jobs, ref.id)

        lines = await jobs.get_logs(ref.id)
    assert [line.message for line in lines if line.attempt == 1] == [f"line {number}" for number in range(100)]
    assert len([line for line in lines if line.attempt == 2]) >= 100
