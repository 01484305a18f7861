"""A statement on a server, through a driver and nothing of the package."""

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

asyncpg: Any = import_module("asyncpg")
asyncmy: Any = import_module("asyncmy")


async def ask_postgres(url: str, sql: str = "select 1") -> Any:
    """The first value of its first row."""
    connection = await asyncpg.connect(url, timeout=30)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def ask_mysql(url: str, sql: str = "select 1") -> Any:
    """The same."""
    parts = urlsplit(url)
    account = {"user": parts.username or "root", "password": parts.password or ""}
    connection = await asyncmy.connect(host=parts.hostname, port=parts.port or 3306, db=parts.path[1:], **account)
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(sql)
            row = await cursor.fetchone()
            return row[0] if row is not None else None
    finally:
        await connection.ensure_closed()
