"""Attempts to run, without an engine around them."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, cast

from commandjobs.command import AsyncCommand
from commandjobs.definition import CommandDefinition, define
from commandjobs.jobs import BackgroundJobs
from commandjobs.model.outcome import Outcome
from commandjobs.model.row import JobRow
from commandjobs.runtime.execution import Execution

NOBODY = cast("BackgroundJobs", None)


class RuntimeNothing(AsyncCommand):
    async def run(self) -> None:
        pass


def job(id: int = 1, **columns: Any) -> JobRow:
    columns = {"id": id, "ref_id": f"r{id}", "command": "RuntimeNothing", "created": 0, **columns}
    return JobRow(**columns)


def attempt(
    id: int = 1,
    *,
    done: Callable[[Execution, Outcome], None] = lambda *_: None,
    definition: CommandDefinition | None = None,
    **columns: Any,
) -> Execution:
    """An attempt of a job with these columns."""
    return Execution(
        job(id, **columns), definition or define(RuntimeNothing), jobs=NOBODY, context=copy_context(), done=done
    )
