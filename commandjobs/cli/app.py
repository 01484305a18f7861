"""The program as a whole: its commands, and what can be asked without one."""

from typing import Annotated

import typer

from commandjobs.cli.archive import archive
from commandjobs.cli.backup import backup
from commandjobs.cli.copy import copy_jobs
from commandjobs.version import __version__

app = typer.Typer(
    name="commandjobs",
    help="Look after durable background jobs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # ours are one sentence, printed by main; any other is a bug, shown whole
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(backup)
app.command("copy")(copy_jobs)
app.add_typer(archive, name="archive")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"commandjobs {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""
