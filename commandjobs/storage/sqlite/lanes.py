"""Whose turn it is: named workers and concurrency keys run one job at a time.

A lane's *holder* is the one job in it that is owned or claimable. Everyone else who could run waits with `hold = LANE`
until the lane elects it, in the transaction that frees the lane. A holder that nobody owns yet gives way to somebody
better who has just arrived.
"""

from heapq import heapify, heappop, heappush

from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold
from commandjobs.storage.sqlite.change import SQL, Change, Lane, lanes_of, place, turn

HEAD = {"worker": SQL["worker_head"], "key": SQL["key_head"]}
HOLDER = {"worker": SQL["worker_holder"], "key": SQL["key_holder"]}

Head = tuple[int, int, Lane]
"""Turn (negative priority, id) of the best job that could have a lane."""


def elect(change: Change) -> None:
    """Give free lanes to the best, let newcomers push in, and then take what fits the claim."""
    _fill(change)
    for newcomer in sorted(change.arrived.values(), key=turn):
        _push_in(change, newcomer)
    change.arrived.clear()
    for row in sorted(change.seated.values(), key=turn):
        change.take(row)
    place(change.connection, [row for row in change.seated.values() if row.owner is not None])
    change.seated.clear()


def _fill(change: Change) -> None:
    heads = [head for lane in change.lanes if (head := _head(change, lane))]
    change.lanes.clear()
    heapify(heads)
    while heads:
        _, id, lane = heappop(heads)
        head = _head(change, lane)
        if head is not None and head[1] == id:
            _seat(change, *change.read([id]))
        elif head is not None:
            heappush(heads, head)


def _head(change: Change, lane: Lane) -> Head | None:
    """Who gets the lane, if it is free: the best of those whose other lane is free too."""
    kind, name = lane
    found = change.connection.execute(HEAD[kind], {"name": name}).fetchone()
    return None if found is None else (-found[1], found[0], lane)


def _seat(change: Change, row: JobRow) -> None:
    row.hold = None
    if change.arrived.get(lanes_of(row), row).id == row.id:
        change.arrived.pop(lanes_of(row), None)
    if change.arrived:  # one of them may push in yet
        change.seated[row.id] = row
    else:
        change.take(row)
    place(change.connection, [row])


def _push_in(change: Change, newcomer: JobRow) -> None:
    if newcomer.hold is not Hold.LANE or newcomer.state.is_final:
        return
    rivals = change.read(sorted({id for lane in lanes_of(newcomer) if (id := _holder(change, lane)) is not None}))
    if any(rival.owner is not None or turn(rival) < turn(newcomer) for rival in rivals):
        return
    for rival in rivals:
        rival.hold = Hold.LANE
        change.seated.pop(rival.id, None)
        change.contest(rival)
    newcomer.hold = None
    change.seated[newcomer.id] = newcomer
    place(change.connection, [*rivals, newcomer])
    _fill(change)


def _holder(change: Change, lane: Lane) -> int | None:
    kind, name = lane
    found: tuple[int] | None = change.connection.execute(HOLDER[kind], (name,)).fetchone()
    return None if found is None else found[0]
