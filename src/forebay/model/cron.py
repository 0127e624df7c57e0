"""Cron expressions: when they tick by the clocks of a zone, and in plain words. Parsing and matching are cronsim's; the zones are ours.

An expression whose minute or hour begins with ``*`` goes by the hands of the clock: what they show twice when clocks are set back is two
ticks, what they skip is none. Any other names times of a day, and each comes once: where clocks skip it, at the moment at which they go
on; where they show it twice, the first time. (Debian's cron does the same; cronsim does it for expressions without seconds only.)
"""

from __future__ import annotations

import copy
import difflib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.explain import explain

from forebay.errors import InvalidOption, quoted
from forebay.model.when import Instant, as_datetime

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_EXPRESSION: Final = 200
SHORT: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""What may stand for an expression."""
_FIELDS: Final = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L (the last) or LW (the last weekday), in a month that has it",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT, MON#2 (the second Monday) or 5L (the last Friday)",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_WEEK: Final = timedelta(weeks=1)
_STEPS: Final = (
    (re.compile(r"\*/(\d+) \* \* \* \* \*"), 60, "seconds"),
    (re.compile(r"(?:0 )?\*/(\d+) \* \* \* \*"), 60, "minutes"),
    (re.compile(r"(?:0 )?0 \*/(\d+) \* \* \*"), 24, "hours"),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression that was read. ``text``: without short forms, in capitals. Made by `cron`."""

    text: str
    by_hands: bool
    _sim: CronSim = field(compare=False, repr=False)

    def after(self, instant: Instant, zone: tzinfo) -> Iterator[Instant]:
        """Its ticks after a moment, in order. They end where there is none within fifty years."""
        last = instant
        for tick in self._ticks(instant, zone, reverse=False):
            if tick > last:
                yield tick
                last = tick

    def before(self, instant: Instant, zone: tzinfo) -> Iterator[Instant]:
        """Its ticks up to a moment, that one included, the newest first."""
        last = instant + 1
        for tick in self._ticks(instant, zone, reverse=True):
            if tick < last:
                yield tick
                last = tick

    def words(self) -> str:
        """In plain words.

        >>> cron("*/5 * * * *").words(), cron("0 6 * * mon").words()
        ('every 5 minutes', 'at 06:00 on Monday')
        """
        for shape, whole, unit in _STEPS:
            if (found := shape.fullmatch(self.text)) and whole % int(found[1]) == 0 and int(found[1]) > 1:
                return f"every {int(found[1])} {unit}"
        told = explain(self.text)
        return told[0].lower() + told[1:]

    def _ticks(self, instant: Instant, zone: tzinfo, *, reverse: bool) -> Iterator[Instant]:
        """Moments from about ``instant`` on, or back."""
        floor = as_datetime(instant).replace(microsecond=0)
        try:
            if self.by_hands:
                yield from map(_micros, self._by_hands(floor, zone, reverse=reverse))
                return
            offset = _offset(floor, zone)
            if reverse:
                # After clocks were set back, later times of the day lie in the past too.
                offset = max(offset, _offset(floor - timedelta(days=1), zone))
            for wall in self._walls(floor + offset, reverse=reverse):
                yield _micros(_shown(wall, zone))
        except OverflowError:
            return  # beyond the year 9999

    def _by_hands(self, at: datetime, zone: tzinfo, *, reverse: bool) -> Iterator[datetime]:
        """From one change of the clocks to the next their hands go evenly."""
        there = at
        while True:
            offset, change = _offset(at, zone), None
            for wall in self._walls(there + offset, reverse=reverse):
                tick = wall.replace(tzinfo=UTC) - offset
                if (change := _change(at, tick, zone)) is not None:
                    break
                yield tick
                at = tick
            if change is None:
                return
            # Anew from the last second before the change: forward to what comes with it, back to what that second shows.
            there = change - _SECOND
            at = there if reverse else change

    def _walls(self, there: datetime, *, reverse: bool) -> Iterator[datetime]:
        """Times that clocks show after one, or up to one, on and on or back."""
        sim = copy.copy(self._sim)
        sim.dt = there.replace(tzinfo=None) + (_SECOND if reverse else timedelta())
        sim.tick_direction = -1 if reverse else 1
        return sim


