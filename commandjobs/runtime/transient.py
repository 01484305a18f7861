"""Runs in memory: no row anywhere. The same executor, lanes, timeout and user as stored jobs, in the process of the
call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from commandjobs import checks
from commandjobs.clock import Clock, sleep_until_set
from commandjobs.context import running
from commandjobs.errors import InvalidRequest, JobCancelled, JobTimeout, WouldDeadlock
from commandjobs.model.job import JobError, LogLine
from commandjobs.model.moment import to_datetime
from commandjobs.model.outcome import Cancelled, Failed, Outcome, Snoozed, Succeeded
from commandjobs.model.retry import RetryPolicy, delay_before
from commandjobs.model.row import JobRow, LogRow
from commandjobs.model.settle import begin
from commandjobs.model.state import JobState
from commandjobs.options import OptionDefaults, resolve_transient
from commandjobs.runtime.execution import EndedBy, Execution
from commandjobs.runtime.executor import outcome_of
from commandjobs.runtime.worker import lanes_of

if TYPE_CHECKING:
    from commandjobs.definition import CommandDefinition
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.runtime.commands import Commands
    from commandjobs.runtime.deadlines import Deadlines
    from commandjobs.runtime.executor import Executor
    from commandjobs.runtime.statistics import Statistics
    from commandjobs.runtime.worker import LocalLanes

R = TypeVar("R")

_COUNTED: dict[type, str] = {Succeeded: "Completed", Failed: "Failed", Cancelled: "Cancelled"}


class TransientJob(Generic[R]):
    """A live, in-memory job: no row anywhere. Await it for its result, or `wait` for it in a thread."""

    def __init__(self, row: JobRow, request: Any, *, loop: asyncio.AbstractEventLoop) -> None:
        """`BackgroundJobs.run_command` makes it."""
        self.command = row.command
        """Stored name of the command."""
        self.request = request
        """The request it was given."""
        self.state = JobState.QUEUED
        self.worker = row.worker
        self.created: datetime = to_datetime(row.created)
        self.started: datetime | None = None
        self.completed: datetime | None = None
        self.error: JobError | None = None
        """What went wrong, if it failed."""
        self._row = row
        self._loop = loop
        self._logs: list[LogLine] = []
        self._execution: Execution | None = None
        self._cancelled = False
        self._waiting_task: asyncio.Task[Any] | None = None
        self._done: concurrent.futures.Future[R] = concurrent.futures.Future()
        self._lanes = lanes_of(row.worker, row.concurrency_key)

    @property
    def progress(self) -> float | None:
        """What the code reported, 0 to 1."""
        return self._row.progress

    @property
    def status(self) -> str | None:
        """What the code reported."""
        return self._row.status

    @property
    def logs(self) -> Sequence[LogLine]:
        """Its log so far."""
        if self._execution is not None:
            self._logs += [_line(len(self._logs) + n, row) for n, row in enumerate(self._execution.take_logs(), 1)]
        return tuple(self._logs)

    def cancel(self) -> bool:
        """Cancel it, from any thread: True if it had not ended."""
        if self._done.done():
            return False
        self._loop.call_soon_threadsafe(self._cancel)
        return True

    def wait(self, timeout: float | timedelta | None = None) -> R:
        """Block the calling thread until it has ended; never on the loop's thread (`WouldDeadlock`).

        timeout: seconds; None: as long as it takes. Raises what the command raised, `JobCancelled`, `JobTimeout`, and
        `TimeoutError` when this wait ran out.
        """
        self._refuse_loop_thread()
        self.refuse_deadlock()
        seconds = None if timeout is None else checks.a_number_of_seconds("timeout", timeout)
        return self._done.result(seconds)

    def __await__(self) -> Generator[Any, None, R]:
        self.refuse_deadlock()
        return self._result().__await__()

    async def _result(self) -> R:
        """Wait without touching the run: one who stops waiting neither ends it nor leaves its error unread."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def wake(_: concurrent.futures.Future[R]) -> None:
            with suppress(RuntimeError):  # the loop of the one who waited is closed
                loop.call_soon_threadsafe(ended.set)

        self._done.add_done_callback(wake)
        await ended.wait()
        return self._done.result()

    def _cancel(self) -> None:
        self._cancelled = True
        if self._execution is not None and self._execution.outcome is None:
            self._execution.end(EndedBy.CANCEL)
        elif self._waiting_task is not None:
            self._waiting_task.cancel()

    def _refuse_loop_thread(self) -> None:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return
        if here is self._loop:
            raise WouldDeadlock(
                "TransientJob.wait() blocks the loop's own thread, where the job would have to run. Await it instead."
            )

    def refuse_deadlock(self) -> None:
        """Raise `WouldDeadlock` if the code that would wait here holds what this run waits for."""
        caller = running.get(None)
        while self.state is JobState.QUEUED and isinstance(caller, Execution):
            held = set(caller.lanes) & set(self._lanes)
            if held:
                raise WouldDeadlock(
                    f"{caller.row.command} waits for {self.command}, which waits for the {min(held)} that "
                    f"{caller.row.command} holds. Run it without that worker, or enqueue it."
                )
            caller = caller.caller


