from collections.abc import Sequence
from typing import Any

class Cursor:
    rowcount: int
    lastrowid: int
    async def execute(self, query: str) -> int: ...
    async def fetchall(self) -> Sequence[Sequence[Any]]: ...
