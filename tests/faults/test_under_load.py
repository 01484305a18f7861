"""Processes that are killed or suspended from outside while twenty tasks of each enqueue jobs of all kinds."""

from pathlib import Path
from random import Random, randrange

from tests.faults.bench import Bench
from tests.faults.soak import kill_in_between, stopped


def test_f04_f06_nothing_is_lost_whenever_a_busy_process_is_killed(tmp_path: Path) -> None:
    bench, seed = Bench(tmp_path), randrange(10**6)

    kill_in_between(bench, "killed", Random(seed))
    bench.heal()

    assert bench.audit() == [], f"seed {seed}"


def test_f12_nothing_runs_twice_when_a_busy_process_is_suspended(tmp_path: Path) -> None:
    bench, seed = Bench(tmp_path), randrange(10**6)

    stopped(bench, Random(seed), {})
    bench.heal()

    assert bench.audit() == [], f"seed {seed}"
