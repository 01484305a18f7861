"""Commands that a type checker must refuse, on the lines that are marked. Only checked, never run."""

from commandjobs import AsyncCommand, AsyncCommandWithResult, SyncCommand, SyncCommandWithResult, command, retry, worker
from tests.typing.accepts_commands import Order, Receipt


class RequestMissing(AsyncCommand[Order]):
    async def run(self) -> None: ...  # E: the base has a request


class RequestTooMuch(AsyncCommand):
    async def run(self, request: Order) -> None: ...  # E: the base has no request


class RequestOfAnotherType(AsyncCommand[Order]):
    async def run(self, request: Receipt) -> None: ...  # E: the request of the base is an Order


class ResultOfAnotherType(AsyncCommandWithResult[Order, Receipt]):
    async def run(self, request: Order) -> int:  # E: the result of the base is a Receipt
        raise NotImplementedError


class ResultWithoutBase(AsyncCommand[Order]):
    async def run(self, request: Order) -> Receipt:  # E: the base has no result
        raise NotImplementedError


class PlainDef(AsyncCommand):
    def run(self) -> None: ...  # E: the base is async


class AsyncDef(SyncCommand):
    async def run(self) -> None: ...  # E: the base is sync


class SyncRequestOfAnotherType(SyncCommandWithResult[Order, Receipt]):
    def run(self, request: Receipt) -> Receipt:  # E: the request of the base is an Order
        raise NotImplementedError


@worker(5)  # E: a worker has a name
class NumberedWorker(AsyncCommand):
    async def run(self) -> None: ...


@retry(backoff="cubic")  # E: there is no such backoff
class Cubic(AsyncCommand):
    async def run(self) -> None: ...


@command(nam="x")  # E: there is no such parameter
class Misspelt(AsyncCommand):
    async def run(self) -> None: ...
