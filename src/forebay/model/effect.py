"""What the end of a try changes in its entry. Every engine that remembers takes this decision from here; it fences and writes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.model.state import FINISHED, RUNS_TO, Event, State
from forebay.model.verdict import (
    Crashed,
    Dead,
    Done,
    Failure,
    Reason,
    Release,
    Retry,
    Snooze,
    Verdict,
    event_of,
    failure_of,
    spends_attempt,
)
from forebay.model.when import resolve

if TYPE_CHECKING:
    from forebay.model.when import Instant


class Unknown(IntEnum):
    """What becomes of the moment since when no worker has known the name."""

    KEEP = 0
    BEGIN = 1
    CLEAR = 2


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """``event`` ends the try; ``state`` follows, or ``if_asked`` where the entry was asked to stop while it ran: what is not over then is
    not tried again. ``attempts``, ``crashes`` and ``releases`` are added; ``due``, an instant, and ``reason`` are kept where they are None.
    ``awaits``: it is due at once if an event that it waits for has come while it ran.
    """

    event: Event
    state: State
    if_asked: State
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    due: Instant | None = None
    unknown: Unknown = Unknown.KEEP
    reason: Reason | None = None
    error: Failure | None = None
    awaits: bool = False


def _of(event: Event, **changes: object) -> Effect:
    state = RUNS_TO[event]
    if_asked = state if state in FINISHED else State.CANCELLED
    return msgspec.structs.replace(Effect(event=event, state=state, if_asked=if_asked), **changes)


DONE: Final = _of(Event.DONE, attempts=1)
"""What almost every try ends with."""
CANCELLED: Final = _of(Event.CANCEL)
"""The end of what was asked to stop."""


def effect(verdict: Verdict, *, crashes: int, most_crashes: int, now: Instant) -> Effect:
    """What ``verdict`` does to an entry that has crashed ``crashes`` times before; with ``most_crashes`` it is quarantined.

    >>> effect(Done(), crashes=0, most_crashes=3, now=0).state
    <State.SUCCEEDED: 'succeeded'>
    """
    match verdict:
        case Done():
            return DONE
        case Crashed(error):
            return lost(crashes=crashes, most_crashes=most_crashes, error=error)
        case Retry(at, error):
            return _of(Event.RETRY, attempts=1, due=resolve(at, now), unknown=Unknown.CLEAR, error=error)
        case Snooze(at, unknown, awaits):
            since = Unknown.BEGIN if unknown else Unknown.CLEAR
            return _of(Event.SNOOZE, due=resolve(at, now), unknown=since, awaits=awaits)
        case Release():
            return _of(Event.RELEASE, releases=1)
        case _:
            reason = verdict.reason if isinstance(verdict, Dead) else None
            spent = int(spends_attempt(verdict))
            return _of(event_of(verdict), attempts=spent, reason=reason, error=failure_of(verdict))


def lost(*, crashes: int, most_crashes: int, error: Failure | None = None) -> Effect:
    """What a lost lease does: the worker died or was cut off, of ``error`` if that is known. Once too often, and it is not tried again."""
    crashes += 1
    if crashes < most_crashes:
        return _of(Event.LOSE, crashes=1, error=error)
    text = f"the lease was lost {crashes} times: its workers died or were cut off while they had it"
    return _of(Event.BURY, crashes=1, reason=Reason.CRASHED, error=error or Failure("Crashed", text))
