from collections.abc import Iterator

from django.db import transaction as transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionProxy

class ConnectionHandler:
    def __getitem__(self, alias: str) -> BaseDatabaseWrapper: ...
    def __iter__(self) -> Iterator[str]: ...
    def close_all(self) -> None: ...

connections: ConnectionHandler
connection: ConnectionProxy
