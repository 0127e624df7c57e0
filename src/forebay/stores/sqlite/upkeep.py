"""Upkeep that any worker may do: lost leases, expiry, retention. Bounded statements inside a write transaction."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Ready, Swept
from forebay.ids import Token
from forebay.model.state import State
from forebay.stores.sqlite.desk import numbers
from forebay.stores.sqlite.settle import KEPT, loosen

if TYPE_CHECKING:
    from forebay.model.when import Instant
    from forebay.stores.sqlite.desk import Desk, Row

_NEVER: Final = -1
"""Before all instants."""
_ALWAYS: Final = (1 << 63) - 1
"""After all instants."""


def look(desk: Desk, now: Instant) -> Swept | None:
    """The answer, if there is nothing to do."""
    before = _before(desk, now)
    limits = {
        "succeeded": before[State.SUCCEEDED],
        "dead": before[State.DEAD],
        "cancelled": before[State.CANCELLED],
    }
    if desk.row("sweep_look", {"now": now, **limits})[0] or _surplus(desk):
        return None
    return Swept()


def sweep(desk: Desk, budget: int, now: Instant) -> Swept:
    """Take back lost leases, end what expired, forget what is past its retention."""
    overdue = desk.rows("sweep_overdue", {"now": now, "limit": budget})
    quarantined = lose(desk, overdue, now)
    expired = desk.change("sweep_expire", {"now": now, "limit": budget})
    if expired:
        desk.news.add(Finished())
    old = _old(desk, budget, now)
    forget(desk, old)
    more = budget in (len(overdue), expired, len(old))
    return Swept(lost=len(overdue), quarantined=quarantined, expired=expired, deleted=len(old), more=more)


def hand_back(desk: Desk, worker: str, now: Instant) -> int:
    """Treat all leases of a dead worker as lost."""
    running = desk.rows("sweep_worker", {"worker": worker})
    lose(desk, running, now)
    return len(running)


def lose(desk: Desk, rows: list[Row], now: Instant) -> int:
    """Take back entries (seq, queue, token) whose leases are lost; returns how many are dead of it."""
    if not rows:
        return 0
    entries = numbers(seq for seq, _, _ in rows)
    crashes = desk.options.timing.crashes
    desk.change("lose_try", {"entries": entries, "now": now, "crashes": crashes})
    desk.change("lose", {"entries": entries, "now": now, "crashes": crashes})
    desk.change("try_trim", {"entries": entries, "keep": KEPT})
    desk.change("count_event", {"name": "crashed", "n": len(rows)})
    loosen(desk, Counter(Token(token) for _, _, token in rows))
    desk.tallies.grow(queue for _, queue, _ in rows)
    desk.news.update(Ready(queue) for _, queue, _ in rows)
    desk.news.add(Finished())
    dead: int = desk.row("lose_dead", {"entries": entries})[0]
    return dead


def forget(desk: Desk, seqs: list[int]) -> None:
    """Remove entries with their history, and their messages where these were the last copies."""
    if not seqs:
        return
    entries = {"entries": numbers(seqs)}
    desk.change("forget_highest")
    desk.change("forget_copies", entries)
    desk.change("forget_messages", entries)
    desk.change("forget_tries", entries)
    desk.change("forget_results", entries)
    desk.change("forget_progress", entries)
    desk.change("forget_entries", entries)


def _old(desk: Desk, budget: int, now: Instant) -> list[int]:
    """What is past its retention, or over the cap of its state."""
    surplus = _surplus(desk)
    queues = [queue for (queue,) in desk.rows("sweep_queues")]
    old: dict[int, None] = {}
    for state, before in _before(desk, now).items():
        for until, limit in ((before, budget), (_ALWAYS, min(surplus.get(state, 0), budget))):
            old.update(dict.fromkeys(_oldest(desk, queues, state, until, limit)))
    return list(old)[:budget]


def _oldest(desk: Desk, queues: list[str], state: State, until: Instant, limit: int) -> list[int]:
    """The first of one state to have finished over all queues, up to ``until``."""
    if not limit or until < 0:
        return []
    found: list[Row] = []
    for queue in queues:
        found += desk.rows("sweep_old", {"queue": queue, "state": state, "before": until, "limit": limit})
    return [seq for _, seq in sorted(found)[:limit]]


def _before(desk: Desk, now: Instant) -> dict[State, Instant]:
    """Until when the finished of each state are too old to keep."""
    keep = desk.options.retention
    ages = {
        State.SUCCEEDED: keep.succeeded,
        State.DEAD: keep.dead,
        State.CANCELLED: keep.cancelled,
        State.EXPIRED: keep.cancelled,
    }
    return {state: _NEVER if age is None else now - age for state, age in ages.items()}


def _surplus(desk: Desk) -> dict[State, int]:
    """How many too many there are of each state. Counts only where the range of sequence numbers leaves room for too many."""
    keep = desk.options.retention
    caps = {
        State.SUCCEEDED: keep.succeeded_cap,
        State.DEAD: keep.dead_cap,
        State.CANCELLED: keep.succeeded_cap,
        State.EXPIRED: keep.succeeded_cap,
    }
    most: int = desk.row("sweep_range")[0]
    counts = {
        state: desk.row("sweep_surplus", {"state": state})[0] for state, cap in caps.items() if most > cap
    }
    return {state: n - caps[state] for state, n in counts.items() if n > caps[state]}
