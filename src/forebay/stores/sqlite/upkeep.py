"""Upkeep that any worker may do: lost leases, expiry, retention. Bounded statements inside a write transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Swept
from forebay.model.effect import lost
from forebay.model.state import FINISHED, State
from forebay.stores.sqlite import survey
from forebay.stores.sqlite.session import numbers
from forebay.stores.sqlite.settle import Ended, take_effect, tell_tries
from forebay.support.ids import Token

if TYPE_CHECKING:
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Row, Session

_NEVER: Final = -1
"""Before all instants."""
_ALWAYS: Final = (1 << 63) - 1
"""After all instants."""


def look(session: Session) -> Swept | None:
    """The answer, if there is nothing to do."""
    before = _before(session)
    limits = {
        "succeeded": before[State.SUCCEEDED],
        "dead": before[State.DEAD],
        "cancelled": before[State.CANCELLED],
    }
    if (
        session.row("sweep_look", {"now": session.now, **limits})[0]
        or survey.look(session)
        or _surplus(session)
    ):
        return None
    return Swept()


def sweep(session: Session, budget: int) -> Swept:
    """Take back lost leases, end what expired, forget what is past its retention."""
    overdue = session.rows("sweep_overdue", {"now": session.now, "limit": budget})
    quarantined = lose(session, overdue)
    expired = session.change("sweep_expire", {"now": session.now, "limit": budget})
    if expired:
        session.news.add(Finished())
    old = _old(session, budget)
    forget(session, old)
    more = survey.forget(session, budget) or budget in (len(overdue), expired, len(old))
    return Swept(lost=len(overdue), quarantined=quarantined, expired=expired, deleted=len(old), more=more)


def hand_back(session: Session, worker: str) -> int:
    """Treat all leases of a dead worker as lost."""
    survey.attend(session, worker, None)
    running = session.rows("sweep_worker", {"worker": worker})
    lose(session, running)
    return len(running)


def lose(session: Session, rows: list[Row]) -> int:
    """Take back entries (seq, queue, token, crashes, name) whose leases are lost; returns how many are dead of it."""
    if not rows:
        return 0
    most = session.options.timing.crashes
    ended = [
        Ended(seq, queue, Token(token), lost(crashes=crashes, most_crashes=most), name)
        for seq, queue, token, crashes, name in rows
    ]
    tell_tries(session, ended)
    take_effect(session, ended, settles=False)
    return sum(e.effect.state in FINISHED for e in ended)


def forget(session: Session, seqs: list[int]) -> None:
    """Remove entries with their history, and their messages where these were the last copies."""
    if not seqs:
        return
    entries = {"entries": numbers(seqs)}
    session.change("forget_highest")
    session.change("forget_copies", entries)
    session.change("forget_messages", entries)
    session.change("forget_tries", entries)
    session.change("forget_results", entries)
    session.change("forget_progress", entries)
    session.change("forget_entries", entries)


def _old(session: Session, budget: int) -> list[int]:
    """What is past its retention, or over the cap of its state."""
    surplus = _surplus(session)
    queues = [queue for (queue,) in session.rows("sweep_queues")]
    old: dict[int, None] = {}
    for state, before in _before(session).items():
        for until, limit in ((before, budget), (_ALWAYS, min(surplus.get(state, 0), budget))):
            old.update(dict.fromkeys(_oldest(session, queues, state, until, limit)))
    return list(old)[:budget]


def _oldest(session: Session, queues: list[str], state: State, until: Instant, limit: int) -> list[int]:
    """The first of one state to have finished over all queues, up to ``until``."""
    if not limit or until < 0:
        return []
    found: list[Row] = []
    for queue in queues:
        found += session.rows("sweep_old", {"queue": queue, "state": state, "before": until, "limit": limit})
    return [seq for _, seq in sorted(found)[:limit]]


def _before(session: Session) -> dict[State, Instant]:
    """Until when the finished of each state are too old to keep."""
    keep = session.options.retention
    ages = {
        State.SUCCEEDED: keep.succeeded,
        State.DEAD: keep.dead,
        State.CANCELLED: keep.cancelled,
        State.EXPIRED: keep.cancelled,
    }
    return {state: _NEVER if age is None else session.now - age for state, age in ages.items()}


def _surplus(session: Session) -> dict[State, int]:
    """How many too many there are of each state. Counts only where the range of sequence numbers leaves room for too many."""
    keep = session.options.retention
    caps = {
        State.SUCCEEDED: keep.succeeded_cap,
        State.DEAD: keep.dead_cap,
        State.CANCELLED: keep.succeeded_cap,
        State.EXPIRED: keep.succeeded_cap,
    }
    most: int = session.row("sweep_range")[0]
    counts = {
        state: session.row("sweep_surplus", {"state": state})[0] for state, cap in caps.items() if most > cap
    }
    return {state: n - caps[state] for state, n in counts.items() if n > caps[state]}
