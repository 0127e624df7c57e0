"""Upkeep that any worker may do: lost leases, expiry, retention. Bounded statements inside a write transaction."""

from __future__ import annotations

from heapq import merge
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Swept
from forebay.model.effect import lost
from forebay.model.state import FINISHED, State
from forebay.stores.sqlite import arrivals, notes, survey
from forebay.stores.sqlite.session import numbers
from forebay.stores.sqlite.settle import Ended, take_effect, tell_tries
from forebay.support.ids import Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.model.message import EntryId
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Row, Session

_NEVER: Final = -1
"""Before all instants."""
_HISTORY: Final = ("tries", "results", "progress", "failures", "steps", "holds", "entries")
"""What goes with an entry, itself last: the tables that forgetting empties."""
LONG: Final = 16
"""Neighbours from which on forgetting them by their range is cheaper than by their numbers."""


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
        or notes.is_old(session)
        or _surplus(session)
    ):
        return None
    return Swept()


def sweep(session: Session, budget: int) -> Swept:
    """Take back lost leases, end what expired, forget what is past its retention."""
    overdue = session.rows("sweep_overdue", {"now": session.now, "limit": budget})
    dead = lose(session, overdue)
    expired = session.change("sweep_expire", {"now": session.now, "limit": budget})
    if expired:
        session.news.add(Finished())
    old = _old(session, budget)
    forget(session, old)
    windows = session.change("hold_sweep", {"now": session.now, "limit": budget})
    more = survey.forget(session, budget) or budget in (len(overdue), expired, len(old), windows)
    more = notes.forget(session, budget) or more
    more = arrivals.go_on(session) or more
    return Swept(lost=len(overdue), dead=dead, expired=expired, deleted=len(old), more=more)


def go_on(session: Session) -> None:
    """Work that a transaction has left to the next, which a sweep would find later."""
    session.unfinished = arrivals.go_on(session)


def hand_back(session: Session, worker: str) -> int:
    """Treat all leases of a dead worker as lost."""
    survey.attend(session, worker, None)
    running = session.rows("sweep_worker", {"worker": worker})
    lose(session, running)
    return len(running)


def lose(session: Session, rows: list[Row]) -> tuple[EntryId, ...]:
    """Take back entries (seq, queue, token, crashes, name) whose leases are lost; returns which are dead of it."""
    if not rows:
        return ()
    most = session.options.timing.crashes
    ended = [
        Ended(seq, queue, Token(token), lost(crashes=crashes, most_crashes=most), name)
        for seq, queue, token, crashes, name in rows
    ]
    tell_tries(session, ended)
    take_effect(session, ended, settles=False)
    dead = numbers(e.seq for e in ended if e.effect.state in FINISHED)
    return tuple(sorted(key for (key,) in session.rows("ids_of", {"entries": dead})))


def forget(session: Session, seqs: Sequence[int]) -> None:
    """Remove entries with their history, and their messages where these were the last copies.

    Most are neighbours, because what comes together ends together: by ranges that takes less than half the time.
    """
    if not seqs:
        return
    loose: list[int] = []
    session.change("forget_highest")
    for _, numbered in groupby(enumerate(sorted(seqs)), lambda place: place[1] - place[0]):
        run = [seq for _, seq in numbered]
        if len(run) < LONG:
            loose += run
            continue
        span = {"first": run[0], "last": run[-1]}
        session.change("forget_range_kept", span)
        if session.change("forget_range_messages", span) < len(run):
            _forget_copies(session, run)
        for kind in _HISTORY:
            session.change(f"forget_range_{kind}", span)
    if loose:
        entries = {"entries": numbers(loose)}
        session.change("forget_kept", entries)
        _forget_copies(session, loose)
        for kind in _HISTORY:
            session.change(f"forget_{kind}", entries)
    session.change("forget_none")


def _forget_copies(session: Session, seqs: list[int]) -> None:
    for statement in ("forget_copies", "forget_messages"):
        session.change(statement, {"entries": numbers(seqs)})


def _old(session: Session, budget: int) -> list[int]:
    """What is past its retention, or over the cap of its state."""
    surplus = _surplus(session)
    old: list[int] = []
    for state, before in _before(session).items():
        over, left = surplus.get(state, 0), budget - len(old)
        if over or before >= 0:
            for n, (finished, seq) in enumerate(_oldest(session, state, left)):
                if n >= over and finished > before:
                    break
                old.append(seq)
    return old


def _oldest(session: Session, state: State, limit: int) -> Iterator[Row]:
    """The first of one state to have finished over all queues, and when."""
    queues = [queue for (queue,) in session.rows("sweep_queues", {"state": state})]
    found = (
        session.stream("sweep_old", {"queue": queue, "state": state, "limit": limit}) for queue in queues
    )
    return islice(merge(*found), limit)


def _before(session: Session) -> dict[State, Instant]:
    """Until when the finished of each state are too old to keep."""
    ages = {state: session.options.retention.of(state)[0] for state in sorted(FINISHED)}
    return {state: _NEVER if age is None else session.now - age for state, age in ages.items()}


def _surplus(session: Session) -> dict[State, int]:
    """How many too many there are of each state."""
    kept = {State(state): n for state, n in session.rows("sweep_kept")}
    over = {state: n - session.options.retention.of(state)[1] for state, n in kept.items()}
    return {state: n for state, n in over.items() if n > 0}
