"""What was sent on a stage, and the assertions about it. Knows messages and signatures; runs nothing."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, Unpack, overload

import msgspec

from forebay.codec import json
from forebay.codec.signature import Signature
from forebay.compose import Draft, EventOptions, SendOptions
from forebay.engine import Published
from forebay.errors import InvalidArguments, InvalidOption
from forebay.flow_handle import FlowHandle
from forebay.model.flow import FlowState
from forebay.model.message import JSON, EntryId, Message, entry_id
from forebay.model.names import matches
from forebay.model.state import State
from forebay.model.survey import LONGEST_SURVEY, FlowRecord, Flows, StepRecord, Steps
from forebay.model.when import SECOND, After, At, Instant, as_datetime
from forebay.stores.memory.flow_sight import step_record
from forebay.stores.memory.ledger import Ledger
from forebay.tasks import Task

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from forebay.engine import EngineOptions

T = TypeVar("T")
AnyTask: TypeAlias = "Task[..., Any, ..., Any]"

MOST_SHOWN: Final = 8
"""Messages listed in a failure; the rest is counted."""
MOST_STEPS_SHOWN: Final = 40
"""Steps listed in a failure; the rest is counted."""
LONGEST_SHOWN: Final = 120
"""Characters of one value in a failure."""
_STAR: Final = "*"


@dataclass(frozen=True, slots=True)
class Came:
    """One message as the store took it."""

    message: Message
    answer: Published
    at: Instant


class Noting(Ledger):
    """A ledger that also remembers in which order messages came, events that nobody subscribed to included."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__(options)
        self.came: list[Came] = []
        self.heard = lambda message, answer, at: self.came.append(Came(message, answer, at))

    def keys(self, message: Message) -> list[EntryId]:
        """The entries that a message has become."""
        if message.queue is not None:
            return [entry_id(message.id, message.queue, copied=message.topic is not None)]
        return [
            entry_id(message.id, source.queue, copied=True)
            for source in self.bindings.values()
            if source.pattern is not None and matches(source.pattern, message.topic or "")
        ]


@dataclass(frozen=True, slots=True)
class Sent:
    """A task that was sent. ``arguments``: by name, read with the types of its signature; those of a task that is not declared here are
    plain JSON, the positional ones under ``*``. ``message`` has the options.
    """

    id: EntryId
    name: str
    queue: str
    arguments: Mapping[str, Any]
    message: Message
    at: datetime

    def __str__(self) -> str:
        """The call, with the options that were given."""
        return f"{_call(self.name, self.arguments)}{_options(self.message)}"


@dataclass(frozen=True, slots=True)
class SentEvent(Generic[T]):
    """An event that was published. ``groups``: how many subscriptions got a copy."""

    id: EntryId
    topic: str
    event: T
    groups: int
    message: Message
    at: datetime

    def __str__(self) -> str:
        """Topic and event, with the options that were given."""
        return f"{self.topic}: {_short(self.event)}{_options(self.message)}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an assertion asks for: a name, values by parameter, and fields of the message."""

    name: str
    values: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, inspect.Parameter] = field(default_factory=dict)
    draft: Draft = field(default_factory=Draft)

    def misses(self, values: Mapping[str, object], message: Message) -> list[str]:
        """What differs, in words; empty for what was asked for."""
        said = []
        for name, value in self.values.items():
            if name not in values:
                said.append(f"no {name}")
            elif not self._same(name, value, values[name]):
                said.append(f"{name}={_short(values[name])}, not {_short(value)}")
        wanted = {**self.draft.fixed, "queue": self.draft.queue, "id": self.draft.id}
        if (rule := self.draft.rule) is not None:
            wanted |= rule.of(message.name, message.body, message.key).fields()
        for option, value in wanted.items():
            actual = getattr(message, option)
            if value is not None and not _holds(value, actual):
                said.append(f"{_OPTIONS.get(option, option)}={_moment(actual)}, not {_moment(value)}")
        return said

    def _same(self, name: str, wanted: object, actual: object) -> bool:
        """Equal, or equal once it has been through JSON as the arguments of a send are."""
        if wanted == actual:
            return True
        parameter = self.parameters.get(name)
        try:
            read: object = json.decode(json.encode(wanted), Any if parameter is None else _kind(parameter))
        except (TypeError, ValueError, RecursionError, NotImplementedError):
            return False
        return read == actual

    def __str__(self) -> str:
        """The call that is asked for."""
        asked = {**self.draft.fixed, "id": self.draft.id, "queue": self.draft.queue}
        options = [
            f"{_OPTIONS.get(name, name)}={_moment(value)}"
            for name, value in asked.items()
            if value is not None
        ]
        if self.draft.rule is not None:
            options.append(_short(self.draft.rule))
        call = _call(self.name, self.values) if self.values else self.name
        return call + (f" [{', '.join(options)}]" if options else "")


