"""Changing jobs from outside: cancel, requeue, update.

On SQLite only the executing process changes an existing job's state. In that process these act directly; another one
leaves an intent in the storage and waits for the answer; if nobody executes, it takes that role for the one operation.
So every action here takes and gives plain JSON data. On a server every process acts directly, and what is left to the
owner of a job is to end its code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from commandjobs import errors
from commandjobs.clock import Clock
from commandjobs.errors import ArchiveMissing, DuplicateUniqueKey, ErrorCode, JobNotFailed, JobNotFound
from commandjobs.model.moment import month_of
from commandjobs.model.node import NodeRow
from commandjobs.model.settle import requeue
from commandjobs.model.state import JobState
from commandjobs.storage.base import Cancelling, Found, Intent, NobodyExecutes

if TYPE_CHECKING:
    from commandjobs.ref import JobRef
    from commandjobs.runtime.dispatcher import Dispatcher
    from commandjobs.runtime.enqueue import Enqueuer
    from commandjobs.runtime.waiters import Waiters, Watch
    from commandjobs.storage.base import Storage

DEADLINE = 10.0
"""Seconds that another process has to answer."""


class Steering:
    """Does what is asked of jobs, here or through the process that may."""

    def __init__(
        self, *, storage: Storage, dispatcher: Dispatcher, waiters: Waiters, clock: Clock, node: NodeRow
    ) -> None:
        """What it acts on."""
        self._storage = storage
        self._dispatcher = dispatcher
        self._waiters = waiters
        self._clock = clock
        self._node = node
        self._tasks: set[asyncio.Task[Any]] = set()
        self.role = asyncio.Lock()
        """Held while this process becomes the executing one, be it for one operation only."""

    async def cancel(self, ids: Sequence[int], *, by: str | None) -> dict[int, Cancelling]:
        """Cancel jobs; says what each cancellation met."""
        answers = await self._to_its_end("cancel", {"ids": list(ids), "by": by})
        return {id: Cancelling(answer) for id, answer in zip(ids, answers, strict=True)}

    async def requeue(self, ids: Sequence[int], *, dependents: bool, by: str | None) -> dict[int, Exception | None]:
        """Bring failed and cancelled jobs back; gives the error for each that could not be."""
        answers = await self._to_its_end("requeue", {"ids": list(ids), "dependents": dependents, "by": by})
        return {id: _error_from(answer) for id, answer in answers}

    async def update(self, id: int, changes: dict[str, int | str]) -> bool:
        """Change a waiting job."""
        return bool(await self._to_its_end("update", {"id": id, "changes": changes}))

    async def replay(self, id: int, enqueuer: Enqueuer, *, by: str | None) -> JobRef[Any]:
        """Store a new job like an existing one."""
        found = await self._storage.job(id)
        if found is None:
            raise JobNotFound(f"There is no job with id {id}.")
        if found.row is None:
            raise _archive_missing(found, "replayed")
        return await enqueuer.enqueue_like(found.row, by=by)

    async def serve(self, intent: Intent) -> None:
        """Do what another process asks for, and answer."""
        await self._storage.answer(intent, await self._here(intent.action, intent.arguments))

    async def flush(self) -> None:
        """Wait for what nobody waits for any more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DEADLINE)

    async def _to_its_end(self, action: str, arguments: dict[str, Any]) -> Any:
        """Also if the caller is cancelled: between what is stored and what this process does about it lies no exit."""
        task = asyncio.get_running_loop().create_task(self._act(action, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    async def _act(self, action: str, arguments: dict[str, Any]) -> Any:
        while not await self._executes():
            try:
                return await self._storage.steer(action, arguments, timeout=DEADLINE)
            except NobodyExecutes:
                async with self.role:
                    if not self._storage.executes and await self._storage.try_execute():
                        return await self._in_nobodys_place(action, arguments)
        return await self._here(action, arguments)

    async def _executes(self) -> bool:
        async with self.role:
            return self._storage.executes

    async def _in_nobodys_place(self, action: str, arguments: dict[str, Any]) -> Any:
        try:
            return await self._here(action, arguments)
        finally:
            await self._storage.resign()

    async def _here(self, action: str, arguments: dict[str, Any]) -> Any:
        if action == "cancel":
            return [answer.value for answer in await self._cancel(arguments["ids"], arguments["by"])]
        if action == "requeue":
            return await self._requeue_all(arguments["ids"], dependents=arguments["dependents"])
        return await self._update(arguments["id"], arguments["changes"])

    # ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _cancel(self, ids: Sequence[int], by: str | None) -> list[Cancelling]:
        now = self._clock.now()
        waiting = [id for id in ids if self._dispatcher.is_waiting(id)]
        met = dict.fromkeys(waiting, Cancelling.CANCELLED)
        others = [id for id in ids if id not in met]
        if waiting:
            await self._cancel_waiting_here(waiting, by, now)
        if others:
            met |= await self._cancel_stored(others, by, now)
        return [met[id] for id in ids]

    async def _cancel_waiting_here(self, ids: Sequence[int], by: str | None, now: int) -> None:
        with ExitStack() as watching:
            watches = [watching.enter_context(self._waiters.watch(id)) for id in ids]
            for id in ids:
                self._dispatcher.cancel(id, by=by, now=now)
            await asyncio.wait(watches, timeout=DEADLINE)

    async def _cancel_stored(self, ids: Sequence[int], by: str | None, now: int) -> dict[int, Cancelling]:
        with ExitStack() as watching:
            watches = {id: watching.enter_context(self._waiters.watch(id)) for id in ids}
            answers = await self._storage.cancel(ids, by=by, now=now, claim=self._dispatcher.fetcher.claim)
            met = dict(zip(ids, answers, strict=True))
            asked = {id: watches[id] for id, answer in met.items() if answer is Cancelling.REQUESTED}
            if not self._dispatcher.active:  # this process stops, or stands in for a dead one: no job will come here
                for id in asked:
                    self._dispatcher.cancel(id, by=by, now=now)
                return met
            for id in await self._elsewhere(list(asked)):
                del asked[id]  # its node hears of it
            for id, watch in list(asked.items()):
                if not watch.done() and self._dispatcher.cancel_on_arrival(id, by=by, now=now):
                    del asked[id]
            if len(asked) < len(met):
                self._dispatcher.fetcher.look()
            return met | await self._ends_of(asked)

    async def _elsewhere(self, ids: Sequence[int]) -> list[int]:
        """Which of these jobs another node owns."""
        if not (ids and self._storage.capabilities.many_nodes):
            return []
        rows = [found.row for found in await self._storage.jobs(ids)]
        return [row.id for row in rows if row is not None and row.owner not in {None, self._node.number}]

    async def _ends_of(self, asked: dict[int, Watch]) -> dict[int, Cancelling]:
        """What became of jobs that neither waited nor ran here when their cancellation came: one on its way from
        a claim ends Cancelled; one whose outcome was being written then may have ended otherwise.
        """
        if asked:
            await asyncio.wait(asked.values(), timeout=DEADLINE)
        ends = {id: watch.result() for id, watch in asked.items() if watch.done()}
        return {id: Cancelling.FINISHED for id, row in ends.items() if row and row.state is not JobState.CANCELLED}

    # ── requeue ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _requeue_all(self, ids: Sequence[int], *, dependents: bool) -> list[tuple[int, dict[str, str] | None]]:
        answers: list[tuple[int, dict[str, str] | None]] = []
        for id in ids:
            try:
                await self._requeue(id)
            except errors.CommandJobsError as error:
                answers.append((id, {"kind": type(error).__name__, "message": str(error)}))
                continue
            answers.append((id, None))
            if dependents:
                cancelled = await self._storage.cancelled_dependents(id)
                answers += await self._requeue_all(cancelled, dependents=True)
        return answers

    async def _requeue(self, id: int) -> None:
        found = await self._storage.job(id)
        _check_requeue(id, found)
        assert found is not None and found.row is not None  # noqa: PT018  checked above
        now = self._clock.now()
        row = requeue(found.row)
        claim = self._dispatcher.fetcher.admits(row.queue, row.priority)
        inserted = (await self._storage.reinsert([row], now=now, claim=claim))[0]
        if inserted is None:
            raise JobNotFailed(f"Job {id} was requeued or dropped by somebody else at the same moment.")
        if inserted.conflict == "unique_key":
            raise DuplicateUniqueKey(
                f"Job {id} cannot be requeued: job {inserted.id} holds its unique_key {row.unique_key!r}. "
                "Requeue it when that job has ended."
            )
        if inserted.claimed:
            self._dispatcher.offer([row])
        else:
            self._dispatcher.fetcher.look()

    # ── update ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _update(self, id: int, changes: dict[str, Any]) -> bool:
        now = self._clock.now()
        async with self._dispatcher.fetcher.fetching:  # or the job would be claimed again between release and change
            waiting = self._dispatcher.withdraw(id)
            if waiting is not None:
                await self._storage.release([waiting], now=now)
            done = await self._storage.update(id, now=now, **changes)
        self._dispatcher.fetcher.due_at(changes.get("run_after"))
        self._dispatcher.fetcher.look()
        return done


def _check_requeue(id: int, found: Found | None) -> None:
    if found is None:
        raise JobNotFound(f"There is no job with id {id}.")
    state = found.summary.state
    if state not in (JobState.FAILED, JobState.CANCELLED):
        raise JobNotFailed(f"Job {id} is {state}; only failed and cancelled jobs can be requeued.")
    if found.summary.error_code == ErrorCode.ATTEMPT_FAILED:
        raise JobNotFailed(
            f"Job {id} belonged to an attempt that did not succeed, and is never revived: the attempt that does "
            "succeed enqueues its own."
        )
    if found.row is None:
        raise _archive_missing(found, "requeued")


def _archive_missing(found: Found, what: str) -> ArchiveMissing:
    month = month_of(found.summary.created)
    return ArchiveMissing(
        f"Job {found.summary.id} cannot be {what}: the archive of its month {month:%Y-%m} is not there."
    )


def _error_from(answer: dict[str, str] | None) -> Exception | None:
    if answer is None:
        return None
    kind = getattr(errors, answer["kind"], errors.CommandJobsError)
    error: Exception = kind(answer["message"])
    return error
