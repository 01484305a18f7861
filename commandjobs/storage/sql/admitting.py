"""Jobs that came with transactions of their callers, when those have committed: they get their places in lanes and
behind parents, as any other new job does at once.
"""

from collections.abc import Collection

from commandjobs.model.row import JobRow
from commandjobs.model.settle import cancel_waiting
from commandjobs.model.state import FINAL, Hold
from commandjobs.storage.sql.change import Change
from commandjobs.storage.sql.inserting import Parents, edges_of, fate_of, lock_parents
from commandjobs.storage.sql.rows import document, texts, to_row


async def admit(change: Change, limit: int, *, gone: Collection[int]) -> int:
    """Let them go on; how many there were. gone: those that this change has ended already.

    Parents are locked before their children, as by everyone else.
    """
    sql, connection = change.dialect.sql, change.connection
    if "unadmitted" not in sql:  # a database on which nobody enqueues in a transaction of his own
        return 0
    found = {id: texts(parents) for id, parents in await connection.rows(sql["unadmitted"], most=limit)}
    ids = sorted(found.keys() - set(gone))
    if not ids:
        return 0
    parents = await lock_parents(change, {parent for id in ids for parent in found[id]})
    rows = [to_row(columns) for columns in await connection.rows(sql["lock_unadmitted"], ids=ids)]
    change.rows |= {row.id: row for row in rows}
    for row in rows:
        _admit(change, row, parents)
    edges = [edge for row in rows for edge in edges_of(row, parents)]
    if edges:
        await connection.run(sql["depend"], rows=document(edges))
    return len(found)


def _admit(change: Change, row: JobRow, parents: Parents) -> None:
    fate = fate_of(row, parents)
    if fate is not None:
        change.contest(row)
        change.end([cancel_waiting(row, fate, now=change.now).row])
        return
    row.parents_left = sum(parents[id].state not in FINAL for id in set(row.depends_on) if id in parents)
    if row.parents_left:
        row.hold = Hold.PARENTS
    else:
        change.let_go(row)
    change.place(row)
