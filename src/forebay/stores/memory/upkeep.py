"""Upkeep that any worker may do: lost leases, expiry, retention. At most a budget at a time."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from forebay.engine import Swept
from forebay.model.effect import lost
from forebay.model.policy import NAMES_KEPT
from forebay.model.state import FINISHED, WAITING, Event, State
from forebay.stores.memory.flows import Flow

if TYPE_CHECKING:
    from forebay.model.when import Instant
    from forebay.stores.memory.entry import Entry
    from forebay.stores.memory.ledger import Ledger


def sweep(ledger: Ledger, budget: int, now: Instant) -> Swept:
    """Take back lost leases, end what expired, forget what is past its retention."""
    over = [lease for lease in ledger.leases.values() if lease.until <= now]
    lost = [ledger.entries[key] for lease in over for key in lease.entries][:budget]
    dead = tuple(sorted(entry.id for entry in lost if lose(ledger, entry, now)))
    late = [
        e
        for e in ledger.entries.values()
        if e.state in WAITING and e.expires is not None and e.expires <= now
    ][:budget]
    for entry in late:
        ledger.happen(entry, Event.EXPIRE, now)
    deleted = _forget_old(ledger, budget, now)
    ledger.sight.forget(now)
    _tend(ledger, now)
    ledger.known = {place: at for place, at in ledger.known.items() if at >= now - NAMES_KEPT}
    more = budget in (len(lost), len(late), ledger.holds.sweep(budget, now)) or deleted >= budget
    return Swept(lost=len(lost), dead=dead, expired=len(late), deleted=deleted, more=more)


def _tend(ledger: Ledger, now: Instant) -> None:
    """Look again at lines whose moment has come, and forget those in which nobody is."""
    for queue in ledger.lines.rules:
        ledger.lines.promote(queue, now)
    ledger.lines.balance(now)
    ledger.lines.forget(now)


def ended(ledger: Ledger, now: Instant) -> set[str]:
    """Some have come to an end or were put elsewhere: the queues in which others may be taken for it."""
    return ledger.lines.balance(now) | ledger.lines.bounded() if ledger.lines.rules else set()


def hand_back(ledger: Ledger, worker: str, now: Instant) -> int:
    """Treat all leases of a dead worker as lost."""
    ledger.sight.attend(worker, None, now)
    lost = [
        ledger.entries[key]
        for lease in ledger.leases.values()
        if lease.worker == worker
        for key in lease.entries
    ]
    for entry in lost:
        lose(ledger, entry, now)
    return len(lost)


def lose(ledger: Ledger, entry: Entry, now: Instant) -> bool:
    """A lease is lost: the worker crashed or was cut off. Whether that was once too often."""
    change = lost(crashes=entry.crashes, most_crashes=ledger.options.timing.crashes)
    ledger.end_try(entry, change, now)
    return change.state in FINISHED


def _forget_old(ledger: Ledger, budget: int, now: Instant) -> int:
    """Forget what is past its retention, or over the cap of its state; a flow as a whole, as if all its steps had ended as it did."""
    deleted = 0
    for state, units in sorted(_kept(ledger).items()):
        age, cap = ledger.options.retention.of(state)
        surplus = sum(weight for _, _, _, weight, _ in units) - cap
        for finished, _, _, weight, unit in sorted(units, key=itemgetter(0, 1, 2)):
            if deleted >= budget or not (surplus > 0 or (age is not None and finished + age <= now)):
                break
            if isinstance(unit, Flow):
                ledger.flows.go(unit)
            else:
                ledger.forget(unit, now)
            surplus -= weight
            deleted += weight
    return deleted


def _kept(ledger: Ledger) -> dict[State, list[tuple[Instant, int, int, int, Entry | Flow]]]:
    """What is over: when, in which order, how many it counts for, and what it is."""
    kept: dict[State, list[tuple[Instant, int, int, int, Entry | Flow]]] = {}
    for entry in ledger.entries.values():
        if entry.finished is not None and entry.message.step is None:
            kept.setdefault(entry.state, []).append((entry.finished, 0, entry.seq, 1, entry))
    for state, finished, weight, flow in ledger.flows.kept():
        kept.setdefault(state, []).append((finished, 1, flow.number, weight, flow))
    return kept
