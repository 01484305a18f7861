"""Commands as users write them. Only checked, never run."""

from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import BaseModel

from commandjobs import (
    AsyncCommand,
    AsyncCommandWithResult,
    SyncCommand,
    SyncCommandWithResult,
    command,
    retry,
    timeout,
    worker,
)

T = TypeVar("T")


class Order(BaseModel):
    id: int


class RushOrder(Order):
    hours: int


class Receipt(BaseModel):
    text: str


class Bare(AsyncCommand):
    async def run(self) -> None: ...


class WithRequest(AsyncCommand[Order]):
    async def run(self, request: Order) -> None: ...


class WithResult(AsyncCommandWithResult[Receipt]):
    async def run(self) -> Receipt:
        return Receipt(text="")


class WithBoth(AsyncCommandWithResult[Order, Receipt]):
    async def run(self, request: Order) -> Receipt:
        return Receipt(text=str(request.id))


class SyncBare(SyncCommand):
    def run(self) -> None: ...


class SyncWithRequest(SyncCommand[Order]):
    def run(self, request: Order) -> None: ...


class SyncWithResult(SyncCommandWithResult[Receipt]):
    def run(self) -> Receipt:
        return Receipt(text="")


class SyncWithBoth(SyncCommandWithResult[Order, Receipt]):
    def run(self, request: Order) -> Receipt:
        return Receipt(text=str(request.id))


class AnyName(AsyncCommand[Order]):
    async def run(self, order: Order) -> None: ...


class WiderRequest(AsyncCommand[RushOrder]):
    async def run(self, request: Order) -> None: ...


class NarrowerResult(AsyncCommandWithResult[Order]):
    async def run(self) -> RushOrder:
        return RushOrder(id=1, hours=1)


class MoreWithDefaults(AsyncCommand[Order]):
    async def run(self, request: Order, dry: bool = False) -> None: ...


class OptionalResult(AsyncCommandWithResult[Order, Receipt | None]):
    async def run(self, request: Order) -> Receipt | None:
        return None


class First(AsyncCommandWithResult[list[T], T], Generic[T]):
    async def run(self, request: list[T]) -> T:
        return request[0]


class FirstOrder(First[Order]): ...


@command(name="mail.send", aliases=["SendMail"], tags=("mail",), queue="slow", priority=3, rerun_after_crash=False)
@worker("smtp")
@retry(5, backoff="linear", delay=timedelta(seconds=1), on=(OSError,), never_on=(FileNotFoundError,))
@timeout(None)
class Decorated(AsyncCommandWithResult[Order, Receipt]):
    def __init__(self, copies: int) -> None:
        self.copies = copies

    async def run(self, request: Order) -> Receipt:
        return Receipt(text=str(self.copies))


@command(runnable=True)
@retry()
@timeout(timedelta(minutes=1))
class DecoratedOtherwise(SyncCommand):
    def run(self) -> None: ...


def kept_type() -> int:
    """A decorator returns the class it was given, with its own constructor."""
    return Decorated(copies=2).copies


class TakesReceipt(AsyncCommand[Receipt]):
    async def run(self, request: Receipt) -> None: ...


class TakesObject(SyncCommand[object]):
    def run(self, request: object) -> None: ...


class TakesOrder(AsyncCommand[Order]):
    async def run(self, request: Order) -> None: ...


class TakesNothing(AsyncCommand):
    async def run(self) -> None: ...
