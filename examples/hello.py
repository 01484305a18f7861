import asyncio

from commandjobs import AsyncCommandWithResult, BackgroundJobs


class Greet(AsyncCommandWithResult[str, str]):
    async def run(self, request: str) -> str:
        return f"Hello, {request}!"


async def main() -> None:
    async with BackgroundJobs("sqlite:///hello.db") as jobs:
        job = await jobs.enqueue_command(Greet, "world")  # on disk when this returns
        print(await job.result(timeout=10))


if __name__ == "__main__":
    asyncio.run(main())
