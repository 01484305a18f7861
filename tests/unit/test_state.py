"""Where a job can be, and what parks it."""

import pytest

from commandjobs.model.state import FINAL, TRANSITIONS, Hold, JobState, hold_for


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(JobState)


def test_nothing_leads_out_of_completed() -> None:
    assert TRANSITIONS[JobState.COMPLETED] == frozenset()


def test_only_queued_and_executed_are_reached_from_an_ended_job() -> None:
    for state in FINAL:
        assert TRANSITIONS[state] <= {JobState.QUEUED, JobState.EXECUTED}


def test_done_work_is_never_queued_again() -> None:
    assert not TRANSITIONS[JobState.EXECUTED] & {JobState.QUEUED, JobState.STARTED}


@pytest.mark.parametrize("state", JobState)
def test_a_state_is_final_when_the_job_has_ended(state: JobState) -> None:
    assert state.is_final == (state.value in ("Completed", "Failed", "Cancelled"))


@pytest.mark.parametrize(
    ("parents", "run_after", "has_lane", "hold"),
    [
        (0, None, False, None),
        (0, None, True, Hold.LANE),
        (0, 99, True, Hold.LANE),
        (0, 100, False, None),
        (0, 101, False, Hold.TIME),
        (0, 101, True, Hold.TIME),
        (2, None, False, Hold.PARENTS),
        (2, 101, True, Hold.PARENTS),
    ],
)
def test_parents_come_before_the_date_and_the_date_before_the_lane(
    parents: int, run_after: int | None, has_lane: bool, hold: Hold | None
) -> None:
    assert hold_for(parents_left=parents, run_after=run_after, now=100, has_lane=has_lane) is hold
