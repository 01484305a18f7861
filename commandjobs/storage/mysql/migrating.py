"""Numbered schema files, run in their order under a lock.

MySQL commits each change of a schema by itself, so every statement of a file can be run again: one that was interrupted
is, from its beginning.
"""

import re
from importlib.resources import files
from zlib import crc32

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.mysql.address import Address
from commandjobs.storage.mysql.connections import MysqlConnection, is_mariadb
from commandjobs.storage.mysql.literals import literal
from commandjobs.storage.sql.driver import TryAgain

PACKAGE = "commandjobs.storage.mysql"
COMMENT = re.compile(r"--.*$", re.MULTILINE)
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
OLDEST, OLDEST_MARIADB = (8, 0, 17), (10, 6, 0)
"""The first with SKIP LOCKED, JSON_TABLE, and a collation that does not pad."""
WAIT = 5
"""Seconds for the lock, in one try."""


def steps() -> list[tuple[int, str, str]]:
    """All schema files: number, name, text."""
    found = [file for file in (files(PACKAGE) / "schema").iterdir() if file.name.endswith(".sql")]
    return [
        (int(file.name[:4]), file.name, file.read_text(encoding="utf-8"))
        for file in sorted(found, key=lambda file: file.name)
    ]


def statements(text: str, *, prefix: str, collation: str) -> list[str]:
    """The statements of a schema file, with its names filled in."""
    bare = COMMENT.sub("", text).replace("{prefix}", prefix).replace("{collation}", collation)
    return [statement.strip() for statement in bare.split(";") if statement.strip()]


def collation_of(connection: MysqlConnection) -> str:
    """What the server calls the comparison of texts byte by byte, spaces at their ends included."""
    return "utf8mb4_nopad_bin" if is_mariadb(connection.raw) else "utf8mb4_0900_bin"


def check_server(version: str, place: str) -> None:
    """Raise `StorageUnavailable` for a server that is too old, by what it says of itself."""
    found = VERSION.search(version.removeprefix("5.5.5-"))  # which MariaDB says first, for old replicas
    name, oldest = ("MariaDB", OLDEST_MARIADB) if "MariaDB" in version else ("MySQL", OLDEST)
    if found is not None and tuple(map(int, found.groups())) < oldest:
        raise StorageUnavailable(f"{place} is {name} {found[0]}, and jobs need {'.'.join(map(str, oldest))} or newer.")


async def version(connection: MysqlConnection, prefix: str) -> int:
    """The number of the last file that was run; 0: none was."""
    name = f"{prefix}migration"
    there = await connection.fetch(
        f"select 1 from information_schema.tables where table_schema = database() and table_name = {literal(name)}"  # noqa: S608  quoted
    )
    if not there:
        return 0
    [(number,)] = await connection.fetch(f"select coalesce(max(number), 0) from {name}")  # noqa: S608  a checked name
    return int(number)


async def migrate(connection: MysqlConnection, address: Address) -> list[str]:
    """Run the files that the tables have not seen; their names. Nodes that start together wait for each other."""
    if await _is_current(connection, address):
        return []
    lock = literal(f"commandjobs {crc32(f'{address.database} {address.prefix}'.encode()):08x}")
    [(got,)] = await connection.fetch(f"select get_lock({lock}, {WAIT})")
    if not got:
        raise TryAgain("another process migrates")
    try:
        return await _run(connection, address.prefix)
    finally:
        if not connection.is_closed:
            await connection.fetch(f"select release_lock({lock})")


async def check_current(connection: MysqlConnection, address: Address) -> None:
    """Raise `StorageUnavailable` unless the tables are up to date."""
    if not await _is_current(connection, address):
        raise StorageUnavailable(
            f"{address.place} is not up to date, and this process does not migrate. "
            "Run `commandjobs migrate URL` first."
        )


async def _run(connection: MysqlConnection, prefix: str) -> list[str]:
    ran: list[str] = []
    if not (done := await version(connection, prefix)):
        await connection.execute(
            f"create table if not exists {prefix}migration (number integer not null primary key, "
            "name varchar(200) not null, applied timestamp(6) not null default current_timestamp(6)) engine=InnoDB"
        )
    for number, file, text in steps():
        if number > done:
            for statement in statements(text, prefix=prefix, collation=collation_of(connection)):
                await connection.execute(statement)
            await connection.execute(
                f"insert into {prefix}migration (number, name) values ({number}, {literal(file)})"  # noqa: S608  a checked name
            )
            ran.append(file)
    return ran


async def _is_current(connection: MysqlConnection, address: Address) -> bool:
    known, found = steps()[-1][0], await version(connection, address.prefix)
    if found > known:
        raise StorageUnavailable(
            f"{address.place} was migrated by a newer commandjobs (its schema: {found}, known here: {known}). "
            "Update this one."
        )
    return found == known
