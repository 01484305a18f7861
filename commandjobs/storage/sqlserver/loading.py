"""Rows by the thousand, as they are elsewhere, each table by one statement, and a month's tables by one each."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from commandjobs.model.moment import month_of
from commandjobs.storage.queries import Statement
from commandjobs.storage.sql.rows import document
from commandjobs.storage.sqlserver.dialect import SqlServerDialect

OF_A_MONTH = frozenset({"finished", "log"})


class Loader:
    """Knows how to write rows into tables."""

    def __init__(self, dialect: SqlServerDialect) -> None:
        self._dialect = dialect

    def loads(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> Iterator[tuple[Statement, str]]:
        """The statements that write rows into a table, each with its document."""
        name = f"load_{table}"
        whole = [dict(zip(columns, row, strict=True)) for row in rows]
        if table not in OF_A_MONTH:
            yield self._dialect.sql[name], document(whole)
            return
        by_month: dict[date, list[dict[str, Any]]] = {}
        for row in whole:
            by_month.setdefault(month_of(row["created"]), []).append(row)
        for month, of_it in sorted(by_month.items()):
            yield self._dialect.of_month(name, month), document(of_it)
