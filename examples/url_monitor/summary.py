"""What became of every job, read back from the database and from the archive of its month."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commandjobs import Attempt, BackgroundJobs, Job, JobResult, JobState
from examples.url_monitor.runs import UNFINISHED, Run, jobs_of
from examples.url_monitor.wording import STYLES, plural, situation, subject

INTERRUPTED = 130  # the usual exit code of a program that Ctrl-C has ended


async def show_summary(run: Run, jobs: BackgroundJobs, db: Path, console: Console) -> int:
    """Print a table for each file that holds jobs of the run, then a closing sentence; return the exit code."""
    by_file = defaultdict[str, list[JobResult]](list)
    states = Counter[JobState]()
    for id in await jobs_of(run, jobs):
        found = await jobs.get_job(id)
        if found is not None:
            by_file[file_of(found.job, db)].append(found)
            states[found.job.state] += 1
    for file, group in by_file.items():
        console.print(await table_of(group, file, jobs))
    return conclude(states, console)


def file_of(job: Job, db: Path) -> str:
    """Where a job lies: in the queue, and once it has ended in the archive of the month it was enqueued in."""
    return db.name if job.state in UNFINISHED else f"{db.stem}_{job.created:%Y-%m}{db.suffix}"


async def table_of(group: Sequence[JobResult], file: str, jobs: BackgroundJobs) -> Table:
    table = Table(title=f"in {file}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Job", justify="right")
    table.add_column("Command", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Attempts")
    table.add_column("Log", justify="right")
    table.add_column("Outcome", min_width=13)
    for found in group:
        job = found.job
        table.add_row(
            str(job.id),
            Text(f"{job.command} {subject(found)}"),
            Text(job.state, STYLES[job.state]),
            told(await jobs.get_attempts(job.id)),
            str(len(await jobs.get_logs(job.id))),
            Text(job.error_code or "" if job.state is JobState.CANCELLED else situation(found)),
        )
    return table


def told(attempts: Sequence[Attempt]) -> str:
    """`failed ×2, ok, mailed`: how each attempt ended, those of the callback included."""
    groups = [(end, len(list(same))) for end, same in groupby(map(ending, attempts))]
    return ", ".join(end if times == 1 else f"{end} ×{times}" for end, times in groups) or "none"


def ending(attempt: Attempt) -> str:
    work = {"Succeeded": "ok", "HandedBack": "handed back"}
    callback = {"Succeeded": "mailed", "Failed": "mailing failed"}
    words = work if attempt.phase == "work" else callback
    return words.get(attempt.outcome, attempt.outcome.lower())


def conclude(states: Counter[JobState], console: Console) -> int:
    """Say how it went; the exit code."""
    unfinished = sum(states[state] for state in UNFINISHED)
    if unfinished:
        console.print(f"Stopped with {plural(unfinished, 'job')} unfinished. Start again to go on with them.")
        return INTERRUPTED
    console.print(f"Every job has ended: {', '.join(f'{count} {state}' for state, count in states.items())}.")
    return 1 if states[JobState.FAILED] else 0
