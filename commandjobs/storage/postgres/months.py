"""The archive's tables, one a month: made ahead of time, and detached before they are dropped."""

import re
from datetime import date, timedelta

import asyncpg

from commandjobs.model.moment import month_range
from commandjobs.storage.postgres.address import quoted
from commandjobs.storage.postgres.connections import in_transaction

PARTED = ("finished", "log")
"""Tables with a partition a month."""
SHORT = 0.1
"""As long as a drop waits for a lock, in one try."""
NAME = re.compile(r"finished_(\d{4})_(\d{2})")


def months_of(names: list[str]) -> list[date]:
    """The months of partitions by their names, oldest first."""
    found = (NAME.fullmatch(name) for name in names)
    return sorted(date(int(name[1]), int(name[2]), 1) for name in found if name is not None)


def following(month: date) -> date:
    """The month after."""
    return (month + timedelta(days=32)).replace(day=1)


async def make_month(connection: asyncpg.Connection, schema: str, month: date) -> None:
    """Make a month's tables, unless they are there. A table is made apart and then attached, which holds up nobody."""
    first, end = month_range(month)
    async with in_transaction(connection):
        await _lock(connection, schema)
        for table in PARTED:
            parent, child = f"{quoted(schema)}.{table}", f"{quoted(schema)}.{table}_{month:%Y_%m}"
            if not await _is_attached(connection, child):
                await connection.execute(
                    f"create table if not exists {child} (like {parent} including defaults including constraints);"
                    f"alter table {parent} attach partition {child} for values from ({first}) to ({end})"
                )


async def drop_month(connection: asyncpg.Connection, schema: str, month: date) -> None:
    """Detach a month's tables, then drop them: dropping alone would lock the whole archive for as long as it takes.

    To detach takes a lock that waits for whoever reads the archive, and everybody else waits behind it. So it is not
    waited for: a backup that reads for an hour delays the drop, and no job.
    """
    for table in PARTED:
        parent, child = f"{quoted(schema)}.{table}", f"{quoted(schema)}.{table}_{month:%Y_%m}"
        async with in_transaction(connection, patience=SHORT):
            await _lock(connection, schema)
            if await _is_attached(connection, child):
                await connection.execute(f"alter table {parent} detach partition {child}")
        async with in_transaction(connection, patience=SHORT):
            await _lock(connection, schema)
            await connection.execute(f"drop table if exists {child}")


async def _lock(connection: asyncpg.Connection, schema: str) -> None:
    """One process at a time makes or drops months."""
    await connection.fetch("select pg_advisory_xact_lock(hashtext('commandjobs month'), hashtext($1))", schema)


async def _is_attached(connection: asyncpg.Connection, child: str) -> bool:
    [(attached,)] = await connection.fetch(
        "select exists (select from pg_inherits where inhrelid = to_regclass($1))", child
    )
    return bool(attached)
