"""Calls as users write them, and the types that come out. Only checked, never run."""

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from psycopg import AsyncConnection, Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from commandjobs import BackgroundJobs, JobRef, JobResult, SyncJobRef, TransientJob
from tests.typing.accepts_commands import (
    Bare,
    Decorated,
    FirstOrder,
    OptionalResult,
    Order,
    Receipt,
    RushOrder,
    SyncBare,
    SyncWithBoth,
    SyncWithRequest,
    SyncWithResult,
    TakesNothing,
    TakesObject,
    TakesReceipt,
    WithBoth,
    WithRequest,
    WithResult,
)


async def requests_and_results(jobs: BackgroundJobs) -> None:
    assert_type(await jobs.enqueue_command(Bare), JobRef[None])
    assert_type(await jobs.enqueue_command(WithRequest, Order(id=1)), JobRef[None])
    assert_type(await jobs.enqueue_command(WithResult), JobRef[Receipt])
    assert_type(await jobs.enqueue_command(WithBoth, Order(id=1)), JobRef[Receipt])
    assert_type(await jobs.enqueue_command(SyncBare), JobRef[None])
    assert_type(await jobs.enqueue_command(SyncWithRequest, Order(id=1)), JobRef[None])
    assert_type(await jobs.enqueue_command(SyncWithResult), JobRef[Receipt])
    assert_type(await jobs.enqueue_command(SyncWithBoth, Order(id=1)), JobRef[Receipt])
    assert_type(await jobs.enqueue_command(Decorated, Order(id=1)), JobRef[Receipt])
    assert_type(await jobs.enqueue_command(OptionalResult, Order(id=1)), JobRef[Receipt | None])
    assert_type(await jobs.enqueue_command(FirstOrder, [Order(id=1)]), JobRef[Order])
    await jobs.enqueue_command(WithRequest, RushOrder(id=1, hours=2))


async def handles(jobs: BackgroundJobs) -> None:
    job = await jobs.enqueue_command(WithBoth, Order(id=1))
    id, ref_id = job
    assert_type(id, int)
    assert_type(ref_id, str)
    assert_type(await job.result(), Receipt)
    assert_type(await job.result(timeout=timedelta(seconds=1)), Receipt)
    assert_type(await job.wait(2.5), JobResult)
    assert_type(await job.cancel(), bool)


async def many(jobs: BackgroundJobs) -> None:
    assert_type(await jobs.enqueue_many(WithBoth, [Order(id=1), Order(id=2)]), list[JobRef[Receipt]])
    assert_type(await jobs.enqueue_many(WithRequest, (Order(id=n) for n in range(9)), tags=["a"]), list[JobRef[None]])


async def now(jobs: BackgroundJobs) -> None:
    assert_type(await jobs.run_command_async(WithBoth, Order(id=1)), Receipt)
    assert_type(await jobs.run_command_async(SyncWithResult, timeout=None), Receipt)
    live: TransientJob[Receipt] = jobs.run_command(WithBoth, Order(id=1), user_id="ada")
    assert_type(await live, Receipt)


async def options(jobs: BackgroundJobs) -> None:
    parent = await jobs.enqueue_command(Bare)
    await jobs.enqueue_command(
        WithBoth,
        Order(id=1),
        worker="smtp",
        queue="slow",
        priority=5,
        callback=TakesReceipt,
        depends_on=[parent, 7],
        depends_on_policy="finished",
        run_after=timedelta(minutes=5),
        expires=datetime.now(UTC),
        retry_limit=0,
        timeout=None,
        ref_id="order-1",
        on_duplicate="return",
        unique_key="order",
        unique_until="start",
        concurrency_key="customer-5",
        user_id="ada",
        tags=("a", "b"),
        created_by="me",
        tenant_id="acme",
        args={"a": "b"},
    )
    await jobs.enqueue_command(Bare, depends_on=parent)
    await jobs.enqueue_command(Bare, run_after=datetime.now(UTC), timeout=timedelta(seconds=1))


async def in_a_transaction(jobs: BackgroundJobs, own: AsyncConnection, session: AsyncSession) -> None:
    assert_type(await jobs.enqueue_command(WithBoth, Order(id=1), connection=own), JobRef[Receipt])
    assert_type(await jobs.enqueue_many(WithBoth, [Order(id=1)], connection=session), list[JobRef[Receipt]])
    assert_type(await jobs.enqueue_json("Bare", None, connection=session), JobRef[Any])


def in_a_transaction_of_a_thread(jobs: BackgroundJobs, own: Connection[Any], session: Session) -> None:
    assert_type(jobs.sync.enqueue_command(WithBoth, Order(id=1), connection=own), SyncJobRef[Receipt])
    assert_type(jobs.sync.enqueue_many(WithBoth, [Order(id=1)], connection=session), list[SyncJobRef[Receipt]])
    assert_type(jobs.sync.enqueue_json("Bare", None, connection="default"), SyncJobRef[Any])


async def callbacks(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(WithBoth, Order(id=1), callback=TakesObject)
    await jobs.enqueue_command(WithBoth, Order(id=1), callback=TakesNothing)
    await jobs.enqueue_command(WithBoth, Order(id=1), callback="receipts.take")
    await jobs.enqueue_command(Bare, callback=TakesNothing)


async def by_name(jobs: BackgroundJobs) -> None:
    assert_type(await jobs.enqueue_json("WithBoth", '{"id": 1}'), JobRef[Any])


async def handles_by_id(jobs: BackgroundJobs, perhaps: type[WithResult] | None) -> None:
    assert_type(jobs.ref(7, WithBoth), JobRef[Receipt])
    untyped = await jobs.ref("order-1").result()
    assert_type(untyped, Any)
    assert_type(await jobs.ref(7, perhaps).wait(), JobResult)


def blocking(jobs: BackgroundJobs) -> None:
    assert_type(jobs.sync.enqueue_command(WithBoth, Order(id=1)), SyncJobRef[Receipt])
    assert_type(jobs.sync.run_command_async(WithBoth, Order(id=1)), Receipt)
    assert_type(jobs.sync.ref(7, WithBoth).result(), Receipt)
    untyped = jobs.sync.ref(7).result()
    assert_type(untyped, Any)
