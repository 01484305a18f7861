"""Handles to jobs: what an enqueue gives back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol

from typing_extensions import TypeVar

from commandjobs import checks
from commandjobs.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from commandjobs.model.job import JobResult

R = TypeVar("R")


class Follower(Protocol):
    """What a handle needs of its engine."""

    async def wait(self, id: int | str, timeout: float | None) -> JobResult:
        """Wait until the job has ended."""
        ...

    async def result(self, id: int | str, timeout: float | None) -> Any:
        """Wait for its result."""
        ...

    async def cancel(self, id: int | str) -> bool:
        """Cancel it."""
        ...


class JobRef(tuple[int, str], Generic[R]):  # noqa: SLOT001  a tuple cannot have slots of its own
    """A handle that unpacks as `id, ref_id = ref`.

    It compares equal to `(id, ref_id)`, can be kept or passed on, and costs nothing until it is used.
    """

    _created = True
    _follower: Follower | None

    def __new__(cls, id: int, ref_id: str, *, created: bool = True, follower: Follower | None = None) -> JobRef[R]:
        """Make a handle; `follower` is the engine that can wait for the job."""
        ref = super().__new__(cls, (id, ref_id))
        ref._follower = follower
        if not created:
            ref._created = False
        return ref

    @property
    def id(self) -> int:
        """The job's id; 0 for a handle made by `jobs.ref("…")` from a ref id alone."""
        return self[0]

    @property
    def ref_id(self) -> str:
        """The job's ref id; empty for a handle made by `jobs.ref(123)` from an id alone."""
        return self[1]

    @property
    def created(self) -> bool:
        """False: `unique_key` or `on_duplicate="return"` gave a job that existed already."""
        return self._created

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the job's end and return its typed result.

        timeout: seconds to wait; None: as long as it takes. The job itself is not affected.

        Raises `JobFailed`, `JobCancelled`, `ResultNotStored` (it was over the limit), `JobNotFound`, `WouldDeadlock`
        (waiting here could never end), and `TimeoutError` when this wait ran out.
        """
        result: R = await self._engine().result(self._key(), _seconds(timeout))
        return result

    async def wait(self, timeout: float | timedelta | None = None) -> JobResult:
        """Wait for the job's end, however it ends, and return where it is then.

        timeout: seconds to wait; None: as long as it takes. Raises `TimeoutError`, `JobNotFound`, `WouldDeadlock`.
        """
        return await self._engine().wait(self._key(), _seconds(timeout))

    async def cancel(self) -> bool:
        """Cancel the job: True if it was waiting or running, False if it had ended."""
        return await self._engine().cancel(self._key())

    def _key(self) -> int | str:
        return self[0] or self[1]

    def _engine(self) -> Follower:
        if self._follower is None:
            raise StorageUnavailable(
                "This JobRef belongs to no engine any more. Use `jobs.ref(id)` of an entered BackgroundJobs."
            )
        return self._follower

    def __reduce__(self) -> tuple[Callable[..., JobRef[R]], tuple[int, str]]:
        """Pickle as the two values; the handle that comes out is bound to no engine."""
        return (JobRef, (self[0], self[1]))

    def __repr__(self) -> str:
        return f"JobRef(id={self[0]}, ref_id={self[1]!r})"


class SyncJobRef(tuple[int, str], Generic[R]):  # noqa: SLOT001
    """The same for blocking code: `result`, `wait` and `cancel` block the calling thread."""

    _ref: JobRef[R]
    _run: Callable[[Callable[[], Awaitable[Any]]], Any]

    def __new__(cls, ref: JobRef[R], run: Callable[[Callable[[], Awaitable[Any]]], Any]) -> SyncJobRef[R]:
        """Wrap a handle; `run` runs an async call on the engine's loop and blocks for its result."""
        made = super().__new__(cls, (ref.id, ref.ref_id))
        made._ref, made._run = ref, run
        return made

    @property
    def id(self) -> int:
        """The job's id."""
        return self[0]

    @property
    def ref_id(self) -> str:
        """The job's ref id."""
        return self[1]

    @property
    def created(self) -> bool:
        """False: `unique_key` or `on_duplicate="return"` gave a job that existed already."""
        return self._ref.created

    def result(self, timeout: float | timedelta | None = None) -> R:
        """`JobRef.result`, blocking."""
        result: R = self._run(lambda: self._ref.result(timeout))
        return result

    def wait(self, timeout: float | timedelta | None = None) -> JobResult:
        """`JobRef.wait`, blocking."""
        found: JobResult = self._run(lambda: self._ref.wait(timeout))
        return found

    def cancel(self) -> bool:
        """`JobRef.cancel`, blocking."""
        done: bool = self._run(self._ref.cancel)
        return done

    def __repr__(self) -> str:
        return f"SyncJobRef(id={self[0]}, ref_id={self[1]!r})"


def _seconds(timeout: float | timedelta | None) -> float | None:
    """A wait that has run out already is one without patience, so less than 0 is no mistake here."""
    return None if timeout is None else max(checks.a_number_of_seconds("timeout", timeout), 0.0)
