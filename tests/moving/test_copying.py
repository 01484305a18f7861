"""A copy of a whole storage: it goes on after a kill, and refuses what cannot work."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.carried import Carried
from commandjobs.model.settle import requeue
from commandjobs.model.stats import Tallies, Tally, TallyKey
from commandjobs.moving.copying import Copied, copy
from commandjobs.moving.pieces import pieces
from commandjobs.storage import open_storage
from commandjobs.storage.base import Copying, Storage
from tests.storage.life import ANY, FATAL, NOW, child, ending, finished, job, node, put, put_all, running, stored

JOBS = 350
"""Three pieces: 100, 200 and the rest."""


class Killed(BaseException):
    """Stands for the end of the process."""


async def fill(source: Storage) -> None:
    """Finished and waiting jobs, and a count."""
    await source.register(node())
    assert await source.try_execute()
    await finished(source, outcome=FATAL)
    await put_all(source, *(job() for _ in range(JOBS - 3)))
    await put(source, child(2))
    row = await running(source)
    counted = {TallyKey(0, "CMD", "Work", "", "default", "Failed"): Tally(1, 2.5, {3: 1})}
    await source.settle([ending(row, FATAL)], now=NOW, tallies=counted)
    await source.resign()


async def copied(source: Storage, target: Storage, **names: str) -> Copied:
    return await copy(source, target, **{"of": "the old", "to": "the new", **names}, progress=lambda *_: None)


async def ids(storage: Storage) -> list[int]:
    return [job.row.id async for piece in pieces(storage) for job in piece]


def killed_at(target: Storage, monkeypatch: pytest.MonkeyPatch, number: int, *, written: bool) -> None:
    """Let the process end with its n-th piece, before or after it is written."""
    take_in, calls = target.take_in, iter(range(1, 100))

    async def end(carried: Sequence[Carried], *, copying: Copying | None = None, tallies: Tallies | None = None) -> int:
        last = next(calls) == number
        if last and not written:
            raise Killed
        stored = await take_in(carried, copying=copying, tallies=tallies)
        if last:
            raise Killed
        return stored

    monkeypatch.setattr(target, "take_in", end)


async def test_everything_is_copied(source: Storage, target: Storage) -> None:
    await fill(source)

    assert await copied(source, target) == Copied(JOBS, JOBS)

    assert await ids(target) == list(range(1, JOBS + 1))
    assert await target.tallies(since=0) == await source.tallies(since=0) != {}
    assert await target.try_execute()


async def test_progress_is_told(source: Storage, target: Storage) -> None:
    await fill(source)
    told: list[tuple[int, float]] = []

    await copy(source, target, of="a", to="b", progress=lambda jobs, share: told.append((jobs, share)))

    assert told == [(100, 100 / JOBS), (300, 300 / JOBS), (JOBS, 1.0)]


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_a_copy_that_was_killed_goes_on(
    source: Storage, target: Storage, monkeypatch: pytest.MonkeyPatch, number: int, written: bool
) -> None:
    await fill(source)
    with monkeypatch.context() as patched:
        killed_at(target, patched, number, written=written)
        with pytest.raises(Killed):
            await copied(source, target)

    there = len(await ids(target))
    again = await copied(source, target)

    assert (again.jobs, await ids(target)) == (JOBS - there, list(range(1, JOBS + 1)))
    assert await target.tallies(since=0) == await source.tallies(since=0)
    assert await target.try_execute()


async def test_nobody_executes_a_copy_that_was_killed(
    source: Storage, target: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(source)
    killed_at(target, monkeypatch, 2, written=True)
    with pytest.raises(Killed):
        await copied(source, target)
    await target.close()
    await target.open(on_wake=lambda: None)

    with pytest.raises(StorageUnavailable, match="holds only a part of the old: the jobs up to id 300 were brought"):
        await target.try_execute()


async def test_what_was_enqueued_since_comes_with_the_next_run(source: Storage, target: Storage) -> None:
    await fill(source)
    await copied(source, target)
    last = await put(source, job())

    assert (await copied(source, target)).jobs == 1

    assert (await ids(target))[-1] == last == JOBS + 1


async def test_what_was_done_since_a_kill_is_copied_anew(
    source: Storage, target: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(source)
    with monkeypatch.context() as patched:
        killed_at(target, patched, 2, written=True)
        with pytest.raises(Killed):
            await copied(source, target)
    await source.register(node())
    assert await source.try_execute()
    await source.cancel([2], by="anna", now=NOW)
    await source.reinsert([requeue(await stored(source, 1))], now=NOW)

    assert (await copied(source, target)).jobs == JOBS

    for id in (1, 2, JOBS - 1):
        assert await stored(target, id) == await stored(source, id)


async def test_a_storage_with_other_jobs_is_refused(source: Storage, target: Storage) -> None:
    await fill(source)
    await put(target, job())

    with pytest.raises(InvalidOption, match=r"the new is not empty: 1 jobs are there, and ids are kept\."):
        await copied(source, target)

    assert await target.copying() is None


async def test_a_copy_of_something_else_is_refused(
    source: Storage, target: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(source)
    with monkeypatch.context() as patched:
        killed_at(target, patched, 1, written=True)
        with pytest.raises(Killed):
            await copied(source, target)
    other = open_storage("memory://")
    await other.open(on_wake=lambda: None)
    await put_all(other, *(job() for _ in range(JOBS)))

    with pytest.raises(
        InvalidOption, match=r"the new holds a copy of the old, up to job 100 \(.+\), and another has no"
    ):
        await copied(other, target, of="another")


async def test_a_finished_copy_that_is_used_is_refused(source: Storage, target: Storage) -> None:
    await fill(source)
    await copied(source, target)
    await target.register(node())

    with pytest.raises(InvalidOption, match="holds a finished copy of the old, and has been used since"):
        await copied(source, target)


async def test_somebody_who_begins_to_use_the_source_is_noticed(
    source: Storage, target: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(source)
    carry = source.carry

    async def registering(**wanted: Any) -> list[Carried]:
        if wanted["after"] == JOBS:
            await source.register(node())
        return await carry(**wanted)

    monkeypatch.setattr(source, "carry", registering)

    with pytest.raises(StorageUnavailable, match="A process has begun to use the old while it was copied"):
        await copied(source, target)

    copying = await target.copying()
    assert copying is not None
    assert (copying.after, copying.done) == (JOBS, False)


@asynccontextmanager
async def at_work(target: Storage, directory: Path) -> AsyncIterator[None]:
    """Somebody executes there."""
    if target.capabilities.single_executor:
        other = open_storage(directory / "target" / "jobs.db")
        await other.open(on_wake=lambda: None)
        assert await other.try_execute()
        yield
        await other.close()
        return
    busy = node("busy", executing=True)
    await target.register(busy)
    await target.heartbeat(busy)
    yield
    await target.heartbeat(replace(busy, executing=False, stopped=NOW))


async def test_jobs_are_not_copied_to_where_somebody_executes(source: Storage, target: Storage, tmp_path: Path) -> None:
    await fill(source)

    async with at_work(target, tmp_path):
        with pytest.raises(StorageUnavailable, match=r"(Node busy|Process \d+).* executes the jobs of .*Stop it first"):
            await copied(source, target)

    assert (await copied(source, target)).jobs == JOBS


async def test_large_jobs_come_in_small_pieces(source: Storage) -> None:
    await put_all(source, *(job(request_body="x" * 400_000) for _ in range(60)))

    sizes = [len(piece) async for piece in pieces(source)]

    assert sizes == [60]
    await put_all(source, *(job(request_body="x" * 400_000) for _ in range(60)))
    assert [len(piece) async for piece in pieces(source)] == [100, 19, 1]


async def test_claims_go_on_after_a_copy(source: Storage, target: Storage) -> None:
    await fill(source)
    await copied(source, target)
    await target.register(node())
    assert await target.try_execute()

    claimed = await target.claim({}, 10_000, claim=ANY, now=NOW)

    assert [row.id for row in claimed] == list(range(2, JOBS - 1))
