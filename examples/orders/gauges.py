"""Rates, backlogs and ages, from what the store counts. No I/O: samples go in, readings come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from examples.orders import shop
from forebay.model.state import FINISHED, WAITING, State
from forebay.model.when import seconds

if TYPE_CHECKING:
    from forebay.model.query import Counts, QueueCounts
    from forebay.model.when import Instant

GROUPS: Final = ("billing", "stock", "analytics", "receipts", "packing")
"""Who subscribes to events."""
SHOWN: Final = (*GROUPS, "parcels")
"""What is shown: their queues, and the one of the parcels' flows."""
WINDOW: Final = 2.0
"""Rates are taken over this many seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One queue at one moment, of a group or by its name. Rates are a second, ``oldest`` is in seconds and None when nothing waits."""

    group: str
    topic: str
    rate_in: float
    rate_out: float
    waiting: int
    in_hand: int
    to_retry: int
    dead: int
    done: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class _Sample:
    at: Instant
    arrived: dict[str, int]
    gone: dict[str, int]


class Gauges:
    """Keeps the last few samples, for the rates, and the whole course of one backlog, for the picture."""

    __slots__ = ("_samples", "course", "lost_leases", "readings")

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=50)
        self.readings: dict[str, Reading] = {}
        self.course: list[tuple[float, int]] = []
        self.lost_leases = 0

    def add(self, counts: Counts, elapsed: float) -> None:
        """Take in what the store has just counted, ``elapsed`` seconds into the demo."""
        self.lost_leases = counts.counters.get("crashed", 0)
        # The clock goes on sending stock counts: they are nothing to wait for.
        queues = {
            queue.group or queue.queue: queue for queue in counts.queues if queue.queue != shop.COUNTING
        }
        arrived = {group: sum(queue.states.values()) for group, queue in queues.items()}
        gone = {group: _sum(queue, FINISHED) for group, queue in queues.items()}
        self._samples.append(_Sample(counts.now, arrived, gone))
        past = self._past(counts.now)
        span = max(seconds(counts.now - past.at), 0.001)
        for group, queue in queues.items():
            rate_in = (arrived[group] - past.arrived.get(group, 0)) / span
            rate_out = (gone[group] - past.gone.get(group, 0)) / span
            self.readings[group] = _reading(group, queue, counts.now, rate_in, rate_out)
        if "billing" in self.readings:
            self.course.append((elapsed, self.readings["billing"].waiting))

    @property
    def subscribed(self) -> bool:
        """Whether every group has its queue: from then on no event misses anybody."""
        return self.readings.keys() >= set(GROUPS)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return all(reading.waiting + reading.in_hand == 0 for reading in self.readings.values())

    @property
    def backlog(self) -> int:
        """How many orders wait for billing."""
        return self.course[-1][1] if self.course else 0

    @property
    def peak(self) -> int:
        """The most orders that ever waited for billing."""
        return max((waiting for _, waiting in self.course), default=0)

    @property
    def dead(self) -> int:
        """How many have been given up."""
        return sum(reading.dead for reading in self.readings.values())

    @property
    def finished(self) -> int:
        """How many deliveries have come to an end."""
        return sum(reading.done + reading.dead for reading in self.readings.values())

    def _past(self, now: Instant) -> _Sample:
        """The newest sample that is at least a window old, or else the oldest there is."""
        for sample in reversed(self._samples):
            if seconds(now - sample.at) >= WINDOW:
                return sample
        return self._samples[0]


def _reading(group: str, queue: QueueCounts, now: Instant, rate_in: float, rate_out: float) -> Reading:
    return Reading(
        group=group,
        topic=queue.pattern or "its flows",
        rate_in=rate_in,
        rate_out=rate_out,
        waiting=_sum(queue, WAITING),
        in_hand=queue.states.get(State.RUNNING, 0),
        to_retry=queue.states.get(State.RETRYING, 0),
        dead=queue.states.get(State.DEAD, 0),
        done=queue.states.get(State.SUCCEEDED, 0),
        oldest=None if queue.oldest_ready is None else max(0.0, seconds(now - queue.oldest_ready)),
    )


def _sum(queue: QueueCounts, states: frozenset[State]) -> int:
    return sum(queue.states.get(state, 0) for state in states)
