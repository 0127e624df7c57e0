"""Builds messages: from what a caller wrote to a checked `Message`, with nothing sent yet."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

import msgspec

from forebay.codec import json
from forebay.codec.envelope import pack
from forebay.errors import InvalidOption, MessageTooLarge, NotSerialisable, quoted
from forebay.model.amounts import check_count
from forebay.model.message import (
    HIGHEST_PRIORITY,
    JSON,
    LOWEST_PRIORITY,
    Message,
    MessageId,
)
from forebay.model.names import LONGEST_ID, check_new_name, check_text, storable
from forebay.model.unique import Debounce, Gather, Rule, Throttle, Unique
from forebay.model.when import Duration, Micros, micros, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from forebay.support.ids import Ids

RAW: Final = "application/octet-stream"
MOST_HEADERS: Final = 64
LONGEST_HEADERS: Final = 16_384


class _Options(TypedDict, total=False):
    """What may be said of any message."""

    id: str
    key: str
    headers: Mapping[str, str]
    priority: int
    delay: Duration | datetime
    expires: Duration | datetime
    deadline: Duration | datetime
    max_attempts: int
    timeout: Duration


class EventOptions(_Options, total=False):
    """What may be said of one message. Durations are seconds, text (``"5m"``) or timedeltas; moments may be aware datetimes too.

    ``delay``: not before. ``expires``: dropped if not started by then. ``deadline``: not tried any more after it. ``unique``: refused
    while an unfinished message of the queue has the same key. ``id``: the message's own, to make a send repeatable.
    """

    unique: str


class SendOptions(_Options, total=False):
    """What may be said of one task's message: of an event's all the same, the ``queue``, if not the task's own, and how it is to be one of
    few: ``unique``, a key, True for the arguments, or a `Unique`; ``debounce``, how long it is to be quiet before it runs, or a
    `Debounce`; ``throttle``, the time in which one runs at most. The last two are for each ``key``.
    """

    queue: str
    unique: str | Literal[True] | Unique
    debounce: Duration | Debounce
    throttle: Duration


def check_options(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `InvalidOption`, with the nearest valid name, for an option that does not exist."""
    valid = sorted(known)
    for option in given:
        if option not in valid:
            near = difflib.get_close_matches(option, valid, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"valid options are {', '.join(valid)}."
            raise InvalidOption(f"{where} has no option {option!r}: {hint}")


@dataclass(frozen=True, slots=True)
class Draft:
    """All of a message but its id and body: options checked once, used for any number of sends. ``rule``: what says how it is unique."""

    queue: str | None = None
    topic: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    rule: Rule | None = None

    def with_options(self, options: EventOptions | SendOptions, where: str) -> Draft:
        """A copy with ``options`` on top. Raises `InvalidOption` or `InvalidName`."""
        check_options(options, SendOptions.__annotations__, where)
        fixed, given = dict(self.fixed), dict(options)
        if isinstance(self.rule, Gather):
            _check_gathered(given, where)
        rule = _rule(given, where) or (None if "unique" in given else self.rule)
        for name, value in given.items():
            if name not in ("id", "queue", "debounce", "throttle") and not (name == "unique" and rule):
                fixed.update(_checked(name, value))
        if rule is not None:
            fixed.pop("unique", None)
        if "due" in fixed and isinstance(rule, Debounce):
            raise InvalidOption(f"{where}: debounce says when it runs: leave out delay.")
        queue = self.queue if given.get("queue") is None else check_new_name(given["queue"], "queue")
        chosen = given.get("id")
        return Draft(queue, self.topic, fixed, self.id if chosen is None else check_id(chosen), rule)


def _check_gathered(given: Mapping[str, object], where: str) -> None:
    """Raise `InvalidOption` for what a task says itself by which its messages gather."""
    for name in ("delay", "unique", "debounce", "throttle"):
        if name in given:
            raise InvalidOption(
                f"{where}: its messages gather, which says when they run and with which: leave out {name}."
            )


def _rule(given: Mapping[str, object], where: str) -> Rule | None:
    """How a message is to be one of few, where that is not by a plain key. Raises `InvalidOption`."""
    ways = [name for name in ("unique", "debounce", "throttle") if name in given]
    if len(ways) > 1:
        raise InvalidOption(f"{where}: {ways[0]} and {ways[1]} do not go together: say one of them.")
    match given:
        case {"unique": Unique() as rule}:
            if rule.key is not None:
                check_text(rule.key, "Unique(key=...)")
            return rule
        case {"unique": bool() | str() as key}:
            return Unique() if key is True else None
        case {"unique": other}:
            raise InvalidOption(
                f"unique must be Unicode text of 1 to {LONGEST_ID} characters, True for the arguments, or a Unique, not {quoted(other)}."
            )
        case {"debounce": Debounce() as rule}:
            return rule
        case {"debounce": quiet}:
            return Debounce(quiet)  # type: ignore[arg-type]  # it refuses what it cannot read
        case {"throttle": window}:
            return Throttle(window)  # type: ignore[arg-type]  # as above
        case _:
            return None


def _checked(name: str, value: object) -> dict[str, object]:
    match name:
        case "delay":
            return {"due": moment(value, name)}  # type: ignore[arg-type]  # moment refuses what it cannot read
        case "expires" | "deadline":
            return {name: moment(value, name)}  # type: ignore[arg-type]  # as above
        case "timeout":
            return {name: check_timeout(micros(value, name))}  # type: ignore[arg-type]  # as above
        case "priority":
            return {name: check_count(value, name, LOWEST_PRIORITY, HIGHEST_PRIORITY)}
        case "max_attempts":
            return {name: check_count(value, name, 1, 1_000)}
        case "headers":
            return {name: _checked_headers(value)}
        case _:
            return {name: check_text(value, name)}


def check_timeout(value: Micros) -> Micros:
    """Return ``value`` if a try can be made in it; raise `InvalidOption` if not."""
    if value == 0:
        raise InvalidOption("timeout must be longer than 0.")
    return value


def check_id(value: object, what: str = "id") -> str:
    """Return ``value`` if it can be the id of a message, or of a flow; raise `InvalidOption`, naming ``what``, if not."""
    text = check_text(value, what)
    if not text.isprintable() or "@" in text or " " in text:
        raise InvalidOption(f"{what} must be printable, without spaces and '@', not {quoted(value)}.")
    return text


def _checked_headers(value: object) -> dict[str, str]:
    try:
        headers = {str.__str__(k): str.__str__(v) for k, v in msgspec.convert(value, dict[str, str]).items()}
    except msgspec.ValidationError as error:
        raise InvalidOption(f"headers must map text to text: {error}") from error
    if len(headers) > MOST_HEADERS or sum(len(k) + len(v) for k, v in headers.items()) > LONGEST_HEADERS:
        raise InvalidOption(
            f"headers must be at most {MOST_HEADERS}, of {LONGEST_HEADERS} characters in all."
        )
    for key, text in headers.items():
        if not key or not key.isascii() or not key.isprintable() or ":" in key or " " in key:
            raise InvalidOption(f"header name {quoted(key)} must be printable ASCII without ':' and spaces.")
        if not storable(text) or "\n" in text or "\r" in text:
            raise InvalidOption(f"header {key!r} must be one line of Unicode text, not {quoted(text)}.")
    return headers


def _ruled(draft: Draft, rule: Rule, name: str, body: bytes) -> dict[str, Any]:
    """What a message has beside its arguments, with what a rule makes of it."""
    return {**draft.fixed, **rule.of(name, body, draft.fixed.get("key")).fields()}


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes messages for one App: ids, limits."""

    ids: Ids
    max_body: int
    outbox: str | None = None
    """The queue in which a store keeps events for its bus; None without a bus."""

    def message(self, name: str, draft: Draft, body: bytes, content_type: str = JSON) -> Message:
        """A whole message. Raises `MessageTooLarge` before anything is sent."""
        self.check_size(name, body)
        key = MessageId(draft.id) if draft.id is not None else self.ids.message()
        return Message(
            id=key,
            name=name,
            queue=draft.queue,
            topic=draft.topic,
            body=body,
            content_type=content_type,
            **(draft.fixed if draft.rule is None else _ruled(draft, draft.rule, name, body)),
        )

    def check_size(self, name: str, body: bytes) -> None:
        """Raise `MessageTooLarge` for a body over the limit."""
        if len(body) > self.max_body:
            raise MessageTooLarge(
                f"{name}: the body has {len(body)} bytes, the limit is {self.max_body}. "
                "Store it elsewhere and send a reference, or raise max_body."
            )

    def event(self, topic: str, event: object, options: EventOptions) -> Message:
        """An event message. ``bytes`` are sent as they are, anything else as JSON. Raises `NotSerialisable`, `InvalidOption`."""
        check_new_name(topic, "topic")
        check_options(options, EventOptions.__annotations__, "publish()")
        draft = Draft(topic=topic).with_options(options, "publish()") if options else Draft(topic=topic)
        if draft.rule is not None:
            raise InvalidOption("publish(unique=...) takes text: other ways of being unique are for tasks.")
        if isinstance(event, bytes | bytearray | memoryview):
            return self._for_bus(self.message(topic, draft, bytes(event), RAW))
        try:
            body = json.encode(event)
        except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
            raise NotSerialisable(
                f"publish({topic!r}): the event cannot be written as JSON: {error}"
            ) from error
        return self._for_bus(self.message(topic, draft, body))

    def _for_bus(self, event: Message) -> Message:
        """With a bus, an event waits in the outbox, under its own id; the store's timers hold it back if it is delayed."""
        if self.outbox is None:
            return event
        inner = pack(msgspec.structs.replace(event, due=None))
        return Message(
            id=event.id,
            name=self.outbox,
            queue=self.outbox,
            body=inner,
            due=event.due,
            priority=event.priority,
        )
