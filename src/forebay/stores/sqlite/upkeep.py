"""Upkeep that any worker may do: lost leases, expiry, retention. Bounded statements inside a write transaction."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Swept
from forebay.model.effect import lost
from forebay.model.flow import FlowState, kept_as
from forebay.model.state import FINISHED, State
from forebay.stores.sqlite import arrivals, lines, notes, survey
from forebay.stores.sqlite.forgetting import forget, go
from forebay.stores.sqlite.session import numbers
from forebay.stores.sqlite.settle import Ended, take_effect, tell_tries
from forebay.support.ids import Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.model.message import EntryId
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Row, Session

_NEVER: Final = -1
"""Before all instants."""
_KEPT: Final = {kept_as(state): state for state in FlowState if state is not FlowState.RUNNING}
"""How the flows have ended that are kept as what is in a state."""


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
        or lines.look(session)
        or notes.is_old(session)
        or session.row("flow_left")[0]
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
    old, flows = _old(session, budget)
    forget(session, old)
    for flow, kept, steps in flows:
        go(session, flow, kept, steps)
    deleted = len(old) + sum(steps for _, _, steps in flows)
    windows = session.change("hold_sweep", {"now": session.now, "limit": budget})
    more = survey.forget(session, budget) or deleted >= budget or budget in (len(overdue), expired, windows)
    more = notes.forget(session, budget) or more
    more = arrivals.go_on(session) or more
    more = lines.sweep(session, budget) or more
    return Swept(lost=len(overdue), dead=dead, expired=expired, deleted=deleted, more=more)


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


def _old(session: Session, budget: int) -> tuple[list[int], list[tuple[int, State, int]]]:
    """What is past its retention, or over the cap of its state: entries; flows, with how they are kept and how many steps they have."""
    surplus = _surplus(session)
    old, flows, left = list[int](), list[tuple[int, State, int]](), budget
    for state, before in _before(session).items():
        over = surplus.get(state, 0)
        if over <= 0 and before < 0:
            continue
        for finished, whole, seq, weight in _oldest(session, state, left):
            if left <= 0 or (over <= 0 and finished > before):
                break
            if whole:
                flows.append((seq, state, weight))
            else:
                old.append(seq)
            over -= weight
            left -= weight
    return old, flows


def _oldest(session: Session, state: State, limit: int) -> Iterator[Row]:
    """The first of one state to have finished over all queues, and of the flows kept like it; when, and for how many they count."""
    queues = [queue for (queue,) in session.rows("sweep_queues", {"state": state})]
    found = [
        session.stream("sweep_old", {"queue": queue, "state": state, "limit": limit}) for queue in queues
    ]
    if (ended := _KEPT.get(state)) is not None:
        found.append(session.stream("flow_old", {"state": ended, "limit": limit}))
    return islice(merge(*found), max(limit, 0))


def _before(session: Session) -> dict[State, Instant]:
    """Until when the finished of each state are too old to keep."""
    ages = {state: session.options.retention.of(state)[0] for state in sorted(FINISHED)}
    return {state: _NEVER if age is None else session.now - age for state, age in ages.items()}


def _surplus(session: Session) -> dict[State, int]:
    """How many too many there are of each state."""
    kept = {State(state): n for state, n in session.rows("sweep_kept")}
    over = {state: n - session.options.retention.of(state)[1] for state, n in kept.items()}
    return {state: n for state, n in over.items() if n > 0}
