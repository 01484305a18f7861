import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandjobs.errors import Fail, InvalidRequest
from commandjobs.model.retry import Backoff, RetryPolicy, delay_before, is_retryable

BACKOFFS: tuple[Backoff, ...] = ("fixed", "linear", "exponential", "exponential_jitter")


def delays(policy: RetryPolicy, random: float = 1.0) -> list[float]:
    return [delay_before(policy, number, lambda: random) for number in (1, 2, 3, 4)]


def test_fixed_backoff_always_waits_the_same() -> None:
    assert delays(RetryPolicy(backoff="fixed", delay=5)) == [5, 5, 5, 5]


def test_linear_backoff_grows_by_the_delay() -> None:
    assert delays(RetryPolicy(backoff="linear", delay=5)) == [5, 10, 15, 20]


def test_exponential_backoff_doubles() -> None:
    assert delays(RetryPolicy(backoff="exponential", delay=5)) == [5, 10, 20, 40]


def test_jitter_lies_between_half_of_the_exponential_delay_and_the_whole() -> None:
    policy = RetryPolicy(backoff="exponential_jitter", delay=4)

    assert delays(policy, random=0.0) == [2, 4, 8, 16]
    assert delays(policy, random=1.0) == [4, 8, 16, 32]


@given(st.sampled_from(BACKOFFS), st.integers(1, 10**9), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1))
def test_no_wait_is_longer_than_the_cap(backoff: Backoff, number: int, delay: float, cap: float, random: float) -> None:
    policy = RetryPolicy(backoff=backoff, delay=delay, max_delay=cap)

    assert 0 <= delay_before(policy, number, lambda: random) <= cap


def test_defaults_are_two_retries_with_jitter_from_5_to_300_seconds() -> None:
    assert RetryPolicy() == RetryPolicy(2, "exponential_jitter", 5.0, 300.0, (Exception,), ())


@pytest.mark.parametrize("error", [OSError(), ValueError(), TimeoutError()])
def test_any_exception_is_retryable_by_default(error: Exception) -> None:
    assert is_retryable(RetryPolicy(), error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_what_is_no_exception_is_not_retryable_by_default(error: BaseException) -> None:
    assert not is_retryable(RetryPolicy(), error)
    assert is_retryable(RetryPolicy(on=(BaseException,)), error)


def test_only_exceptions_of_the_policy_are_retryable() -> None:
    policy = RetryPolicy(on=(OSError,), never_on=(FileNotFoundError,))

    assert is_retryable(policy, ConnectionError())
    assert not is_retryable(policy, ValueError())
    assert not is_retryable(policy, FileNotFoundError())


@pytest.mark.parametrize("error", [Fail("no"), InvalidRequest("no")])
def test_c05_fail_and_invalid_requests_are_never_retryable(error: Exception) -> None:
    assert not is_retryable(RetryPolicy(on=(BaseException,)), error)


def test_group_with_one_exception_that_is_never_retried_is_not_retryable() -> None:
    policy = RetryPolicy(never_on=(KeyError,))

    assert is_retryable(policy, ExceptionGroup("", [OSError()]))
    assert not is_retryable(policy, ExceptionGroup("", [OSError(), ExceptionGroup("", [KeyError()])]))
    assert not is_retryable(policy, ExceptionGroup("", [Fail()]))


def test_group_is_retryable_for_what_is_in_it() -> None:
    assert is_retryable(RetryPolicy(on=(OSError,)), ExceptionGroup("", [ConnectionError()]))
