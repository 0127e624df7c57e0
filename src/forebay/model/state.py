"""Where a message stands, and the one table of how it gets from state to state.

A state string written out anywhere else, but in SQL, is a defect.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """Where a message stands."""

    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What happens to a message."""

    PUBLISH = "publish"
    SCHEDULE = "schedule"
    BLOCK = "block"
    UNBLOCK = "unblock"
    DUE = "due"
    POSTPONE = "postpone"
    CLAIM = "claim"
    DONE = "done"
    RETRY = "retry"
    SNOOZE = "snooze"
    RELEASE = "release"
    LOSE = "lose"
    BURY = "bury"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REDRIVE = "redrive"


WAITING: Final = frozenset({State.SCHEDULED, State.BLOCKED, State.READY, State.RETRYING})
"""Not started, or waiting for another try."""
TIMED: Final = frozenset({State.SCHEDULED, State.RETRYING})
"""Waiting for an instant."""
FINISHED: Final = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED})
"""Will not run again unless somebody says so."""

ENDED_BY_WORK: Final = frozenset({State.SUCCEEDED, State.DEAD})
"""Over because somebody worked on it: what tells how fast a queue is worked off."""

BORN: Final[Mapping[Event, State]] = MappingProxyType(
    {Event.PUBLISH: State.READY, Event.SCHEDULE: State.SCHEDULED, Event.BLOCK: State.BLOCKED}
)
"""The state a new message is stored in."""


def _table() -> dict[tuple[State, Event], State]:
    table = {
        (State.READY, Event.CLAIM): State.RUNNING,
        (State.READY, Event.BLOCK): State.BLOCKED,
        (State.BLOCKED, Event.UNBLOCK): State.READY,
        (State.BLOCKED, Event.SCHEDULE): State.SCHEDULED,
        (State.BLOCKED, Event.DONE): State.SUCCEEDED,
        (State.RUNNING, Event.DONE): State.SUCCEEDED,
        (State.RUNNING, Event.RETRY): State.RETRYING,
        (State.RUNNING, Event.SNOOZE): State.SCHEDULED,
        (State.RUNNING, Event.RELEASE): State.READY,
        (State.RUNNING, Event.LOSE): State.READY,
        (State.RUNNING, Event.BURY): State.DEAD,
    }
    table |= {(state, Event.DUE): State.READY for state in TIMED}
    table |= {(state, Event.POSTPONE): State.SCHEDULED for state in TIMED | {State.READY}}
    table |= {(state, Event.CANCEL): State.CANCELLED for state in WAITING | {State.RUNNING}}
    table |= {(state, Event.EXPIRE): State.EXPIRED for state in WAITING | {State.RUNNING}}
    table |= {(state, Event.REDRIVE): State.READY for state in (FINISHED - {State.SUCCEEDED}) | TIMED}
    table |= {(state, Event.BLOCK): State.BLOCKED for state in FINISHED - {State.SUCCEEDED}}
    return table


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(_table())
RUNS_TO: Final[Mapping[Event, State]] = MappingProxyType(
    {event: then for (state, event), then in TRANSITIONS.items() if state is State.RUNNING}
)
"""What follows from an event that ends a try."""


def origins(event: Event) -> frozenset[State]:
    """The states in which ``event`` can happen.

    >>> sorted(origins(Event.DUE))
    [<State.RETRYING: 'retrying'>, <State.SCHEDULED: 'scheduled'>]
    """
    return frozenset(state for state, happening in TRANSITIONS if happening is event)


def after(state: State, event: Event) -> State | None:
    """The state that follows, or None if ``event`` cannot happen in ``state``.

    >>> after(State.RUNNING, Event.DONE)
    <State.SUCCEEDED: 'succeeded'>
    """
    return TRANSITIONS.get((state, event))


def mermaid() -> str:
    """The state diagram of the docs, drawn from the table."""
    born = [f"    [*] --> {state}: {event}" for event, state in BORN.items()]
    order = list(State)
    rows = sorted(TRANSITIONS.items(), key=lambda row: (order.index(row[0][0]), order.index(row[1])))
    moves = [f"    {state} --> {then}: {event}" for (state, event), then in rows]
    return "\n".join(["stateDiagram-v2", *born, *moves])
