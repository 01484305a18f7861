"""Lanes: named workers and concurrency keys run one job at a time, the best first, and strand none."""

import asyncio
from collections.abc import Callable

import pytest

from commandjobs.model.outcome import Crashed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.storage.base import Claim, Storage
from tests.storage.life import (
    ANY,
    FAILURE,
    FATAL,
    HOUR,
    NOW,
    SECOND,
    begun,
    child,
    claim_ids,
    claim_one,
    end,
    ending,
    finished,
    job,
    put,
    put_all,
    requeued,
    running,
    state,
    stored,
)

ONLY_WORK = Claim(frozenset({"Work"}))
IN_LANE: list[Callable[[str], JobRow]] = [lambda name: job(worker=name), lambda name: job(key=name)]
either_lane = pytest.mark.parametrize("in_lane", IN_LANE, ids=["worker", "key"])


@either_lane
async def test_x10_x12_a_lane_runs_one_job_at_a_time(storage: Storage, in_lane: Callable[[str], JobRow]) -> None:
    first, second, _ = await put_all(storage, in_lane("a"), in_lane("a"), in_lane("a"))

    row = await claim_one(storage)

    assert row.id == first
    assert (await stored(storage, second)).hold is Hold.LANE
    assert await claim_ids(storage) == []


@either_lane
async def test_x10_x12_different_lanes_run_beside_each_other(
    storage: Storage, in_lane: Callable[[str], JobRow]
) -> None:
    ids = await put_all(storage, in_lane("a"), in_lane("b"), in_lane("c"))

    assert await claim_ids(storage) == ids


@either_lane
async def test_x10_x12_the_end_of_a_job_elects_the_next(storage: Storage, in_lane: Callable[[str], JobRow]) -> None:
    row = await running(storage, in_lane("a"))
    second, third = await put_all(storage, in_lane("a"), in_lane("a"))

    settled = await end(storage, row, claim=ANY)

    [claimed] = settled.claimed
    assert (claimed.id, claimed.owner) == (second, (await stored(storage, second)).owner)
    assert (await stored(storage, third)).hold is Hold.LANE


async def test_an_elected_job_that_does_not_fit_the_claim_is_ready_for_others(storage: Storage) -> None:
    row = await running(storage, job(worker="smtp"))
    id = await put(storage, job("Other", worker="smtp"))

    settled = await end(storage, row, claim=ONLY_WORK)

    assert (settled.claimed, settled.ready) == ([], True)
    assert await claim_ids(storage) == [id]


async def test_a_worker_and_a_key_of_the_same_name_are_two_lanes(storage: Storage) -> None:
    ids = await put_all(storage, job(worker="same"), job(key="same"))

    assert await claim_ids(storage) == ids


async def test_a_lane_spans_queues_and_commands(storage: Storage) -> None:
    first, *_ = await put_all(storage, job(key="k"), job("Other", key="k"), job(key="k", queue="mails"))

    assert await claim_ids(storage) == [first]


async def test_e10_a_worker_takes_priority_first_then_id(storage: Storage) -> None:
    row = await running(storage, job(worker="smtp"))
    rows = [job(worker="smtp", priority=priority) for priority in (0, 5, 0, 9, 5)]
    a, b, c, d, e = await put_all(storage, *rows)

    order = await drained(storage, row)

    assert order == [d, b, e, a, c]


async def test_e10_of_jobs_inserted_together_the_best_gets_the_lane(storage: Storage) -> None:
    _, best, _ = await put_all(storage, job(worker="smtp"), job(worker="smtp", priority=5), job(worker="smtp"))

    assert await claim_ids(storage) == [best]


async def test_e10_of_jobs_inserted_together_the_best_is_claimed(storage: Storage) -> None:
    rows = [job(worker="smtp"), job(worker="smtp", priority=5)]

    inserted = await storage.insert(rows, now=NOW, claim=ANY)

    assert [answer.claimed for answer in inserted] == [False, True]
    assert [row.hold for row in rows] == [Hold.LANE, None]


async def test_e10_a_better_arrival_takes_the_place_of_an_unclaimed_job(storage: Storage) -> None:
    worse = await put(storage, job(worker="smtp"))

    better = await put(storage, job(worker="smtp", priority=1))

    assert (await stored(storage, worse)).hold is Hold.LANE
    assert await claim_ids(storage) == [better]


async def test_e10_an_equal_arrival_waits_behind(storage: Storage) -> None:
    first = await put(storage, job(worker="smtp", priority=1))

    await put_all(storage, job(worker="smtp", priority=1), job(worker="smtp"))

    assert await claim_ids(storage) == [first]


