"""The jobs: a site is checked, its report is mailed, and for each URL that is down somebody is alerted."""

import asyncio
import time

import httpx
from pydantic import BaseModel

from commandjobs import AsyncCommandWithResult, BackgroundJobs, SyncCommand, current_job, retry, timeout, worker
from examples.url_monitor.mail import MailServer

RETRIES = 3
URL_TIMEOUT = 2.0  # seconds


class Site(BaseModel):
    name: str
    urls: list[str]


class UrlResult(BaseModel):
    url: str
    milliseconds: int
    error: str | None = None

    def __str__(self) -> str:
        return f"{self.url} is {f'down: {self.error}' if self.error else f'up, {self.milliseconds} ms'}"


class SiteReport(BaseModel):
    site: str
    results: list[UrlResult]

    @property
    def down(self) -> list[UrlResult]:
        return [result for result in self.results if result.error]

    def __str__(self) -> str:
        up = f"{len(self.results) - len(self.down)} of {len(self.results)} up"
        return ": ".join([up, *sorted({result.error for result in self.results if result.error})])


class SiteDownError(Exception):
    """Fails the attempt, so that the job is tried again."""


@timeout(300)  # seconds, for all URLs of a site
@retry(RETRIES, backoff="linear", delay=0.5)
class CheckSite(AsyncCommandWithResult[Site, SiteReport]):
    """Ask for each URL of a site, one after another."""

    def __init__(self, jobs: BackgroundJobs, client: httpx.AsyncClient) -> None:
        self.jobs = jobs
        self.client = client

    async def run(self, request: Site) -> SiteReport:
        job = current_job()
        report = SiteReport(site=request.name, results=[])
        for done, url in enumerate(request.urls):
            job.update_status(done / len(request.urls), f"GET {url}")
            report.results.append(await self.check(url))
        if report.down and job.attempt <= RETRIES:
            raise SiteDownError(str(report))
        return report  # of the last attempt, whatever it found

    async def check(self, url: str) -> UrlResult:
        job = current_job()
        result = await ask_for(url, self.client)
        if result.error is None:
            job.log.info("%s", result)
        else:
            job.log.warning("%s", result)
            # Bound to this attempt: if a later one finds the site up, nobody has been alerted.
            await self.jobs.enqueue_command(SendAlert, result, depends_on=job.id, tags=job.tags)
        return result


async def ask_for(url: str, client: httpx.AsyncClient) -> UrlResult:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(URL_TIMEOUT):
            response = await client.get(url)
        error = None if response.is_success else f"{response.status_code} {response.reason_phrase}"
    except TimeoutError:
        error = f"no answer within {URL_TIMEOUT:g} s"
    except httpx.HTTPError as failure:
        error = str(failure) or type(failure).__name__
    return UrlResult(url=url, milliseconds=round((time.perf_counter() - started) * 1000), error=error)


@worker("smtp")  # one mail at a time, in order
@retry(RETRIES, backoff="linear", delay=0.5)
class MailReport(SyncCommand[SiteReport]):
    """The callback of `CheckSite`: it runs with the report, once the check has succeeded."""

    def __init__(self, server: MailServer) -> None:
        self.server = server

    def run(self, request: SiteReport) -> None:
        body = "\n".join(str(result) for result in request.results)
        self.server.send(f"{request.site}: {request}", body)


@worker("smtp")
@retry(RETRIES, backoff="linear", delay=0.5)
class SendAlert(SyncCommand[UrlResult]):
    """Wake somebody up. Enqueued by the check that found the URL down."""

    def __init__(self, server: MailServer) -> None:
        self.server = server

    def run(self, request: UrlResult) -> None:
        self.server.send(f"DOWN: {request.url}", str(request))
