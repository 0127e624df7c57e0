"""A bus in memory that behaves as badly as a legal bus may, on purpose and on cue: what holds in front of it holds in front of any.

It remembers nothing, so it can refuse no duplicate; it has no timers, so what should wait comes back at once; it has no fence, so whoever
held a message once may end it; and it may break off before, after or in the middle of any write. Its leases are of any kind there is.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.codec.carried import Carried, read_carried, with_carried, without_carried
from forebay.engine import (
    NOTHING,
    Delivery,
    Durability,
    EngineOptions,
    LeaseKind,
    Losses,
    Notice,
    Published,
    Ready,
    Settled,
    Settlement,
    Stored,
    Traits,
    check_sources,
)
from forebay.errors import EngineUnavailable, NotOpen, OutcomeUnknown, Unsupported
from forebay.model.effect import effect
from forebay.model.message import DEFAULT_PRIORITY, EntryId, Message, entry_id
from forebay.model.names import matches
from forebay.model.state import FINISHED, State
from forebay.stores.signals import Signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

    from forebay.engine import Ask, Source, Topic
    from forebay.model.query import Progress
    from forebay.model.when import Instant, Micros
    from forebay.support.clock import Clock
    from forebay.support.ids import Token


@dataclass(frozen=True, slots=True)
class HostileQueue:
    """What only a hostile bus has (`Source.native`). ``redeliveries``: so often it delivers a copy again; then that is a dead letter."""

    redeliveries: int


TRAITS: Final = Traits(
    engine="hostile",
    durability=Durability.NOTHING,
    fan_out=True,
    exact=True,
    virtual_clock=True,
    native=HostileQueue,
)
NEVER: Final[Instant] = 1 << 62
"""When a lease is over that hangs on its connection."""


class Fault(StrEnum):
    """What goes wrong with one call.

    ``REFUSE``: it certainly did not happen (`EngineUnavailable`). ``LOSE_CALL``: it did not happen, ``LOSE_REPLY``: it did, and the
    caller is told neither (`OutcomeUnknown`). ``HALVE``: half of it happened: of a batch the first half was published, and of all but
    the first half of that the answer is UNKNOWN; of a settled batch what leaves before the acknowledgements, and none of these
    (`OutcomeUnknown`). ``UNROUTE``: the second half of a published batch finds no queue. ``DOUBLE``: what was published is there twice;
    what was received is handed to somebody else as well. ``CUT``: it did happen, and with the connection went the reply, and the leases
    that hang on it.
    """

    REFUSE = "refuse"
    LOSE_CALL = "lose-call"
    LOSE_REPLY = "lose-reply"
    HALVE = "halve"
    DOUBLE = "double"
    CUT = "cut"
    UNROUTE = "unroute"


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
        """For ever, each call fails in some way with probability ``rate``; the same seed fails in the same ways. That there is no queue
        is an answer and no failure, so UNROUTE is not among them.
        """

        def plan(kind: str) -> Iterator[Fault | None]:
            dice = random.Random(f"{kind} {seed}")
            faults = [fault for fault in Fault if fault is not Fault.UNROUTE]
            while True:
                yield dice.choice(faults) if dice.random() < rate else None

        return cls(plan("publish"), plan("receive"), plan("settle"))

    def draw(self, kind: str) -> Fault | None:
        """What goes wrong with the next call of this kind."""
        return next(self._plans[kind], None)


@dataclass(slots=True, eq=False)
class _Copy:
    """One copy of a message in one queue. Its number is the bus's own name for it, as a delivery tag is; ``message`` is as it goes over the
    wire, with what it carries. ``lost``: how often the bus had to deliver it again.
    """

    number: int
    id: EntryId
    message: Message
    queue: str
    put: Instant
    lost: int = 0


@dataclass(slots=True)
class _Held:
    copy: _Copy
    broker: HostileBroker
    received: Instant
    until: Instant


class HostileBus:
    """An in-memory bus for tests of whatever must survive a real one.

    ``lease``: of what kind its leases are. With a connection they end when it is cut (`cut`) or closed, and settlements of what it had are
    stale; else they end when their time is up, and nobody is told. A Retry or Snooze is a new copy that comes back at once, whatever time
    it names; Dead goes to ``<queue>.dead``. What is left in its queues is in `queued`.

    >>> bus = HostileBus(Faults(publish=[Fault.LOSE_REPLY]), lease=LeaseKind.CONNECTION)
    >>> bus.queued("billing.orders.placed")
    ()
    """

    def __init__(
        self,
        faults: Faults | None = None,
        options: EngineOptions = EngineOptions(),  # noqa: B008  # frozen value
        *,
        lease: LeaseKind = LeaseKind.TOKEN,
    ) -> None:
        self.faults = faults or Faults()
        self.options = options
        self._tethered = lease is LeaseKind.CONNECTION
        self._traits = replace(TRAITS, lease=lease, fences=self._tethered)
        self.lock = threading.Lock()
        self.signals = Signals()
        self.bindings: dict[str, Source] = {}
        self.ready: dict[str, deque[_Copy]] = {}
        self.held: dict[tuple[Token, int], _Held] = {}
        self.settled: set[tuple[Token, int]] = set()
        self.alive: set[int] = set()
        self.numbers = count(1)

    @property
    def traits(self) -> Traits:
        """Next to nothing."""
        return self._traits

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
            return tuple(_as_sent(copy.message) for copy in self.ready.get(queue, ()))

    def cut(self) -> None:
        """Break all connections. Those who hold something by one have lost it, and are told."""
        with self.lock:
            for broker in {held.broker for held in self.held.values()}:
                self.lose(broker)
        self.tell(Losses())

    def tell(self, *news: Topic) -> None:
        """Wake whoever waits for a queue that has something."""
        with self.lock:
            queues = [queue for queue, ready in self.ready.items() if ready]
        self.signals.notify([*map(Ready, queues), *news])

    # -- everything below is called under the lock

    def put(self, message: Message, now: Instant) -> Published:
        """A copy into the message's queue, or into every queue bound to its topic. It carries nothing, whatever its sender says."""
        message = replace(message, headers=without_carried(message.headers))
        copies = (
            [(message.queue, EntryId(message.id))]
            if message.queue is not None
            else [
                (queue, entry_id(message.id, queue, copied=True))
                for queue, source in self.bindings.items()
                if source.pattern is not None and matches(source.pattern, message.topic or "")
            ]
        )
        for queue, key in copies:
            self._add(message, queue, key, now)
        return Published(Stored.STORED if copies else Stored.UNROUTED, EntryId(message.id))

    def _add(self, message: Message, queue: str, key: EntryId, now: Instant) -> None:
        copy = _Copy(next(self.numbers), key, message, queue, now)
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
        until = NEVER if self._tethered else now + self.options.timing.lease
        for ask in asks:
            ready = self.ready.setdefault(ask.source.queue, deque())
            if ask.token not in used:
                for copy in [ready.popleft() for _ in range(min(ask.limit, room, len(ready)))]:
                    self.held[ask.token, copy.number] = _Held(copy, broker, now, until)
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
            self.redeliver(self.held.pop(key).copy)

    def lose(self, broker: HostileBroker) -> None:
        """A connection is gone, and what hangs on it."""
        if self._tethered:
            for key in [key for key, held in self.held.items() if held.broker is broker]:
                self.redeliver(self.held.pop(key).copy)

    def redeliver(self, copy: _Copy) -> None:
        """Back to the front, unless it is there already or was acknowledged meanwhile. The bus counts, and knows no more than that."""
        copy.lost += 1
        native = self.bindings[copy.queue].native if copy.queue in self.bindings else None
        if isinstance(native, HostileQueue) and copy.lost > native.redeliveries:
            self.alive.discard(copy.number)
            dead = f"{copy.queue}.dead"
            self._add(replace(copy.message, queue=dead, topic=None), dead, EntryId(copy.message.id), copy.put)
            return
        ready = self.ready.setdefault(copy.queue, deque())
        if copy.number in self.alive and copy not in ready:
            ready.appendleft(copy)

    def answer(self, delivery: Delivery) -> Settled | None:
        """The answer to a settlement that changes nothing; None for one that is to be carried out.

        With leases that have no fence that is any: the bus knows the copy by its number, and has no idea who lost it.
        """
        key = (delivery.token, _number(delivery))
        if not self._tethered or key in self.held:
            return None
        return Settled.OK if key in self.settled else Settled.STALE

    def send(self, settlement: Settlement, now: Instant) -> None:
        """What leaves before the acknowledgement: what follows, and the new copy that a retry, or a dead letter, is."""
        delivery, queue = settlement.delivery, settlement.delivery.source.queue
        change = effect(
            settlement.verdict, crashes=delivery.crashes, most_crashes=self.options.timing.crashes, now=now
        )
        if change.state is State.SUCCEEDED:
            for message in settlement.then:
                self.put(message, now)
        elif change.state is State.DEAD:
            queue = f"{queue}.dead"
            dead = replace(delivery.message, queue=queue, topic=None)
            self._add(dead, queue, EntryId(dead.id), now)
        elif change.state not in FINISHED:
            carried = Carried(
                attempts=delivery.attempts, crashes=delivery.crashes, releases=delivery.releases, created=delivery.created,
                unknown_since=delivery.unknown_since,
            ).after(change, now)  # fmt: skip
            message = replace(delivery.message, headers=with_carried(delivery.message.headers, carried))
            self._add(message, queue, delivery.id, now)

    def acknowledge(self, delivery: Delivery) -> None:
        """The copy has ended, whoever says so."""
        number = _number(delivery)
        self.settled.add((delivery.token, number))
        self.alive.discard(number)
        for queue, ready in self.ready.items():
            self.ready[queue] = deque(copy for copy in ready if copy.number != number)
        for key in [key for key in self.held if key[1] == number]:
            del self.held[key]

    def renew(self, batch: Sequence[Delivery], under_way: Collection[Token], now: Instant) -> None:
        """Renew what is named, what a receive that is under way has taken, and by a token its young siblings."""
        named = {(delivery.token, _number(delivery)) for delivery in batch}
        tokens = {token for token, _ in named} if self._traits.lease is LeaseKind.TOKEN else set()
        lease = self.options.timing.lease
        for key, held in self.held.items():
            young = key[0] in tokens and now < held.received + lease
            if not self._tethered and (key in named or key[0] in under_way or young):
                held.until = now + lease


