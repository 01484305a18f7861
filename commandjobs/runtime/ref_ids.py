"""Ref ids: 32 hex characters, ordered by time within a process, with 64 random bits.

48 bits of milliseconds, 16 bits that count within one, 64 random bits. In a unique index a random uuid dirties another
page for each row, which halves the rate of batches (measured); ids in order fill one page after the other.
"""

import os
from collections.abc import Callable

BLOCK = 256


class RefIds:
    """Makes ref ids."""

    def __init__(self, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        """random_bytes: where the random bits come from, by the block."""
        self._random_bytes = random_bytes
        self._random: list[str] = []
        self._stamp = 0

    def next(self, now: int) -> str:
        """A new ref id; `now` in microseconds."""
        stamp = (now // 1000) << 16
        self._stamp = stamp = stamp if stamp > self._stamp else self._stamp + 1
        if not self._random:
            block = self._random_bytes(8 * BLOCK).hex()
            self._random = [block[start : start + 16] for start in range(0, 16 * BLOCK, 16)]
        return f"{stamp:016x}{self._random.pop()}"
