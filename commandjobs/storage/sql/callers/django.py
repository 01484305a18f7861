"""Django: the connection of a database alias, in the thread that uses it."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionDoesNotExist, ConnectionProxy

from commandjobs.errors import InvalidOption
from commandjobs.storage.queries import Statement, Style
from commandjobs.storage.sql.callers.caller import FAILED, Caller, autocommit


def adapted(connection: object) -> Caller | None:
    """The connection as the storage can use it; a text is the alias of one."""
    if isinstance(connection, str):
        return DjangoCaller(_of_alias(connection))
    if isinstance(connection, ConnectionProxy):  # `django.db.connection`
        return DjangoCaller(connections[connection._alias])  # noqa: SLF001  it tells nobody else
    return DjangoCaller(connection) if isinstance(connection, BaseDatabaseWrapper) else None


class DjangoCaller:
    """A database connection of Django."""

    kind = "a connection of Django"
    blocking = True
    style: Style = "%s"

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        """Over Django's own."""
        self._wrapper = wrapper
        self.databases = frozenset({wrapper.vendor})

    @property
    def raw(self) -> object:
        """The driver's own connection, once there is one."""
        return self._wrapper.connection

    async def begin(self) -> None:
        """It is at hand."""

    def refusal(self) -> str | None:
        """Why nothing can be enqueued on it now."""
        if self._wrapper.needs_rollback:
            return FAILED
        is_connected = self._wrapper.connection is not None
        by_itself = self._wrapper.autocommit if is_connected else self._wrapper.settings_dict["AUTOCOMMIT"]
        if by_itself and not self._wrapper.in_atomic_block:
            return autocommit("open one with `with transaction.atomic():`")
        return None

    async def rows(self, statement: Statement, /, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement; the rows it returns."""
        with self._wrapper.cursor() as cursor:
            cursor.execute(statement.text, statement.values(parameters))
            return cursor.fetchall()

    async def run(self, statement: Statement, /, **parameters: Any) -> None:
        """Run a statement whose answer nobody needs."""
        with self._wrapper.cursor() as cursor:
            cursor.execute(statement.text, statement.values(parameters))


def _of_alias(alias: str) -> BaseDatabaseWrapper:
    try:
        return connections[alias]
    except (ConnectionDoesNotExist, ImproperlyConfigured) as error:
        raise InvalidOption(f"connection={alias!r} is no alias of a database in Django's settings: {error}") from error
