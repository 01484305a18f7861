"""Reading a storage piece by piece; the next piece is read while the last one is written."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import date

from commandjobs.model.carried import Carried
from commandjobs.storage.base import Storage

FIRST, MOST = 100, 2000
"""Jobs in a piece. A larger one is hardly quicker, and is lost by a kill."""
MOST_BYTES = 8_000_000
"""In a piece, about: it is in memory twice or thrice."""


async def pieces(source: Storage, *, after: int = 0, month: date | None = None) -> AsyncGenerator[list[Carried]]:
    """All jobs above an id, in the order of ids."""
    limit = FIRST
    reading = asyncio.ensure_future(source.carry(after=after, limit=limit, month=month))
    try:
        while piece := await reading:
            limit = _next(limit, piece)
            reading = asyncio.ensure_future(source.carry(after=piece[-1].row.id, limit=limit, month=month))
            yield piece
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def sweep(source: Storage) -> None:
    """Let the source follow up what it has left for later: that is not carried."""
    now = await source.time() or time.time_ns() // 1000
    while (await source.sweep(now=now)).written:
        pass


def _next(limit: int, piece: list[Carried]) -> int:
    fits = MOST_BYTES * len(piece) // sum(job.size for job in piece)
    return max(1, min(2 * limit, fits, MOST))
