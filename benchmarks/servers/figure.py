"""What one run of one engine gave."""

from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Figure:
    """A rate, and what else was seen."""

    rate: float
    """Per second; of latencies, 1 over the median."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None
    """Microseconds of CPU per job, of the engine's processes; the server's are not counted."""
    ended_ms: float | None = None
    """From the last job's first line until none is unfinished in the database: what was still to be written."""


def latencies(took: list[float]) -> Figure:
    """Of seconds."""
    return Figure(
        rate=1 / median(took),
        p50_ms=median(took) * 1_000,
        p99_ms=quantiles(took, n=100, method="inclusive")[98] * 1_000,
    )
