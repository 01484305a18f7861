"""Moments as the engine keeps them: integer microseconds since 1970 in UTC, exact and cheap to compare."""

from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(moment: int) -> datetime:
    """The aware UTC datetime of a moment."""
    return EPOCH + timedelta(microseconds=moment)


def to_moment(at: datetime) -> int:
    """The moment of an aware datetime, exact to the microsecond."""
    return (at - EPOCH) // timedelta(microseconds=1)


def month_of(moment: int) -> date:
    """The first day of the UTC month that a moment lies in: the name of its archive."""
    return to_datetime(moment).date().replace(day=1)


def month_range(month: date) -> tuple[int, int]:
    """First moment of a month, and first moment of the next one."""
    first = datetime(month.year, month.month, 1, tzinfo=UTC)
    following = (first + timedelta(days=32)).replace(day=1)
    return to_moment(first), to_moment(following)
