"""Claims: who gets which claimable job, in which order, and what stays."""

import pytest
from anyio import create_task_group

from commandjobs.model.outcome import Succeeded
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Claim, Storage
from tests.storage.life import (
    ANY,
    HOUR,
    NOW,
    begun,
    child,
    claim_ids,
    claim_one,
    end,
    executed,
    job,
    node,
    put,
    put_all,
    running,
    stored,
)


async def test_an_empty_storage_has_nothing_to_claim(storage: Storage) -> None:
    assert await storage.claim({"default": 5}, 5, claim=ANY, now=NOW) == []


async def test_e18_equal_priorities_go_in_the_order_of_ids(storage: Storage) -> None:
    ids = await put_all(storage, *(job() for _ in range(20)))

    assert await claim_ids(storage) == ids


async def test_e18_a_higher_priority_goes_first(storage: Storage) -> None:
    rows = [job(priority=priority) for priority in (0, 5, -5, 5, 100)]
    first, second, third, fourth, fifth = await put_all(storage, *rows)

    assert await claim_ids(storage) == [fifth, second, fourth, first, third]


async def test_e18_the_order_goes_across_commands(storage: Storage) -> None:
    rows = [job("Work", priority=1), job("Other", priority=2), job("Notify"), job("Other"), job("Work", priority=2)]
    a, b, c, d, e = await put_all(storage, *rows)

    assert await claim_ids(storage) == [b, e, a, c, d]


async def test_l15_a_queue_gets_no_more_than_its_room(storage: Storage) -> None:
    ids = await put_all(storage, *(job() for _ in range(5)))

    first = await storage.claim({"default": 3}, 0, claim=ANY, now=NOW)
    second = await storage.claim({"default": 3}, 0, claim=ANY, now=NOW)

    assert [[row.id for row in rows] for rows in (first, second)] == [ids[:3], ids[3:]]


async def test_e19_any_queue_name_works_without_set_up(storage: Storage) -> None:
    id = await put(storage, job(queue="never heard of"))

    assert await claim_ids(storage) == [id]


async def test_queues_not_named_get_the_room_of_others_each(storage: Storage) -> None:
    for queue in ("default", "mails", "reports"):
        await put_all(storage, *(job(queue=queue) for _ in range(5)))

    rows = await storage.claim({"mails": 4}, 2, claim=ANY, now=NOW)

    queues = [row.queue for row in rows]
    assert {queue: queues.count(queue) for queue in queues} == {"default": 2, "mails": 4, "reports": 2}


async def test_without_room_for_others_only_named_queues_are_claimed(storage: Storage) -> None:
    _, mail = await put_all(storage, job(), job(queue="mails"))

    rows = await storage.claim({"mails": 5}, 0, claim=ANY, now=NOW)

    assert [row.id for row in rows] == [mail]


async def test_l16_a_queue_without_room_starves_no_other(storage: Storage) -> None:
    await put_all(storage, *(job(queue="paused", priority=9) for _ in range(500)))
    id = await put(storage, job())

    rows = await storage.claim({"paused": 0}, 10, claim=ANY, now=NOW)

    assert [row.id for row in rows] == [id]


async def test_each_queue_is_claimed_best_first(storage: Storage) -> None:
    for queue in ("a", "b"):
        await put_all(storage, *(job(queue=queue, priority=priority) for priority in (1, 3, 2)))

    rows = await storage.claim({}, 2, claim=ANY, now=NOW)

    priorities = {queue: [row.priority for row in rows if row.queue == queue] for queue in ("a", "b")}
    assert priorities == {"a": [3, 2], "b": [3, 2]}


async def test_a_claim_leaves_commands_that_the_node_does_not_know(storage: Storage) -> None:
    strange, known = await put_all(storage, job("Strange", priority=9), job())

    assert await claim_ids(storage) == [known]
    assert (await stored(storage, strange)).owner is None


async def test_many_unknown_jobs_are_not_in_the_way(storage: Storage) -> None:
    await put_all(storage, *(job("Strange", priority=9) for _ in range(2_000)))
    id = await put(storage, job())

    rows = await storage.claim({}, 1, claim=ANY, now=NOW)

    assert [row.id for row in rows] == [id]


async def test_l14_a_node_claims_only_from_queues_it_serves(storage: Storage) -> None:
    other, mail = await put_all(storage, job(), job(queue="mails"))

    rows = await storage.claim({"default": 9}, 9, claim=Claim(ANY.commands, frozenset({"mails"})), now=NOW)

    assert [row.id for row in rows] == [mail]
    assert await claim_ids(storage) == [other]


async def test_x13_a_job_is_claimed_once(storage: Storage) -> None:
    await put(storage, job())

    assert len(await claim_ids(storage)) == 1
    assert await claim_ids(storage) == []


