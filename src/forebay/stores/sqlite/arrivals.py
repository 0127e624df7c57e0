"""Events that handlers wait for: kept for them, and they are made due. Runs inside the write transaction that publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.engine import Ready
from forebay.model.message import JSON
from forebay.model.saved import LARGEST_STEP
from forebay.stores.sqlite import flow_events
from forebay.stores.sqlite.session import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.model.message import Message, MessageId
    from forebay.stores.sqlite.session import Session, Value

MOST_MET: Final = 1_000
"""Steps that one transaction gives their events. What is left goes on in the next one, and by a sweep after a crash."""
_ANY: Final = (1 << 63) - 1
"""Whatever its number."""


def meet(session: Session, events: Sequence[Message]) -> set[MessageId]:
    """Give events to those that wait for them, and say which had any: one look, if nobody waits. An event that comes behind others waits
    for its turn.
    """
    awaited, behind = session.row("event_awaited")
    if not awaited and not behind:
        return set()
    room, had = 0 if behind else MOST_MET, set()
    for event in events:
        seen = _seen(event)
        met = _meet(session, seen | {"last": _ANY}, room) if room else 0
        room -= met
        kept = 0 if room else session.change("arrival_keep", seen | {"now": session.now})
        if kept:
            session.unfinished = True
        if met or kept:
            had.add(event.id)
    return had


def go_on(session: Session) -> bool:
    """Give some more of those that wait their events; whether more are left."""
    room = MOST_MET
    while room and (rows := session.rows("arrival_next")):
        number, topic, key, body, content_type, last = rows[0]
        seen = {"topic": topic, "key": key, "body": body, "content_type": content_type, "last": last}
        room -= _meet(session, seen, room)
        if room:
            session.change("arrival_forget", {"number": number})
    return not room


def settled(session: Session, seqs: Sequence[int]) -> None:
    """What was put off for an event that came while it ran is due at once."""
    session.change("event_settle", {"entries": numbers(seqs), "now": session.now})


def _seen(event: Message) -> dict[str, Value]:
    """An event as those that wait for it see it."""
    return {
        "topic": event.topic,
        "key": event.key,
        "body": event.body if len(event.body) <= LARGEST_STEP else None,
        "content_type": None if event.content_type == JSON else event.content_type,
    }


def _meet(session: Session, event: Mapping[str, Value], room: int) -> int:
    """Give an event to some that wait for it, and make them due; how many."""
    entries = [seq for (seq,) in session.rows("event_meet", {**event, "now": session.now, "limit": room})]
    if entries:
        woken = session.rows("event_wake", {"entries": numbers(entries), "now": session.now})
        session.news.update(Ready(queue) for (queue,) in woken)
        flow_events.come(session, entries)
    return len(entries)
