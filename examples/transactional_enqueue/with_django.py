"""Django: give the connection, or its alias; `transaction.atomic` decides."""

from django.db import connection, transaction

from commandjobs import BackgroundJobs, SyncJobRef
from examples.transactional_enqueue.commands import Receipt, SendReceipt


def place_order(jobs: BackgroundJobs, customer: str, *, in_stock: bool) -> SyncJobRef[None]:
    with transaction.atomic():
        with connection.cursor() as cursor:  # or a model's save()
            cursor.execute("insert into shop.orders (customer) values (%s)", [customer])
        ref = jobs.sync.enqueue_command(SendReceipt, Receipt(customer=customer), connection=connection)
        if not in_stock:
            raise LookupError("out of stock")
    return ref
