"""How notes are revised, the same in all stores: whoever has read the version that stands may change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.errors import InvalidOption
from forebay.model.note import MOST_NOTES, Note, Revised

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.note import Revision


@dataclass(slots=True)
class Board:
    """The notes that a batch is about, as far as there are any (those deleted too), and the highest version of each kind.

    ``number``: how many notes of a kind there are. What is changed is in ``changed``, in order.
    """

    number: Callable[[str], int]
    found: dict[tuple[str, str], Note]
    highest: dict[str, int]
    changed: list[Note] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def revise(self, revision: Revision) -> Revised:
        """Change one note, if what stands has the version that was read. What says the same already is taken, and is not changed: so a
        call whose outcome is unknown may be repeated. Raises `InvalidOption` where there are too many.
        """
        asked = revision.note
        place = (asked.kind, asked.name)
        stands = self.found.get(place) or Note(kind=asked.kind, name=asked.name, body=None)
        if stands.body == asked.body:
            return Revised(stands, taken=True, changed=False)
        known = asked.version == stands.version or (stands.body is None and not asked.version)
        if not known or not self._holds(revision.given):
            return Revised(stands, taken=False, changed=False)
        if place not in self.found:
            self._count(asked.kind)
        self.highest[asked.kind] = version = self.highest.get(asked.kind, 0) + 1
        now = self.found[place] = replace(asked, version=version)
        self.changed.append(now)
        return Revised(now, taken=True, changed=True)

    def _holds(self, given: Note | None) -> bool:
        """Whether what a change depends on is as it was read."""
        if given is None:
            return True
        stands = self.found.get((given.kind, given.name))
        return stands is not None and stands.version == given.version

    def _count(self, kind: str) -> None:
        """One more of a kind."""
        if kind not in self._numbers:
            self._numbers[kind] = self.number(kind)
        if self._numbers[kind] >= MOST_NOTES:
            raise InvalidOption(
                f"There are {MOST_NOTES:,} notes of kind {kind!r}, and no more are kept: delete some of them."
            )
        self._numbers[kind] += 1
