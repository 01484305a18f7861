"""A thread that makes one connection's calls."""

import asyncio
import threading
from contextlib import suppress

import pytest

from commandjobs.storage.sqlserver.call_thread import CallThread


async def test_calls_are_made_one_after_the_other_in_a_thread_of_their_own() -> None:
    thread, made = CallThread("calls"), list[int]()

    def call(number: int) -> str:
        made.append(number)
        return threading.current_thread().name

    names = await asyncio.gather(*(thread.call(lambda n=n: call(n)) for n in range(20)))  # type: ignore[misc]

    assert made == list(range(20))
    assert set(names) == {"calls"}
    thread.end(lambda: None)


async def test_the_loop_goes_on_while_a_call_is_made() -> None:
    thread, go = CallThread("calls"), threading.Event()

    waiting = asyncio.ensure_future(thread.call(go.wait))
    await asyncio.sleep(0)
    go.set()

    assert await waiting
    thread.end(lambda: None)


async def test_an_error_is_the_callers() -> None:
    thread = CallThread("calls")

    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 // 0)

    assert await thread.call(lambda: 7) == 7
    thread.end(lambda: None)


async def test_whoever_gives_up_stops_no_call_and_leaves_the_thread_to_others() -> None:
    thread, go, ended = CallThread("calls"), threading.Event(), threading.Event()

    def call() -> None:
        go.wait()
        ended.set()

    given_up = asyncio.ensure_future(thread.call(call))
    await asyncio.sleep(0)
    given_up.cancel()
    with suppress(asyncio.CancelledError):
        await given_up
    go.set()

    assert await thread.call(ended.is_set)
    thread.end(lambda: None)


async def test_the_last_call_is_made_after_those_under_way_and_ends_the_thread() -> None:
    thread, made, ended = CallThread("calls"), list[str](), threading.Event()

    def last() -> None:
        made.append("last")
        ended.set()

    first = thread.call(lambda: made.append("first"))
    task = asyncio.ensure_future(first)
    await asyncio.sleep(0)
    thread.end(last)
    await task

    assert await asyncio.to_thread(ended.wait, 60)
    assert made == ["first", "last"]
