"""What a message waits for, as a store sees it."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from forebay.model.when import Instant


class ForParents(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The steps before it: how many of them are not over, and the names of the first."""

    open: int
    first: tuple[str, ...] = ()


class ForLine(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Its turn among the messages of its key: how many stand before it, counted no further than a thousand."""

    key: str
    ahead: int


class ForRoom(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One of those that run now to end: ``most`` of the queue, or of tasks of one name, run at once."""

    of: str
    most: int


class ForTokens(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A rate: the bucket ``of`` a queue or a key is empty until then."""

    of: str
    rate: str
    until: Instant


class ForEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An event on ``topic``, with ``key`` if one was named, until then."""

    topic: str
    key: str | None = None
    until: Instant | None = None


class ForSleep(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The end of a sleep that its handler asked for, by the name of the step."""

    step: str
    until: Instant


Waits: TypeAlias = ForParents | ForLine | ForRoom | ForTokens | ForEvent | ForSleep
