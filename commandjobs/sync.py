"""The blocking face: a portal into the async core, with no logic of its own.

Calls run as tasks on the engine's loop, in the caller's context, so that `current_job()` is the caller's there too.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from typing_extensions import TypeVar, TypeVarTuple, Unpack

from commandjobs import checks
from commandjobs.errors import StorageUnavailable, WouldDeadlock
from commandjobs.options import InThread
from commandjobs.ref import JobRef, SyncJobRef

if TYPE_CHECKING:
    from commandjobs.command import Command
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.model.job import Attempt, BulkResult, Job, JobPage, JobResult, LogLine
    from commandjobs.model.overview import CommandInfo, Health, NodeInfo, QueueInfo, WorkerStats
    from commandjobs.model.state import JobState
    from commandjobs.options import JobOptions
    from commandjobs.runtime.commands import Commands
    from commandjobs.runtime.enqueue import Enqueuer
    from commandjobs.runtime.transient import TransientJob

Args = TypeVarTuple("Args")
R = TypeVar("R")
Req = TypeVar("Req")
T = TypeVar("T")


class SyncBackgroundJobs:
    """Every method of `BackgroundJobs` as a blocking one, for any thread but the loop's.

    Entered (`with jobs.sync:`) it starts the engine on a loop in a thread of its own if none runs yet. A call on the
    loop's own thread would wait for itself and raises `WouldDeadlock`.
    """

    def __init__(self, jobs: BackgroundJobs, *, commands: Commands, enqueuer: Callable[[], Enqueuer]) -> None:
        """`BackgroundJobs.sync` makes it. enqueuer: that of the engine, once it runs."""
        self._jobs = jobs
        self._commands = commands
        self._enqueuer = enqueuer
        self._own: _LoopThread | None = None
        self._inside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Start the engine in a thread of its own, unless it runs already."""
        with self._lock:
            if self._jobs.loop is None:
                self._start_own()
            self._inside += 1
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        """Stop what `__enter__` has started, gracefully, when the last thread leaves that has entered."""
        with self._lock:
            self._inside -= 1
            own = self._own
            if own is None or self._inside:
                return
            try:
                own.call(lambda: self._jobs.__aexit__(t, e, tb))
            finally:
                self._stop_own()

    def _start_own(self) -> None:
        self._own = _LoopThread()
        try:
            self._own.call(self._jobs.__aenter__)
        except BaseException:
            self._stop_own()
            raise

    def _stop_own(self) -> None:
        if self._own is not None:
            self._own.stop()
            self._own = None

    def _run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run on the engine's loop, in the caller's context, and block for the result."""
        loop = self._jobs.loop
        if loop is None:
            raise StorageUnavailable("This BackgroundJobs is not entered. Use it inside `with jobs.sync:`.")
        check_loop(loop)
        return _call_on(loop, call)

    def _ref(self, ref: JobRef[R]) -> SyncJobRef[R]:
        return SyncJobRef(ref, self._run)

    # ── durable ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def enqueue_command(
        self, command: type[Command[*Args, R]], /, *request: *Args, **options: Unpack[JobOptions[R]]
    ) -> SyncJobRef[R]:
        """`BackgroundJobs.enqueue_command`, blocking. With `connection=` it runs in this thread, on that connection."""
        if "connection" in options:
            definition, enqueuer = self._commands.of(command), self._joining(options)
            return self._ref(finished(enqueuer.enqueue(definition, request, _in_thread(options))))
        return self._ref(self._run(lambda: self._jobs.enqueue_command(command, *request, **options)))

    def enqueue_many(
        self, command: type[Command[Req, R]], requests: Iterable[Req], /, **options: Unpack[JobOptions[R]]
    ) -> list[SyncJobRef[R]]:
        """`BackgroundJobs.enqueue_many`, blocking. With `connection=` it runs in this thread, on that connection."""
        if "connection" in options:
            definition, enqueuer = self._commands.of(command), self._joining(options)
            many = finished(enqueuer.enqueue_many(definition, requests, _in_thread(options)))
            return [self._ref(ref) for ref in many]
        return [self._ref(ref) for ref in self._run(lambda: self._jobs.enqueue_many(command, requests, **options))]

    def enqueue_json(
        self, name: str, request_json: str | None, /, **options: Unpack[JobOptions[Any]]
    ) -> SyncJobRef[Any]:
        """`BackgroundJobs.enqueue_json`, blocking. With `connection=` it runs in this thread, on that connection."""
        if "connection" in options:
            definition, enqueuer = self._commands.definition(checks.a_name("name", name)), self._joining(options)
            return self._ref(finished(enqueuer.enqueue_json(definition, request_json, _in_thread(options))))
        return self._ref(self._run(lambda: self._jobs.enqueue_json(name, request_json, **options)))

    def _joining(self, options: Mapping[str, Any]) -> Enqueuer:
        """The enqueuer, for a job of the caller's own transaction. What needs the engine's loop is done before."""
        enqueuer = self._enqueuer()
        if self._jobs.loop is not None:
            check_loop(self._jobs.loop)
        mark = enqueuer.to_be_marked(options["depends_on"]) if "depends_on" in options else None
        if mark is not None:
            self._run(mark)
        return enqueuer

    # ── transient ───────────────────────────────────────────────────────────────────────────────────────────────────

    def run_command(
        self, command: type[Command[*Args, R]], /, *request: *Args, **options: Unpack[JobOptions[R]]
    ) -> TransientJob[R]:
        """`BackgroundJobs.run_command` from another thread; `wait()` for the result."""

        async def start() -> TransientJob[R]:
            return self._jobs.run_command(command, *request, **options)

        return self._run(start)

    def run_command_async(
        self, command: type[Command[*Args, R]], /, *request: *Args, **options: Unpack[JobOptions[R]]
    ) -> R:
        """`BackgroundJobs.run_command_async`, blocking: run now, in memory, and return the result."""
        return self._run(lambda: self._jobs.run_command_async(command, *request, **options))

    def transient_jobs(self) -> list[TransientJob[Any]]:
        """`BackgroundJobs.transient_jobs`."""
        return self._jobs.transient_jobs()

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def ref(self, id: int | str, command: None = None, /) -> SyncJobRef[Any]: ...
    @overload
    def ref(self, id: int | str, command: type[Command[*Args, R]], /) -> SyncJobRef[R]: ...
    def ref(self, id: int | str, command: type[Command[*Args, R]] | None = None, /) -> SyncJobRef[R]:
        """`BackgroundJobs.ref`: a handle whose methods block."""
        return self._ref(self._jobs.ref(id, command))

    def get_job(self, id: int) -> JobResult | None:
        """`BackgroundJobs.get_job`, blocking."""
        return self._run(lambda: self._jobs.get_job(id))

    def get_job_by_ref_id(self, ref_id: str) -> JobResult | None:
        """`BackgroundJobs.get_job_by_ref_id`, blocking."""
        return self._run(lambda: self._jobs.get_job_by_ref_id(ref_id))

    def get_jobs(self, ids: Sequence[int]) -> list[JobResult]:
        """`BackgroundJobs.get_jobs`, blocking."""
        return self._run(lambda: self._jobs.get_jobs(ids))

    def find_jobs(
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
        """`BackgroundJobs.find_jobs`, blocking."""
        return self._run(
            lambda: self._jobs.find_jobs(
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
                limit=limit,
                after=after,
            )
        )

    def get_logs(self, id: int, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """`BackgroundJobs.get_logs`, blocking."""
        return self._run(lambda: self._jobs.get_logs(id, after=after, limit=limit))

    def get_attempts(self, id: int) -> list[Attempt]:
        """`BackgroundJobs.get_attempts`, blocking."""
        return self._run(lambda: self._jobs.get_attempts(id))

    def get_commands(self) -> list[CommandInfo]:
        """`BackgroundJobs.get_commands`, blocking."""
        return self._run(self._jobs.get_commands)

    def get_workers(self) -> list[WorkerStats]:
        """`BackgroundJobs.get_workers`, blocking."""
        return self._run(self._jobs.get_workers)

    def get_queues(self) -> list[QueueInfo]:
        """`BackgroundJobs.get_queues`, blocking."""
        return self._run(self._jobs.get_queues)

    def get_nodes(self) -> list[NodeInfo]:
        """`BackgroundJobs.get_nodes`, blocking."""
        return self._run(self._jobs.get_nodes)

    def months(self) -> list[date]:
        """`BackgroundJobs.months`, blocking."""
        return self._run(self._jobs.months)

    def health(self) -> Health:
        """`BackgroundJobs.health`, blocking."""
        return self._run(self._jobs.health)

    # ── steering ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel_job(self, id: int, *, by: str | None = None) -> bool:
        """`BackgroundJobs.cancel_job`, blocking."""
        return self._run(lambda: self._jobs.cancel_job(id, by=by))

    def cancel_jobs(
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
        """`BackgroundJobs.cancel_jobs`, blocking."""
        return self._run(
            lambda: self._jobs.cancel_jobs(
                ids=ids, states=states, worker=worker, queue=queue, tag=tag, batch_id=batch_id, all=all, by=by
            )
        )

    def requeue_failed_job(self, id: int, *, dependents: bool = False, by: str | None = None) -> SyncJobRef[Any]:
        """`BackgroundJobs.requeue_failed_job`, blocking."""
        return self._ref(self._run(lambda: self._jobs.requeue_failed_job(id, dependents=dependents, by=by)))

    def requeue_failed_jobs(
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
        """`BackgroundJobs.requeue_failed_jobs`, blocking."""
        return self._run(
            lambda: self._jobs.requeue_failed_jobs(
                ids=ids, command=command, tag=tag, batch_id=batch_id, since=since, all=all, by=by
            )
        )

    def replay_job(self, id: int, *, by: str | None = None) -> SyncJobRef[Any]:
        """`BackgroundJobs.replay_job`, blocking."""
        return self._ref(self._run(lambda: self._jobs.replay_job(id, by=by)))

    def update_job(
        self,
        id: int,
        *,
        run_after: datetime | timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        by: str | None = None,
    ) -> bool:
        """`BackgroundJobs.update_job`, blocking."""
        return self._run(lambda: self._jobs.update_job(id, run_after=run_after, priority=priority, queue=queue, by=by))

    # ── hooks and waiting ───────────────────────────────────────────────────────────────────────────────────────────

    def on_finished(self, hook: Callable[[Job], Awaitable[None] | None], /) -> Callable[[], None]:
        """`BackgroundJobs.on_finished`; the hook is called on the loop's thread."""
        return self._jobs.on_finished(hook)

    def on_failed(self, hook: Callable[[Job], Awaitable[None] | None], /) -> Callable[[], None]:
        """`BackgroundJobs.on_failed`; the hook is called on the loop's thread."""
        return self._jobs.on_failed(hook)

    def wait_until_idle(self, timeout: float | timedelta | None = None) -> None:
        """`BackgroundJobs.wait_until_idle`, blocking."""
        self._run(lambda: self._jobs.wait_until_idle(timeout))


