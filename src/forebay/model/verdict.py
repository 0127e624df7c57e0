"""How a try ended, as a value. A verdict is the only thing that ends a delivery; the engine that settles it decides nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec
from msgspec.structs import force_setattr

from forebay.model.fingerprint import fingerprint
from forebay.model.state import Event
from forebay.model.when import When


class Failure(msgspec.Struct, frozen=True):
    """An error as data: it is shown to people, never rebuilt into an exception. ``fingerprint`` is equal for failures that are the same
    one; it is computed where it is not given, as where nothing was raised.
    """

    type: str
    message: str
    traceback: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            force_setattr(self, "fingerprint", fingerprint(self.type, self.message))


class Reason(StrEnum):
    """Why a message became a dead letter; the last three: why a step of a flow was cancelled by that, as what it needed has failed, as it
    is not needed, or as another message has its unique key.
    """

    EXHAUSTED = "exhausted"
    NOT_RETRYABLE = "not-retryable"
    ASKED = "asked"
    UNDECODABLE = "undecodable"
    ARGUMENTS = "arguments"
    UNKNOWN_NAME = "unknown-name"
    TOO_LARGE = "too-large"
    RESULT = "result"
    STEPS = "steps"
    DEADLINE = "deadline"
    CRASHED = "crashed"
    PARENT_FAILED = "parent-failed"
    SKIPPED = "skipped"
    DUPLICATE = "duplicate"


class Done(msgspec.Struct, frozen=True, tag=True):
    """The handler returned. ``result`` is its JSON, None when it returned None."""

    result: bytes | None = None


class Retry(msgspec.Struct, frozen=True, tag=True):
    """The try failed and counts; another one follows at ``at``."""

    at: When
    error: Failure


class Snooze(msgspec.Struct, frozen=True, tag=True):
    """Not now: again at ``at``, no attempt spent. ``unknown`` marks a name that this worker does not know. ``awaits``: or at once, if an
    event that it waits for has come since it was handed out.
    """

    at: When
    unknown: bool = False
    awaits: bool = False


class Release(msgspec.Struct, frozen=True, tag=True):
    """Handed back as it was (a stop, a full process): ready again at once, no attempt spent."""


class Dead(msgspec.Struct, frozen=True, tag=True):
    """A dead letter from now on. ``counts``: whether this try spent an attempt."""

    reason: Reason
    error: Failure | None = None
    counts: bool = True


class Crashed(msgspec.Struct, frozen=True, tag=True):
    """The process that tried it died of it. No attempt is spent, but a crash counted: ready again, or dead after too many of them."""

    error: Failure


class Cancelled(msgspec.Struct, frozen=True, tag=True):
    """Cancelled by its handler or on request."""


class Expired(msgspec.Struct, frozen=True, tag=True):
    """Its expiry passed before it could start."""


Verdict: TypeAlias = Done | Retry | Snooze | Release | Dead | Crashed | Cancelled | Expired


def event_of(verdict: Verdict) -> Event:
    """The transition a verdict stands for."""
    match verdict:
        case Done():
            return Event.DONE
        case Retry():
            return Event.RETRY
        case Snooze():
            return Event.SNOOZE
        case Release():
            return Event.RELEASE
        case Dead():
            return Event.BURY
        case Crashed():
            return Event.LOSE
        case Cancelled():
            return Event.CANCEL
        case Expired():
            return Event.EXPIRE


def spends_attempt(verdict: Verdict) -> bool:
    """Whether the try counts against ``max_attempts``: only a try that ran to a result or a failure does."""
    match verdict:
        case Done() | Retry():
            return True
        case Dead(counts=counts):
            return counts
        case Snooze() | Release() | Crashed() | Cancelled() | Expired():
            return False


def failure_of(verdict: Verdict) -> Failure | None:
    """The error a verdict carries, if any."""
    return verdict.error if isinstance(verdict, Retry | Dead | Crashed) else None
