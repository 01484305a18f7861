"""Where jobs are kept: `open_storage` picks a backend by its URL and imports only that one."""

import os
from typing import Literal
from urllib.parse import unquote, urlsplit

from commandjobs.errors import InvalidOption
from commandjobs.storage.base import Storage


def open_storage(
    storage: str | os.PathLike[str] | Storage,
    *,
    durability: Literal["full", "relaxed"] = "full",
    lease: float = 30.0,
) -> Storage:
    """The storage that a URL, or a path of an SQLite file, stands for; not opened yet. A Storage is returned as it is.

    durability: for SQLite. lease: seconds that a silent node keeps its jobs; for servers.

    Raises `InvalidOption` for a URL of no kind that there is, or one whose driver is not installed.
    """
    if isinstance(storage, os.PathLike):
        return _sqlite(os.fspath(storage), durability)
    if not isinstance(storage, str):
        if not hasattr(storage, "capabilities"):
            raise InvalidOption(f"storage must be a URL, a path or a Storage, got {storage!r}.")
        return storage
    parts = urlsplit(storage)
    if storage == "memory://":
        from commandjobs.storage.memory import MemoryStorage  # noqa: PLC0415  only the one that is used

        return MemoryStorage()
    if parts.scheme == "sqlite" and not (parts.netloc or parts.query or parts.fragment) and len(parts.path) > 1:
        return _sqlite(_path_of(storage), durability)
    if parts.scheme in {"postgresql", "postgres"}:
        return _postgres(storage, lease)
    if parts.scheme == "mssql":
        return _sqlserver(storage, lease)
    raise InvalidOption(
        "storage must be 'sqlite:///path/to/jobs.db' (four slashes for an absolute path), 'memory://' or "
        f"'postgresql://user@host/database?schema=jobs' (or mssql://…), got {shown(storage)}."
    )


def shown(url: str) -> str:
    """A URL as it may be told in a sentence, without its password."""
    return repr(without_password(url))


def without_password(url: str) -> str:
    """A URL as it may be told."""
    password = urlsplit(url).password
    return url if password is None else url.replace(f":{password}@", ":***@")


def _path_of(url: str) -> str:
    """`sqlite:///jobs.db` is relative, `sqlite:////data/jobs.db` absolute, as in SQLAlchemy."""
    return unquote(url.removeprefix("sqlite:///"))


def _sqlite(path: str, durability: Literal["full", "relaxed"]) -> Storage:
    if path == ":memory:":
        raise InvalidOption("storage: ':memory:' of SQLite cannot hold a queue. 'memory://' is one without files.")
    from commandjobs.storage.sqlite.storage import SqliteStorage  # noqa: PLC0415

    return SqliteStorage(path, durability=durability)


def _postgres(url: str, lease: float) -> Storage:
    try:
        from commandjobs.storage.postgres.storage import PostgresStorage  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if missing.name != "asyncpg":
            raise
        raise InvalidOption('storage: PostgreSQL comes with an extra: pip install "commandjobs[postgres]"') from missing
    return PostgresStorage(url, lease=lease)


def _sqlserver(url: str, lease: float) -> Storage:
    try:
        from commandjobs.storage.sqlserver.storage import SqlServerStorage  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if missing.name != "mssql_python":
            raise
        raise InvalidOption('storage: SQL Server comes with an extra: pip install "commandjobs[mssql]"') from missing
    return SqlServerStorage(url, lease=lease)