_OPTIONS: Final = {"due": "delay"}


@dataclass(frozen=True, slots=True)
class Known:
    """What an App has declared, by the names of its tasks."""

    signatures: Mapping[str, Signature]
    drafts: Mapping[str, Draft]


class Sends:
    """What was sent so far, and whether that is as it should be."""

    def __init__(self, ledger: Noting, known: Known) -> None:
        self._ledger, self._known = ledger, known

    def sent(self, task: AnyTask | str | None = None) -> list[Sent]:
        """The tasks that were sent, or those of one task, in order. What was refused as a duplicate was not sent."""
        name = _name(task)
        return [
            self._sent(came)
            for came in self._came()
            if came.message.topic is None and name in (None, came.message.name)
        ]

    @overload
    def published(self, topic: str = "**") -> list[SentEvent[Any]]: ...
    @overload
    def published(self, topic: str, kind: type[T]) -> list[SentEvent[T]]: ...
    def published(self, topic: str = "**", kind: Any = Any) -> list[SentEvent[Any]]:
        """The events published to a topic (or to what a pattern matches), in order, read as ``kind``; bytes stay bytes."""
        return [
            _event(came, kind)
            for came in self._came()
            if came.message.topic is not None and matches(topic, came.message.topic)
        ]

    def assert_sent(
        self, task: AnyTask | str, /, *args: object, times: int | None = None, **given: Any
    ) -> list[Sent]:
        """That a task was sent, with these arguments: those that are left out may have been anything. Returns the sends that are meant.

        ``times``: so often, and not only at least once. Further keywords that are no parameters of the task are options of the send:
        ``queue="mail"``, ``delay="5m"``, ``key="7"``, ``priority=9``, ``headers={...}`` (those named). For a task that has a
        parameter of such a name give the option by ``task.options(...)``.

        >>> t.assert_sent(send_receipt, 7, "ada@example.org", delay="5m", times=1)   # doctest: +SKIP
        """
        __tracebackhide__ = True
        wanted = self._wanted(task, args, given)
        sends = self.sent()
        found = [s for s in sends if s.name == wanted.name and not wanted.misses(s.arguments, s.message)]
        if (times is None and found) or (times is not None and len(found) == times):
            return found
        raise AssertionError(_unsent(wanted, len(found), times, sends))

    def assert_not_sent(self, task: AnyTask | str, /, *args: object, **given: Any) -> None:
        """That a task was not sent, or not with these arguments and options; as `assert_sent`."""
        __tracebackhide__ = True
        self.assert_sent(task, *args, times=0, **given)

    def assert_published(
        self, topic: str, /, *event: object, times: int | None = None, **options: Unpack[EventOptions]
    ) -> list[SentEvent[Any]]:
        """That an event was published to a topic, and this event if one is given; ``times`` and options as `assert_sent`."""
        __tracebackhide__ = True
        if len(event) > 1:
            raise InvalidOption("assert_published() takes a topic and at most one event.")
        draft = Draft().with_options(options, "assert_published()")
        wanted = Wanted(topic, {"event": event[0]} if event else {}, {}, draft)
        events = self.published()
        found = [e for e in events if e.topic == topic and not wanted.misses({"event": e.event}, e.message)]
        if (times is None and found) or (times is not None and len(found) == times):
            return found
        raise AssertionError(_unpublished(wanted, len(found), times, events))

    def assert_not_published(self, topic: str, /, *event: object, **options: Unpack[EventOptions]) -> None:
        """That no event, or not this one, was published to a topic."""
        __tracebackhide__ = True
        self.assert_published(topic, *event, times=0, **options)

    def assert_flow(
        self, flow: FlowHandle[Any] | str, state: FlowState | str | None = None, /, **steps: State | str
    ) -> FlowRecord:
        """That a flow was sent and stands so, and steps of it by name: those that are left out may be in any state. Returns what the store
        knows of it.

        >>> t.assert_flow("order-42", "failed", fetch="succeeded", **{"resize-2": "dead"})  # doctest: +SKIP
        """
        __tracebackhide__ = True
        name = flow if isinstance(flow, str) else flow.id
        found = self._ledger.flows.records(Flows(ids=(name,)))
        if not found:
            known = [one.id for one in self._ledger.flows.records(Flows())]
            raise AssertionError(f"Flow {name} was not sent. {_flows(known)}")
        actual = {
            record.name: record
            for node in self._ledger.flows.steps(Steps(flow=name, limit=LONGEST_SURVEY))
            for record in (step_record(self._ledger, node),)
        }
        wrong = [] if state in (None, found[0].state) else [f"it is {found[0].state.value}, not {state}"]
        for step, wanted in steps.items():
            if step not in actual:
                near = difflib.get_close_matches(step, actual, n=1)
                wrong.append(f"it has no step {step!r}" + (f": did you mean {near[0]!r}?" if near else ""))
            elif actual[step].state != wanted:
                wrong.append(f"step {step} is {_stands(actual[step])}, not {wanted}")
        if wrong:
            lines = [f"  {one.name}: {_stands(one)}" for one in list(actual.values())[:MOST_STEPS_SHOWN]]
            more = [f"  and {len(actual) - len(lines)} more"] if len(actual) > len(lines) else []
            raise AssertionError("\n".join([f"Flow {name}: {'; '.join(wrong)}.", *lines, *more]))
        return found[0]

    def _came(self) -> list[Came]:
        return list(self._ledger.came)

    def _sent(self, came: Came) -> Sent:
        message = came.message
        arguments = arguments_of(message, self._known.signatures.get(message.name))
        return Sent(
            came.answer.id, message.name, message.queue or "", arguments, message, as_datetime(came.at)
        )

    def _wanted(self, task: AnyTask | str, args: tuple[object, ...], given: dict[str, Any]) -> Wanted:
        name = _name(task) or ""
        signature = task.signature if isinstance(task, Task) else self._known.signatures.get(name)
        draft = self._asked(task.draft, name) if isinstance(task, Task) else Draft()
        if not isinstance(signature, Signature):
            options = {key: given.pop(key) for key in list(given) if key in SendOptions.__annotations__}
            values = {**({_STAR: list(args)} if args else {}), **given}
            return Wanted(name, values, {}, draft.with_options(options, "assert_sent()"))  # type: ignore[arg-type]  # checked there
        named = {key: given.pop(key) for key in list(given) if signature.takes(key)}
        unknown = [key for key in given if key not in SendOptions.__annotations__]
        if unknown:
            raise InvalidArguments(
                f"{name}() has no parameter {unknown[0]!r}, and a send no such option: its parameters are "
                f"{', '.join(signature.parameters) or 'none'}."
            )
        values = signature.bound(args, named)
        draft = draft.with_options(given, "assert_sent()")  # type: ignore[arg-type]  # checked there
        return Wanted(name, values, signature.parameters, draft)

    def _asked(self, draft: Draft, name: str) -> Draft:
        """What ``task.options(...)`` has added to what was declared."""
        declared = self._known.drafts.get(name, Draft(queue=draft.queue))
        fixed = {key: value for key, value in draft.fixed.items() if declared.fixed.get(key) != value}
        return Draft(
            None if draft.queue == declared.queue else draft.queue, None, fixed, draft.id, draft.rule
        )


