"""Adding up what a transaction does, by queue and name: what becomes the rates of its minute. Per-message code."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from forebay.model.state import Event
from forebay.model.survey import MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.engine import Delivery
    from forebay.model.effect import Effect
    from forebay.model.when import Instant, Micros

_ARRIVED, _SUCCEEDED, _FAILED, _DEAD, _RAN = range(5)
_PLACE: Final[Callable[[Delivery], tuple[str, str]]] = attrgetter("source.queue", "message.name")
_RECEIVED: Final[Callable[[Delivery], Instant]] = attrgetter("received")
_COUNTED: Final = {Event.DONE: _SUCCEEDED, Event.RETRY: _FAILED, Event.LOSE: _FAILED, Event.BURY: _DEAD}


class Sums:
    """``places``: by queue and name how many arrived, succeeded, failed and died, and how long they ran. ``wanted``: to be written now."""

    __slots__ = ("places", "wanted")

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], list[int]] = {}
        self.wanted = False

    def _place(self, queue: str, name: str) -> list[int]:
        place = self.places.get((queue, name))
        if place is None:
            place = self.places[queue, name] = [0] * 5
        return place

    def arrive(self, number: Mapping[tuple[str, str], int]) -> None:
        """So many messages were stored, by queue and name."""
        for (queue, name), n in number.items():
            if n:
                self._place(queue, name)[_ARRIVED] += n

    def succeed(self, deliveries: Sequence[Delivery], now: Instant) -> dict[str, int]:
        """These are plainly done; returns how many of each queue."""
        queues: dict[str, int] = {}
        for (queue, name), number in Counter(map(_PLACE, deliveries)).items():
            place = self._place(queue, name)
            place[_SUCCEEDED] += number
            queues[queue] = queues.get(queue, 0) + number
            if number == len(deliveries):
                place[_RAN] += number * now - sum(map(_RECEIVED, deliveries))
                return queues
        for delivery in deliveries:
            self.places[_PLACE(delivery)][_RAN] += now - delivery.received
        return queues

    def end(self, queue: str, name: str, effect: Effect, ran: Micros) -> None:
        """A try ended so. Of one that crashed it is not known how long it ran."""
        column = _COUNTED.get(effect.event)
        if column is None:
            return
        place = self._place(queue, name)
        place[column] += 1
        place[_RAN] += 0 if effect.crashes else ran


def minute_of(now: Instant) -> Instant:
    """When the minute began that ``now`` is in."""
    return now - now % MINUTE
