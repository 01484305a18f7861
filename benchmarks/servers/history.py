"""Years of use in a minute: finished jobs, written by the server itself, past the library."""

from pathlib import Path

from benchmarks.servers.server import Kind, Server

SCRIPTS = {Kind.POSTGRES: "history_postgres.sql", Kind.MARIADB: "history_mariadb.sql"}


async def archived(server: Server, url: str) -> None:
    """1,000,000 finished jobs, over the last twelve months."""
    await server.run_script(url, (Path(__file__).parent / SCRIPTS[server.kind]).read_text())
    await server.tidy(url)
    await server.flush(url)
