"""Watching a run: a live table above the latest news, or plain lines where there is no terminal."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from commandjobs import BackgroundJobs, JobResult
from examples.url_monitor.runs import UNFINISHED, Run, jobs_of
from examples.url_monitor.wording import STYLES, situation, subject

LOOK_EVERY = 0.1  # seconds
NEWS_SHOWN = 8  # lines
LEVEL_STYLES = {"WARNING": "yellow", "ERROR": "red"}


async def watch(run: Run, jobs: BackgroundJobs, console: Console, stop: asyncio.Event) -> None:
    """Show what happens, until every job of the run has ended or `stop` is set."""
    reader = Reader(run, jobs)
    with view_on(console) as view:
        while True:
            news = await reader.look()
            view.show(list(reader.found.values()), news)
            if stop.is_set() or not any(unfinished(found) for found in reader.found.values()):
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_EVERY)


@dataclass(frozen=True)
class News:
    """One thing that happened to a job: a line it logged, or the state it came to."""

    at: datetime
    subject: str
    text: str
    style: str

    def __rich__(self) -> Text:
        moment = f"{self.at.astimezone():%H:%M:%S}"
        return Text.assemble((moment, "dim"), f"  {self.subject:<20}  ", (self.text, self.style))


class Reader:
    """Reads the jobs of a run again and again, and tells what is new since the last time."""

    def __init__(self, run: Run, jobs: BackgroundJobs) -> None:
        self.run = run
        self.jobs = jobs
        self.found = dict[int, JobResult]()
        self.lines_read = dict[int, int]()

    async def look(self) -> list[News]:
        news = list[News]()
        for id in await jobs_of(self.run, self.jobs):
            before = self.found.get(id)
            if before is None or unfinished(before):
                news += await self.look_at(id, before)
        return sorted(news, key=lambda item: item.at)

    async def look_at(self, id: int, before: JobResult | None) -> list[News]:
        now = await self.jobs.get_job(id)
        if now is None:
            return []
        self.found[id] = now
        news = await self.logged_by(now)
        if before is None or (before.job.state, before.job.attempts) != (now.job.state, now.job.attempts):
            at, state = now.job.last_activity or now.job.created, now.job.state
            news.append(News(at, subject(now), f"{state}: {situation(now)}", STYLES[state]))
        return news

    async def logged_by(self, found: JobResult) -> list[News]:
        id = found.job.id
        lines = await self.jobs.get_logs(id, after=self.lines_read.get(id, 0))
        if lines:
            self.lines_read[id] = lines[-1].sequence
        return [News(line.at, subject(found), line.message, LEVEL_STYLES.get(line.level, "")) for line in lines]


def unfinished(found: JobResult) -> bool:
    return found.summary.state in UNFINISHED


class View(Protocol):
    def show(self, found: Sequence[JobResult], news: Sequence[News]) -> None: ...


@contextmanager
def view_on(console: Console) -> Generator[View]:
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield LiveTable(live)
    else:
        yield PlainLines(console)


class PlainLines:
    """For pipes and files: a line for each piece of news."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def show(self, found: Sequence[JobResult], news: Sequence[News]) -> None:
        for item in news:
            self.console.print(item, soft_wrap=True)


class LiveTable:
    """For terminals: a row for each job, redrawn in place, above the latest news."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.news = list[News]()

    def show(self, found: Sequence[JobResult], news: Sequence[News]) -> None:
        self.news = [*self.news, *news][-NEWS_SHOWN:]
        log = Text("\n", no_wrap=True, overflow="ellipsis").join(item.__rich__() for item in self.news)
        panel = Panel(log, title="what happens", title_align="left", height=NEWS_SHOWN + 2, border_style="dim")
        self.live.update(Group(self.table(found), panel), refresh=True)

    def table(self, found: Sequence[JobResult]) -> Table:
        table = Table(
            "Job", "About", "State", "Attempt", "Progress", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True
        )
        table.add_column("Now", ratio=1, no_wrap=True)
        room = max(1, self.live.console.height - NEWS_SHOWN - 8)
        # Where not all fit, those that have ended make room.
        shown = {job.summary.id for job in sorted(found, key=unfinished)[-room:]}
        for job in found:
            if job.summary.id in shown:
                table.add_row(*cells(job))
        if len(shown) < len(found):
            table.caption = f"and {len(found) - len(shown)} more"
        return table


def cells(found: JobResult) -> list[str | Text | ProgressBar]:
    job = found.job
    return [
        str(job.id),
        Text(subject(found)),
        Text(job.state, STYLES[job.state]),
        str(job.attempts or ""),
        "" if job.progress is None else ProgressBar(total=1.0, completed=job.progress, width=12),
        Text(situation(found)),
    ]
