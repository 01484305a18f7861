"""Async attempts in pooled tasks."""

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context

from commandjobs.model.outcome import Outcome, Succeeded
from commandjobs.runtime.execution import EndedBy, Execution
from commandjobs.runtime.worker import TaskPool
from tests.conftest import until
from tests.runtime.attempts import attempt

Work = Callable[[Execution], Awaitable[None]]
mark: ContextVar[str] = ContextVar("mark", default="nobody's")


class Desk:
    """A pool, and what lies there to be done."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Execution, Work]] = deque()
        self.work: dict[int, Work] = {}
        self.done: list[int] = []
        self.tasks: dict[int, asyncio.Task[None] | None] = {}
        self.waited: list[int] = []
        self.pool = TaskPool(draw=self.draw, perform=self.perform, waits=self.waits, context=copy_context())

    def put(self, *works: Work) -> list[Execution]:
        put = [attempt(id, done=self.ended) for id in range(len(self.work) + 1, len(self.work) + len(works) + 1)]
        for execution, work in zip(put, works, strict=True):
            self.work[execution.row.id] = work
            self.waiting.append((execution, work))
        self.pool.poke()
        return put

    def draw(self) -> Execution | None:
        return self.waiting.popleft()[0] if self.waiting else None

    async def perform(self, execution: Execution) -> Outcome:
        self.tasks[execution.row.id] = asyncio.current_task()
        with contextlib.suppress(asyncio.CancelledError):
            await self.work[execution.row.id](execution)
        return Succeeded()

    def waits(self, execution: Execution) -> None:
        self.waited.append(execution.row.id)

    def ended(self, execution: Execution, outcome: Outcome) -> None:
        execution.outcome = outcome
        self.done.append(execution.row.id)


async def nothing(_: Execution) -> None:
    pass


async def pause(_: Execution) -> None:
    await asyncio.sleep(0)


async def test_attempts_that_do_not_wait_run_one_after_the_other_in_one_task() -> None:
    desk = Desk()

    desk.put(*[nothing] * 50)
    await until(lambda: len(desk.done) == 50)

    assert desk.done == list(range(1, 51))
    assert len(set(desk.tasks.values())) == 1


async def test_an_attempt_that_waits_does_not_hold_up_the_others() -> None:
    desk, gate = Desk(), asyncio.Event()

    async def wait(_: Execution) -> None:
        await gate.wait()

    desk.put(wait, nothing, wait, nothing)
    await until(lambda: desk.done == [2, 4])
    gate.set()

    await until(lambda: sorted(desk.done) == [1, 2, 3, 4])


async def test_only_an_attempt_that_waits_is_said_to_wait_and_once() -> None:
    desk = Desk()

    async def wait_twice(_: Execution) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    desk.put(nothing, wait_twice, nothing)
    await until(lambda: len(desk.done) == 3)

    assert desk.waited == [2]


async def test_what_an_attempt_waited_for_is_let_go_with_it() -> None:
    desk, gates = Desk(), [asyncio.get_running_loop().create_future()]

    async def wait(_: Execution) -> None:
        await gates[0]

    desk.put(wait)
    await until(lambda: desk.waited == [1])
    gates[0].set_result(None)
    await until(lambda: desk.done == [1])

    reference = weakref.ref(gates.pop())
    assert reference() is None


async def test_tasks_are_used_again() -> None:
    desk = Desk()

    for _ in range(20):
        before = len(desk.done)
        desk.put(pause, pause, pause)
        await until(lambda: len(desk.done) == before + 3)  # noqa: B023

    assert len(set(desk.tasks.values())) <= 4


async def test_what_an_attempt_sets_in_its_context_no_other_sees() -> None:
    desk, seen = Desk(), list[str]()

    async def look(execution: Execution) -> None:
        seen.append(mark.get())
        mark.set(f"job {execution.row.id}'s")
        await asyncio.sleep(0)
        seen.append(mark.get())

    desk.put(look, look)
    await until(lambda: len(desk.done) == 2)

    assert sorted(seen) == ["job 1's", "job 2's", "nobody's", "nobody's"]


async def test_a_cancelled_attempt_does_not_pass_its_cancellation_on() -> None:
    desk = Desk()

    async def wait(_: Execution) -> None:
        await asyncio.Event().wait()

    [endless] = desk.put(wait)
    await until(lambda: 1 in desk.tasks)
    endless.end(EndedBy.CANCEL)
    endless.end(EndedBy.CANCEL)
    desk.put(pause, pause)

    await until(lambda: sorted(desk.done) == [1, 2, 3])


async def test_a_cancellation_that_comes_when_the_code_has_ended_meets_nobody() -> None:
    desk = Desk()

    async def end_itself(execution: Execution) -> None:
        await asyncio.sleep(0)
        execution.end(EndedBy.CANCEL)

    desk.put(end_itself, *[pause] * 5)

    await until(lambda: sorted(desk.done) == [1, 2, 3, 4, 5, 6])


async def test_code_that_cancels_its_own_task_and_returns_takes_no_other_attempt_with_it() -> None:
    desk = Desk()

    async def cancel_own_task(_: Execution) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    desk.put(cancel_own_task, nothing, cancel_own_task, pause, nothing)

    await until(lambda: sorted(desk.done) == [1, 2, 3, 4, 5])


async def test_the_loop_turns_while_short_attempts_run_on_and_on() -> None:
    desk, turns = Desk(), 0

    async def count_turns() -> None:
        nonlocal turns
        while len(desk.done) < 20_000:
            turns += 1
            await asyncio.sleep(0)

    desk.put(*[nothing] * 20_000)
    await count_turns()

    assert turns > 3


async def test_a_closed_pool_draws_nothing_more() -> None:
    desk, gate = Desk(), asyncio.Event()

    async def wait(_: Execution) -> None:
        await gate.wait()

    desk.put(wait)
    await until(lambda: 1 in desk.tasks)
    desk.pool.close()
    desk.put(nothing)
    gate.set()

    await until(lambda: desk.done == [1])
    await until(lambda: not desk.pool._runners)
    assert len(desk.waiting) == 1
