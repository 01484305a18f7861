"""Months whose newest end is older than the retention are dropped, with their summaries."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from commandjobs.clock import Clock
from commandjobs.model.moment import month_of

if TYPE_CHECKING:
    from commandjobs.storage.base import MonthInfo, Storage

log = logging.getLogger("commandjobs")


class Retention:
    """Drops what is old enough."""

    def __init__(self, *, storage: Storage, clock: Clock, keep: timedelta | None) -> None:
        """keep: how long; None: for ever."""
        self._storage = storage
        self._clock = clock
        self._keep = keep

    async def run(self) -> None:
        """Look once."""
        if self._keep is None:
            return
        now = self._clock.now()
        for info in await self._storage.months():
            if is_over(info, now=now, keep=self._keep):
                count = await self._storage.drop_month(info.month)
                log.info("Dropped the archive of %s with %d jobs.", f"{info.month:%Y-%m}", count)


def is_over(info: MonthInfo, *, now: int, keep: timedelta) -> bool:
    """Whether a month may go: it is past, and its newest end is older than what is kept."""
    if info.newest_end is None or info.month >= month_of(now):
        return False
    return now - info.newest_end > keep // timedelta(microseconds=1)
