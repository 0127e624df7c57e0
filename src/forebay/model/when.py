"""Instants and durations as values. Instants are whole microseconds since the Unix epoch, durations whole microseconds.

A moment is either absolute (`At`) or relative (`After`); a relative one is resolved by the store that keeps it, on the store's own
clock, so that the clocks of senders and workers never meet.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from forebay.errors import InvalidOption

Instant: TypeAlias = int
"""Microseconds since the Unix epoch."""
Micros: TypeAlias = int
"""A duration in microseconds."""
Duration: TypeAlias = float | str | timedelta
"""What a user may write for a duration: seconds, ``"1h30m"``, or a `timedelta`."""

SECOND: Final = 1_000_000
LONGEST: Final = 100 * 366 * 86_400 * SECOND
"""No delay or timeout is longer than a hundred years: beyond it lie typing errors and integer overflow."""

_UNITS: Final = {
    "ms": 1_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 604_800 * SECOND,
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern}\s*)+")


class At(msgspec.Struct, frozen=True, tag="at"):
    """An absolute moment."""

    instant: Instant


class After(msgspec.Struct, frozen=True, tag="after"):
    """A moment relative to when the store takes it."""

    micros: Micros


When: TypeAlias = At | After


def resolve(when: When | None, now: Instant) -> Instant | None:
    """The instant a moment means when it is taken at ``now``."""
    match when:
        case None:
            return None
        case At(instant):
            return instant
        case After(micros):
            return now + micros


def micros(value: Duration, what: str) -> Micros:
    """Read a duration in seconds, as text (``"250ms"``, ``"5m"``, ``"1h30m"``) or as a `timedelta`.

    >>> micros("1h30m", "delay") // SECOND
    5400

    Raises `InvalidOption`, naming ``what``, if it is negative, not finite, longer than a century or unreadable. Rounds up: a delay
    is never shortened.
    """
    match value:
        case bool():
            raise InvalidOption(_unreadable(what, value))
        case timedelta():
            seconds = value.total_seconds()
        case int() | float():
            seconds = float(value)
        case str():
            seconds = _read(value.strip(), what)
        case _:
            raise InvalidOption(_unreadable(what, value))
    if not math.isfinite(seconds) or seconds < 0 or seconds * SECOND > LONGEST:
        raise InvalidOption(f"{what} must be between 0 and 100 years, not {value!r}.")
    return math.ceil(round(seconds * SECOND, 3))


def instant(value: datetime, what: str) -> Instant:
    """Read an aware `datetime`. Raises `InvalidOption` for one without a time zone: nobody could say when it is."""
    if not isinstance(value, datetime):
        raise InvalidOption(f"{what} must be a datetime with a time zone, not {value!r}.")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidOption(
            f"{what} has no time zone: write datetime(..., tzinfo=UTC) or use ZoneInfo. It was {value!r}."
        )
    return (value - _EPOCH) // timedelta(microseconds=1)


def moment(value: Duration | datetime, what: str) -> When:
    """Read a duration from now, or an aware `datetime`."""
    if isinstance(value, datetime):
        return At(instant(value, what))
    return After(micros(value, what))


def as_datetime(value: Instant) -> datetime:
    """An instant as an aware UTC `datetime`."""
    return _EPOCH + timedelta(microseconds=value)


def seconds(value: Micros) -> float:
    """A duration in seconds, for timers and people."""
    return value / SECOND


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _read(text: str, what: str) -> float:
    """Seconds from text: a bare number, or numbers with units."""
    try:
        return float(text)
    except ValueError:
        if not _WHOLE.fullmatch(text):
            raise InvalidOption(_unreadable(what, text)) from None
    return sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text)) / SECOND


def _unreadable(what: str, value: object) -> str:
    return f"{what} is not a duration: {value!r}. Write seconds, a timedelta, or text such as '250ms', '30s', '1h30m', '2d'."
