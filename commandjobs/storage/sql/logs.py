"""Lines of jobs' logs as the one parameter of a statement."""

from collections.abc import Sequence

from commandjobs.model.row import LogRow
from commandjobs.storage.sql.rows import document


def log_lines(rows: Sequence[LogRow]) -> str:
    """Lines in their order: they have no numbers yet, but the statement counts on from the last of each job."""
    return document(
        {
            "job_id": row.job_id,
            "place": place,
            "created": row.created,
            "attempt": row.attempt,
            "at": row.at,
            "level": row.level,
            "logger": row.logger,
            "message": row.message,
            "exception": row.exception,
        }
        for place, row in enumerate(rows)
    )
