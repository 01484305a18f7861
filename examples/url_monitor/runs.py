"""A run: the jobs that one start of the program enqueued, and those that they enqueued in turn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx

from commandjobs import BackgroundJobs, JobState
from examples.url_monitor.commands import CheckSite, MailReport, Site
from examples.url_monitor.wording import plural

MONITOR = "url-monitor"  # tags every job of this program; a second tag names the run
UNFINISHED = (JobState.QUEUED, JobState.STARTED, JobState.EXECUTED)


@dataclass(frozen=True)
class Run:
    tag: str
    greeting: str


async def start_or_go_on(jobs: BackgroundJobs, urls: Sequence[str]) -> Run:
    """Enqueue a check of each site; but what an earlier start left unfinished comes first, and alone."""
    left = await jobs.find_jobs(tag=MONITOR, states=UNFINISHED)
    if left.jobs:
        [tag] = set(left.jobs[0].tags) - {MONITOR}
        return Run(tag, f"Going on with the run of {tag}, which left {plural(left.total, 'job')} unfinished.")
    checks = sites(urls)
    run = Run(
        tag=f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}",
        greeting=f"Checking {plural(len(urls), 'URL')} of {plural(len(checks), 'site')}, one job a site.",
    )
    # All in one transaction: a crash in the middle leaves every check or none.
    await jobs.enqueue_many(CheckSite, checks, callback=MailReport, tags=[MONITOR, run.tag])
    return run


def sites(urls: Iterable[str]) -> list[Site]:
    """One site a host: its URLs are asked for one after another, different sites at the same time."""
    by_host = dict[str, list[str]]()
    for url in urls:
        by_host.setdefault(httpx.URL(url).host, []).append(url)
    return [Site(name=host, urls=urls) for host, urls in by_host.items()]


async def jobs_of(run: Run, jobs: BackgroundJobs) -> list[int]:
    """Their ids, in the order of being enqueued."""
    page = await jobs.find_jobs(tag=run.tag)
    ids = [job.id for job in page.jobs]
    while page.next is not None:
        page = await jobs.find_jobs(tag=run.tag, after=page.next)
        ids += [job.id for job in page.jobs]
    return sorted(ids)
