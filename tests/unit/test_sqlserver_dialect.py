"""What SQL Server does in a way of its own, as far as it can be seen without a server."""

from datetime import UTC, datetime
from typing import Any

import pytest

from commandjobs.errors import InvalidOption
from commandjobs.model.moment import to_moment
from commandjobs.model.row import JobRow
from commandjobs.storage.queries import Statement
from tests.unit.tsql import DIALECT


class Recorder:
    """A connection that keeps the statements it is given, and knows no rows."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def rows(self, statement: Statement, /, **parameters: Any) -> list[Any]:
        self.texts.append(statement.text)
        return []

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        await self.rows(statement, **parameters)


def row(**columns: Any) -> JobRow:
    plain: dict[str, Any] = {"ref_id": "ref", "command": "Work", "created": 1}
    return JobRow(**(plain | columns))


async def test_jobs_of_two_months_leave_for_two_tables() -> None:
    recorder = Recorder()
    november = [row(id=number, created=to_moment(datetime(2026, 11, number, tzinfo=UTC))) for number in (1, 2)]
    october = row(id=3, created=to_moment(datetime(2026, 10, 31, 23, 59, tzinfo=UTC)))

    await DIALECT.finish(recorder, [*november, october])

    assert ["finished_2026_10" in text for text in recorder.texts] == [True, False]
    assert ["finished_2026_11" in text for text in recorder.texts] == [False, True]


async def test_a_statement_of_a_month_has_one_text() -> None:
    month = datetime(2026, 11, 1, tzinfo=UTC).date()

    assert DIALECT.of_month("append_logs", month) is DIALECT.of_month("append_logs", month)


@pytest.mark.parametrize(
    ("option", "columns"),
    [
        ("ref_id", {"ref_id": "order 7 "}),
        ("queue", {"queue": "mail "}),
        ("worker", {"lane": "smtp "}),
        ("concurrency_key", {"lane_key": "customer 7 "}),
        ("unique_key", {"unique_key": " "}),
    ],
)
async def test_a_name_that_the_server_would_take_for_another_is_refused(option: str, columns: dict[str, str]) -> None:
    recorder = Recorder()

    with pytest.raises(InvalidOption, match=f"^{option} must not end with a space"):
        await DIALECT.insert(recorder, [row(), row(**columns)], token=None)

    assert recorder.texts == []


async def test_a_job_is_not_moved_to_a_queue_that_the_server_would_take_for_another() -> None:
    with pytest.raises(InvalidOption, match=r"^queue must not end"):
        await DIALECT.rewrite(Recorder(), [row(id=1, queue="mail ")])
