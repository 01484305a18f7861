"""What the shop does behind its orders."""

from pydantic import BaseModel

from commandjobs import AsyncCommand


class Receipt(BaseModel):
    customer: str


class SendReceipt(AsyncCommand[Receipt]):
    async def run(self, request: Receipt) -> None:
        print(f"  a receipt for {request.customer}", flush=True)
