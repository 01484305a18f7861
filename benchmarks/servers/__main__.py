"""Run the cases: `python -m benchmarks.servers [case …] [--postgres URL] [--mariadb URL] [--runs N]`.

Prints, for each case, every engine's median of the runs (the least and the most in brackets), and the goals. A ratio is
that of figures of the same round, since a machine with neighbours is never the same for long.
"""

import argparse
import asyncio
import os
import platform
from collections.abc import Sequence
from statistics import median
from typing import get_args

from benchmarks.servers import cases
from benchmarks.servers.cases import Case, Figures
from benchmarks.servers.engine import ENGINES, Engine
from benchmarks.servers.figure import Figure
from benchmarks.servers.goals import GOALS
from benchmarks.servers.program import Loop
from benchmarks.servers.server import Mariadb, Postgres, Server

CASES: dict[str, Case] = {
    "sequential": cases.sequential,
    "concurrent": cases.concurrent,
    "bulk": cases.bulk,
    "drain": cases.drain,
    "latency": cases.start_latency,
    "life": cases.life,
    "archive": cases.grown_archive,
    "backlog": cases.grown_backlog,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument(
        "cases", nargs="*", choices=[*CASES, []], metavar="case", help=f"default: all of {', '.join(CASES)}"
    )
    parser.add_argument(
        "--postgres",
        metavar="URL",
        default=os.environ.get("COMMANDJOBS_TEST_POSTGRES"),
        help="postgresql://…; databases are made and dropped there (default: $COMMANDJOBS_TEST_POSTGRES)",
    )
    parser.add_argument(
        "--mariadb",
        metavar="URL",
        default=os.environ.get("COMMANDJOBS_TEST_MARIADB"),
        help="mysql://…; the same (default: $COMMANDJOBS_TEST_MARIADB)",
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds; the medians count (default: 3)")
    parser.add_argument("--engines", nargs="+", help="only those whose names begin so")
    parser.add_argument("--loop", choices=get_args(Loop), default="uvloop", help="of all Python programs")
    parser.add_argument("--part", type=float, default=1.0, help="of the work, to see that all runs (default: 1)")
    arguments = parser.parse_args()
    servers: list[Server] = []
    if arguments.postgres:
        servers.append(Postgres(arguments.postgres))
    if arguments.mariadb:
        servers.append(Mariadb(arguments.mariadb))
    if not servers:
        parser.error("say which server: --postgres URL, --mariadb URL, or both")
    wanted = [engine for engine in ENGINES if _is_wanted(engine, arguments.engines)]
    engines = [engine.on_loop(arguments.loop).scaled(arguments.part) for engine in wanted]
    for server in servers:
        asyncio.run(_measure(server, engines, arguments.cases or list(CASES), arguments.runs))


async def _measure(server: Server, all: Sequence[Engine], names: Sequence[str], runs: int) -> None:
    engines = [engine for engine in all if engine.on is server.kind]
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()} on {engines[0].loop}, {os.cpu_count()} CPUs, load {load:.1f}")
    print(await server.describe())
    for engine in engines:
        print(f"  {engine.name} ({engine.package} {engine.version}): {engine.settings}")
    missed: list[str] = []
    for name in names:
        rounds = [await CASES[name](server, engines) for _ in range(runs)]
        print(f"\n{CASES[name].__doc__}\n{'':32}{'per second':>27}  {'p50 / p99 ms':>14} {'CPU µs':>7} {'ended ms':>9}")
        for line in rounds[0]:
            print(_row(line, [figures[line] for figures in rounds]))
        missed += _judge(server, name, rounds)
    print("\nshort of their goals:" if missed else "\nevery goal is reached", *missed, sep="\n")


def _is_wanted(engine: Engine, wanted: Sequence[str] | None) -> bool:
    if not engine.is_installed:
        print(f"{engine.name} is not installed: `make bench-servers` does it")
        return False
    return not wanted or engine.name.startswith(tuple(wanted))


def _row(line: str, runs: list[Figure]) -> str:
    rates = sorted(figure.rate for figure in runs)
    shown = f"{median(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f})"
    latency = ""
    if runs[0].p50_ms is not None:
        latency = f"{_middle(runs, 'p50_ms'):.2f} / {_middle(runs, 'p99_ms'):.2f}"
    cpu = "" if runs[0].cpu_us is None else f"{_middle(runs, 'cpu_us'):.0f}"
    ended = "" if runs[0].ended_ms is None else f"{_middle(runs, 'ended_ms'):.0f}"
    return f"  {line:30}{shown:>27}  {latency:>14} {cpu:>7} {ended:>9}"


def _middle(runs: list[Figure], name: str) -> float:
    return median(float(getattr(figure, name)) for figure in runs)


def _judge(server: Server, name: str, rounds: list[Figures]) -> list[str]:
    """The goals that were missed; all are printed."""
    missed: list[str] = []
    for goal in GOALS:
        verdict = goal.judge(rounds) if goal.on is server.kind and goal.case == name else None
        if verdict is not None:
            reached, sentence = verdict
            print(f"  {sentence}")
            missed += [] if reached else [f"  {name}: {sentence}"]
    return missed


if __name__ == "__main__":
    main()
