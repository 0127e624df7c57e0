"""Commands from people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.model import query as q, verdict as v
from forebay.model.effect import CANCELLED
from forebay.model.state import TIMED, Event, State
from forebay.stores.flows import is_whole, newest_first
from forebay.stores.memory import flow_moves, queries, unique

if TYPE_CHECKING:
    from forebay.model.when import Instant
    from forebay.stores.memory.entry import Entry
    from forebay.stores.memory.ledger import Ledger


def steer(ledger: Ledger, which: q.Selector, command: q.Change, now: Instant) -> q.Steered:
    """Carry out a command that concerns messages."""
    can, done, found = q.changeable(command), q.Steered(), 0
    if isinstance(command, q.Delete) and (flow := is_whole(which)) is not None:
        return flow_moves.delete(ledger, flow)
    entries = list(queries.selected(ledger, which))
    for entry in reversed(entries) if newest_first(which, command) else entries:
        found += 1
        if entry.state in can:
            if which.limit is None or done.touched < which.limit:
                done += _change(ledger, entry, command, now)
        elif which.ids:
            done += q.Steered(skipped={entry.state.value: 1})
    if which.ids and (absent := len(set(which.ids)) - found):
        done += q.Steered(skipped={q.NOT_FOUND: absent})
    return done


def _change(ledger: Ledger, entry: Entry, command: q.Change, now: Instant) -> q.Steered:
    match command:
        case q.Redrive():
            return _redrive(ledger, entry, now)
        case q.CancelNow():
            return _cancel(ledger, entry, now)
        case q.Delete():
            if entry.message.step is not None:
                return q.Steered(skipped={q.PART_OF_FLOW: 1})
            ledger.forget(entry, now, let_go=True)
            return q.Steered(changed=1)


def _redrive(ledger: Ledger, entry: Entry, now: Instant) -> q.Steered:
    node = ledger.flows.nodes.get(entry.id)
    if node is not None and node.flow.going:
        return q.Steered(skipped={q.NOT_FOUND: 1})
    if node is not None and isinstance(node.kind, v.Reason):
        return q.Steered(skipped={node.kind.value: 1})
    if unique.holder(ledger, entry, now) != entry.id:
        return q.Steered(skipped={q.KEY_TAKEN: 1})
    ledger.file(entry, put_off=False)
    entry.attempts = entry.crashes = entry.releases = 0
    entry.due = entry.expires = entry.deadline = entry.finished = entry.reason = entry.result = (
        entry.unknown_since
    ) = entry.failure = None
    entry.cancel_requested = False
    ledger.lines.leave(entry)
    if node is None or entry.state in TIMED:
        ledger.happen(entry, Event.REDRIVE, now)
        ledger.lines.enter(entry)
        return q.Steered(changed=1)
    # Whether it may run its parents say, who may have been opened with it.
    ledger.flows.open(node)
    ledger.happen(entry, Event.BLOCK, now)
    return q.Steered(changed=1)


def _cancel(ledger: Ledger, entry: Entry, now: Instant) -> q.Steered:
    if entry.state is not State.RUNNING:
        ledger.happen(entry, Event.CANCEL, now)
        return q.Steered(changed=1)
    if entry.token is not None and ledger.leases[entry.token].until <= now:
        ledger.end_try(entry, CANCELLED, now)
        return q.Steered(changed=1)
    if entry.cancel_requested:
        return q.Steered(skipped={q.ASKED_BEFORE: 1})
    entry.cancel_requested = True
    return q.Steered(asked=1)