async def test_l08_simultaneous_claims_share_no_job(storage: Storage) -> None:
    ids = await put_all(storage, *(job() for _ in range(200)))
    claimed: list[int] = []

    async def claim() -> None:
        claimed.extend(await claim_ids(storage, 15))

    async with create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(claim)

    assert sorted(claimed) == ids


async def test_a_claim_is_not_a_start(storage: Storage) -> None:
    id = await put(storage, job())

    row = await claim_one(storage)

    assert (row.state, row.attempts, row.started) == (JobState.QUEUED, 0, None)
    kept = await stored(storage, id)
    assert (kept.state, kept.attempts, kept.owner) == (JobState.QUEUED, 0, row.owner)


async def test_a_claim_belongs_to_the_node_registered_last(storage: Storage) -> None:
    await put(storage, job())
    second = node("second")
    await storage.register(second)

    row = await claim_one(storage)

    assert row.owner == second.number


async def test_parked_jobs_are_not_claimed(storage: Storage) -> None:
    busy = await running(storage, job(worker="smtp"))
    rows = [job(run_after=NOW + HOUR), child(busy.id), job(worker="smtp")]

    ids = await put_all(storage, *rows)

    assert [row.hold for row in rows] == [Hold.TIME, Hold.PARENTS, Hold.LANE]
    assert await claim_ids(storage) == []
    assert ids == [row.id for row in rows]


async def test_d21_an_executed_job_is_claimed_by_its_callbacks_command(storage: Storage) -> None:
    id = await executed(storage)

    without = await claim_ids(storage, claim=Claim(frozenset({"Work"})))
    knowing = await claim_ids(storage, claim=Claim(frozenset({"Notify"})))

    assert (without, knowing) == ([], [id])


async def test_d21_an_executed_job_counts_for_its_callbacks_queue(storage: Storage) -> None:
    id = await executed(storage, callback_queue="mails")

    work = await storage.claim({"default": 5}, 0, claim=ANY, now=NOW)
    mails = await storage.claim({"mails": 5}, 0, claim=ANY, now=NOW)

    assert (work, [row.id for row in mails]) == ([], [id])


async def test_d21_a_callback_without_a_queue_of_its_own_runs_in_that_of_the_job(storage: Storage) -> None:
    id = await executed(storage, job(callback="Notify", queue="mails"))

    rows = await storage.claim({"mails": 5}, 0, claim=ANY, now=NOW)

    assert [row.id for row in rows] == [id]


async def test_callbacks_and_work_share_one_order(storage: Storage) -> None:
    low = await executed(storage, job(callback="Notify", priority=-1))
    high = await executed(storage, job(callback="Notify", priority=1))
    work = await put(storage, job())

    assert await claim_ids(storage) == [high, work, low]


async def test_a_job_settled_for_its_callback_can_be_claimed_by_the_same_write(storage: Storage) -> None:
    row = await running(storage, job(callback="Notify"))

    settled = await end(storage, row, Succeeded("1"), claim=ANY)

    [claimed] = settled.claimed
    assert (claimed.id, claimed.state, claimed.response_body) == (row.id, JobState.EXECUTED, "1")
    assert claimed.owner is not None


async def test_pending_commands_are_those_of_claimable_jobs(storage: Storage) -> None:
    await put_all(storage, job("Strange"), job("Later", run_after=NOW + HOUR), job("Other", queue="mails"))
    await executed(storage)

    assert await storage.pending_commands() == {"Strange", "Other", "Notify"}


async def test_pending_commands_forget_what_is_claimed(storage: Storage) -> None:
    await put(storage, job())
    await claim_one(storage)

    assert await storage.pending_commands() == set()


@pytest.mark.parametrize("count", [0, 1])
async def test_claimed_rows_are_the_callers_own(storage: Storage, count: int) -> None:
    await put_all(storage, *(job() for _ in range(3)))
    rows = await storage.claim({}, count, claim=ANY, now=NOW)
    for row in rows:
        row.owner = None

    again = await claim_ids(storage)

    assert len(again) == 3 - count


async def test_a_backlog_behind_one_worker_costs_a_claim_nothing(storage: Storage) -> None:
    holder = await running(storage, job(worker="smtp"))
    parked = await put_all(storage, *(job(worker="smtp", priority=9) for _ in range(3_000)))
    free = await put(storage, job())

    assert await claim_ids(storage, 1) == [free]

    settled = await end(storage, holder, claim=ANY)
    assert [row.id for row in settled.claimed] == parked[:1]


async def test_a_claimed_job_can_be_started(storage: Storage) -> None:
    id = await put(storage, job())

    await begun(storage, await claim_one(storage))

    assert (await stored(storage, id)).state is JobState.STARTED
