"""The notes of a memory store. Synchronous; the caller holds the lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.model.note import GONE_KEPT, Note
from forebay.stores.notes import Board

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.model.message import Message
    from forebay.model.note import Notes, Revised, Revision
    from forebay.model.when import Instant


@dataclass(slots=True)
class Pinned:
    """All notes, and when each was changed last."""

    _notes: dict[tuple[str, str], Note] = field(default_factory=dict)
    _highest: dict[str, int] = field(default_factory=dict)
    _changed: dict[tuple[str, str], Instant] = field(default_factory=dict)

    def revise(self, batch: Sequence[Revision], now: Instant) -> tuple[list[Revised], list[Message]]:
        """Change notes; the answers, and the messages that are to be stored with them."""
        board = Board(self._number, dict(self._notes), dict(self._highest))
        answers = [board.revise(revision) for revision in batch]
        self._notes, self._highest = board.found, board.highest
        self._changed.update(((note.kind, note.name), now) for note in board.changed)
        then = [m for one, answer in zip(batch, answers, strict=True) if answer.changed for m in one.then]
        return answers, then

    def survey(self, about: Notes) -> tuple[Note, ...]:
        """Notes of a kind, in the order in which they were changed."""
        found = [
            note
            for (kind, name), note in self._notes.items()
            if kind == about.kind
            and note.version > about.since
            and (about.gone or note.body is not None)
            and (not about.names or name in about.names)
        ]
        return tuple(sorted(found, key=lambda note: note.version)[: about.most])

    def forget(self, now: Instant) -> None:
        """Forget what was deleted long ago. The last change of a kind stays, since its version may not come again."""
        for place, note in list(self._notes.items()):
            if (
                note.body is None
                and self._changed[place] <= now - GONE_KEPT
                and note.version < self._highest[note.kind]
            ):
                del self._notes[place], self._changed[place]

    def _number(self, kind: str) -> int:
        return sum(note.kind == kind for note in self._notes.values())
