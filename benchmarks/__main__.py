"""Run the cases: `python -m benchmarks [case …] [--runs N]`.

Prints medians of the runs, the floor of the same disk in the same run, their ratio, and the ratio to reach.
"""

import argparse
import asyncio
import gc
import os
import platform
import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cases
from benchmarks.cases import Case, Measure
from benchmarks.peers import huey_peer


@dataclass(frozen=True, slots=True)
class Goal:
    """A case, and what it is to reach; None: nothing, it is there to compare with."""

    name: str
    case: Case
    ratio: float | None = None
    """Times the floor, at least."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None
    grown_mb: float | None = None
    """At most."""
    once: bool = False
    """It takes minutes: one run is enough."""

    def is_reached(self, measure: Measure) -> bool:
        """Whether the measure is at least as good."""
        figures = ("p50_ms", "p99_ms", "cpu_us", "grown_mb")
        pairs = ((getattr(measure, name), getattr(self, name)) for name in figures)
        within = all(limit is None or (value is not None and value <= limit) for value, limit in pairs)
        return within and (self.ratio is None or measure.ratio >= self.ratio)


GOALS = {
    "sequential": Goal("(a) sequential awaited enqueues", cases.sequential, 0.75),
    "concurrent": Goal("(b) 50 concurrent enqueuers", cases.concurrent, 8.0),
    "bulk": Goal("(c) enqueue_many of 10,000", cases.bulk, 0.45),
    "drain-async": Goal("(d) drain of 20,000, async", cases.drain_async, 5.0),
    "drain-sync": Goal("(d) drain of 20,000, sync", cases.drain_sync, 4.0),
    "latency": Goal("(e) enqueue call to start, idle", cases.start_latency, p50_ms=0.4, p99_ms=1.5),
    "life": Goal("(f) whole lives, 500 enqueuers", cases.life, cpu_us=35.0),
    "busy": Goal("an enqueue beside a busy loop", cases.busy_loop, p99_ms=20.0),
    "lag": Goal("the busy loop's lag beside it", cases.loop_lag, p99_ms=5.0),
    "neighbour": Goal("an enqueue beside a busy process", cases.neighbour, p99_ms=5.0),
    "archive": Goal("(g) drain, 1,000,000 archived", cases.grown_archive, 0.85),
    "backlog": Goal("(g) drain, 200,000 behind a worker", cases.grown_backlog, 0.85),
    "memory": Goal("1,000,000 jobs in one engine", cases.memory, grown_mb=30.0, once=True),
    "huey-sequential": Goal("Huey (a), from plain code", huey_peer.sequential),
    "huey-concurrent": Goal("Huey (b), 50 threads", huey_peer.concurrent),
    "huey-drain": Goal("Huey (d), one thread", huey_peer.drain),
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "cases", nargs="*", choices=[*GOALS, []], metavar="case", help=f"default: all of {', '.join(GOALS)}"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs per case; the median counts (default: 3)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a folder on the disk to measure")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} CPUs, {sys.platform}")
    gc.collect()
    gc.freeze()  # as `jobs.serve()` does: what is imported is not walked again by the garbage collector
    head = f"{'per second':>11} {'floor':>9} {'ratio':>6} {'of runs':>11} {'goal':>6}"
    print(f"{'case':35} {head}  {'p50 / p99 ms (floor)':27} CPU µs")
    missed = [name for name in arguments.cases or GOALS if not _run(GOALS[name], arguments.runs, arguments.folder)]
    print(f"peak memory {cases.peak_memory_mb():.0f} MB")
    print(f"short of their goals: {', '.join(missed)}" if missed else "every goal is reached")


def _run(goal: Goal, runs: int, folder: Path) -> bool:
    runs = 1 if goal.once else runs
    measures = sorted((_measure(goal, folder) for _ in range(runs)), key=lambda measure: measure.ratio)
    shown = measures[len(measures) // 2]
    latency = ""
    if shown.p50_ms is not None:
        latency = f"{shown.p50_ms:.2f} / {shown.p99_ms:.2f} ({shown.floor_p50_ms:.2f} / {shown.floor_p99_ms:.2f})"
    if shown.grown_mb is not None:
        latency = f"grown by {shown.grown_mb:.0f} MB"
    cpu = f"{shown.cpu_us:.0f}" if shown.cpu_us is not None else ""
    wanted = f"{goal.ratio:6.2f}" if goal.ratio is not None else " " * 6
    spread = f"{measures[0].ratio:.2f}-{measures[-1].ratio:.2f}"
    figures = f"{shown.rate:11,.0f} {shown.floor:9,.0f} {shown.ratio:6.2f} {spread:>11} {wanted}"
    print(f"{goal.name:35} {figures}  {latency:27} {cpu:>6}", flush=True)
    return goal.is_reached(shown)


def _measure(goal: Goal, folder: Path) -> Measure:
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as path:
        return asyncio.run(goal.case(Path(path)))


if __name__ == "__main__":
    main()
