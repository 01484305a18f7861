"""Plain asyncpg: the job is part of the transaction that is open on the connection."""

import asyncpg

from commandjobs import BackgroundJobs, JobRef
from examples.transactional_enqueue.commands import Receipt, SendReceipt


async def place_order(jobs: BackgroundJobs, database: str, customer: str, *, in_stock: bool) -> JobRef[None]:
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            await connection.execute("insert into shop.orders (customer) values ($1)", customer)
            ref = await jobs.enqueue_command(SendReceipt, Receipt(customer=customer), connection=connection)
            if not in_stock:
                raise LookupError("out of stock")
        return ref
    finally:
        await connection.close()
