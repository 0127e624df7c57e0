"""A bus in memory that behaves as badly as a legal bus may, on purpose and on cue: what holds in front of it holds in front of any.

It remembers nothing, so it can refuse no duplicate; it has no timers, so what should wait comes back at once; it has no fence, so whoever
held a message once may end it; and it may break off before, after or in the middle of any write.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.engine import (
    NOTHING,
    Delivery,
    Durability,
    EngineOptions,
    Notice,
    Published,
    Ready,
    Settled,
    Settlement,
    Stored,
    Traits,
)
from forebay.errors import EngineUnavailable, NotOpen, OutcomeUnknown, Unsupported
from forebay.model import verdict as v
from forebay.model.message import DEFAULT_PRIORITY, EntryId, Message, entry_id
from forebay.model.names import matches
from forebay.stores.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from forebay.engine import Ask, Source
    from forebay.model.query import Progress
    from forebay.model.when import Instant, Micros
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

TRAITS: Final = Traits(
    engine="hostile", durability=Durability.NOTHING, fan_out=True, exact=True, virtual_clock=True
)


class Fault(StrEnum):
    """What goes wrong with one call.

    ``REFUSE``: it certainly did not happen (`EngineUnavailable`). ``LOSE_CALL``: it did not happen, ``LOSE_REPLY``: it did, and the
    caller is told neither (`OutcomeUnknown`). ``HALVE``: the same, and half of it happened: the first half of a published batch, or
    the follow-ups of a settlement but not its acknowledgement. ``DOUBLE``: what was published is there twice; what was received is
    handed to somebody else as well.
    """

    REFUSE = "refuse"
    LOSE_CALL = "lose-call"
    LOSE_REPLY = "lose-reply"
    HALVE = "halve"
    DOUBLE = "double"


@dataclass(slots=True)
class Faults:
    """What goes wrong, and when: for each kind of call one fault (or None) per call, in order; when they are used up, nothing does.

    >>> faults = Faults(settle=[None, Fault.LOSE_REPLY])
    >>> [faults.draw("settle") for _ in range(3)]
    [None, <Fault.LOSE_REPLY: 'lose-reply'>, None]
    """

    publish: Iterable[Fault | None] = ()
    receive: Iterable[Fault | None] = ()
    settle: Iterable[Fault | None] = ()
    _plans: dict[str, Iterator[Fault | None]] = field(init=False)

    def __post_init__(self) -> None:
        self._plans = {
            "publish": iter(self.publish),
            "receive": iter(self.receive),
            "settle": iter(self.settle),
        }

    @classmethod
    def seeded(cls, seed: int, rate: float = 0.1) -> Faults:
        """For ever, each call fails in some way with probability ``rate``; the same seed fails in the same ways."""

        def plan(kind: str) -> Iterator[Fault | None]:
            dice, faults = random.Random(f"{kind} {seed}"), list(Fault)
            while True:
                yield dice.choice(faults) if dice.random() < rate else None

        return cls(plan("publish"), plan("receive"), plan("settle"))

    def draw(self, kind: str) -> Fault | None:
        """What goes wrong with the next call of this kind."""
        return next(self._plans[kind], None)


@dataclass(slots=True, eq=False)
class _Copy:
    """One copy of a message in one queue. Its number is the bus's own name for it, as a delivery tag is."""

    number: int
    id: EntryId
    message: Message
    queue: str
    created: Instant
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    unknown_since: Instant | None = None


@dataclass(slots=True)
class _Held:
    copy: _Copy
    broker: HostileBroker
    received: Instant
    until: Instant


