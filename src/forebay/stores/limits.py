"""Who is let into queues with a limit, and what is told to who is not. The same in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.engine import Full, Published, Stored
from forebay.model.message import EntryId
from forebay.model.when import SECOND, Instant, Micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.model.message import Message

WINDOW: Final[Micros] = 60 * SECOND
"""How far back the rate of a queue is looked for."""
SAMPLE: Final = 100
"""The latest messages that were finished: so many are looked at, at most."""
SHORTEST: Final = 1.0
LONGEST: Final = 60.0
UNKNOWN: Final = 5.0
"""Seconds, where nothing was finished within the window."""
SHARE: Final = 20
"""Senders come back when so much of the limit, one part in this many, is likely free: all would else fight for the first place."""


def retry_after(limit: int, finished: int, oldest: Instant | None, now: Instant) -> float:
    """Seconds until there is likely room, if ``finished`` messages have ended since ``oldest``.

    >>> retry_after(1_000, 100, 0, 10 * SECOND), retry_after(1_000, 1, 0, 30 * SECOND), retry_after(1_000, 0, None, 0)
    (5.0, 60.0, 5.0)
    """
    if not finished or oldest is None:
        return UNKNOWN
    each = max(now - oldest, 1) / SECOND / finished
    return round(min(max(each * max(limit // SHARE, 1), SHORTEST), LONGEST), 1)


def admitted(
    message: Message, queues: Sequence[str], fresh: Sequence[str], full: Callable[[str], Full | None]
) -> Published | None:
    """The answer to a sender who is not let in, None for who is. ``fresh``: those of the message's ``queues`` that do not have it yet;
    ``full`` says why a queue takes no more.

    A message is let in as a whole or not at all; one that is there already, in some queue, is a duplicate and never FULL.
    """
    reason = next(filter(None, map(full, fresh)), None)
    if reason is None:
        return None
    if len(fresh) == len(queues):
        return Published(Stored.FULL, EntryId(message.id), full=reason)
    # A repeat of an event: who has subscribed since is full.
    return Published(Stored.DUPLICATE, EntryId(message.id), len(queues))
