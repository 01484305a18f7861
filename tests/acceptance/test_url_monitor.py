"""The demo: what it prints, what it leaves behind, and that no signal makes it lose or repeat work."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
import svcs
from aiosmtpd.smtp import SMTP, Envelope, Session

from commandjobs import BackgroundJobs, JobResult, JobState, Registry
from tests.conftest import until

REGISTRY = Registry()
with pytest.MonkeyPatch.context() as patch:
    # The demo's commands ask for services, which every other engine of this test run would miss at its start.
    patch.setattr("commandjobs.registry.default", REGISTRY)
    from examples.url_monitor import commands
    from examples.url_monitor.commands import RETRIES, CheckSite, MailReport, Site, SiteReport
    from examples.url_monitor.mail import MailServer
    from examples.url_monitor.servers import Website

ROOT = Path(__file__).parents[2]
PROGRAM = str(ROOT / "tests" / "acceptance" / "programs" / "monitor.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
PATIENCE = 60.0
"""Seconds for a web server to answer: more than any stall of the machine, which would make a site look down."""


class Inbox:
    """A mail server that remembers the subjects."""

    def __init__(self) -> None:
        self.subjects = list[str]()
        self.port = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.subjects.append(message_from_bytes(envelope.content)["Subject"])
        return "250 OK"

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncGenerator["Inbox"]:
        inbox, loop = cls(), asyncio.get_running_loop()
        async with await loop.create_server(lambda: SMTP(inbox, hostname="localhost"), "127.0.0.1", 0) as server:
            inbox.port = server.sockets[0].getsockname()[1]
            yield inbox


class Demo:
    """The program in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, *arguments: str, patience: float = PATIENCE) -> AsyncGenerator["Demo"]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, PROGRAM, str(patience), *arguments),
            cwd=folder,
            env={**ENVIRONMENT, "PYTHONWARNINGS": "error"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def printed(self, pattern: str, seconds: float = 60) -> None:
        """Wait until it has printed this."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while not re.search(pattern, self.output):
                line = await self.process.stdout.readline()
                assert line, f"It ended without printing {pattern!r}:\n{self.output}"
                self.output += line.decode()

    async def ended(self, seconds: float = 100) -> int:
        """Wait until it has ended; its exit code."""
        async with asyncio.timeout(seconds):
            rest, _ = await self.process.communicate()
        self.output += rest.decode()
        assert "Traceback" not in self.output
        assert self.process.returncode is not None
        return self.process.returncode


class Held(Website):
    """Answers nobody until its gate is open."""

    def __init__(self) -> None:
        super().__init__(delay=0)
        self.gate = asyncio.Event()

    async def patient(self, reader: asyncio.StreamReader) -> bool:
        await self.gate.wait()
        return await super().patient(reader)


async def run_demo(folder: Path, *arguments: str, patience: float = PATIENCE) -> tuple[int, str]:
    async with Demo.start(folder, *arguments, patience=patience) as demo:
        return await demo.ended(), demo.output


async def jobs_in(db: Path, command: str) -> dict[str, list[JobResult]]:
    """All its jobs of one command, by the site or the URL they are about, oldest first."""
    found = dict[str, list[JobResult]]()
    async with BackgroundJobs(db, execute=False, registry=REGISTRY) as jobs:
        page = await jobs.find_jobs(command=command, limit=1000)
        for summary in reversed(page.jobs):
            job = await jobs.get_job(summary.id)
            assert job is not None
            request = job.request()
            found.setdefault(request.name if isinstance(request, Site) else request.url, []).append(job)
    return found


async def endings(db: Path, id: int) -> list[str]:
    async with BackgroundJobs(db, execute=False, registry=REGISTRY) as jobs:
        return [attempt.outcome for attempt in await jobs.get_attempts(id) if attempt.phase == "work"]


def write_urls(folder: Path, *urls: str) -> tuple[str, str]:
    (folder / "urls.txt").write_text("\n".join(urls), encoding="utf-8")
    return "--urls", "urls.txt"


async def test_it_runs_to_its_end_and_prints_what_became_of_every_job(tmp_path: Path) -> None:
    async with Inbox.open() as inbox:
        code, output = await run_demo(tmp_path, "--smtp", f"127.0.0.1:{inbox.port}", patience=4)

    db = tmp_path / ".demo" / "jobs.db"
    checks = {site: found[0].job for site, found in (await jobs_in(db, "CheckSite")).items()}
    alerts = await jobs_in(db, "SendAlert")
    assert code == 0, output
    assert {site: (job.state, job.attempts) for site, job in checks.items()} == {
        "fast.example": (JobState.COMPLETED, 1),
        "slow.example": (JobState.COMPLETED, 1),
        "flaky.example": (JobState.COMPLETED, 3),
        "silent.example": (JobState.COMPLETED, 4),
    }
    assert "0 of 1 up: no answer within 4 s" in " ".join(output.split())
    # Only what the successful attempt enqueued has run.
    for url, found in alerts.items():
        *lost, last = found
        assert {(job.job.state, job.job.error_code) for job in lost} == {(JobState.CANCELLED, "AttemptFailed")}
        assert last.job.state is (JobState.COMPLETED if "silent" in url else JobState.CANCELLED)
    assert sorted(inbox.subjects) == [
        "DOWN: http://silent.example/",
        "fast.example: 5 of 5 up",
        "flaky.example: 2 of 2 up",
        "silent.example: 0 of 1 up: no answer within 4 s",
        "slow.example: 4 of 4 up",
    ]
    month = f"jobs_{checks['fast.example'].created:%Y-%m}.db"
    assert month in output
    assert (db.parent / month).is_file()


async def test_ctrl_c_says_what_is_left_and_a_second_start_finishes_it(tmp_path: Path) -> None:
    slow = Held()
    async with slow.serve() as port, Inbox.open() as inbox:
        urls = write_urls(tmp_path, "http://fast.example/", *(f"http://127.0.0.1:{port}/{page}" for page in range(4)))
        arguments = (*urls, "--db", "monitor.db", "--smtp", f"127.0.0.1:{inbox.port}")

        async with Demo.start(tmp_path, *arguments) as first:
            await first.printed(r"fast\.example .* Completed")
            await until(lambda: slow.requests["/0"])
            first.process.send_signal(signal.SIGINT)
            assert await first.ended() == 130
        slow.gate.set()
        code, output = await run_demo(tmp_path, *arguments)

    checks = await jobs_in(tmp_path / "monitor.db", "CheckSite")
    [of_fast], [of_slow] = checks["fast.example"], checks["127.0.0.1"]
    assert "Stopped with 1 job unfinished" in first.output
    assert "which left 1 job unfinished" in output
    assert code == 0
    assert await endings(tmp_path / "monitor.db", of_fast.job.id) == ["Succeeded"]
    assert await endings(tmp_path / "monitor.db", of_slow.job.id) == ["HandedBack", "Succeeded"]
    assert inbox.subjects == ["fast.example: 1 of 1 up", "127.0.0.1: 4 of 4 up"]


async def test_kill_9_in_the_middle_and_a_second_start_finishes_it(tmp_path: Path) -> None:
    site = Website(delay=0.3, failures=1)
    async with site.serve() as port, Inbox.open() as inbox:
        urls = write_urls(tmp_path, *(f"http://127.0.0.1:{port}/{page}" for page in range(10)))
        arguments = (*urls, "--db", "monitor.db", "--smtp", f"127.0.0.1:{inbox.port}")

        async with Demo.start(tmp_path, *arguments) as first:
            await first.printed(r"/1 is down")
            first.process.kill()
            await first.ended()
        code, output = await run_demo(tmp_path, *arguments)

    [check] = (await jobs_in(tmp_path / "monitor.db", "CheckSite"))["127.0.0.1"]
    alerts = await jobs_in(tmp_path / "monitor.db", "SendAlert")
    assert code == 0, output
    assert (await endings(tmp_path / "monitor.db", check.job.id))[0] == "Crashed"
    assert {job.job.error_code for found in alerts.values() for job in found} == {"AttemptFailed"}
    assert inbox.subjects == ["127.0.0.1: 10 of 10 up"]


async def test_a_start_beside_another_stands_by_and_takes_over_when_that_is_killed(tmp_path: Path) -> None:
    slow = Held()
    async with slow.serve() as port, Inbox.open() as inbox:
        urls = write_urls(tmp_path, *(f"http://127.0.0.1:{port}/{page}" for page in range(3)))
        arguments = (*urls, "--smtp", f"127.0.0.1:{inbox.port}")

        async with Demo.start(tmp_path, *arguments) as first:
            await first.printed("Started")
            await until(lambda: slow.requests["/0"])
            async with Demo.start(tmp_path, *arguments) as second:
                await second.printed("Going on with")
                first.process.kill()
                slow.gate.set()
                assert await second.ended() == 0

    [check] = (await jobs_in(tmp_path / ".demo" / "jobs.db", "CheckSite"))["127.0.0.1"]
    assert await endings(tmp_path / ".demo" / "jobs.db", check.job.id) == ["Crashed", "Succeeded"]
    assert inbox.subjects == ["127.0.0.1: 3 of 3 up"]


async def test_a_mail_server_that_is_away_fails_the_callback_and_not_the_check(tmp_path: Path) -> None:
    urls = write_urls(tmp_path, "http://fast.example/")
    async with Inbox.open() as inbox:
        pass  # so nobody listens there now

    code, output = await run_demo(tmp_path, *urls, "--smtp", f"127.0.0.1:{inbox.port}")

    [check] = (await jobs_in(tmp_path / ".demo" / "jobs.db", "CheckSite"))["fast.example"]
    assert code == 1, output
    assert (check.job.state, check.job.error_code) == (JobState.FAILED, "CallbackFailed")
    assert (check.job.attempts, check.job.callback_attempts) == (1, 1 + RETRIES)
    assert check.response() is not None


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
async def test_on_a_terminal_it_draws_a_live_table_and_leaves_the_cursor_on(tmp_path: Path) -> None:
    urls = write_urls(tmp_path, "http://fast.example/")
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.url_monitor", *urls),
        cwd=tmp_path,
        env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    output = await asyncio.to_thread(read_terminal, ours)

    assert await process.wait() == 0
    assert "what happens" in output
    assert "fast.example" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # shown after it was hidden for the last time


def read_terminal(ours: int) -> str:
    """What is written to it, until nobody has it open any more."""
    output = b""
    try:
        while data := os.read(ours, 65536):
            output += data
    except OSError:  # Linux: the other side is closed
        pass
    finally:
        os.close(ours)
    return output.decode()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--urls", "missing.txt"], "Cannot read the URLs from missing.txt: No such file or directory."),
        (["--urls", "."], "Cannot read the URLs from .: Is a directory."),
        (["--urls", "binary"], "Cannot read the URLs from binary: it is not a text file in UTF-8."),
        (["--urls", "empty.txt"], "There is no URL in empty.txt: write one a line."),
        (["--urls", "wrong.txt"], "Line 2 of wrong.txt is no http or https URL: ftp://example.com/."),
        (["--smtp", "localhost"], "--smtp takes a host and a port, such as localhost:25, not 'localhost'."),
        (["--smtp", "localhost:70000"], "--smtp takes a host and a port, such as localhost:25, not 'localhost:70000'."),
        (["--db", "."], "--db names a file, and . is a directory."),
        (["--db", "empty.txt/jobs.db"], "Cannot make the directory empty.txt for the database: File exists."),
        (["--dp", "x"], "Unrecognized arguments: --dp x."),
    ],
)
async def test_a_wrong_argument_gets_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_text("# nothing\n\n", encoding="utf-8")
    (tmp_path / "wrong.txt").write_text("http://fast.example/\nftp://example.com/\n", encoding="utf-8")

    code, output = await run_demo(tmp_path, *arguments)

    assert (code, output) == (2, f"{sentence}\n")


async def test_a_file_that_is_no_database_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database " * 1000, encoding="utf-8")

    code, output = await run_demo(tmp_path, "--db", "notes.db")

    assert code == 2
    assert "notes.db" in output
    assert output.count("\n") == 1


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"


@asynccontextmanager
async def engine(storage: str, inbox: Inbox) -> AsyncGenerator[BackgroundJobs]:
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        svcs.Registry() as services,
    ):
        services.register_value(httpx.AsyncClient, client)  # pyright: ignore[reportUnknownMemberType]
        services.register_value(MailServer, MailServer("127.0.0.1", inbox.port))  # pyright: ignore[reportUnknownMemberType]
        async with BackgroundJobs(storage, services=services, registry=REGISTRY) as jobs:
            yield jobs


class AnswersOnce(Website):
    """Leaves the second who asks, and all after it, without an answer."""

    def __init__(self) -> None:
        super().__init__(delay=0)
        self.asked_twice = asyncio.Event()

    async def patient(self, reader: asyncio.StreamReader) -> bool:
        if len(self.requests) == 2:
            self.delay = None
            self.asked_twice.set()
        return await super().patient(reader)


async def test_z04_cancel_midway_stops_within_one_url_and_sends_no_report(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "URL_TIMEOUT", PATIENCE)
    website = AnswersOnce()
    async with website.serve() as port, Inbox.open() as inbox, engine(storage, inbox) as jobs:
        site = Site(name="site", urls=[f"http://127.0.0.1:{port}/{page}" for page in range(5)])
        check = await jobs.enqueue_command(CheckSite, site, callback=MailReport)
        async with asyncio.timeout(10):
            await website.asked_twice.wait()

        assert await check.cancel()
        ended = await check.wait(timeout=10)
        await jobs.wait_until_idle(timeout=10)

        assert ended.job.state is JobState.CANCELLED
        assert list(website.requests) == ["/0", "/1"]
        assert ended.job.callback_attempts == 0
        assert inbox.subjects == []


async def test_z04_the_report_is_mailed_once_and_only_after_success(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "URL_TIMEOUT", PATIENCE)
    good, bad = Website(delay=0), Website(delay=0, failures=10)
    async with good.serve() as up, bad.serve() as down, Inbox.open() as inbox, engine(storage, inbox) as jobs:
        [first, second] = await jobs.enqueue_many(
            CheckSite,
            [
                Site(name="good", urls=[f"http://127.0.0.1:{up}/"]),
                Site(name="bad", urls=[f"http://127.0.0.1:{down}/"]),
            ],
            callback=MailReport,
            retry_limit=0,
        )

        report = await first.result(timeout=10)
        await second.wait(timeout=10)
        await jobs.wait_until_idle(timeout=10)

        assert isinstance(report, SiteReport)
        assert (await first.wait()).job.state is JobState.COMPLETED
        assert (await second.wait()).job.state is JobState.FAILED
        assert inbox.subjects == ["good: 1 of 1 up"]
