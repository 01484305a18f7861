"""The power-loss model: `python -m tests.faults.power --rounds 20 --seed 7` cuts the power some thousand times.

A round records a life of an engine (`recorded_life`, `recording`), cuts the tape at many places, makes of each cut an
image of what a drive may hold then (`disk`), lets SQLite and a new engine recover it, and asks what became of the
promises that clients had at that moment: every acknowledged job is there and in exactly one place, and none that was
told to have ended runs again or has lost its result. Some images lose their power again while they are being
recovered, and on some a whole engine runs until everything has ended.

What a tape holds depends on how threads took their turns, so a loss leaves its tape: `--tape FILE --image SEED`.
"""

import argparse
import asyncio
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from commandjobs import BackgroundJobs, JobState
from commandjobs.storage.sqlite.storage import SqliteStorage
from tests.faults.disk import Disk, write_files
from tests.faults.promises import Ended, Found, Promises, broken, misplaced, run_again
from tests.faults.recorded_life import LATER, Durability, MonthEnd, PowerEcho, end, engine, live, often, put, stage
from tests.faults.recording import Event, Told, recording, why_not
from tests.storage.life import node, swept

RIGHT_AFTER_A_PROMISE = 0.5
"""So many of the cuts; the others are anywhere."""
TWICE = 0.2
"""So many of the images lose their power again while they are recovered."""
TO_THE_END = 0.1
"""On so many an engine runs until all has ended; on the others a storage only reconciles."""
EVERY: tuple[type, ...] = (object,)
RELAXED: tuple[type, ...] = (Ended,)
"""Which kinds of promises are kept with relaxed durability."""


# ── cutting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Cut:
    """A moment on a tape, and the randomness of what is left then."""

    seed: str
    random: Random
    at: int

    @classmethod
    def of(cls, tape: Sequence[Event], seed: str) -> "Cut":
        random = Random(seed)
        at = random.randrange(len(tape)) + 1
        if random.random() < RIGHT_AFTER_A_PROMISE:
            promises = [index for index, event in enumerate(tape, start=1) if isinstance(event, Told)]
            at = random.choice(promises) if promises else at
        return cls(seed, random, at)


@dataclass
class Loss:
    """An image with something wrong."""

    seed: str
    at: int
    wrong: list[str]


def images(tape: Sequence[Event], seeds: Sequence[str]) -> Iterator[tuple[Cut, dict[str, bytes]]]:
    """What is left at each cut."""
    disk, played = Disk(), 0
    for cut in sorted((Cut.of(tape, seed) for seed in seeds), key=lambda cut: cut.at):
        disk.play(tape[played : cut.at])
        played = cut.at
        yield cut, disk.left(cut.random)


def cut_power(tape: Sequence[Event], seeds: Sequence[str], *, kinds: tuple[type, ...] = EVERY) -> list[Loss]:
    """Make an image for each seed, recover it, and compare it with the promises; kinds: of which kinds."""
    losses: list[Loss] = []
    with often(), tempfile.TemporaryDirectory() as directory:
        for number, (cut, files) in enumerate(images(tape, seeds)):
            promises = Promises.of(fact for fact in told(tape[: cut.at]) if isinstance(fact, kinds))
            image = Image(Path(directory) / f"{number}", files, promises, cut.random)
            wrong = image.examine()
            shutil.rmtree(image.folder, ignore_errors=True)
            if wrong:
                losses.append(Loss(cut.seed, cut.at, wrong))
    return losses


def told(tape: Iterable[Event]) -> Iterator[object]:
    """The promises on a tape."""
    return (event.fact for event in tape if isinstance(event, Told))