class HostileBus:
    """An in-memory bus for tests of whatever must survive a real one.

    A lease ends when its time is up, and also when its broker closes. A Retry or Snooze comes back at once, whatever time it names; Dead
    goes to ``<queue>.dead``. What is left in its queues is in `queued`.

    >>> bus = HostileBus(Faults(publish=[Fault.LOSE_REPLY]))
    >>> bus.queued("billing.orders.placed")
    ()
    """

    def __init__(
        self,
        faults: Faults | None = None,
        options: EngineOptions = EngineOptions(),  # noqa: B008  # frozen value
    ) -> None:
        self.faults = faults or Faults()
        self.options = options
        self.lock = threading.Lock()
        self.signals = Signals()
        self.bindings: dict[str, Source] = {}
        self.ready: dict[str, deque[_Copy]] = {}
        self.held: dict[tuple[Token, int], _Held] = {}
        self.alive: set[int] = set()
        self.numbers = count(1)

    @property
    def traits(self) -> Traits:
        """Next to nothing."""
        return TRAITS

    @property
    def url(self) -> str:
        """Always ``hostile://``."""
        return "hostile://"

    def connect(self, worker: str, clock: Clock) -> HostileBroker:
        """A broker for the running loop."""
        return HostileBroker(self, worker, clock)

    def queued(self, queue: str) -> tuple[Message, ...]:
        """The messages that wait in a queue, held ones not among them."""
        with self.lock:
            return tuple(copy.message for copy in self.ready.get(queue, ()))

    # -- everything below is called under the lock

    def put(self, message: Message, now: Instant) -> Published:
        """A copy into the message's queue, or into every queue bound to its topic."""
        if message.queue is not None:
            self._add(message, message.queue, now, copied=False)
        else:
            for source in self.bindings.values():
                if source.pattern is not None and matches(source.pattern, message.topic or ""):
                    self._add(message, source.queue, now, copied=True)
        return Published(Stored.STORED, EntryId(message.id))

    def _add(self, message: Message, queue: str, now: Instant, *, copied: bool) -> None:
        copy = _Copy(next(self.numbers), entry_id(message.id, queue, copied=copied), message, queue, now)
        self.alive.add(copy.number)
        self.ready.setdefault(queue, deque()).append(copy)

    def take(
        self, broker: HostileBroker, asks: Sequence[Ask], most: int | None, now: Instant
    ) -> list[Delivery]:
        """What the tokens hold already, and what they leave room for from the fronts of the queues."""
        self.drop_lost(now)
        used = {token for token, _ in self.held}
        repeated = sum(token == ask.token for token, _ in self.held for ask in asks)
        room = sum(ask.limit for ask in asks) if most is None else most - repeated
        for ask in asks:
            ready = self.ready.setdefault(ask.source.queue, deque())
            if ask.token not in used:
                for copy in [ready.popleft() for _ in range(min(ask.limit, room, len(ready)))]:
                    self.held[ask.token, copy.number] = _Held(
                        copy, broker, now, now + self.options.timing.lease
                    )
                    room -= 1
        return [
            _delivery(held, ask.source, ask.token)
            for ask in asks
            for (token, _), held in self.held.items()
            if token == ask.token
        ]

    def drop_lost(self, now: Instant) -> None:
        """Redeliver what leases whose time is up still hold."""
        for key in [key for key, held in self.held.items() if held.until <= now]:
            self.redeliver(self.held.pop(key).copy, crashed=True)

    def redeliver(self, copy: _Copy, *, crashed: bool = False) -> None:
        """Back to the front, unless it is there already or was acknowledged meanwhile."""
        copy.crashes += crashed
        ready = self.ready.setdefault(copy.queue, deque())
        if copy.number in self.alive and copy not in ready:
            ready.appendleft(copy)

    def end(self, settlement: Settlement, now: Instant) -> None:
        """Do as the verdict says, whoever asks: the bus knows the copy by its number, and has no idea of a lost lease."""
        delivery, verdict = settlement.delivery, settlement.verdict
        number = _number(delivery)
        if number not in self.alive:
            return
        held = self.held.pop((delivery.token, number), None)
        copy = held.copy if held is not None else self._find(number)
        match verdict:
            case v.Retry() | v.Snooze() | v.Release():
                _note(copy, verdict, now)
                self.redeliver(copy)
                return
            case v.Crashed() if copy.crashes + 1 < self.options.timing.crashes:
                self.redeliver(copy, crashed=True)
                return
            case v.Dead() | v.Crashed():
                dead = f"{copy.queue}.dead"
                self._add(
                    msgspec.structs.replace(copy.message, queue=dead, topic=None), dead, now, copied=False
                )
            case v.Done() | v.Cancelled() | v.Expired():
                pass
        self.alive.discard(number)
        self.ready[copy.queue] = deque(c for c in self.ready.get(copy.queue, ()) if c.number != number)
        for key in [key for key in self.held if key[1] == number]:
            del self.held[key]

    def _find(self, number: int) -> _Copy:
        """A copy that lives: it waits, or others hold it."""
        copies = [held.copy for held in self.held.values()] + [
            copy for ready in self.ready.values() for copy in ready
        ]
        return next(copy for copy in copies if copy.number == number)


