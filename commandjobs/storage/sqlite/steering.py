"""Asking the executing process for something: an intent is written, it is woken, and its answer is waited for."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.base import Intent, NobodyExecutes
from commandjobs.storage.sqlite.locks import ProcessLocks
from commandjobs.storage.sqlite.nodes import ANSWER, ASK, WITHDRAW, Answer, Question
from commandjobs.storage.sqlite.reader import Reader
from commandjobs.storage.sqlite.writer import Writer

POLL = 0.01
"""Seconds between looks for the answer."""


class Steering:
    """Both sides of the conversation between processes."""

    def __init__(self, path: Path, *, locks: ProcessLocks, writer: Writer, reader: Reader) -> None:
        self._path = path
        self._locks = locks
        self._writer = writer
        self._reader = reader

    async def steer(self, action: str, arguments: dict[str, Any], *, patience: float) -> Any:
        """Ask, and wait for the answer so many seconds."""
        if not self._locks.executor_present():
            raise NobodyExecutes(action)
        id = await self._writer.run(ASK, Question(action, arguments, _now()))
        try:
            return json.loads(await self._answer_of(id, action, patience))
        finally:
            self._writer.submit(WITHDRAW, id).add_done_callback(_heard)

    async def _answer_of(self, id: int, action: str, patience: float) -> str:
        deadline = time.monotonic() + patience
        while (text := await self._reader.answer(id)) is None:
            if not self._locks.executor_present():
                raise NobodyExecutes(action)
            if time.monotonic() > deadline:
                raise StorageUnavailable(
                    f"Process {self._locks.executor_pid()}, which executes the jobs of {self._path}, has not answered "
                    f"to {action!r} for {patience:g} s. Is it stopped, or its event loop blocked?"
                )
            await asyncio.sleep(POLL)
        return text

    async def answer(self, intent: Intent, answer: Any) -> None:
        """Answer an intent."""
        await self._writer.run(ANSWER, Answer(intent.id, json.dumps(answer, ensure_ascii=False), _now()))


def _heard(future: "asyncio.Future[Any]") -> None:
    """An intent that could not be withdrawn is forgotten in a day."""
    if not future.cancelled():
        future.exception()


def _now() -> int:
    return time.time_ns() // 1000
