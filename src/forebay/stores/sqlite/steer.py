"""Commands from people: find what is meant without a lock, then change it in bounded transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from forebay.engine import Cancels, Finished, Ready
from forebay.model.query import CancelNow, Delete, Pause, Redrive, Resume
from forebay.model.state import FINISHED, TIMED, WAITING, State
from forebay.stores.sqlite.desk import numbers
from forebay.stores.sqlite.look import pick
from forebay.stores.sqlite.upkeep import forget

if TYPE_CHECKING:
    from forebay.model.query import Selector
    from forebay.model.when import Instant
    from forebay.stores.sqlite.desk import Desk

Change: TypeAlias = Redrive | CancelNow | Delete
"""The commands that concern messages."""
CHUNK: Final = 1_000
"""Entries that one transaction of a command changes at most."""


def concerned(desk: Desk, which: Selector, command: Change, after: int, limit: int) -> list[int]:
    """The next entries that ``command`` may change, oldest first."""
    match command:
        case Redrive():
            states = FINISHED | TIMED
        case CancelNow():
            states = WAITING | {State.RUNNING}
        case Delete():
            states = frozenset(State) - {State.RUNNING}
        case _:
            assert_never(command)
    wanted = states & which.states if which.states else states
    if not wanted:
        return []
    return pick(desk, which, wanted, cursor=after, limit=limit, oldest_first=True)


def carry_out(desk: Desk, seqs: list[int], command: Change, now: Instant) -> int:
    """Change entries as far as they can still be changed; returns how many were."""
    entries = numbers(seqs)
    queues = [queue for (queue,) in desk.rows("queues_of", {"entries": entries})]
    desk.news.update(map(Ready, queues))
    desk.news.add(Finished())
    match command:
        case Redrive():
            changed = desk.change("redrive", {"entries": entries, "now": now})
            desk.tallies.grow(queues, changed)
            desk.change("redrive_results", {"entries": entries})
            return changed
        case CancelNow():
            desk.news.add(Cancels())
            return desk.change("cancel", {"entries": entries, "now": now})
        case Delete():
            idle = [seq for (seq,) in desk.rows("idle", {"entries": entries})]
            forget(desk, idle)
            return len(idle)
        case _:
            assert_never(command)


def control(desk: Desk, queue: str, command: Pause | Resume) -> int:
    """Pause or resume a queue; whether that changed anything."""
    desk.news.add(Ready(queue))
    return desk.change("pause" if isinstance(command, Pause) else "resume", {"queue": queue})