def arguments_of(message: Message, signature: Signature | None) -> Mapping[str, Any]:
    """The arguments of a task's message by name; as plain JSON where they do not fit, or no signature is known."""
    if signature is not None:
        try:
            read = signature.decode(message.body)
            return signature.bound(read.args, read.kwargs)
        except (msgspec.MsgspecError, InvalidArguments, TypeError, ValueError, RecursionError):
            pass
    try:
        plain: Any = json.decode(message.body, Any)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        plain = [message.body]
    return plain if isinstance(plain, dict) else {_STAR: plain}


def _event(came: Came, kind: Any) -> SentEvent[Any]:
    message = came.message
    raw = kind is bytes or message.content_type != JSON
    event = message.body if raw else json.decode(message.body, kind)
    at = as_datetime(came.at)
    return SentEvent(came.answer.id, message.topic or "", event, came.answer.groups or 0, message, at)


def _stands(step: StepRecord) -> str:
    """Its state, and why if there is a reason."""
    error = "" if step.error is None else f": {step.error.type}: {step.error.message}"
    return f"{step.state.value}{f' ({step.reason.value})' if step.reason else ''}{error}"


def _flows(known: list[str]) -> str:
    if not known:
        return "No flow was sent."
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    return f"Flows that were sent: {', '.join(known[:MOST_SHOWN])}{more}"


def _name(task: AnyTask | str | None) -> str | None:
    if task is None or isinstance(task, str):
        return task
    given: object = task
    if not isinstance(given, Task):
        raise InvalidOption(
            f"A task or its name is wanted here, not {given!r}: is it decorated with @app.task?"
        )
    return task.name


def _kind(parameter: inspect.Parameter) -> Any:
    match parameter.kind:
        case parameter.VAR_POSITIONAL:
            return tuple[parameter.annotation, ...]  # type: ignore[name-defined]  # built when running
        case parameter.VAR_KEYWORD:
            return dict[str, parameter.annotation]  # type: ignore[name-defined]  # as above
        case _:
            return parameter.annotation


