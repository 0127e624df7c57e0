"""Unique keys: how a message holds its own, and what becomes of another that comes with the same one. Values and decisions; pure.

A key is held by the state of the message that has it (`Hold.states`), or until an instant that is written down; a store looks at both in
the transaction that publishes. So nothing has to let go of a key, and none can leak.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from forebay.errors import InvalidArguments, InvalidOption, quoted
from forebay.model.state import FINISHED, TIMED, WAITING, State
from forebay.model.when import After, Duration, Micros, micros

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from forebay.model.when import Instant

UNFINISHED: Final = WAITING | {State.RUNNING}
WORKED_ON: Final = UNFINISHED | {State.SUCCEEDED, State.DEAD}
"""What holds a key for a time: all but what ended without work. (A window counts what was done, not what was called off.)"""
MOVABLE: Final = TIMED | {State.READY}
"""Waits, and for nothing but its time and a worker."""
_GATHERS: Final = frozenset({State.SCHEDULED, State.READY})
MOST_GATHERED: Final = 1_000
"""Messages of one group, and those that one claim takes along with what it takes."""

OnConflict: TypeAlias = Literal["keep", "replace", "reschedule", "reject"]
Until: TypeAlias = Literal["done", "started"]


class Conflict(StrEnum):
    """What becomes of a message whose key another one holds.

    ``KEEP``: it is a duplicate. ``REPLACE``: one that waits becomes this one. ``RESCHEDULE``: one that waits gets its time. ``REJECT``:
    it is TAKEN. ``JOIN``: it is stored beside the other, and handed out with it.
    """

    KEEP = "keep"
    REPLACE = "replace"
    RESCHEDULE = "reschedule"
    REJECT = "reject"
    JOIN = "join"


class Hold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a message holds its unique key: while it is in one of ``states``, and with ``window`` no longer than so many microseconds after
    it was stored, then even if it is forgotten meanwhile. ``longest``: a message that is replaced or rescheduled again and again runs no
    later than so many microseconds after the first. ``most``: of those that join, and the one that they join, together.

    A message without one is held as by ``Hold(states=UNFINISHED)``, which costs least.
    """

    states: frozenset[State]
    window: Micros | None = None
    conflict: Conflict = Conflict.KEEP
    longest: Micros | None = None
    most: int = 0

    @property
    def keeps(self) -> bool:
        """Whether the key is the message's again when it is redriven: a window, and a group, belong to the moment of sending."""
        return self.window is None and self.conflict is not Conflict.JOIN


def held_until(hold: Hold | None, created: Instant) -> str | Instant:
    """Until when a message that was stored at ``created`` holds its unique key: an instant, or in words.

    >>> held_until(Hold(states=WAITING), 0)
    'it starts'
    """
    if hold is None or hold.window is None:
        states = UNFINISHED if hold is None else hold.states
        if State.RUNNING not in states:
            return "it starts"
        kept = sorted(states & FINISHED)
        return f"it has ended, and while it is {' or '.join(kept)}" if kept else "it has ended"
    return created + hold.window


class Place(NamedTuple):
    """Where a message belongs: what must be the same for one to take another's place. A step of a flow stays what it is."""

    name: str
    key: str | None
    flow: str | None = None


def effective(state: State, *, begun: bool) -> State:
    """How a holder counts: one that has ``begun``, with steps of its work kept, runs, though it waits to go on."""
    return State.RUNNING if begun and state in MOVABLE else state


def meet(hold: Hold, place: Place, holder: Place, state: State | None, *, gathers: bool = False) -> Conflict:
    """What becomes of a message that finds its key held, by one that is in ``state`` (None: it is forgotten), and ``gathers`` others.

    >>> meet(Hold(states=WAITING, conflict=Conflict.REPLACE), Place("a", None), Place("a", None), State.RUNNING)
    <Conflict.KEEP: 'keep'>
    """
    match hold.conflict:
        case Conflict.REPLACE if state in MOVABLE:
            return Conflict.REPLACE if place == holder and holder.flow is None else Conflict.REJECT
        case Conflict.RESCHEDULE if state in MOVABLE:
            return Conflict.RESCHEDULE
        case Conflict.JOIN if gathers:
            return Conflict.JOIN
        case Conflict.REPLACE | Conflict.RESCHEDULE | Conflict.JOIN:
            return Conflict.KEEP
        case _:
            return hold.conflict


def bounded(due: Instant | None, hold: Hold, since: Instant) -> Instant | None:
    """When a message runs that was due, if the first of its series came at ``since``."""
    if due is None or hold.longest is None:
        return due
    return min(due, since + hold.longest)


class Asked(NamedTuple):
    """What a rule makes of a message: its key, how it is held, and when it is due, where the rule says that."""

    unique: str
    hold: Hold
    due: After | None = None

    def fields(self) -> dict[str, Any]:
        """The fields of the message."""
        fields = self._asdict()
        return {name: fields[name] for name in fields if fields[name] is not None}


