"""Commands from people: find what is meant without a lock, then change it in bounded transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from forebay.engine import Cancels, Finished, Ready
from forebay.model.query import CancelNow, Delete, Pause, Redrive, Resume
from forebay.model.state import FINISHED, TIMED, WAITING, State
from forebay.stores.sqlite.queries import pick
from forebay.stores.sqlite.session import numbers
from forebay.stores.sqlite.upkeep import forget

if TYPE_CHECKING:
    from forebay.model.query import Selector
    from forebay.stores.sqlite.session import Session

Change: TypeAlias = Redrive | CancelNow | Delete
"""The commands that concern messages."""
CHUNK: Final = 1_000
"""Entries that one transaction of a command changes at most."""


def concerned(session: Session, which: Selector, command: Change, after: int, limit: int) -> list[int]:
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
    return pick(session, which, wanted, cursor=after, limit=limit, oldest_first=True)


def carry_out(session: Session, seqs: list[int], command: Change) -> int:
    """Change entries as far as they can still be changed; returns how many were."""
    entries = numbers(seqs)
    queues = [queue for (queue,) in session.rows("queues_of", {"entries": entries})]
    session.news.update(map(Ready, queues))
    session.news.add(Finished())
    match command:
        case Redrive():
            changed = session.change("redrive", {"entries": entries, "now": session.now})
            session.tallies.grow(queues, changed)
            session.change("redrive_results", {"entries": entries})
            return changed
        case CancelNow():
            session.news.add(Cancels())
            return session.change("cancel", {"entries": entries, "now": session.now})
        case Delete():
            idle = [seq for (seq,) in session.rows("idle", {"entries": entries})]
            forget(session, idle)
            return len(idle)
        case _:
            assert_never(command)


def control(session: Session, queue: str, command: Pause | Resume) -> int:
    """Pause or resume a queue; whether that changed anything."""
    session.news.add(Ready(queue))
    return session.change("pause" if isinstance(command, Pause) else "resume", {"queue": queue})
