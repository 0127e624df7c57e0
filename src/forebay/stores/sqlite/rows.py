"""Messages, deliveries and records as rows, and back. Per-row code: counted in microseconds."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from forebay.engine import Delivery
from forebay.model.flow import Step
from forebay.model.message import JSON, EntryId, Message
from forebay.model.query import Actor, Deed, Progress, Selector, Steered, TaskRecord, Try
from forebay.model.state import State
from forebay.model.survey import Audited
from forebay.model.unique import Hold
from forebay.model.verdict import Failure, Reason
from forebay.model.when import When
from forebay.stores.sqlite.session import batch
from forebay.support.ids import Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.engine import Source
    from forebay.model.saved import SavedStep
    from forebay.model.waits import Waits
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Row, Value


class Moments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The moments of a message as its sender wrote them, its place in a flow, and how it holds its unique key. Most messages have none
    of it.
    """

    due: When | None = None
    expires: When | None = None
    deadline: When | None = None
    step: Step | None = None
    hold: Hold | None = None


_HEADERS: Final = msgspec.json.Decoder(dict[str, str])
_MOMENTS: Final = msgspec.json.Decoder(Moments)
_FAILURE: Final = msgspec.json.Decoder(Failure)
_ACTOR: Final = msgspec.json.Decoder(Actor)
_COMMAND: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Deed)
_SELECTOR: Final = msgspec.json.Decoder(Selector)
_STEERED: Final = msgspec.json.Decoder(Steered)
_NO_MOMENTS: Final = Moments()
_SAID: Final = attrgetter("due", "expires", "deadline", "step", "hold")
_NOTHING: Final = (None,) * 5


def message_row(seq: int, message: Message, copies: int, moments: str | None) -> tuple[Value, ...]:
    """The row of a message, in the order of `publish_messages`. ``moments``: see there."""
    return (
        seq, message.id, message.name, message.queue, message.topic, message.body,
        None if message.content_type == JSON else message.content_type, batch(message.headers) if message.headers else None,
        message.key, message.priority, message.max_attempts, message.timeout, message.unique,
        moments, copies,
    )  # fmt: skip


def changed_row(message: Message) -> tuple[Value, ...]:
    """What of a message takes another's place, in the order of `hold_replace`."""
    return (
        message.body, None if message.content_type == JSON else message.content_type,
        batch(message.headers) if message.headers else None, message.priority, message.max_attempts, message.timeout, moments(message),
    )  # fmt: skip


def moments(message: Message) -> str | None:
    """The column `moments`; None for a message that has nothing of it."""
    said = _SAID(message)
    if said == _NOTHING:
        return None
    due, expires, deadline, step, hold = said
    if step is not None:
        step = replace(step, after=())
    return batch(Moments(due, expires, deadline, step, hold))


UNKNOWN_SINCE: Final = 8
NAME: Final = 11
PRIORITY: Final = 18
MOMENTS: Final = 22
"""Columns of `claim_front`."""
QUEUE: Final = 2
STATE: Final = 3
OF_NAME: Final = -12
"""A column of `records`."""


def delivery(row: Row, source: Source, token: Token) -> Delivery:
    """A row of `claim_front` or `claim_held` as what a worker is handed."""
    seq, key, created, expires, deadline, attempts, crashes, releases, unknown, started, *fields = row
    return Delivery(
        id=key, message=message(fields), source=source, token=token, received=started, created=created, expires=expires,
        deadline=deadline, attempts=attempts, crashes=crashes, releases=releases, unknown_since=unknown, native=seq,
    )  # fmt: skip


def message(fields: list[Any]) -> Message:
    """The last thirteen columns of a delivery or record as a message."""
    key, name, queue, topic, body, content, headers, group, priority, attempts, timeout, unique, moments = (
        fields
    )
    # Of more than fifteen arguments by name CPython makes a dictionary first, which costs three times as much as the message.
    plain = Message(
        id=key, name=name, queue=queue, topic=topic, body=body, content_type=content or JSON,
        headers={} if headers is None else _HEADERS.decode(headers), key=group, priority=priority, unique=unique, max_attempts=attempts,
        timeout=timeout,
    )  # fmt: skip
    if moments is None:
        return plain
    when = _MOMENTS.decode(moments)
    return replace(
        plain, due=when.due, expires=when.expires, deadline=when.deadline, step=when.step, hold=when.hold
    )


def moments_of(text: str | None) -> Moments:
    """The column `moments` as a value."""
    return _NO_MOMENTS if text is None else _MOMENTS.decode(text)


def record(row: Row, tries: tuple[Try, ...], waits: Waits | None) -> TaskRecord:
    """A row of `records` and its tries as a value."""
    (
        _, key, queue, state, created, due, expires, deadline, started, finished, attempts, crashes, releases, asked, reason, result,
        share, note, overdue, at, *fields,
    ) = row  # fmt: skip
    return TaskRecord(
        id=EntryId(key), message=message(fields), queue=queue, state=State(state), created=created, due=due, expires=expires,
        deadline=deadline, started=started, finished=finished, attempts=attempts, crashes=crashes, releases=releases,
        cancel_requested=bool(asked), reason=None if reason is None else Reason(reason), result=result,
        progress=None if at is None else Progress(share=share, note=note, overdue=bool(overdue), at=at), tries=tries,
        waits=waits,
    )  # fmt: skip


def step_row(seq: int, number: int, now: Instant, step: SavedStep) -> tuple[Value, ...]:
    """The row of a durable step, in the order of `steps_save`."""
    return (
        seq, step.name, step.position, step.kind, number, now, step.took, step.due_from(now), step.topic, step.key, step.body,
        None if step.content_type == JSON else step.content_type,
    )  # fmt: skip


def stories(rows: Iterable[Row]) -> dict[int, tuple[Try, ...]]:
    """Rows of `tries` as histories by sequence number."""
    found: dict[int, list[Try]] = {}
    for seq, number, worker, started, ended, verdict, error in rows:
        failure = None if error is None else _FAILURE.decode(error)
        found.setdefault(seq, []).append(
            Try(number=number, worker=worker, started=started, ended=ended, verdict=verdict, error=failure)
        )
    return {seq: tuple(tries) for seq, tries in found.items()}


def audited(row: Row) -> Audited:
    """A row of `audits` as a value."""
    number, at, actor, command, which, done = row
    return Audited(
        number=number,
        at=at,
        by=_ACTOR.decode(actor),
        command=_COMMAND.decode(command),
        which=_SELECTOR.decode(which),
        done=_STEERED.decode(done),
    )
