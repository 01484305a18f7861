"""Counts of what was executed, rolled up by the hour, so that no statistic ever reads history."""

from bisect import bisect_left
from dataclasses import dataclass, field

HOUR = 3_600_000_000
"""Microseconds."""
BOUNDS_MS: tuple[float, ...] = tuple(round(1.25**step, 3) for step in range(-20, 70))
"""Upper bounds of the histogram's buckets: 0.01 ms to 80 minutes, each a quarter above the one before."""


@dataclass(frozen=True, slots=True)
class TallyKey:
    """What is counted apart: the hour (its first moment), kind, command, worker, queue and outcome."""

    hour: int
    kind: str
    command: str
    worker: str
    queue: str
    outcome: str


@dataclass(slots=True)
class Tally:
    """How many executions there were under one key, how long they took, and how that was distributed."""

    count: int = 0
    time_ms: float = 0.0
    histogram: dict[int, int] = field(default_factory=dict)
    """Index into `BOUNDS_MS` → count."""

    def add(self, duration_ms: float) -> None:
        """Count one execution."""
        self.count += 1
        self.time_ms += duration_ms
        bucket = bisect_left(BOUNDS_MS, duration_ms)
        self.histogram[bucket] = self.histogram.get(bucket, 0) + 1

    def merge(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.count += other.count
        self.time_ms += other.time_ms
        for bucket, count in other.histogram.items():
            self.histogram[bucket] = self.histogram.get(bucket, 0) + count

    def quantile_ms(self, share: float) -> float | None:
        """The duration that this share (0 to 1) of the executions stayed within, to a quarter; None without any."""
        wanted, seen = self.count * share, 0
        for bucket in sorted(self.histogram):
            seen += self.histogram[bucket]
            if seen >= wanted:
                return BOUNDS_MS[min(bucket, len(BOUNDS_MS) - 1)]
        return None


Tallies = dict[TallyKey, Tally]


def merge_tallies(into: Tallies, more: Tallies) -> None:
    """Add tallies to tallies."""
    for key, tally in more.items():
        into.setdefault(key, Tally()).merge(tally)
