"""`BackgroundJobs`: the one object users hold. It checks what it is given and hands on to the running engine."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import svcs
from typing_extensions import TypeVar, TypeVarTuple, Unpack

from commandjobs import checks
from commandjobs import registry as registries
from commandjobs.clock import Clock, StorageClock
from commandjobs.errors import CommandJobsError, InvalidOption, StorageUnavailable
from commandjobs.filters import job_filter
from commandjobs.model.find import COUNT_LIMIT, JobFilter, decode_cursor, encode_cursor
from commandjobs.model.job import Attempt, BulkResult, Job, JobPage, JobResult, LogLine
from commandjobs.model.overview import CommandInfo, Health, NodeInfo, QueueInfo, WorkerStats
from commandjobs.model.state import JobState
from commandjobs.model.views import to_summary
from commandjobs.options import JobOptions, OptionDefaults
from commandjobs.ref import JobRef
from commandjobs.runtime.commands import Commands
from commandjobs.runtime.engine import Engine, Settings
from commandjobs.runtime.hooks import RegisteredHooks
from commandjobs.runtime.logcapture import JobLogHandler
from commandjobs.runtime.overview import Overview
from commandjobs.runtime.services import check_services
from commandjobs.runtime.transient import TransientJob
from commandjobs.storage import open_storage
from commandjobs.storage.base import Cancelling, Storage
from commandjobs.sync import SyncBackgroundJobs, check_loop

if TYPE_CHECKING:
    from commandjobs.command import Command
    from commandjobs.registry import Registry

Args = TypeVarTuple("Args")
R = TypeVar("R")
Req = TypeVar("Req")

UNFINISHED = (JobState.QUEUED, JobState.STARTED, JobState.EXECUTED)
PAGE = 1_000
"""Jobs that a bulk operation takes at a time."""


class BackgroundJobs:
    """Holds the storage and, unless `execute=False`, runs jobs in this process while entered.

    async with BackgroundJobs("sqlite:///jobs.db") as jobs:
        ref = await jobs.enqueue_command(SendEmail, SendEmailReq(to="my@email.com"))
    """

    def __init__(
        self,
        storage: str | os.PathLike[str] | Storage = "sqlite:///jobs.db",
        *,
        execute: bool = True,
        queues: Mapping[str, int] | None = None,
        concurrency: int = 100,
        threads: int | None = None,
        retry_limit: int = 2,
        timeout: float | timedelta | None = 600.0,
        lease: float | timedelta = 30.0,
        shutdown_grace: float | timedelta = 20.0,
        retention: timedelta | None = None,
        services: svcs.Registry | None = None,
        users: Callable[[str], Awaitable[Any | None]] | None = None,
        registry: Registry | None = None,
        node_name: str | None = None,
        durability: Literal["full", "relaxed"] = "full",
        clock: Clock | None = None,
    ) -> None:
        """Check the settings; nothing is opened before it is entered.

        storage: `"sqlite:///data/jobs.db"` (archives lie beside it as `jobs_2026-11.db`), `"memory://"`, a path, or a
        Storage.
        execute: run jobs here; False: enqueue, look and steer only.
        queues: queue → jobs at once on this node, async and sync, and no other queue is served; None: every queue.
        concurrency: async jobs at once per queue on this node.
        threads: sync jobs at once on this node; None: min(32, cpus + 4).
        retry_limit: retries after the first attempt, for jobs whose call and command say nothing.
        timeout: seconds for one attempt, likewise; None: no limit.
        lease: seconds a silent node keeps its jobs; on SQLite and in memory, file locks and the process decide instead.
        shutdown_grace: seconds that running jobs have to end when the context is left.
        retention: a month's archive is dropped when its newest end is older; None: kept for ever.
        services: what commands may ask for in `__init__`.
        users: gives the user of a job's `user_id` at run time; None for one that does not exist.
        registry: the commands to know; None: every command that is defined.
        node_name: how this process is shown; None: host and process id.
        durability: "full": an acknowledged job survives a power cut; "relaxed": it survives the process, and a power
        cut
            may take the last ones. SQLite only.
        clock: where time comes from; for tests.

        Raises `InvalidOption`.
        """
        self.storage = open_storage(
            storage,
            durability=checks.one_of("durability", durability, ("full", "relaxed")),
            lease=checks.seconds("lease", lease),
        )
        self._commands = Commands(
            _checked("registry", registry, registries.Registry) if registry is not None else registries.default
        )
        self._settings = Settings(
            execute=checks.a_bool("execute", execute),
            queues=_checked_queues(queues),
            concurrency=checks.an_integer("concurrency", concurrency, least=1),
            threads=_checked_threads(threads),
            defaults=OptionDefaults(
                retry_limit=checks.a_count("retry_limit", retry_limit),
                timeout=checks.seconds_or_none("timeout", timeout),
            ),
            lease=checks.seconds("lease", lease),
            grace=checks.seconds("shutdown_grace", shutdown_grace),
            retention=_checked_retention(retention),
            services=_checked("services", services, svcs.Registry) if services is not None else svcs.Registry(),
            users=_checked_users(users),
            node_name=None if node_name is None else checks.a_name("node_name", node_name),
            clock=clock if clock is not None else StorageClock(),
            random=Random(),  # noqa: S311  for the jitter of retries
        )
        self._running: Engine | None = None
        self._log_handler: JobLogHandler | None = None
        self._hooks = RegisteredHooks()
        self._handled_signals: dict[signal.Signals, Any] = {}
        self._sync: SyncBackgroundJobs | None = None

    # ── entering and leaving ────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Open the storage and, unless `execute=False`, run jobs.

        Raises `InvalidCommand` and `MissingService` for commands that could not run, and storage errors.
        """
        if self._running is not None:
            raise CommandJobsError("This BackgroundJobs is entered already. Use it as it is, or make another one.")
        if self._settings.execute:
            check_services(self._settings.services, self._commands.all(), engine=type(self))
        engine = Engine(
            jobs=self,
            follower=_Follower(self),
            storage=self.storage,
            commands=self._commands,
            hooks=self._hooks,
            settings=self._settings,
        )
        self._running = engine
        self._log_handler = JobLogHandler.attach()
        try:
            await engine.supervisor.start()
        except BaseException:
            await self._leave(engine.supervisor.abort)
            raise
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        """Stop claiming, let running jobs end within `shutdown_grace`, hand back the rest, write everything, close."""
        await self._leave(self._engine.supervisor.stop)

    async def _leave(self, end: Callable[[], Awaitable[None]]) -> None:
        try:
            await end()
        finally:
            if self._log_handler is not None:
                self._log_handler.detach()
            self._running = self._log_handler = None
            for number, handler in self._handled_signals.items():
                signal.signal(number, handler)
            self._handled_signals = {}

    def lifespan(self, app: Any, state: Mapping[str, Any] | None = None) -> AbstractAsyncContextManager[None]:
        """An ASGI lifespan: `Starlette(lifespan=jobs.lifespan)`, `FastAPI(lifespan=jobs.lifespan)`.

        app, state: what frameworks pass to a lifespan; neither is needed here.
        """
        return self._lifespan()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncGenerator[None]:
        async with self:
            yield

    async def serve(self) -> None:
        """Run jobs until SIGTERM or SIGINT, then stop gracefully; a second signal leaves at once.

        Enters and leaves the context if it is not entered. The only method that handles signals. The process is taken
        to be a worker's own, so what it has imported is frozen: the garbage collector does not walk it again for each
        few thousand jobs, which saves 15 % of a drain.
        """
        if self._running is None:
            async with self:
                await self._serve()
        else:
            await self._serve()

    async def _serve(self) -> None:
        gc.collect()
        gc.freeze()
        await self._until_signal()

    async def _until_signal(self) -> None:
        loop, stop, seen = asyncio.get_running_loop(), asyncio.Event(), False

        def on_signal(number: int, _frame: object) -> None:
            nonlocal seen
            if seen:
                os._exit(128 + number)
            seen = True
            loop.call_soon_threadsafe(stop.set)

        # Not the loop's own handlers: those wait for the loop, which a job's code may be blocking.
        # They stay until the engine has stopped, for the second signal.
        self._handled_signals = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        await stop.wait()

    @property
    def sync(self) -> SyncBackgroundJobs:
        """The same methods, blocking, for threads, scripts and WSGI."""
        if self._sync is None:
            self._sync = SyncBackgroundJobs(self, commands=self._commands, enqueuer=lambda: self._engine_here.enqueuer)
        return self._sync

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop the engine runs on; None while it is not entered. Raises `StorageUnavailable` after a fork."""
        return None if self._running is None else self._engine_here.loop

    @property
    def _engine(self) -> Engine:
        """The engine, for calls on its own loop. On another one they would wait for what only its own can wake."""
        running = self._running
        if running is not None and _loop_here() is running.loop:  # no loop runs in a forked child
            return running
        engine = self._engine_here
        if _loop_here() is not engine.loop:
            check_loop(engine.loop)
            raise StorageUnavailable(
                "This BackgroundJobs was entered on an event loop that does not run in this thread, and its async "
                "methods belong there. From other threads use `jobs.sync`, or make and enter one on your own loop."
            )
        return engine

    @property
    def _engine_here(self) -> Engine:
        """The engine, if this process has entered it."""
        engine = self._running
        if engine is None:
            raise StorageUnavailable(
                "This BackgroundJobs is not entered. Use it inside `async with BackgroundJobs(…) as jobs:`, "
                "or `with jobs.sync:`."
            )
        if engine.pid != os.getpid():
            raise StorageUnavailable(
                f"This BackgroundJobs was entered in process {engine.pid} and is used after a fork in process "
                f"{os.getpid()}. Make and enter one in the new process."
            )
        return engine

    # ── durable ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def enqueue_command(
        self, command: type[Command[*Args, R]], /, *request: *Args, **options: Unpack[JobOptions[R]]
    ) -> JobRef[R]:
        """Store a job; when this returns it is on disk, and starts as soon as it may.

        command: the command's class. request: its typed request, if it takes one. options: see `JobOptions`.

        Returns a handle: `id, ref_id = ref`, `await ref.result()`.
        Raises `InvalidOption` and `InvalidRequest` before anything is written, `DuplicateRefId`, `UnknownDependency`,
        `UnknownCommand` (a callback's name), and storage errors.

        If the awaiting task is cancelled while this waits, the job may or may not exist: give a `ref_id` of your own
        and enqueue again with `on_duplicate="return"`.
        """
        return await self._engine.enqueuer.enqueue(self._commands.of(command), request, options)

    async def enqueue_many(
        self, command: type[Command[Req, R]], requests: Iterable[Req], /, **options: Unpack[JobOptions[R]]
    ) -> list[JobRef[R]]:
        """Store many jobs of one command in one transaction: all or none, with ids in order.

        options: those of every job; `ref_id` and `unique_key`, and what is said about them, are refused.
        Raises what `enqueue_command` raises.
        """
        return await self._engine.enqueuer.enqueue_many(self._commands.of(command), requests, options)

    async def enqueue_json(
        self, name: str, request_json: str | None, /, **options: Unpack[JobOptions[Any]]
    ) -> JobRef[Any]:
        """Store a job of a command by its stored name, with its request as JSON text (None: it takes none).

        Raises `UnknownCommand`, `InvalidRequest` with the field errors, and what `enqueue_command` raises.
        """
        definition = self._commands.definition(checks.a_name("name", name))
        return await self._engine.enqueuer.enqueue_json(definition, request_json, options)

    # ── transient ───────────────────────────────────────────────────────────────────────────────────────────────────

    def run_command(
        self, command: type[Command[*Args, R]], /, *request: *Args, **options: Unpack[JobOptions[R]]
    ) -> TransientJob[R]:
        """Run a command now, in memory, with no row anywhere; returns at once with the live job.

        options: worker, callback, timeout, retry_limit, user_id, tags, args, created_by, tenant_id, concurrency_key;
        others raise `InvalidOption`. Without `@retry` it runs once. Call it on the loop's thread (`jobs.sync` from
        others).
        """
        return self._engine.transient.start(self._commands.of(command), request, options)

    async def run_command_async(
        self, command: type[Command[*Args, R]], /, *request: *Args, **options: Unpack[JobOptions[R]]
    ) -> R:
        """Run a command now, in memory, and return its result.

        Raises what the command raises, `JobTimeout`, `JobCancelled`, `WouldDeadlock` (inside a job on the same named
        worker), and `InvalidOption`. If the awaiting task is cancelled, so is the run.
        """
        job: TransientJob[R] = self._engine.transient.start(self._commands.of(command), request, options, awaited=True)
        try:
            return await job
        except asyncio.CancelledError:
            job.cancel()
            raise

    def transient_jobs(self) -> list[TransientJob[Any]]:
        """The transient runs of this process that have not ended."""
        return self._engine_here.transient.live

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def ref(self, id: int | str, command: None = None, /) -> JobRef[Any]: ...
    @overload
    def ref(self, id: int | str, command: type[Command[*Args, R]], /) -> JobRef[R]: ...
    def ref(self, id: int | str, command: type[Command[*Args, R]] | None = None, /) -> JobRef[R]:
        """A handle to an existing job, by id or ref id; `command` gives its result a type."""
        follower = _Follower(self)
        if isinstance(id, str):
            return JobRef(0, checks.a_name("id", id), follower=follower)
        return JobRef(checks.an_id("id", id), "", follower=follower)

    async def get_job(self, id: int) -> JobResult | None:
        """Where a job is: its summary and its full record; None: no such job."""
        return await self._engine.lookup.job(checks.an_id("id", id))

    async def get_job_by_ref_id(self, ref_id: str) -> JobResult | None:
        """The same by ref id."""
        return await self._engine.lookup.job(checks.a_name("ref_id", ref_id))

    async def get_jobs(self, ids: Sequence[int]) -> list[JobResult]:
        """Several jobs, in the order of the ids; those that do not exist are left out."""
        return await self._engine.lookup.jobs([checks.an_id("ids", id) for id in ids])

    async def find_jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        command: str | None = None,
        ref_id: str | None = None,
        parent_id: int | None = None,
        worker: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        batch_id: str | None = None,
        created_by: str | None = None,
        user_id: str | None = None,
        tenant_id: str | None = None,
        error_code: str | None = None,
        args: Mapping[str, str] | None = None,
        month: date | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> JobPage:
        """Jobs that match all that is given, waiting, running and finished, newest first.

        month: any day of the month they were created in (UTC). since, until: aware; created from, and before.
        text: part of the ref id, command, tags, worker or error message. limit: jobs per page, 1 to 1,000.
        after: `next` of the page before. Raises `InvalidOption`.
        """
        wanted = job_filter(
            states=states,
            command=command,
            ref_id=ref_id,
            parent_id=parent_id,
            worker=worker,
            queue=queue,
            tag=tag,
            batch_id=batch_id,
            created_by=created_by,
            user_id=user_id,
            tenant_id=tenant_id,
            error_code=error_code,
            args=args,
            month=month,
            since=since,
            until=until,
            text=text,
        )
        limit = checks.an_integer("limit", limit, least=1, most=PAGE)
        start = None if after is None else checks.an_id("after", decode_cursor(checks.a_text("after", after)))
        storage = self._engine.storage
        rows = await storage.find(wanted, after=start, limit=limit + 1)
        total = await storage.count(wanted, limit=COUNT_LIMIT + 1)
        page = rows[:limit]
        return JobPage(
            jobs=[to_summary(row) for row in page],
            next=encode_cursor(page[-1].id) if len(rows) > limit else None,
            total=min(total, COUNT_LIMIT),
            total_is_exact=total <= COUNT_LIMIT,
        )

    async def get_logs(self, id: int, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """Lines of a job's log with a sequence above `after`, oldest first; at most `limit`."""
        after, limit = checks.a_count("after", after), checks.an_integer("limit", limit, least=1)
        return await self._engine.storage.logs(checks.an_id("id", id), after=after, limit=limit)

    async def get_attempts(self, id: int) -> list[Attempt]:
        """Every ended attempt of a job, of all its runs, oldest first."""
        return await self._engine.lookup.attempts(checks.an_id("id", id))

    async def get_commands(self) -> list[CommandInfo]:
        """Registered commands with their schemas and how their executions went. Reading never alters a count."""
        return await self._overview.commands()

    async def get_workers(self) -> list[WorkerStats]:
        """Named workers."""
        return await self._overview.workers()

    async def get_queues(self) -> list[QueueInfo]:
        """Queues."""
        return await self._overview.queues()

    async def get_nodes(self) -> list[NodeInfo]:
        """Processes that run or enqueue jobs here, newest first."""
        return await self._overview.nodes()

    async def months(self) -> list[date]:
        """First days of the months that have an archive, oldest first."""
        return [info.month for info in await self._engine.storage.months()]

    async def health(self) -> Health:
        """How the engine is, with a sentence for each thing that is wrong."""
        return await self._overview.health()

    @property
    def _overview(self) -> Overview:
        return Overview(self._engine, self._settings.clock)

    # ── steering; `by` names the actor ──────────────────────────────────────────────────────────────────────────────

    async def cancel_job(self, id: int, *, by: str | None = None) -> bool:
        """Cancel a job. A waiting one ends at once; a running one is asked to, and ends Cancelled whatever comes out.

        Returns False if it has ended or does not exist.
        """
        id = checks.an_id("id", id)
        met = await self._engine.steering.cancel([id], by=_checked_actor(by))
        return met[id] in (Cancelling.CANCELLED, Cancelling.REQUESTED)

    async def cancel_jobs(
        self,
        *,
        ids: Sequence[int] = (),
        states: Sequence[JobState] = (),
        worker: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        batch_id: str | None = None,
        all: bool = False,
        by: str | None = None,
    ) -> BulkResult:
        """Cancel every unfinished job that matches all that is given; `all=True` without a filter: every one.

        Returns the ids that were cancelled, and a sentence for each of `ids` that could not be.
        Raises `InvalidOption` without a filter and without `all`.
        """
        wanted = job_filter(ids=ids, states=states, worker=worker, queue=queue, tag=tag, batch_id=batch_id)
        _check_filter("cancel_jobs", all, ids, states, worker, queue, tag, batch_id)
        result, by = BulkResult(ids=[], errors={}), _checked_actor(by)
        if ids and not any((states, worker, queue, tag, batch_id)):
            await self._cancel_some(list(wanted.ids), by, result)
            return result
        unfinished = tuple(state for state in wanted.states or UNFINISHED if not state.is_final)
        if not unfinished:
            return result
        async for page in self._matching(replace(wanted, states=unfinished)):
            await self._cancel_some(page, by, result)
        return result

    async def requeue_failed_job(self, id: int, *, dependents: bool = False, by: str | None = None) -> JobRef[Any]:
        """Run a failed or cancelled job again: same id, full retry budget, what it left is kept as history.

        dependents: also the jobs that were cancelled because of it.
        Raises `JobNotFound`, `JobNotFailed`, `ArchiveMissing`, `DuplicateUniqueKey`.
        """
        id = checks.an_id("id", id)
        dependents, by = checks.a_bool("dependents", dependents), _checked_actor(by)
        error = (await self._engine.steering.requeue([id], dependents=dependents, by=by))[id]
        if error is not None:
            raise error
        found = await self.get_job(id)
        return JobRef(id, found.summary.ref_id if found else "", follower=_Follower(self))

    async def requeue_failed_jobs(
        self,
        *,
        ids: Sequence[int] = (),
        command: str | None = None,
        tag: str | None = None,
        batch_id: str | None = None,
        since: datetime | None = None,
        all: bool = False,
        by: str | None = None,
    ) -> BulkResult:
        """Run every failed job again that matches all that is given; `all=True` without a filter: every one.

        Cancelled jobs are taken only if named in `ids`. Raises `InvalidOption` without a filter and without `all`.
        """
        _check_filter("requeue_failed_jobs", all, ids, command, tag, batch_id, since)
        states = (JobState.FAILED, JobState.CANCELLED) if ids else (JobState.FAILED,)
        wanted = job_filter(ids=ids, states=states, command=command, tag=tag, batch_id=batch_id, since=since)
        result, by = BulkResult(ids=[], errors={}), _checked_actor(by)
        if ids and not any((command, tag, batch_id, since)):
            await self._requeue_some(list(wanted.ids), by, result)
            return result
        async for page in self._matching(wanted):
            await self._requeue_some(page, by, result)
        return result

    async def replay_job(self, id: int, *, by: str | None = None) -> JobRef[Any]:
        """Enqueue a new job with the same command, request and options as a finished or unfinished one, which stays as
        it is.

        Dates, dependencies and keys of the old one are not taken over. Raises `JobNotFound`, `ArchiveMissing`.
        """
        return await self._engine.steering.replay(checks.an_id("id", id), self._engine.enqueuer, by=_checked_actor(by))

    async def update_job(
        self,
        id: int,
        *,
        run_after: datetime | timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        by: str | None = None,
    ) -> bool:
        """Change a job while it is Queued; what is None stays. Returns False if it is not waiting.

        Raises `InvalidOption`.
        """
        _checked_actor(by)
        now = self._settings.clock.now()
        changes: dict[str, int | str] = {}
        if run_after is not None:
            changes["run_after"] = checks.a_moment("run_after", run_after, now=now)
        if priority is not None:
            changes["priority"] = checks.an_integer("priority", priority)
        if queue is not None:
            changes["queue"] = checks.a_name("queue", queue)
        return await self._engine.steering.update(checks.an_id("id", id), changes)

    # ── hooks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_finished(self, hook: Callable[[Job], Awaitable[None] | None], /) -> Callable[[], None]:
        """Call `hook` once for each job that ends in this process, with its final record; it can never change it.

        Returns what removes it. A hook that raises is logged. Hooks can be added before the context is entered.
        """
        return self._hooks.add(_checked_hook("on_finished", hook), only_failed=False)

    def on_failed(self, hook: Callable[[Job], Awaitable[None] | None], /) -> Callable[[], None]:
        """The same for jobs that end Failed."""
        return self._hooks.add(_checked_hook("on_failed", hook), only_failed=True)

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def wait_until_idle(self, timeout: float | timedelta | None = None) -> None:
        """Wait until no job runs and none could: what is left waits for a date, a parent, or another process.

        timeout: seconds; None: as long as it takes. Raises `TimeoutError`.
        """
        async with asyncio.timeout(checks.seconds_or_none("timeout", timeout)):
            await self._engine.supervisor.until_idle()

    # ── small parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _matching(self, wanted: JobFilter) -> AsyncGenerator[list[int]]:
        after: int | None = None
        while rows := await self._engine.storage.find(wanted, after=after, limit=PAGE):
            yield [row.id for row in rows]
            after = rows[-1].id

    async def _cancel_some(self, ids: list[int], by: str | None, result: BulkResult) -> None:
        for id, met in (await self._engine.steering.cancel(ids, by=by)).items():
            if met in (Cancelling.CANCELLED, Cancelling.REQUESTED):
                result.ids.append(id)
            elif met is Cancelling.UNKNOWN:
                result.errors[id] = "not found"
            else:
                result.errors[id] = "can only cancel incomplete jobs"

    async def _requeue_some(self, ids: list[int], by: str | None, result: BulkResult) -> None:
        for id, error in (await self._engine.steering.requeue(ids, dependents=False, by=by)).items():
            if error is None:
                result.ids.append(id)
            else:
                result.errors[id] = str(error)


