"""What a URL says: `mssql://user:password@host:1433/database?schema=jobs`."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from commandjobs.errors import InvalidOption

SCHEMA = "commandjobs"
PORT = 1433
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the jobs are, and how they are reached."""

    connection: str
    """What the driver connects to: an ODBC connection string."""
    host: str
    database: str
    schema: str
    migrate: bool

    @property
    def place(self) -> str:
        """Host, database and schema, without secrets."""
        return f"SQL Server at {self.host}, database {self.database} (schema {self.schema})"


def parse(url: str) -> Address:
    """The address of a URL. `schema` and `migrate` are ours, every other parameter is one of the driver's connection
    string, such as `Encrypt`, `TrustServerCertificate` or `Authentication`.

    Raises `InvalidOption`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError as error:
        raise InvalidOption(f"storage: {error} in the URL of a SQL Server database.") from error
    host, database = unquote(parts.hostname or "localhost"), unquote(parts.path.removeprefix("/"))
    if not database:
        raise InvalidOption("storage: the URL of a SQL Server database must name one: mssql://user@host/database.")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = given.pop("schema", SCHEMA)
    if not NAME.fullmatch(schema):
        raise InvalidOption(
            f"storage: schema= must be a name of letters, digits and underscores, up to 100, got {schema!r}."
        )
    migrate = given.pop("migrate", "true")
    if migrate not in {"true", "false"}:
        raise InvalidOption(f"storage: migrate= must be true or false, got {migrate!r}.")
    keywords = {"Server": f"{host},{port}", "Database": database}
    if parts.username:
        keywords |= {"UID": unquote(parts.username), "PWD": unquote(parts.password or "")}
    known = {keyword.lower() for keyword in keywords}
    for keyword in given:
        if keyword.lower() in known:
            raise InvalidOption(f"storage: {keyword}= is said by the URL itself: mssql://user:password@host/database.")
    text = ";".join(f"{keyword}={_braced(value)}" for keyword, value in (keywords | given).items())
    return Address(text, f"{host}:{port}", database, schema, migrate == "true")


def _braced(value: str) -> str:
    """A value as it stands in a connection string, whatever is in it."""
    return "{" + value.replace("}", "}}") + "}"
