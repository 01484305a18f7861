"""What SQL Server does in a way of its own."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from commandjobs.errors import InvalidOption
from commandjobs.model.moment import month_of
from commandjobs.model.row import JobRow
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection
from commandjobs.storage.sql.rows import changed_columns, document
from commandjobs.storage.sqlserver.months import months_of, of_month
from commandjobs.storage.sqlserver.parameters import declared

COMPARED = ("ref_id", "command", "queue", "callback", "callback_queue", "lane", "lane_key", "unique_key")
"""Columns whose values must not be taken for others."""


class SqlServerDialect(Dialect):
    """SQL Server's."""

    def __init__(self, bodies: Mapping[str, str]) -> None:
        """bodies: those of its `queries.sql`."""
        super().__init__(bodies, style="@")
        self._monthly: dict[tuple[str, date], Statement] = {}

    def of_month(self, name: str, month: date) -> Statement:
        """A statement about the tables of a month."""
        if (name, month) not in self._monthly:
            self._monthly[name, month] = declared(name, of_month(self.bodies[name], month))
        return self._monthly[name, month]

    async def insert(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """Ids come from a sequence, in the order of `place`; a row that has one already needs another statement."""
        name = "insert_again" if rows[0].id else "insert_jobs"
        found = await self._insert(connection, name, rows, token)
        return [row.id for row in rows] if rows[0].id else found

    async def insert_simple(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """Far fewer columns."""
        return await self._insert(connection, "insert_simple", rows, token)

    async def rewrite(self, connection: Connection, rows: Collection[JobRow]) -> None:
        """An operator may have named another queue."""
        for row in rows:
            _check(row)
        await super().rewrite(connection, rows)

    async def finish(self, connection: Connection, rows: Collection[JobRow]) -> None:
        """Each month has a table of its own."""
        by_month: dict[date, list[JobRow]] = {}
        for row in rows:
            by_month.setdefault(month_of(row.created), []).append(row)
        for month, finished in sorted(by_month.items()):
            leaving = document(changed_columns(row) for row in finished)
            await connection.run(self.of_month("finish_jobs", month), rows=leaving)

    async def raise_last_id(self, connection: Connection, id: int) -> None:
        """A sequence is not set, but drawn from."""
        [(last,)] = await connection.rows(self.sql["last_id"])
        if last < id:
            await connection.run(self.sql["lock_inserts"])
            [(last,)] = await connection.rows(self.sql["last_id"])  # nobody else draws from it now
            if last < id:
                await connection.run(self.sql["raise_last_id"], size=id - last)

    async def forget(self, connection: Connection, ids: Sequence[int]) -> None:
        """In all months."""
        for name in ("forget_jobs", "delete_summaries", "forget_ties"):
            await connection.run(self.sql[name], ids=ids)
        for month in months_of([name for (name,) in await connection.rows(self.sql["archive_tables"])]):
            for name in ("forget_runs", "forget_logs"):
                await connection.run(self.of_month(name, month), ids=ids)

    async def add_node(self, connection: Connection, columns: Mapping[str, Any]) -> int:
        """As a document, since its id is a text, while all other ids are numbers."""
        [(number,)] = await connection.rows(self.sql["add_node"], rows=document([columns]))
        return int(number)

    async def _insert(self, connection: Connection, name: str, rows: Sequence[JobRow], token: int | None) -> list[int]:
        for row in rows:
            _check(row)
        new = document({**self._new(row, token), "place": place} for place, row in enumerate(rows))
        return sorted(id for (id,) in await connection.rows(self.sql[name], rows=new))

    def _statement(self, name: str, body: str) -> Statement:
        return declared(name, body)


def _check(row: JobRow) -> None:
    """SQL Server takes a text with spaces at its end for the same as without them, whatever its collation."""
    for column in COMPARED:
        value = vars(row).get(column)
        if value is not None and value[-1:] == " ":
            option = {"lane": "worker", "lane_key": "concurrency_key"}.get(column, column)
            raise InvalidOption(
                f"{option} must not end with a space on SQL Server, which takes it for the same without; got {value!r}."
            )
