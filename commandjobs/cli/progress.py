"""The progress bar of what moves jobs."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from commandjobs.moving.copying import Progress as Report

STEPS = 10_000


@contextmanager
def bar(what: str, *, shown: bool) -> Generator[Report]:
    """A bar on the error stream, so that the output can be piped on; nothing where nobody watches."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[jobs]:,} jobs"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        task = progress.add_task(what, total=STEPS, jobs=0)
        yield lambda jobs, share: progress.update(task, completed=int(share * STEPS), jobs=jobs)
