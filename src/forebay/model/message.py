"""The message: what a sender publishes and a handler is given. A task is addressed to a queue, an event to a topic."""

from __future__ import annotations

from typing import Final, NewType

import msgspec

from forebay.model.flow import Step
from forebay.model.unique import Hold
from forebay.model.when import Micros, When

MessageId = NewType("MessageId", str)
EntryId = NewType("EntryId", str)
"""The id of one copy of a message in one queue. A task's entry id is its message id; an event's is ``<message id>@<queue>``."""

JSON: Final = "application/json"
LOWEST_PRIORITY: Final = 0
HIGHEST_PRIORITY: Final = 9
DEFAULT_PRIORITY: Final = 4


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is published. A task has a ``queue``, an event a ``topic``; with both it is one group's copy of an event.

    ``body`` is JSON, or raw bytes under another ``content_type``. ``due``, ``expires`` and ``deadline`` are moments: not started before,
    not started after, not tried any more after. ``timeout`` is the length of one try in microseconds. ``step``: its place in a flow.
    ``hold``: how it holds its key ``unique``, where that is not while there is work left; of a task alone.
    """

    id: MessageId
    name: str
    queue: str | None = None
    topic: str | None = None
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = {}
    key: str | None = None
    priority: int = DEFAULT_PRIORITY
    due: When | None = None
    expires: When | None = None
    deadline: When | None = None
    unique: str | None = None
    max_attempts: int | None = None
    timeout: Micros | None = None
    step: Step | None = None
    hold: Hold | None = None


def entry_id(message: MessageId, queue: str, *, copied: bool) -> EntryId:
    """The id of a message's row in a queue: an event is copied to every subscribed queue, so the queue is part of the id."""
    return EntryId(f"{message}@{queue}" if copied else message)
