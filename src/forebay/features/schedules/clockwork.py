"""Firing what is due. The message of a tick and the note that the schedule has come so far are one transaction: so it is fired once,
however many fire, and wherever one of them breaks off.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.errors import InvalidOption, told
from forebay.features.schedules.book import KIND, Book, course_note, log, read_courses
from forebay.model.message import EntryId
from forebay.model.note import MOST_REVISED, Note, Revision
from forebay.model.query import Query, Selector
from forebay.model.schedule import Overlap, owed, went
from forebay.model.state import FINISHED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from forebay.engine import Store
    from forebay.features.schedules.book import Entry
    from forebay.model.schedule import Course, Owed
    from forebay.model.when import Instant
    from forebay.support.clock import Clock

CHUNK: Final = MOST_REVISED
"""Schedules that are fired together; then others have the loop and the store."""


@dataclass(slots=True)
class _Step:
    """One schedule that is to go on: how far it has come then, and what is sent with it."""

    entry: Entry
    revision: Revision
    course: Course


@dataclass(slots=True)
class Clockwork:
    """Knows when each schedule is to be looked at again, and fires. Of one loop."""

    store: Store
    clock: Clock
    book: Book = field(init=False)
    _heap: list[tuple[Instant, str]] = field(default_factory=list)
    _wakes: dict[str, Instant] = field(default_factory=dict)
    _held: dict[str, EntryId] = field(default_factory=dict)
    _stale: set[str] = field(default_factory=set)
    _dice: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.book = Book(self.store)

    def next(self) -> Instant | None:
        """When something is due next, as far as is known."""
        while self._heap and self._wakes.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def holds(self) -> bool:
        """Whether ticks wait for messages that are not over."""
        return bool(self._held)

    def released(self, ended: Collection[EntryId] | None) -> bool:
        """Look again at those whose messages have ended (None: any may have); whether there are any."""
        names = [name for name, key in self._held.items() if ended is None or key in ended]
        for name in names:
            self._wake(name, self.clock.now())
        return bool(names)

    async def turn(self) -> int:
        """Take over what has changed and fire all that is due; returns how many messages were sent. Cancelled, each tick is either fired or
        still owed. Raises what the store raises; what was not done is due still.
        """
        sent = 0
        while True:
            self._stale.clear()
            for name in await self.book.follow(self.clock.now()):
                self._wake(name, self.clock.now() if name in self.book.entries else None)
            self._tidy()
            sent += await self._fire_due()
            if not self._stale:
                return sent

    def _tidy(self) -> None:
        """Let go of places that were given up, before they are more than the others."""
        if len(self._heap) > 2 * len(self._wakes) + CHUNK:
            self._heap = [(at, name) for name, at in self._wakes.items()]
            heapq.heapify(self._heap)

    async def _fire_due(self) -> int:
        """In parts, in no order: so several that fire at the same time share the work, and each looks first at what others have done."""
        sent = 0
        while due := self._due():
            parts = [due[start : start + CHUNK] for start in range(0, len(due), CHUNK)]
            self._dice.shuffle(parts)
            try:
                for n, part in enumerate(parts):
                    entries = {name: self.book.entries[name] for name in part}
                    if n > 0:
                        await read_courses(self.store, entries)
                    sent += await self._fire(list(entries.values()))
                    await self.clock.sleep(0)
            except BaseException:
                for name in due:
                    self._wake(name, self.clock.now())
                raise
        return sent

    def _due(self) -> list[str]:
        """All whose time has come; they are to be put back."""
        now, due = self.clock.now(), list[str]()
        while (first := self.next()) is not None and first <= now:
            _, name = heapq.heappop(self._heap)
            del self._wakes[name]
            due.append(name)
        return due

    def _wake(self, name: str, at: Instant | None) -> None:
        self._held.pop(name, None)
        if at is None:
            self._wakes.pop(name, None)
        else:
            self._wakes[name] = at
            heapq.heappush(self._heap, (at, name))

    async def _fire(self, entries: Sequence[Entry]) -> int:
        now = self.clock.now()
        found = [(entry, due) for entry in entries if (due := _owed(entry, now)) is not None]
        for entry in entries:
            self._wake(entry.name, None)
        for entry, due in found:
            self._wake(entry.name, due.wake)
        latest = {
            entry.name: EntryId(run.id(entry.name))
            for entry, due in found
            if entry.standing.plan.overlap is not Overlap.ALLOW
            and (due.ticks or entry.course.waiting)
            and (run := entry.course.latest) is not None
        }
        busy = await self._unfinished(latest.values())
        steps = list[_Step]()
        for entry, due in found:
            key = latest.get(entry.name)
            if (step := _step(entry, due, now, busy=key in busy)) is not None:
                steps.append(step)
            self._hold(entry, step.course if step else entry.course, now)
        return sum([await self._send(batch) for batch in _batches(steps)])

    def _hold(self, entry: Entry, course: Course, now: Instant) -> None:
        """If ticks of it wait, the first comes when the message of its last run is over."""
        idle = entry.standing.gone or entry.standing.holds(now)
        if course.waiting and not idle and (run := course.latest) is not None:
            self._held[entry.name] = EntryId(run.id(entry.name))

    async def _unfinished(self, keys: Iterable[EntryId]) -> set[EntryId]:
        if not (ids := tuple(keys)):
            return set()
        page = await self.store.find(Query(which=Selector(ids=ids), size=len(ids), brief=True))
        return {record.id for record in page.records if record.state not in FINISHED}

    async def _send(self, steps: Sequence[_Step]) -> int:
        answers = await self.store.note([step.revision for step in steps])
        sent = 0
        for step, answer in zip(steps, answers, strict=True):
            entry = step.entry
            if answer.changed:
                entry.course, entry.course_version = step.course, answer.note.version
                sent += len(step.revision.then)
            elif answer.note.version == entry.course_version:
                # The schedule itself was changed meanwhile: that is read first.
                self._stale.add(entry.name)
            else:
                # Somebody else was faster, or it was run by hand meanwhile.
                entry.reads(answer.note)
                self._wake(entry.name, self.clock.now())
        return sent


def _owed(entry: Entry, now: Instant) -> Owed | None:
    try:
        due = owed(entry.name, entry.standing, entry.course, now)
    except InvalidOption as error:
        # An expression or a zone of a newer version, or one that this host does not know: others may.
        log.warning("schedule.unreadable", extra={"schedule": entry.name, **told(error)})
        return None
    if due.missed:
        log.warning("schedule.missed", extra={"schedule": entry.name, "made_up_for": len(due.ticks)})
    return due


def _step(entry: Entry, due: Owed, now: Instant, *, busy: bool) -> _Step | None:
    """What changes, if anything does."""
    if entry.standing.gone or entry.standing.holds(now):
        return None
    course, messages = went(entry.name, entry.standing, entry.course, due, now, busy=busy)
    if course == entry.course:
        return None
    note = course_note(entry.name, course, entry.course_version)
    given = Note(kind=KIND, name=entry.name, body=None, version=entry.version)
    return _Step(entry, Revision(note, messages, given), course)


def _batches(steps: list[_Step]) -> Iterator[list[_Step]]:
    """As many as may be changed at once, with their messages."""
    batch, messages = list[_Step](), 0
    for step in steps:
        messages += len(step.revision.then)
        if batch and messages > MOST_REVISED:
            yield batch
            batch, messages = [], len(step.revision.then)
        batch.append(step)
    if batch:
        yield batch
