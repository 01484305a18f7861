"""What a URL says: `postgresql://user:password@host:5432/database?schema=jobs`."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from commandjobs.errors import InvalidOption

SCHEMA = "commandjobs"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the jobs are, and how they are reached."""

    dsn: str
    """What the driver connects to."""
    schema: str
    pooled: bool | None
    """Whether a pooler in transaction mode stands between; None: found out."""
    migrate: bool

    @property
    def place(self) -> str:
        """Host, database and schema, without secrets."""
        parts = urlsplit(self.dsn)
        host = parts.hostname or "localhost"
        return f"PostgreSQL at {host}:{parts.port or 5432}{parts.path or '/'} (schema {self.schema})"


def parse(url: str) -> Address:
    """The address of a URL. `schema`, `pooled` and `migrate` are ours, every other parameter is the driver's.

    Raises `InvalidOption`.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidOption(f"storage: {error} in the URL of a PostgreSQL database.") from error
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = given.pop("schema", SCHEMA)
    if not schema or len(schema.encode()) > 63 or "\0" in schema:
        raise InvalidOption(f"storage: schema= must be the name of a schema, up to 63 bytes, got {schema!r}.")
    pooled, migrate = _flag(given, "pooled"), _flag(given, "migrate")
    rest = parts._replace(scheme="postgresql", query=urlencode(given))
    return Address(urlunsplit(rest), schema, pooled, migrate is not False)


def _flag(given: dict[str, str], name: str) -> bool | None:
    value = given.pop(name, None)
    if value is None:
        return None
    if value not in {"true", "false"}:
        raise InvalidOption(f"storage: {name}= must be true or false, got {value!r}.")
    return value == "true"


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
