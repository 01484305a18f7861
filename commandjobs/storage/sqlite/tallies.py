"""Roll-ups by the hour: read, add, write, with the batch that settles."""

import json
import sqlite3
from collections.abc import Iterable

from commandjobs.model.stats import Tallies, Tally, TallyKey, merge_tallies
from commandjobs.storage.sqlite.change import SQL


def add_tallies(connection: sqlite3.Connection, counted: Iterable[Tallies]) -> None:
    """Add what was counted to what is stored."""
    new: Tallies = {}
    for tallies in counted:
        merge_tallies(new, tallies)
    connection.executemany(SQL["add_tally"], [(*_columns(key), *_values(tally)) for key, tally in new.items()])


def replace_tallies(connection: sqlite3.Connection, tallies: Tallies) -> None:
    """Put these in the place of what is stored under their keys."""
    connection.executemany(SQL["replace_tally"], [(*_columns(key), *_values(tally)) for key, tally in tallies.items()])


def to_tallies(rows: Iterable[tuple[int, str, str, str, str, str, int, float, str]]) -> Tallies:
    """The roll-ups of rows of the table."""
    return {TallyKey(*columns[:6]): _tally(*columns[6:]) for columns in rows}


def _columns(key: TallyKey) -> tuple[int, str, str, str, str, str]:
    return key.hour, key.kind, key.command, key.worker, key.queue, key.outcome


def _values(tally: Tally) -> tuple[int, float, str]:
    return tally.count, tally.time_ms, json.dumps(tally.histogram, separators=(",", ":"))


def _tally(count: int, time_ms: float, histogram: str) -> Tally:
    return Tally(count, time_ms, {int(bucket): number for bucket, number in json.loads(histogram).items()})
