"""Storing messages: one statement for what they are, one for where they stand. Runs inside a write transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from forebay.engine import Published, Ready, Stored
from forebay.model.message import EntryId, Message, entry_id
from forebay.model.names import matches
from forebay.model.state import BORN, Event
from forebay.model.when import resolve
from forebay.stores.sqlite.desk import batch as encoded, numbers
from forebay.stores.sqlite.rows import LARGE, message_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.model.when import Instant
    from forebay.stores.sqlite.desk import Desk

CHUNK: Final = 1_000
"""Rows in one statement at most."""
_READY: Final = BORN[Event.PUBLISH].value
_SCHEDULED: Final = BORN[Event.SCHEDULE].value


@dataclass(slots=True)
class _Plan:
    """What a batch comes to, before the store has refused duplicates. ``seqs`` has the entries of each message."""

    messages: list[tuple[object, ...]] = field(default_factory=list)
    entries: list[tuple[object, ...]] = field(default_factory=list)
    large: list[tuple[int, bytes]] = field(default_factory=list)
    seqs: list[range] = field(default_factory=list)


def publish(desk: Desk, messages: Sequence[Message], now: Instant) -> list[Published]:
    """Store a batch; answers per item and in order."""
    plan = _plan(desk, messages, now)
    stored = 0
    for chunk in _chunks(plan.messages):
        desk.change("publish_messages", {"batch": encoded(chunk)})
    for seq, body in plan.large:
        desk.change("message_body", {"seq": seq, "body": body})
    for chunk in _chunks(plan.entries):
        stored += desk.change("publish_entries", {"batch": encoded(chunk), "now": now})
    refused = _refused(desk, plan) if stored < len(plan.entries) else {}
    answers = [_answer(m, seqs, refused) for m, seqs in zip(messages, plan.seqs, strict=True)]
    if unrouted := sum(a.groups == 0 for a in answers):
        desk.change("count_event", {"name": "unrouted", "n": unrouted})
    return answers


def _plan(desk: Desk, messages: Sequence[Message], now: Instant) -> _Plan:
    plan = _Plan()
    seq: int = desk.row("publish_next")[0]
    routes = desk.rows("bindings") if any(m.queue is None for m in messages) else []
    for message in messages:
        queues = (
            [message.queue]
            if message.queue is not None
            else [q for q, p in routes if matches(p, message.topic or "")]
        )
        plan.seqs.append(range(seq, seq + len(queues)))
        if not queues:
            continue
        plan.messages.append(message_row(seq, message, len(queues)))
        if len(message.body) >= LARGE:
            plan.large.append((seq, message.body))
        due = resolve(message.due, now)
        state, since = (_SCHEDULED, None) if due is not None and due > now else (_READY, now)
        expires, deadline = resolve(message.expires, now), resolve(message.deadline, now)
        for place, queue in enumerate(queues, seq):
            key = entry_id(message.id, queue, copied=message.queue is None)
            plan.entries.append(
                (
                    place,
                    seq,
                    key,
                    queue,
                    state,
                    message.priority,
                    due,
                    expires,
                    deadline,
                    since,
                    message.unique,
                )
            )
            desk.news.add(Ready(queue))
        seq += len(queues)
    return plan


def _refused(desk: Desk, plan: _Plan) -> dict[int, str]:
    """The entries that were duplicates, and whose; what was stored of their messages is taken back."""
    refused: dict[int, str] = {}
    for chunk in _chunks(plan.entries):
        refused.update(
            (seq, holder) for seq, holder in desk.rows("publish_refused", {"batch": encoded(chunk)})
        )
    less = [(seqs.start, n) for seqs in plan.seqs if (n := sum(seq in refused for seq in seqs))]
    desk.change("publish_copies", {"batch": encoded(less)})
    desk.change("message_forget", {"batch": numbers(seq for seq, _ in less)})
    return refused


def _answer(message: Message, seqs: range, refused: dict[int, str]) -> Published:
    if message.queue is not None:
        if not refused or (holder := refused.get(seqs.start)) is None:
            return Published(Stored.STORED, EntryId(message.id))
        return Published(Stored.DUPLICATE, EntryId(holder))
    duplicate = bool(seqs) and all(seq in refused for seq in seqs)
    return Published(Stored.DUPLICATE if duplicate else Stored.STORED, EntryId(message.id), len(seqs))


def _chunks(rows: list[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    if len(rows) <= CHUNK:
        return iter([rows] if rows else [])
    pending = iter(rows)
    return iter(lambda: list(islice(pending, CHUNK)), [])