def _in_thread(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "connection": InThread(options["connection"])}


class _LoopThread:
    """A loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="commandjobs loop", daemon=True)
        self._thread.start()

    def call(self, call: Callable[[], Awaitable[T]]) -> T:
        return _call_on(self._loop, call)

    def stop(self) -> None:
        """Stop the loop, or let it run on for code that has not ended although it was told to."""
        if self.call(_nothing_runs_on):
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        else:
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(_stop_when_all_has_ended()))

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()


async def _nothing_runs_on() -> bool:
    """Whether all tasks of the loop but this one end within their next turns."""
    for _ in range(10):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            return True
        await asyncio.sleep(0)
    return False


async def _stop_when_all_has_ended() -> None:
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    asyncio.get_running_loop().stop()


def finished(work: Awaitable[T]) -> T:
    """The result of what waits for nothing but this thread's own connection, so it needs no loop."""
    steps = work.__await__()
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise WouldDeadlock(
        "This enqueue has to look into the database by a connection of the engine's, so it cannot be made on the "
        "thread of the engine's own loop, which would wait for itself. Use the async methods there, or a thread."
    )


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise `StorageUnavailable` if the engine's loop cannot run anything: a call would wait for ever."""
    if loop.is_running():
        return
    state = "closed" if loop.is_closed() else "not running"
    raise StorageUnavailable(
        f"The event loop that this BackgroundJobs was entered on is {state}, so nothing of it runs. Leave the context "
        "before its loop ends (`async with`), and make and enter another one; or use `with jobs.sync:`, which brings a "
        "loop of its own."
    )


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[T]]) -> T:
    """Run `call` as a task on the loop, in this thread's context, and block for its result."""
    _refuse_loop_thread(loop)
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    async def run() -> None:
        try:
            result = await call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(result)

    def start(coroutine: Coroutine[Any, Any, None]) -> None:
        tasks.append(loop.create_task(coroutine, context=context))

    tasks: list[asyncio.Task[None]] = []
    context = copy_context()
    loop.call_soon_threadsafe(start, run())
    try:
        return done.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(lambda: tasks and tasks[0].cancel())
        raise


def _refuse_loop_thread(loop: asyncio.AbstractEventLoop) -> None:
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        return
    if here is loop:
        raise WouldDeadlock(
            "jobs.sync was called on the thread of the engine's own loop, which would wait for itself. Use the async "
            "methods there, or call it from a thread (asyncio.to_thread)."
        )
