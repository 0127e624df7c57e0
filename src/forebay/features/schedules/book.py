"""The notes of schedules, read and followed. What is in them is `Standing` and `Course`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.engine import Noted
from forebay.errors import told
from forebay.model.note import GONE_KEPT, Note, Notes
from forebay.model.query import LONGEST_PAGE
from forebay.model.schedule import Course, Standing
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Store
    from forebay.model.when import Instant

log = Log("forebay.schedules")

KIND: Final = "schedule"
COURSE: Final = "schedule-course"
CHANGED: Final = Noted(KIND)
"""What to watch to hear that a schedule was changed."""
WHOLE: Final = GONE_KEPT // 24
"""After so long all is read anew, whatever was heard of."""
_STANDING: Final = msgspec.json.Decoder(Standing)
_COURSE: Final = msgspec.json.Decoder(Course)
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(slots=True)
class Entry:
    """One schedule as it was read, and the versions of its two notes."""

    name: str
    standing: Standing
    version: int
    course: Course = field(default_factory=Course)
    course_version: int = 0

    def reads(self, note: Note) -> None:
        """Take over how far it has come from what stands."""
        self.course, self.course_version = course_of(note), note.version


def standing_note(name: str, standing: Standing | None, version: int) -> Note:
    """The note that says it."""
    body = None if standing is None else _ENCODER.encode(standing)
    return Note(kind=KIND, name=name, body=body, version=version)


def course_note(name: str, course: Course | None, version: int) -> Note:
    """The note that says it."""
    return Note(
        kind=COURSE, name=name, body=None if course is None else _ENCODER.encode(course), version=version
    )


def course_of(note: Note) -> Course:
    """What a note says of how far a schedule has come; nothing, if it cannot be read."""
    try:
        return Course() if note.body is None else _COURSE.decode(note.body)
    except msgspec.MsgspecError as error:
        log.warning("schedule.unreadable", extra={"schedule": note.name, **told(error)})
        return Course()


def entry_of(note: Note) -> Entry | None:
    """The schedule of a note; None for one that is deleted, or that this version cannot read."""
    if note.body is None:
        return None
    try:
        return Entry(note.name, _STANDING.decode(note.body), note.version)
    except msgspec.MsgspecError as error:
        log.warning("schedule.unreadable", extra={"schedule": note.name, **told(error)})
        return None


async def read(store: Store, names: Sequence[str]) -> dict[str, Entry]:
    """Some schedules, or with no names all, in the order of their names."""
    found: dict[str, Entry] = {}
    for note in await _notes(store, KIND, names):
        if (entry := entry_of(note)) is not None:
            found[entry.name] = entry
    await read_courses(store, found)
    return dict(sorted(found.items()))


async def read_courses(store: Store, entries: dict[str, Entry]) -> None:
    """How far they have come."""
    for note in await _notes(store, COURSE, list(entries)) if entries else ():
        if note.name in entries:
            entries[note.name].reads(note)


async def _notes(store: Store, kind: str, names: Sequence[str]) -> list[Note]:
    """All of a kind, or those of some names, in pages."""
    found: list[Note] = []
    if names and len(names) <= LONGEST_PAGE:
        return list(await store.survey(Notes(kind=kind, names=tuple(names))))
    while page := await store.survey(Notes(kind=kind, since=found[-1].version if found else 0)):
        found += page
    return found


@dataclass(slots=True)
class Book:
    """All schedules, as one process knows them: read once, then what has changed since."""

    store: Store
    entries: dict[str, Entry] = field(default_factory=dict)
    _since: int = 0
    _read: Instant | None = None

    async def follow(self, now: Instant) -> set[str]:
        """Take over what has changed; returns whose."""
        if self._read is None or not self._read <= now < self._read + WHOLE:
            known, self.entries = self.entries, await read(self.store, ())
            self._since = max((entry.version for entry in self.entries.values()), default=0)
            self._read = now
            return known.keys() | self.entries.keys()
        changed: dict[str, Entry] = {}
        names: set[str] = set()
        while notes := await self.store.survey(Notes(kind=KIND, since=self._since, gone=True)):
            for note in notes:
                names.add(note.name)
                if (entry := entry_of(note)) is None:
                    changed.pop(note.name, None)
                else:
                    changed[note.name] = entry
            self._since = notes[-1].version
        if changed:
            await read_courses(self.store, changed)
        for name in names:
            self.entries.pop(name, None)
        self.entries.update(changed)
        return names