def _holds(wanted: object, actual: object) -> bool:
    """Equal; of headers only those that are asked for, since middleware and tracing add their own."""
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return wanted.items() <= actual.items()
    return wanted == actual


# -- words for failures


def _unsent(wanted: Wanted, found: int, times: int | None, sends: list[Sent]) -> str:
    same = [one for one in sends if one.name == wanted.name]
    shown = [(str(one), wanted.misses(one.arguments, one.message)) for one in same]
    lines = [_headline(str(wanted), found, times, "sent"), *_nearest(shown, wanted.name)]
    others = Counter(one.name for one in sends if one.name != wanted.name)
    lines += _others(others, wanted.name, "tasks", "No task was sent.", alone=not same)
    return "\n".join(lines)


def _unpublished(wanted: Wanted, found: int, times: int | None, events: list[SentEvent[Any]]) -> str:
    same = [one for one in events if one.topic == wanted.name]
    shown = [(str(one), wanted.misses({"event": one.event}, one.message)) for one in same]
    lines = [_headline(str(wanted), found, times, "published"), *_nearest(shown, wanted.name)]
    others = Counter(one.topic for one in events if one.topic != wanted.name)
    lines += _others(others, wanted.name, "events", "No event was published.", alone=not same)
    return "\n".join(lines)


def _headline(wanted: str, found: int, times: int | None, verb: str) -> str:
    if times is None:
        return f"{wanted} was not {verb}."
    if times == 0:
        return f"{wanted} was {verb}, and should not have been."
    return f"{wanted} was {verb} {_times(found)}, not {_times(times)}."


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _nearest(shown: list[tuple[str, list[str]]], name: str) -> list[str]:
    """What was sent under that name, what differs least first."""
    if not shown:
        return []
    ranked = sorted(shown, key=lambda one: len(one[1]))
    lines = [f"Of {name}, nearest first:"]
    for text, misses in ranked[:MOST_SHOWN]:
        lines.append(f"  {text}" + (f"   {'; '.join(misses)}" if misses else "   (this is it)"))
    return lines + ([f"  and {len(ranked) - MOST_SHOWN} more"] if len(ranked) > MOST_SHOWN else [])


def _others(others: Counter[str], name: str, what: str, none: str, *, alone: bool) -> list[str]:
    if not others:
        return [none] if alone else []
    near = difflib.get_close_matches(name, others, n=MOST_SHOWN, cutoff=0.0)
    listed = [f"{one} ({_times(others[one])})" for one in near]
    more = f" and {len(others) - len(listed)} more" if len(others) > len(listed) else ""
    return [f"Other {what}: {', '.join(listed)}{more}"]


def _call(name: str, values: Mapping[str, object]) -> str:
    stars = values.get(_STAR, ())
    listed = [_short(value) for value in (stars if isinstance(stars, list | tuple) else (stars,))]
    listed += [f"{key}={_short(value)}" for key, value in values.items() if key != _STAR]
    return f"{name}({', '.join(listed)})"


def _options(message: Message) -> str:
    """The options that were given, for people."""
    shown = [
        f"{_OPTIONS.get(name, name)}={_moment(value)}"
        for name in (
            "due",
            "expires",
            "deadline",
            "priority",
            "key",
            "unique",
            "hold",
            "headers",
            "max_attempts",
            "timeout",
        )
        if (value := getattr(message, name)) != _PLAIN[name]
    ]
    return f" [{', '.join(shown)}]" if shown else ""


_PLAIN: Final = {
    name: getattr(Message(id="", name=""), name)  # type: ignore[arg-type]  # only for its defaults
    for name in Message.__struct_fields__
}


def _moment(value: object) -> str:
    match value:
        case After(micros):
            return shown_time(micros)
        case At(instant):
            return f"{as_datetime(instant).astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
        case _:
            return _short(value)


def shown_time(duration: int) -> str:
    """A duration for people: ``1h30m``, ``5s``.

    >>> shown_time(5_400 * SECOND)
    '1h30m'
    """
    seconds, rest = divmod(duration, SECOND)
    text = ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, seconds = divmod(seconds, length)
        text += f"{count}{unit}" if count else ""
    if rest:
        return f"{text}{seconds + rest / SECOND:g}s"
    return text + (f"{seconds}s" if seconds or not text else "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def tally(names: Iterable[str]) -> str:
    """The commonest of ``names``, with how often each was there."""
    return ", ".join(f"{number} × {name}" for name, number in Counter(names).most_common(MOST_SHOWN))