class HostileBroker:
    """One loop's face of a `HostileBus`."""

    def __init__(self, bus: HostileBus, worker: str, clock: Clock) -> None:
        self.worker = worker
        self._bus, self._clock, self._open = bus, clock, False

    @property
    def traits(self) -> Traits:
        """Next to nothing."""
        return self._bus.traits

    async def declare(self, sources: Sequence[Source]) -> None:
        """Open, and bind the queues of ``sources``."""
        check_sources(sources, self.traits)
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
            part = batch[: len(batch) // 2] if fault in (Fault.HALVE, Fault.UNROUTE) else batch
            answers = [self._bus.put(message, now) for message in part]
            if fault is Fault.DOUBLE:
                answers = [self._bus.put(message, now) for message in part]
        self._bus.tell()
        if fault is Fault.HALVE:
            return _answered(answers[: len(part) // 2], batch, Stored.UNKNOWN)
        self._after(fault, "publish")
        return _answered(answers, batch, Stored.UNROUTED)

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
        self._after(fault, "receive")
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
        """Send what follows and what comes again, then acknowledge."""
        for message in (message for settlement in batch for message in settlement.then):
            _check(message, None)
        now = self._now()
        with self._bus.lock:
            fault = _before(self._bus.faults.draw("settle"), "settle")
            answers = [self._bus.answer(settlement.delivery) for settlement in batch]
            due = [s for s, answer in zip(batch, answers, strict=True) if answer is None]
            for settlement in due:
                self._bus.send(settlement, now)
            if fault is not Fault.HALVE:
                for settlement in due:
                    self._bus.acknowledge(settlement.delivery)
        self._bus.tell()
        self._after(fault, "settle")
        return [answer or Settled.OK for answer in answers]

    async def extend(
        self,
        batch: Sequence[Delivery],
        *,
        under_way: Sequence[Token] = (),
        progress: Mapping[EntryId, Progress] = NOTHING,
    ) -> Sequence[Notice]:
        """Renew what is still held, if there is a way to, and say so of everything, unless its connection is known to be gone."""
        now = self._now()
        with self._bus.lock:
            self._bus.renew(batch, under_way, now)
            lost = [self._bus.answer(delivery) is not None for delivery in batch]
        return [Notice.LOST if gone else Notice.KEPT for gone in lost]

    async def watch(self, topic: Topic) -> AsyncIterator[None]:
        """Of `Losses`, with leases that hang on a connection."""
        if self._bus.traits.lease is not LeaseKind.CONNECTION or topic != Losses():
            raise Unsupported(
                "A hostile bus tells of nothing but lost connections, with lease=LeaseKind.CONNECTION: ask it again instead."
            )
        with self._bus.signals.listening(topic) as event:
            while True:
                event.clear()
                yield
                await event.wait()

    async def close(self) -> None:
        """Let go: what hangs on this connection is handed to others at once."""
        self._open = False
        with self._bus.lock:
            self._bus.lose(self)
        self._bus.tell()

    def _after(self, fault: Fault | None, call: str) -> None:
        """Break off after something was done."""
        if fault is Fault.CUT:
            with self._bus.lock:
                self._bus.lose(self)
            self._bus.tell(Losses())
        if fault in (Fault.LOSE_REPLY, Fault.HALVE, Fault.CUT):
            raise _unknown(call)

    def _now(self) -> Instant:
        if not self._open:
            raise NotOpen("The bus is not open: call declare() first, or use 'async with app:'.")
        return self._clock.now()


def _number(delivery: Delivery) -> int:
    """The bus's own name for the copy; one that was made up from an id has none."""
    return delivery.native if isinstance(delivery.native, int) else 0


def _as_sent(message: Message) -> Message:
    return replace(message, headers=without_carried(message.headers))


def _delivery(held: _Held, source: Source, token: Token) -> Delivery:
    copy, carried = held.copy, read_carried(held.copy.message.headers)
    return Delivery(
        id=copy.id, message=_as_sent(copy.message), source=source, token=token, received=held.received,
        created=copy.put if carried.created is None else carried.created, attempts=carried.attempts, crashes=carried.crashes + copy.lost,
        releases=carried.releases, unknown_since=carried.unknown_since, native=copy.number,
    )  # fmt: skip


def _check(message: Message, tx: object | None) -> None:
    """Refuse what was not promised."""
    asked = {
        "timers: send without delay or due, or through a store with an outbox": message.due is not None,
        "expiry: send without expires, or through a store": message.expires is not None,
        "priorities: leave priority as it is, or use a queue for each": message.priority != DEFAULT_PRIORITY,
        "memory, so no unique keys: send without unique, or through a store": message.unique is not None,
        "memory, so no flows: send its tasks one by one, or through a store": message.step is not None,
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


def _answered(answers: Sequence[Published], batch: Sequence[Message], rest: Stored) -> Sequence[Published]:
    """The answers that there are, and the same one for the rest of a batch."""
    return [*answers, *(Published(rest, EntryId(message.id)) for message in batch[len(answers) :])]


def _unknown(call: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The hostile bus broke off during {call}: it may or may not have happened; call again with the same ids."
    )
