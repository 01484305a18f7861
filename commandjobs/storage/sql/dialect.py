"""A database's statements by name, and the bulk writes whose shape differs between databases.

What is here runs the named statements as they are; a database that lacks a feature overrides a method and says in its
`queries.sql` what is missing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from commandjobs.model.row import JobRow
from commandjobs.model.state import FINAL, Hold
from commandjobs.storage.queries import Statement, Style, statement
from commandjobs.storage.sql.claims import Claiming
from commandjobs.storage.sql.driver import Connection, Look
from commandjobs.storage.sql.rows import (
    changed_columns,
    document,
    new_columns,
    placed_columns,
    to_common_row,
    to_json,
    to_row,
)


class Dialect:
    """How one database does what all must do."""

    def __init__(self, bodies: Mapping[str, str], *, style: Style) -> None:
        """bodies: those of its `queries.sql`; style: how its driver wants parameters."""
        self.bodies = bodies
        self._style: Style = style
        self.sql = {name: self._statement(name, body) for name, body in bodies.items()}

    def styled(self, style: Style) -> Self:
        """The same for a driver that wants parameters otherwise."""
        return self if style == self._style else type(self)(self.bodies, style=style)

    def find(self, conditions: str) -> Statement:
        """The statement that looks for the newest jobs to which conditions apply, each beginning with "and"."""
        return self._composed("find", conditions, "find_newest")

    def count(self, conditions: str) -> Statement:
        """The statement that counts jobs to which conditions apply."""
        return self._composed("count", conditions, "count_end")

    def _composed(self, name: str, conditions: str, end: str) -> Statement:
        return self._statement(name, "\n".join((self.bodies[name], conditions, self.bodies[end])))

    def _statement(self, name: str, body: str) -> Statement:
        return statement(name, body, style=self._style)

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def insert(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """Write new rows; their ids, in order. Rows that have an id keep it."""
        found = await connection.rows(self.sql["insert_jobs"], rows=document(self._new(row, token) for row in rows))
        return sorted(id for (id,) in found) if not rows[0].id else [row.id for row in rows]

    async def insert_simple(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """The same for rows that wait for nothing but their claim."""
        return await self.insert(connection, rows, token=token)

    def inserts_alone(self, rows: Sequence[JobRow]) -> bool:
        """Whether `insert_simple` of these rows is one statement, which needs no transaction around it."""
        return True

    claims_alone = True
    """Whether `claim` is one statement."""

    async def claim(self, connection: Connection, call: Claiming) -> list[JobRow]:
        """Own the best claimable jobs, and return them best first per queue."""
        queues = list(call.room)
        found = await connection.rows(
            self.sql["claim"],
            queues=queues,
            rooms=[call.room[queue] for queue in queues],
            other=call.other,
            commands=sorted(call.claim.commands),
            served=None if call.claim.queues is None else sorted(call.claim.queues),
            owner=call.owner,
            token=call.token,
            now=call.now,
        )
        rare = [columns[0] for *columns, common in found if not common]
        whole = {row.id: row for row in await self.read(connection, rare, lock=False)} if rare else {}
        rows = [to_common_row(columns) if common else whole[columns[0]] for *columns, common in found]
        for row in rows:
            row.owner = call.owner
        rows.sort(key=_turn)
        return rows

    def _new(self, row: JobRow, token: int | None) -> dict[str, Any]:
        columns = new_columns(row)
        if not row.id:
            columns.pop("id", None)
        if row.owner is not None:
            columns["token"] = token
        if row.state in FINAL:  # it leaves in a moment, and must not seem to hold its lanes until then
            columns["hold"] = Hold.PARENTS
        return columns

    async def read(self, connection: Connection, ids: Collection[int], *, lock: bool) -> list[JobRow]:
        """Live rows by id, in the order of ids; lock: nobody else changes them before the transaction ends."""
        if not ids:
            return []
        name = "lock_jobs" if lock else "read_jobs"
        return [to_row(columns) for columns in await connection.rows(self.sql[name], ids=sorted(ids))]

    async def place(self, connection: Connection, rows: Collection[JobRow], *, token: int | None) -> None:
        """Write who owns waiting rows, what parks them, and as what they can be claimed."""
        await connection.run(self.sql["place"], rows=document(placed_columns(row, token) for row in rows))

    async def rewrite(self, connection: Connection, rows: Collection[JobRow]) -> None:
        """Write everything that can change of rows."""
        await connection.run(self.sql["rewrite"], rows=document(changed_columns(row) for row in rows))

    async def finish(self, connection: Connection, rows: Collection[JobRow]) -> None:
        """Move rows that are over to the archive; their summaries stay."""
        await connection.run(self.sql["finish_jobs"], rows=document(changed_columns(row) for row in rows))

    async def finish_plain(self, connection: Connection, rows: Sequence[JobRow], *, owner: int) -> set[int]:
        """End jobs of an owner that have nothing out of the ordinary (`rows.is_plain_end`), if that is true of them in
        the database too; which it were. The others are left as they are: here, all.
        """
        return set()

    async def mark_started(self, connection: Connection, marks: Collection[Mapping[str, Any]]) -> set[int]:
        """Write start marks; the jobs that were still their owners'."""
        return {id for (id,) in await connection.rows(self.sql["mark_started"], rows=document(marks))}

    async def key_holders(self, look: Look, held: Collection[tuple[str, str]]) -> Sequence[tuple[str, str, int, str]]:
        """Which jobs keep others from these keys, each given with its command: command, key, id and ref id."""
        commands, keys = [command for command, _ in held], [key for _, key in held]
        found = await look("key_holders", commands=commands, keys=keys)
        return [(command, key, id, ref) for command, key, id, ref in found]

    async def kinds(self, connection: Connection) -> set[tuple[str, str]]:
        """Queues and commands of all claimable jobs."""
        return {(queue, command) for queue, command in await connection.rows(self.sql["claimable_kinds"])}

    # ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def holders(
        self, connection: Connection, workers: Collection[str], keys: Collection[str]
    ) -> Sequence[Sequence[Any]]:
        """The jobs that have these lanes; the columns are those of `lanes.Candidate`."""
        return await connection.rows(self.sql["lane_holders"], workers=sorted(workers), keys=sorted(keys))

    async def waiting(
        self, connection: Connection, workers: Collection[str], keys: Collection[str], *, most: int
    ) -> Sequence[Sequence[Any]]:
        """The best who wait for each of these lanes; before the columns of a Candidate comes "worker" or "key"."""
        return await connection.rows(self.sql["lane_waiting"], workers=sorted(workers), keys=sorted(keys), most=most)

    async def try_lock_lanes(self, connection: Connection, numbers: Collection[int]) -> bool:
        """Lock lanes if nobody has them."""
        [(got,)] = await connection.rows(self.sql["try_lock_lanes"], numbers=sorted(numbers))
        return bool(got)

    async def seat(self, connection: Connection, rows: Collection[Mapping[str, Any]]) -> set[int]:
        """Take jobs out of their lanes' lines, except those that somebody is changing; which it were."""
        ids = sorted(row["id"] for row in rows)
        return {id for (id,) in await connection.rows(self.sql["seat"], rows=document(rows), ids=ids)}

    async def unseat(self, connection: Connection, ids: Collection[int]) -> set[int]:
        """Put claimable jobs back into their lanes' lines, except those that somebody is claiming; which it were."""
        return {id for (id,) in await connection.rows(self.sql["unseat"], ids=sorted(ids))}

    # ── jobs from another storage ───────────────────────────────────────────────────────────────────────────────────

    async def raise_last_id(self, connection: Connection, id: int) -> None:
        """Let ids go on above this one."""
        [(last,)] = await connection.rows(self.sql["last_id"])
        if last < id:
            await connection.run(self.sql["lock_inserts"])
            await connection.run(self.sql["raise_last_id"], id=id)

    async def forget(self, connection: Connection, ids: Sequence[int]) -> None:
        """Take away everything that is stored of jobs that come anew."""
        for name in ("forget_jobs", "delete_summaries", "forget_runs", "forget_logs", "forget_ties"):
            await connection.run(self.sql[name], ids=ids)

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def add_node(self, connection: Connection, columns: Mapping[str, Any]) -> int:
        """Store a new node; its number."""
        [(number,)] = await connection.rows(self.sql["add_node"], **columns)
        return int(number)

    async def try_maintain(self, connection: Connection) -> bool:
        """Whether nobody else is rescuing, and nobody will before this transaction has ended."""
        [(may,)] = await connection.rows(self.sql["try_maintain"])
        return bool(may)

    async def renew_lease(self, connection: Connection, number: int) -> bool:
        """Say that a node lives; False: it was found dead meanwhile."""
        return bool(await connection.rows(self.sql["renew_lease"], number=number))


def _turn(row: JobRow) -> tuple[int, int]:
    return -row.priority, row.id


def edges(pairs: Collection[tuple[int, int]]) -> str:
    """Pairs of parent and child as a document."""
    return document({"parent_id": parent, "child_id": child} for parent, child in pairs)


def collection(values: Collection[str]) -> str | None:
    """A collection as a JSON column."""
    return to_json(list(values))
