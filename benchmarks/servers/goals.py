"""What is to be reached on each server, beside whom."""

from dataclasses import dataclass
from statistics import median

from benchmarks.servers.engine import BARE, GRAPHILE, GRAPHILE_BATCH, OURS, PGQUEUER
from benchmarks.servers.figure import Figure
from benchmarks.servers.server import Kind


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of a case, beside another or a number."""

    on: Kind
    case: str
    beside: str | None = None
    """Another line of the same case."""
    times: float | None = None
    """Its rate, at least."""
    rate: float | None = None
    """Per second, at least."""
    p50_ms: float | None = None
    """At most."""
    line: str = OURS

    def judge(self, rounds: list[dict[str, Figure]]) -> tuple[bool, str] | None:
        """Whether the median round reaches it, and a sentence; None: who is beside was not measured."""
        if any(name is not None and name not in figures for figures in rounds for name in (self.line, self.beside)):
            return None
        mine = [figures[self.line] for figures in rounds]
        if self.beside is not None and self.times is not None:
            ratios = sorted(figures[self.line].rate / figures[self.beside].rate for figures in rounds)
            reached = median(ratios) >= self.times
            said = f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) times {self.beside}, goal {self.times:g}"
        elif self.p50_ms is not None:
            p50 = median(figure.p50_ms or 0.0 for figure in mine)
            reached, said = p50 <= self.p50_ms, f"p50 {p50:.2f} ms, goal {self.p50_ms:g}"
        else:
            rate, least = median(figure.rate for figure in mine), self.rate or 0.0
            reached, said = rate >= least, f"{rate:,.0f} a second, goal {least:,.0f}"
        return reached, f"{'reached' if reached else 'MISSED '}  {self.line}: {said}"


GOALS = (
    Goal(Kind.POSTGRES, "sequential", BARE, 0.8),
    Goal(Kind.POSTGRES, "concurrent", BARE, 10),
    Goal(Kind.POSTGRES, "concurrent", PGQUEUER, 10),
    Goal(Kind.POSTGRES, "bulk", PGQUEUER, 1.5),
    Goal(Kind.POSTGRES, "bulk", GRAPHILE, 1.5),
    Goal(Kind.POSTGRES, "drain", PGQUEUER, 1.5),
    Goal(Kind.POSTGRES, "drain", f"{PGQUEUER}, 2 processes", 1, line=f"{OURS}, 2 processes"),
    Goal(Kind.POSTGRES, "drain", OURS, 1.1, line=f"{OURS}, 2 processes"),
    Goal(Kind.POSTGRES, "drain", GRAPHILE_BATCH, 0.8),
    Goal(Kind.POSTGRES, "latency", p50_ms=2),
    Goal(Kind.MARIADB, "sequential", BARE, 0.7),
    Goal(Kind.MARIADB, "drain", rate=8_000),
    *(
        Goal(kind, case, f"{OURS}{before}", 0.85, line=f"{OURS}{after}")
        for kind in Kind
        for case, before, after in (
            ("archive", ", none archived", ", 1,000,000 archived"),
            ("backlog", "", ", of ten times as many"),
        )
    ),
)
