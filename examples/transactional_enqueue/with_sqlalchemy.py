"""SQLAlchemy: give the session, blocking or async; its connection is used, and its commit decides."""

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from commandjobs import BackgroundJobs, JobRef
from examples.transactional_enqueue.commands import Receipt, SendReceipt


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "shop"}  # noqa: RUF012  as SQLAlchemy wants it

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]


async def place_order(jobs: BackgroundJobs, database: str, customer: str, *, in_stock: bool) -> JobRef[None]:
    engine = create_async_engine(database.replace("postgresql:", "postgresql+asyncpg:"))
    try:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Order(customer=customer))
            ref = await jobs.enqueue_command(SendReceipt, Receipt(customer=customer), connection=session)
            if not in_stock:
                raise LookupError("out of stock")
        return ref
    finally:
        await engine.dispose()
