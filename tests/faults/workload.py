"""What a process of the bench does in its life: twenty tasks enqueue jobs of all kinds while it runs them."""

import asyncio
import json
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from commandjobs import BackgroundJobs, JobRef, JobState, Registry, StorageUnavailable, UnknownDependency
from commandjobs.clock import SystemClock
from commandjobs.runtime import supervisor
from tests.faults import commands
from tests.faults.commands import (
    Errand,
    FaultAsync,
    FaultFailing,
    FaultFork,
    FaultOnce,
    FaultParent,
    FaultReply,
    FaultRetried,
    FaultSlow,
    FaultSnoozed,
    FaultSync,
)
from tests.faults.ledger import Ledger
from tests.faults.points import Kill, Points

ENQUEUERS = 20
AT_ONCE = 10_000
BATCH = 500
LOOKED_UP = 1_000
DAY = 86_400_000_000
DATABASE, LEDGER, ERRORS, PASSED = "jobs.db", "ledger", "errors", "passed"
LIVE = (JobState.QUEUED, JobState.STARTED, JobState.EXECUTED)


@dataclass(frozen=True, slots=True)
class Plan:
    """A life: the same plan enqueues the same jobs. (What runs beside what is left to the machine.)"""

    name: str
    seed: int = 0
    each: int = 3
    """How many errands each enqueuer has."""
    enqueuers: int = ENQUEUERS
    kinds: tuple[str, ...] = ()
    """The names of those errands that it has; none: all."""
    pace: float = 0.0
    """Seconds between two errands of an enqueuer."""
    backlog: int = 0
    """Jobs that nobody expects to end: enqueued before anything else."""
    bulk: int = 0
    """Jobs that it is promised in large batches."""
    then: Literal["drain", "stay"] = "drain"
    """When all is enqueued: end when nothing is left to do, or when somebody ends it."""
    execute: bool = True
    kill: Kill | None = None
    days: int = 0
    """By how many its engine's clock is fast."""
    hours: int = 0
    """By how many its machine's clock is fast."""
    retention: int | None = None
    """Days; it waits until all months but this one are dropped."""
    url: str = ""
    """Of its database; none: the file in the folder."""
    lease: float = 30.0
    grace: float = 20.0
    knows: tuple[str, ...] = ()
    """The names of those commands that it knows; none: all."""
    patient: bool = False
    """An errand that meets a database that is away, or has forgotten something, is given up, and the next one tried."""
    forgotten_after: float = 0.0
    """Seconds between looks for jobs that the database says are its own; 0: as always."""


def live(folder: str, plan: Plan) -> None:
    """The whole life, in a process of its own."""
    home = Path(folder)
    _redirect_errors(home / f"{ERRORS}.{plan.name}")
    ledger = Ledger(home / LEDGER)
    points = Points(plan.kill, ledger.write)
    points.install()

    def write(did: str, **fields: Any) -> None:
        with points.at(f"ledger: {did}"):
            ledger.write(did, **fields)

    commands.set_up(write, home)
    if plan.forgotten_after:
        supervisor.FORGOTTEN = plan.forgotten_after
    if plan.hours:
        _set_machine_clock(plan.hours)
    asyncio.run(_live(home, plan))
    (home / f"{PASSED}.{plan.name}").write_text(json.dumps(points.passed), encoding="utf-8")


def _set_machine_clock(hours: int) -> None:
    """Of this process; the ledger goes by `time.time`, which stays right."""
    tell, shift = time.time_ns, hours * 3600 * 10**9
    time.time_ns = lambda: tell() + shift


class ShiftedClock(SystemClock):
    """The machine's time, so many days later."""

    def __init__(self, days: int) -> None:
        self._shift = days * DAY

    def now(self) -> int:
        return super().now() + self._shift


