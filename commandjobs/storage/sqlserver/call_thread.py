"""A thread that makes one connection's calls, one after the other, while the loop goes on.

A connection has a thread of its own, and not one of a pool: a call that hangs, since its server hangs, then keeps
nobody from making other calls, and nobody waits for it when the process ends.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

Call = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class CallThread:
    """Calls of one connection."""

    def __init__(self, name: str) -> None:
        """It starts at once."""
        self._calls: queue.SimpleQueue[Call | Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, work: Callable[[], T]) -> T:
        """What a call returns. Whoever is cancelled while he waits does not stop it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put((work, loop, answer))
        return await answer

    def end(self, last: Callable[[], None]) -> None:
        """Make one more call, after those under way, that nobody waits for; then end."""
        self._calls.put(last)

    # ── everything below runs in the thread ─────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while isinstance(call := self._calls.get(), tuple):
            work, loop, answer = call
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(_tell, answer, result, error)
            del call, work, loop, answer, result, error  # nothing is kept alive by a thread that waits
        with suppress(Exception):
            call()


def _tell(answer: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if answer.done():
        return  # its caller has given up
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
