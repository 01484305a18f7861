"""Numbered schema files, run in their order under a lock, each in a transaction of its own."""

from importlib.resources import files

import asyncpg

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.postgres.address import quoted
from commandjobs.storage.postgres.connections import in_transaction

PACKAGE = "commandjobs.storage.postgres"


def steps() -> list[tuple[int, str, str]]:
    """All schema files: number, name, text."""
    found = [file for file in (files(PACKAGE) / "schema").iterdir() if file.name.endswith(".sql")]
    return [
        (int(file.name[:4]), file.name, file.read_text(encoding="utf-8"))
        for file in sorted(found, key=lambda file: file.name)
    ]


async def version(connection: asyncpg.Connection, schema: str) -> int:
    """The number of the last file that was run; 0: none was."""
    table = f"{quoted(schema)}.migration"
    found = await connection.fetch("select to_regclass($1) is not null", table)
    if not found[0][0]:
        return 0
    [(number,)] = await connection.fetch(f"select coalesce(max(number), 0) from {table}")  # noqa: S608  a quoted name
    return int(number)


async def migrate(connection: asyncpg.Connection, schema: str, place: str) -> list[str]:
    """Run the files that the schema has not seen; their names. Nodes that start together wait for each other."""
    name = quoted(schema)
    async with in_transaction(connection):
        if await _is_current(connection, schema, place):
            return []
    ran: list[str] = []
    async with in_transaction(connection, patience=0):
        await connection.fetch("select pg_advisory_xact_lock(hashtext('commandjobs migration'), hashtext($1))", schema)
        await _make_schema(connection, name)
        done = await version(connection, schema)
        for number, file, text in steps():
            if number > done:
                await connection.execute(text.replace("{schema}", name))
                await connection.execute(
                    f"insert into {name}.migration (number, name) values ($1, $2)",  # noqa: S608  a quoted name
                    number,
                    file,
                )
                ran.append(file)
    return ran


async def _make_schema(connection: asyncpg.Connection, name: str) -> None:
    """The schema and its list of files. Who has a schema need not have the right to make one: `create schema if not
    exists` asks for it all the same.
    """
    [(there,)] = await connection.fetch("select to_regnamespace($1) is not null", name)
    if not there:
        await connection.execute(f"create schema {name}")
    await connection.execute(
        f"create table if not exists {name}.migration ("
        "number integer primary key, name text not null, applied timestamptz not null default clock_timestamp())"
    )


async def check_current(connection: asyncpg.Connection, schema: str, place: str) -> None:
    """Raise `StorageUnavailable` unless the schema is up to date."""
    async with in_transaction(connection):
        is_current = await _is_current(connection, schema, place)
    if not is_current:
        raise StorageUnavailable(
            f"{place} is not up to date, and this process does not migrate. Run `commandjobs migrate URL` first."
        )


async def _is_current(connection: asyncpg.Connection, schema: str, place: str) -> bool:
    known, found = steps()[-1][0], await version(connection, schema)
    if found > known:
        raise StorageUnavailable(
            f"{place} was migrated by a newer commandjobs (its schema: {found}, known here: {known}). Update this one."
        )
    return found == known
