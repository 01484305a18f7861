"""What the program can be told. A mistake gets one sentence and exit code 2."""

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import httpx

from examples.url_monitor.mail import MailServer

SHIPPED_URLS = Path(__file__).with_name("urls.txt")
DB = Path(".demo/jobs.db")


@dataclass(frozen=True)
class Arguments:
    urls: list[str]
    db: Path
    smtp: MailServer | None


class Mistake(Exception):
    """Says what is wrong with an argument."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:].rstrip('.')}.\n")


def read_arguments(argv: Sequence[str] | None = None) -> Arguments:
    parser = Parser(prog="url_monitor", description="Check URLs in background jobs, and mail a report for each site.")
    parser.add_argument(
        "--urls",
        metavar="FILE",
        type=Path,
        default=SHIPPED_URLS,
        help="one URL a line (default: urls.txt of the example)",
    )
    parser.add_argument("--db", metavar="PATH", type=Path, default=DB, help=f"the queue's file (default: {DB})")
    parser.add_argument("--smtp", metavar="HOST:PORT", help="the mail server (default: one that the example starts)")
    given = parser.parse_args(argv)
    try:
        return Arguments(
            urls=read_urls(given.urls),
            db=writable(given.db),
            smtp=None if given.smtp is None else mail_address(given.smtp),
        )
    except Mistake as mistake:
        parser.error(str(mistake))


def read_urls(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Mistake(f"cannot read the URLs from {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"cannot read the URLs from {file}: it is not a text file in UTF-8") from error
    urls = [
        url_in(line.strip(), f"line {number} of {file}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not urls:
        raise Mistake(f"there is no URL in {file}: write one a line")
    return list(dict.fromkeys(urls))


def url_in(line: str, where: str) -> str:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(line)
        if url.scheme in {"http", "https"} and url.host:
            return line
    raise Mistake(f"{where} is no http or https URL: {line}")


def mail_address(address: str) -> MailServer:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Mistake(f"--smtp takes a host and a port, such as localhost:25, not {address!r}")
    return MailServer(host.strip("[]"), int(port))


def writable(db: Path) -> Path:
    try:
        db.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"cannot make the directory {db.parent} for the database: {error.strerror}") from error
    if db.is_dir():
        raise Mistake(f"--db names a file, and {db} is a directory")
    if not os.access(db.parent, os.W_OK) or (db.exists() and not os.access(db, os.W_OK)):
        raise Mistake(f"cannot write the database {db}: permission denied")
    return db