class HostileBroker:
    """One loop's face of a `HostileBus`."""

    def __init__(self, bus: HostileBus, worker: str, clock: Clock) -> None:
        self.worker = worker
        self._bus, self._clock, self._open = bus, clock, False

    @property
    def traits(self) -> Traits:
        """Next to nothing."""
        return TRAITS

    async def declare(self, sources: Sequence[Source]) -> None:
        """Open, and bind the queues of ``sources``."""
        if limited := [source.queue for source in sources if source.limit is not None]:
            raise Unsupported(
                f"A hostile bus does not count what waits: declare {', '.join(limited)} without a limit, or use a store."
            )
        self._open = True
        with self._bus.lock:
            self._bus.bindings.update({source.queue: source for source in sources})

    async def publish(self, batch: Sequence[Message], *, tx: object | None = None) -> Sequence[Published]:
        """Store a batch: all of it, some of it, twice, or none."""
        for message in batch:
            _check(message, tx)
        now = self._now()
        with self._bus.lock:
            fault = _before(self._bus.faults.draw("publish"), "publish")
            part = batch[: len(batch) // 2] if fault is Fault.HALVE else batch
            answers = [self._bus.put(message, now) for message in part]
            if fault is Fault.DOUBLE:
                answers = [self._bus.put(message, now) for message in part]
        self._tell()
        _after(fault, "publish")
        return answers

    async def receive(
        self, asks: Sequence[Ask], *, wait: Micros, most: int | None = None
    ) -> Sequence[Delivery]:
        """Take messages for all ``asks``, waiting for the first."""
        self._now()
        with self._bus.lock:
            fault = _before(self._bus.faults.draw("receive"), "receive")
        until = self._clock.monotonic() + wait
        with self._bus.signals.listening(*(Ready(ask.source.queue) for ask in asks)) as event:
            while True:
                event.clear()
                taken = self._look(asks, most, fault)
                left = until - self._clock.monotonic()
                if taken or left <= 0:
                    break
                await self._clock.wait(event, min(left, self._bus.options.timing.sweep))
        _after(fault, "receive")
        return taken

    def _look(self, asks: Sequence[Ask], most: int | None, fault: Fault | None) -> list[Delivery]:
        now = self._now()
        with self._bus.lock:
            taken = self._bus.take(self, asks, most, now)
            if fault is Fault.DOUBLE:
                for delivery in taken:
                    self._bus.redeliver(self._bus.held[delivery.token, _number(delivery)].copy)
            return taken

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Settled]:
        """Send what follows, then acknowledge. Never stale: a bus does not know."""
        for message in (message for settlement in batch for message in settlement.then):
            _check(message, None)
        now = self._now()
        with self._bus.lock:
            fault = _before(self._bus.faults.draw("settle"), "settle")
            for settlement in batch:
                if isinstance(settlement.verdict, v.Done):
                    for message in settlement.then:
                        self._bus.put(message, now)
            if fault is not Fault.HALVE:
                for settlement in batch:
                    self._bus.end(settlement, now)
        self._tell()
        _after(fault, "settle")
        return [Settled.OK] * len(batch)

    async def extend(
        self,
        batch: Sequence[Delivery],
        *,
        under_way: Sequence[Token] = (),
        progress: Mapping[EntryId, Progress] = NOTHING,
    ) -> Sequence[Notice]:
        """Renew what is still held, and say so of everything."""
        now = self._now()
        with self._bus.lock:
            for (token, _), unseen in self._bus.held.items():
                if token in under_way:
                    unseen.until = now + self._bus.options.timing.lease
            for delivery in batch:
                held = self._bus.held.get((delivery.token, _number(delivery)))
                if held is not None:
                    held.until = now + self._bus.options.timing.lease
        return [Notice.KEPT] * len(batch)

    async def close(self) -> None:
        """Let go: what was received here and not settled is handed to others at once."""
        self._open = False
        with self._bus.lock:
            for key in [key for key, held in self._bus.held.items() if held.broker is self]:
                self._bus.redeliver(self._bus.held.pop(key).copy)
        self._tell()

    def _now(self) -> Instant:
        if not self._open:
            raise NotOpen("The bus is not open: call declare() first, or use 'async with app:'.")
        return self._clock.now()

    def _tell(self) -> None:
        with self._bus.lock:
            queues = [queue for queue, ready in self._bus.ready.items() if ready]
        self._bus.signals.notify(map(Ready, queues))


