"""Schedules: what is sent, when it ticks, and which ticks are owed at a moment. Pure; the same for all who fire.

A tick is a moment, and the message it sends has an id made of the schedule's name and that moment: so the same tick is the same message,
whoever fires it. How far a schedule has come stands in a note of its own (`Course`), which moves in the transaction that stores the
message.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from forebay.errors import InvalidOption
from forebay.model.cron import cron, stamp, tick_after, zone_of
from forebay.model.message import Message, MessageId
from forebay.model.query import TaskRecord
from forebay.model.when import SECOND, Instant, Micros

if TYPE_CHECKING:
    from collections.abc import Iterator

LATE: Final[Micros] = 60 * SECOND
"""A tick that comes no later is not missed: so long workers may take to be replaced."""
AHEAD: Final[Micros] = 86_400 * SECOND
"""What has been fired further ahead of the clock than this, was fired by a clock that was wrong."""
MOST_OWED: Final = 1_000
"""Missed ticks that are made up for."""
MOST_WAITING: Final = 100
"""Ticks of one schedule that wait for the one before."""
RUNS_KEPT: Final = 20
TICK: Final = "forebay-tick"
"""The header that holds the moment a message of a schedule is for."""
SCHEDULE: Final = "forebay-schedule"
"""The header that holds its schedule's name."""


