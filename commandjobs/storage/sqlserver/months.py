"""The archive's tables, two a month, and the views over all of them: made ahead of time, and dropped whole."""

import re
from collections.abc import Sequence
from datetime import date, timedelta

from commandjobs.model.moment import month_range
from commandjobs.storage.queries import load_bodies
from commandjobs.storage.sql.driver import Connection
from commandjobs.storage.sqlserver.parameters import declared

NAME = re.compile(r"finished_(\d{4})_(\d{2})")
PLACEHOLDER = re.compile(r"YYYY_MM|\bFIRST\b|\bFOLLOWING\b")
TABLES = ("finished_table", "finished_options", "finished_end", "log_table", "log_options")


def of_month(text: str, month: date) -> str:
    """A text of SQL about the tables of one month."""
    first, next_first = month_range(month)
    meant = {"YYYY_MM": f"{month:%Y_%m}", "FIRST": str(first), "FOLLOWING": str(next_first)}
    return PLACEHOLDER.sub(lambda found: meant[found[0]], text)


def months_of(names: Sequence[str]) -> list[date]:
    """The months of tables by their names, oldest first."""
    found = (NAME.fullmatch(name) for name in names)
    return sorted(date(int(name[1]), int(name[2]), 1) for name in found if name is not None)


def following(month: date) -> date:
    """The month after."""
    return (month + timedelta(days=32)).replace(day=1)


class Months:
    """The months of one schema. What changes them is for a transaction."""

    def __init__(self, schema: str) -> None:
        """schema: its name."""
        self._schema = schema
        self._bodies = load_bodies("commandjobs.storage.sqlserver", file="months.sql", schema=f"[{schema}]")
        self._list = declared("months", self._bodies["months"])

    async def known(self, connection: Connection) -> list[date]:
        """Those that have tables, oldest first."""
        return months_of([name for (name,) in await connection.rows(self._list, schema=self._schema)])

    async def make(self, connection: Connection, *wanted: date) -> None:
        """Make the tables of months that have none."""
        known = await self._lock(connection)
        new = [month for month in wanted if month not in known]
        for month in new:
            for name in TABLES:
                await self._run(connection, name, month)
        if new:
            await self._show(connection, sorted([*known, *new]))

    async def drop(self, connection: Connection, month: date) -> None:
        """Drop a month's tables. The last month there is is only emptied, since the views need one."""
        known = await self._lock(connection)
        if month not in known:
            return
        left = [other for other in known if other != month]
        if left:
            await self._show(connection, left)
        for name in ("drop_finished", "drop_log") if left else ("empty_finished", "empty_log"):
            await self._run(connection, name, month)

    def view(self, name: str, months: Sequence[date]) -> str:
        """The view over the tables of these months, as SQL."""
        parts = [of_month(self._bodies[f"{name}_part"], month) for month in months]
        return "\n".join((self._bodies[f"{name}_view"], "\nunion all\n".join(parts)))

    async def _lock(self, connection: Connection) -> list[date]:
        """See to it that nobody else changes months now; those there are."""
        await connection.run(declared("lock_months", self._bodies["lock_months"]))
        return await self.known(connection)

    async def _show(self, connection: Connection, months: Sequence[date]) -> None:
        for name in ("finished", "log"):
            await connection.run(declared(f"{name}_view", self.view(name, months)))

    async def _run(self, connection: Connection, name: str, month: date) -> None:
        await connection.run(declared(name, of_month(self._bodies[name], month)))
