"""The world the example runs in: four web servers and a mail server, all real, all on loopback."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus

import httpx
from aiosmtpd.smtp import SMTP, Envelope, Session

from examples.url_monitor.mail import MailServer

LOOPBACK = "127.0.0.1"


class Website:
    """A web server that answers after `delay` seconds (None: never), each page with 503 the first `failures` times."""

    def __init__(self, delay: float | None, failures: int = 0) -> None:
        self.delay = delay
        self.failures = failures
        self.requests = Counter[str]()

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[int]:
        """Listen on a free port."""
        async with await asyncio.start_server(self.answer, LOOPBACK, 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request_line = await reader.readline()
            await reader.readuntil(b"\r\n\r\n")
            path = request_line.split()[1].decode()
            self.requests[path] += 1
            if await self.patient(reader):
                status = HTTPStatus.SERVICE_UNAVAILABLE if self.requests[path] <= self.failures else HTTPStatus.OK
                headers = "Content-Length: 0\r\nConnection: close"
                writer.write(f"HTTP/1.1 {status:d} {status.phrase}\r\n{headers}\r\n\r\n".encode())
        writer.close()

    async def patient(self, reader: asyncio.StreamReader) -> bool:
        """Let the caller wait; False if it hangs up meanwhile."""
        try:
            await asyncio.wait_for(reader.read(), self.delay)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def websites() -> AsyncGenerator[httpx.AsyncClient]:
    """Start the web servers, and give a client that finds them by name. It finds the rest of the web as usual."""
    hosts = {
        "fast.example": Website(delay=0.15),
        "slow.example": Website(delay=1.4),
        "flaky.example": Website(delay=0.3, failures=2),
        "silent.example": Website(delay=None),
    }
    async with AsyncExitStack() as stack:
        routes = {f"http://{host}": To(await stack.enter_async_context(site.serve())) for host, site in hosts.items()}
        yield await stack.enter_async_context(httpx.AsyncClient(mounts=routes, follow_redirects=True))


class To(httpx.AsyncHTTPTransport):
    """Takes every request to one port on loopback, as a line in /etc/hosts would."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host=LOOPBACK, port=self.port)
        return await super().handle_async_request(request)


class Inbox:
    """What the mail server does with a mail: accept it."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd calls it
        return "250 Message accepted for delivery"


@asynccontextmanager
async def mail_server() -> AsyncGenerator[MailServer]:
    """Start an SMTP server on a free port."""
    loop, inbox = asyncio.get_running_loop(), Inbox()
    async with await loop.create_server(lambda: SMTP(inbox, hostname="localhost"), LOOPBACK, 0) as server:
        yield MailServer(LOOPBACK, server.sockets[0].getsockname()[1])
