"""What a sender does who meets a full queue: waits for room where that is asked for, and is then told. No policy of the store's own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Stored
from forebay.errors import DuplicateTask, QueueFull, Unrouted
from forebay.model.when import SECOND, Micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from forebay.engine import Full, Published
    from forebay.model.message import Message
    from forebay.support.clock import Clock

FIRST: Final[Micros] = SECOND // 50
"""The first pause between two tries; each is twice as long as the one before, up to the longest, and cut short by half at random."""
LONGEST: Final[Micros] = SECOND // 2


@dataclass(frozen=True, slots=True)
class Backpressure:
    """Waiting for room. ``patience``: the queues for which a sender waits, and how long, in microseconds."""

    clock: Clock
    patience: Mapping[str, Micros]
    roll: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # jitter, not secrets

    async def wait(
        self,
        publish: Callable[[Sequence[Message]], Awaitable[Sequence[Published]]],
        batch: Sequence[Message],
        answers: Sequence[Published],
    ) -> Sequence[Published]:
        """Send what was FULL of a batch again and again, as long as its queue has patience; every one that is stored renews it.

        Tries instead of signals: a signal says that something has ended, not that there is room, and would wake a thousand for one
        place. Cancelled in a pause, nothing more is stored; in a try, that try may be.
        """
        found = list(answers)
        until = dict.fromkeys(self.patience, 0)
        pause = FIRST
        for queue in until:
            until[queue] = self.clock.monotonic() + self.patience[queue]
        while waiting := self._waiting(found, until):
            left = max(until[full.queue] for _, full in waiting) - self.clock.monotonic()
            await self.clock.sleep(min(int(pause * (1 - self.roll() / 2)), left))
            for (n, full), answer in zip(waiting, await publish([batch[n] for n, _ in waiting]), strict=True):
                found[n] = answer
                if answer.status is not Stored.FULL:
                    until[full.queue] = self.clock.monotonic() + self.patience[full.queue]
                    pause = FIRST // 2
            pause = min(2 * pause, LONGEST)
        return found

    def _waiting(self, answers: Sequence[Published], until: Mapping[str, Micros]) -> list[tuple[int, Full]]:
        """What is worth another try."""
        now = self.clock.monotonic()
        return [
            (n, answer.refused)
            for n, answer in enumerate(answers)
            if answer.refused is not None and until.get(answer.refused.queue, 0) > now
        ]


def refusal(full: Full) -> QueueFull:
    """What is raised to whoever sent one message."""
    return QueueFull(
        f"{_described(full)}, and nothing was stored. {_advice(full)}",
        retry_after=full.retry_after,
        queue=full.queue,
        limit=full.limit,
    )


def refusal_of_many(full: Full, handles: Sequence[object]) -> QueueFull:
    """What is raised to whoever sent many, with a handle for each that was stored and None for each that was not."""
    stored = sum(handle is not None for handle in handles)
    return QueueFull(
        f"{_described(full)}: {stored:,} of {len(handles):,} were stored, {len(handles) - stored:,} were not; "
        f".handles of this error says which. {_advice(full)}",
        retry_after=full.retry_after,
        queue=full.queue,
        limit=full.limit,
        handles=handles,
    )


def taken(rejected: Sequence[Published], handles: Sequence[object] = ()) -> DuplicateTask:
    """What is raised to whoever sent what was not to be a duplicate, and is; of many, with a handle for each that was stored."""
    first = rejected[0].id
    what = f"{len(rejected):,} of {len(handles):,} were" if handles else "it was"
    return DuplicateTask(
        f"Task {first} has the unique key already, so that {what} not stored: use that one, wait for its end, or send with another key or "
        "on_conflict='keep'.",
        task_id=first,
        handles=handles,
    )


def unrouted(queues: Sequence[str]) -> Unrouted:
    """What is raised to whoever sent to queues that do not exist."""
    names = ", ".join(map(repr, sorted(set(queues))))
    return Unrouted(
        f"The engine has no queue {names}: {len(queues):,} of what was sent went nowhere. Start the worker that declares it once, "
        "and send that again."
    )


def _described(full: Full) -> str:
    return f"Queue {full.queue!r} is full: its limit of {full.limit:,} waiting messages is reached"


def _advice(full: Full) -> str:
    return f"Try again in {full.retry_after:g} s; if that goes on, start more workers, or raise limit= in the QueueOptions of its App."
