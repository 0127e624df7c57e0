"""What all stores do in the same way, over the few things each does in its own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from forebay.engine import Cancels, Noted, Ready
from forebay.errors import InvalidOption, NotOpen, Unsupported
from forebay.model.query import UNKNOWN, HandBack, Pause, Resume, Steered
from forebay.model.unique import MOST_GATHERED, Conflict
from forebay.stores.asked import check_topic, noted, queue_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager

    from forebay.engine import Ask, Delivery, Topic
    from forebay.model.message import EntryId, Message
    from forebay.model.query import Actor, Change, Command, Deed, Selector
    from forebay.model.unique import Hold
    from forebay.model.when import Instant, Micros
    from forebay.stores.signals import Wake
    from forebay.support.clock import Clock


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one look at the queues of a receive took; when the next entry is due; which of its asks took something new."""

    deliveries: list[Delivery] = field(default_factory=list)
    due: Instant | None = None
    fresh: list[Ask] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Told:
    """Who gave a command, what it is, and which messages it is about: kept where it had an effect."""

    by: Actor
    command: Deed
    which: Selector


class Face(ABC):
    """The half of a store that waits and dispatches. A store adds its primitives, and what a `Broker` does at once. A command is kept in
    the transactions that carry it out, if it had an effect.
    """

    poll: ClassVar[Micros | None] = None
    """Whoever waits looks again at least this often, where a signal can be lost."""
    _clock: Clock

    async def receive(
        self, asks: Sequence[Ask], *, wait: Micros, most: int | None = None
    ) -> Sequence[Delivery]:
        """Take messages for all ``asks``, waiting for the first."""
        until = self._clock.monotonic() + wait
        with self._listening(*(Ready(ask.source.queue) for ask in asks)) as event:
            while True:
                event.clear()
                claimed = await self._claim(asks, most)
                left = until - self._clock.monotonic()
                if claimed.deliveries or left <= 0:
                    return claimed.deliveries
                due = left if claimed.due is None else max(claimed.due - self._clock.now(), 0)
                await self._clock.wait(event, min(left, due, left if self.poll is None else self.poll))

    async def watch(self, topic: Topic) -> AsyncIterator[frozenset[EntryId] | None]:
        """Yield at once, whenever something may have happened, and where a signal can be lost now and then (not `Cancels` and `Noted`)."""
        check_topic(topic)
        with self._listening(topic) as wake:
            woken = False
            while True:
                wake.clear()
                ended = wake.take()
                yield ended if woken else None
                woken = await self._clock.wait(
                    wake, None if isinstance(topic, Cancels | Noted) else self.poll
                )

    async def steer(self, which: Selector, command: Command, *, by: Actor = UNKNOWN) -> Steered:
        """Carry out a command, and note who gave it.

        On many messages it may take several transactions: cancelled in between, it has been carried out in part, and repeating it
        does the rest.
        """
        told = Told(by, command, noted(which))
        match command:
            case Pause() | Resume():
                paused = isinstance(command, Pause)
                return Steered(changed=await self._switch(queue_of(which), told, paused=paused))
            case HandBack(worker):
                return Steered(changed=await self._hand_back(worker, told))
            case _:
                return await self._change(which, command, told)

    # -- what a store does in its own way

    @abstractmethod
    def _listening(self, *topics: Topic) -> AbstractContextManager[Wake]:
        """An event that is set at each signal of ``topics``. Raises `NotOpen`."""

    @abstractmethod
    async def _claim(self, asks: Sequence[Ask], most: int | None) -> Claimed:
        """One look, without waiting. Cancelled, it has taken nothing, or has put it back (see `unless_cancelled`)."""

    @abstractmethod
    async def _switch(self, queue: str, told: Told, *, paused: bool) -> int:
        """Pause or resume; 1 if that changed anything."""

    @abstractmethod
    async def _hand_back(self, worker: str, told: Told) -> int:
        """Treat all leases of a dead worker as lost; returns how many messages were under them."""

    @abstractmethod
    async def _change(self, which: Selector, command: Change, told: Told) -> Steered:
        """Pick and change in one transaction, or in several that each pick and change."""


def refuse_transaction(tx: object, engine: str) -> None:
    """Raise `Unsupported` for a transaction of the caller's, where there is nothing to join."""
    if tx is not None:
        raise Unsupported(
            f"{engine} has no transactions to join: send without tx=, or use a PostgreSQL store."
        )


def check_hold(message: Message) -> Hold:
    """How a message holds its key that says so. Raises `InvalidOption` for one that has none, or is no task."""
    if message.hold is None or message.unique is None or message.queue is None or message.topic is not None:
        raise InvalidOption(
            f"Message {message.id!r}: how a unique key is held can be said of a task that has one, and of nothing else."
        )
    hold = message.hold
    if hold.conflict is Conflict.JOIN and (hold.longest is None or not 2 <= hold.most <= MOST_GATHERED):
        raise InvalidOption(
            f"Message {message.id!r}: a group is of 2 to {MOST_GATHERED:,} messages, and waits for so long at the longest."
        )
    return hold


def exclusive(message: Message) -> str | None:
    """The unique key that no other may have beside this message: one that joins others does not mind."""
    joins = message.hold is not None and message.hold.conflict is Conflict.JOIN
    return None if joins else message.unique


async def unless_cancelled(
    claim: asyncio.Future[Claimed], undo: Callable[[Sequence[Ask]], asyncio.Future[None]]
) -> Claimed:
    """The answer of a claim that goes on somewhere else; if its caller is cancelled, what it took has been put back when this ends."""
    try:
        return await asyncio.shield(claim)
    except asyncio.CancelledError:
        await asyncio.shield(_put_back_when_done(claim, undo))
        raise


def _put_back_when_done(
    claim: asyncio.Future[Claimed], undo: Callable[[Sequence[Ask]], asyncio.Future[None]]
) -> Awaitable[None]:
    """Nobody will have what the claim takes. The future ends when that is back, even if nobody waits for it."""
    back: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_: object) -> None:
        if not back.done():
            back.set_result(None)

    def claimed(claim: asyncio.Future[Claimed]) -> None:
        taken = not claim.cancelled() and claim.exception() is None and claim.result()
        # What an earlier receive with these tokens returned is still its caller's.
        if not taken or not taken.fresh:
            done(None)
            return
        try:
            undone = undo(taken.fresh)
        except NotOpen:
            # The store was closed in between: the lease runs out.
            done(None)
        else:
            undone.add_done_callback(lambda f: done(f.cancelled() or f.exception()))

    claim.add_done_callback(claimed)
    return back
