"""One message in one queue, as it begins: where it goes and how it is born."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from forebay.model.flow import Role
from forebay.model.names import matches
from forebay.model.state import BORN, Event, State
from forebay.model.when import After, At, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.model.flow import Step
    from forebay.model.message import Message
    from forebay.model.when import Instant, Micros


class Birth(NamedTuple):
    """The state an entry begins in, and the moments of its message on the store's clock."""

    state: State
    due: Instant | None
    expires: Instant | None
    deadline: Instant | None


_AT_ONCE: Final = Birth(BORN[Event.PUBLISH], None, None, None)


def birth(message: Message, now: Instant) -> Birth:
    """How a message that is published at ``now`` begins in each of its queues."""
    if message.due is None and message.expires is None and message.deadline is None:
        return _AT_ONCE
    due = resolve(message.due, now)
    event = Event.SCHEDULE if due is not None and due > now else Event.PUBLISH
    return Birth(BORN[event], due, resolve(message.expires, now), resolve(message.deadline, now))


def blocked(message: Message, step: Step, now: Instant) -> Birth:
    """How a step begins that waits for others. When it is due, or what waits for an event expires, is not known if it counts from there."""
    due, expires = (when.instant if isinstance(when, At) else None for when in (message.due, message.expires))
    deadline = resolve(message.deadline, now)
    waits = step.role is Role.EVENT
    return Birth(
        BORN[Event.BLOCK],
        due,
        earliest(expires, deadline) if waits else resolve(message.expires, now),
        deadline,
    )


def delay_of(message: Message, step: Step) -> Micros | None:
    """From when a step is released until it is due or, if it waits for an event, until it expires; None where that is not relative."""
    when = message.expires if step.role is Role.EVENT else message.due
    return when.micros if isinstance(when, After) else None


def earliest(*moments: Instant | None) -> Instant | None:
    """The first of some moments, of which there may be none."""
    return min((moment for moment in moments if moment is not None), default=None)


def routed(message: Message, bindings: Iterable[tuple[str, str | None]]) -> list[str]:
    """The queues a message goes to: its own or, for an event, all whose pattern (queue, pattern) matches its topic."""
    if message.queue is not None:
        return [message.queue]
    return [
        queue for queue, pattern in bindings if pattern is not None and matches(pattern, message.topic or "")
    ]
