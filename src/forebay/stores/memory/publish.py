"""Storing messages: who is let in, where a message goes, and how it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.engine import Published, Stored
from forebay.model.entry import birth, routed
from forebay.model.message import EntryId, Message, entry_id
from forebay.model.state import State
from forebay.stores.flows import by_flow, has_steps
from forebay.stores.memory import admission, births, flow_events, unique
from forebay.stores.memory.entry import Entry
from forebay.stores.memory.holds import held_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger


def admit(ledger: Ledger, batch: Sequence[Message], now: Instant) -> list[Published]:
    """Store what senders from outside publish; answers per item and in order."""
    if not has_steps(batch):
        return [_admit(ledger, message, now) for message in batch]
    plain, flows = by_flow(batch)
    steps = {flow: [batch[n] for n in places] for flow, places in flows.items()}
    begun = births.admit(ledger, steps, now)
    answers = {
        n: answer for flow, places in flows.items() for n, answer in zip(places, begun[flow], strict=True)
    }
    answers |= {n: _admit(ledger, batch[n], now) for n in plain}
    return [answers[n] for n in range(len(batch))]


def _admit(ledger: Ledger, message: Message, now: Instant) -> Published:
    """`publish`, for senders from outside: nothing is stored, of an event no copy, if that took a queue over its limit."""
    if ledger.levels:
        refused = admission.turned_away(ledger, message, _queues(ledger, message), now)
        if refused is not None:
            return refused
    return publish(ledger, message, now)


def _queues(ledger: Ledger, message: Message) -> list[str]:
    return routed(message, ((s.queue, s.pattern) for s in ledger.bindings.values()))


def publish(ledger: Ledger, message: Message, now: Instant) -> Published:
    """Store one message in its queue, or a copy in each queue bound to its topic."""
    if message.queue is not None:
        answer = _store(ledger, message, message.queue, now, copied=message.topic is not None)
    else:
        queues = _queues(ledger, message)
        answers = [_store(ledger, message, queue, now, copied=True) for queue in queues]
        if not answers:
            ledger.counters["unrouted"] += 1
        stored = any(a.status is Stored.STORED for a in answers) or not answers
        status = Stored.STORED if stored else Stored.DUPLICATE
        answer = Published(status, EntryId(message.id), len(queues))
    if answer.status is Stored.STORED:
        if message.topic is not None and flow_events.meet(ledger, message, now):
            answer = replace(answer, awaited=True)
        if ledger.heard is not None:
            ledger.heard(message, answer, now)
    return answer


def _store(ledger: Ledger, message: Message, queue: str, now: Instant, *, copied: bool) -> Published:
    key = entry_id(message.id, queue, copied=copied)
    if key in ledger.entries:
        return Published(Stored.DUPLICATE, key)
    found = unique.find(ledger, message, queue, now) if message.unique or message.hold else None
    if isinstance(found, Published):
        return found
    ledger.seq += 1
    born = birth(message, now)
    entry = Entry(key, ledger.seq, message, queue, State.BLOCKED, now, born.due, born.expires, born.deadline)
    ledger.entries[key] = entry
    if message.unique is not None and found is None:
        ledger.holds.take((queue, message.unique), held_by(key, ledger.seq, message, now))
    if (level := ledger.levels.get(queue)) is not None:
        level.waiting += 1
    ledger.enter(entry, born.state, now)
    if ledger.lines.rules:
        ledger.lines.enter(entry)
    if found is not None:
        unique.join(ledger, entry, found, now)
    ledger.sight.sums(now).arrive({(queue, message.name): 1})
    return Published(Stored.STORED, key)
