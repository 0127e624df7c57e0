"""Messages, deliveries and records as rows, and back. Per-row code: counted in microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.engine import Delivery
from forebay.ids import Token
from forebay.model.message import JSON, EntryId, Message
from forebay.model.query import TaskRecord, Try
from forebay.model.state import State
from forebay.model.verdict import Failure, Reason
from forebay.model.when import When

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.engine import Source
    from forebay.stores.sqlite.desk import Row

LARGE: Final = 64 << 10
"""Bytes from which a body is bound as it is rather than written into a batch."""


class Moments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The moments of a message as its sender wrote them. Most messages have none."""

    due: When | None = None
    expires: When | None = None
    deadline: When | None = None


_HEADERS: Final = msgspec.json.Decoder(dict[str, str])
_MOMENTS: Final = msgspec.json.Decoder(Moments)
_FAILURE: Final = msgspec.json.Decoder(Failure)
_NO_MOMENTS: Final = Moments()


def text_of(body: bytes) -> tuple[str, int]:
    """A body as a JSON string can carry it, and whether it is hexadecimal: bytes that are not text (or hold a NUL) are."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body.hex(), 1
    return (body.hex(), 1) if "\0" in text else (text, 0)


def message_row(seq: int, message: Message, copies: int) -> tuple[object, ...]:
    """The row of a message, as `publish_messages` takes it; a large body is stored apart."""
    body, raw = text_of(message.body) if len(message.body) < LARGE else ("", 0)
    moments = None
    if message.due is not None or message.expires is not None or message.deadline is not None:
        moments = Moments(message.due, message.expires, message.deadline)
    return (
        seq, message.id, message.name, message.topic, body, raw,
        None if message.content_type == JSON else message.content_type,
        message.headers or None, message.key, message.priority, message.max_attempts, message.timeout, message.unique, moments, copies,
    )  # fmt: skip


def delivery(row: Row, source: Source, token: Token) -> Delivery:
    """A row of `claim_front` or `claim_held` as what a worker is handed."""
    seq, key, created, expires, deadline, attempts, crashes, releases, unknown, started, queue, *fields = row
    return Delivery(
        id=key, message=message(queue, fields), source=source, token=token, received=started, created=created, expires=expires,
        deadline=deadline, attempts=attempts, crashes=crashes, releases=releases, unknown_since=unknown, native=seq,
    )  # fmt: skip


def message(queue: str, fields: list[Any]) -> Message:
    """The last twelve columns of a delivery or record as a message. ``queue`` is the entry's."""
    key, name, topic, body, content, headers, group, priority, attempts, timeout, unique, moments = fields
    when = _NO_MOMENTS if moments is None else _MOMENTS.decode(moments)
    return Message(
        id=key, name=name, queue=queue if topic is None else None, topic=topic, body=body, content_type=content or JSON,
        headers={} if headers is None else _HEADERS.decode(headers), key=group, priority=priority, due=when.due, expires=when.expires,
        deadline=when.deadline, unique=unique, max_attempts=attempts, timeout=timeout,
    )  # fmt: skip


def record(row: Row, tries: tuple[Try, ...]) -> TaskRecord:
    """A row of `records` and its tries as a value."""
    (
        _, key, queue, state, created, due, expires, deadline, started, finished, attempts, crashes, releases, asked, reason, result,
        *fields,
    ) = row  # fmt: skip
    return TaskRecord(
        id=EntryId(key), message=message(queue, fields), queue=queue, state=State(state), created=created, due=due, expires=expires,
        deadline=deadline, started=started, finished=finished, attempts=attempts, crashes=crashes, releases=releases,
        cancel_requested=bool(asked), reason=None if reason is None else Reason(reason), result=result, tries=tries,
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
