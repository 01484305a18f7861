"""Starts the checks, or goes on with those that an earlier start left; watches them; shows what became of them."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext

import httpx
import svcs
from rich.console import Console
from rich.logging import RichHandler

from commandjobs import BackgroundJobs, StorageError
from examples.url_monitor.arguments import Arguments, read_arguments
from examples.url_monitor.mail import MailServer
from examples.url_monitor.runs import start_or_go_on
from examples.url_monitor.servers import mail_server, websites
from examples.url_monitor.summary import show_summary
from examples.url_monitor.terminal import watch

SHUTDOWN_GRACE = 1.0  # seconds that running jobs get to end after Ctrl-C, before they go back to the queue


def main(argv: Sequence[str] | None = None) -> int:
    arguments = read_arguments(argv)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    # What jobs log is shown from their own logs. Here, only errors of everything else are.
    logging.basicConfig(handlers=[RichHandler(logging.ERROR, console)], format="%(message)s")
    try:
        return asyncio.run(monitor(arguments, console))
    except StorageError as error:
        print(error, file=sys.stderr)
        return 2


async def monitor(arguments: Arguments, console: Console) -> int:
    stop = stop_on_ctrl_c()
    async with (
        services_for(arguments) as services,
        BackgroundJobs(arguments.db, services=services, shutdown_grace=SHUTDOWN_GRACE) as jobs,
    ):
        run = await start_or_go_on(jobs, arguments.urls)
        console.print(run.greeting)
        await watch(run, jobs, console, stop)
        if stop.is_set():
            console.print("Stopping: what still runs in a second goes back to the queue.")
    # The engine has stopped. What follows is what any other process would find in its files.
    async with BackgroundJobs(arguments.db, execute=False) as jobs:
        return await show_summary(run, jobs, arguments.db, console)


@asynccontextmanager
async def services_for(arguments: Arguments) -> AsyncGenerator[svcs.Registry]:
    """What the commands ask for in their `__init__`."""
    smtp = mail_server() if arguments.smtp is None else nullcontext(arguments.smtp)
    async with websites() as client, smtp as mail, svcs.Registry() as services:
        services.register_value(httpx.AsyncClient, client)  # pyright: ignore[reportUnknownMemberType]
        services.register_value(MailServer, mail)  # pyright: ignore[reportUnknownMemberType]
        yield services


def stop_on_ctrl_c() -> asyncio.Event:
    """The first Ctrl-C sets the event, so that everything is left in order. A second one ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def first(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stop.set)

    signal.signal(signal.SIGINT, first)
    return stop
