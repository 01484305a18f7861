"""Many rounds of kills at random steps and moments: `python -m tests.faults.soak --rounds 200 --seed 1`.

A round has a folder of its own. Its seed decides what is enqueued and where the kills come, so `--seed S --only N` does
the round N again; what runs beside what is left to the machine. The folder of a round that fails is kept.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.points import Kill
from tests.faults.workload import Plan


def at_points(bench: Bench, chance: random.Random, passed: dict[str, int]) -> None:
    """One to three processes, each killed at a step of its own."""
    for number in range(chance.randint(1, 3)):
        point = chance.choice(sorted(passed))
        kill = Kill(point, chance.choice(["before", "after"]), chance.randint(1, passed[point]))
        bench.run(Plan(f"{number}", seed=chance.randrange(10**6), each=3, kill=kill))


def at_moments(bench: Bench, chance: random.Random, _passed: dict[str, int]) -> None:
    """One to three processes, each killed from outside while it is busy."""
    for number in range(chance.randint(1, 3)):
        kill_in_between(bench, f"{number}", chance)


def kill_in_between(bench: Bench, name: str, chance: random.Random) -> None:
    """A process that is killed from outside while it is busy."""
    life = bench.start(Plan(name, seed=chance.randrange(10**6), each=15, then="stay"))
    wait_for_lines(bench, chance.randint(1, 2000))
    life.kill()


def with_standbys(bench: Bench, chance: random.Random, _passed: dict[str, int]) -> None:
    """Four processes that enqueue, of which the executing one is killed, twice."""
    plans = [Plan(name, seed=chance.randrange(10**6), each=8, pace=0.01) for name in "abcd"]
    lives = [bench.start(plan) for plan in plans]
    for _ in range(2):
        wait_for_lines(bench, chance.randint(50, 800))
        if bench.ledger.size and (executor := bench.executing()) is not None:
            for life in lives:
                if life.pid == executor and life.is_alive:
                    life.kill()
    for life in lives:
        life.ended()


def stopped(bench: Bench, chance: random.Random, _passed: dict[str, int]) -> None:
    """Two processes, of which one is suspended for a while; then it is killed, or goes on."""
    lives = [bench.start(Plan(name, seed=chance.randrange(10**6), each=5)) for name in "ab"]
    wait_for_lines(bench, chance.randint(1, 500))
    life = chance.choice(lives)
    if life.is_alive:
        life.signal(signal.SIGSTOP)
        time.sleep(chance.uniform(0.05, 0.6))
        if chance.random() < 0.5:
            life.kill()
        else:
            life.signal(signal.SIGCONT)
    for life in lives:
        life.ended()


def wait_for_lines(bench: Bench, count: int) -> None:
    """Until so much more is in the ledger, or for a moment."""
    wanted, deadline = bench.ledger.size + 150 * count, time.monotonic() + 3
    while bench.ledger.size < wanted and time.monotonic() < deadline:
        time.sleep(0.002)


SCENES: list[Callable[[Bench, random.Random, dict[str, int]], None]] = [
    at_points, at_points, at_points, at_points, at_moments, at_moments, with_standbys, stopped,
]  # fmt: skip


def points(folder: Path) -> dict[str, int]:
    """The steps that a whole load passes, and how often."""
    bench = Bench(folder)
    bench.run(Plan("whole"))
    return bench.passed("whole")


def do_round(seed: int, number: int, passed: dict[str, int], counts: Counter[str]) -> tuple[Path, list[str]]:
    """One round; its folder, and what is wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-{number}-"))
    chance = random.Random(f"{seed} {number}")
    scene = chance.choice(SCENES)
    bench = Bench(folder)
    try:
        scene(bench, chance, passed)
        bench.heal()
        wrong = bench.audit()
    except AssertionError as error:
        wrong = [f"{scene.__name__}: {error}"]
    entries = bench.ledger.read()
    counts.update({"rounds": 1, scene.__name__: 1})
    counts.update(
        kills=sum(entry.did == "killed" for entry in entries),
        jobs=sum(entry.did == "promised" for entry in entries),
        starts=sum(entry.did == "start" for entry in entries),
    )
    bench.close()
    return folder, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="kill processes at random, and audit what is left")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="do this round alone")
    options = parser.parse_args()
    began, counts, failed = time.monotonic(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as whole:
        passed = points(Path(whole))
    for number in [options.only] if options.only is not None else range(options.rounds):
        folder, wrong = do_round(options.seed, number, passed, counts)
        if wrong:
            failed += 1
            print(f"round {number} of seed {options.seed} ({folder}):", *wrong, sep="\n  ", flush=True)
        else:
            shutil.rmtree(folder)
    print(
        f"seed {options.seed}, {time.monotonic() - began:.0f} s:",
        ", ".join(f"{n} {what}" for what, n in counts.items()),
    )
    print(f"{failed} rounds have failed." if failed else "Every promise was kept.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
