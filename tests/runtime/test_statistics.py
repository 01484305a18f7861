"""What was executed, counted."""

from typing import Any

import pytest

from commandjobs.model.stats import HOUR, Tallies, TallyKey
from commandjobs.runtime.statistics import RECENT, CommandStats, Statistics
from tests.runtime.attempts import job


def end(statistics: Statistics, outcome: str = "Completed", *, ms: float = 10.0, now: int = 0, **columns: Any) -> None:
    row = job(**columns)
    statistics.ended(row, command="Work", outcome=outcome, duration_ms=ms, now=now, lane=row.lane)


def test_c11_executions_are_counted_by_their_outcome() -> None:
    statistics = Statistics()
    for outcome in ("Completed", "Retried", "Retried", "Failed", "Cancelled"):
        end(statistics, outcome, error_message=f"{outcome} it is")

    stats = statistics.commands["Work"]

    assert (stats.runs, stats.failures, stats.retries, stats.last_error) == (5, 1, 2, "Failed it is")


def test_c11_quantiles_have_two_decimals_and_are_those_of_the_newest_thousand() -> None:
    statistics = Statistics()
    for ms in [1e9] * 500 + list(range(1, RECENT + 1)):
        end(statistics, ms=float(ms))

    stats = statistics.commands["Work"]

    assert (stats.quantile(0.5), stats.quantile(0.95), len(stats.durations)) == (500.5, 950.05, RECENT)


def test_c11_one_execution_is_its_own_median_and_none_has_none() -> None:
    assert CommandStats().quantile(0.5) is None
    stats = CommandStats()
    stats.durations.append(1.2345)

    assert stats.quantile(0.5) == stats.quantile(0.95) == 1.23


def test_x19_a_named_worker_is_counted_and_says_what_it_runs() -> None:
    statistics = Statistics()

    statistics.started("smtp", job(5, lane="smtp", started=1000))
    assert (statistics.workers["smtp"].running_job, statistics.workers["smtp"].running_since) == (5, 1000)
    end(statistics, id=5, lane="smtp")
    for outcome in ("Failed", "Retried"):
        statistics.started("smtp", job(6, lane="smtp", started=2000))
        end(statistics, outcome, id=6, lane="smtp")

    counts = statistics.workers["smtp"]
    assert (counts.received, counts.completed, counts.failed, counts.retries, counts.running_job) == (3, 1, 1, 1, None)


def test_x19_a_worker_whose_job_was_given_back_runs_nothing() -> None:
    statistics = Statistics()
    statistics.started("smtp", job(5, lane="smtp", started=1000))

    statistics.given_back("smtp")
    statistics.given_back(None)

    counts = statistics.workers["smtp"]
    assert (counts.received, counts.completed, counts.failed, counts.running_job) == (1, 0, 0, None)


def test_p06_usual_duration_is_that_of_the_worker_else_of_the_command() -> None:
    statistics = Statistics()
    end(statistics, ms=100.0, worker="fast")
    end(statistics, ms=300.0, worker="slow")

    assert statistics.usual_ms("Work", "fast") == 100.0
    assert statistics.usual_ms("Work", "slow") == 300.0
    assert statistics.usual_ms("Work", "other") == 200.0
    assert statistics.usual_ms("Other", None) is None


@pytest.mark.parametrize("outcome", ["Failed", "Retried", "Cancelled"])
def test_p06_only_success_says_how_long_a_job_takes(outcome: str) -> None:
    statistics = Statistics()

    end(statistics, outcome, ms=1.0)

    assert statistics.usual_ms("Work", None) is None


def test_p07_usual_duration_after_a_restart_is_the_same_and_not_a_sum() -> None:
    before = Statistics()
    for outcome, ms in (("Completed", 100.0), ("Completed", 200.0), ("Cancelled", 9.0), ("Failed", 8.0)):
        end(before, outcome, ms=ms, worker="w")
    after = Statistics()

    after.load(before.take() or {})

    assert after.usual_ms("Work", "w") == before.usual_ms("Work", "w") == 150.0
    assert after.usual_ms("Work", None) == before.usual_ms("Work", None)


def test_what_was_counted_before_is_taken_once() -> None:
    before, after = Statistics(), Statistics()
    end(before)
    tallies = before.take() or {}

    after.load(tallies)
    after.load(tallies)

    assert after.commands["Work"].runs == 1


def test_roll_ups_are_by_the_hour_command_worker_queue_and_outcome() -> None:
    statistics = Statistics()
    end(statistics, now=HOUR + 5, ms=10.0)
    end(statistics, now=2 * HOUR - 1, ms=20.0)
    end(statistics, now=2 * HOUR, worker="w", queue="q")
    end(statistics, "Failed", now=2 * HOUR)

    taken: Tallies = statistics.take() or {}

    assert {key: tally.count for key, tally in taken.items()} == {
        TallyKey(HOUR, "CMD", "Work", "", "default", "Completed"): 2,
        TallyKey(2 * HOUR, "CMD", "Work", "w", "q", "Completed"): 1,
        TallyKey(2 * HOUR, "CMD", "Work", "", "default", "Failed"): 1,
    }


def test_what_was_taken_is_not_taken_again() -> None:
    statistics = Statistics()
    end(statistics)

    assert statistics.take() is not None
    assert statistics.take() is None
    end(statistics)
    assert [tally.count for tally in (statistics.take() or {}).values()] == [1]
