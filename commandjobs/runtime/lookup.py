"""Looking at jobs, and waiting for them: storage rows → the public records, with typed requests and results."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from commandjobs.clock import Clock
from commandjobs.context import running
from commandjobs.errors import JobCancelled, JobFailed, JobNotFound, ResultNotStored, WouldDeadlock
from commandjobs.model.job import Attempt, Job, JobError, JobResult
from commandjobs.model.row import JobRow, SummaryRow
from commandjobs.model.state import JobState
from commandjobs.model.views import attempts_of, to_job, to_summary
from commandjobs.runtime.execution import Execution
from commandjobs.runtime.worker import lanes_of
from commandjobs.storage.base import Found

if TYPE_CHECKING:
    from commandjobs.runtime.commands import Commands
    from commandjobs.runtime.dispatcher import Dispatcher
    from commandjobs.runtime.statistics import Statistics
    from commandjobs.runtime.waiters import Waiters
    from commandjobs.storage.base import Storage


class Lookup:
    """Reads jobs, and follows them to their end."""

    def __init__(
        self,
        *,
        storage: Storage,
        commands: Commands,
        dispatcher: Dispatcher,
        statistics: Statistics,
        waiters: Waiters,
        clock: Clock,
    ) -> None:
        """What it reads from."""
        self._storage = storage
        self._commands = commands
        self._dispatcher = dispatcher
        self._statistics = statistics
        self._waiters = waiters
        self._clock = clock

    async def job(self, key: int | str) -> JobResult | None:
        """A job by id or ref id."""
        found = await self._storage.job(key)
        return None if found is None else self.to_result(found)

    async def jobs(self, ids: Sequence[int]) -> list[JobResult]:
        """Several jobs; unknown ones are left out."""
        return [self.to_result(found) for found in await self._storage.jobs(ids)]

    async def attempts(self, id: int) -> list[Attempt]:
        """Every ended attempt of all runs of a job, oldest first."""
        return [attempt for row in await self._storage.runs(id) for attempt in attempts_of(row)]

    async def wait(self, key: int | str, timeout: float | None) -> JobResult:
        """Wait for the end of a job."""
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._wait(key)
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"Job {key} has not ended within {timeout:g} s; it goes on.") from None
            raise

    async def result(self, key: int | str, timeout: float | None) -> Any:
        """Wait for the typed result of a job."""
        result = await self.wait(key, timeout)
        job, state = result.job, result.summary.state
        if state is JobState.FAILED:
            raise JobFailed(job, job.error or JobError(code=job.error_code or "Failed", message=""))
        if state is JobState.CANCELLED:
            why = job.error.message if job.error is not None else "It was cancelled."
            raise JobCancelled(f"Job {job.id} ({job.command}) was cancelled: {why}")
        if job.response_body is None and "result" in job.meta:
            raise ResultNotStored(f"The result of job {job.id} ({job.command}) was not stored: {job.meta['result']}.")
        return result.response()

    def to_result(self, found: Found) -> JobResult:
        """The public record of what the storage found."""
        row = None if found.row is None else self._newest(found.row)
        job = None if row is None else self.to_job(row)
        summary = found.summary if row is None else SummaryRow.of(row)
        state = summary.state
        result = JobResult(
            summary=to_summary(summary),
            queued=job if not state.is_final else None,
            completed=job if state is JobState.COMPLETED else None,
            failed=job if state in (JobState.FAILED, JobState.CANCELLED) else None,
        )
        result._rebuild = partial(self._rebuild, found.row)  # noqa: SLF001  its own constructor cannot take it
        return result

    def to_job(self, row: JobRow) -> Job:
        """The public record of a row; of a job that runs here, with what it has reported by now."""
        shown = self._newest(row)
        usual = self._statistics.usual_ms(shown.command, shown.worker)
        following = shown.callback if shown.state is JobState.EXECUTED else shown.command
        known = self._commands.find(following or "") is not None
        job = to_job(shown, now=self._clock.now(), usual_ms=usual, known=known)
        return self._masked(job)

    def _newest(self, row: JobRow) -> JobRow:
        """The row of the attempt that runs here, which is ahead of the stored one; else the row itself."""
        execution = self._dispatcher.running.get(row.id)
        ahead = execution is not None and execution.row.run == row.run and not row.state.is_final
        return execution.row if execution is not None and ahead else row

    def _masked(self, job: Job) -> Job:
        """Secrets in a request or result are shown as `**********`; `request()` and `response()` give them in clear."""
        definition = self._commands.find(job.command)
        if definition is None:
            return job
        masked = {
            field: codec.mask(body)
            for field, codec, body in (
                ("request_body", definition.request_codec, job.request_body),
                ("response_body", definition.result_codec, job.response_body),
            )
            if codec is not None and codec.has_secrets and body is not None
        }
        return job.model_copy(update=masked) if masked else job

    async def _wait(self, key: int | str) -> JobResult:
        id = key if isinstance(key, int) else (await self._known(key)).summary.id
        while True:
            with self._waiters.watch(id) as watch:
                found = self._here(id) or await self._known(id)
                if found.summary.state.is_final:
                    return self.to_result(found)
                await self._refuse_deadlock(found)
                # Not `storage.executes`: a process that steers in nobody's place has the role, and runs nothing.
                # Where many nodes execute, a job may go to another one, even if it is owned here now.
                elsewhere = not self._dispatcher.active or self._storage.capabilities.many_nodes
                row = await self._waiters.wait(id, watch, elsewhere=elsewhere)
                if row is not None:
                    return self.to_result(Found(SummaryRow.of(row), row))

    def _here(self, id: int) -> Found | None:
        """A job that this process owns and that has not ended: nobody need read it."""
        row = self._dispatcher.owned(id)
        return None if row is None or row.state.is_final else Found(SummaryRow.of(row), row)

    async def _known(self, key: int | str) -> Found:
        found = await self._storage.job(key)
        if found is None:
            raise JobNotFound(f"There is no job with {'id' if isinstance(key, int) else 'ref id'} {key!r}.")
        return found

    async def _refuse_deadlock(self, found: Found) -> None:
        """Raise if the job that waits here is what the awaited one waits for."""
        execution = running.get(None)
        while isinstance(execution, Execution) and found.row is not None:
            await self._refuse_wait(execution, found.row)
            execution = execution.caller

    async def _refuse_wait(self, execution: Execution, row: JobRow) -> None:
        mine = execution.row
        who = f"A run of {mine.command}" if execution.transient else f"Job {mine.id} ({mine.command})"
        if not execution.transient and row.id == mine.id:
            raise WouldDeadlock(f"{who} waits for its own end. Read its result elsewhere, or in a callback.")
        held = set(execution.lanes) & set(lanes_of(row.lane, row.lane_key))
        if held:
            raise WouldDeadlock(
                f"{who} waits for job {row.id} ({row.command}), which waits for the {min(held)} that {mine.command} "
                "holds. Wait elsewhere, or give them different ones."
            )
        if not execution.transient and await self._depends_on(row.depends_on, mine.id):
            raise WouldDeadlock(
                f"{who} waits for job {row.id} ({row.command}), which depends on it. "
                "It starts when this job has ended: read its result elsewhere, or in a callback."
            )

    async def _depends_on(self, parents: Collection[int], wanted: int) -> bool:
        """Whether one of these jobs, or one they still wait for, is `wanted`."""
        seen: set[int] = set()
        level = set(parents)
        while level:
            if wanted in level:
                return True
            seen |= level
            unfinished = [f.row for f in await self._storage.jobs(sorted(level)) if f.row and not f.row.state.is_final]
            level = {parent for row in unfinished for parent in row.depends_on} - seen
        return False

    def _rebuild(self, row: JobRow | None, part: Literal["request", "response"]) -> Any:
        if row is None:
            return None
        body = row.request_body if part == "request" else row.response_body
        definition = self._commands.definition(row.command)
        codec = definition.request_codec if part == "request" else definition.result_codec
        return None if body is None or codec is None else codec.load(body)
