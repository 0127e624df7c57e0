"""Events that handlers and steps of flows wait for, and what follows when one has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Finished
from forebay.model.saved import event_result
from forebay.model.state import Event, State

if TYPE_CHECKING:
    from forebay.model.message import EntryId, Message
    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger


def meet(ledger: Ledger, event: Message, now: Instant) -> bool:
    """Wake those that wait for an event, and say whether anybody did; what still runs is woken when its try ends."""
    met = ledger.steps.meet(event, now)
    for key in met:
        entry = ledger.entries[key]
        if entry.state is State.RUNNING:
            ledger.steps.met_at_work(key)
        elif entry.state is State.SCHEDULED and (entry.due or 0) > now:
            entry.due = now
            ledger.enter(entry, State.SCHEDULED, now)
            ledger.woken.add(entry.queue)
        elif entry.state is State.BLOCKED and (entry.expires is None or entry.expires > now):
            come(ledger, key, now)
    return bool(met)


def come(ledger: Ledger, key: EntryId, now: Instant) -> None:
    """A step of a flow has succeeded if the event has come that it waits for."""
    if (event := ledger.steps.came(key)) is not None:
        happened(ledger, key, event_result(event.body, event.content_type), now)


def happened(ledger: Ledger, key: EntryId, result: bytes | None, now: Instant) -> bool:
    """What a step waited for has happened, and it has succeeded with ``result``; whether it did wait."""
    node = ledger.flows.nodes.get(key)
    if node is None or not node.released or node.kind is not State.BLOCKED:
        return False
    entry = ledger.entries[key]
    entry.result = result
    ledger.happen(entry, Event.DONE, now)
    ledger.flows.news.add(Finished(frozenset({key})))
    return True
