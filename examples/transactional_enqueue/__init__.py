"""A shop that sends receipts for orders that were really placed: `python -m examples.transactional_enqueue`."""
