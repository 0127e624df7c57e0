"""What is known of limits without asking the database. Used under the lock, inside a write transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.model.rule import Rules
    from forebay.model.when import Instant

FEW: Final = 500
"""Rows that are counted anew by every batch: it costs less than the tenth part of a commit."""
EACH: Final = 1
"""Microseconds that a larger count is good for, for each row of it. A row takes the thirtieth part of one to count."""
SHARE: Final = 16
"""One part in so many of a limit is let in on one count at most, so that other processes who have counted too are not far out."""


@dataclass(frozen=True, slots=True)
class Cap:
    """A queue's limit, and whether what has expired is dropped first."""

    limit: int
    drops_expired: bool


@dataclass(slots=True)
class Tally:
    """How much waits in a queue, at most, as far as this process has a hand in it; and the count it stands on."""

    cap: Cap
    waiting: int
    counted: int
    at: Instant
    let_in: int = 0

    @property
    def room(self) -> int:
        """Places left, at least; below 0 where the exempt have gone over the limit."""
        return self.cap.limit - self.waiting

    def is_old(self, now: Instant) -> bool:
        """Whether it is time to count again."""
        return (
            self.counted <= FEW
            or not 0 <= now - self.at < self.counted * EACH
            or self.let_in >= self.cap.limit // SHARE
        )

    def let(self, number: int) -> None:
        """So many more are let in."""
        self.waiting += number
        self.let_in += number


@dataclass(slots=True)
class Tallies:
    """The tallies of one process for one file, by queue. Nothing is in here unless a queue with a limit was published to.

    They are changed as a transaction goes, for its own later jobs to see; what is not committed makes them `forget`.
    """

    by_queue: dict[str, Tally] = field(default_factory=dict)

    def grow(self, queues: Iterable[str], number: int = 1) -> None:
        """What no limit holds back has come into these queues: follow-ups, retries, what is handed back or redriven."""
        if not self.by_queue:
            return
        for queue in queues:
            if (tally := self.by_queue.get(queue)) is not None:
                tally.waiting += number

    def forget(self) -> None:
        """A transaction was rolled back, or nobody knows what became of it: whoever asks next counts anew."""
        self.by_queue.clear()


@dataclass(slots=True)
class Caps:
    """The limits and rules as one connection knows them; ``mark`` and ``rules_mark`` say whether they are still so."""

    mark: int = 0
    rules_mark: int = 0
    by_queue: dict[str, Cap] = field(default_factory=dict)
    rules: dict[str, Rules] = field(default_factory=dict)
