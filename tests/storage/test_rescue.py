"""What dead nodes leave behind."""

from dataclasses import replace

from commandjobs.model.node import NodeRow
from commandjobs.model.outcome import Crashed
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Storage
from tests.storage.life import (
    ANY,
    NOW,
    SECOND,
    begun,
    child,
    claim_ids,
    claim_one,
    end,
    ending,
    executed,
    job,
    node,
    put,
    put_all,
    running,
    state,
    stored,
)


async def replace_node(storage: Storage) -> NodeRow:
    """The node that has claimed everything so far is dead, and another process takes its place."""
    [dead] = [known for known in await storage.nodes() if known.stopped is None]
    dead.stopped = NOW
    await storage.heartbeat(dead)
    successor = node("successor")
    await storage.register(successor)
    return successor


async def test_without_dead_nodes_there_is_nothing_to_rescue(storage: Storage) -> None:
    await running(storage)
    await put(storage, job(), claim=ANY)

    rescued = await storage.rescue(now=NOW)

    assert (rescued.started, rescued.released) == ([], 0)


async def test_l02_jobs_that_a_dead_node_had_started_are_returned_as_they_were(storage: Storage) -> None:
    row = await running(storage, job(args={"a": "1"}))
    await replace_node(storage)

    rescued = await storage.rescue(now=NOW)

    assert rescued.started == [await stored(storage, row.id)]
    [left] = rescued.started
    assert (left.id, left.owner, left.state, left.attempts) == (row.id, row.owner, JobState.STARTED, 1)
    assert rescued.released == 0


async def test_l02_a_started_job_is_settled_as_crashed_in_the_name_of_its_old_owner(storage: Storage) -> None:
    await running(storage)
    successor = await replace_node(storage)
    [left] = (await storage.rescue(now=NOW)).started

    settled = await end(storage, left, Crashed("node"), claim=ANY)

    [claimed] = settled.claimed
    assert (claimed.owner, claimed.suspect, claimed.crashes) == (successor.number, True, 1)
    assert (await storage.rescue(now=NOW)).started == []


async def test_l10_a_rescued_job_refuses_its_old_owner(storage: Storage) -> None:
    row = await running(storage)
    late = ending(replace(row), Crashed("node"))
    await replace_node(storage)
    [left] = (await storage.rescue(now=NOW)).started
    await end(storage, left, Crashed("node"))

    assert (await storage.settle([late], now=NOW)).written == [False]


async def test_a_started_job_is_returned_until_it_is_settled(storage: Storage) -> None:
    row = await running(storage)
    await replace_node(storage)

    for _ in range(2):
        assert [left.id for left in (await storage.rescue(now=NOW)).started] == [row.id]


async def test_jobs_that_were_only_claimed_are_released_as_suspects(storage: Storage) -> None:
    ids = await put_all(storage, job(), job(), claim=ANY)
    await replace_node(storage)

    rescued = await storage.rescue(now=NOW)

    assert (rescued.started, rescued.released) == ([], 2)
    rows = await storage.claim({}, 10, claim=ANY, now=NOW)
    assert [(row.id, row.suspect, row.crashes, row.attempts) for row in rows] == [(id, True, 0, 0) for id in ids]


async def test_a_start_mark_clears_the_suspicion(storage: Storage) -> None:
    id = await put(storage, job(), claim=ANY)
    await replace_node(storage)
    await storage.rescue(now=NOW)

    await begun(storage, await claim_one(storage))

    assert not (await stored(storage, id)).suspect


async def test_l09_the_jobs_of_living_nodes_are_untouched(storage: Storage) -> None:
    await put(storage, job(), claim=ANY)
    await replace_node(storage)
    mine = await running(storage)

    rescued = await storage.rescue(now=NOW)

    assert (rescued.started, rescued.released) == ([], 1)
    assert (await stored(storage, mine.id)).owner == mine.owner


