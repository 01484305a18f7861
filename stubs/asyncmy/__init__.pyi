"""What commandjobs calls of asyncmy, whose own types leave most of it open."""

from ssl import SSLContext

from asyncmy.cursors import Cursor

class MySQLError(Exception): ...

class Connection:
    server_version: str
    def cursor(self) -> Cursor: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def ensure_closed(self) -> None: ...
    def close(self) -> None: ...
    @property
    def connected(self) -> bool: ...

async def connect(
    *,
    host: str | None = ...,
    port: int = ...,
    unix_socket: str | None = ...,
    user: str | None = ...,
    password: str = ...,
    database: str | None = ...,
    charset: str = ...,
    autocommit: bool | None = ...,
    client_flag: int = ...,
    ssl: SSLContext | None = ...,
    program_name: str | None = ...,
) -> Connection: ...