async def _live(home: Path, plan: Plan) -> None:
    retention = None if plan.retention is None else timedelta(days=plan.retention)
    settings: dict[str, Any] = {
        "execute": plan.execute, "retention": retention, "clock": ShiftedClock(plan.days) if plan.days else None,
        "lease": plan.lease,
        "shutdown_grace": plan.grace, "registry": _registry(plan.knows), "node_name": plan.name,
    }  # fmt: skip
    async with BackgroundJobs(plan.url or home / DATABASE, **settings) as jobs:
        for start in range(0, plan.backlog, AT_ONCE):
            await jobs.enqueue_many(FaultSlow, [str(start + number) for number in range(AT_ONCE)])
        commands.note("ready", key=plan.name)
        await _enqueue_bulk(jobs, plan)
        await asyncio.gather(*(_enqueue(jobs, plan, number) for number in range(plan.enqueuers if plan.each else 0)))
        commands.note("enqueued", key=plan.name)
        while plan.retention is not None and len(await jobs.months()) > 1:  # noqa: ASYNC110  nobody else tells
            await asyncio.sleep(0.005)
        if plan.then == "stay":
            await jobs.serve()
        elif plan.execute:
            await drain(jobs, home)


def _registry(names: tuple[str, ...]) -> Registry | None:
    if not names:
        return None
    registry = Registry()
    for name in names:
        registry.register(getattr(commands, name))
    return registry


def _redirect_errors(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stderr.fileno())
    logging.basicConfig(
        format="%(created).3f %(levelname)s %(message)s", level=logging.INFO, force=True, stream=sys.stderr
    )


# ── enqueueing ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def _enqueue_bulk(jobs: BackgroundJobs, plan: Plan) -> None:
    for start in range(0, plan.bulk, BATCH):
        numbers = range(start, min(start + BATCH, plan.bulk))
        await enqueue_all(jobs, [Errand(key=f"{plan.name}.bulk.{number}", kind="plain") for number in numbers])


async def _enqueue(jobs: BackgroundJobs, plan: Plan, number: int) -> None:
    chance = random.Random(f"{plan.seed} {number}")
    kinds = [kind for kind in [*KINDS, *ON_DEMAND] if kind.__name__ in plan.kinds] or KINDS
    for errand in range(plan.each):
        # In a small load every kind comes once and again; in a large one it is left to chance.
        turn = plan.seed + number + errand * ENQUEUERS
        kind, key = (
            kinds[turn % len(kinds)] if plan.each <= 3 else chance.choice(kinds),
            f"{plan.name}.{number}.{errand}",
        )
        try:
            await kind(jobs, key, chance)
        except (StorageUnavailable, UnknownDependency):
            if not plan.patient:
                raise
            commands.note("refused", key=key)
        if plan.pace:
            await asyncio.sleep(plan.pace)


async def ask(
    jobs: BackgroundJobs,
    command: Any,
    key: str,
    kind: str,
    *,
    lane: str = "",
    pause: float = 0.0,
    held: bool = False,
    **options: Any,
) -> JobRef[Any]:
    """Enqueue, and write down that it is asked for, and what comes of it."""
    commands.note("asked", key=key, kind=kind, lane=lane)
    ref: JobRef[Any] = await jobs.enqueue_command(
        command, Errand(key=key, kind=kind, lane=lane, pause=pause, held=held), **options
    )
    commands.note("promised" if ref.created else "shared", key=key, kind=kind, id=ref.id, lane=lane)
    return ref


async def plain(jobs: BackgroundJobs, key: str, chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "plain", pause=chance.choice([0.0, 0.0, 0.003]))


async def sync(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultSync, key, "plain")


async def on_worker(jobs: BackgroundJobs, key: str, chance: random.Random) -> None:
    lane = f"w{chance.randrange(3)}"
    await ask(jobs, FaultAsync, key, "worker", lane=f"worker {lane}", pause=0.001, worker=lane)


async def with_key(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultSync, key, "plain", lane="key", concurrency_key="key")


async def unique(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "plain", lane="unique", unique_key="one", pause=0.001)


async def with_callback(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "callback", callback=FaultReply)


async def children(jobs: BackgroundJobs, key: str, chance: random.Random) -> None:
    parents = [await ask(jobs, FaultAsync, f"{key}.parent.{n}", "plain", pause=0.002) for n in range(2)]
    await ask(jobs, FaultSync, f"{key}.child", "plain", depends_on=parents[0])
    await ask(jobs, FaultAsync, f"{key}.both", "plain", depends_on=parents, pause=chance.choice([0.0, 0.002]))


