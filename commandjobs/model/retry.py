"""When a failed job tries again, and how long it waits before that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from commandjobs.errors import Fail, InvalidRequest

Backoff = Literal["fixed", "linear", "exponential", "exponential_jitter"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how soon and after what a job is retried."""

    limit: int = 2
    """Retries after the first attempt."""
    backoff: Backoff = "exponential_jitter"
    delay: float = 5.0
    """Seconds before the first retry; the unit of all later ones."""
    max_delay: float = 300.0
    """Seconds; no wait is longer."""
    on: tuple[type[BaseException], ...] = (Exception,)
    """Only these are retried..."""
    never_on: tuple[type[BaseException], ...] = ()
    """...and these are not, even if they are among `on`. Nor are `Fail` and `InvalidRequest`, ever."""


def delay_before(policy: RetryPolicy, retry_number: int, random: Callable[[], float]) -> float:
    """Seconds to wait before a retry, never more than `policy.max_delay`.

    With d for the policy's delay and n for the number: `fixed` waits d, `linear` n*d, `exponential` d*2^(n-1), and
    `exponential_jitter` a random time between half of that and the whole, so that jobs which failed together do not all
    come back together.

    retry_number: 1 for the first retry.
    random: gives a number from 0 to 1.
    """
    match policy.backoff:
        case "fixed":
            return _capped(policy, policy.delay)
        case "linear":
            return _capped(policy, policy.delay * retry_number)
        case "exponential":
            return _exponential(policy, retry_number)
        case "exponential_jitter":
            return _exponential(policy, retry_number) * (1 + random()) / 2


def is_retryable(policy: RetryPolicy, exception: BaseException) -> bool:
    """Whether another attempt may follow this exception.

    A group, as task groups raise them, counts as what it contains: one exception that is never retried decides.
    """
    causes = _causes(exception)
    if any(isinstance(cause, (Fail, InvalidRequest, *policy.never_on)) for cause in causes):
        return False
    return any(isinstance(cause, policy.on) for cause in causes)


def _exponential(policy: RetryPolicy, retry_number: int) -> float:
    exponent = min(retry_number - 1, 1000)  # 2.0 ** 1024 is no float any more
    return _capped(policy, policy.delay * 2.0**exponent)


def _capped(policy: RetryPolicy, seconds: float) -> float:
    return min(seconds, policy.max_delay)


def _causes(exception: BaseException) -> list[BaseException]:
    """The exception itself and, if it is a group, all that is in it."""
    if not isinstance(exception, BaseExceptionGroup):
        return [exception]
    inside = cast("tuple[BaseException, ...]", exception.exceptions)
    return [exception, *(cause for inner in inside for cause in _causes(inner))]