@lru_cache(maxsize=1_024)
def cron(text: str) -> Cron:
    """Read an expression: five fields, or six with seconds first, or `SHORT` forms. Raises `InvalidOption`, with what is wrong in it."""
    if not isinstance(text, str):
        raise InvalidOption(f"cron is text such as '*/5 * * * *' or '@daily', not {quoted(text)}.")
    words = text.strip()
    if words.startswith("@"):
        words = _short(words)
    parts = words.upper().split()
    if len(text) > LONGEST_EXPRESSION or len(parts) not in (5, 6):
        raise InvalidOption(
            f"cron {quoted(text)} has {len(parts)} fields: it takes five (minute, hour, day of month, month, day of week), six with "
            f"seconds first, or one of {', '.join(SHORT)}."
        )
    try:
        sim = CronSim(" ".join(parts), datetime(2000, 1, 1))  # noqa: DTZ001  # a clock without a zone: zones are ours
    except (CronSimError, AssertionError, ValueError) as error:
        raise InvalidOption(_wrong(text, parts, str(error))) from error
    minute, hour = parts[-5:-3]
    read = Cron(" ".join(parts), minute.startswith("*") or hour.startswith("*"), sim)
    if next(read.after(0, UTC), None) is None:
        raise InvalidOption(f"cron {quoted(text)} never comes: no day is all that it asks for.")
    return read


@lru_cache(maxsize=16_384)
def tick_after(text: str, zone: str, instant: Instant) -> Instant | None:
    """The first tick of an expression after a moment. Kept, because it is asked for twice, and of many schedules with the same times."""
    return next(cron(text).after(instant, zone_of(zone)), None)


@lru_cache(maxsize=1_024)
def zone_of(name: str) -> tzinfo:
    """A zone by its IANA name. Raises `InvalidOption`, with the nearest there is."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        known = {one.lower(): one for one in available_timezones()}
        near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.6)
        near += [one for one in known if one.endswith(f"/{str(name).lower()}")]
        hint = f"did you mean {known[near[0]]!r}?" if near else "write one such as 'Europe/Berlin' or 'UTC'."
        raise InvalidOption(f"zone {quoted(name)} is not known here: {hint}") from error


def _short(text: str) -> str:
    if text.lower() in SHORT:
        return SHORT[text.lower()]
    raise InvalidOption(
        f"cron {quoted(text)} is none of {', '.join(SHORT)}; for an interval use every=, as in every='90s'."
    )


def _wrong(text: str, parts: list[str], said: str) -> str:
    """Which field it is."""
    named = said.removeprefix("Bad ")
    names = list(_FIELDS)[-len(parts) :]
    if named not in names:
        return f"cron {quoted(text)} cannot be read: {said or 'a step or a range is not one'}."
    return (
        f"cron {quoted(text)}: {named.replace('-', ' ')} {quoted(parts[names.index(named)])} is not possible: write {_FIELDS[named]}; "
        "'*', lists (1,15), ranges (9-17) and steps (*/5)."
    )


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _micros(at: datetime) -> Instant:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _shown(wall: datetime, zone: tzinfo) -> datetime:
    """When clocks first show a time; where they skip it, when they go on."""
    there = wall.replace(tzinfo=zone)
    at = there.astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == wall:
        return at
    return _between(there.replace(fold=1).astimezone(UTC), at, zone)


def _change(one: datetime, other: datetime, zone: tzinfo) -> datetime | None:
    """The first moment, seen from ``one``, at which clocks are set between two; None if they are not. No zone sets them twice a week."""
    if zone is UTC:
        return None
    offset, step = _offset(one, zone), _WEEK if one <= other else -_WEEK
    while one != other:
        then = other if abs(other - one) <= _WEEK else one + step
        if _offset(then, zone) != offset:
            return _between(min(one, then), max(one, then), zone)
        one = then
    return None


def _between(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The moment between two at which clocks are set."""
    was = _offset(before, zone)
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        if _offset(middle, zone) == was:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def stamp(instant: Instant) -> str:
    """A moment as part of an id.

    >>> stamp(1_893_456_000 * SECOND), stamp(1)
    ('2030-01-01T00:00:00Z', '1970-01-01T00:00:00.000001Z')
    """
    return as_datetime(instant).replace(tzinfo=None).isoformat() + "Z"