class CatchUp(StrEnum):
    """What becomes of ticks that nobody was there for: none is made up for, the last one is, or all are, of a thousand at most."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a tick while the message of the one before is not over: it is sent all the same; it is left out; or it waits."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sent, and when: by ``cron`` in a ``zone``, or ``every`` so often, counted from ``start`` or else from the epoch.

    ``task``: the message without its id. No tick is before ``start`` or after ``until``. ``jitter``: a tick comes up to so much later, the
    same for all who fire it, and always before the next.
    """

    task: Message
    cron: str | None = None
    every: Micros | None = None
    zone: str = "UTC"
    start: Instant | None = None
    until: Instant | None = None
    jitter: Micros = 0
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW

    def after(self, instant: Instant) -> Instant | None:
        """The first tick after a moment. Raises `InvalidOption` for an expression or a zone that is not known here."""
        first = instant if self.start is None else max(instant, self.start - 1)
        every = self.every
        tick = (
            tick_after(self.cron or "", self.zone, first)
            if every is None
            else next(self._steps(first, every))
        )
        return tick if tick is None or self.until is None or tick <= self.until else None

    def next(self, instant: Instant, number: int) -> list[Instant]:
        """So many ticks after a moment, as far as there are any."""
        return list(islice(self._after(instant), number))

    def last(self, after: Instant, now: Instant, number: int) -> list[Instant]:
        """The last so many ticks after a moment and up to another one, in order."""
        if self.every is not None:
            since = max(after, now - number * self.every)
        else:
            older = islice(cron(self.cron or "").before(now, zone_of(self.zone)), number)
            since = min(takewhile(lambda tick: tick > after, older), default=after + 1) - 1
        return list(takewhile(lambda tick: tick <= now, self._after(since)))[-number:]

    def moment(self, name: str, tick: Instant) -> Instant:
        """When a tick comes: a part of the jitter later, which depends on the tick and the name only."""
        if not self.jitter:
            return tick
        gap = (self.after(tick) or tick + self.jitter + 1) - tick
        roll = int.from_bytes(blake2b(f"{name} {tick}".encode(), digest_size=8).digest())
        return tick + roll % min(self.jitter, gap)

    def words(self) -> str:
        """When, in plain words.

        >>> Schedule(task=Message(id=MessageId(""), name="x"), cron="*/5 * * * *", zone="Europe/Berlin").words()
        'every 5 minutes, Europe/Berlin'
        """
        if self.every is not None:
            return f"every {spelled(self.every)}"
        return f"{cron(self.cron or '').words()}, {self.zone}"

    def _after(self, instant: Instant) -> Iterator[Instant]:
        first = instant if self.start is None else max(instant, self.start - 1)
        ticks = (
            cron(self.cron or "").after(first, zone_of(self.zone))
            if self.every is None
            else self._steps(first, self.every)
        )
        until = self.until
        return ticks if until is None else takewhile(lambda tick: tick <= until, ticks)

    def _steps(self, after: Instant, every: Micros) -> Iterator[Instant]:
        anchor = self.start or 0
        tick = anchor + ((after - anchor) // every + 1) * every
        while True:
            yield tick
            tick += every


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The note of one schedule. ``plan`` is in force. ``code``: as the code of ``app`` has it, in the package ``home``; None where it was
    put from a program.

    ``gone``: its code has it no longer. ``since``: no tick up to then is owed. ``paused``, ``until`` a moment or for good. ``skip``: this
    one tick is left out.
    """

    plan: Schedule
    app: str = ""
    home: str = ""
    code: Schedule | None = None
    gone: bool = False
    since: Instant = 0
    paused: bool = False
    until: Instant | None = None
    skip: Instant | None = None

    @property
    def overridden(self) -> bool:
        """Whether another plan is in force than the code has."""
        return self.code is not None and self.code != self.plan

    def holds(self, now: Instant) -> bool:
        """Whether it is paused."""
        return self.paused and (self.until is None or now < self.until)


class How(StrEnum):
    """What became of a tick: its message was sent; it was sent at somebody's word and not by the clock; it was left out at somebody's word;
    or because the one before was not over.
    """

    FIRED = "fired"
    BY_HAND = "by-hand"
    SKIPPED = "skipped"
    OVERLAPPED = "overlapped"


class Run(msgspec.Struct, frozen=True, array_like=True):
    """A tick that came: which, when, and how. ``mark``: of one at somebody's word, what its id has instead of the moment."""

    tick: Instant
    at: Instant
    how: How = How.FIRED
    mark: str = ""

    @property
    def sent(self) -> bool:
        """Whether there is a message of it."""
        return self.how in (How.FIRED, How.BY_HAND)

    def id(self, name: str) -> MessageId:
        """The id of its message."""
        return _id(name, self.mark or stamp(self.tick))


class Course(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a schedule has come: ``fired`` up to which tick, the last twenty ``runs``, the ticks that wait for the one before."""

    fired: Instant = 0
    runs: tuple[Run, ...] = ()
    waiting: tuple[Instant, ...] = ()

    @property
    def latest(self) -> Run | None:
        """The last run that has a message."""
        return next((run for run in reversed(self.runs) if run.sent), None)

    def went(self, *runs: Run) -> Course:
        """With more runs."""
        return replace(self, runs=(*self.runs, *runs)[-RUNS_KEPT:])


@dataclass(frozen=True, slots=True)
class Owed:
    """What is to be done now: ``ticks`` to send, ticks to leave out since somebody said so, and up to which tick it is then ``fired``.
    ``wake``: when to look again, if ever. ``missed``: some are not made up for.
    """

    ticks: tuple[Instant, ...] = ()
    skipped: tuple[Instant, ...] = ()
    fired: Instant = 0
    wake: Instant | None = None
    missed: bool = False


def owed(name: str, standing: Standing, course: Course, now: Instant) -> Owed:
    """Which ticks are to be fired now. Raises `InvalidOption` for a plan that cannot be read here."""
    plan = standing.plan
    if standing.gone:
        return Owed(fired=course.fired)
    if standing.holds(now):
        return Owed(fired=course.fired, wake=standing.until)
    if _is_ahead(standing, course, now):
        return Owed(fired=now, wake=_moment(name, plan, plan.after(now)), missed=True)
    floor = floor_of(standing, course, now)
    first = plan.after(floor)
    if first is None or (wake := plan.moment(name, first)) > now:
        return Owed(fired=course.fired, wake=None if first is None else wake)
    second = plan.after(first)
    wake_then = _moment(name, plan, second)
    if wake_then is None or wake_then > now:
        due, after_due, more = [first], wake_then, False
    else:
        number = MOST_OWED if plan.catch_up is CatchUp.ALL else 2
        due = [tick for tick in plan.last(floor, now, number + 1) if plan.moment(name, tick) <= now]
        after_due, more = _moment(name, plan, plan.after(due[-1])), due[0] > first
    made_up = _made_up(name, plan, due, now)
    sent = tuple(tick for tick in made_up if tick != standing.skip)
    return Owed(
        ticks=sent,
        skipped=tuple(tick for tick in made_up if tick == standing.skip),
        fired=due[-1],
        wake=after_due,
        missed=more or len(made_up) < len(due),
    )


def ahead_of(standing: Standing, course: Course, now: Instant) -> Instant:
    """After when the ticks lie that are still to come: after a pause, if it has an end."""
    return max(now, floor_of(standing, course, now), (standing.until or 0) if standing.paused else 0)


def floor_of(standing: Standing, course: Course, now: Instant) -> Instant:
    """Up to when nothing is owed."""
    resumed = standing.until if standing.paused and standing.until is not None else 0
    known = (course.fired, standing.since, resumed)
    return max(moment for moment in (0, *known) if moment <= now + AHEAD)


def _is_ahead(standing: Standing, course: Course, now: Instant) -> bool:
    """Whether it was fired, or begun, by a clock that has been set back since by more than a day."""
    return (course.fired or standing.since) > now + AHEAD


def _made_up(name: str, plan: Schedule, due: list[Instant], now: Instant) -> list[Instant]:
    match plan.catch_up:
        case CatchUp.ALL:
            return due[-MOST_OWED:]
        case CatchUp.ONE:
            return due[-1:]
        case CatchUp.SKIP:
            return [tick for tick in due[-1:] if plan.moment(name, tick) >= now - LATE]


def _moment(name: str, plan: Schedule, tick: Instant | None) -> Instant | None:
    return None if tick is None else plan.moment(name, tick)


def went(
    name: str, standing: Standing, course: Course, due: Owed, now: Instant, *, busy: bool
) -> tuple[Course, tuple[Message, ...]]:
    """How far a schedule has come when what is owed is fired, and the messages of it. ``busy``: that of the run before is not over."""
    plan, line = standing.plan, [*course.waiting, *due.ticks]
    fired, left = line, list[Instant]()
    match plan.overlap:
        case Overlap.ALLOW:
            line = []
        case Overlap.SKIP:
            fired, left, line = ([], line, []) if busy else (line[:1], line[1:], [])
        case Overlap.QUEUE:
            fired, line = ([], line) if busy else (line[:1], line[1:])
            line, left = line[:MOST_WAITING], line[MOST_WAITING:]
    sent = [Run(tick, now) for tick in fired]
    others = [Run(tick, now, How.SKIPPED) for tick in due.skipped]
    others += [Run(tick, now, How.OVERLAPPED) for tick in left]
    after = replace(course, fired=due.fired, waiting=tuple(line))
    messages = tuple(message_of(name, run, plan) for run in sent)
    return after.went(*sorted(sent + others, key=lambda run: run.tick)), messages


def message_of(name: str, run: Run, plan: Schedule) -> Message:
    """The message of one run. Where ticks are not to overlap, no other of the schedule may be unfinished, whatever comes between."""
    tick = stamp(run.tick)
    headers = {**plan.task.headers, SCHEDULE: name, TICK: tick}
    unique = f"cron:{name}" if plan.overlap is Overlap.SKIP else plan.task.unique
    return replace(plan.task, id=_id(name, run.mark or tick), headers=headers, unique=unique)


def _id(name: str, mark: str) -> MessageId:
    return MessageId(f"cron:{name}:{mark}")


def spelled(duration: Micros) -> str:
    """A duration as it is written.

    >>> spelled(90 * SECOND), spelled(3_600 * SECOND), spelled(1_500_000)
    ('1m30s', '1h', '1.5s')
    """
    text, left = "", duration
    for unit, size in (("d", 86_400 * SECOND), ("h", 3_600 * SECOND), ("m", 60 * SECOND)):
        number, left = divmod(left, size)
        text += f"{number}{unit}" if number else ""
    return text + (f"{left / SECOND:g}s" if left or not text else "")


class ScheduleState(StrEnum):
    """Where a schedule stands: at work; paused; gone from the code of its App; in code that no worker has declared yet; without a tick to
    come; with an expression or a zone that is not known here.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    GONE = "gone"
    NEW = "new"
    OVER = "over"
    UNREADABLE = "unreadable"


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a store knows of one schedule, ``now``. ``new``: it is in the code, and no worker has declared it yet."""

    name: str
    standing: Standing
    course: Course
    now: Instant
    new: bool = False

    @property
    def plan(self) -> Schedule:
        """What is sent, and when."""
        return self.standing.plan

    @property
    def state(self) -> ScheduleState:
        """Where it stands."""
        if self.new:
            return ScheduleState.NEW
        if self.standing.gone:
            return ScheduleState.GONE
        if self.standing.holds(self.now):
            return ScheduleState.PAUSED
        try:
            return ScheduleState.ACTIVE if self._ticks(1) else ScheduleState.OVER
        except InvalidOption:
            return ScheduleState.UNREADABLE

    @property
    def words(self) -> str:
        """When, in plain words; the expression, where it is not known here."""
        try:
            return self.plan.words()
        except InvalidOption:
            return self.plan.cron or ""

    def next(self, number: int = 5) -> list[Instant]:
        """When its next ticks come, jitter included; none of a schedule that is gone, paused for good, or not known here."""
        if self.standing.gone or (self.standing.holds(self.now) and self.standing.until is None):
            return []
        try:
            return [self.plan.moment(self.name, tick) for tick in self._ticks(number)]
        except InvalidOption:
            return []

    def _ticks(self, number: int) -> list[Instant]:
        ticks = self.plan.next(ahead_of(self.standing, self.course, self.now), number + 1)
        return [tick for tick in ticks if tick != self.standing.skip][:number]


class ScheduleRun(msgspec.Struct, frozen=True, kw_only=True):
    """One of the last runs of a schedule: the ``tick`` it was for, when and ``how`` it came, and its message: ``id``, None where nothing
    was sent; ``record``, None where it is not remembered any more.
    """

    tick: Instant
    at: Instant
    how: How
    id: MessageId | None
    record: TaskRecord | None
