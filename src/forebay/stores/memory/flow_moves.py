"""What follows for the steps of a flow: they are blocked, released, dropped and forgotten, a bounded part at a time. `Flows` says which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Finished, Ready
from forebay.model import query as q, verdict as v
from forebay.model.entry import earliest
from forebay.model.flow import Move, Role
from forebay.model.state import Event, State
from forebay.stores.flows import over
from forebay.stores.memory import flow_events, unique

if TYPE_CHECKING:
    from forebay.model.when import Instant
    from forebay.stores.memory.entry import Entry
    from forebay.stores.memory.flows import Node
    from forebay.stores.memory.ledger import Ledger


def work(ledger: Ledger, now: Instant) -> bool:
    """Let a bounded part of what follows in flows happen; whether that leaves anything."""
    if ledger.flows.left:
        ledger.flows.work(
            now,
            lambda node, move: turn(ledger, node, move, now),
            lambda key: ledger.forget(ledger.entries[key], now),
        )
        while ledger.flows.over:
            flow_events.meet(ledger, over(ledger.flows.over.pop()), now)
            ledger.flows.news.update(map(Ready, ledger.woken))
    return ledger.flows.left


def turn(ledger: Ledger, node: Node, move: Move, now: Instant) -> None:
    """Do with a step what is its next move."""
    entry = ledger.entries[node.id]
    match move:
        case Move.FAIL:
            drop(ledger, entry, v.Reason.PARENT_FAILED, now)
        case Move.SKIP:
            drop(ledger, entry, v.Reason.SKIPPED, now)
        case Move.WAIT:
            _block(ledger, entry, now)
        case Move.RUN:
            if entry.state is State.BLOCKED or _block(ledger, entry, now):
                _release(ledger, entry, node, now)


def drop(ledger: Ledger, entry: Entry, reason: v.Reason, now: Instant) -> None:
    """Its flow cancels a step, or says why it did anew."""
    entry.reason = reason
    if entry.state is State.BLOCKED:
        ledger.happen(entry, Event.CANCEL, now)
        ledger.flows.news.add(Finished(frozenset({entry.id})))
    else:
        ledger.flows.note(entry.id, entry.state, reason)


def _block(ledger: Ledger, entry: Entry, now: Instant) -> bool:
    """A step that was over waits again, if nobody has its unique key."""
    if unique.holder(ledger, entry, now) != entry.id:
        drop(ledger, entry, v.Reason.DUPLICATE, now)
        return False
    entry.finished = entry.reason = None
    ledger.lines.leave(entry)
    ledger.flows.nodes[entry.id].released = False
    ledger.happen(entry, Event.BLOCK, now)
    return True


def _release(ledger: Ledger, entry: Entry, node: Node, now: Instant) -> None:
    """A step that has waited may run, or waits for its event from now on."""
    node.released = True
    later = None if node.delay is None else now + node.delay
    if node.step.role is Role.EVENT:
        entry.expires = earliest(entry.expires, later)
        flow_events.come(ledger, entry.id, now)
        return
    entry.due = entry.due if later is None else later
    ledger.happen(entry, Event.SCHEDULE if entry.due is not None and entry.due > now else Event.UNBLOCK, now)
    ledger.lines.enter(entry)
    ledger.flows.news.add(Ready(entry.queue))


def delete(ledger: Ledger, name: str) -> q.Steered:
    """Begin to forget a flow that is over, as a whole."""
    flow = ledger.flows.flows.get(name)
    if flow is None or flow.going:
        return q.Steered(skipped={q.NOT_FOUND: 1})
    if flow.finished is None:
        return q.Steered(skipped={q.FLOW_RUNS: len(flow.nodes)})
    return q.Steered(changed=ledger.flows.go(flow))
