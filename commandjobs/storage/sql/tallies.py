"""Roll-ups by the hour. Each node writes rows of its own, and in them what it has counted so far: rows that several
nodes write would make them wait for each other, and what is written twice by a try again must not count twice.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from commandjobs.model.stats import HOUR, Tallies, Tally, TallyKey, merge_tallies
from commandjobs.storage.sql.rows import document


class TallyBook:
    """What one node has counted, by the hour."""

    def __init__(self) -> None:
        self._counted: Tallies = {}

    def with_more(self, more: Tallies) -> Tallies:
        """What the rows of these keys say when `more` is added."""
        new: Tallies = {}
        for key in more:
            merge_tallies(new, {key: self._counted.get(key, Tally())})
        merge_tallies(new, more)
        return new

    def note(self, written: Tallies) -> None:
        """These are on disk. Of hours that are over nothing more comes, or a row of its own begins."""
        newest = max((key.hour for key in written), default=0)
        self._counted = {key: tally for key, tally in self._counted.items() if key.hour >= newest - 2 * HOUR}
        self._counted |= written


def tally_rows(tallies: Tallies, node: int) -> str:
    """Tallies as the rows of a node."""
    return document(
        {
            "hour": key.hour,
            "kind": key.kind,
            "command": key.command,
            "worker": key.worker,
            "queue": key.queue,
            "outcome": key.outcome,
            "node": node,
            "count": tally.count,
            "time_ms": tally.time_ms,
            "histogram": json.dumps(tally.histogram, separators=(",", ":")),
        }
        for key, tally in tallies.items()
    )


def to_tallies(rows: Iterable[Sequence[Any]]) -> Tallies:
    """The roll-ups of all nodes together."""
    tallies: Tallies = {}
    for *columns, count, time_ms, histogram in rows:
        buckets = {int(bucket): number for bucket, number in json.loads(histogram).items()}
        merge_tallies(tallies, {TallyKey(*columns): Tally(count, time_ms, buckets)})
    return tallies
