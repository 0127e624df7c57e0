"""What a memory store knows besides messages: workers, rates, who told it what. Synchronous; the caller holds the lock."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from forebay.model.note import Notes
from forebay.model.survey import (
    MOST_AUDITED,
    RATES_KEPT,
    Audit,
    Audited,
    Presence,
    Rate,
    Rates,
    Survey,
    Workers,
    unknown,
)
from forebay.stores.memory.notes import Pinned
from forebay.stores.sums import Sums, minute_of

if TYPE_CHECKING:
    from forebay.model.query import Steered
    from forebay.model.when import Instant, Micros
    from forebay.stores.face import Told


class Sight:
    """``lease``: how long a presence holds that is not renewed."""

    def __init__(self, lease: Micros) -> None:
        self._lease = lease
        self._minutes: dict[Instant, Sums] = {}
        self._present: dict[str, Presence] = {}
        self._audit: deque[Audited] = deque(maxlen=MOST_AUDITED)
        self._commands = 0
        self.notes = Pinned()

    def sums(self, now: Instant) -> Sums:
        """Where to add up what is done now."""
        minute = minute_of(now)
        if (sums := self._minutes.get(minute)) is None:
            sums = self._minutes[minute] = Sums()
        return sums

    def attend(self, worker: str, presence: Presence | None, now: Instant) -> None:
        """A worker is there, or is gone."""
        known = self._present.pop(worker, None)
        if presence is not None:
            began = now if known is None or not self._holds(known, now) else known.started
            self._present[worker] = replace(presence, worker=worker, started=began, seen=now)

    def note(self, at: Instant, told: Told, done: Steered) -> None:
        """Keep who told the store what, if that had an effect."""
        if not done.touched:
            return
        self._commands += 1
        audited = Audited(
            number=self._commands, at=at, by=told.by, command=told.command, which=told.which, done=done
        )
        self._audit.appendleft(audited)

    def forget(self, now: Instant) -> None:
        """Forget what is too old."""
        self._minutes = {minute: sums for minute, sums in self._minutes.items() if minute >= now - RATES_KEPT}
        self._present = {name: one for name, one in self._present.items() if self._holds(one, now)}
        self.notes.forget(now)

    def survey(self, about: Survey[Any], now: Instant) -> tuple[Any, ...]:
        """Rows of what is asked about."""
        match about:
            case Workers():
                there = (one for _, one in sorted(self._present.items()) if self._holds(one, now))
                return tuple(there)[: about.most]
            case Audit(before=before):
                found = (one for one in self._audit if before is None or one.number < before)
                return tuple(islice(found, about.most))
            case Notes():
                return self.notes.survey(about)
            case Rates():
                return tuple(self._rates(about))[: about.most]
            case _:
                raise unknown(about)

    def _rates(self, about: Rates) -> list[Rate]:
        return [
            Rate(
                minute=minute, queue=queue, name=name, arrived=arrived, succeeded=succeeded, failed=failed, dead=dead, ran=ran
            )
            for minute, sums in sorted(self._minutes.items(), reverse=True)
            if minute >= about.since and (about.until is None or minute < about.until)
            for (queue, name), (arrived, succeeded, failed, dead, ran) in sorted(sums.places.items())
            if about.queue in (None, queue) and about.name in (None, name)
        ]  # fmt: skip

    def _holds(self, presence: Presence, now: Instant) -> bool:
        return presence.seen + self._lease > now
