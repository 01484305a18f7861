"""The app's own functions that are told of final outcomes. They can never change one."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context

from commandjobs.model.job import Job
from commandjobs.model.row import JobRow
from commandjobs.model.state import JobState

log = logging.getLogger("commandjobs")

PATIENCE = 1.0
"""Seconds that hooks have to end when the engine stops."""

Hook = Callable[[Job], Awaitable[None] | None]


class RegisteredHooks:
    """The hooks of an app; they can be added before an engine runs, and outlive it."""

    def __init__(self) -> None:
        """None yet."""
        self._on_finished: list[Hook] = []
        self._on_failed: list[Hook] = []

    def add(self, hook: Hook, *, only_failed: bool) -> Callable[[], None]:
        """Add a hook; returns what removes it."""
        hooks = self._on_failed if only_failed else self._on_finished
        hooks.append(hook)

        def remove() -> None:
            if hook in hooks:
                hooks.remove(hook)

        return remove

    def __bool__(self) -> bool:
        """Whether anybody wants to hear of any end."""
        return bool(self._on_finished or self._on_failed)

    def of(self, state: JobState) -> list[Hook]:
        """Those that want to hear of an end like this."""
        return [*self._on_finished, *(self._on_failed if state is JobState.FAILED else ())]


class Hooks:
    """Calls the hooks once per job, for its final outcome, in the process that ran it."""

    def __init__(self, registered: RegisteredHooks, *, to_job: Callable[[JobRow], Job], context: Context) -> None:
        """to_job: makes the public record, only if somebody wants it."""
        self.registered = registered
        self._to_job = to_job
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    def finished(self, row: JobRow) -> None:
        """A job has ended."""
        hooks = self.registered.of(row.state) if self.registered else []
        if not hooks:
            return
        task = asyncio.get_running_loop().create_task(self._call(hooks, row), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def flush(self) -> None:
        """Wait for the hooks under way, but not for ever."""
        while self._tasks:
            _, slow = await asyncio.wait(self._tasks, timeout=PATIENCE)
            if slow:
                log.error("%d hooks have not ended within %g s; the engine stops without them.", len(slow), PATIENCE)
                return

    async def _call(self, hooks: list[Hook], row: JobRow) -> None:
        for hook in hooks:
            try:
                answer = hook(self._to_job(row))
                if inspect.isawaitable(answer):
                    await answer
            except asyncio.CancelledError:
                raise
            except BaseException:  # SystemExit too: a hook can never end the app
                log.exception("A hook failed for job %d; its outcome stays %s.", row.id, row.state)
