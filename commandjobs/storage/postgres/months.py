"""The archive's tables, one a month: made ahead of time, and detached before they are dropped."""

import re
from datetime import date, timedelta

import asyncpg

from commandjobs.model.moment import month_range
from commandjobs.storage.postgres.address import quoted

PARTED = ("finished", "log")
"""Tables with a partition a month."""
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
    await connection.execute("begin; set local lock_timeout = '5s'")
    try:
        await connection.fetch("select pg_advisory_xact_lock(hashtext('commandjobs month'), hashtext($1))", schema)
        for table in PARTED:
            parent, child = f"{quoted(schema)}.{table}", f"{quoted(schema)}.{table}_{month:%Y_%m}"
            [(there,)] = await connection.fetch(
                "select exists (select from pg_inherits where inhrelid = to_regclass($1))", child
            )
            if not there:
                await connection.execute(
                    f"create table if not exists {child} (like {parent} including defaults including constraints);"
                    f"alter table {parent} attach partition {child} for values from ({first}) to ({end})"
                )
        await connection.execute("commit")
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        raise


async def drop_month(connection: asyncpg.Connection, schema: str, month: date) -> None:
    """Detach a month's tables, then drop them: dropping alone would lock the whole archive for as long as it takes."""
    for table in PARTED:
        parent, child = f"{quoted(schema)}.{table}", f"{quoted(schema)}.{table}_{month:%Y_%m}"
        [(there,)] = await connection.fetch("select to_regclass($1) is not null", child)
        if not there:
            continue
        [(attached,)] = await connection.fetch(
            "select exists (select from pg_inherits where inhrelid = to_regclass($1))", child
        )
        if attached:
            await connection.execute(
                f"begin; set local lock_timeout = '5s'; alter table {parent} detach partition {child}; commit"
            )
        await connection.execute(f"drop table if exists {child}")
