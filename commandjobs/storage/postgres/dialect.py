"""The statements that every plain job passes through, by arrays: JSON documents of many columns take twice as long."""

from collections.abc import Iterable, Sequence
from typing import Any

from commandjobs.model.row import JobRow
from commandjobs.storage.sql.dialect import Dialect
from commandjobs.storage.sql.driver import Connection
from commandjobs.storage.sql.rows import COMMON_COLUMNS, plain_text

PLAIN_NEW = frozenset({*COMMON_COLUMNS, "owner", "fresh", "hold", "parents_left"})
Kind = tuple[str, str | None, str, int, int, float | None, int | None]


class PostgresDialect(Dialect):
    """What PostgreSQL does by arrays."""

    async def insert_simple(self, connection: Connection, rows: Sequence[JobRow], *, token: int | None) -> list[int]:
        """By one statement."""
        for row in rows:
            if not vars(row).keys() <= PLAIN_NEW:
                return await super().insert_simple(connection, rows, token=token)
        if len(rows) == 1:
            return await self._insert_alike(connection, rows, token)
        created = rows[0].created
        kinds: dict[Kind, int] = {}
        numbers = [kinds.setdefault(_kind(row), len(kinds) + 1) for row in rows]
        if len(kinds) == 1 and all(row.created == created for row in rows):
            return await self._insert_alike(connection, rows, token)
        commands, requests, queues, priorities, retry_limits, timeouts, owners = zip(*kinds, strict=True)
        found = await connection.rows(
            self.sql["insert_plain"],
            refs=[row.ref_id for row in rows],
            created=[row.created for row in rows],
            bodies=[plain_text(row.request_body) for row in rows],
            kinds=numbers,
            commands=commands,
            requests=requests,
            queues=queues,
            priorities=priorities,
            retry_limits=retry_limits,
            timeouts=timeouts,
            claim_queues=_unless_owned(queues, owners),
            claim_commands=_unless_owned(commands, owners),
            owners=owners,
            token=token,
        )
        return [id for (id,) in found]

    async def _insert_alike(self, connection: Connection, rows: Sequence[JobRow], token: int | None) -> list[int]:
        """Of one call of `enqueue_many`, and alone: the driver looks long at each array, and at each number in it."""
        one = rows[0]
        found = await connection.rows(
            self.sql["insert_alike"],
            refs=[row.ref_id for row in rows],
            bodies=[plain_text(row.request_body) for row in rows],
            created=one.created,
            command=one.command,
            request=one.request,
            queue=one.queue,
            priority=one.priority,
            retry_limit=one.retry_limit,
            timeout=one.timeout,
            claim_queue=one.queue if one.owner is None else None,
            claim_command=one.command if one.owner is None else None,
            owner=one.owner,
            token=token,
        )
        return [id for (id,) in found]

    async def finish_plain(self, connection: Connection, rows: Sequence[JobRow], *, owner: int) -> set[int]:
        """By one statement."""
        if not rows:
            return set()
        node = rows[0].node
        rows = [row for row in rows if row.node == node]
        found = await connection.rows(
            self.sql["finish_plain"],
            ids=[row.id for row in rows],
            started=[row.started for row in rows],
            completed=[row.completed for row in rows],
            durations=[row.duration_ms for row in rows],
            responses=[row.response for row in rows],
            bodies=[plain_text(row.response_body) for row in rows],
            owner=owner,
            node=node,
        )
        return {id for (id,) in found}


def _kind(row: JobRow) -> Kind:
    return row.command, row.request, row.queue, row.priority, row.retry_limit, row.timeout, row.owner


def _unless_owned(values: Iterable[Any], owners: Iterable[int | None]) -> list[Any]:
    """What is owned cannot be claimed."""
    return [value if owner is None else None for value, owner in zip(values, owners, strict=True)]
