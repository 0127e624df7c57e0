"""Taking work: what is due is made ready, what is late is ended, and the front of a queue goes under a lease."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from forebay.engine import Ask, Delivery, Source
from forebay.model.message import EntryId
from forebay.model.state import TIMED, WAITING, Event, State
from forebay.model.unique import MOST_GATHERED, Conflict
from forebay.stores.memory.entry import Entry, Lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger
    from forebay.support.ids import Token


def receive(
    ledger: Ledger, asks: Sequence[Ask], most: int | None, worker: str, now: Instant
) -> list[Delivery]:
    """What is under the tokens of ``asks`` already, and what they and ``most`` leave room for."""
    held = {ask.token: _held(ledger, ask) for ask in asks if ask.token in ledger.leases}
    room = sum(ask.limit for ask in asks) if most is None else most - sum(map(len, held.values()))
    taken: list[Delivery] = []
    for ask in asks:
        if ask.token in held:
            taken += held[ask.token]
            continue
        fresh, fronts = _claim(ledger, ask, min(ask.limit, room), worker, now)
        room -= fronts
        taken += fresh
    return taken


def _held(ledger: Ledger, ask: Ask) -> list[Delivery]:
    held = (ledger.entries[key] for key in ledger.leases[ask.token].entries)
    return [_delivery(e, ask.source) for e in sorted(held, key=lambda e: (-e.message.priority, e.seq))]


def _claim(ledger: Ledger, ask: Ask, limit: int, worker: str, now: Instant) -> tuple[list[Delivery], int]:
    """Take up to ``limit`` ready entries, with what has gathered with them; and how many they were without it."""
    queue, taken, company = ask.source.queue, list[Entry](), list[Entry]()
    _promote(ledger, queue, now)
    put_off = _put_off(ledger, ask, now) if ask.names else []
    if queue in ledger.lines.rules:
        limit = _tidy(ledger, queue, put_off, limit, now)
    if queue not in ledger.paused:
        if limit <= 0:
            put_off.clear()
        for entry in _next_ready(ledger, queue, now, put_off):
            if len(taken) >= limit:
                break
            some = _company_of(ledger, entry, ask.token, now) if entry.message.hold is not None else []
            if company and len(company) + len(some) > MOST_GATHERED:
                break
            company += some
            heapq.heappop(ledger.ready[queue])
            _take(ledger, entry, ask, now)
            taken.append(entry)
            if len(taken) == limit:
                put_off.clear()  # the rest of it waits on
    fronts = len(taken)
    for entry in company:
        if entry.token != ask.token:
            if entry.state is not State.READY:
                ledger.happen(entry, Event.DUE if entry.state is State.SCHEDULED else Event.UNBLOCK, now)
            _take(ledger, entry, ask, now)
            taken.append(entry)
    if taken:
        ledger.lines.taken(queue, taken[:fronts], now)
        ledger.leases[ask.token] = Lease(worker, now + ledger.options.timing.lease, {e.id for e in taken})
    return [_delivery(e, ask.source) for e in taken], fronts


def _take(ledger: Ledger, entry: Entry, ask: Ask, now: Instant) -> None:
    """Put one that is ready under a lease."""
    ledger.happen(entry, Event.CLAIM, now)
    entry.token, entry.started, entry.progress = ask.token, now, None
    if entry.unknown_since is not None and entry.message.name not in ask.names:
        _date(ledger, entry)


def _company_of(ledger: Ledger, head: Entry, token: Token, now: Instant) -> list[Entry]:
    """What has gathered with one, and is taken with it: what has not failed yet, and waits or is under ``token`` already."""
    hold = head.message.hold
    if hold is None or hold.conflict is not Conflict.JOIN:
        return []
    found = [(ledger.entries.get(key), seq) for key, seq in ledger.company.get(head.seq, ())]
    return [
        entry
        for entry, seq in found
        if entry is not None
        and entry.seq == seq
        and (ledger.stands(entry) in (State.SCHEDULED, State.READY) or entry.token == token)
        and entry.attempts == 0
        and (entry.expires is None or entry.expires > now)
    ]


def _tidy(ledger: Ledger, queue: str, put_off: list[Entry], limit: int, now: Instant) -> int:
    """Before the front of a queue with rules is read: what is late is over, and who may stands, also of what was put off; how many
    may be taken.
    """
    if limit > 0 and queue not in ledger.paused:
        for entry in put_off[-limit:]:
            ledger.happen(entry, Event.DUE, now)
        put_off.clear()
    _end_late(ledger, queue, now)
    ledger.lines.balance(now)
    room = ledger.lines.room(queue, now)
    return limit if room is None else min(limit, room)


def _end_late(ledger: Ledger, queue: str, now: Instant) -> None:
    """End what waits in a queue with rules and was not started in time: before others stand in its place."""
    heap = ledger.late.get(queue, [])
    while heap and heap[0][0] <= now:
        expires, seq, key = heapq.heappop(heap)
        entry = ledger.entries.get(key)
        if entry is not None and (entry.seq, entry.expires) == (seq, expires) and entry.state in WAITING:
            ledger.happen(entry, Event.EXPIRE, now)


def _put_off(ledger: Ledger, ask: Ask, now: Instant) -> list[Entry]:
    """What was put off though its name is known, the first last; and that it is known."""
    found = list[Entry]()
    for place in [(ask.source.queue, name) for name in ask.names]:
        some = [e for e in ledger.nameless.get(place, {}).values() if e.expires is None or e.expires > now]
        if some:
            ledger.known[place] = now
            found += some
    return sorted(found, key=ledger.place, reverse=True)


def _date(ledger: Ledger, entry: Entry) -> None:
    """Since when nobody knows its name: not since before somebody did."""
    known = ledger.known.get((entry.queue, entry.message.name))
    if known is not None and entry.unknown_since is not None and entry.unknown_since <= known:
        entry.unknown_since = None


def front(ledger: Ledger, queue: str, now: Instant) -> Entry | None:
    """What a claim would take first."""
    _promote(ledger, queue, now)
    ledger.lines.balance(now)
    if queue in ledger.paused or ledger.lines.room(queue, now) == 0:
        return None
    return next(_next_ready(ledger, queue, now, []), None)


def next_due(ledger: Ledger, queue: str, now: Instant) -> Instant | None:
    """When the next of the queue may be taken that may not be taken now."""
    dues = [_next_timed(ledger, queue), ledger.lines.next_due(queue)]
    refill = ledger.lines.refill(queue, now)
    if refill is not None and queue not in ledger.paused and next(_next_ready(ledger, queue, now, []), None):
        dues.append(refill)
    return min((due for due in dues if due is not None), default=None)


def _next_timed(ledger: Ledger, queue: str) -> Instant | None:
    """When the next timed entry of the queue is due."""
    heap = ledger.timed.get(queue, [])
    while heap and not _is_timed(ledger, heap[0]):
        heapq.heappop(heap)
    return heap[0][0] if heap else None


def _is_timed(ledger: Ledger, place: tuple[Instant, int, EntryId]) -> bool:
    """Whether this is where an entry waits for its time yet."""
    entry = ledger.entries.get(place[2])
    return entry is not None and entry.seq == place[1] and entry.state in TIMED and entry.due == place[0]


def _promote(ledger: Ledger, queue: str, now: Instant) -> None:
    """Make ready what is due."""
    while (due := _next_timed(ledger, queue)) is not None and due <= now:
        entry = ledger.entries[heapq.heappop(ledger.timed[queue])[2]]
        ledger.happen(entry, Event.DUE, due)
    ledger.lines.promote(queue, now)


def _next_ready(ledger: Ledger, queue: str, now: Instant, put_off: list[Entry]) -> Iterator[Entry]:
    """The ready entry at the front, again and again until the caller takes it; expired ones are ended on the way. What was ``put_off``
    (the first last) becomes ready when it is its turn.
    """
    heap, full = ledger.ready.setdefault(queue, []), list[tuple[int, int, int, EntryId]]()
    try:
        while heap or put_off:
            if put_off and (not heap or ledger.place(put_off[-1]) < heap[0]):
                ledger.happen(put_off.pop(), Event.DUE, now)
            entry = ledger.entries.get(heap[0][3])
            if entry is None or entry.state is not State.READY or ledger.place(entry) != heap[0]:
                heapq.heappop(heap)
            elif entry.expires is not None and entry.expires <= now:
                ledger.happen(entry, Event.EXPIRE, now)
            elif not ledger.lines.rules or ledger.lines.free(queue, entry.message.name):
                yield entry
            else:
                full.append(heapq.heappop(heap))
    finally:
        for place in full:
            heapq.heappush(heap, place)


def _delivery(entry: Entry, source: Source) -> Delivery:
    if entry.token is None or entry.started is None:
        raise AssertionError(entry)
    return Delivery(
        id=entry.id, message=entry.message, source=source, token=entry.token, received=entry.started, created=entry.created,
        expires=entry.expires, deadline=entry.deadline, attempts=entry.attempts, crashes=entry.crashes, releases=entry.releases,
        unknown_since=entry.unknown_since,
    )  # fmt: skip
