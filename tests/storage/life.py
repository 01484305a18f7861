"""What the conformance tests do with jobs: short words for the steps of a life, on any storage."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

from commandjobs.model.job import JobError
from commandjobs.model.moment import to_moment
from commandjobs.model.node import NodeRow
from commandjobs.model.outcome import Failed, Outcome, Succeeded
from commandjobs.model.row import JobRow
from commandjobs.model.settle import Settlement, begin, requeue, settle
from commandjobs.model.state import JobState
from commandjobs.storage.base import Claim, Inserted, Settled, Storage

NOW = to_moment(datetime(2026, 11, 23, 12, tzinfo=UTC))
"""The injected time: tests move it by passing another."""
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
RETRY_DELAY = 60
"""Seconds."""

ANY = Claim(frozenset({"Work", "Other", "Notify"}))
"""A node that knows every command of these tests."""
FAILURE = Failed(JobError(code="ValueError", message="boom"))
FATAL = Failed(JobError(code="ValueError", message="boom"), retryable=False)

_numbers = count(1)


def job(command: str = "Work", *, worker: str | None = None, key: str | None = None, **columns: Any) -> JobRow:
    """A new job with a ref id of its own, as an enqueue makes it."""
    columns = {"ref_id": f"ref-{next(_numbers)}", "created": NOW, **columns}
    if worker is not None:
        columns |= {"worker": worker, "lane": worker}
    if key is not None:
        columns |= {"concurrency_key": key, "lane_key": key}
    return JobRow(command=command, **columns)


def child(*parents: int, **columns: Any) -> JobRow:
    """A new job that depends on others."""
    return job(depends_on=parents, **columns)


def node(name: str = "node", **columns: Any) -> NodeRow:
    """The start of a process."""
    columns = {"pid": 1, "version": "1", "started": NOW, "heartbeat": NOW, **columns}
    return NodeRow(id=f"{name}-{next(_numbers)}", name=name, **columns)


async def put(storage: Storage, row: JobRow, *, now: int = NOW, claim: Claim | None = None) -> int:
    """Insert one job; its id."""
    inserted: list[Inserted] = await storage.insert([row], now=now, claim=claim)
    assert inserted[0].conflict is None
    return inserted[0].id


async def put_all(storage: Storage, *rows: JobRow, now: int = NOW, claim: Claim | None = None) -> list[int]:
    return [inserted.id for inserted in await storage.insert(rows, now=now, claim=claim)]


async def claim_ids(storage: Storage, count: int = 10_000, *, claim: Claim = ANY) -> list[int]:
    """Claim from every queue; the ids."""
    return [row.id for row in await storage.claim({}, count, claim=claim, now=NOW)]


async def claim_one(storage: Storage) -> JobRow:
    """Claim the only claimable job."""
    [row] = await storage.claim({}, 10_000, claim=ANY, now=NOW)
    return row


async def begun(storage: Storage, row: JobRow, *, now: int = NOW) -> JobRow:
    """Start a claimed job: its mark is written."""
    begin(row, now=now, node="node")
    assert await storage.mark_started([row]) == [True]
    return row


async def running(storage: Storage, row: JobRow | None = None, *, now: int = NOW) -> JobRow:
    """A new job (or the one given), inserted, claimed and started; the row its executor has."""
    row = job() if row is None else row
    [inserted] = await storage.insert([row], now=now, claim=ANY)
    assert inserted.claimed
    return await begun(storage, row, now=now)


def ending(row: JobRow, outcome: Outcome, *, now: int = NOW + SECOND, **options: Any) -> Settlement:
    """What an outcome makes of a started job; retries wait for `RETRY_DELAY`."""
    return settle(row, outcome, now=now, backoff=lambda _: RETRY_DELAY, **options)


async def end(
    storage: Storage,
    row: JobRow,
    outcome: Outcome | None = None,
    *,
    now: int = NOW + SECOND,
    claim: Claim | None = None,
    **options: Any,
) -> Settled:
    """Settle one started job, by default as a success."""
    settlement = ending(row, outcome or Succeeded('"done"'), now=now, **options)
    settled = await storage.settle([settlement], now=now, claim=claim)
    assert settled.written == [True]
    return settled


async def finished(storage: Storage, row: JobRow | None = None, outcome: Outcome | None = None) -> int:
    """A job that was inserted, ran and ended; its id."""
    row = await running(storage, row)
    await end(storage, row, outcome)
    return row.id


async def executed(storage: Storage, row: JobRow | None = None, **options: Any) -> int:
    """A job whose work is done, and whose callback waits; its id."""
    row = await running(storage, row or job(callback="Notify"))
    await end(storage, row, **options)
    return row.id


async def stored(storage: Storage, id: int) -> JobRow:
    """The full row as the storage has it."""
    found = await storage.job(id)
    assert found is not None
    assert found.row is not None
    return found.row


async def state(storage: Storage, id: int) -> JobState:
    found = await storage.job(id)
    assert found is not None
    return found.summary.state


async def states(storage: Storage, *ids: int) -> list[JobState]:
    return [await state(storage, id) for id in ids]


async def requeued(storage: Storage, id: int, *, now: int = NOW + HOUR, claim: Claim | None = None) -> Inserted | None:
    """Bring one finished job back."""
    [inserted] = await storage.reinsert([requeue(await stored(storage, id))], now=now, claim=claim)
    return inserted


async def swept(storage: Storage) -> int:
    """Sweep until nothing is left; how many units of work that was."""
    done = 0
    while written := (await storage.sweep(now=NOW)).written:
        done += len(written)
    return done
