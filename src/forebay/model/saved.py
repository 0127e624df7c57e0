"""What is kept of a handler's durable steps, so that a later try gets their results without running them again."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.model.message import JSON, Message
from forebay.model.waits import ForEvent, ForSleep
from forebay.model.when import Instant, Micros

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_STEPS: Final = 1_000
"""Steps of one message."""
LARGEST_STEP: Final = 1 << 20
"""Bytes of JSON of one result."""
LARGEST_STEPS: Final = 32 << 20
"""Bytes of all results of one message, for a try reads them all. An event that is waited for counts as the largest."""


NEVER: Final[Instant] = 1 << 62
"""Later than any moment."""


class Kind(StrEnum):
    """What a step was for."""

    STEP = "step"
    SLEEP = "sleep"
    WAIT = "wait"
    VERSION = "version"


class SavedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a message, under the name that is its own: ``charge``, and ``charge#2`` for the second step of that name.

    ``position``: which call of its try it was, from 1; 0 for one that ran beside others. ``body``: the result, or the event that was waited
    for. ``due``: when a sleep ends, or until when the event on ``topic`` (with ``key``, if one is named) is waited for; ``lasts``: or how
    long from when it is saved, of which the store makes ``due`` by its clock. ``took``: how long it ran. Both in microseconds. ``number``,
    ``at`` and ``met`` are the store's: the try that saved it, when, and when its event came.
    """

    name: str
    kind: Kind = Kind.STEP
    position: int = 0
    body: bytes | None = None
    content_type: str = JSON
    due: Instant | None = None
    lasts: Micros | None = None
    topic: str | None = None
    key: str | None = None
    took: Micros = 0
    number: int = 0
    at: Instant = 0
    met: Instant | None = None

    def due_from(self, now: Instant) -> Instant | None:
        """When it is due that is saved at ``now``."""
        return self.due if self.lasts is None else now + self.lasts

    @property
    def waits(self) -> bool:
        """Whether it is for an event that has not come."""
        return self.kind is Kind.WAIT and self.met is None

    @property
    def size(self) -> int:
        """Bytes that count as its own."""
        return LARGEST_STEP if self.waits else len(self.body or b"")


def wait_of(message: Message) -> SavedStep:
    """What a step of a flow waits for that is there for an event, on the topic that it has as its name: whenever that comes."""
    return SavedStep(name="event", kind=Kind.WAIT, topic=message.name, key=message.key, due=NEVER)


def event_result(body: bytes | None, content_type: str) -> bytes | None:
    """An event as the result of a step: JSON; raw bytes as text in base64, as JSON has them."""
    return body if body is None or content_type == JSON else msgspec.json.encode(body)


def waited_for(steps: Iterable[SavedStep], now: Instant) -> ForEvent | ForSleep | None:
    """What a message waits for that is put off: which of its sleeps, or of the events it waits for, has its time next after ``now``."""
    found = [
        (step.due, step)
        for step in steps
        if step.due is not None and step.due > now and (step.waits or step.kind is Kind.SLEEP)
    ]
    if not found:
        return None
    until, step = min(found, key=lambda one: one[0])
    if step.topic is None:
        return ForSleep(step=step.name, until=until)
    return ForEvent(topic=step.topic, key=step.key, until=None if until == NEVER else until)