class TransientRuns:
    """Starts transient runs, and ends them with the engine."""

    def __init__(
        self,
        *,
        jobs: BackgroundJobs,
        commands: Commands,
        executor: Executor,
        lanes: LocalLanes,
        deadlines: Deadlines,
        statistics: Statistics,
        defaults: OptionDefaults,
        clock: Clock,
        random: Random,
        node_name: str,
        context: Context,
        ended: asyncio.Event,
    ) -> None:
        """lanes: those of this process, shared with its stored jobs. ended: set when a run has ended."""
        self._jobs = jobs
        self._commands = commands
        self._executor = executor
        self._lanes = lanes
        self._deadlines = deadlines
        self._statistics = statistics
        self._defaults = defaults
        self._clock = clock
        self._random = random
        self._node_name = node_name
        self._context = context
        self._ended = ended
        self._live: dict[TransientJob[Any], asyncio.Task[None]] = {}

    def start(
        self,
        definition: CommandDefinition,
        request: tuple[Any, ...],
        options: Mapping[str, Any],
        *,
        awaited: bool = False,
    ) -> TransientJob[Any]:
        """Start a run; returns at once. Called on the loop's thread. awaited: refuse what could not end then."""
        now = self._clock.now()
        resolved = resolve_transient(definition, options, defaults=self._defaults, now_us=now)
        callback = self._commands.callback(resolved.callback, definition) if resolved.callback else None
        if len(request) != (definition.request_codec is not None):
            raise InvalidRequest(
                f"Command {definition.name!r} takes {'one request' if definition.request_codec else 'no request'}, "
                f"got {len(request)}."
            )
        if definition.request_codec is not None:
            definition.request_codec.refuse_wrong_type(request[0])
        row = JobRow(
            ref_id="",
            command=definition.name,
            created=now,
            worker=resolved.worker,
            lane=resolved.worker,
            lane_key=resolved.concurrency_key,
            queue=resolved.queue,
            tags=resolved.tags,
            callback=resolved.callback,
            retry_limit=resolved.retry_limit,
            timeout=resolved.timeout_s,
            user_id=resolved.user_id,
            created_by=resolved.created_by,
            tenant_id=resolved.tenant_id,
            concurrency_key=resolved.concurrency_key,
            args=dict(resolved.args),
        )
        job: TransientJob[Any] = TransientJob(row, request[0] if request else None, loop=asyncio.get_running_loop())
        if awaited:
            job.refuse_deadlock()
        caller = running.get(None)
        run = self._run(job, definition, callback, caller if isinstance(caller, Execution) else None)
        task = asyncio.get_running_loop().create_task(run, context=self._context.copy())
        self._live[job] = task
        task.add_done_callback(lambda _: self._forget(job))
        return job

    @property
    def live(self) -> list[TransientJob[Any]]:
        """Runs that have not ended."""
        return list(self._live)

    def end_all(self) -> None:
        """Cancel what runs, since the engine stops."""
        for job in self.live:
            job._cancel()  # noqa: SLF001  its maker

    def _forget(self, job: TransientJob[Any]) -> None:
        self._live.pop(job, None)
        self._ended.set()

    async def _run(
        self,
        job: TransientJob[Any],
        definition: CommandDefinition,
        callback: CommandDefinition | None,
        caller: Execution | None,
    ) -> None:
        job._waiting_task = asyncio.current_task()  # noqa: SLF001
        try:
            result = await self._work(job, definition, job.request, caller)
            if callback is not None:
                job._row.state, job._row.work_done = JobState.EXECUTED, True  # noqa: SLF001
                job.state = JobState.EXECUTED
                await self._work(job, callback, result, caller)
        except BaseException as error:
            self._fail(job, error)
        else:
            self._end(job, JobState.COMPLETED)
            job._row.progress = 1.0  # noqa: SLF001
            job._done.set_result(result)  # noqa: SLF001

    def _fail(self, job: TransientJob[Any], error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = JobCancelled(f"The run of {job.command} was cancelled.")
        self._end(job, JobState.CANCELLED if isinstance(error, JobCancelled) else JobState.FAILED)
        job._done.set_exception(error)  # noqa: SLF001

    def _end(self, job: TransientJob[Any], state: JobState) -> None:
        job.state = state
        job.completed = to_datetime(self._clock.now())

    async def _work(
        self, job: TransientJob[Any], definition: CommandDefinition, request: Any, caller: Execution | None
    ) -> Any:
        """One command with its retries; returns its result or raises what it raised."""
        policy, retries = definition.retry or RetryPolicy(), 0
        row = job._row  # noqa: SLF001
        while True:
            execution, outcome = await self._attempt(job, definition, request, caller)
            match outcome:
                case Succeeded():
                    job.error = row.error_message = None
                    self._count(execution, "Completed")
                    return execution.result
                case Snoozed(delay):
                    await self._sleep(delay)
                case Cancelled():
                    self._count(execution, "Cancelled")
                    raise JobCancelled(f"The run of {job.command} was cancelled.")
                case Failed(error, retryable):
                    job.error, row.error_message = error, error.message
                    if not retryable or retries >= row.retry_limit:
                        self._count(execution, "Failed")
                        raise _raised(execution, error)
                    self._count(execution, "Retried")
                    retries += 1
                    await self._sleep(delay_before(policy, retries, self._random.random))
                case _:
                    raise JobCancelled(f"The run of {job.command} was ended: its process is stopping.")

    async def _attempt(
        self, job: TransientJob[Any], definition: CommandDefinition, request: Any, caller: Execution | None
    ) -> tuple[Execution, Outcome]:
        row = job._row  # noqa: SLF001
        lanes = job._lanes if not row.work_done else lanes_of(definition.worker, None)  # noqa: SLF001
        await self._take(lanes)
        try:
            execution = self._execution(job, definition, request, caller, lanes)
            execution.outcome = outcome = await self._perform(execution)
        finally:
            self._lanes.release(lanes)
        return execution, outcome

    def _execution(
        self,
        job: TransientJob[Any],
        definition: CommandDefinition,
        request: Any,
        caller: Execution | None,
        lanes: tuple[str, ...],
    ) -> Execution:
        job.logs  # noqa: B018  keeps the lines of the attempt before
        row = job._row  # noqa: SLF001
        execution = Execution(
            row,
            definition,
            jobs=self._jobs,
            context=self._context.copy(),
            done=lambda *_: None,
            transient=True,
            request=request,
        )
        execution.lanes, execution.caller = lanes, caller
        job._execution = execution  # noqa: SLF001
        begin(row, now=self._clock.now(), node=self._node_name)
        job.state = row.state
        job.started = job.started or to_datetime(row.started or 0)
        execution.begun = self._clock.monotonic()
        if row.timeout is not None:
            self._deadlines.watch(execution, execution.begun, row.timeout)
        if job._cancelled:  # noqa: SLF001
            execution.ended_by = EndedBy.CANCEL
        return execution

    async def _perform(self, execution: Execution) -> Outcome:
        if execution.ended_by is not None:
            return Cancelled()
        if execution.definition.kind == "sync":
            return await self._perform_sync(execution)
        perform = self._executor.perform(execution)
        task: asyncio.Task[Outcome] = asyncio.get_running_loop().create_task(perform, context=execution.context)
        execution.task = task
        return await task

    async def _perform_sync(self, execution: Execution) -> Outcome:
        prepare = self._executor.prepare_sync(execution)
        execution.task = asyncio.get_running_loop().create_task(prepare, context=execution.context)
        try:
            await execution.task
        except BaseException as error:
            return outcome_of(execution, error)
        finally:
            execution.task = None
        try:
            return await _in_thread(self._executor, execution)
        finally:
            await self._executor.close_sync(execution)

    async def _take(self, lanes: tuple[str, ...]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def granted() -> bool:
            wanted = not turn.done()
            if wanted:
                turn.set_result(None)
            return wanted

        if self._lanes.take(lanes, granted):
            return
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the lanes came just before the cancellation
                self._lanes.release(lanes)
            raise

    async def _sleep(self, seconds: float) -> None:
        await sleep_until_set(asyncio.Event(), seconds, self._clock)

    def _count(self, execution: Execution, outcome: str) -> None:
        row, command = execution.row, execution.definition.name
        took = (self._clock.monotonic() - (execution.begun or 0.0)) * 1000
        now = self._clock.now()
        self._statistics.ended(row, command=command, outcome=outcome, duration_ms=took, now=now, lane=None)


async def _in_thread(executor: Executor, execution: Execution) -> Outcome:
    """Run a sync attempt in a thread of its own: a shared pool could be full of runs that wait for this one."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome] = loop.create_future()

    def finish(outcome: Outcome) -> None:
        if not done.done():
            done.set_result(outcome)

    def work() -> None:
        outcome = execution.context.run(executor.perform_sync, execution)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, outcome)

    threading.Thread(target=work, name=f"commandjobs {execution.row.command}", daemon=True).start()
    return await done


def _raised(execution: Execution, error: JobError) -> BaseException:
    """What the caller of a transient run gets: the command's own exception, or `JobTimeout`."""
    if execution.ended_by is EndedBy.TIMEOUT:
        return JobTimeout(f"{execution.row.command}: {error.message}")
    result = execution.result
    return result if isinstance(result, BaseException) else RuntimeError(error.message)


def _line(sequence: int, row: LogRow) -> LogLine:
    return LogLine(
        sequence=sequence,
        at=to_datetime(row.at),
        level=row.level,
        logger=row.logger,
        message=row.message,
        exception=row.exception,
        attempt=row.attempt,
    )
