"""Waiting for the end of a job."""

import asyncio
from collections.abc import Collection

import pytest

from commandjobs.errors import StorageUnavailable
from commandjobs.runtime.waiters import Waiters
from tests.runtime.attempts import job


class Elsewhere:
    """What the storage says has ended."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self.asked = 0

    async def finished(self, ids: Collection[int]) -> set[int]:
        self.asked += 1
        return self.ended & set(ids)


def waiters() -> tuple[Waiters, Elsewhere]:
    elsewhere = Elsewhere()
    return Waiters(finished=elsewhere.finished), elsewhere


async def test_d29_all_who_wait_for_a_job_get_its_row_and_nobody_else() -> None:
    waiting, storage = waiters()

    with waiting.watch(1) as one, waiting.watch(1) as another, waiting.watch(2) as other:
        waiting.notify(job(1))

        assert (await waiting.wait(1, one, elsewhere=False)) == (await another) == job(1)
        assert not other.done()
    assert storage.asked == 0


async def test_an_end_before_the_wait_is_not_missed() -> None:
    waiting, _ = waiters()

    with waiting.watch(1) as watch:
        waiting.notify(job(1))

        assert await waiting.wait(1, watch, elsewhere=False) == job(1)


async def test_d29_the_end_in_another_process_is_seen_in_the_storage() -> None:
    waiting, storage = waiters()

    with waiting.watch(1) as watch:
        task = asyncio.create_task(waiting.wait(1, watch, elsewhere=True))
        await asyncio.sleep(0)
        storage.ended.add(1)

        assert await asyncio.wait_for(task, 5) is None


async def test_those_who_give_up_leave_nothing_behind() -> None:
    waiting, _ = waiters()

    with waiting.watch(1), waiting.watch(1):
        pass
    waiting.notify(job(1))

    assert waiting._watches == {}


async def test_those_who_wait_here_look_elsewhere_when_this_process_hears_no_more_of_its_jobs() -> None:
    waiting, _ = waiters()

    with waiting.watch(1) as watch:
        waiting.rouse()

        assert await waiting.wait(1, watch, elsewhere=False) is None


async def test_those_who_wait_when_the_engine_is_left_are_told() -> None:
    waiting, _ = waiters()

    with waiting.watch(1) as watch:
        waiting.close()

        with pytest.raises(StorageUnavailable, match="was left while this call waited"):
            await waiting.wait(1, watch, elsewhere=True)
    with pytest.raises(StorageUnavailable), waiting.watch(2):
        pass
