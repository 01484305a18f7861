"""Several nodes on one queue: leases, fencing, and who gets what. On every storage that many nodes can share."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from anyio import create_task_group

from commandjobs.model.node import NodeRow
from commandjobs.model.outcome import Crashed, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.settle import begin
from commandjobs.model.state import JobState
from commandjobs.storage.base import Cancelling, Claim, Storage
from commandjobs.storage.postgres.storage import PostgresStorage
from tests import postgres
from tests.conftest import until
from tests.storage.life import (
    ANY,
    NOW,
    begun,
    child,
    claim_ids,
    end,
    ending,
    job,
    node,
    put,
    put_all,
    running,
    state,
    stored,
)

Another = Callable[..., Any]
SHORT = 0.6
"""Seconds of a lease that is to end within a test."""


@pytest.fixture(params=["postgres"])
async def another(request: pytest.FixtureRequest) -> AsyncIterator[Another]:
    """`await another()` is one more node on the same queue, open; `lost` and `wakes` collect what it is told."""
    url = postgres.empty_url()

    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def open_one(
            *, lease: float = 30.0, lost: Callable[[], None] | None = None, wakes: Callable[[], None] = lambda: None
        ) -> AsyncGenerator[tuple[Storage, NodeRow]]:
            storage = PostgresStorage(url, lease=lease)
            await storage.open(on_wake=wakes, on_lost=lost)
            mine = node()
            await storage.register(mine)
            assert await storage.try_execute()
            try:
                yield storage, mine
            finally:
                await storage.close()

        async def enter(**options: Any) -> tuple[Storage, NodeRow]:
            return await stack.enter_async_context(open_one(**options))

        yield enter


async def test_every_node_executes(another: Another) -> None:
    first, one = await another()
    second, two = await another()

    assert (first.executes, second.executes) == (True, True)
    assert one.number != two.number
    assert {known.number for known in await first.nodes()} == {one.number, two.number}


async def test_l08_each_job_is_claimed_once(another: Another) -> None:
    storages = [(await another())[0] for _ in range(3)]
    ids = await put_all(storages[0], *(job() for _ in range(300)))
    got: list[int] = []

    async def claim_all(storage: Storage) -> None:
        while rows := await storage.claim({}, 7, claim=ANY, now=NOW):
            got.extend(row.id for row in rows)

    async with create_task_group() as tasks:
        for storage in storages:
            tasks.start_soon(claim_all, storage)

    assert sorted(got) == ids


async def test_x11_a_named_worker_has_one_job_whatever_the_nodes_do(another: Another) -> None:
    storages = [(await another())[0] for _ in range(3)]
    ended: list[int] = []
    at_once: list[int] = []

    async def work(storage: Storage) -> None:
        rows = [*await storage.claim({}, 5, claim=ANY, now=NOW)]
        while rows:
            row = rows.pop()
            at_once.append(row.id)
            assert at_once == [row.id]
            begin(row, now=NOW, node="node")
            await asyncio.sleep(0)
            at_once.remove(row.id)
            settled = await storage.settle([ending(row, Succeeded())], now=NOW)
            ended.append(row.id)
            rows += settled.claimed or await storage.claim({}, 5, claim=ANY, now=NOW)

    ids = await put_all(storages[0], *(job(worker="smtp") for _ in range(60)))
    while len(ended) < len(ids):
        async with create_task_group() as tasks:
            for storage in storages:
                tasks.start_soon(work, storage)

    assert ended == ids


async def test_x12_jobs_in_two_lanes_meet_nobody_in_either(another: Another) -> None:
    storages = [(await another())[0] for _ in range(3)]
    held: set[str] = set()
    ended: list[int] = []

    async def work(storage: Storage, rows: list[JobRow]) -> None:
        for row in rows:
            lanes = {f"w{row.lane}", f"k{row.lane_key}"}
            assert not held & lanes
            held.update(lanes)
        await asyncio.sleep(0)
        for row in rows:
            begin(row, now=NOW, node="node")
            held.difference_update({f"w{row.lane}", f"k{row.lane_key}"})
        await storage.settle([ending(row, Succeeded()) for row in rows], now=NOW)
        ended.extend(row.id for row in rows)

    async def insert(storage: Storage, number: int) -> None:
        for turn in range(20):
            await put(storage, job(worker=f"{(turn + number) % 3}", key=f"{turn % 4}", priority=turn % 2))

    async def drain(storage: Storage) -> None:
        while len(ended) < 60:
            await work(storage, await storage.claim({}, 5, claim=ANY, now=NOW))

    async with asyncio.timeout(60), create_task_group() as tasks:
        for number, storage in enumerate(storages):
            tasks.start_soon(insert, storage, number)
            tasks.start_soon(drain, storage)

    assert len(set(ended)) == 60


async def test_e14_of_nodes_that_insert_one_key_at_once_one_wins(another: Another) -> None:
    storages = [(await another())[0] for _ in range(3)]
    answers: list[str | None] = []

    async def insert(storage: Storage) -> None:
        [answer] = await storage.insert([job(unique_key="k")], now=NOW)
        answers.append(answer.conflict)

    async with create_task_group() as tasks:
        for storage in storages * 4:
            tasks.start_soon(insert, storage)

    assert sorted(map(str, answers)) == ["None", *["unique_key"] * 11]


async def test_d01_a_parent_that_ends_while_its_child_comes_leaves_nobody_behind(another: Another) -> None:
    first, _ = await another()
    second, _ = await another()

    for _ in range(15):
        parent = await running(first)
        async with create_task_group() as tasks:
            tasks.start_soon(end, first, parent)
            tasks.start_soon(put, second, child(parent.id))
        [id] = await claim_ids(second)
        assert (await stored(second, id)).parent_id == parent.id


async def test_d10_two_parents_that_end_at_once_release_their_child_once(another: Another) -> None:
    first, _ = await another()
    second, _ = await another()

    for _ in range(15):
        one, two = await running(first), await running(second)
        id = await put(first, child(one.id, two.id))
        async with create_task_group() as tasks:
            tasks.start_soon(end, first, one)
            tasks.start_soon(end, second, two)
        assert await claim_ids(first) == [id]


async def test_l02_a_silent_node_is_dead_after_its_lease(another: Another) -> None:
    silent = await another(lease=SHORT)
    living, _ = await another()
    started = await running(silent[0])
    claimed = await put(silent[0], job(), claim=ANY)
    await stop_renewing(silent[0])

    async with asyncio.timeout(20):
        while not (rescued := await living.rescue(now=NOW)).released:
            assert rescued.started == []
            await asyncio.sleep(0.05)

    assert [row.id for row in rescued.started] == [started.id]
    assert await claim_ids(living) == [claimed]


async def test_l10_a_dead_node_owns_nothing_and_changes_nothing(another: Another) -> None:
    dead, row_of_it = await another()
    living, _ = await another()
    late = await running(dead)
    await put_all(living, job(), job())
    await bury(row_of_it)
    [left] = (await living.rescue(now=NOW)).started
    await end(living, left, Crashed("node"))

    assert await claim_ids(dead) == []
    assert (await dead.settle([ending(late, Succeeded())], now=NOW)).written == [False]
    assert (await stored(living, late.id)).crashes == 1


async def test_l02_a_node_that_was_found_dead_is_told(another: Another) -> None:
    told: list[None] = []
    _, mine = await another(lease=SHORT, lost=lambda: told.append(None))

    await bury(mine)

    await until(lambda: told)


async def test_l02_a_node_that_was_lost_begins_anew_under_another_number(another: Another) -> None:
    told: list[None] = []
    storage, mine = await another(lease=SHORT, lost=lambda: told.append(None))
    before, id = mine.number, await put(storage, job(), claim=ANY)
    await bury(mine)
    await until(lambda: told)

    await storage.register(mine)

    assert mine.number > before
    assert (await storage.rescue(now=NOW)).released == 1
    assert await claim_ids(storage) == [id]


async def test_l02_a_node_of_this_machine_whose_process_is_gone_is_not_waited_for(another: Another) -> None:
    dead, row_of_it = await another()
    living, _ = await another()
    id = await put(dead, job(), claim=ANY)
    postgres.execute(f"update {postgres.SCHEMA}.node set pid = 4194305 where number = {row_of_it.number}")

    assert (await living.rescue(now=NOW)).released == 1
    assert await claim_ids(living) == [id]


async def test_l02_a_process_of_another_machine_is_waited_for(another: Another) -> None:
    far, row_of_it = await another()
    living, _ = await another()
    await put(far, job(), claim=ANY)
    postgres.execute(
        f"update {postgres.SCHEMA}.node set pid = 4194305, machine = 'far' where number = {row_of_it.number}"
    )

    assert (await living.rescue(now=NOW)).released == 0


async def test_r15_a_cancellation_reaches_the_node_that_runs_the_job(another: Another) -> None:
    heard: list[None] = []
    owner, _ = await another(wakes=lambda: heard.append(None))
    other, _ = await another()
    row = await running(owner)
    heard.clear()

    assert await other.cancel([row.id], by="anna", now=NOW) == [Cancelling.REQUESTED]

    await until(lambda: heard)
    [intent] = await owner.intents()
    assert (intent.action, intent.arguments) == ("cancel", {"ids": [row.id], "by": "anna"})
    await owner.answer(intent, None)
    assert await owner.intents() == []
    assert await other.intents() == []


async def test_e08_a_job_of_another_process_is_hinted_at(another: Another) -> None:
    heard: list[None] = []
    first, _ = await another()
    second, _ = await another(wakes=lambda: heard.append(None))
    await first.claim({}, 1, claim=ANY, now=NOW)
    heard.clear()

    id = await put(first, job())

    await until(lambda: heard)
    assert await claim_ids(second) == [id]


async def test_f54_a_node_claims_only_the_commands_it_knows(another: Another) -> None:
    old, _ = await another()
    new, _ = await another()
    ids = await put_all(old, job("Work"), job("NewWork"))

    assert await claim_ids(old) == [ids[0]]
    assert await claim_ids(new, claim=Claim(frozenset({"Work", "NewWork"}))) == [ids[1]]


async def test_l11_the_time_is_the_databases(another: Another) -> None:
    storage, _ = await another()

    before, [(there,)], after = (
        await storage.time(),
        postgres.query("select (extract(epoch from clock_timestamp()) * 1000000)::bigint"),
        await storage.time(),
    )

    assert before is not None
    assert after is not None
    assert before - 5_000_000 < there < after + 5_000_000


async def test_statistics_of_several_nodes_add_up(another: Another) -> None:
    first, _ = await another()
    second, _ = await another()
    for storage in (first, second, first):
        await storage.settle([], now=NOW, tallies=counted())

    [tally] = (await second.tallies(since=0)).values()

    assert (tally.count, tally.time_ms) == (3, 6.0)


async def test_l02_a_crash_is_settled_by_one_node(another: Another) -> None:
    dead, row_of_it = await another()
    first, _ = await another()
    second, _ = await another()
    row = await running(dead)
    await bury(row_of_it)
    written: list[bool] = []

    async def settle(storage: Storage) -> None:
        for left in (await storage.rescue(now=NOW)).started:
            written.extend((await storage.settle([ending(left, Crashed("node"))], now=NOW)).written)

    async with create_task_group() as tasks:
        tasks.start_soon(settle, first)
        tasks.start_soon(settle, second)

    assert written.count(True) == 1
    assert await state(first, row.id) is JobState.QUEUED
    assert (await stored(first, row.id)).crashes == 1


async def test_a_start_mark_of_a_dead_node_is_refused_once_its_job_was_given_back(another: Another) -> None:
    dead, row_of_it = await another()
    living, _ = await another()
    row = job()
    await put(dead, row, claim=ANY)
    await bury(row_of_it)
    await living.rescue(now=NOW)
    again = (await living.claim({}, 1, claim=ANY, now=NOW))[0]
    await begun(living, again)

    begin(row, now=NOW, node="dead")

    assert await dead.mark_started([row]) == [False]
    assert (await stored(living, row.id)).node == "node"


async def bury(dead: NodeRow) -> None:
    """Another node finds that it has been silent."""
    postgres.execute(f"update {postgres.SCHEMA}.node set lost = true where number = {dead.number}")


async def stop_renewing(storage: Storage) -> None:
    """Its process is there, and says nothing."""
    assert isinstance(storage, PostgresStorage)
    assert storage._lease is not None
    await storage._lease.close()


def counted() -> Any:
    from commandjobs.model.stats import Tally, TallyKey

    tally = Tally()
    tally.add(2.0)
    return {TallyKey(NOW - NOW % 3_600_000_000, "CMD", "Work", "", "default", "Completed"): tally}


async def test_f32_jobs_that_a_node_knows_nothing_of_are_given_away(another: Another) -> None:
    first, _ = await another()
    second, _ = await another()
    known, forgotten = await put_all(first, job(), job())
    assert await claim_ids(first, 2) == [known, forgotten]
    assert await first.owned() == {known, forgotten}

    await first.disown({forgotten})

    assert await first.owned() == {known}
    assert (await second.rescue(now=NOW)).released == 1
    assert await claim_ids(second, 2) == [forgotten]
