"""New jobs in a transaction of their caller's, which may stay open for long, so nothing is locked that others need.

What the rows themselves need is written as always; lanes and parents are only looked at when that transaction has
committed (`admitting`). Until then nobody sees the rows, and nobody waits for them but who wants one of their keys.

All of it is done inside a savepoint: what fails here is undone, and the caller's transaction goes on as it was.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from commandjobs.errors import InvalidOption, StorageUnavailable
from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, hold_for
from commandjobs.storage.base import Inserted
from commandjobs.storage.queries import Style
from commandjobs.storage.sql.callers.caller import Caller
from commandjobs.storage.sql.callers.recognise import recognised
from commandjobs.storage.sql.change import Change, lanes_of
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Look, Taken
from commandjobs.storage.sql.inserting import Names, answers_of, check_parents, names_of, parents_of, recheck
from commandjobs.storage.sql.rows import to_row

_log = logging.getLogger("commandjobs.storage")

TRIES = 5
"""Each but the first follows a job that took one of the names first; it is seen by the next."""


class Joiner:
    """Writes jobs on connections that callers bring."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        databases: frozenset[str],
        place: str,
        seen: Look,
        meaning: Callable[[Exception, str], Exception],
    ) -> None:
        """databases: kinds that callers' connections may lead to. place: where the jobs are, as one says it.
        meaning: what an error means on a connection of some kind.
        """
        self._dialects: dict[Style, Dialect] = {}
        self._dialect = dialect
        self._databases = databases
        self._place = place
        self._seen = seen
        self._meaning = meaning
        self._here: Sequence[Any] | None = None
        """Where our own connections lead to; None: this database does not tell."""
        self._checked = WeakSet[Any]()
        """Callers' connections that lead to the same place."""

    async def locate(self) -> None:
        """Find out where our own connections lead to."""
        try:
            [self._here] = await self._seen("whereabouts")
        except Exception as error:
            _log.info("%s does not tell where it is, so callers' connections are not compared: %s", self._place, error)

    async def join(self, connection: Any, rows: Sequence[JobRow], *, blocking: bool, now: int) -> list[Inserted]:
        """Write new rows on a connection of the caller's."""
        caller = await self._ready(connection, blocking=blocking)
        dialect = self._dialects.setdefault(caller.style, self._dialect.styled(caller.style))
        seen_outside = Names()
        for tries_left in reversed(range(TRIES)):
            change = Change(dialect, caller, now)
            try:
                return await self._in_savepoint(change, caller, rows, seen_outside)
            except Taken as error:
                if not tries_left:
                    raise StorageUnavailable(
                        f"{TRIES} times others took the ref id or unique key while this tried to. Nothing was enqueued."
                    ) from error
                seen_outside = await names_of(self._dialect, self._seen, rows)
        raise AssertionError("The last try returns or raises.")

    async def _ready(self, connection: Any, *, blocking: bool) -> Caller:
        caller = recognised(connection)
        if caller.blocking and not blocking:
            raise InvalidOption(
                f"connection: {caller.kind} blocks the thread that uses it, so give it to the blocking methods, in "
                "that thread: `jobs.sync.enqueue_command(…, connection=…)`."
            )
        if blocking and not caller.blocking:
            raise InvalidOption(
                f"connection: {caller.kind} is used on an event loop, so give it to the async methods there: "
                "`await jobs.enqueue_command(…, connection=…)`."
            )
        await caller.begin()
        if not caller.databases & self._databases:
            raise InvalidOption(
                f"connection: {caller.kind} leads to {' or '.join(sorted(caller.databases))}, and the jobs are in "
                f"{self._place}. One transaction cannot hold both: enqueue without connection=, after it has committed."
            )
        refusal = caller.refusal()
        if refusal is not None:
            raise InvalidOption(f"connection: {caller.kind} was given that {refusal}.")
        return caller

    async def _in_savepoint(
        self, change: Change, caller: Caller, rows: Sequence[JobRow], seen_outside: Names
    ) -> list[Inserted]:
        sql = change.dialect.sql
        begun = False
        try:
            await caller.run(sql["savepoint"])
            begun = True
            await self._check_place(change.dialect, caller)
            await self._check_parents(change, rows)
            inserted = await _join_patiently(change, rows, seen_outside)
            await caller.run(sql["release_savepoint"])
        except Exception as error:
            meaning = self._meaning(error, caller.kind)
            if begun:
                with suppress(Exception):  # what happened says more than that it cannot be undone
                    await caller.run(sql["undo"])
                    await caller.run(sql["release_savepoint"])
            if meaning is error:
                raise
            raise meaning from error
        return inserted

    async def _check_place(self, dialect: Dialect, caller: Caller) -> None:
        """Raise `InvalidOption` if a connection leads to another database. Each is asked once."""
        if self._here is None or caller.raw in self._checked:
            return
        [there] = await caller.rows(dialect.sql["whereabouts"])
        if not _is_same(there, self._here):
            await self.locate()  # ours may lead elsewhere by now: a fail-over
        if not _is_same(there, self._here):
            raise InvalidOption(
                f"connection: {caller.kind} was given that leads to {there[-1]}, and the jobs are in {self._place}. "
                "One transaction cannot hold both: enqueue without connection=, after it has committed, or keep the "
                "jobs in a schema of that database."
            )
        with suppress(TypeError):  # a driver may not let its connections be remembered
            self._checked.add(caller.raw)

    async def _check_parents(self, change: Change, rows: Sequence[JobRow]) -> None:
        """Raise `UnknownDependency` for parents that neither this transaction nor anybody else sees."""
        ids = sorted(parents_of(rows))
        if not ids:
            return
        known = {id for (id,) in await change.look("known_among", ids=ids)}
        if len(known) < len(ids):  # it may go by a snapshot that is older than they are
            known |= {id for (id,) in await self._seen("known_among", ids=ids)}
        check_parents(rows, known)


