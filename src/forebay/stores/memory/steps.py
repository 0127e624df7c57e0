"""Durable steps in a memory store. The caller holds the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.model.message import EntryId
    from forebay.model.saved import SavedStep
    from forebay.model.when import Instant


class Steps:
    """What is kept of the steps of entries, by their names."""

    def __init__(self) -> None:
        self._of: dict[EntryId, dict[str, SavedStep]] = {}

    def save(self, key: EntryId, number: int, steps: Iterable[SavedStep], now: Instant) -> None:
        """Keep steps of an entry, saved by its try ``number``; what is there by its name stays as it is."""
        kept = self._of.setdefault(key, {})
        for step in steps:
            kept.setdefault(step.name, replace(step, number=number, at=now, met=None))

    def saved(self, key: EntryId) -> tuple[SavedStep, ...]:
        """The steps of an entry, in the order in which they were saved."""
        return tuple(self._of.get(key, {}).values())

    def forget(self, key: EntryId) -> None:
        """The entry is gone."""
        self._of.pop(key, None)
