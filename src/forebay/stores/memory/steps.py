"""Durable steps in a memory store, and the events they wait for. The caller holds the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from forebay.model.saved import LARGEST_STEP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.model.message import EntryId, Message
    from forebay.model.saved import SavedStep
    from forebay.model.when import Instant

Wait: TypeAlias = "tuple[EntryId, str]"
"""Whose step, and its name."""


class Steps:
    """What is kept of the steps of entries, by their names."""

    def __init__(self) -> None:
        self._of: dict[EntryId, dict[str, SavedStep]] = {}
        self._waits: dict[tuple[str, str | None], dict[Wait, None]] = {}
        self._met_at_work: set[EntryId] = set()

    def save(self, key: EntryId, number: int, steps: Iterable[SavedStep], now: Instant) -> None:
        """Keep steps of an entry, saved by its try ``number``; what is there by its name stays as it is."""
        kept = self._of.setdefault(key, {})
        for step in steps:
            if step.name in kept:
                continue
            kept[step.name] = replace(
                step, number=number, at=now, met=None, due=step.due_from(now), lasts=None
            )
            if step.topic is not None:
                self._waits.setdefault((step.topic, step.key), {})[key, step.name] = None

    def saved(self, key: EntryId) -> tuple[SavedStep, ...]:
        """The steps of an entry, in the order in which they were saved."""
        return tuple(self._of.get(key, {}).values())

    def meet(self, event: Message, now: Instant) -> list[EntryId]:
        """An event has come: keep it for those that wait for it, and say whose entries they are."""
        met: list[EntryId] = []
        for place in {(event.topic or "", event.key), (event.topic or "", None)} if self._waits else ():
            for key, name in self._waits.pop(place, {}):
                step = self._of[key][name]
                # What was waited for until now stays unmet for ever.
                if step.due is not None and step.due > now:
                    body = event.body if len(event.body) <= LARGEST_STEP else None
                    self._of[key][name] = replace(step, met=now, body=body, content_type=event.content_type)
                    met.append(key)
        return met

    def came(self, key: EntryId) -> SavedStep | None:
        """The event that a step of a flow waits for, if it has come."""
        wait = self._of.get(key, {}).get("event")
        return wait if wait is not None and wait.met is not None else None

    def met_at_work(self, key: EntryId) -> None:
        """An event has come for an entry whose handler may not have seen it any more."""
        self._met_at_work.add(key)

    def end_try(self, key: EntryId) -> bool:
        """A try is over; whether an event has come for it meanwhile."""
        if key not in self._met_at_work:
            return False
        self._met_at_work.discard(key)
        return True

    def forget(self, key: EntryId) -> None:
        """The entry is gone."""
        self._met_at_work.discard(key)
        for name, step in self._of.pop(key, {}).items():
            if step.topic is not None and (some := self._waits.get((step.topic, step.key))) is not None:
                some.pop((key, name), None)
                if not some:
                    del self._waits[step.topic, step.key]
