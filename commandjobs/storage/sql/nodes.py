"""Processes as rows."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from commandjobs.model.node import NodeRow
from commandjobs.storage.sql.rows import to_json

DAY = 86_400_000_000
"""Microseconds."""


def node_columns(node: NodeRow) -> dict[str, Any]:
    """The columns of a node that it knows itself."""
    return {
        "id": node.id,
        "name": node.name,
        "pid": node.pid,
        "version": node.version,
        "started": node.started,
        "heartbeat": node.heartbeat,
        "stopped": node.stopped,
        "draining": node.draining,
        "executing": node.executing,
        "standby": node.standby,
        "running": node.running,
        "concurrency": node.concurrency,
        "queues": to_json(list(node.queues)),
        "commands": to_json(list(node.commands)),
    }


def to_node(columns: Sequence[Any]) -> NodeRow:
    """A row of the query `nodes`."""
    (
        number, id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running, concurrency,
        queues, commands,
    ) = columns  # fmt: skip
    return NodeRow(
        number=number,
        id=id,
        name=name,
        pid=pid,
        version=version,
        started=started,
        heartbeat=heartbeat,
        stopped=stopped,
        draining=bool(draining),
        executing=bool(executing),
        standby=bool(standby),
        running=running,
        concurrency=concurrency,
        queues=tuple(json.loads(queues or "[]")),
        commands=tuple(json.loads(commands or "[]")),
    )


def machine() -> str | None:
    """Where a process id means something: this boot of this machine, and this namespace of pids. None: nobody knows."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return None


def is_gone(pid: int) -> bool:
    """Whether no process of this machine has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
