"""Counts by the hour."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandjobs.model.stats import BOUNDS_MS, HOUR, Tallies, Tally, TallyKey, merge_tallies

MILLISECONDS = st.lists(st.floats(0.0, 1e7), min_size=1, max_size=50)


def tally(*durations: float) -> Tally:
    made = Tally()
    for duration in durations:
        made.add(duration)
    return made


def key(command: str, hour: int = 0) -> TallyKey:
    return TallyKey(hour * HOUR, "CMD", command, "", "default", "Completed")


def test_a_tally_counts_and_sums() -> None:
    assert (tally(1.0, 2.0, 4.0).count, tally(1.0, 2.0, 4.0).time_ms) == (3, 7.0)


@pytest.mark.parametrize("duration", [0.0, 0.005, 1.0, 80.0, 1e5, 1e12])
def test_any_duration_has_a_bucket(duration: float) -> None:
    assert sum(tally(duration).histogram.values()) == 1


def test_nothing_executed_has_no_quantile() -> None:
    assert Tally().quantile_ms(0.5) is None


@given(MILLISECONDS, st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_above_its_share_of_the_durations_by_a_quarter_at_most(
    durations: list[float], share: float
) -> None:
    exact = sorted(durations)[ceil(len(durations) * share) - 1]

    found = tally(*durations).quantile_ms(share)

    assert found is not None
    assert min(exact, BOUNDS_MS[-1]) <= found <= max(exact * 1.26, BOUNDS_MS[0])


@given(MILLISECONDS, MILLISECONDS)
def test_merging_is_as_good_as_counting_together(one: list[float], other: list[float]) -> None:
    merged = tally(*one)
    merged.merge(tally(*other))

    together = tally(*one, *other)
    assert (merged.count, merged.histogram) == (together.count, together.histogram)
    assert merged.time_ms == pytest.approx(together.time_ms)


def test_tallies_are_merged_by_key_and_the_added_ones_stay_their_own() -> None:
    there: Tallies = {key("A"): tally(1.0)}
    more: Tallies = {key("A"): tally(2.0), key("B"): tally(3.0)}

    merge_tallies(there, more)
    there[key("B")].add(9.0)

    assert {one.command: found.count for one, found in there.items()} == {"A": 2, "B": 2}
    assert more[key("B")].count == 1
