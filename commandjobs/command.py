"""What users subclass: a command is a class with a typed `run`.

AsyncCommand                        async def run(self) -> None
AsyncCommand[Req]                   async def run(self, request: Req) -> None
AsyncCommandWithResult[Res]         async def run(self) -> Res
AsyncCommandWithResult[Req, Res]    async def run(self, request: Req) -> Res
SyncCommand, SyncCommandWithResult  the same four with a plain `def run`, which runs in a thread
"""

from abc import abstractmethod
from typing import Any, ClassVar, Generic, Literal, Protocol

from typing_extensions import TypeVar, TypeVarTuple, Unpack

from commandjobs.registry import CommandType

Args = TypeVarTuple("Args")
DefaultArgs = TypeVarTuple("DefaultArgs", default=Unpack[tuple[()]])
R_co = TypeVar("R_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)


class Command(Generic[*Args, R_co], metaclass=CommandType):
    """What all commands have in common: zero or one request type, and a result type.

    Subclass one of the four below. A concrete subclass is registered under its class name as soon as it is defined.
    """

    __command_kind__: ClassVar[Literal["async", "sync"] | None] = None


class AsyncCommand(Command[*DefaultArgs, None]):
    """A command without a result, run on the event loop."""

    __command_kind__ = "async"

    @abstractmethod
    async def run(self, *args: *DefaultArgs) -> None:
        """Do the work; takes the request, if the command has one."""


class AsyncCommandWithResult(Command[*Args, R_co]):
    """A command with a result, run on the event loop."""

    __command_kind__ = "async"

    @abstractmethod
    async def run(self, *args: *Args) -> R_co:
        """Do the work and return the result; takes the request, if the command has one."""


class SyncCommand(Command[*DefaultArgs, None]):
    """A command without a result, run in a thread."""

    __command_kind__ = "sync"

    @abstractmethod
    def run(self, *args: *DefaultArgs) -> None:
        """Do the work; takes the request, if the command has one."""


class SyncCommandWithResult(Command[*Args, R_co]):
    """A command with a result, run in a thread."""

    __command_kind__ = "sync"

    @abstractmethod
    def run(self, *args: *Args) -> R_co:
        """Do the work and return the result; takes the request, if the command has one."""


class TakesResult(Protocol[R_contra]):
    """A command that can be the callback of one whose result is R or narrower."""

    def run(self, request: R_contra, /) -> Any:
        """Take the result."""
