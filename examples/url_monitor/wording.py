"""How a job is spoken of: its name, its situation, its colour."""

from datetime import UTC, datetime

from commandjobs import ErrorCode, JobResult, JobState
from examples.url_monitor.commands import Site, UrlResult

STYLES = {
    JobState.QUEUED: "yellow",
    JobState.STARTED: "cyan",
    JobState.EXECUTED: "magenta",
    JobState.COMPLETED: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "dim",
}


def subject(found: JobResult) -> str:
    """What a job is about: the site it checks, or the URL it alerts for."""
    match found.request():
        case Site(name=name):
            return name
        case UrlResult(url=url):
            return url.removeprefix("http://")
        case _:
            return found.summary.command


def situation(found: JobResult) -> str:
    """What a job does, waits for, or has come to."""
    job = found.job
    match job.state:
        case JobState.STARTED:
            return job.status or f"attempt {job.attempts}"
        case JobState.EXECUTED:
            return f"{found.response()}, its report is to be mailed"
        case JobState.COMPLETED:
            return str(found.response() or "mailed")
        case JobState.QUEUED if job.run_after is not None and job.error is not None:
            seconds = (job.run_after - datetime.now(UTC)).total_seconds()
            return f"{job.error.message}, {f'again in {seconds:.1f} s' if seconds > 0 else 'to be tried again'}"
        case JobState.QUEUED:
            return job.wait_reason or ""
        case JobState.CANCELLED if job.error_code == ErrorCode.ATTEMPT_FAILED:
            return "not sent, its check failed"
        case _:
            return f"{job.error_code}: {job.error.message}" if job.error is not None else ""


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