def _is_same(there: Sequence[Any], here: Sequence[Any]) -> bool:
    """The last column only says it for people."""
    return tuple(there[:-1]) == tuple(here[:-1])


async def _join_patiently(change: Change, rows: Sequence[JobRow], seen_outside: Names) -> list[Inserted]:
    """Names may be wanted by other open transactions too, for which nobody is to wait for ever."""
    if all(row.fresh and row.unique_key is None for row in rows):
        return await join(change, rows, seen_outside)
    [(before, *_)] = await change.look("limit_wait")
    inserted = await join(change, rows, seen_outside)
    await change.look("restore_wait", before=before)
    return inserted


async def join(change: Change, rows: Sequence[JobRow], seen_outside: Names) -> list[Inserted]:
    """Write new rows. seen_outside: names that are taken although this transaction may not see by whom."""
    names = await names_of(change.dialect, change.look, rows)
    names.refs = seen_outside.refs | names.refs
    names.keys = seen_outside.keys | names.keys
    written: list[JobRow] = []
    answers: list[Inserted | JobRow] = []
    for row in rows:
        row.id, row.owner = 0, None
        conflict = names.conflict(row)
        answers.append(conflict or row)
        if conflict is None:
            _park(change, row)
            names.take(row)
            written.append(row)
    if written:
        ids = await change.dialect.insert(change.connection, written, token=None)
        for row, id in zip(written, ids, strict=True):
            row.id = id
    await recheck(change, written)
    return await _with_rows(change, answers_of(rows, answers))


def _park(change: Change, row: JobRow) -> None:
    """What waits for others is admitted later; what does not, can be claimed as soon as it can be seen."""
    if row.depends_on and row.parent_id is None:
        row.parent_id = row.depends_on[0]
    if row.depends_on or lanes_of(row):
        row.hold = Hold.ADMISSION
    else:
        row.hold = hold_for(parents_left=0, run_after=row.run_after, now=change.now, has_lane=False)


async def _with_rows(change: Change, answers: list[Inserted]) -> list[Inserted]:
    """Jobs that have the ref ids of new ones may be of this very transaction, so they are read in it."""
    taken = [answer for answer in answers if answer.conflict == "ref_id" and answer.id]
    if taken:
        found = await change.look("find_rows", ids=[answer.id for answer in taken])
        rows = {row.id: row for row in [to_row(columns) for has_row, *columns in found if has_row]}
        for answer in taken:
            answer.row = rows.get(answer.id)
    return answers
