"""What kind of connection a caller has given: told by the package that its class comes from."""

import sys
from importlib import import_module
from typing import Any

from commandjobs.errors import InvalidOption
from commandjobs.storage.sql.callers.caller import Caller

PACKAGES = ("asyncpg", "psycopg", "psycopg2", "sqlalchemy", "django")
"""Those that a module here is named after."""
KNOWN = (
    "a Connection of asyncpg, a Connection or AsyncConnection of psycopg, a connection of psycopg2, a Connection, "
    "Session, AsyncConnection or AsyncSession of SQLAlchemy, or a connection of Django or its alias"
)


def recognised(connection: Any) -> Caller:
    """The connection as the storage can use it. Raises `InvalidOption` for anything else."""
    package = "django" if isinstance(connection, str) else _package_of(type(connection))
    if package is not None and package in sys.modules:
        caller: Caller | None = import_module(f"commandjobs.storage.sql.callers.{package}").adapted(connection)
        if caller is not None:
            return caller
    shown = repr(connection) if isinstance(connection, str) else f"{_article(type(connection).__qualname__)}"
    raise InvalidOption(
        f"connection cannot be {shown}: it must be the connection or session that your transaction is open on, such as "
        f"{KNOWN}."
    )


def _package_of(cls: type) -> str | None:
    """The first of the packages that the class, or one it derives from, comes from."""
    found = (base.__module__.partition(".")[0] for base in cls.__mro__)
    return next((package for package in found if package in PACKAGES), None)


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
