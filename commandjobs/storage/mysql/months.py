"""The archive's partitions, one a month: made ahead of time, and dropped one by one."""

import re
from collections.abc import Sequence
from datetime import date, timedelta

import asyncmy

from commandjobs.storage.mysql.connections import MysqlConnection
from commandjobs.storage.mysql.errors import code_of

PARTED = ("finished", "log")
"""Tables with a partition a month."""
NAME = re.compile(r"p(\d{4})(\d{2})")
THERE = {1517, 1495}
"""Errors: a partition of that name, or for that value, is there."""
NOT_THERE = {1507}


def months_of(names: Sequence[str]) -> list[date]:
    """The months of partitions by their names, oldest first."""
    found = (NAME.fullmatch(name) for name in names)
    return sorted(date(int(name[1]), int(name[2]), 1) for name in found if name is not None)


def following(month: date) -> date:
    """The month after."""
    return (month + timedelta(days=32)).replace(day=1)


async def make_month(connection: MysqlConnection, prefix: str, month: date) -> None:
    """Make a month's partitions, unless they are there. No row is moved for it, so that it takes a moment."""
    for table in PARTED:
        await _unless(
            THERE,
            connection,
            f"alter table {prefix}{table} add partition (partition p{month:%Y%m} values in ({month:%Y%m}))",
        )


async def drop_month(connection: MysqlConnection, prefix: str, month: date) -> None:
    """Drop a month's partitions."""
    for table in PARTED:
        await _unless(NOT_THERE, connection, f"alter table {prefix}{table} drop partition p{month:%Y%m}")


async def _unless(codes: set[int], connection: MysqlConnection, text: str) -> None:
    try:
        await connection.execute(text)
    except asyncmy.MySQLError as error:
        if code_of(error) not in codes:
            raise
