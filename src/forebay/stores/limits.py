"""What a sender is told who meets a full queue: when to come back. The same in every store."""

from __future__ import annotations

from typing import Final

from forebay.model.when import SECOND, Instant, Micros

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
