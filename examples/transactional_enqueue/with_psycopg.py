"""Plain psycopg, in a thread: the blocking methods take the blocking connection, and use it in that thread."""

import psycopg

from commandjobs import BackgroundJobs, SyncJobRef
from examples.transactional_enqueue.commands import Receipt, SendReceipt


def place_order(jobs: BackgroundJobs, database: str, customer: str, *, in_stock: bool) -> SyncJobRef[None]:
    with psycopg.connect(database) as connection:  # committed at the end of the block, rolled back by an error
        connection.execute("insert into shop.orders (customer) values (%s)", [customer])
        ref = jobs.sync.enqueue_command(SendReceipt, Receipt(customer=customer), connection=connection)
        if not in_stock:
            raise LookupError("out of stock")
    return ref
