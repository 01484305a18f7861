"""Which jobs to find, cancel or requeue: what the caller says, checked, as a `JobFilter`."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from commandjobs import checks
from commandjobs.errors import InvalidOption
from commandjobs.model.find import JobFilter
from commandjobs.model.moment import month_range, to_moment
from commandjobs.model.state import JobState


def job_filter(*, month: date | None = None, **given: Any) -> JobFilter:
    """All that is given must hold; None is not given.

    month: any day of the month they were created in (UTC). The others: the fields of `JobFilter`, moments as aware
        datetimes.

    Raises `InvalidOption`, naming the filter.
    """
    said = {name: CHECKS[name](name, value) for name, value in given.items() if value is not None}
    if month is not None:
        first, following = _month("month", month)
        said["since"] = max(first, said.get("since", first))
        said["until"] = min(following, said.get("until", following))
    return JobFilter(**said)


def _state(option: str, value: Any) -> JobState:
    return JobState(checks.one_of(option, value, [state.value for state in JobState]))


def _moment(option: str, value: Any) -> int:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidOption(f"{option} must be a datetime with a time zone, such as datetime.now(UTC), got {value!r}.")
    return to_moment(value)


def _month(option: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, date):
        raise InvalidOption(f"{option} must be a date, got {value!r}.")
    try:
        return month_range(value)
    except OverflowError:
        raise InvalidOption(f"{option} must lie before the last month of the year 9999, got {value!r}.") from None


CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "states": lambda option, value: checks.several(option, value, _state),
    "ids": lambda option, value: checks.several(option, value, checks.an_id),
    "command": checks.a_name,
    "ref_id": checks.a_name,
    "parent_id": checks.an_id,
    "worker": checks.a_name,
    "queue": checks.a_name,
    "tag": checks.a_name,
    "batch_id": checks.a_name,
    "created_by": checks.a_name,
    "user_id": checks.a_name,
    "tenant_id": checks.a_name,
    "error_code": checks.a_name,
    "args": checks.a_mapping,
    "since": _moment,
    "until": _moment,
    "text": checks.a_text,
}
