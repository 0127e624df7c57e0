"""What happened, one line per event and from every process, and the one judge of whether it may have happened that way.

Senders, handlers and workers under test note what they see; nothing here asks a store, so a store cannot cover for itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.model.when import SECOND, Instant, Micros

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from forebay.support.clock import Clock

SHOWN: Final = 5
"""Findings of one kind that a report spells out."""


class Op(StrEnum):
    """What was seen.

    ``SEND``: a sender had its answer. ``START``, ``FINISH``: a handler was entered and left (``ok`` or ``fail``). ``EFFECT``: what it is
    there for was done, where it counts. ``ACK``, ``RETRY``, ``DEAD``, ``CANCEL``: a settlement had its answer. ``LEASE_LOST``: the lease is
    over without one: it was swept, or handed back for a worker that was killed. With an empty id it means all leases of its node.
    """

    SEND = "send"
    START = "start"
    EFFECT = "effect"
    FINISH = "finish"
    ACK = "ack"
    RETRY = "retry"
    DEAD = "dead"
    CANCEL = "cancel"
    LEASE_LOST = "lease_lost"


_ENDS: Final = frozenset({Op.ACK, Op.RETRY, Op.DEAD, Op.CANCEL, Op.LEASE_LOST})


class Outcome(StrEnum):
    """How it went. ``UNKNOWN``: the answer was lost, so it may have happened or not."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. ``t`` and ``due`` are instants of one clock; ``due`` stands with a send or a retry that must not run earlier. With a start
    may stand the ``key`` of the message, and when it was ``received`` by the store's clock: see `forebay.testing.bounds`.
    """

    t: Instant
    node: str
    op: Op
    id: str
    attempt: int | None = None
    lease: str | None = None
    outcome: Outcome = Outcome.OK
    due: Instant | None = None
    key: str | None = None
    received: Instant | None = None


class Log:
    """Appends events to a file that many processes write: a line is one write, so lines of a killed process are whole or not there.

    >>> from pathlib import Path; from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     log = Log(Path(folder) / "history.jsonl")
    ...     log.write([Event(t=1, node="a", op=Op.SEND, id="m1")])
    ...     log.close()
    ...     [(event.op, event.id) for event in read(Path(folder) / "history.jsonl")]
    [(<Op.SEND: 'send'>, 'm1')]
    """

    __slots__ = ("_file",)

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, events: Iterable[Event]) -> None:
        """Append events as they are."""
        for event in events:
            os.write(self._file, msgspec.json.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Witness:
    """One node's way of noting what it sees, at the time its clock shows."""

    log: Log
    node: str
    clock: Clock

    def saw(  # noqa: PLR0913  # the fields of a line
        self,
        op: Op,
        message: str,
        *,
        outcome: Outcome = Outcome.OK,
        attempt: int | None = None,
        lease: str | None = None,
        due: Instant | None = None,
        key: str | None = None,
        received: Instant | None = None,
    ) -> None:
        """Note one event, now."""
        event = Event(
            t=self.clock.now(),
            node=self.node,
            op=op,
            id=message,
            attempt=attempt,
            lease=lease,
            outcome=outcome,
            due=due,
            key=key,
            received=received,
        )
        self.log.write([event])


def read(path: Path) -> list[Event]:
    """All events of a file in the order of their time. A last line without its end was cut off by a kill, and is left out."""
    *lines, _ = path.read_bytes().split(b"\n")
    decoder = msgspec.json.Decoder(Event)
    return sorted((decoder.decode(line) for line in lines), key=lambda event: event.t)


