"""Sync attempts in long-lived threads."""

import threading
from collections.abc import Callable

from commandjobs.model.outcome import Outcome, Succeeded
from commandjobs.runtime.execution import Execution
from commandjobs.runtime.worker import ThreadPool
from tests.conftest import until
from tests.runtime.attempts import attempt

Work = Callable[[], None]


class Shop:
    """A pool of two threads, and what comes back from it."""

    def __init__(self) -> None:
        self.work: dict[int, Work] = {}
        self.told: list[tuple[str, int]] = []
        self.withdrawn: set[int] = set()
        self.threads: set[int] = set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.pool = ThreadPool(threads=2, perform=self.perform, begin=self.begin)
        self.pool.started = lambda execution: self.told.append(("started", execution.row.id))

    def put(self, *works: Work) -> list[Execution]:
        put = [attempt(id, done=self.ended) for id in range(len(self.work) + 1, len(self.work) + len(works) + 1)]
        self.work |= {execution.row.id: work for execution, work in zip(put, works, strict=True)}
        for execution in put:
            self.pool.submit(execution)
        return put

    def begin(self, execution: Execution) -> bool:
        return execution.row.id not in self.withdrawn

    def perform(self, execution: Execution) -> Outcome:
        with self.lock:
            self.threads.add(threading.get_ident())
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.work[execution.row.id]()
        with self.lock:
            self.at_once -= 1
        return Succeeded()

    def ended(self, execution: Execution, outcome: Outcome) -> None:
        self.told.append(("ended", execution.row.id))

    @property
    def ends(self) -> list[int]:
        return sorted(id for what, id in self.told if what == "ended")

    def hold(self) -> None:
        self.gate.wait(20)


def nothing() -> None:
    pass


async def test_each_start_is_told_before_its_end() -> None:
    shop = Shop()

    shop.put(*[nothing] * 100)
    await until(lambda: len(shop.ends) == 100)

    assert all(shop.told.index(("started", id)) < shop.told.index(("ended", id)) for id in range(1, 101))
    shop.pool.close()


async def test_no_more_threads_than_allowed_run_at_once_and_they_are_kept() -> None:
    shop = Shop()

    shop.put(*[nothing] * 200)
    await until(lambda: len(shop.ends) == 200)

    assert shop.most <= 2
    assert len(shop.threads) <= 2
    shop.pool.close()


async def test_a_second_attempt_gets_a_thread_of_its_own_while_the_first_is_held() -> None:
    shop = Shop()

    for first in range(1, 100, 2):
        shop.gate.clear()
        shop.put(shop.hold, nothing)
        await until(lambda: first + 1 in shop.ends)  # noqa: B023
        shop.gate.set()
        await until(lambda: first in shop.ends)  # noqa: B023
    shop.pool.close()


async def test_an_attempt_that_was_withdrawn_is_not_run_and_its_thread_goes_on() -> None:
    shop = Shop()
    shop.withdrawn = {1, 2}

    shop.put(nothing, nothing, nothing)
    await until(lambda: shop.ends == [3])

    assert shop.told == [("started", 3), ("ended", 3)]
    shop.pool.close()


async def test_r10_a_thread_that_does_not_end_is_replaced_and_goes_when_it_does() -> None:
    shop = Shop()
    held = shop.put(shop.hold, shop.hold)
    await until(lambda: shop.at_once == 2)

    for execution in (*held, *held):
        shop.pool.replace(execution)
    shop.put(nothing, nothing)
    await until(lambda: shop.ends == [3, 4])
    shop.gate.set()
    await until(lambda: shop.ends == [1, 2, 3, 4])

    assert shop.most <= 4
    assert shop.pool._alive <= 2
    shop.pool.close()


async def test_r10_replacing_a_thread_whose_attempt_has_just_ended_changes_nothing() -> None:
    shop = Shop()
    [ended] = shop.put(nothing)
    await until(lambda: shop.ends == [1])

    for _ in range(5):
        shop.pool.replace(ended)
    shop.put(*[nothing] * 50)
    await until(lambda: len(shop.ends) == 51)

    assert shop.pool._alive in (1, 2)
    assert len(shop.threads) <= 2
    shop.pool.close()


async def test_a_closed_pool_lets_its_threads_go() -> None:
    shop = Shop()
    shop.put(nothing, nothing, nothing)
    await until(lambda: len(shop.ends) == 3)

    shop.pool.close()

    await until(lambda: shop.pool._alive == 0)
