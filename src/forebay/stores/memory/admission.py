"""Who is let into queues with a limit, and who is not. Before anything is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Full, Published
from forebay.model.message import Message, entry_id
from forebay.model.state import WAITING, Event
from forebay.stores.face import exclusive
from forebay.stores.limits import WINDOW, admitted, retry_after

if TYPE_CHECKING:
    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger


def turned_away(ledger: Ledger, message: Message, queues: list[str], now: Instant) -> Published | None:
    """The answer to a message that would take one of its ``queues`` over its limit; None if it may come in."""
    fresh = [queue for queue in queues if not _is_known(ledger, message, queue, now)]
    return admitted(message, queues, fresh, lambda queue: full(ledger, queue, now))


def full(ledger: Ledger, queue: str, now: Instant, wanted: int = 1) -> Full | None:
    """What to say of a queue that has no room for the ``wanted``, also without what has expired there; None if it has."""
    level = ledger.levels.get(queue)
    if level is None or level.waiting + wanted <= level.limit:
        return None
    if level.drops_expired:
        _expire(ledger, queue, now)
    if level.waiting + wanted <= level.limit:
        return None
    recent = [at for at in level.finished if at > now - WINDOW]
    after = retry_after(level.limit, len(recent), recent[0] if recent else None, now)
    return Full(queue, level.limit, after)


def _expire(ledger: Ledger, queue: str, now: Instant) -> None:
    """End what waits in a queue and was not started in time."""
    for entry in ledger.entries.values():
        if (
            entry.queue == queue
            and entry.state in WAITING
            and entry.expires is not None
            and entry.expires <= now
        ):
            ledger.happen(entry, Event.EXPIRE, now)
            ledger.dropped += 1


def _is_known(ledger: Ledger, message: Message, queue: str, now: Instant) -> bool:
    """Whether this would be a duplicate there."""
    if entry_id(message.id, queue, copied=message.topic is not None) in ledger.entries:
        return True
    if (unique := exclusive(message)) is None:
        return False
    latest = ledger.holds.latest((queue, unique))
    return latest is not None and (
        latest.last == message.id or ledger.holds.holder((queue, unique), now) is not None
    )
