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
        self._random = ""
        self._position = 0
        self._stamp = 0

    def next(self, now: int) -> str:
        """A new ref id; `now` in microseconds."""
        stamp = (now // 1000) << 16
        self._stamp = stamp if stamp > self._stamp else self._stamp + 1
        position = self._position
        if position >= len(self._random):
            self._random, position = self._random_bytes(8 * BLOCK).hex(), 0
        self._position = position + 16
        return f"{self._stamp:016x}{self._random[position : position + 16]}"