@dataclass(frozen=True, slots=True)
class Unique:
    """One message for a key: while another holds it, what is sent is not stored.

    ``key``: text of your own, one space for all tasks of a queue; without one, the arguments are the key, together with the task's name:
    all of them or, with ``args``, those named. As they were given: one that was left out is not one that was given as its default.

    ``until``: ``"done"``, while there is work left; ``"started"``, while it waits, for another try too; or a duration since it was
    sent, whatever becomes of it (unless it is cancelled or expires without having run). ``states``: the states in which the key is held
    instead, besides those in which a message waits: with ``["dead"]`` until a dead letter is acted on.

    ``on_conflict``: ``"keep"``, the handle is the holder's. ``"replace"``: one that waits gets the new body and options, and keeps its
    id and history. ``"reschedule"``: one that waits gets the new time alone. ``"reject"``: `DuplicateTask` is raised. ``until`` is
    ``"started"`` for replace and reschedule, unless given: what runs already cannot be changed, and is kept.

    >>> Unique("report-11", until="1h").until
    '1h'

    Raises `InvalidOption`.
    """

    key: str | None = None
    args: Sequence[str] = ()
    until: Until | Duration | None = None
    states: Collection[State | str] | None = None
    on_conflict: OnConflict = "keep"

    def __post_init__(self) -> None:
        if self.on_conflict not in get_args(OnConflict):
            raise InvalidOption(
                f"Unique(on_conflict={quoted(self.on_conflict)}): it is one of {', '.join(get_args(OnConflict))}."
            )
        if self.key is not None and self.args:
            raise InvalidOption("Unique(...) takes a key or args=, not both: the key is all there is to it.")
        if not isinstance(self.args, list | tuple) or not all(map(_is_name, self.args)):
            raise InvalidOption(
                f"Unique(args={quoted(self.args)}) names arguments, as in Unique(args=('order_id',))."
            )
        self.hold()

    def hold(self) -> Hold:
        """How the key is held. Raises `InvalidOption`."""
        conflict = Conflict(self.on_conflict)
        changes = conflict in (Conflict.REPLACE, Conflict.RESCHEDULE)
        until = ("started" if changes else "done") if self.until is None else self.until
        window = None if until in get_args(Until) else _span(until, "Unique(until=...)")
        states = WAITING if until == "started" else UNFINISHED if window is None else WORKED_ON
        if self.states is not None:
            states = _states(self.states)
        return Hold(states=states, window=window, conflict=conflict)

    def of(self, name: str, body: bytes, _: str | None) -> Asked:
        """What it makes of a message. Raises `InvalidArguments` where ``args`` are not named in it."""
        return Asked(self.key or f"args:{digest(name, body, self.args)}", self.hold())


@dataclass(frozen=True, slots=True)
class Debounce:
    """Run once it is quiet: each message takes the place of the one before it that still waits, and runs ``quiet`` after the last, but no
    later than ``longest`` after the first (None: however long they keep coming). One for each task and ``key=``.

    >>> Debounce("10s", longest="1m").quiet
    '10s'

    Raises `InvalidOption`.
    """

    quiet: Duration
    longest: Duration | None = None

    def __post_init__(self) -> None:
        if self.longest is not None and _span(self.longest, "Debounce(longest=...)") < _span(
            self.quiet, "Debounce(quiet=...)"
        ):
            raise InvalidOption(
                f"Debounce(longest={quoted(self.longest)}) is shorter than quiet={quoted(self.quiet)}."
            )
        _span(self.quiet, "debounce")

    def of(self, name: str, _: bytes, key: str | None) -> Asked:
        """What it makes of a message."""
        longest = None if self.longest is None else micros(self.longest, "longest")
        hold = Hold(states=WAITING, conflict=Conflict.REPLACE, longest=longest)
        return Asked(_own("debounce", name, key), hold, After(micros(self.quiet, "debounce")))


@dataclass(frozen=True, slots=True)
class Throttle:
    """At most one in each window: the first runs, what comes in ``window`` after it is a duplicate. One for each task and ``key=``.

    Raises `InvalidOption`.
    """

    window: Duration

    def __post_init__(self) -> None:
        _span(self.window, "throttle")

    def of(self, name: str, _: bytes, key: str | None) -> Asked:
        """What it makes of a message."""
        return Asked(
            _own("throttle", name, key), Hold(states=WORKED_ON, window=micros(self.window, "throttle"))
        )


@dataclass(frozen=True, slots=True)
class Gather:
    """Handle many in one call: messages of a task and ``key=`` gather until there are ``most``, or none has come for ``quiet``
    microseconds, or the first has waited for ``longest``.
    """

    longest: Micros
    most: int
    quiet: Micros

    def of(self, name: str, _: bytes, key: str | None) -> Asked:
        """What it makes of a message."""
        hold = Hold(states=_GATHERS, conflict=Conflict.JOIN, longest=self.longest, most=self.most)
        return Asked(_own("gather", name, key), hold, After(self.quiet))


Rule: TypeAlias = Unique | Debounce | Throttle | Gather
"""What is said of messages that are not to be many."""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def digest(name: str, body: bytes, args: Sequence[str] = ()) -> str:
    """A key made of arguments: the same for the same ones, in whatever order they stand.

    >>> digest("a", b'{"x": 1, "y": 2}') == digest("a", b'{"y":2,"x":1}')
    True

    Raises `InvalidArguments` if the body does not name what ``args`` do.
    """
    read: Any = msgspec.json.decode(body) if body else None
    if args:
        if not isinstance(read, dict):
            raise InvalidArguments(
                f"{name}() is unique by {', '.join(args)}: name its arguments when you send it by its name, as in x=1."
            )
        read = {arg: read[arg] for arg in args if arg in read}
    text = msgspec.json.encode([name, read], order="sorted")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _own(rule: str, name: str, key: str | None) -> str:
    """A key of ours: of bounded length, whatever the user's is."""
    return f"{rule}:{hashlib.blake2b(msgspec.json.encode([name, key]), digest_size=16).hexdigest()}"


def _span(value: Duration, what: str) -> Micros:
    if (read := micros(value, what)) == 0:
        raise InvalidOption(f"{what} must be longer than 0.")
    return read


def _states(given: Collection[State | str]) -> frozenset[State]:
    try:
        states = frozenset(map(State, given))
    except (TypeError, ValueError):
        raise InvalidOption(
            f"Unique(states={quoted(given)}) takes a list of states: {', '.join(State)}."
        ) from None
    return WAITING | states | ({State.RUNNING} if states & FINISHED else frozenset())
