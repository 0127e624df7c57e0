"""How a store's counts are told, whatever it counts them from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.model.query import Counts, QueueCounts
from forebay.model.rule import FREE
from forebay.model.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.model.rule import Rules
    from forebay.model.when import Instant


def counted(
    now: Instant,
    declared: Iterable[tuple[str, bool, str | None, str | None, int | None]],
    found: Iterable[tuple[str, str, int, Instant | None]],
    counters: Mapping[str, int],
    rules: Mapping[str, Rules],
) -> Counts:
    """``declared``: queue, whether it is paused, pattern, group, limit. ``found``: queue, state, how many, since when the oldest of them is
    ready. ``rules``: those in force, by queue.
    """
    states: dict[str, dict[State, int]] = {}
    known = {}
    for queue, paused, pattern, group, limit in declared:
        states[queue] = {}
        known[queue] = QueueCounts(
            queue=queue, states=states[queue], paused=paused, pattern=pattern, group=group, limit=limit
        )
    oldest: dict[str, Instant] = {}
    for queue, state, number, since in found:
        states.setdefault(queue, {})[State(state)] = number
        if since is not None:
            oldest[queue] = since
    queues = [
        replace(
            known.get(queue) or QueueCounts(queue=queue, states=states[queue]),
            oldest_ready=oldest.get(queue),
            rules=rules.get(queue, FREE),
        )
        for queue in sorted(states)
    ]
    return Counts(now=now, queues=tuple(queues), counters=dict(counters))
