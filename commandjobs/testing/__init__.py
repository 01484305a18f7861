"""For users' tests: a clock that a test moves. Run jobs on `memory://`, which is a whole storage, not a fake."""

from commandjobs.testing.clock import FakeClock

__all__ = ["FakeClock"]
