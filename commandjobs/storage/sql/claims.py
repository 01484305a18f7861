"""What a claim asks for, as a database sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

from commandjobs.storage.base import Claim


@dataclass(frozen=True, slots=True)
class Claiming:
    """One call of `claim`."""

    room: Mapping[str, int]
    other: int
    claim: Claim
    owner: int
    token: int
    """The number of this call among those of its owner: it finds what was claimed when its answer is lost."""
    now: int