# ── recovering ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Image:
    """What was left by a power cut, and what clients had been promised by then."""

    folder: Path
    files: dict[str, bytes]
    promises: Promises
    random: Random

    def examine(self) -> list[str]:
        """Recover it, and say what is wrong with it then."""
        twice, to_the_end = self.random.random() < TWICE, self.random.random() < TO_THE_END
        try:
            if twice:
                self._lose_power_again()
            return list(self._run_to_the_end() if to_the_end else self._reconcile())
        except Exception as error:
            return [f"cannot be recovered: {error!r}"]

    def _recover(self, how: Callable[[Path], Coroutine[Any, Any, None]], folder: Path) -> list[Event]:
        """(It is recorded also where nobody needs the tape: then nothing is flushed to the disk of this machine.)"""
        with recording(write_files(folder, self.files)) as tape:
            stage.tape, stage.ran = tape, []
            asyncio.run(how(folder))
        return tape.events

    def _lose_power_again(self) -> None:
        """While it is being recovered."""
        tape = self._recover(reconcile, self.folder.with_name(f"{self.folder.name}-first"))
        disk = Disk(self.files)
        disk.play(tape[: self.random.randrange(len(tape) + 1)])
        self.files = disk.left(self.random)

    def _reconcile(self) -> Iterator[str]:
        self._recover(reconcile, self.folder)
        found = Found.at(self.folder)
        yield from misplaced(found)
        yield from broken(self.promises, found)

    def _run_to_the_end(self) -> Iterator[str]:
        tape = self._recover(run_to_the_end, self.folder)
        found, new = Found.at(self.folder), Promises.of(told(tape))
        yield from misplaced(found)
        yield from broken(self.promises, found)
        yield from run_again(self.promises, found, stage.ran)
        yield from broken(new, found)
        for id in self.promises.ids & new.ids:
            yield f"job {id}: its id was given to another one"


async def reconcile(folder: Path) -> None:
    """What a process does first that becomes the executing one."""
    storage = SqliteStorage(folder / "jobs.db", wal_size=0)
    await storage.open(on_wake=lambda: None)
    try:
        await storage.register(node())
        assert await storage.try_execute()
        await swept(storage)
    finally:
        await storage.close()


async def run_to_the_end(folder: Path) -> None:
    """Run everything that is left, and something new."""
    async with asyncio.timeout(20), engine(folder / "jobs.db", MonthEnd(later=60)) as jobs:
        await end(await put(jobs, PowerEcho, "new"))
        while await has_work(jobs):  # noqa: ASYNC110  retries wait for their time, and the engine is idle meanwhile
            await asyncio.sleep(0.005)


async def has_work(jobs: BackgroundJobs) -> bool:
    """Whether some job still has to end."""
    unfinished = await jobs.find_jobs(states=(JobState.QUEUED, JobState.STARTED, JobState.EXECUTED), limit=1000)
    return any(LATER not in job.tags for job in unfinished.jobs)


# ── rounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def record(**how: Any) -> list[Event]:
    """The tape of a life; how: see `recorded_life.live`."""
    with tempfile.TemporaryDirectory() as directory, recording(Path(directory)) as tape:
        asyncio.run(live(tape, **how))
    return tape.events


def report(tape: Sequence[Event], losses: Sequence[Loss]) -> str:
    """What was lost, and how to see it again: the tape is kept in a file."""
    with tempfile.NamedTemporaryFile(prefix="power-", suffix=".tape", delete=False) as file:
        pickle.dump(tape, file)
    lines = [f"{len(losses)} images with losses; python -m tests.faults.power --tape {file.name} --image SEED for one"]
    for loss in losses:
        lines += [f"{loss.seed}, cut after event {loss.at}:", *(f"  {sentence}" for sentence in loss.wrong[:10])]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power", description="Cut the power at random.")
    parser.add_argument("--rounds", type=int, default=10, help="tapes to record (default 10)")
    parser.add_argument("--cuts", type=int, default=300, help="images of each (default 300)")
    parser.add_argument(
        "--seed", default=str(Random().randrange(10**6)), help="default: a random one, which is printed"
    )
    parser.add_argument("--relaxed", action="store_true", help="with relaxed durability: only ends are promised then")
    parser.add_argument("--tape", type=Path, help="a tape that a loss has left, in place of new ones")
    parser.add_argument("--image", help="with --tape: the seed of one image")
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        sys.exit(reason)
    print(f"seed {options.seed}", flush=True)
    lost = sum(play_round(options, number) for number in range(1 if options.tape else options.rounds))
    sys.exit(lost > 0)


def play_round(options: argparse.Namespace, number: int) -> int:
    """Cut one tape; how many images had losses."""
    durability: Durability = "relaxed" if options.relaxed else "full"
    tape: list[Event] = pickle.loads(options.tape.read_bytes()) if options.tape else record(durability=durability)
    seeds = [options.image] if options.image else [f"{options.seed}/{number}/{image}" for image in range(options.cuts)]
    losses = cut_power(tape, seeds, kinds=RELAXED if options.relaxed else EVERY)
    print(f"round {number}: {len(seeds)} images of {len(tape)} events, {len(losses)} with losses", flush=True)
    if losses:
        print(report(tape, losses), flush=True)
    return len(losses)


if __name__ == "__main__":
    main()
