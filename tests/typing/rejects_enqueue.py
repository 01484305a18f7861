"""Calls that a type checker must refuse, on the lines that are marked. Only checked, never run."""

from typing import assert_type

from commandjobs import BackgroundJobs, JobRef
from tests.typing.accepts_commands import Bare, Order, Receipt, TakesOrder, WithBoth, WithRequest, WithResult


async def requests(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(WithRequest)  # E: the request is missing
    await jobs.enqueue_command(WithBoth)  # E: the request is missing
    await jobs.enqueue_command(Bare, Order(id=1))  # E: it takes no request
    await jobs.enqueue_command(WithResult, Order(id=1))  # E: it takes no request
    await jobs.enqueue_command(WithRequest, Order(id=1), Order(id=2))  # E: it takes one request
    await jobs.enqueue_command(WithRequest, Receipt(text=""))  # E: the request is an Order
    await jobs.enqueue_command(WithRequest, {"id": 1})  # E: the request is an Order
    await jobs.enqueue_command(WithRequest())  # E: a command is given by its class
    await jobs.enqueue_command(int)  # E: that is no command


async def options(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(Bare, quue="slow")  # E: there is no such option
    await jobs.enqueue_command(Bare, queue=5)  # E: a queue has a name
    await jobs.enqueue_command(Bare, run_after=5)  # E: a delay is a timedelta
    await jobs.enqueue_command(Bare, depends_on="7")  # E: ids are numbers
    await jobs.enqueue_command(Bare, depends_on_policy="always")  # E: there is no such policy
    await jobs.enqueue_command(Bare, args={"a": 1})  # E: args are texts
    await jobs.run_command_async(Bare, quue="slow")  # E: there is no such option
    await jobs.enqueue_command(Bare, session=jobs)  # E: it is called connection
    await jobs.enqueue_command(WithRequest, Receipt(text=""), connection=jobs)  # E: the request is an Order
    jobs.sync.enqueue_command(WithRequest, connection=jobs)  # E: the request is missing


async def callbacks(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_command(WithBoth, Order(id=1), callback=TakesOrder)  # E: the result is a Receipt
    await jobs.enqueue_command(Bare, callback=TakesOrder)  # E: there is no result to take
    await jobs.enqueue_command(Bare, callback=int)  # E: that is no command


async def many(jobs: BackgroundJobs) -> None:
    await jobs.enqueue_many(WithRequest, [Receipt(text="")])  # E: the requests are Orders
    await jobs.enqueue_many(WithRequest, Order(id=1))  # E: one request is not many
    await jobs.enqueue_many(Bare, [Order(id=1)])  # E: it takes no request


async def results(jobs: BackgroundJobs) -> None:
    job = await jobs.enqueue_command(WithBoth, Order(id=1))
    order: Order = await job.result()  # E: the result is a Receipt
    assert_type(job, JobRef[Order])  # E: the result is a Receipt
    number: int = await jobs.run_command_async(WithBoth, Order(id=1))  # E: the result is a Receipt
    live = jobs.run_command(WithBoth, Order(id=1))
    text: str = await live  # E: the result is a Receipt
    print(order, number, text)
