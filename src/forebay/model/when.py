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

from forebay.errors import InvalidOption, quoted

Instant: TypeAlias = int
"""Microseconds since the Unix epoch."""
Micros: TypeAlias = int
"""A duration in microseconds."""
Duration: TypeAlias = float | str | timedelta
"""What a user may write for a duration: seconds, ``"1h30m"``, or a `timedelta`."""
Span: TypeAlias = Micros | str | timedelta
"""A duration in the options of an engine or a worker, whose bare numbers are microseconds: ``"30s"``, a `timedelta`, or ``30_000_000``."""

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
        case int() if abs(value) > LONGEST:
            seconds = math.inf  # further than a float goes, maybe
        case int() | float():
            seconds = float(value)
        case str():
            seconds = _read(value.strip(), what)
        case _:
            raise InvalidOption(_unreadable(what, value))
    if not math.isfinite(seconds) or seconds < 0 or seconds * SECOND > LONGEST:
        raise InvalidOption(f"{what} must be between 0 and 100 years, not {quoted(value)}.")
    return math.ceil(round(seconds * SECOND, 3))


def span(value: Span, what: str, shortest: Micros = 0) -> Micros:
    """Read a duration where a number is one of microseconds: of `Timing`, `Retention` and `WorkerOptions`.

    Raises `InvalidOption`, naming ``what``, as `micros` does, and for less than ``shortest``: a number that was meant as seconds.
    """
    match value:
        case str() | timedelta():
            read = micros(value, what)
        case int() if not isinstance(value, bool) and 0 <= value <= LONGEST:
            read = int(value)
        case _:
            raise InvalidOption(
                f"{what} must be text such as '30s', a timedelta, or whole microseconds up to 100 years, not {quoted(value)}."
            )
    if read < shortest:
        raise InvalidOption(
            f"{what} must be at least {shortest / SECOND:g} s, not {quoted(value)}; a bare number counts microseconds: write '30s'."
        )
    return read


def instant(value: datetime, what: str) -> Instant:
    """Read an aware `datetime`.

    Raises `InvalidOption` for one without a time zone, as nobody could say when it is, and for one outside the years that UTC can show.
    """
    if not isinstance(value, datetime):
        raise InvalidOption(f"{what} must be a datetime with a time zone, not {quoted(value)}.")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidOption(
            f"{what} has no time zone: write datetime(..., tzinfo=UTC) or use ZoneInfo. It was {quoted(value)}."
        )
    read = (value - _EPOCH) // timedelta(microseconds=1)
    if not _FIRST <= read <= _LAST:
        raise InvalidOption(f"{what} lies outside the years 1 to 9999 of UTC: {value.isoformat()}.")
    return read


def moment(value: Duration | datetime, what: str) -> When:
    """Read a duration from now, or an aware `datetime`."""
    if isinstance(value, datetime):
        return At(instant(value, what))
    return After(micros(value, what))


def as_datetime(value: Instant) -> datetime:
    """An instant as an aware UTC `datetime`; one that lies outside its years, as the nearest it has."""
    return _EPOCH + timedelta(microseconds=min(max(value, _FIRST), _LAST))


def seconds(value: Micros) -> float:
    """A duration in seconds, for timers and people."""
    return value / SECOND


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final[Instant] = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST: Final[Instant] = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def _read(text: str, what: str) -> float:
    """Seconds from text: a bare number, or numbers with units."""
    try:
        return float(text)
    except ValueError:
        if not _WHOLE.fullmatch(text):
            raise InvalidOption(_unreadable(what, text)) from None
    return sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text)) / SECOND


def _unreadable(what: str, value: object) -> str:
    return f"{what} is not a duration: {quoted(value)}. Write seconds, a timedelta, or text such as '250ms', '30s', '1h30m', '2d'."
