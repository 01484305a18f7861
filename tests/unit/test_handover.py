"""Work that goes from a loop's thread to another one, and back."""

import asyncio
import threading
from collections.abc import Callable
from queue import Empty
from typing import Any

import pytest

from commandjobs.handover import Inbox, LoopCalls


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_items_come_in_their_order_however_fast_they_are_put() -> None:
    inbox, got = Inbox[int](), list[int]()
    reader = in_thread(lambda: got.extend(inbox.get(timeout=10) for _ in range(20_000)))

    for item in range(20_000):
        inbox.put(item)

    reader.join()
    assert got == list(range(20_000))


def test_a_put_wakes_the_reader_from_its_sleep() -> None:
    inbox, got = Inbox[str](), list[str]()
    reader = in_thread(lambda: got.append(inbox.get()))

    for item in ("first", "second"):
        inbox.put(item)
    reader.join(timeout=10)

    assert got == ["first"]
    assert not inbox.empty()
    assert inbox.get_nowait() == "second"


def test_an_empty_inbox_says_so() -> None:
    inbox = Inbox[int]()

    with pytest.raises(Empty):
        inbox.get(timeout=0.01)
    with pytest.raises(Empty):
        inbox.get_nowait()
    assert inbox.empty()


def test_several_may_put_at_the_same_time() -> None:
    inbox = Inbox[int]()

    def write() -> None:
        for _ in range(2_000):
            inbox.put(1)

    writers = [in_thread(write) for _ in range(4)]

    got = sum(inbox.get(timeout=10) for _ in range(8_000))

    assert (got, inbox.empty()) == (8_000, True)
    for writer in writers:
        writer.join()


async def test_calls_of_other_threads_are_made_on_the_loops_own_in_order() -> None:
    calls, made, done = LoopCalls(), list[tuple[int, int]](), asyncio.Event()

    def ask() -> None:
        for number in range(1_000):
            calls.call(lambda number: made.append((number, threading.get_ident())), number)
        calls.call(done.set)

    in_thread(ask)
    async with asyncio.timeout(10):
        await done.wait()

    calls.close()
    assert made == [(number, threading.get_ident()) for number in range(1_000)]


async def test_a_call_that_fails_is_told_to_the_loop_and_stops_no_other() -> None:
    calls, told, done = LoopCalls(), list[dict[str, Any]](), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    calls.call(lambda: 1 / 0)
    calls.call(done.set)
    async with asyncio.timeout(10):
        await done.wait()

    calls.close()
    assert isinstance(told[0]["exception"], ZeroDivisionError)


async def test_what_was_asked_for_is_done_before_the_end_and_later_calls_harm_nobody() -> None:
    calls, made = LoopCalls(), list[str]()
    calls.call(made.append, "asked before")

    calls.close()
    calls.close()

    assert made == ["asked before"]
