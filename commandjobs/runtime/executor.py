"""One attempt, once: prepare → make the command → run it → outcome.

The executor writes nothing: what came of the attempt is a value (`model.outcome`), which the completer settles. Async
commands run on the loop in pooled tasks, sync ones in long-lived threads; both go through the same named steps.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import svcs
from pydantic import ValidationError

from commandjobs.codec import LIMIT
from commandjobs.context import running
from commandjobs.errors import ErrorCode, InvalidRequest, InvalidResult, Snooze, UserNotFound
from commandjobs.model.job import FieldError, JobError
from commandjobs.model.outcome import Cancelled, Failed, HandedBack, Outcome, Snoozed, Succeeded
from commandjobs.model.retry import RetryPolicy, is_retryable
from commandjobs.model.row import JobRow
from commandjobs.model.text import storable
from commandjobs.runtime.commands import Commands
from commandjobs.runtime.execution import EndedBy, Execution
from commandjobs.runtime.services import ServiceContainer

if TYPE_CHECKING:
    from commandjobs.definition import CommandDefinition

RESULT_LIMIT = LIMIT
"""Characters of a result that are stored."""
STACK_LIMIT = 20_000
"""Characters of a stack trace that are kept: a recursion without end would fill the archive."""

Preparation = Callable[[Execution], Awaitable[None]]


class Executor:
    """Runs attempts, and says what came of them."""

    def __init__(self, *, services: svcs.Registry, commands: Commands, prepare: Preparation) -> None:
        """services: what commands may ask for. prepare: awaited before an attempt that `needs_preparation`."""
        self._services = services
        self._commands = commands
        self._prepare = prepare

    async def perform(self, execution: Execution) -> Outcome:
        """Run an async attempt on the loop."""
        running.set(execution)
        try:
            if needs_preparation(execution):
                await self._prepare(execution)
            definition = execution.definition
            if definition.init_parameters:
                return await self._perform_with_services(execution)
            run = getattr(definition.cls(), definition.method)
            return self._succeeded(execution, await run(*_arguments(execution)))
        except BaseException as error:
            return outcome_of(execution, error)

    async def prepare_sync(self, execution: Execution) -> None:
        """Do what a sync attempt needs from the loop before its thread can run it. Raises what preparation raises."""
        running.set(execution)
        if needs_preparation(execution):
            await self._prepare(execution)
        if execution.definition.init_parameters:
            execution.container = await self._container(execution)

    def perform_sync(self, execution: Execution) -> Outcome:
        """Run a sync attempt in the calling thread."""
        if execution.ended_by is not None and not execution.transient:
            return ended_outcome(execution.ended_by, execution)
        running.set(execution)
        try:
            definition, container = execution.definition, execution.container
            command = definition.cls(**container.arguments) if container is not None else definition.cls()
            return self._succeeded(execution, getattr(command, definition.method)(*_arguments(execution)))
        except BaseException as error:
            return outcome_of(execution, error)

    async def close_sync(self, execution: Execution) -> None:
        """Close what `prepare_sync` has opened."""
        container, execution.container = execution.container, None
        if container is not None:
            await container.close()

    async def _perform_with_services(self, execution: Execution) -> Outcome:
        definition = execution.definition
        async with AsyncExitStack() as stack:
            container = await stack.enter_async_context(await self._container(execution))
            run = getattr(definition.cls(**container.arguments), definition.method)
            return self._succeeded(execution, await run(*_arguments(execution)))

    async def _container(self, execution: Execution) -> ServiceContainer:
        return await ServiceContainer.open(
            self._services, execution.definition, jobs=execution.jobs, commands=self._commands
        )

    def _succeeded(self, execution: Execution, result: Any) -> Outcome:
        if execution.ended_by is not None:
            return ended_outcome(execution.ended_by, execution)
        execution.result = result
        codec = execution.definition.result_codec
        if execution.transient or execution.row.work_done or codec is None:
            return _NOTHING
        body = codec.dump(result)
        return Succeeded(body, codec.type_name) if len(body) <= RESULT_LIMIT else Succeeded(dropped=len(body))


_NOTHING = Succeeded()


def needs_preparation(execution: Execution) -> bool:
    """Whether something must be read or written before this attempt may run; most jobs need nothing."""
    row = execution.row
    return execution.durable_start or bool(row.depends_on) or row.user_id is not None


def needs_loop(execution: Execution) -> bool:
    """Whether a sync attempt must be prepared on the loop before a thread may run it."""
    row = execution.row
    needs_services = bool(execution.definition.init_parameters)
    return needs_services or bool(row.depends_on) or row.user_id is not None or needs_durable_start(row)


def needs_durable_start(row: JobRow) -> bool:
    """Whether the start mark must be on disk before the code runs: a suspect, which may have killed a process before;
    a job that must never run twice; one whose key is free from its start on.
    """
    if row.suspect or not row.rerun_after_crash:
        return True
    return row.unique_key is not None and row.unique_until == "start"


def _arguments(execution: Execution) -> tuple[Any, ...]:
    """The positional arguments of `run`: the request, if the command takes one."""
    definition = execution.definition
    if definition.request_codec is None:
        return ()
    if execution.transient:
        return (execution.request,)
    row = execution.row
    body = row.response_body if row.work_done else row.request_body
    return (definition.request_codec.load(body if body is not None else "null"),)


def outcome_of(execution: Execution, error: BaseException) -> Outcome:
    """What an exception that came out of an attempt means for its job; never raises, whatever the exception is like."""
    try:
        return _outcome_of(execution, error)
    except Exception as worse:
        message = f"The attempt raised what cannot be described: describing it raised {type(worse).__name__}."
        return Failed(JobError(code=storable(type(error).__name__)[:200], message=message))


def _outcome_of(execution: Execution, error: BaseException) -> Outcome:
    execution.result = error
    if execution.ended_by is not None:
        return ended_outcome(execution.ended_by, execution)
    if isinstance(error, Snooze):
        return Snoozed(error.delay)
    return Failed(error_of(error), retryable=_is_retryable(execution.definition, error))


def ended_outcome(why: EndedBy, execution: Execution) -> Outcome:
    """The outcome of an attempt that was ended from outside, whatever its code made of that."""
    if why is EndedBy.CANCEL:
        return Cancelled()
    if why is EndedBy.SHUTDOWN:
        return HandedBack()
    message = f"The attempt did not end within its timeout of {execution.row.timeout:g} s."
    return Failed(JobError(code=ErrorCode.TIMEOUT, message=message), retryable=True)


def error_of(error: BaseException) -> JobError:
    """The stored form of an exception."""
    return JobError(
        code=_code_of(error),
        message=storable(_text_of(error))[:10_000],
        stack_trace=_stack_of(error),
        errors=_field_errors(error),
    )


def _code_of(error: BaseException) -> str:
    if isinstance(error, InvalidRequest):
        return ErrorCode.INVALID_REQUEST.value
    if isinstance(error, UserNotFound):
        return ErrorCode.USER_NOT_FOUND.value
    return storable(type(error).__name__)[:200]


def _text_of(error: BaseException) -> str:
    """What an exception says; one whose own text cannot be made is a failure like any other."""
    try:
        return str(error) or repr(error)
    except Exception as worse:
        return f"{type(error).__name__}, whose text cannot be shown: making it raised {type(worse).__name__}"


def _stack_of(error: BaseException) -> str:
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-40)
    text = storable("".join(lines))
    return text if len(text) <= STACK_LIMIT else f"{text[: STACK_LIMIT // 2]}\n…\n{text[-STACK_LIMIT // 2 :]}"


def _field_errors(error: BaseException) -> list[FieldError]:
    if isinstance(error, InvalidRequest | InvalidResult):
        return [
            FieldError(field=storable(field), code=storable(code), message=storable(message))
            for field, code, message in error.errors
        ]
    if isinstance(error, ValidationError):
        return [
            FieldError(field=storable(".".join(map(str, one["loc"]))), code=one["type"], message=storable(one["msg"]))
            for one in error.errors(include_url=False, include_input=False)[:100]
        ]
    return []


def _is_retryable(definition: CommandDefinition, error: BaseException) -> bool:
    if isinstance(error, InvalidResult | UserNotFound):
        return False
    policy = definition.retry or RetryPolicy()
    return is_retryable(policy, error)
