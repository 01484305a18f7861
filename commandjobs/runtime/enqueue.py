"""Command + request + options → validated row → storage. Everything is refused before anything is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from commandjobs.checks import shown
from commandjobs.clock import Clock
from commandjobs.context import running
from commandjobs.errors import DuplicateRefId, InvalidOption, InvalidRequest
from commandjobs.model.row import JobRow
from commandjobs.model.settle import bound_attempt
from commandjobs.model.state import Hold
from commandjobs.options import InThread, OptionDefaults, ResolvedOptions, parents_in, resolve
from commandjobs.ref import Follower, JobRef
from commandjobs.runtime.execution import Execution
from commandjobs.runtime.ref_ids import RefIds

if TYPE_CHECKING:
    from commandjobs.definition import CommandDefinition
    from commandjobs.runtime.commands import Commands
    from commandjobs.runtime.dispatcher import Dispatcher
    from commandjobs.storage.base import Inserted, Landed, Storage


NAMED_ALIKE = (
    "worker", "queue", "priority", "retry_limit", "tags", "callback", "depends_on", "depends_on_policy", "run_after",
    "expires", "unique_key", "unique_until", "concurrency_key", "user_id", "batch_id", "parent_id", "created_by",
    "tenant_id", "reply_to", "args",
)  # fmt: skip
"""Options that columns are named after."""


@dataclass(frozen=True, slots=True)
class Template:
    """What the rows of one call share."""

    options: ResolvedOptions
    columns: dict[str, Any]
    """Those that are not at their defaults."""


class Enqueuer:
    """Stores jobs, and hands those that may start to the dispatcher."""

    def __init__(
        self,
        *,
        commands: Commands,
        storage: Storage,
        dispatcher: Dispatcher,
        follower: Follower,
        defaults: OptionDefaults,
        clock: Clock,
    ) -> None:
        """defaults: the engine's own options, for what neither call nor command says."""
        self._commands = commands
        self._storage = storage
        self._dispatcher = dispatcher
        self._follower = follower
        self._defaults = defaults
        self._clock = clock
        self._ref_ids = RefIds()
        self._plain: dict[CommandDefinition, Template] = {}
        """Made once per command: most calls have no options, and must pay nothing for those they do not use."""

    def enqueue(
        self, definition: CommandDefinition, request: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Awaitable[JobRef[Any]]:
        """Store one job of a command with its typed request.

        (Not a coroutine itself, as nothing on this way but the caller's own: each costs a lone enqueue 3 us with cold
        caches, and one among many 0.4.)
        """
        now = self._clock.now()
        template = self._template(definition, options, now)
        row = self._row(template, dump_request(definition, request), now)
        return self._store(row, template.options, now)

    async def enqueue_json(
        self, definition: CommandDefinition, request_json: str | None, options: Mapping[str, Any]
    ) -> JobRef[Any]:
        """Store one job whose request is JSON; it is checked against the command's request type."""
        now = self._clock.now()
        template = self._template(definition, options, now)
        if definition.request_codec is None:
            if request_json not in (None, "null"):
                raise InvalidRequest(f"Command {definition.name!r} takes no request, got {request_json!r:.100}.")
            body = None
        else:
            body = definition.request_codec.dump(definition.request_codec.load(request_json or "null"))
        return await self._store(self._row(template, body, now), template.options, now)

    async def enqueue_many(
        self, definition: CommandDefinition, requests: Iterable[Any], options: Mapping[str, Any]
    ) -> list[JobRef[Any]]:
        """Store many jobs of a command in one transaction: all or none."""
        for name in ("ref_id", "unique_key", "on_duplicate", "unique_until"):
            if name in options:
                raise InvalidOption(
                    f"{name}= is about the key of one job, so enqueue_many does not take it. Use enqueue_command."
                )
        _check_several(definition, requests)
        now = self._clock.now()
        template = self._template(definition, options, now)
        rows = [self._row(template, dump_request(definition, (one,)), now) for one in requests]
        if not rows:
            return []
        refs: list[JobRef[Any]] = await self._insert(rows, template.options, now, self._many_landed)
        return refs

    def to_be_marked(self, depends_on: Any) -> Callable[[], Awaitable[None]] | None:
        """What an enqueue that runs in its caller's thread cannot wait for there, and is to be awaited on the loop
        before: the start mark of the attempt that makes it, if that is among the parents.
        """
        execution = _attempt_among(parents_in(depends_on))
        return None if execution is None else partial(self._dispatcher.marks.ensure, execution)

    async def enqueue_like(self, row: JobRow, *, by: str | None) -> JobRef[Any]:
        """Store a new job with command, request and options of another; not its dates, dependencies and keys."""
        options: dict[str, Any] = {
            "worker": row.worker,
            "queue": row.queue,
            "priority": row.priority,
            "callback": row.callback,
            "retry_limit": row.retry_limit,
            "tags": row.tags,
            "batch_id": row.batch_id,
            "user_id": row.user_id,
            "tenant_id": row.tenant_id,
            "created_by": by or row.created_by,
            "reply_to": row.reply_to,
            "args": row.args or None,
            "concurrency_key": row.concurrency_key,
        }
        given = {name: value for name, value in options.items() if value is not None} | {"timeout": row.timeout}
        return await self.enqueue_json(self._commands.definition(row.command), row.request_body, given)

    def _template(self, definition: CommandDefinition, options: Mapping[str, Any], now: int) -> Template:
        template = None if options else self._plain.get(definition)
        if template is None:
            resolved = resolve(
                definition,
                options,
                defaults=self._defaults,
                now_us=now,
                supports_connection=self._storage.capabilities.transactional_enqueue,
            )
            if resolved.callback is not None:
                self._commands.callback(resolved.callback, definition)
            template = Template(resolved, _columns(definition, resolved))
            if not options:
                self._plain[definition] = template
        return template

    def _row(self, template: Template, body: str | None, now: int) -> JobRow:
        ref_id = template.options.ref_id
        if ref_id is None:
            ref_id = self._ref_ids.next(now)
            return JobRow.of(
                {"ref_id": ref_id, "fresh": True, "created": now, "request_body": body, **template.columns}
            )
        return JobRow.of({"ref_id": ref_id, "created": now, "request_body": body, **template.columns})

    async def _bind(self, rows: list[JobRow], parents: tuple[int, ...]) -> None:
        """If one of the parents is the attempt that enqueues these, they belong to that attempt."""
        execution = _attempt_among(parents)
        if execution is None:
            return
        # The start mark goes to disk first: after a crash this attempt must count, or the next one would get its jobs.
        await self._dispatcher.marks.ensure(execution)
        mine = execution.row.id
        others = tuple(parent for parent in parents if parent != mine)
        for row in rows:
            row.parent_id = row.parent_id if row.parent_id is not None else parents[0]
            row.depends_on = (mine, *others)  # what a job is bound to is the first of them
            row.bound_attempt = bound_attempt(execution.row)

    def _store(self, row: JobRow, options: ResolvedOptions, now: int) -> Awaitable[JobRef[Any]]:
        if row.fresh and row.unique_key is None:
            return self._insert([row], options, now, self._one_landed)
        return self._store_named(row, options, now)

    async def _store_named(self, row: JobRow, options: ResolvedOptions, now: int) -> JobRef[Any]:
        """Another job may have the name: that one is given back, if this is what the caller asked for."""
        inserted: Inserted = await self._insert([row], options, now, self._named_landed)
        if inserted.conflict == "ref_id":
            await self._check_same(inserted, row, options)
        return JobRef(inserted.id, inserted.ref_id, created=inserted.conflict is None, follower=self._follower)

    def _insert(self, rows: list[JobRow], options: ResolvedOptions, now: int, landed: Landed) -> Awaitable[Any]:
        if options.depends_on:
            return self._bind_and_insert(rows, options, now, landed)
        if options.connection is not None:
            return self._insert_within(rows, options.connection, now, landed)
        claim = self._dispatcher.fetcher.admits(options.queue, options.priority, len(rows))
        return self._storage.insert(rows, now=now, claim=claim, landed=landed)

    async def _bind_and_insert(self, rows: list[JobRow], options: ResolvedOptions, now: int, landed: Landed) -> Any:
        await self._bind(rows, options.depends_on)
        if options.connection is not None:
            return await self._insert_within(rows, options.connection, now, landed)
        claim = self._dispatcher.fetcher.admits(options.queue, options.priority, len(rows))
        return await self._storage.insert(rows, now=now, claim=claim, landed=landed)

    async def _insert_within(self, rows: list[JobRow], connection: Any, now: int, landed: Landed) -> Any:
        """In the caller's transaction, before whose commit nobody may start them: also not this node. (It may be in
        the caller's thread, so nothing of the loop's is touched.)
        """
        blocking = isinstance(connection, InThread)
        given = connection.connection if blocking else connection
        inserted = await self._storage.insert_within(rows, connection=given, blocking=blocking, now=now)
        if landed == self._named_landed:
            return inserted[0]
        refs = self._refs(rows)
        return refs[0] if landed == self._one_landed else refs

    # What is stored may be owned, too: its caller may have been cancelled meanwhile, and the jobs have to run.

    def _one_landed(self, rows: Sequence[JobRow], inserted: Sequence[Inserted]) -> JobRef[Any]:
        row = rows[0]
        if inserted[0].claimed:
            self._dispatcher.offer(rows)
        else:
            self._note_waiting(row)
        return JobRef(row.id, row.ref_id, follower=self._follower)

    def _named_landed(self, rows: Sequence[JobRow], inserted: Sequence[Inserted]) -> Inserted:
        self._take_over(rows, inserted)
        return inserted[0]

    def _many_landed(self, rows: Sequence[JobRow], inserted: Sequence[Inserted]) -> list[JobRef[Any]]:
        self._take_over(rows, inserted)
        return self._refs(rows)

    def _refs(self, rows: Sequence[JobRow]) -> list[JobRef[Any]]:
        follower = self._follower
        return [JobRef(row.id, row.ref_id, follower=follower) for row in rows]

    def _take_over(self, rows: Sequence[JobRow], inserted: Sequence[Inserted]) -> None:
        owned = [row for row, one in zip(rows, inserted, strict=True) if one.claimed]
        if owned:
            self._dispatcher.offer(owned)
        if len(owned) < len(rows):
            self._note_waiting(rows[0])

    def _note_waiting(self, row: JobRow) -> None:
        """Not claimed: tell the fetcher when to look."""
        if row.hold is None:
            self._dispatcher.fetcher.look()
        if row.hold is Hold.TIME:
            self._dispatcher.fetcher.due_at(row.run_after)
        if row.expires is not None:
            self._dispatcher.fetcher.due_at(row.expires)

    async def _check_same(self, inserted: Inserted, row: JobRow, options: ResolvedOptions) -> None:
        """`on_duplicate="return"` gives the existing job only if it is the same work."""
        if options.on_duplicate != "return":
            raise DuplicateRefId(
                f"A job with ref_id={row.ref_id!r} exists already (id {inserted.id}). Choose another ref id, or pass "
                'on_duplicate="return" to get that job.'
            )
        there = inserted.row
        if there is None and (found := await self._storage.job(inserted.id)) is not None:
            there = found.row
        if there is None or (there.command, there.request_body) != (row.command, row.request_body):
            raise DuplicateRefId(
                f"A job with ref_id={row.ref_id!r} exists already (id {inserted.id}), and it is other work: its "
                f"command or request differs from this one of {row.command}. Choose another ref id."
            )


def _attempt_among(parents: Collection[int]) -> Execution | None:
    """The attempt that runs here, if it is one of a job's parents."""
    execution = running.get(None)
    if not isinstance(execution, Execution) or execution.transient or execution.row.id not in parents:
        return None
    return execution


def _columns(definition: CommandDefinition, options: ResolvedOptions) -> dict[str, Any]:
    asked = {name: getattr(options, name) for name in NAMED_ALIKE} | {
        "command": definition.name,
        "request": definition.request_codec.type_name if definition.request_codec is not None else None,
        "rerun_after_crash": definition.rerun_after_crash,
        "timeout": options.timeout_s,
        "lane": options.worker,
        "lane_key": options.concurrency_key,
    }
    return {name: value for name, value in asked.items() if value != getattr(JobRow, name, None)}


def _check_several(definition: CommandDefinition, requests: object) -> None:
    """A text and a model can be iterated too, but as one request they are a slip."""
    if isinstance(requests, (str, bytes, BaseModel)) or not isinstance(requests, Iterable):
        raise InvalidRequest(
            f"enqueue_many takes several requests of {definition.name}, such as a list of them, got {shown(requests)}. "
            "For one job use enqueue_command."
        )


def dump_request(definition: CommandDefinition, request: tuple[Any, ...]) -> str | None:
    """The stored form of a request. Raises `InvalidRequest` for a missing, extra or unfit one."""
    codec = definition.request_codec
    if len(request) != (codec is not None):
        wanted = "takes no request" if codec is None else f"takes one request of type {codec.type_name}"
        raise InvalidRequest(f"Command {definition.name!r} {wanted}, got {len(request)}.")
    return codec.dump(request[0]) if codec is not None else None
