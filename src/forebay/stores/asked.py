"""What is asked of a store, read in the same way by all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Losses
from forebay.errors import InvalidOption, Unsupported

if TYPE_CHECKING:
    from forebay.engine import Topic
    from forebay.model.query import Selector


def read_cursor(cursor: str | None) -> int | None:
    """The place of the last record of the page before, in stores that number their entries.

    Raises `InvalidOption` for a cursor that is not ours.
    """
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise InvalidOption(
            f"{cursor[:60]!r} is not a cursor: pass the `next` of the page before, unchanged."
        )
    return int(cursor)


def queue_of(which: Selector) -> str:
    """The queue that `Pause` and `Resume` mean. Raises `InvalidOption` where none is named."""
    if which.queue is None:
        raise InvalidOption("Pause and resume take a queue: Selector(queue=...).")
    return which.queue


def check_topic(topic: Topic) -> None:
    """Raise `Unsupported` for what can only be lost with a connection."""
    if isinstance(topic, Losses):
        raise Unsupported(
            "The leases of a store do not hang on its connection: renew them with extend(), which says which are lost."
        )
