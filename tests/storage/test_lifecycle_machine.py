"""Any life in any order: jobs are driven at random, and after each step the storage must still make sense."""

import asyncio
from collections.abc import Coroutine
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from commandjobs.model.outcome import Cancelled, Crashed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.settle import begin, requeue
from commandjobs.model.state import Hold, JobState
from commandjobs.storage import open_storage
from commandjobs.storage.base import Cancelling, Claim, Inserted
from tests import postgres
from tests.storage.life import ANY, DAY, FAILURE, FATAL, NOW, SECOND, child, ending, job, node

T = TypeVar("T")

choices = st.integers(min_value=0, max_value=10**6)
claims = st.sampled_from([None, ANY, Claim(frozenset({"Other"}))])
lanes = st.sampled_from([None, None, "a", "b"])
policies = st.sampled_from(["success", "finished"])
delays = st.sampled_from([None, None, 1, 60])
outcomes = st.sampled_from(
    [Succeeded("1"), Succeeded("1"), FAILURE, FATAL, Snoozed(30), HandedBack(), Crashed("node"), Cancelled()]
)


class Lives(RuleBasedStateMachine):
    """Plays the engine: it knows which rows it owns, and which of them it has started."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.storage = open_storage(self.storage_url(), durability="relaxed")
        self.node = node()
        self.now = NOW
        self.ids: list[int] = []
        self.claimed: dict[int, JobRow] = {}
        self.started: dict[int, JobRow] = {}
        self.bound: dict[tuple[int, int], list[int]] = {}
        self.do(self.storage.open(on_wake=lambda: None))
        self.do(self.storage.register(self.node))
        assert self.do(self.storage.try_execute())

    def storage_url(self) -> str:
        return self.url.format(self.directory.name)

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def teardown(self) -> None:
        try:
            self.let_everything_end()
        finally:
            self.do(self.storage.close())
            self.runner.close()
            self.directory.cleanup()

    # ── what can happen ────────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        worker=lanes,
        key=lanes,
        priority=st.integers(-1, 1),
        delay=delays,
        expires=delays,
        callback=st.sampled_from([None, None, "Notify"]),
        parents=st.lists(choices, max_size=2),
        policy=policies,
        unique_key=st.sampled_from([None, None, "k"]),
        claim=claims,
    )
    def insert(
        self,
        *,
        worker: str | None,
        key: str | None,
        priority: int,
        delay: int | None,
        expires: int | None,
        callback: str | None,
        parents: list[int],
        policy: str,
        unique_key: str | None,
        claim: Claim | None,
    ) -> None:
        row = job(
            "Other" if priority < 0 else "Work",
            worker=worker,
            key=key,
            priority=priority,
            run_after=None if delay is None else self.now + delay * SECOND,
            expires=None if expires is None else self.now + expires * SECOND,
            callback=callback,
            depends_on=tuple(self.ids[choice % len(self.ids)] for choice in parents if self.ids),
            depends_on_policy=policy,
            unique_key=unique_key,
        )
        self._insert(row, claim)

    @precondition(lambda self: self.started)
    @rule(choice=choices, claim=claims, policy=policies)
    def insert_bound_to_a_running_attempt(self, choice: int, claim: Claim | None, policy: str) -> None:
        parent = pick(self.started, choice)
        attempt = -parent.callback_attempts if parent.state is JobState.EXECUTED else parent.attempts
        row = child(parent.id, bound_attempt=attempt, depends_on_policy=policy)
        self._insert(row, claim)
        self.bound.setdefault((parent.id, attempt), []).append(row.id)

    @rule(room=st.integers(1, 3))
    def claim(self, room: int) -> None:
        self._own(self.do(self.storage.claim({}, room, claim=ANY, now=self.now)))

    @precondition(lambda self: self.claimed)
    @rule(choice=choices, marked=st.booleans())
    def start(self, choice: int, marked: bool) -> None:
        row = pick(self.claimed, choice)
        del self.claimed[row.id]
        self.started[row.id] = row
        begin(row, now=self.now, node="node")
        if marked:
            assert self.runner.run(self._mark(row)) == [True]

    @precondition(lambda self: self.started)
    @rule(choice=choices, outcome=outcomes, claim=claims, callback_lane=lanes)
    def settle(self, choice: int, outcome: Outcome, claim: Claim | None, callback_lane: str | None) -> None:
        row = self.started.pop(pick(self.started, choice).id)
        settlement = ending(row, outcome, now=self.now, callback_lane=callback_lane)
        settled = self.do(self.storage.settle([settlement], now=self.now, claim=claim))
        assert settled.written == [True]
        self._own(settled.claimed)
        if settlement.failed_attempt is not None:
            for id in self.bound.pop((row.id, settlement.failed_attempt), []):
                bound = self._row(id)
                assert (bound.state, bound.error_code is None) == (JobState.CANCELLED, False)

    @precondition(lambda self: self.ids)
    @rule(choice=choices)
    def cancel(self, choice: int) -> None:
        id = self.ids[choice % len(self.ids)]
        before = self._row(id)
        [answer] = self.do(self.storage.cancel([id], by="anna", now=self.now))
        if before.state.is_final:
            assert answer is Cancelling.FINISHED
        elif before.owner is None:
            assert answer is Cancelling.CANCELLED
        else:
            assert answer is Cancelling.REQUESTED

    @precondition(lambda self: self.claimed)
    @rule(choice=choices)
    def release(self, choice: int) -> None:
        row = self.claimed.pop(pick(self.claimed, choice).id)
        self.do(self.storage.release([row], now=self.now))

    @precondition(lambda self: self.ids)
    @rule(choice=choices, claim=claims)
    def requeue(self, choice: int, claim: Claim | None) -> None:
        row = self._row(self.ids[choice % len(self.ids)])
        if row.state not in {JobState.FAILED, JobState.CANCELLED}:
            return
        [answer] = self.do(self.storage.reinsert([requeue(row)], now=self.now, claim=claim))
        assert answer is not None
        if answer.claimed:
            self._own([row])

    @precondition(lambda self: self.ids)
    @rule(choice=choices, priority=st.integers(-2, 2), delay=delays)
    def update(self, choice: int, priority: int, delay: int | None) -> None:
        id = self.ids[choice % len(self.ids)]
        before = self._row(id)
        run_after = None if delay is None else self.now + delay * SECOND
        changed = self.do(self.storage.update(id, now=self.now, priority=priority, run_after=run_after))
        assert changed == (before.state is JobState.QUEUED and before.owner is None)

    @rule(seconds=st.sampled_from([1, 30, 600]), claim=claims)
    def time_passes(self, seconds: int, claim: Claim | None) -> None:
        self.now += seconds * SECOND
        promoted = self.do(self.storage.promote_due(now=self.now, claim=claim))
        self._own(promoted.claimed)
        assert promoted.next_at is None or promoted.next_at > self.now
        assert all(row.state is JobState.CANCELLED and row.error_code == "JobExpired" for row in promoted.expired)
        for row in self._unfinished():
            assert row.hold is not Hold.TIME or (row.run_after or 0) > self.now

    @rule()
    def the_process_dies_and_another_takes_over(self) -> None:
        self.node.stopped = self.now
        self.do(self.storage.heartbeat(self.node))
        self.node = node()
        self.do(self.storage.register(self.node))
        unmarked = {id for id in self.started if not self._is_marked(id)}
        rescued = self.do(self.storage.rescue(now=self.now))
        assert {row.id for row in rescued.started} == self.started.keys() - unmarked
        assert rescued.released == len(self.claimed) + len(unmarked)
        self.claimed.clear()
        self.started.clear()
        for row in rescued.started:
            settlement = ending(row, Crashed("node"), now=self.now)
            assert self.do(self.storage.settle([settlement], now=self.now)).written == [True]
        self.bound.clear()

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def each_job_is_in_exactly_one_place(self) -> None:
        for id in self.ids:
            found, runs = self.do(self.storage.job(id)), self.do(self.storage.runs(id))
            assert found is not None
            assert found.row == runs[-1]
            assert [run.run for run in runs] == list(range(found.summary.run + 1))
            assert all(run.state.is_final for run in runs[:-1])

    @invariant()
    def owned_is_what_was_handed_out(self) -> None:
        owned = {row.id for row in self._unfinished() if row.owner is not None}
        assert owned == {*self.claimed, *self.started}

    @invariant()
    def ended_jobs_hold_nothing(self) -> None:
        for row in map(self._row, self.ids):
            assert not row.state.is_final or (row.owner, row.hold) == (None, None)

    @invariant()
    def no_lane_has_two_jobs(self) -> None:
        held = [lane for row in self._unfinished() if row.hold is None for lane in lanes_of(row)]
        assert len(held) == len(set(held))

    @invariant()
    def no_job_is_left_behind_in_a_free_lane(self) -> None:
        holders = {lane: row for row in self._unfinished() if row.hold is None for lane in lanes_of(row)}
        for row in self._unfinished():
            if row.hold is Hold.LANE:
                in_the_way = [holders[lane] for lane in lanes_of(row) if lane in holders]
                assert in_the_way
                if len(lanes_of(row)) == 1 and in_the_way[0].owner is None:
                    assert turn(in_the_way[0]) < turn(row)

    @invariant()
    def who_waits_for_parents_has_unfinished_ones(self) -> None:
        for row in self._unfinished():
            unfinished = [id for id in set(row.depends_on) if not self._row(id).state.is_final]
            assert (row.hold is Hold.PARENTS) == (row.parents_left > 0)
            assert row.parents_left <= len(unfinished)

    def let_everything_end(self) -> None:
        """Once nothing fails any more, every job ends: nothing was stranded."""
        for _ in range(3 * len(self.ids) + 3):
            self.now += DAY
            self._own(self.do(self.storage.promote_due(now=self.now, claim=ANY)).claimed)
            self._own(self.do(self.storage.claim({}, 1_000, claim=ANY, now=self.now)))
            while self.claimed:
                self.start(choice=0, marked=True)
            while self.started:
                self.settle(choice=0, outcome=Succeeded("1"), claim=None, callback_lane=None)
        assert self._unfinished() == []
        assert self.do(self.storage.lanes()) == []
        assert self.do(self.storage.pending_commands()) == set()

    # ── small steps ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _inserted(self, row: JobRow, claim: Claim | None) -> list[Inserted]:
        inserted: list[Inserted] = await self.storage.insert([row], now=self.now, claim=claim)
        return inserted

    def _insert(self, row: JobRow, claim: Claim | None) -> None:
        [answer] = self.do(self._inserted(row, claim))
        if answer.conflict is None:
            self.ids.append(row.id)
        if answer.claimed:
            self._own([row])

    def _own(self, rows: list[JobRow]) -> None:
        for row in rows:
            assert row.owner == self.node.number
            assert row.id not in self.claimed
            assert row.id not in self.started
            self.claimed[row.id] = row

    async def _mark(self, row: JobRow) -> list[bool]:
        return await self.storage.mark_started([row])

    def _is_marked(self, id: int) -> bool:
        row, mine = self._row(id), self.started[id]
        return (row.attempts, row.callback_attempts) == (mine.attempts, mine.callback_attempts)

    def _row(self, id: int) -> JobRow:
        found = self.do(self.storage.job(id))
        assert found is not None
        assert found.row is not None
        return found.row

    def _unfinished(self) -> list[JobRow]:
        return [row for row in map(self._row, self.ids) if not row.state.is_final]


def pick(rows: dict[int, JobRow], choice: int) -> JobRow:
    return list(rows.values())[choice % len(rows)]


def lanes_of(row: JobRow) -> list[str]:
    return [
        *([f"worker {row.lane}"] if row.lane is not None else []),
        *([f"key {row.lane_key}"] if row.lane_key is not None else []),
    ]


def turn(row: JobRow) -> tuple[int, int]:
    return -row.priority, row.id


class LivesOnDisk(Lives):
    """The same on SQLite; a step costs a hundred times as much there."""

    url = "sqlite:///{}/jobs.db"


class LivesOnPostgres(Lives):
    """And on a server."""

    def storage_url(self) -> str:
        return postgres.empty_url()


slow = settings(stateful_step_count=40)
Lives.TestCase.settings = settings(slow, max_examples=40)
LivesOnDisk.TestCase.settings = settings(slow, max_examples=15)
LivesOnPostgres.TestCase.settings = settings(slow, max_examples=8)
TestLives = Lives.TestCase
TestLivesOnDisk = LivesOnDisk.TestCase
TestLivesOnPostgres = pytest.mark.postgres(LivesOnPostgres.TestCase)
