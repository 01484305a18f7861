"""Processes that know each other through the queue file: nodes, and what they ask of the one that executes."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from commandjobs.model.node import NodeRow
from commandjobs.storage.sqlite.change import SQL
from commandjobs.storage.sqlite.operation import Kind
from commandjobs.storage.sqlite.rows import to_json

DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Question:
    """An intent on its way to the executing process."""

    action: str
    arguments: dict[str, Any]
    asked: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The executing process's answer, as JSON."""

    id: int
    text: str
    at: int


def register(connection: sqlite3.Connection, nodes: Sequence[NodeRow]) -> list[int]:
    """Store new nodes, and forget old ones; returns their numbers."""
    numbers: list[int] = []
    for node in nodes:
        cursor = connection.execute(SQL["add_node"], _columns(node))
        assert cursor.lastrowid is not None
        numbers.append(cursor.lastrowid)
        connection.execute(SQL["forget_nodes"], {"before": node.started - DAY})
    return numbers


def heartbeat(connection: sqlite3.Connection, nodes: Sequence[NodeRow]) -> list[None]:
    """Store the present values of nodes."""
    connection.executemany(SQL["keep_node"], [(*_columns(node), node.number) for node in nodes])
    for node in nodes:
        if node.executing:
            connection.execute(SQL["bury_executors"], (node.number,))
    return [None] * len(nodes)


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


def _columns(node: NodeRow) -> tuple[Any, ...]:
    return (
        node.id, node.name, node.pid, node.version, node.started, node.heartbeat, node.stopped, node.draining,
        node.executing, node.standby, node.running, node.concurrency, to_json(node.queues), to_json(node.commands),
    )  # fmt: skip


def ask(connection: sqlite3.Connection, questions: Sequence[Question]) -> list[int]:
    """Store intents; returns their ids."""
    return [_ask(connection, question) for question in questions]


def _ask(connection: sqlite3.Connection, question: Question) -> int:
    connection.execute(SQL["forget_answers"], (question.asked - DAY,))
    arguments = json.dumps(question.arguments, ensure_ascii=False)
    cursor = connection.execute(SQL["ask"], (question.action, arguments, question.asked))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def answer(connection: sqlite3.Connection, answers: Sequence[Answer]) -> list[None]:
    """Answer intents."""
    connection.executemany(SQL["answer"], [(item.text, item.at, item.id) for item in answers])
    return [None] * len(answers)


def withdraw(connection: sqlite3.Connection, ids: Sequence[int]) -> list[None]:
    """The asking process is done with its intents."""
    connection.executemany(SQL["withdraw"], [(id,) for id in ids])
    return [None] * len(ids)


REGISTER = Kind("register", register, 4)
HEARTBEAT = Kind("heartbeat", heartbeat, 4)
ASK = Kind("ask", ask, 4, rings=True)
ANSWER = Kind("answer", answer, 4)
WITHDRAW = Kind("withdraw", withdraw, 4)