class _Follower:
    """Follows jobs for `JobRef`, in whatever engine its BackgroundJobs runs by then."""

    def __init__(self, jobs: BackgroundJobs) -> None:
        self._jobs = jobs

    async def wait(self, id: int | str, timeout: float | None) -> JobResult:
        return await self._jobs._engine.lookup.wait(id, timeout)  # noqa: SLF001  a part of it

    async def result(self, id: int | str, timeout: float | None) -> Any:
        return await self._jobs._engine.lookup.result(id, timeout)  # noqa: SLF001

    async def cancel(self, id: int | str) -> bool:
        if isinstance(id, str):
            found = await self._jobs.get_job_by_ref_id(id)
            return found is not None and await self._jobs.cancel_job(found.summary.id)
        return await self._jobs.cancel_job(id)


def _loop_here() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _checked_queues(queues: object) -> dict[str, int] | None:
    if queues is None:
        return None
    if not isinstance(queues, Mapping) or not queues:
        raise InvalidOption(f"queues must be a mapping of queue names to how many jobs run at once, got {queues!r}.")
    return {
        checks.a_name("queues", name): checks.an_integer("queues", count, least=1) for name, count in queues.items()
    }


def _checked_retention(retention: object) -> timedelta | None:
    if retention is not None and not (isinstance(retention, timedelta) and retention > timedelta()):
        raise InvalidOption(f"retention must be a timedelta above 0, or None to keep everything, got {retention!r}.")
    return retention


def _checked_users(users: Callable[[str], Awaitable[Any | None]] | None) -> Callable[[str], Awaitable[Any]] | None:
    if users is not None and not callable(users):
        raise InvalidOption(f"users must be an async function from a user id to a user, got {users!r}.")
    return users


def _checked_actor(by: str | None) -> str | None:
    return None if by is None else checks.a_name("by", by)


def _checked_hook(
    method: str, hook: Callable[[Job], Awaitable[None] | None]
) -> Callable[[Job], Awaitable[None] | None]:
    if not callable(hook):
        raise InvalidOption(f"{method} needs a function that takes a Job, got {checks.shown(hook)}.")
    return hook


def _checked(option: str, value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise InvalidOption(f"{option} must be a {kind.__module__}.{kind.__qualname__}, got {value!r}.")
    return value


def _checked_threads(threads: int | None) -> int:
    return min(32, (os.cpu_count() or 1) + 4) if threads is None else checks.an_integer("threads", threads, least=1)


def _check_filter(method: str, all_of_them: bool, *filters: object) -> None:
    if not all_of_them and not any(filters):
        raise InvalidOption(f"{method} needs a filter, such as ids= or tag=. To take every job, say all=True.")