def _number(delivery: Delivery) -> int:
    """The bus's own name for the copy; one that was made up from an id has none."""
    return delivery.native if isinstance(delivery.native, int) else 0


def _delivery(held: _Held, source: Source, token: Token) -> Delivery:
    copy = held.copy
    return Delivery(
        id=copy.id, message=copy.message, source=source, token=token, received=held.received, created=copy.created,
        attempts=copy.attempts, crashes=copy.crashes, releases=copy.releases, unknown_since=copy.unknown_since, native=copy.number,
    )  # fmt: skip


def _note(copy: _Copy, verdict: v.Retry | v.Snooze | v.Release, now: Instant) -> None:
    """Count what a try left behind, in the headers a bus would carry it in."""
    copy.attempts += v.spends_attempt(verdict)
    copy.releases += isinstance(verdict, v.Release)
    if not isinstance(verdict, v.Release):
        unknown = isinstance(verdict, v.Snooze) and verdict.unknown
        copy.unknown_since = (copy.unknown_since or now) if unknown else None


def _check(message: Message, tx: object | None) -> None:
    """Refuse what was not promised."""
    asked = {
        "timers: send without delay or due, or through a store with an outbox": message.due is not None,
        "expiry: send without expires, or through a store": message.expires is not None,
        "priorities: leave priority as it is, or use a queue for each": message.priority != DEFAULT_PRIORITY,
        "memory, so no unique keys: send without unique, or through a store": message.unique is not None,
        "transactions to join: send without tx, or through a store whose outbox does it": tx is not None,
    }
    for lacking, wanted in asked.items():
        if wanted:
            raise Unsupported(f"The hostile bus has no {lacking} (message {message.id!r}).")


def _before(fault: Fault | None, call: str) -> Fault | None:
    """Break off before anything was done."""
    if fault is Fault.REFUSE:
        raise EngineUnavailable(f"The hostile bus refused {call}: nothing happened; call again.")
    if fault is Fault.LOSE_CALL:
        raise _unknown(call)
    return fault


def _after(fault: Fault | None, call: str) -> None:
    """Break off after something was done."""
    if fault in (Fault.LOSE_REPLY, Fault.HALVE):
        raise _unknown(call)


def _unknown(call: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The hostile bus broke off during {call}: it may or may not have happened; call again with the same ids."
    )
