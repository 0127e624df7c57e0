"""Whether a history keeps the rules of a queue: never too many at once, in a time, or out of order. Judged from what handlers saw alone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from forebay.model.when import SECOND
from forebay.testing.history import Finding, Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.model.rule import RateLimit, Rules
    from forebay.model.when import Instant
    from forebay.testing.history import Event


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Where rules were broken. ``crowded``: more ran at once; ``rushed``: more began in a span; ``disordered``: one began after one that
    was sent later.
    """

    crowded: tuple[Finding, ...] = ()
    rushed: tuple[Finding, ...] = ()
    disordered: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all rules were kept."""
        return not (self.crowded or self.rushed or self.disordered)


def check_rules(history: Iterable[Event], rules: Rules) -> Bounds:
    """Judge the tries of one queue. Their starts say their ``key`` and when they were ``received``.

    A try runs from its start to its finish; one without was cut off, by its node's last word at the latest. Messages of a key were sent in
    the order of their sends.

    >>> from forebay.model.rule import Rule, Rules
    >>> from forebay.testing.history import Event
    >>> two = [Event(t=t, node="w", op=Op.START, id=f"m{t}", key="k", lease="l", received=t) for t in (1, 2)]
    >>> check_rules([*two, Event(t=9, node="w", op=Op.FINISH, id="m1", lease="l")], Rules(Rule(per_key=1))).crowded
    (Finding(id='m2', why="2 of key 'k' at once at 0.000002, and 1 may"),)
    """
    events = sorted(history, key=lambda event: event.t)
    starts = [event for event in events if event.op is Op.START]
    ends = _ends(events)
    by_key: defaultdict[str, list[Event]] = defaultdict(list)
    for start in starts:
        if start.key is not None:
            by_key[start.key].append(start)
    rule = rules.rule
    crowded = [*_crowded(starts, ends, "the queue", rule.concurrency)]
    rushed = [*_rushed(starts, "the queue", rule.rate)]
    disordered: list[Finding] = []
    for key, some in by_key.items():
        crowded += _crowded(some, ends, f"key {key!r}", rule.places)
        rushed += _rushed(some, f"key {key!r}", rule.rate_per_key)
        if rule.ordered:
            disordered += _disordered(some, [event.id for event in events if event.op is Op.SEND])
    return Bounds(crowded=tuple(crowded), rushed=tuple(rushed), disordered=tuple(disordered))


def _ends(events: Sequence[Event]) -> dict[tuple[str, str | None], Instant]:
    """When each try was over, by message and lease."""
    last = {event.node: event.t for event in events}
    ends = {(event.id, event.lease): last[event.node] for event in events if event.op is Op.START}
    return ends | {(event.id, event.lease): event.t for event in events if event.op is Op.FINISH}


def _crowded(
    starts: Sequence[Event], ends: dict[tuple[str, str | None], Instant], where: str, most: int | None
) -> Iterable[Finding]:
    if most is None:
        return
    running: list[Instant] = []
    for start in starts:
        running = [end for end in running if end > start.t]
        running.append(ends[start.id, start.lease])
        if len(running) > most:
            yield Finding(
                start.id, f"{len(running)} of {where} at once at {start.t / SECOND:.6f}, and {most} may"
            )


def _rushed(starts: Sequence[Event], where: str, rate: RateLimit | None) -> Iterable[Finding]:
    """The most that a bucket can be short of: each try takes a token when it is received."""
    if rate is None:
        return
    taken = sorted((start.received or start.t, start.id) for start in starts)
    level, before = 0.0, 0
    for moment, key in taken:
        level = max(level - (moment - before) * rate.count / rate.per, 0.0) + 1
        before = moment
        if level > rate.burst + 1e-6:
            yield Finding(
                key, f"more of {where} than {rate} with a burst of {rate.burst} at {moment / SECOND:.6f}"
            )


def _disordered(starts: Sequence[Event], sent: Sequence[str]) -> Iterable[Finding]:
    place = {key: n for n, key in reversed(list(enumerate(sent)))}
    latest = -1
    for start in starts:
        if (own := place.get(start.id, latest)) < latest:
            yield Finding(
                start.id, f"began at {start.t / SECOND:.6f} after one of its key that was sent later"
            )
        latest = max(latest, own)
