"""Rules of queues and tasks: how much of a kind may begin in a time, run at once, and in what order. Values and arithmetic, pure.

A rate is a token bucket, kept as one number: the instant at which it would be full again (GCRA, the generic cell rate algorithm of ITU-T
I.371, as "theoretical arrival time"). It counts in nanoseconds, so that no rate is out by more than a ten thousandth.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias, TypedDict, cast

import msgspec

from forebay.errors import InvalidOption, quoted
from forebay.model.amounts import check_count
from forebay.model.names import check_text
from forebay.model.waits import ForLine, ForRoom, ForTokens, Waits
from forebay.model.when import SECOND, Instant, Micros

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
MOST_AHEAD: Final = 1_000
"""Messages before one in line are counted no further."""
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
_RATE: Final = re.compile(r"([0-9]{1,12})\s*/\s*([a-z]+)")


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


class Settings(TypedDict, total=False):
    """What may be said of the rule of a queue, in code and while it runs. Rates are text such as ``"100/s"``; bursts are what may begin
    at one moment, what a second brings if they are not given; the rest is as in `Rule`.
    """

    rate: str | None
    burst: int | None
    rate_per_key: str | None
    burst_per_key: int | None
    concurrency: int | None
    per_key: int | None
    ordered: bool
    fair: bool
    weights: Mapping[str, int] | None


def rule_of(given: Settings, where: str = "") -> Rule:
    """The rule that settings say.

    >>> rule_of({"rate": "100/s", "per_key": 2})
    Rule(rate=RateLimit(count=100, per=1000000, burst=100), per_key=2)

    Raises `InvalidOption`, naming ``where``, for what cannot be.
    """
    changes: dict[str, object] = {}
    for name in ("rate", "rate_per_key"):
        burst = "burst" if name == "rate" else "burst_per_key"
        rate, most = given.get(name), given.get(burst)
        if rate is not None:
            changes[name] = rate_limit(rate, f"{where}{name}", most)
        elif most is not None:
            raise InvalidOption(f"{where}{burst} goes with {name}=, such as {name}='100/s'.")
    for name in ("concurrency", "per_key"):
        if (number := given.get(name)) is not None:
            changes[name] = check_count(number, f"{where}{name}", 1, MOST_AT_ONCE)
    for name in ("ordered", "fair"):
        if not isinstance(flag := given.get(name, False), bool):
            raise InvalidOption(f"{where}{name} must be True or False, not {quoted(flag)}.")
        changes[name] = flag
    if weights := given.get("weights"):
        if not changes["fair"]:
            raise InvalidOption(f"{where}weights are turns of keys: they go with fair=True.")
        changes["weights"] = _weights(weights, where)
    return msgspec.structs.replace(Rule(), **changes)


def _weights(given: object, where: str) -> dict[str, int]:
    what = f"{where}weights"
    if not isinstance(given, Mapping) or len(given) > MOST_WEIGHTS:
        raise InvalidOption(
            f"{what} must map keys to whole numbers, {MOST_WEIGHTS:,} at most, not {quoted(given)}."
        )
    return {
        check_text(key, f"a key of {what}"): check_count(weight, f"{what}[{key!r}]", 1, HEAVIEST)
        for key, weight in given.items()
    }


class Override(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said of a queue while it ran, over what its code says: a note of the kind `RULE` under the queue's name. ``said``: the
    settings, as they were written; None: that is not limited. ``whose``: who has said each of them last, and when.
    """

    said: dict[str, str | int | bool | dict[str, int] | None]
    whose: dict[str, tuple[str, Instant]] = {}


RULE: Final = "rule"
"""The kind of note that holds an `Override`."""
_OVERRIDE: Final = msgspec.json.Decoder(Override)


def override_of(body: bytes | None) -> Override | None:
    """Read a note of the kind `RULE`. Raises `InvalidOption` for one that says nothing that could hold."""
    if body is None:
        return None
    try:
        found = _OVERRIDE.decode(body)
    except msgspec.MsgspecError as error:
        raise InvalidOption(
            f"A note of the kind {RULE!r} says what holds in a queue, and this one does not: {error}."
        ) from error
    check_settings(found.said)
    return found


def read_override(body: bytes | None) -> Override | None:
    """What a note of the kind `RULE` says; None for one that cannot be read, as of a later version: what the code says holds then."""
    try:
        return override_of(body)
    except InvalidOption:
        return None


