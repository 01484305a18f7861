"""What a URL says: `mysql://user:password@host:3306/database?prefix=jobs_`."""

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from commandjobs.errors import InvalidOption

PREFIX = "commandjobs_"
PORT = 3306
LONGEST_PREFIX = 32
"""Characters; a table's name may have 64."""
PARAMETERS = ("prefix", "migrate", "ssl", "ssl_ca", "unix_socket")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the jobs are, and how they are reached."""

    host: str
    port: int
    user: str | None
    password: str = field(repr=False)
    database: str
    prefix: str
    """Of the names of all tables: they lie among those of the application."""
    migrate: bool
    encrypted: bool
    ca: str | None
    """File of the certificates that are trusted; None: those of the system."""
    socket: str | None

    @property
    def place(self) -> str:
        """Host, database and prefix, without secrets."""
        where = self.socket or f"{self.host}:{self.port}"
        return f"MySQL at {where}/{self.database} (tables {self.prefix}*)"

    def ssl_context(self) -> ssl.SSLContext | None:
        """How the connection is encrypted; None: it is not."""
        return ssl.create_default_context(cafile=self.ca) if self.encrypted else None


def parse(url: str) -> Address:
    """The address of a URL; `mariadb://` is the same. Raises `InvalidOption`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidOption(f"storage: {error} in the URL of a MySQL database.") from error
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(PARAMETERS))
    if unknown:
        raise InvalidOption(f"storage: a MySQL URL takes {', '.join(PARAMETERS)}, not {', '.join(unknown)}.")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise InvalidOption("storage: a MySQL URL names its database: 'mysql://user:password@host/database'.")
    ca = given.get("ssl_ca")
    return Address(
        host=parts.hostname or "localhost",
        port=port or PORT,
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
        database=database,
        prefix=_prefix(given.get("prefix", PREFIX)),
        migrate=_flag(given, "migrate", default=True),
        encrypted=_flag(given, "ssl", default=ca is not None),
        ca=ca,
        socket=given.get("unix_socket"),
    )


def _prefix(prefix: str) -> str:
    if len(prefix) > LONGEST_PREFIX or not all(
        letter.isascii() and (letter.isalnum() or letter == "_") for letter in prefix
    ):
        raise InvalidOption(
            f"storage: prefix= must be up to {LONGEST_PREFIX} letters, digits and underscores, got {prefix!r}."
        )
    return prefix


def _flag(given: dict[str, str], name: str, *, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if value not in {"true", "false"}:
        raise InvalidOption(f"storage: {name}= must be true or false, got {value!r}.")
    return value == "true"
