"""Months that may go."""

from datetime import UTC, date, datetime, timedelta

import pytest

from commandjobs.model.moment import to_moment
from commandjobs.runtime.retention import is_over
from commandjobs.storage.base import MonthInfo

NOW = to_moment(datetime(2026, 11, 23, 12, tzinfo=UTC))
KEEP = timedelta(days=30)
OCTOBER_24 = to_moment(datetime(2026, 10, 24, 12, tzinfo=UTC))
"""Exactly as long ago as is kept."""


@pytest.mark.parametrize(
    ("month", "newest_end", "over"),
    [
        (date(2026, 9, 1), OCTOBER_24 - 1, True),
        (date(2026, 9, 1), OCTOBER_24, False),
        (date(2026, 10, 1), OCTOBER_24 - 1, True),
        (date(2026, 9, 1), NOW, False),  # a job created in September that has ended just now
        (date(2026, 9, 1), None, False),
        (date(2026, 11, 1), OCTOBER_24 - 1, False),  # the month that is filled now
        (date(2026, 12, 1), OCTOBER_24 - 1, False),
    ],
)
def test_l21_a_month_goes_when_its_newest_end_is_older_than_what_is_kept(
    month: date, newest_end: int | None, over: bool
) -> None:
    assert is_over(MonthInfo(month, newest_end), now=NOW, keep=KEEP) is over


def test_l21_the_present_month_stays_even_if_nothing_is_kept() -> None:
    assert not is_over(MonthInfo(date(2026, 11, 1), NOW - 1), now=NOW, keep=timedelta(0))
