"""Numbered schema files, run in their order under a lock, in one transaction. In a file, lines of `go` part batches, as
in SQL Server's own tools.
"""

import re
from importlib.resources import files

from commandjobs.errors import StorageUnavailable
from commandjobs.storage.queries import load_bodies
from commandjobs.storage.sql.driver import Connection
from commandjobs.storage.sqlserver.parameters import declared

PACKAGE = "commandjobs.storage.sqlserver"
SQL_SERVER_2017 = 140
"""The compatibility level that the statements need."""


def steps() -> list[tuple[int, str, str]]:
    """All schema files: number, name, text."""
    found = [file for file in (files(PACKAGE) / "schema").iterdir() if file.name.endswith(".sql")]
    return [
        (int(file.name[:4]), file.name, file.read_text(encoding="utf-8"))
        for file in sorted(found, key=lambda file: file.name)
    ]


def batches(text: str, schema: str) -> list[str]:
    """The batches of a schema file."""
    parts = re.split(r"^go\s*$", text.replace("{schema}", f"[{schema}]"), flags=re.MULTILINE)
    return [part.strip() for part in parts if part.strip()]


class Migration:
    """Brings one schema up to date."""

    def __init__(self, schema: str, place: str) -> None:
        """schema: its name; place: what is said of it in errors."""
        self._schema = schema
        self._place = place
        bodies = load_bodies(PACKAGE, file="migrating.sql", schema=f"[{schema}]")
        self.sql = {name: declared(name, body) for name, body in bodies.items()}

    async def run(self, connection: Connection) -> list[str]:
        """Run the files that the schema has not seen; their names. Nodes that start together wait for each other."""
        if await self._is_current(connection):
            return []
        [(has_schema, has_table)] = await connection.rows(self.sql["objects"], schema=self._schema)
        if not has_schema:
            await connection.run(self.sql["create_schema"])
        if not has_table:
            await connection.run(self.sql["create_migration"])
        [(done,)] = await connection.rows(self.sql["lock_version"])
        ran: list[str] = []
        for number, file, text in steps():
            if number > done:
                for batch in batches(text, self._schema):
                    await connection.run(declared(file, batch))
                await connection.run(self.sql["note_migration"], number=number, name=file)
                ran.append(file)
        return ran

    async def check_current(self, connection: Connection) -> None:
        """Raise `StorageUnavailable` unless the schema is up to date."""
        if not await self._is_current(connection):
            raise StorageUnavailable(
                f"{self._place} is not up to date, and this process does not migrate. "
                "Run `commandjobs migrate URL` first."
            )

    async def check_database(self, connection: Connection) -> None:
        """Raise `StorageUnavailable` if the database itself is not set up for what is done here."""
        [(shows_versions, level)] = await connection.rows(self.sql["database"])
        if level < SQL_SERVER_2017:
            raise StorageUnavailable(
                f"{self._place} has compatibility level {level}; {SQL_SERVER_2017} (SQL Server 2017) is the least."
            )
        if not shows_versions:
            raise StorageUnavailable(
                f"{self._place} lets readers wait for writers, and so deadlock with them. Have its operator run once: "
                "ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"
            )

    async def _is_current(self, connection: Connection) -> bool:
        known, found = steps()[-1][0], await self._version(connection)
        if found > known:
            raise StorageUnavailable(
                f"{self._place} was migrated by a newer commandjobs (its schema: {found}, known here: {known}). "
                "Update this one."
            )
        return found == known

    async def _version(self, connection: Connection) -> int:
        """The number of the last file that was run; 0: none was."""
        [(_, has_table)] = await connection.rows(self.sql["objects"], schema=self._schema)
        if not has_table:
            return 0
        [(number,)] = await connection.rows(self.sql["version"])
        return int(number)
