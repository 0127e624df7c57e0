"""Why a message waits, in a sentence for people: one answer for the command line and whatever else shows a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.model.flow import OVER
from forebay.model.state import State
from forebay.model.unique import Conflict
from forebay.model.waits import ForEvent, ForLine, ForParents, ForRoom, ForSleep, ForTokens
from forebay.model.when import as_datetime

if TYPE_CHECKING:
    from forebay.model.query import TaskRecord
    from forebay.model.waits import Waits
    from forebay.model.when import Instant


def why(record: TaskRecord) -> str | None:
    """Why it is not at work; None for what is, or is over.

    >>> from forebay.model.waits import ForLine
    >>> _sentence(ForLine(key="customer-7", ahead=2))
    "waits for its turn in the line of key 'customer-7': 2 before it"
    """
    if record.waits is not None:
        return _sentence(record.waits)
    match record.state:
        case State.READY:
            return f"waits for a worker of queue {record.queue!r}"
        case State.SCHEDULED if record.due is not None and (latest := _gathers(record)) is not None:
            return f"gathers with others, until {_moment(max(record.due, latest))} at the latest"
        case State.SCHEDULED if record.due is not None:
            return f"waits for its time, {_moment(record.due)}"
        case State.RETRYING if record.due is not None:
            return f"waits for its next try, {_moment(record.due)}"
        case _:
            return None


def _gathers(record: TaskRecord) -> Instant | None:
    """If others join it, or it has joined one: until when that can go on, for each that comes puts off the first."""
    hold = record.message.hold
    if hold is None or hold.conflict is not Conflict.JOIN or record.attempts:
        return None
    return record.created + (hold.longest or 0)


def _sentence(waits: Waits) -> str:
    match waits:
        case ForParents(open=number, first=names):
            shown = ", ".join(names) + (", ..." if number > len(names) else "")
            return f"waits for {number} step{'s' * (number != 1)} before it: {shown}"
        case ForLine(key=key, ahead=ahead):
            return f"waits for its turn in the line of key {key!r}: {ahead} before it"
        case ForRoom(of=of, most=most):
            return f"waits for one that runs to end: {of} may run {most} at once"
        case ForTokens(of=of, rate=rate, until=until):
            return f"waits for the rate of {of}, {rate}: the next may run {_moment(until)}"
        case ForEvent(topic=topic, key=key, until=until):
            named = "" if key is None else f" with key {key!r}"
            what = f"the end of flow {key!r}" if topic == OVER else f"an event on {topic!r}{named}"
            return f"waits for {what}" + ("" if until is None else f" until {_moment(until)}")
        case ForSleep(step=step, until=until):
            return f"sleeps in step {step!r} until {_moment(until)}"


def _moment(instant: Instant) -> str:
    return f"{as_datetime(instant):%Y-%m-%d %H:%M:%S}Z"
