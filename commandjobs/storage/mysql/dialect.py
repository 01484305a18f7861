"""The statements of MySQL and MariaDB, and the bulk writes that take several of them here.

Nothing is returned by a write: what it is for is locked and read before. New rows, and those that leave, go as inserts
of many rows with only the columns in use, which is faster than reading sixty columns from a document.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

from commandjobs.model.moment import month_of
from commandjobs.model.row import JobRow, LogRow
from commandjobs.storage.mysql.connections import MysqlConnection
from commandjobs.storage.mysql.literals import DEFAULT, record
from commandjobs.storage.queries import Statement, load_bodies, statement
from commandjobs.storage.sql.change import turn
from commandjobs.storage.sql.claims import Claiming
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection, Look
from commandjobs.storage.sql.rows import COMMON_COLUMNS, JOB_COLUMNS, changed_columns, document, encoded, to_common_row

LARGEST = 1_000_000
"""Characters of one insert, but for its last row: a server takes packets of 16 MB, if nobody has set it otherwise."""
FINISHED_COLUMNS = frozenset(JOB_COLUMNS) - {"owner", "hold"}
SUMMARY_COLUMNS = frozenset({
    "id", "ref_id", "command", "created", "state", "started", "completed", "duration_ms", "attempts",
    "callback_attempts", "run", "queue", "worker", "tags", "batch_id", "parent_id", "created_by", "user_id",
    "tenant_id", "error_code", "error_message", "args",
})  # fmt: skip
CONDITIONS, COLUMNS, ROWS = "/* conditions */", "/* columns */", "/* rows */"
"""Where `queries.sql` leaves room for what is put in here."""

COMMON = frozenset({*COMMON_COLUMNS, "claim_queue", "claim_command", "owner", "token", "turn"})

Kind = tuple[str, str]
Columns = Mapping[str, Any]
T = TypeVar("T")


class MysqlDialect(Dialect):
    """How MySQL does what all must do."""

    claims_alone = False

    def __init__(self, prefix: str) -> None:
        """prefix: of the names of its tables."""
        super().__init__(load_bodies("commandjobs.storage.mysql", prefix=prefix), style="%s")
        self._kinds: set[Kind] = set()

    def find(self, conditions: str) -> Statement:
        """Conditions stand in both halves."""
        return statement("find", self.bodies["find"].replace(CONDITIONS, conditions), style="%s")

    def count(self, conditions: str) -> Statement:
        """Conditions stand in both halves."""
        return statement("count", self.bodies["count"].replace(CONDITIONS, conditions), style="%s")

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def insert(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """Write new rows by as few inserts as their size allows."""
        new = [self._new(row, token) for row in rows]
        if not rows[0].id:
            return await self._insert(mysql(connection), new)
        for columns in new:
            columns["has_dependents"] = True
        await self._write(mysql(connection), "insert_jobs", new)
        return [row.id for row in rows]

    async def insert_simple(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """Rows of which a claim need only read a few columns."""
        new = [self._new(row, token) for row in rows]
        for columns in new:
            others = columns.keys() - COMMON
            columns["common"] = all(columns[name] == getattr(JobRow, name) for name in others)
        return await self._insert(mysql(connection), new)

    def inserts_alone(self, rows: Sequence[JobRow]) -> bool:
        """Whether they are one insert for certain."""
        return sum(len(row.request_body or "") + len(row.request or "") + 400 for row in rows) <= LARGEST

    async def _insert(self, connection: MysqlConnection, new: Sequence[Columns]) -> list[int]:
        ids: list[int] = []
        for text, count in self._inserts("insert_jobs", new):
            first = (await connection.execute(text)).lastrowid
            ids += range(first, first + count)
        if connection.id_step == 1:
            return ids
        refs = [columns["ref_id"] for columns in new]
        found = {ref: id for ref, id in await connection.rows(self.sql["ids_of_refs"], refs=refs)}  # noqa: C416
        return [found[ref] for ref in refs]

    def _new(self, row: JobRow, token: int | None) -> dict[str, Any]:
        columns = super()._new(row, token)
        if row.priority:
            columns["turn"] = -row.priority
        if row.expires is not None and not row.attempts:
            columns["expiring"] = row.expires
        if columns.get("hold") is None:
            columns |= {held: lane for held, lane in (("lane_held", row.lane), ("key_held", row.lane_key)) if lane}
        return columns

    async def claim(self, connection: Connection, call: Claiming) -> list[JobRow]:
        """Own the best claimable jobs: select and lock the best of each kind, then take the best of each queue."""
        here, sql = mysql(connection), self.sql
        room = {
            (queue, command): most
            for queue, command in sorted(await self.kinds(here))
            if command in call.claim.commands
            and call.claim.serves(queue)
            and (most := call.room.get(queue, call.other)) > 0
        }
        if not room or not await here.rows(sql["is_alive"], owner=call.owner):
            return []
        looks = [
            {"queue": queue, "command": command, "most": most, "now": call.now}
            for (queue, command), most in room.items()
        ]
        found = await here.each((sql["claimable"], look) for look in looks)
        left = {queue: most for (queue, _), most in room.items()}
        taken: list[tuple[JobRow, bool]] = []
        for queue, common, row in sorted(map(_candidate, found), key=lambda candidate: turn(candidate[2])):
            if left[queue] > 0:
                left[queue] -= 1
                taken.append((row, common))
        if not taken:
            return []
        await here.run(sql["claim"], owner=call.owner, token=call.token, ids=sorted(row.id for row, _ in taken))
        rare = [row.id for row, common in taken if not common]
        whole = {row.id: row for row in await self.read(here, rare, lock=False)}
        claimed = [row if common else whole[row.id] for row, common in taken]
        for row in claimed:
            row.owner = call.owner
        return claimed

    async def kinds(self, connection: Connection) -> set[Kind]:
        """Step over the claim index, from where there were jobs the last time and whatever is found on the way: what is
        known costs one statement.
        """
        sql, asked, found = self.sql, set[Kind](), set[Kind]()
        steps = {("", ""), *self._kinds}
        while steps:
            asked |= steps
            found |= {
                (queue, command)
                for queue, command in await mysql(connection).each(
                    (sql[name], {"queue": queue, "command": command})
                    for queue, command in sorted(steps)
                    for name in (("next_command", "next_queue") if queue else ("next_queue",))
                )
            }
            steps = found - asked
        self._kinds = found
        return set(found)

    async def rewrite(self, connection: Connection, rows: Collection[JobRow]) -> None:
        """Write everything that can change of rows."""
        for some in portions([(row, _size(row)) for row in rows]):
            await connection.run(self.sql["rewrite"], rows=document(changed_columns(row) for row in some))

    async def finish(self, connection: Connection, rows: Collection[JobRow]) -> None:
        """Move rows that are over to the archive; their summaries stay."""
        leaving = sorted(rows, key=lambda row: row.id)
        months = [number_of(month_of(row.created)) for row in leaving]
        archived = [_columns(row, FINISHED_COLUMNS, month) for row, month in zip(leaving, months, strict=True)]
        summaries = [_columns(row, SUMMARY_COLUMNS, month) for row, month in zip(leaving, months, strict=True)]
        await self._write(mysql(connection), "archive_jobs", archived)
        await self._write(mysql(connection), "summarize_jobs", summaries)
        await connection.run(self.sql["leave"], ids=[row.id for row in leaving])

    async def mark_started(self, connection: Connection, marks: Collection[Mapping[str, Any]]) -> set[int]:
        """Write start marks; which were written is looked for only if not all of them were."""
        wanted = {mark["id"]: mark["owner"] for mark in marks}
        sorted_marks = sorted(marks, key=lambda mark: mark["id"])
        if await mysql(connection).change(self.sql["mark_started"], rows=document(sorted_marks)) == len(wanted):
            return set(wanted)
        begun = await connection.rows(self.sql["marked_among"], ids=sorted(wanted))
        return {id for id, owner in begun if owner == wanted[id]}

    async def key_holders(self, look: Look, held: Collection[Kind]) -> Sequence[tuple[str, str, int, str]]:
        """One look for each."""
        found = [row for command, key in held for row in await look("key_holder", command=command, key=key)]
        return [(command, key, id, ref) for command, key, id, ref in found]

    async def append_logs(self, connection: Connection, rows: Sequence[LogRow]) -> None:
        """Read the last numbers, then write lines: MySQL does not read a table that it inserts into."""
        months = {row.job_id: number_of(month_of(row.created)) for row in rows}
        last = dict.fromkeys(months, 0)
        for id, sequence in await mysql(connection).each(
            (self.sql["last_line"], {"id": id, "month": month}) for id, month in sorted(months.items())
        ):
            last[id] = sequence
        lines: list[Columns] = []
        for row in rows:
            last[row.job_id] += 1
            lines.append(
                {
                    "job_id": row.job_id,
                    "month": months[row.job_id],
                    "sequence": last[row.job_id],
                    "attempt": row.attempt,
                    "at": row.at,
                    "level": row.level,
                    "logger": row.logger,
                    "message": row.message,
                    "exception": row.exception,
                }
            )
        await self._write(mysql(connection), "append_logs", lines)

    # ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def waiting(
        self, connection: Connection, workers: Collection[str], keys: Collection[str], *, most: int
    ) -> Sequence[Sequence[Any]]:
        """The best who wait for each of these lanes."""
        looks = [(self.sql["waiting_for_worker"], name) for name in sorted(workers)]
        looks += [(self.sql["waiting_for_key"], name) for name in sorted(keys)]
        return await mysql(connection).each((look, {"name": name, "most": most}) for look, name in looks)

    async def try_lock_lanes(self, connection: Connection, numbers: Collection[int]) -> bool:
        """Lock lanes if nobody has them; those that were got stay locked."""
        return len(await connection.rows(self.sql["try_lock_lanes"], numbers=sorted(numbers))) == len(numbers)

    async def seat(self, connection: Connection, rows: Collection[Mapping[str, Any]]) -> set[int]:
        """Take jobs out of their lanes' lines, except those that somebody is changing."""
        wanted = sorted(row["id"] for row in rows)
        free = {id for (id,) in await connection.rows(self.sql["free_to_seat"], ids=wanted)}
        if free:
            await connection.run(self.sql["seat"], rows=document(row for row in rows if row["id"] in free))
        return free

    async def unseat(self, connection: Connection, ids: Collection[int]) -> set[int]:
        """Put claimable jobs back into their lanes' lines, except those that somebody is claiming."""
        free = {id for (id,) in await connection.rows(self.sql["free_to_unseat"], ids=sorted(ids))}
        if free:
            await connection.run(self.sql["unseat"], ids=sorted(free))
        return free

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def try_maintain(self, connection: Connection) -> bool:
        """Whether nobody else is rescuing."""
        return bool(await connection.rows(self.sql["try_maintain"]))

    async def add_node(self, connection: Connection, columns: Mapping[str, Any]) -> int:
        """Store a new node; its number."""
        return await mysql(connection).insert(self.sql["add_node"], **columns)

    async def renew_lease(self, connection: Connection, number: int) -> bool:
        """Say that a node lives."""
        return await mysql(connection).change(self.sql["renew_lease"], number=number) > 0

    # ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def newest_ends(self, connection: Connection, months: Sequence[date]) -> list[int | None]:
        """One look for each."""
        numbers = [number_of(month) for month in months]
        found = await mysql(connection).each((self.sql["newest_end"], {"month": number}) for number in numbers)
        ends: dict[int, int | None] = {number: newest for number, newest in found}  # noqa: C416  rows are sequences
        return [ends[number] for number in numbers]

    # ── inserts of many rows ────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, connection: MysqlConnection, name: str, rows: Sequence[Columns]) -> None:
        for text, _ in self._inserts(name, rows):
            await connection.execute(text)

    def _inserts(self, name: str, rows: Sequence[Columns]) -> Iterator[tuple[str, int]]:
        """Texts of inserts, and how many rows each has. A column that a row does not use has its default."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        head = self.bodies[name].replace(COLUMNS, ", ".join(columns))
        records = [record([row.get(column, DEFAULT) for column in columns]) for row in rows]
        for some in portions([(text, len(text)) for text in records]):
            yield head.replace(ROWS, ", ".join(some)), len(some)


def mysql(connection: Connection) -> MysqlConnection:
    """A connection as what it is."""
    assert isinstance(connection, MysqlConnection)
    return connection


def number_of(month: date) -> int:
    """A month as the tables have it: 202611."""
    return month.year * 100 + month.month


def portions(sized: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Things in their order, as many at once as a statement takes."""
    some: list[T] = []
    total = 0
    for thing, size in sized:
        if some and total + size > LARGEST:
            yield some
            some, total = [], 0
        some.append(thing)
        total += size
    if some:
        yield some


def _candidate(columns: Sequence[Any]) -> tuple[str, bool, JobRow]:
    """A row of `claimable`: the queue it waits in, whether it is all there, and the job."""
    *values, common, queue = columns
    return queue, bool(common), to_common_row(values)


def _columns(row: JobRow, names: frozenset[str], month: int) -> dict[str, Any]:
    columns = encoded(row, names)
    columns["month"] = month
    if "timeout" in names:
        columns["timeout"] = row.timeout  # None is not the default
    return columns


def _size(row: JobRow) -> int:
    """About how many characters a row's document has."""
    texts = (row.response, row.response_body, row.error, row.error_message, row.status, *row.history)
    return 1000 + sum(len(text) for text in texts if text)