async def test_a_better_arrival_leaves_a_claimed_job_its_lane(storage: Storage) -> None:
    row = job(worker="smtp")
    await put(storage, row, claim=ANY)

    [answer] = await storage.insert([job(worker="smtp", priority=9)], now=NOW, claim=ANY)

    assert not answer.claimed
    assert (await stored(storage, row.id)).owner == row.owner


async def test_a_displaced_job_runs_after_the_better_one(storage: Storage) -> None:
    worse = await put(storage, job(worker="smtp"))
    row = await running(storage, job(worker="smtp", priority=1))

    settled = await end(storage, row, claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [worse]


async def test_both_lanes_must_be_free(storage: Storage) -> None:
    worker = await running(storage, job(worker="smtp"))
    key = await running(storage, job(key="tenant"))
    both = await put(storage, job(worker="smtp", key="tenant"))

    first = await end(storage, worker, claim=ANY)
    second = await end(storage, key, claim=ANY)

    assert ([row.id for row in first.claimed], [row.id for row in second.claimed]) == ([], [both])


async def test_a_job_that_needs_both_lanes_holds_both(storage: Storage) -> None:
    row = await running(storage, job(worker="smtp", key="tenant"))
    worker, key = await put_all(storage, job(worker="smtp"), job(key="tenant"))
    assert await claim_ids(storage) == []

    settled = await end(storage, row, claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [worker, key]


async def test_a_job_whose_other_lane_is_busy_is_passed_over(storage: Storage) -> None:
    key = await running(storage, job(key="tenant"))
    worker = await running(storage, job(worker="smtp"))
    both, next_one = await put_all(storage, job(worker="smtp", key="tenant", priority=9), job(worker="smtp"))

    settled = await end(storage, worker, claim=ANY)

    [elected] = settled.claimed
    assert elected.id == next_one
    assert (await end(storage, key, claim=ANY)).claimed == []
    settled = await end(storage, await begun(storage, elected), claim=ANY)
    assert [row.id for row in settled.claimed] == [both]


async def test_of_all_lanes_that_one_write_frees_the_best_job_comes_first(storage: Storage) -> None:
    holder = await running(storage, job(worker="smtp", key="tenant"))
    worker = await put(storage, job(worker="smtp", priority=2))
    both = await put(storage, job(worker="smtp", key="tenant", priority=1))
    key = await put(storage, job(key="tenant"))

    settled = await end(storage, holder, claim=ANY)

    assert [row.id for row in settled.claimed] == [worker, key]
    assert (await stored(storage, both)).hold is Hold.LANE


async def test_a_job_for_both_lanes_goes_first_if_it_is_the_best(storage: Storage) -> None:
    holder = await running(storage, job(worker="smtp", key="tenant"))
    await put_all(storage, job(worker="smtp"), job(key="tenant"))
    both = await put(storage, job(worker="smtp", key="tenant", priority=1))

    settled = await end(storage, holder, claim=ANY)

    assert [row.id for row in settled.claimed] == [both]


async def test_lanes_freed_by_one_call_are_filled_together(storage: Storage) -> None:
    worker = await running(storage, job(worker="smtp"))
    key = await running(storage, job(key="tenant"))
    both = await put(storage, job(worker="smtp", key="tenant"))

    settled = await storage.settle([ending(worker, HandedBack()), ending(key, FATAL)], now=NOW, claim=ANY)

    assert [row.id for row in settled.claimed] == [worker.id]
    assert (await stored(storage, both)).hold is Hold.LANE


async def test_an_arrival_better_than_both_holders_displaces_both(storage: Storage) -> None:
    worker, key = await put_all(storage, job(worker="smtp"), job(key="tenant"))

    both = await put(storage, job(worker="smtp", key="tenant", priority=1))

    assert await claim_ids(storage) == [both]
    assert [(await stored(storage, id)).hold for id in (worker, key)] == [Hold.LANE, Hold.LANE]


async def test_an_arrival_better_than_only_one_holder_displaces_none(storage: Storage) -> None:
    worker, key = await put_all(storage, job(worker="smtp"), job(key="tenant", priority=5))

    await put(storage, job(worker="smtp", key="tenant", priority=1))

    assert await claim_ids(storage) == [key, worker]


async def test_an_arrival_displaces_nobody_while_its_other_lane_is_owned(storage: Storage) -> None:
    await running(storage, job(key="tenant"))
    worker = await put(storage, job(worker="smtp"))

    await put(storage, job(worker="smtp", key="tenant", priority=9))

    assert await claim_ids(storage) == [worker]


async def test_the_other_lane_of_a_displaced_job_elects(storage: Storage, wakes: list[None]) -> None:
    await put(storage, job(worker="smtp", key="tenant"))
    waiting = await put(storage, job(key="tenant"))
    wakes.clear()

    [answer] = await storage.insert([job(worker="smtp", priority=9)], now=NOW, claim=ANY)

    assert answer.claimed
    assert await claim_ids(storage) == [waiting]
    assert wakes


async def test_no_job_is_stranded_by_two_lanes(storage: Storage) -> None:
    rows = [job(worker=f"w{number % 3}", key=f"k{number % 4}", priority=number % 5) for number in range(60)]
    ids = await put_all(storage, *rows)
    done: list[int] = []

    while batch := await storage.claim({}, 100, claim=ANY, now=NOW):
        workers, keys = {row.worker for row in batch}, {row.concurrency_key for row in batch}
        assert len(workers) == len(keys) == len(batch)
        for row in batch:
            await end(storage, await begun(storage, row))
        done += [row.id for row in batch]

    assert sorted(done) == ids


@pytest.mark.parametrize("outcome", [FAILURE, Snoozed(5)])
@either_lane
async def test_a_job_that_waits_for_a_date_does_not_hold_its_lane(
    storage: Storage, in_lane: Callable[[str], JobRow], outcome: Outcome
) -> None:
    row = await running(storage, in_lane("a"))
    second = await put(storage, in_lane("a"))

    settled = await end(storage, row, outcome, claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [second]


async def test_a_retry_that_is_due_keeps_its_ids_place(storage: Storage) -> None:
    first = await running(storage, job(worker="smtp"))
    second, third = await put_all(storage, job(worker="smtp"), job(worker="smtp"))
    [running_second] = (await end(storage, first, FAILURE, claim=ANY)).claimed
    assert running_second.id == second

    await storage.promote_due(now=NOW + 100 * SECOND)

    order = await drained(storage, await begun(storage, running_second))
    assert order == [first.id, third]


async def test_a_job_that_waits_for_a_parent_or_a_date_does_not_hold_its_lane(storage: Storage) -> None:
    parent = await running(storage)
    await put(storage, child(parent.id, worker="smtp", priority=9))
    await put(storage, job(worker="smtp", run_after=NOW + HOUR, priority=9))

    id = await put(storage, job(worker="smtp"))

    assert await claim_ids(storage) == [id]


async def test_a_released_dependent_takes_its_turn_in_its_lane(storage: Storage) -> None:
    parent = await running(storage)
    dependent = await put(storage, child(parent.id, worker="smtp", priority=9))
    worse = await put(storage, job(worker="smtp"))

    settled = await end(storage, parent, claim=ANY)

    assert [row.id for row in settled.claimed] == [dependent]
    assert (await stored(storage, worse)).hold is Hold.LANE


async def test_a_job_whose_time_has_come_takes_its_turn_in_its_lane(storage: Storage) -> None:
    later = await put(storage, job(worker="smtp", run_after=NOW + HOUR))
    id = await put(storage, job(worker="smtp"))

    promoted = await storage.promote_due(now=NOW + HOUR, claim=ANY)

    assert [row.id for row in promoted.claimed] == [later]
    assert (await stored(storage, id)).hold is Hold.LANE


async def test_a_job_whose_time_has_come_waits_while_its_lane_is_owned(storage: Storage) -> None:
    later = await put(storage, job(worker="smtp", run_after=NOW + HOUR, priority=9))
    row = await running(storage, job(worker="smtp"))

    promoted = await storage.promote_due(now=NOW + HOUR, claim=ANY)

    assert (promoted.promoted, promoted.claimed) == (1, [])
    assert [claimed.id for claimed in (await end(storage, row, claim=ANY)).claimed] == [later]


async def test_x12_a_job_that_crashed_waits_for_its_turn_again(storage: Storage) -> None:
    row = await running(storage, job(key="tenant"))
    better = await put(storage, job(key="tenant", priority=9))

    settled = await end(storage, row, Crashed("node"), claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [better]
    assert (await stored(storage, row.id)).hold is Hold.LANE


async def test_x12_a_job_handed_back_takes_its_lane_again_if_it_is_the_best(storage: Storage) -> None:
    row = await running(storage, job(key="tenant"))
    await put(storage, job(key="tenant"))

    settled = await end(storage, row, HandedBack())

    assert settled.ready
    assert await claim_ids(storage) == [row.id]


async def test_d21_an_executed_job_frees_the_lanes_of_its_work(storage: Storage) -> None:
    row = await running(storage, job(worker="smtp", key="tenant", callback="Notify"))
    worker, key = await put_all(storage, job(worker="smtp"), job(key="tenant"))

    settled = await end(storage, row, claim=ONLY_WORK)

    assert [claimed.id for claimed in settled.claimed] == [worker, key]
    assert await claim_ids(storage) == [row.id]


async def test_d21_a_callback_waits_for_its_own_worker(storage: Storage) -> None:
    holder = await running(storage, job("Notify", worker="notifier"))
    row = await running(storage, job(callback="Notify"))

    settled = await end(storage, row, callback_lane="notifier", claim=ANY)

    assert settled.claimed == []
    assert (await stored(storage, row.id)).hold is Hold.LANE
    assert [claimed.id for claimed in (await end(storage, holder, claim=ANY)).claimed] == [row.id]


async def test_d21_a_callback_holds_its_own_worker(storage: Storage) -> None:
    row = await running(storage, job(callback="Notify"))
    [callback] = (await end(storage, row, callback_lane="notifier", claim=ANY)).claimed
    id = await put(storage, job(worker="notifier"), claim=ANY)
    assert (await stored(storage, id)).hold is Hold.LANE

    settled = await end(storage, await begun(storage, callback), claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [id]


async def test_d23_a_callback_that_waits_for_its_retry_does_not_hold_its_worker(storage: Storage) -> None:
    row = await running(storage, job(callback="Notify"))
    [callback] = (await end(storage, row, callback_lane="notifier", claim=ANY)).claimed
    id = await put(storage, job(worker="notifier"))

    settled = await end(storage, await begun(storage, callback), FAILURE, claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [id]


async def test_a_callback_on_the_worker_of_its_own_job_takes_its_turn(storage: Storage) -> None:
    row = await running(storage, job(worker="smtp", callback="Notify"))
    await put(storage, job(worker="smtp"))

    settled = await end(storage, row, callback_lane="smtp", claim=ANY)

    [claimed] = settled.claimed
    assert (claimed.id, claimed.state) == (row.id, JobState.EXECUTED)


@either_lane
async def test_r12_cancelling_the_unclaimed_holder_elects_the_next(
    storage: Storage, in_lane: Callable[[str], JobRow]
) -> None:
    first, second = await put_all(storage, in_lane("a"), in_lane("a"))

    await storage.cancel([first], by=None, now=NOW)

    assert await claim_ids(storage) == [second]


@either_lane
async def test_r12_a_cancelled_job_is_not_elected(storage: Storage, in_lane: Callable[[str], JobRow]) -> None:
    row = await running(storage, in_lane("a"))
    second, third = await put_all(storage, in_lane("a"), in_lane("a"))
    await storage.cancel([second], by=None, now=NOW)

    settled = await end(storage, row, claim=ANY)

    assert [claimed.id for claimed in settled.claimed] == [third]


async def test_a_requeued_job_takes_its_turn_in_its_lane(storage: Storage) -> None:
    failed = await finished(storage, job(worker="smtp"), FATAL)
    other = await put(storage, job(worker="smtp"))

    await requeued(storage, failed)

    assert (await stored(storage, other)).hold is Hold.LANE
    assert await claim_ids(storage) == [failed]


async def test_e10_a_thousand_jobs_of_one_worker_run_in_order(storage: Storage) -> None:
    ids = await put_all(storage, *(job(worker="smtp") for _ in range(1_000)))

    order = await drained(storage, await begun(storage, await claim_one(storage)))

    assert order == ids[1:]


async def drained(storage: Storage, row: JobRow) -> list[int]:
    """Let a lane run empty, from its running job on; the ids of those that followed."""
    order: list[int] = []
    while claimed := (await end(storage, row, claim=ANY)).claimed:
        [row] = claimed
        order.append(row.id)
        await begun(storage, row)
    return order


async def test_a_job_that_two_settling_writes_could_take_is_taken_once(storage: Storage) -> None:
    for _ in range(20):
        holder = await running(storage, job("Notify", worker="smtp"))
        done = await running(storage, job(callback="Notify"))

        freed, executed = await asyncio.gather(
            storage.settle([ending(holder, FAILURE)], now=NOW, claim=ANY),
            storage.settle([ending(done, Succeeded("1"), callback_lane="smtp")], now=NOW, claim=ANY),
        )

        [taken] = [*freed.claimed, *executed.claimed]
        assert taken.id == done.id
        await end(storage, await begun(storage, taken))
        await storage.cancel([holder.id], by=None, now=NOW)


async def test_a_job_that_is_over_at_once_takes_no_lane(storage: Storage) -> None:
    failed = await finished(storage, outcome=FATAL)
    holder = await running(storage, job(worker="smtp", key="tenant"))

    over = await put(storage, child(failed, worker="smtp", key="tenant"))

    assert await state(storage, over) is JobState.CANCELLED
    assert (await stored(storage, holder.id)).state is JobState.STARTED
