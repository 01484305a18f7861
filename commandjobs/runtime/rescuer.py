"""What dead processes have left: jobs they had started are settled as crashed, those only claimed wait again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from commandjobs.clock import Clock
from commandjobs.model.outcome import Crashed
from commandjobs.model.row import JobRow
from commandjobs.model.settle import settle
from commandjobs.storage.base import Settled

if TYPE_CHECKING:
    from commandjobs.runtime.completer import Completer
    from commandjobs.storage.base import Storage

log = logging.getLogger("commandjobs")

AT_ONCE = 200
"""Jobs that are looked at in one transaction: others that run already write theirs in between."""


class Rescuer:
    """Looks for jobs of dead owners."""

    def __init__(self, *, storage: Storage, completer: Completer, clock: Clock) -> None:
        """completer: tells those who wait of jobs that fail here."""
        self._storage = storage
        self._completer = completer
        self._clock = clock

    async def rescue(self) -> int:
        """Bring them all back, or fail those whose limit is reached; returns how many there were."""
        count = 0
        while True:
            now = self._clock.now()
            rescued = await self._storage.rescue(now=now, limit=AT_ONCE)
            found = rescued.released + await self._settle(rescued.started, now)
            count += found
            if not found:
                break
        if count:
            log.info("Took over %d jobs of a process that died.", count)
        return count

    async def _settle(self, rows: list[JobRow], now: int) -> int:
        """Settle jobs as crashed; returns how many were written."""
        settlements = [settle(row, Crashed(row.node), now=now, backoff=_at_once) for row in rows]
        settled = await self._storage.settle(settlements, now=now) if settlements else Settled([])
        for settlement, written in zip(settlements, settled.written, strict=True):
            if written and settlement.final:
                self._completer.ended_elsewhere(settlement.row)
        return sum(settled.written)


def _at_once(_retry: int) -> float:
    """A crash waits for no backoff: it is no failure of the job."""
    return 0.0
