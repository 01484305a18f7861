"""A job with everything that is stored of it, on its way from one storage to another."""

from dataclasses import dataclass, field
from typing import NamedTuple

from commandjobs.errors import ErrorCode
from commandjobs.model.row import JobRow
from commandjobs.model.state import FINAL, JobState


class KeptLine(NamedTuple):
    """One line of a job's log, as it is stored."""

    sequence: int
    attempt: int
    at: int
    level: str
    logger: str
    message: str
    exception: str | None = None


class Tie(NamedTuple):
    """What a job has to do with one of its parents."""

    parent: int
    bound_attempt: int | None = None
    """The attempt of the parent that the job belongs to, while it waits for it."""
    cancelled: bool = False
    """The job was cancelled since that parent did not succeed; else it still waits for it."""


@dataclass(slots=True, kw_only=True)
class Carried:
    """One job. Whether its row can be claimed, and whether it holds its unique key, follows from the row."""

    row: JobRow
    """Its newest run. A row that is owned was claimed by a process that is gone: that is found out where it arrives."""
    is_whole: bool = True
    """False: the archive of its month is not there, and the row has the columns of a summary only."""
    begun: bool = False
    """Its owner had started it."""
    earlier: list[JobRow] = field(default_factory=list)
    """Its runs before the newest, oldest first."""
    ties: list[Tie] = field(default_factory=list)
    log: list[KeptLine] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.row.state in FINAL

    @property
    def holds_ref(self) -> bool:
        """Whether no other job can have its ref id."""
        return not (self.row.state is JobState.CANCELLED and self.row.error_code == ErrorCode.ATTEMPT_FAILED)

    @property
    def finished(self) -> list[JobRow]:
        """Its runs that lie in an archive."""
        return [*self.earlier, self.row] if self.is_over and self.is_whole else self.earlier

    @property
    def size(self) -> int:
        """Roughly how many bytes it takes."""
        size = _size(self.row)
        for run in self.earlier:
            size += _size(run)
        for line in self.log:
            size += 100 + len(line.message)
        return size


def _size(row: JobRow) -> int:
    return 500 + len(row.request_body or "") + len(row.response_body or "")


def holds_key(row: JobRow) -> bool:
    """Whether a row keeps others of its command from its unique key."""
    freed = row.unique_until == "start" and row.started is not None
    return row.unique_key is not None and row.state not in FINAL and not freed