class Finding(msgspec.Struct, frozen=True):
    """One message, and what is wrong with its story."""

    id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The judgement. All but the numbers and ``recovered`` are faults; so are duplicates beyond ``duplicates_allowed``."""

    sent: int = 0
    ended: int = 0
    recovered: int = 0
    """Sends whose answer was lost and that ran all the same."""
    duplicates_allowed: int = 0
    lost: tuple[Finding, ...] = ()
    """Accepted, and then neither ended nor to be found."""
    duplicate: tuple[Finding, ...] = ()
    """Had its effect more than once."""
    unexpected: tuple[Finding, ...] = ()
    """Ran, but was never sent, or its send was refused."""
    early: tuple[Finding, ...] = ()
    """Started before it was due."""
    stuck: tuple[Finding, ...] = ()
    """Has not ended though everything had time to."""
    overlap: tuple[Finding, ...] = ()
    """Was under two leases at once."""
    resurrected: tuple[Finding, ...] = ()
    """Started after it had ended."""
    hasty: tuple[Finding, ...] = ()
    """Was acknowledged before its handler had finished."""
    miscounted: tuple[Finding, ...] = ()
    """Its attempts did not go up by one with each failure, and only with a failure."""

    @property
    def ok(self) -> bool:
        """Whether it may have happened that way."""
        return not any(found for kind, found in self.faults().items() if kind != "duplicate") and (
            len(self.duplicate) <= self.duplicates_allowed
        )

    def faults(self) -> dict[str, tuple[Finding, ...]]:
        """All findings by kind."""
        named = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: found for name, found in named if isinstance(found, tuple)}

    def __str__(self) -> str:
        """One line of figures, and some of each kind of fault."""
        figures = ", ".join(f"{len(found)} {kind}" for kind, found in self.faults().items())
        lines = [f"{self.sent} sent, {self.ended} ended, {self.recovered} recovered: {figures}"]
        for kind, found in self.faults().items():
            lines += [f"  {kind}: {finding.id}: {finding.why}" for finding in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"  {kind}: and {len(found) - SHOWN} more")
        return "\n".join(lines)


def check(
    history: Iterable[Event],
    *,
    waiting: Collection[str] | None = None,
    duplicates_allowed: int = 0,
    slack: Micros = 0,
) -> Report:
    """Judge a history that was left to run until all was quiet.

    ``waiting``: the ids that the store still holds unended; what has not ended is then stuck if it is among them and lost if not. Without
    it, what has started is stuck, and what has not is lost. ``slack``: microseconds by which a node may note an answer after the store
    acted on it, so that another node may have noted what follows first. A second send of an id that has ended means a redrive: it may run
    again.

    >>> story = [Event(t=1, node="a", op=Op.SEND, id="m1"), Event(t=2, node="a", op=Op.SEND, id="m2")]
    >>> report = check([*story, *(Event(t=3, node="w", op=op, id="m1", lease="l") for op in (Op.START, Op.FINISH, Op.ACK))])
    >>> report.ok, [finding.id for finding in report.lost]
    (False, ['m2'])
    """
    stories = [_told(message, events, slack) for message, events in _by_message(history).items()]
    found: dict[str, list[Finding]] = {}
    for story in stories:
        story.close(waiting)
        for kind, why in story.faults.items():
            found.setdefault(kind, []).append(Finding(story.id, why))
    return Report(
        sent=sum(story.accepted for story in stories),
        ended=sum(story.over for story in stories),
        recovered=sum(story.recovered for story in stories),
        duplicates_allowed=duplicates_allowed,
        **{kind: tuple(findings) for kind, findings in found.items()},
    )


def _by_message(history: Iterable[Event]) -> dict[str, list[Event]]:
    """Each message's events in the order of their time; a node's lost leases are those of all it had started."""
    groups: dict[str, list[Event]] = {}
    for event in sorted(history, key=lambda event: event.t):
        if event.id:
            groups.setdefault(event.id, []).append(event)
            continue
        for message, events in groups.items():
            leases = dict.fromkeys(e.lease for e in events if e.op is Op.START and e.node == event.node)
            events += [msgspec.structs.replace(event, id=message, lease=lease) for lease in leases]
    return groups


def _told(message: str, events: list[Event], slack: Micros) -> _Story:
    """The story of one message: the first send opens it, whenever its answer came; the ends of leases are put back by the slack."""
    last: dict[str | None, Instant] = {}
    moved: list[tuple[Instant, Event]] = []
    first = next((event for event in events if event.op is Op.SEND), None)
    for event in events:
        t = event.t
        if event is first:
            t = 0
        elif event.op in _ENDS:
            t = max(t - slack, last.get(event.lease, 0))
        last[event.lease] = t
        moved.append((t, event))
    story = _Story(message)
    for _, event in sorted(moved, key=lambda place: place[0]):
        story.add(event)
    return story


@dataclass(slots=True)
class _Story:
    """One message's events in order, and what is wrong with them so far: one reason for each kind of fault, the first."""

    id: str
    accepted: bool = False
    maybe: bool = False
    over: bool = False
    maybe_over: bool = False
    due: Instant | None = None
    starts: int = 0
    effects: int = 0
    attempt: int | None = None
    failed: bool = False
    live: str | None = None
    finished: set[str | None] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def recovered(self) -> bool:
        """Whether the sender was left in doubt, and it ran."""
        return self.maybe and not self.accepted and self.starts > 0

    def add(self, event: Event) -> None:
        """Take in the next event."""
        match event.op:
            case Op.SEND:
                self._sent(event)
            case Op.START:
                self._started(event)
            case Op.EFFECT:
                self.effects += 1
                if self.effects > 1:
                    self._fault("duplicate", f"its effect {self.effects} at {_at(event)} on {event.node}")
            case Op.FINISH:
                self.finished.add(event.lease)
            case Op.LEASE_LOST:
                self._released(event)
            case Op.ACK | Op.RETRY | Op.DEAD | Op.CANCEL:
                self._settled(event)

    def close(self, waiting: Collection[str] | None) -> None:
        """There are no more events: what should have ended has."""
        if self.starts and not self.accepted and not self.maybe:
            self._fault("unexpected", f"started {self.starts} times, and no send was accepted")
        if not self.accepted or self.over:
            return
        there = self.starts > 0 if waiting is None else self.id in waiting
        if there:
            self._fault("stuck", f"started {self.starts} times and has not ended")
        elif not self.maybe_over:
            self._fault("lost", f"accepted, started {self.starts} times, and gone")

    def _sent(self, event: Event) -> None:
        again = self.over and event.outcome is not Outcome.FAIL
        self.accepted |= event.outcome is Outcome.OK
        self.maybe |= event.outcome is Outcome.UNKNOWN
        self.due = event.due if event.due is not None else self.due
        if again:
            self.over = self.maybe_over = self.failed = False
            self.attempt, self.effects, self.finished = None, 0, set()

    def _started(self, event: Event) -> None:
        self.starts += 1
        where = f"at {_at(event)} on {event.node}"
        if self.over:
            self._fault("resurrected", f"started {where}, after it had ended")
        if self.due is not None and event.t < self.due:
            self._fault("early", f"started {where}, {(self.due - event.t) / SECOND:g} s before it was due")
        if self.live is not None and event.lease != self.live:
            self._fault("overlap", f"started {where} under lease {event.lease} while {self.live} was live")
        self.live = event.lease
        self._count(event, where)

    def _count(self, event: Event, where: str) -> None:
        """Attempts go up by one after a failure, and stay as they are after a hand-back or a crash."""
        if event.attempt is None:
            return
        if self.attempt is not None and event.attempt != self.attempt + self.failed:
            self._fault(
                "miscounted",
                f"attempt {event.attempt} {where}, after {self.attempt}{' failed' * self.failed}",
            )
        self.attempt, self.failed = event.attempt, False

    def _settled(self, event: Event) -> None:
        if event.op is Op.ACK and event.lease not in self.finished:
            self._fault(
                "hasty", f"acknowledged at {_at(event)} on {event.node}, before its handler had finished"
            )
        if event.outcome is Outcome.FAIL:
            return
        known = event.outcome is Outcome.OK
        self._released(event)
        if event.op is Op.RETRY:
            if known:
                self.failed, self.due = True, event.due if event.due is not None else self.due
            else:
                self.attempt = None
            return
        self.over |= known
        self.maybe_over |= not known

    def _released(self, event: Event) -> None:
        if event.lease == self.live:
            self.live = None

    def _fault(self, kind: str, why: str) -> None:
        self.faults.setdefault(kind, why)


def _at(event: Event) -> str:
    return f"{event.t / SECOND:.6f}"
