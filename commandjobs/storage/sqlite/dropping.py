"""Forgetting the jobs of a dropped month, piece by piece."""

import sqlite3
from collections.abc import Sequence

from commandjobs.storage.sqlite.change import SQL
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import ids_json


def drop_summaries(connection: sqlite3.Connection, calls: Sequence[Sequence[int]]) -> list[int]:
    """Delete the summaries of these jobs; returns how many went."""
    return [_drop(connection, ids_json(ids)) for ids in calls]


def _drop(connection: sqlite3.Connection, ids: str) -> int:
    connection.execute(SQL["drop_dependencies"], (ids,))
    return connection.execute(SQL["drop_summaries"], (ids,)).rowcount


DROP_SUMMARIES = Kind("drop summaries", drop_summaries, 4, flushed=True)
