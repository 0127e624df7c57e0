"""Unique keys: who holds one, and what becomes of what meets a key that is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.engine import Published, Stored
from forebay.model.entry import birth
from forebay.model.state import Event, State
from forebay.model.unique import Conflict, Place, bounded, meet
from forebay.model.when import Instant, resolve
from forebay.stores.face import check_hold, exclusive
from forebay.stores.memory.holds import Held, held_by

if TYPE_CHECKING:
    from forebay.model.message import EntryId, Message
    from forebay.stores.memory.entry import Entry
    from forebay.stores.memory.ledger import Ledger


def holder(ledger: Ledger, entry: Entry, now: Instant, *, stored: bool = False) -> EntryId:
    """Who has its unique key: itself, if it was free or there is none. A window is opened by what has just been ``stored`` alone."""
    unique, hold = exclusive(entry.message), entry.message.hold
    if unique is None or not (stored or hold is None or hold.keeps):
        return entry.id
    held = ledger.holds.holder((entry.queue, unique), now)
    if held is not None and held.seq != entry.seq:
        return held.id
    since = entry.created if hold is None else now
    ledger.holds.take((entry.queue, unique), held_by(entry.id, entry.seq, entry.message, since))
    return entry.id


def find(ledger: Ledger, message: Message, queue: str, now: Instant) -> Published | Held | None:
    """The answer to a message whose key is held, and what that changes in the holder; or the one it joins; None if nobody has it."""
    hold = None if message.hold is None else check_hold(message)
    key = (queue, message.unique or "")
    latest = ledger.holds.latest(key)
    if hold is not None and latest is not None and latest.last == message.id:
        return Published(Stored.DUPLICATE, latest.id)
    if (held := ledger.holds.holder(key, now)) is None:
        return None
    state = ledger.state_of(held.id, held.seq)
    if hold is None or state is None:
        rejects = hold is not None and hold.conflict is Conflict.REJECT
        return Published(Stored.TAKEN if rejects else Stored.DUPLICATE, held.id)
    entry = ledger.entries[held.id]
    gathers = held.gathered is not None
    match meet(hold, _belongs(message), _belongs(entry.message), state, gathers=gathers):
        case Conflict.REJECT:
            return Published(Stored.TAKEN, held.id)
        case Conflict.JOIN:
            return held
        case Conflict.REPLACE:
            since = now if state is State.RETRYING else held.since
            _replace(ledger, entry, message, bounded(resolve(message.due, now), hold, since), now)
            held = held_by(held.id, held.seq, message, entry.created)
            held.since, held.last = since, message.id
            ledger.holds.take(key, held)
        case Conflict.RESCHEDULE:
            _postpone(ledger, entry, bounded(resolve(message.due, now), hold, held.since), now)
            held.last = message.id
        case Conflict.KEEP:
            pass
    return Published(Stored.DUPLICATE, held.id)


def join(ledger: Ledger, entry: Entry, held: Held, now: Instant) -> None:
    """Gather with another: it is handed out with that one, or when that one would be at the latest."""
    message, head = entry.message, ledger.entries[held.id]
    hold = check_hold(message)
    _postpone(ledger, entry, held.since + (hold.longest or 0), now)
    ledger.company.setdefault(held.seq, []).append((entry.id, entry.seq))
    held.gathered = (held.gathered or 0) + 1
    full = held.gathered >= hold.most
    if head.state is State.SCHEDULED:
        _postpone(ledger, head, None if full else bounded(resolve(message.due, now), hold, held.since), now)
    if full:
        ledger.holds.close((entry.queue, message.unique or ""))


def _replace(ledger: Ledger, entry: Entry, message: Message, due: Instant | None, now: Instant) -> None:
    """One that waits becomes another, in its place and with its id and history."""
    born = birth(message, now)
    ledger.file(entry, put_off=False)
    ledger.lines.count(entry, -1)
    entry.message = replace(message, id=entry.message.id)
    ledger.lines.count(entry, 1)
    entry.expires, entry.deadline = born.expires, born.deadline
    entry.attempts = entry.crashes = entry.releases = 0
    entry.reason = entry.unknown_since = entry.failure = None
    _postpone(ledger, entry, due, now)


def _postpone(ledger: Ledger, entry: Entry, due: Instant | None, now: Instant) -> None:
    """One that waits gets another time."""
    entry.due = due
    if entry.state is State.BLOCKED:
        ledger.happen(entry, Event.UNBLOCK, now)  # it stands in line
    if due is not None and due > now:
        ledger.happen(entry, Event.POSTPONE, now)
    elif entry.state is not State.READY:
        ledger.happen(entry, Event.DUE, now)
    else:
        ledger.stand(entry)


def _belongs(message: Message) -> Place:
    return Place(message.name, message.key, None if message.step is None else message.step.flow)