async def failing(jobs: BackgroundJobs, key: str, chance: random.Random) -> None:
    ref = await ask(jobs, FaultFailing, key, "failing")
    await ask(jobs, FaultAsync, f"{key}.cancelled", "plain", depends_on=ref)
    await ask(jobs, FaultAsync, f"{key}.after", "plain", depends_on=ref, depends_on_policy="finished")
    if chance.random() < 0.5 and (await ref.wait(30)).summary.state is JobState.FAILED:
        await jobs.requeue_failed_job(ref.id)
        commands.note("requeued", key=key, id=ref.id)


async def retried(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultRetried, key, "plain")


async def snoozed(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultSnoozed, key, "plain")


async def once(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultOnce, key, "once")


async def parent(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultParent, key, "parent")


async def later(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    ref = await ask(jobs, FaultAsync, key, "later", run_after=timedelta(hours=1), tags=["later"])
    if await ref.cancel():
        commands.note("cancelled", key=key, id=ref.id)


async def named(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "named", ref_id=key, on_duplicate="return")


async def many(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await enqueue_all(jobs, [Errand(key=f"{key}.many.{number}", kind="plain") for number in range(5)])


async def enqueue_all(jobs: BackgroundJobs, errands: list[Errand]) -> None:
    """All of them or none."""
    for errand in errands:
        commands.note("asked", key=errand.key, kind="plain")
    refs = await jobs.enqueue_many(FaultAsync, errands)
    for errand, ref in zip(errands, refs, strict=True):
        commands.note("promised", key=errand.key, kind="plain", id=ref.id)


async def slow_one(jobs: BackgroundJobs, key: str, chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "plain", pause=chance.uniform(0.05, 0.3))


async def long_one(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "plain", pause=2.0)


async def held_one(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultAsync, key, "plain", held=True)


async def forking(jobs: BackgroundJobs, key: str, _chance: random.Random) -> None:
    await ask(jobs, FaultFork, key, "plain")


KINDS: list[Callable[[BackgroundJobs, str, random.Random], Awaitable[None]]] = [
    plain, sync, on_worker, with_key, unique, with_callback, children, failing, retried, snoozed, once, parent, later,
    named, many, on_worker,
]  # fmt: skip
ON_DEMAND = [slow_one, long_one, held_one, forking]
"""Errands that only those have who ask for them."""


# ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def drain(jobs: BackgroundJobs, home: Path) -> None:
    """Do what clients do after a crash: ask again for what was not promised. Then wait until nothing is left."""
    began = time.monotonic()
    entries = Ledger(home / LEDGER).read()
    promised = {entry.key for entry in entries if entry.did in ("promised", "shared")}
    for key in [entry.key for entry in entries if (entry.did, entry.kind) == ("asked", "named")]:
        if key not in promised:
            await named(jobs, key, random.Random())
    async with asyncio.timeout(40):
        await jobs.cancel_jobs(tag="later")
        while (await jobs.find_jobs(states=LIVE, limit=1)).jobs:  # noqa: ASYNC110  also those that wait for a retry
            await asyncio.sleep(0.005)
        await jobs.months()  # waits for the moves under way
    commands.note("drained", key=f"{time.monotonic() - began:.3f}")
    await _look_up(jobs, home)


async def _look_up(jobs: BackgroundJobs, home: Path) -> None:
    """Find every job that was promised, by id and by ref id; of a large load, a part by ref id."""
    ids = sorted({entry.id for entry in Ledger(home / LEDGER).read() if entry.did == "promised"})
    found = {
        result.job.id: result.job
        for start in range(0, len(ids), BATCH)
        for result in await jobs.get_jobs(ids[start : start + BATCH])
    }
    for id in set(ids) - found.keys():
        commands.note("lost", id=id)
    for job in random.sample(list(found.values()), min(len(found), LOOKED_UP)):
        if job.error_code != "AttemptFailed":
            same = await jobs.get_job_by_ref_id(job.ref_id)
            if same is None or same.job.id != job.id:
                commands.note("lost", id=job.id, key=job.ref_id)
