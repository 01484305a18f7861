"""All parts of a running engine, put together in one place."""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import svcs

from commandjobs.clock import Clock
from commandjobs.errors import StorageUnavailable, UserNotFound
from commandjobs.model.node import NodeRow
from commandjobs.options import OptionDefaults
from commandjobs.runtime.commands import Commands
from commandjobs.runtime.completer import Completer
from commandjobs.runtime.dispatcher import Dispatcher
from commandjobs.runtime.enqueue import Enqueuer
from commandjobs.runtime.execution import Execution
from commandjobs.runtime.executor import Executor
from commandjobs.runtime.hooks import Hooks, RegisteredHooks
from commandjobs.runtime.lookup import Lookup
from commandjobs.runtime.rescuer import Rescuer
from commandjobs.runtime.retention import Retention
from commandjobs.runtime.statistics import Statistics
from commandjobs.runtime.steering import Steering
from commandjobs.runtime.supervisor import Supervisor
from commandjobs.runtime.transient import TransientRuns
from commandjobs.runtime.waiters import Waiters
from commandjobs.storage.base import Storage
from commandjobs.version import __version__

if TYPE_CHECKING:
    from commandjobs.jobs import BackgroundJobs
    from commandjobs.ref import Follower

Users = Callable[[str], Awaitable[Any | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a BackgroundJobs was made with, checked."""

    execute: bool
    queues: Mapping[str, int] | None
    concurrency: int
    threads: int
    defaults: OptionDefaults
    lease: float
    grace: float
    retention: timedelta | None
    services: svcs.Registry
    users: Users | None
    node_name: str | None
    clock: Clock
    random: Random


class Engine:
    """A running engine: made when a BackgroundJobs is entered, gone when it is left."""

    def __init__(
        self,
        *,
        jobs: BackgroundJobs,
        follower: Follower,
        storage: Storage,
        commands: Commands,
        hooks: RegisteredHooks,
        settings: Settings,
    ) -> None:
        """Wire the parts. Called on the loop's thread, in the context that every attempt starts from."""
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()
        self.storage = storage
        self.commands = commands
        self.settings = settings
        clock = settings.clock
        self.node = _node(settings, commands)
        self.statistics = Statistics()
        self.waiters = Waiters(finished=storage.finished)
        self.executor = Executor(services=settings.services, commands=commands, prepare=self._prepare)
        self.dispatcher = Dispatcher(
            jobs=jobs,
            commands=commands,
            storage=storage,
            executor=self.executor,
            statistics=self.statistics,
            clock=clock,
            node_name=self.node.name,
            concurrency=settings.concurrency,
            queues=settings.queues,
            threads=settings.threads,
            shared=storage.capabilities.many_nodes,
            context=self.context,
        )
        self.lookup = Lookup(
            storage=storage,
            commands=commands,
            dispatcher=self.dispatcher,
            statistics=self.statistics,
            waiters=self.waiters,
            clock=clock,
        )
        self.hooks = Hooks(hooks, to_job=self.lookup.to_job, context=self.context)
        self.completer = Completer(
            commands=commands,
            storage=storage,
            dispatcher=self.dispatcher,
            statistics=self.statistics,
            waiters=self.waiters,
            hooks=self.hooks,
            clock=clock,
            random=settings.random,
            context=self.context,
        )
        self.dispatcher.completer = self.completer
        self.steering = Steering(
            storage=storage, dispatcher=self.dispatcher, waiters=self.waiters, clock=clock, node=self.node
        )
        self.transient = TransientRuns(
            jobs=jobs,
            commands=commands,
            executor=self.executor,
            lanes=self.dispatcher.lanes,
            deadlines=self.dispatcher.deadlines,
            statistics=self.statistics,
            defaults=settings.defaults,
            clock=clock,
            random=settings.random,
            node_name=self.node.name,
            context=self.context,
            ended=self.dispatcher.ended,
        )
        self.enqueuer = Enqueuer(
            commands=commands,
            storage=storage,
            dispatcher=self.dispatcher,
            follower=follower,
            defaults=settings.defaults,
            clock=clock,
        )
        self.supervisor = Supervisor(
            storage=storage,
            commands=commands,
            dispatcher=self.dispatcher,
            completer=self.completer,
            rescuer=Rescuer(storage=storage, completer=self.completer, clock=clock),
            retention=Retention(storage=storage, clock=clock, keep=settings.retention),
            steering=self.steering,
            transient=self.transient,
            statistics=self.statistics,
            hooks=self.hooks,
            clock=clock,
            node=self.node,
            execute=settings.execute,
            grace=settings.grace,
            context=self.context,
        )
        self.pid = os.getpid()

    async def _prepare(self, execution: Execution) -> None:
        """Before an attempt's code: its start mark on disk where that must be, its parent, its user."""
        row = execution.row
        if execution.durable_start and not (await self.storage.mark_started([row]))[0]:
            raise StorageUnavailable(f"Job {row.id} is not this node's any more, so it is not started here.")
        if row.depends_on:
            found = await self.lookup.jobs(row.depends_on[:1])
            execution.parent = found[0] if found else None
        if row.user_id is not None and self.settings.users is not None:
            execution.user = await self.settings.users(row.user_id)
            if execution.user is None:
                raise UserNotFound(f"The users loader knows no user with id {row.user_id!r}.")


def _node(settings: Settings, commands: Commands) -> NodeRow:
    now = settings.clock.now()
    return NodeRow(
        id=uuid.uuid4().hex,
        name=settings.node_name or f"{platform.node() or 'localhost'}:{os.getpid()}",
        pid=os.getpid(),
        version=__version__,
        started=now,
        heartbeat=now,
        concurrency=settings.concurrency,
        queues=tuple(sorted(settings.queues or ())),
        commands=tuple(sorted(commands.names())),
    )
