"""What became of one try, before policy has judged it, and the four words a handler may return or raise to steer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from forebay.model.verdict import Failure, Reason
from forebay.model.when import When, moment

if TYPE_CHECKING:
    from datetime import datetime

    from forebay.model.when import Duration


class Steer(Exception):  # words a handler says, not errors
    """What a handler may return or raise instead of a result: `Retry`, `Snooze`, `Dead`, `Cancel`."""


class Retry(Steer):
    """This try failed; try again, ``after`` the given time if one is given, else by the task's backoff. Spends an attempt.

    >>> raise Retry("rate limited", after="5m")
    Traceback (most recent call last):
    forebay.model.outcome.Retry: rate limited
    """

    def __init__(
        self, why: str = "the handler asked for a retry", *, after: Duration | datetime | None = None
    ) -> None:
        super().__init__(why)
        self.when: When | None = None if after is None else moment(after, "Retry(after=...)")


class Snooze(Steer):
    """Not now: run again after the given time. Spends no attempt.

    >>> Snooze("10m").when
    After(micros=600000000)
    """

    def __init__(self, after: Duration | datetime, why: str = "snoozed") -> None:
        super().__init__(why)
        self.when: When = moment(after, "Snooze(...)")


class Dead(Steer):
    """Give up: keep the message as a dead letter, whatever attempts are left."""

    def __init__(self, why: str = "the handler gave up") -> None:
        super().__init__(why)


class Cancel(Steer):
    """This need not be done any more: end as cancelled."""

    def __init__(self, why: str = "cancelled by its handler") -> None:
        super().__init__(why)


class Suspended(BaseException):
    """Takes a handler out of a try that goes on later, or nowhere: its steps are saved. Let it pass, as one does a cancellation.

    It is no `Exception`, so that ``except Exception`` does not meet it. What the try comes to is settled already: code that catches it all
    the same changes nothing.
    """


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The handler returned; ``result`` is the encoded value."""

    result: bytes | None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The handler raised, or ran out of time. ``at``: when it asked to be tried again, if it did."""

    failure: Failure
    retryable: bool = True
    at: When | None = None


class Put(msgspec.Struct, frozen=True, tag=True):
    """The handler asked for another time. ``awaits``: or for an event, if that comes before."""

    at: When
    awaits: bool = False


class Buried(msgspec.Struct, frozen=True, tag=True):
    """There is no use in trying again. ``counts``: whether a handler ran at all."""

    reason: Reason
    failure: Failure
    counts: bool


class Nameless(msgspec.Struct, frozen=True, tag=True):
    """This worker has no handler of that name."""

    name: str


class Interrupted(msgspec.Struct, frozen=True, tag=True):
    """The worker is stopping and took the try back, or never began it."""


class CalledOff(msgspec.Struct, frozen=True, tag=True):
    """Cancelled, by its handler or on request."""


class Fell(msgspec.Struct, frozen=True, tag=True):
    """The process that tried it died. ``failure`` says how."""

    failure: Failure


class TooLate(msgspec.Struct, frozen=True, tag=True):
    """It had expired before it could begin."""


Outcome: TypeAlias = Returned | Failed | Put | Buried | Nameless | Interrupted | CalledOff | Fell | TooLate