async def test_l05_a_callback_that_had_started_is_returned_as_executed(storage: Storage) -> None:
    id = await executed(storage)
    await begun(storage, await claim_one(storage))
    await replace_node(storage)

    [left] = (await storage.rescue(now=NOW)).started

    assert (left.id, left.state, left.callback_attempts) == (id, JobState.EXECUTED, 1)
    await end(storage, left, Crashed("node"))
    kept = await stored(storage, id)
    assert (kept.state, kept.attempts, kept.suspect) == (JobState.EXECUTED, 1, True)
    assert await claim_ids(storage) == [id]


async def test_l05_a_callback_that_was_only_claimed_is_released(storage: Storage) -> None:
    id = await executed(storage)
    await claim_one(storage)
    await replace_node(storage)

    rescued = await storage.rescue(now=NOW)

    assert (rescued.started, rescued.released) == ([], 1)
    assert await claim_ids(storage) == [id]


async def test_l04_cancelled_and_waiting_jobs_are_not_resurrected(storage: Storage) -> None:
    cancelled, waiting = await put_all(storage, job(), job())
    await storage.cancel([cancelled], by=None, now=NOW)
    await replace_node(storage)

    rescued = await storage.rescue(now=NOW)

    assert (rescued.started, rescued.released) == ([], 0)
    assert await state(storage, cancelled) is JobState.CANCELLED
    assert not (await stored(storage, waiting)).suspect


async def test_x12_a_dead_owners_lane_is_free_for_the_best(storage: Storage) -> None:
    row = job(key="tenant")
    await put(storage, row, claim=ANY)
    better = await put(storage, job(key="tenant", priority=1))
    await replace_node(storage)

    await storage.rescue(now=NOW)

    assert (await stored(storage, row.id)).hold is Hold.LANE
    assert await claim_ids(storage) == [better]


async def test_x12_a_lane_stays_held_until_the_crash_is_settled(storage: Storage) -> None:
    await running(storage, job(worker="smtp"))
    waiting = await put(storage, job(worker="smtp", priority=1))
    await replace_node(storage)
    [left] = (await storage.rescue(now=NOW)).started
    assert await claim_ids(storage) == []

    settled = await end(storage, left, Crashed("node"), claim=ANY)

    assert [row.id for row in settled.claimed] == [waiting]


async def test_r14_a_claimed_job_asked_to_end_ends_when_it_is_rescued(storage: Storage) -> None:
    row = job()
    await put(storage, row, claim=ANY)
    await storage.cancel([row.id], by="anna", now=NOW)
    await replace_node(storage)

    await storage.rescue(now=NOW)

    kept = await stored(storage, row.id)
    assert (kept.state, kept.cancelled_by) == (JobState.CANCELLED, "anna")
    assert await claim_ids(storage) == []


async def test_r14_a_started_job_asked_to_end_ends_when_its_crash_is_settled(storage: Storage) -> None:
    row = await running(storage)
    await storage.cancel([row.id], by="anna", now=NOW)
    await replace_node(storage)
    [left] = (await storage.rescue(now=NOW)).started

    await end(storage, left, Crashed("node"))

    assert await state(storage, row.id) is JobState.CANCELLED


async def test_d30_a_crash_cancels_what_the_attempt_enqueued(storage: Storage) -> None:
    row = await running(storage)
    id = await put(storage, child(row.id, bound_attempt=1))
    await replace_node(storage)
    [left] = (await storage.rescue(now=NOW)).started

    await end(storage, left, Crashed("node"))

    assert (await stored(storage, id)).error_code == "AttemptFailed"


async def test_many_jobs_are_rescued_in_steps(storage: Storage) -> None:
    ids = await put_all(storage, *(job() for _ in range(25)), claim=ANY)
    await replace_node(storage)

    released = [(await storage.rescue(now=NOW + SECOND, limit=10)).released for _ in range(4)]

    assert released == [10, 10, 5, 0]
    assert await claim_ids(storage) == ids


async def test_the_jobs_of_several_dead_nodes_are_rescued(storage: Storage) -> None:
    first = await put(storage, job(), claim=ANY)
    await replace_node(storage)
    second = await put(storage, job(), claim=ANY)
    await replace_node(storage)

    assert (await storage.rescue(now=NOW)).released == 2
    assert await claim_ids(storage) == [first, second]
