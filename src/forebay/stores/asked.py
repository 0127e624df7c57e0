"""What is asked of a store, read in the same way by all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from forebay.engine import Losses
from forebay.errors import InvalidOption, Unsupported
from forebay.model.query import LONGEST_PAGE
from forebay.model.survey import Group

if TYPE_CHECKING:
    from collections import Counter

    from forebay.engine import Topic
    from forebay.model.query import Query, Selector
    from forebay.model.survey import Groups

IDS_NOTED: Final = 100
"""Ids of a selector that are kept with its command."""
MOST_WALKED: Final = 1_000_000
"""Messages that are looked at to count groups of them at most: a second or so."""


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


def noted(which: Selector) -> Selector:
    """What is kept of a selector: of many ids the first."""
    return msgspec.structs.replace(which, ids=which.ids[:IDS_NOTED])


def page_size(query: Query) -> int:
    """How many records a page may have."""
    return max(1, min(query.size, LONGEST_PAGE))


def groups(about: Groups, found: Counter[str | int]) -> tuple[Group, ...]:
    """The largest groups, as many as asked."""
    order = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return tuple(Group(value, number) for value, number in order[: about.most])


def check_walk(walked: int) -> None:
    """Raise `InvalidOption` for a count that is no end of."""
    if walked > MOST_WALKED:
        raise InvalidOption(
            f"More than {MOST_WALKED:,} messages would have to be looked at: narrow it by states, queue, name, error, key or a span"
            " of time. By queue and by state, without other conditions, there is no such limit."
        )