def check_settings(said: Mapping[str, object]) -> None:
    """Raise `InvalidOption` for settings that do not exist, or cannot be whatever they are said over."""
    for name, value in said.items():
        if name not in Settings.__annotations__:
            near = difflib.get_close_matches(name, Settings.__annotations__, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"there are {', '.join(Settings.__annotations__)}."
            )
            raise InvalidOption(f"A queue has no setting {quoted(name)}: {hint}")
        if name in ("burst", "burst_per_key"):
            if value is not None:
                check_count(value, name, 1, MOST_RATE)
        else:
            alone = {name: value, "fair": True} if name == "weights" else {name: value}
            rule_of(cast("Settings", alone))


def over(rule: Rule, override: Override | None) -> Rule:
    """What holds where ``override`` was said over ``rule``. What does not go together, as a burst without a rate, is left out.

    >>> over(Rule(per_key=2, ordered=True), Override(said={"rate": "5/min", "ordered": False}))
    Rule(rate=RateLimit(count=5, per=60000000, burst=1), per_key=2)
    """
    if override is None:
        return rule
    said = {**settings_of(rule), **override.said}
    for name, burst in (("rate", "burst"), ("rate_per_key", "burst_per_key")):
        if said.get(name) is None or (name in override.said and burst not in override.said):
            said.pop(burst, None)
    if not said.get("fair"):
        said.pop("weights", None)
    return rule_of(cast("Settings", said))


def settings_of(rule: Rule) -> dict[str, object]:
    """A rule as what may be said of it; what is not limited is left out.

    >>> settings_of(Rule(rate=rate_limit("100/s", "rate"), fair=True))
    {'rate': '100/s', 'burst': 100, 'fair': True}
    """
    found: dict[str, object] = {}
    for name, burst, rate in (
        ("rate", "burst", rule.rate),
        ("rate_per_key", "burst_per_key", rule.rate_per_key),
    ):
        if rate is not None:
            found |= {name: str(rate), burst: rate.burst}
    found |= {
        name: value for name in ("concurrency", "per_key") if (value := getattr(rule, name)) is not None
    }
    found |= {name: True for name in ("ordered", "fair") if getattr(rule, name)}
    return found | ({"weights": dict(rule.weights)} if rule.weights else {})


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


class Room(NamedTuple):
    """How a queue with rules is: how many more may be taken of it, and when its bucket has another token; None: that is not limited.
    ``full``: whether tasks of a name may not run now.
    """

    more: int | None = None
    refill: Instant | None = None
    full: bool = False


def waits_for_room(queue: str, name: str, rules: Rules, room: Room) -> Waits | None:
    """What a message waits for that is ready in a queue with rules, if that is not a worker.

    >>> waits_for_room("mail", "job", Rules(Rule(concurrency=5)), Room(more=0))
    ForRoom(of="queue 'mail'", most=5)
    """
    if room.full:
        return ForRoom(of=f"task {name!r}", most=rules.most[name])
    if room.more is None or room.more > 0:
        return None
    if room.refill is not None and rules.rule.rate is not None:
        return ForTokens(of=f"queue {queue!r}", rate=str(rules.rule.rate), until=room.refill)
    return (
        None
        if rules.rule.concurrency is None
        else ForRoom(of=f"queue {queue!r}", most=rules.rule.concurrency)
    )


def waits_in_line(rules: Rules, place: Place, line: Line, ahead: int, due: Instant | None) -> Waits | None:
    """What a message waits for that stands in line with so many ``ahead`` that wait or stand; ``due``: when its line has another token."""
    rule = rules.rule
    if place.name:
        return (
            ForRoom(of=f"task {place.name!r}", most=rules.most[place.name])
            if place.name in rules.most
            else None
        )
    begun = line.running + line.held if rule.ordered else 0
    if ahead or begun:
        return ForLine(key=place.key, ahead=ahead + begun)
    if due is not None and rule.rate_per_key is not None:
        return ForTokens(of=f"key {place.key!r}", rate=str(rule.rate_per_key), until=due)
    return None if rule.places is None else ForRoom(of=f"key {place.key!r}", most=rule.places)


def amended(declared: Rules, override: Override | None) -> Rules:
    """What holds in a queue."""
    return declared if override is None else Rules(over(declared.rule, override), declared.most)
