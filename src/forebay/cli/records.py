"""What a store knows of a message, as rows for people and as documents for programs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

from forebay.cli.output import Column, clean, clean_lines, moment, say, span, table, timestamp
from forebay.cli.saved import COLUMNS as STEP_COLUMNS
from forebay.model.message import DEFAULT_PRIORITY, JSON
from forebay.model.state import FINISHED, State
from forebay.model.story import attempts, numbered, word
from forebay.model.unique import Conflict, held_until
from forebay.model.why import why

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.model.query import Progress, TaskRecord, Try
    from forebay.model.when import Instant

COLUMNS: Final = (
    Column("id"), Column("name"), Column("queue"), Column("state"), Column("attempts", right=True), Column("age", right=True),
    Column("note", elastic=True),
)  # fmt: skip
TRY_COLUMNS: Final = (
    Column("attempt", right=True), Column("started"), Column("took", right=True), Column("ended"), Column("worker"),
    Column("error", elastic=True),
)  # fmt: skip
LONGEST_SHOWN: Final = 4_096
"""Characters of a body or result that people are shown; ``--json`` has them all."""
_CONFLICTS: Final = {
    Conflict.KEEP: "others are duplicates", Conflict.REPLACE: "others take its place while it waits",
    Conflict.RESCHEDULE: "others move it while it waits", Conflict.REJECT: "one like it is rejected", Conflict.JOIN: "others join it",
}  # fmt: skip


def row(record: TaskRecord, now: Instant) -> list[str]:
    """One line of a list."""
    return [
        record.id, record.message.name, record.queue, record.state.value, str(record.attempts),
        span(max(0, now - record.created)), brief(record, now),
    ]  # fmt: skip


def brief(record: TaskRecord, now: Instant) -> str:
    """The one thing most worth knowing of a message in its state."""
    error = last_error(record)
    match record.state:
        case State.SCHEDULED | State.RETRYING | State.BLOCKED:
            wait = "" if record.due is None else f"in {span(record.due - now)}" if record.due > now else "due"
            return ": ".join(part for part in (wait, error) if part)
        case State.DEAD:
            return ": ".join(part for part in (record.reason and record.reason.value, error) if part)
        case State.RUNNING:
            stop = ", asked to stop" if record.cancel_requested else ""
            return f"for {span(max(0, now - (record.started or now)))}{stop}{_progress(record.progress)}"
        case State.SUCCEEDED:
            return (
                ""
                if record.started is None or record.finished is None
                else f"took {span(record.finished - record.started)}"
            )
        case State.READY | State.CANCELLED | State.EXPIRED:
            return error
        case _:
            assert_never(record.state)


def _progress(said: Progress | None) -> str:
    """How far a running handler says it is."""
    if said is None:
        return ""
    late = ", overdue" if said.overdue else ""
    share = f", {bar(said.share)} {said.share:.0%}" if said.share is not None else ""
    note = f" {clean(said.note)}" if said.note else ""
    return f"{late}{share}{note}"


def bar(share: float, width: int = 10) -> str:
    """A share as a bar.

    >>> bar(0.4)
    '[####......]'
    """
    full = int(share * width)
    return f"[{'#' * full}{'.' * (width - full)}]"


def last_error(record: TaskRecord) -> str:
    """The error of the latest try that had one."""
    failure = next((one.error for one in reversed(record.tries) if one.error is not None), None)
    return "" if failure is None else f"{failure.type}: {failure.message}"


def listing(records: Iterable[TaskRecord], now: Instant) -> None:
    """A table of records."""
    table(COLUMNS, [row(record, now) for record in records])


def story(record: TaskRecord, steps: Sequence[Sequence[str]], *, body: bool) -> None:
    """Everything that is known of one message, for a person to read from top to bottom."""
    say(f"{clean(record.id)}  {clean(record.message.name)}")
    facts = [(title, text) for title, text in _facts(record) if text]
    for title, text in facts:
        say(f"  {clean(title):<9} {clean(text)}")
    if record.tries:
        say()
        table(TRY_COLUMNS, [_try_row(number, one) for number, one in numbered(record)])
    if steps:
        say()
        table(STEP_COLUMNS, steps)
    trace = next((one.error.traceback for one in reversed(record.tries) if one.error is not None), "")
    if trace:
        _block("last traceback", trace)
    if body:
        _block(
            f"body ({record.message.content_type}, {len(record.message.body):,} bytes)",
            _readable(record.message.body),
        )
        if record.result is not None:
            _block("result", _readable(record.result))


def full(record: TaskRecord, *, body: bool) -> dict[str, Any]:  # any JSON
    """A record as a JSON document. A body that is not JSON comes as ``body_base64``."""
    message = record.message
    document: dict[str, Any] = {
        "id": record.id, "name": message.name, "queue": record.queue, "topic": message.topic, "state": record.state.value,
        "reason": record.reason, "priority": message.priority, "key": message.key, "unique": message.unique,
        "unique_until": _until(record) if _unique(record) else None,
        "headers": message.headers, "created": timestamp(record.created), "due": timestamp(record.due),
        "expires": timestamp(record.expires), "deadline": timestamp(record.deadline), "started": timestamp(record.started),
        "flow": None if message.step is None else message.step.flow, "step": None if message.step is None else message.step.name,
        "why": why(record),
        "finished": timestamp(record.finished), "attempts": record.attempts, "max_attempts": message.max_attempts,
        "crashes": record.crashes, "releases": record.releases, "cancel_requested": record.cancel_requested,
        "progress": None if record.progress is None else {
            "share": record.progress.share, "note": record.progress.note, "overdue": record.progress.overdue,
            "at": timestamp(record.progress.at),
        },
        "tries": [_try_document(one) for one in record.tries],
    }  # fmt: skip
    if body:
        document["content_type"] = message.content_type
        document |= _content(message.body, is_json=message.content_type == JSON)
        document["result"] = None if record.result is None else msgspec.Raw(record.result)
    return document


def _facts(record: TaskRecord) -> list[tuple[str, str]]:
    message = record.message
    reason = f": {record.reason.value}" if record.reason else ""
    asked = ", asked to stop" if record.cancel_requested and record.state is State.RUNNING else ""
    return [
        ("state", f"{record.state.value}{reason}{asked}"),
        ("why", why(record) or ""),
        ("queue", record.queue),
        ("topic", message.topic or ""),
        ("priority", "" if message.priority == DEFAULT_PRIORITY else str(message.priority)),
        ("key", message.key or ""),
        ("unique", _unique(record)),
        ("flow", "" if message.step is None else message.step.flow),
        ("step", "" if message.step is None else message.step.name),
        *((f"header {name}", value) for name, value in message.headers.items()),
        ("created", moment(record.created)),
        ("due", "" if record.state in FINISHED else moment(record.due)),
        ("expires", moment(record.expires)),
        ("deadline", moment(record.deadline)),
        ("started", moment(record.started)),
        ("finished", moment(record.finished)),
        # What has succeeded was not halfway, whatever it said last.
        ("progress", "" if record.state is State.SUCCEEDED else _progress(record.progress).strip(", ")),
        ("attempts", attempts(record)),
    ]


def _unique(record: TaskRecord) -> str:
    """The unique key, until when it is held, and what another does that comes with it."""
    message = record.message
    if message.unique is None or (message.hold is not None and message.hold.conflict is Conflict.JOIN):
        return ""
    conflict = Conflict.KEEP if message.hold is None else message.hold.conflict
    until = held_until(message.hold, record.created)
    return f"{message.unique}, held until {until if isinstance(until, str) else moment(until)}; {_CONFLICTS[conflict]}"


def _until(record: TaskRecord) -> str | None:
    until = held_until(record.message.hold, record.created)
    return until if isinstance(until, str) else timestamp(until)


def _try_row(number: int | None, one: Try) -> list[str]:
    error = "" if one.error is None else f"{one.error.type}: {one.error.message}"
    return [
        str(number or ""),
        moment(one.started),
        span(one.ended - one.started),
        word(one),
        one.worker,
        error,
    ]


def _try_document(one: Try) -> dict[str, Any]:  # any JSON
    return {
        "number": one.number, "worker": one.worker, "started": timestamp(one.started), "ended": timestamp(one.ended),
        "verdict": one.verdict, "error": one.error,
    }  # fmt: skip


def _content(body: bytes, *, is_json: bool) -> dict[str, Any]:  # any JSON
    if is_json and _parsed(body) is not None:
        return {"body": msgspec.Raw(body)}
    return {"body": None, "body_base64": base64.b64encode(body).decode()}


def _parsed(body: bytes) -> bytes | None:
    """The body on several lines if it is JSON."""
    try:
        msgspec.json.decode(body)
        return msgspec.json.format(body, indent=2)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _readable(body: bytes) -> str:
    text = (_parsed(body) or body).decode("utf-8", "backslashreplace")
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[:LONGEST_SHOWN]}\n... ({len(body):,} bytes in all: --json shows them)"


def _block(title: str, text: str) -> None:
    say()
    say(clean(title))
    for line in clean_lines(text).splitlines():
        say(f"  {line}")
