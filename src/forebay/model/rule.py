"""Rules of queues and tasks: how much of a kind may begin in a time, run at once, and in what order. Values and arithmetic, pure.

A rate is a token bucket, kept as one number: the instant at which it would be full again (GCRA, the generic cell rate algorithm of ITU-T
I.371, as "theoretical arrival time"). It counts in nanoseconds, so that no rate is out by more than a ten thousandth.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from forebay.errors import InvalidOption, quoted
from forebay.model.amounts import check_count
from forebay.model.when import SECOND, Micros

if TYPE_CHECKING:
    from forebay.model.when import Instant

Nanos: TypeAlias = int
"""Nanoseconds since the Unix epoch."""

MOST_RATE: Final = 100_000
"""Tokens in one unit of time."""
MOST_AT_ONCE: Final = 100_000
MOST_WEIGHTS: Final = 1_000
"""Keys of one queue that have a weight of their own."""
HEAVIEST: Final = 1_000
WINDOW: Final = 200
"""Messages of one line that stand ready at most, where nothing else says how many may: enough for a claim, few enough to be rearranged."""
AHEAD: Final[Micros] = 3_600 * SECOND
"""How long anybody may wait in place for a token that he has taken."""
TURN: Final = 1 << 20
"""What a turn adds to the virtual time of a line of weight 1."""

_UNITS: Final = {
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
    "m": 60 * SECOND,
    "min": 60 * SECOND,
    "minute": 60 * SECOND,
    "h": 3_600 * SECOND,
    "hour": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "day": 86_400 * SECOND,
}
_SHOWN: Final = {SECOND: "s", 60 * SECOND: "min", 3_600 * SECOND: "h", 86_400 * SECOND: "day"}
_RATE: Final = re.compile(r"(\d{1,12})\s*/\s*([a-z]+)")


class RateLimit(msgspec.Struct, frozen=True):
    """So many in a time, and never more than ``burst`` of them at one moment: in any span t no more than ``burst`` + rate * t."""

    count: int
    per: Micros
    burst: int

    @property
    def step(self) -> Nanos:
        """The time in which one token comes, rounded up: never faster than was said."""
        return -(-self.per * 1_000 // self.count)

    def __str__(self) -> str:
        return f"{self.count}/{_SHOWN[self.per]}"


def rate_limit(text: object, what: str, burst: object = None) -> RateLimit:
    """Read ``"100/s"``, ``"5/min"``, ``"30/h"`` or ``"1000/day"``. The burst is what a second brings, if it is not given; at least 1.

    >>> rate_limit("100/s", "rate"), rate_limit("5/min", "rate").burst
    (RateLimit(count=100, per=1000000, burst=100), 1)

    Raises `InvalidOption`, naming ``what``.
    """
    found = _RATE.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if found is None or found[2] not in _UNITS:
        raise InvalidOption(
            f"{what} must be a rate such as '100/s', '5/min', '30/h' or '1000/day', not {quoted(text)}."
        )
    count, per = int(found[1]), _UNITS[found[2]]
    if not 1 <= count <= MOST_RATE:
        raise InvalidOption(
            f"{what} must be from 1 to {MOST_RATE:,} in a unit of time, not {quoted(text)}: for more, leave it out."
        )
    if burst is None:
        return RateLimit(count, per, max(1, count * SECOND // per))
    return RateLimit(count, per, check_count(burst, f"{what}'s burst", 1, MOST_RATE))


def tokens(rate: RateLimit, full: Nanos, now: Instant, ahead: Micros = 0) -> int:
    """How many may begin at ``now``. ``full``: when the bucket would be full again; ``ahead``: how far ahead it may have been spent."""
    return max(rate.burst - -(-_missing(rate, full, now, ahead) // rate.step), 0)


def spent(rate: RateLimit, full: Nanos, now: Instant, number: int, ahead: Micros = 0) -> Nanos:
    """When a bucket will be full that gives out so many at ``now``."""
    return now * 1_000 + _missing(rate, full, now, ahead) + number * rate.step


def when(rate: RateLimit, full: Nanos, now: Instant, number: int = 1, ahead: Micros = 0) -> Instant:
    """The moment at which so many (up to the burst) can be had, if nobody else takes any; ``now`` or later."""
    short = _missing(rate, full, now, ahead) - (rate.burst - number) * rate.step
    return now + max(-(-short // 1_000), 0)


def _missing(rate: RateLimit, full: Nanos, now: Instant, ahead: Micros) -> Nanos:
    """What it takes to fill. Never more than the whole bucket: else the clock was set back since, or the rate was another."""
    return min(max(full - now * 1_000, 0), rate.burst * rate.step + ahead * 1_000)


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for the messages of one queue, over all processes; None and False: that is not limited.

    ``rate``: of those that begin; ``rate_per_key``: of those of one key. ``concurrency``: that run at once; ``per_key``: of one key.
    ``ordered``: those of one key run one at a time, in the order of a queue, and what is to be tried again keeps its place. ``fair``: keys
    take turns, whatever their backlog; ``weights``: turns by key, where it is not one.
    """

    rate: RateLimit | None = None
    rate_per_key: RateLimit | None = None
    concurrency: int | None = None
    per_key: int | None = None
    ordered: bool = False
    fair: bool = False
    weights: dict[str, int] = {}

    @property
    def keyed(self) -> bool:
        """Whether messages with a key stand in its line."""
        return self.ordered or self.per_key is not None or self.rate_per_key is not None or self.fair

    @property
    def places(self) -> int | None:
        """How many of one key run at once."""
        return 1 if self.ordered else self.per_key

    def weight(self, key: str) -> int:
        """How many turns a key has where others have one."""
        return self.weights.get(key, 1)


class Place(NamedTuple):
    """A line of a queue: of a ``key``, or of a task's ``name`` that has no key here. Both empty: of all that have no key."""

    key: str = ""
    name: str = ""


class Line(NamedTuple):
    """How a line is: how many run; whether one is between two tries; when its bucket is full."""

    running: int = 0
    held: bool = False
    full: Nanos = 0


class Stand(NamedTuple):
    """How many of a line may stand ready; and when it may be more (None: when one of its messages moves)."""

    number: int
    due: Instant | None = None


class Rules(msgspec.Struct, frozen=True):
    """What holds in one queue: its rule, and how many tasks of some names run at once (``most``)."""

    rule: Rule = Rule()
    most: dict[str, int] = {}

    def place(self, key: str | None, name: str) -> Place | None:
        """The line in which a message stands; None if it stands in none."""
        if key is not None and self.rule.keyed:
            return Place(key)
        if self.rule.fair:
            return Place()
        return Place(name=name) if name in self.most else None

    def stand(self, place: Place, line: Line, now: Instant) -> Stand:
        """How many of a line may stand ready at ``now``. Whatever stands may be taken: so what runs and what stands keep the rule.

        >>> Rules(Rule(per_key=2)).stand(Place("k"), Line(running=1), 0)
        Stand(number=1, due=None)
        """
        if not place.key:
            most = self.most.get(place.name)
            return Stand(WINDOW if most is None else min(max(most - line.running, 0), WINDOW))
        rule = self.rule
        if rule.ordered and (line.running or line.held):
            return Stand(0)
        number = WINDOW if rule.places is None else min(max(rule.places - line.running, 0), WINDOW)
        if (rate := rule.rate_per_key) is None or not number:
            return Stand(number)
        there = tokens(rate, line.full, now)
        if there >= min(number, rate.burst):
            return Stand(min(number, there))
        return Stand(there, when(rate, line.full, now, there + 1))


FREE: Final = Rules()
"""Nothing is limited."""
