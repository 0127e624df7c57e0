"""What a claim is, and what it is given to prove itself with. No claim is made here."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec

from forebay.engine import (
    Ask,
    Durability,
    EngineOptions,
    LeaseKind,
    Retention,
    Settled,
    Settlement,
    Source,
    Timing,
    Traits,
)
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.state import State
from forebay.model.when import SECOND
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token
from forebay.testing.clock import VirtualClock, eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from forebay.engine import Broker, Delivery, Engine, Published, Store
    from forebay.model.when import Instant, Micros
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

but: Final = msgspec.structs.replace
"""The same message but for the named fields."""
FAILURE: Final = v.Failure("ValueError", "it did not work")
WORK: Final = Source(queue="work")
DEFAULTS: Final = EngineOptions()
REAL_TIMING: Final = Timing(lease=SECOND, heartbeat=SECOND // 4, sweep=SECOND // 4)
"""For engines on clocks that cannot be turned by hand."""


class Factory(Protocol):
    """Makes an engine at a place: a name that stands for one file, schema or prefix, empty when a claim begins.

    Called again with the same place it opens what is there; different places know nothing of each other.
    """

    def __call__(self, place: str, options: EngineOptions) -> Engine:
        """The engine, not yet connected."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim about engines. ``needs`` says from its traits which engines it is about; ``retention`` is what it wants kept."""

    group: str
    check: Callable[[Harness], Awaitable[None]]
    needs: Callable[[Traits], bool]
    retention: Retention = DEFAULTS.retention

    @property
    def name(self) -> str:
        """The claim as a name."""
        return f"{self.group}-{self.check.__name__}"

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class Harness:
    """An engine under test, with short words for what claims do all the time."""

    factory: Factory
    options: EngineOptions
    clock: Clock
    engine: Engine
    place: str = "here"
    _brokers: dict[tuple[str, str], Broker] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def traits(self) -> Traits:
        """What the engine says it can do."""
        return self.engine.traits

    @property
    def tick(self) -> Micros:
        """A delay worth waiting for: a minute of a clock turned by hand, a moment of a real one."""
        return 60 * SECOND if self.traits.virtual_clock else SECOND // 2

    @property
    def wait(self) -> Micros:
        """How long to wait for what should be there."""
        return 0 if self.traits.virtual_clock else 2 * SECOND

    @property
    def lease(self) -> Micros:
        """How long a lease lasts."""
        return self.options.timing.lease

    # -- engines and time

    async def broker(self, worker: str = "one", sources: Sequence[Source] = (WORK,)) -> Broker:
        """The open broker of a worker; the same one when asked again."""
        key = (self.place, worker)
        if key not in self._brokers:
            self._brokers[key] = self.engine.connect(worker, self.clock)
        await self._brokers[key].declare(sources)
        return self._brokers[key]

    async def store(self, worker: str = "one", sources: Sequence[Source] = (WORK,)) -> Store:
        """The same, for claims about engines that remember."""
        assert self.traits.remembers, "this claim is about engines that remember"
        return cast("Store", await self.broker(worker, sources))

    async def close(self) -> None:
        """Close all brokers."""
        while self._brokers:
            await self._brokers.popitem()[1].close()

    async def reopen(self) -> None:
        """Close everything and open the same place again."""
        await self.close()
        self.engine = self.factory(self.place, self.options)

    def elsewhere(self) -> Harness:
        """A second engine, at a place of its own. Whoever asks closes it."""
        return Harness(self.factory, self.options, self.clock, self.factory("there", self.options), "there")

    async def advance(self, duration: Micros) -> None:
        """Let time go by."""
        if isinstance(self.clock, VirtualClock):
            await self.clock.advance(duration)
        else:
            await self.clock.sleep(duration)

    async def asleep(self, waiters: int = 1) -> None:
        """Return when ``waiters`` calls wait on the clock (on a real clock: when they have had time to)."""
        if isinstance(self.clock, VirtualClock):
            clock = self.clock
            await eventually(lambda: clock.waiting >= waiters, what=f"{waiters} calls waiting on the clock")
        else:
            await self.clock.sleep(SECOND // 10)

    # -- messages

    def message(self, name: str = "job", body: bytes = b"{}") -> Message:
        """A new task for the queue ``work``."""
        return Message(id=MessageId(f"m{next(self._numbers):05}"), name=name, queue=WORK.queue, body=body)

    def messages(self, number: int) -> list[Message]:
        """New tasks, each with its own body."""
        return [self.message(body=b"%d" % i) for i in range(number)]

    def event(self, topic: str) -> Message:
        """A new event."""
        return Message(id=MessageId(f"e{next(self._numbers):05}"), name=topic, topic=topic, body=b"{}")

    async def publish(self, *messages: Message) -> None:
        """Publish, as the worker ``one``."""
        await (await self.broker()).publish(messages)

    async def take(
        self, limit: int = 100, *, worker: str = "one", source: Source = WORK, token: Token | None = None
    ) -> list[Delivery]:
        """Receive what is there, up to ``limit``."""
        broker = await self.broker(worker, (source,))
        taken = await broker.receive([Ask(source, token or new_token(), limit)], wait=self.wait)
        return list(taken)

    async def take_one(self, worker: str = "one", source: Source = WORK) -> Delivery:
        """Receive one message that must be there."""
        taken = await self.take(1, worker=worker, source=source)
        assert len(taken) == 1, "a message was there to be taken, and receive returned none"
        return taken[0]

    async def nothing(self, source: Source = WORK) -> None:
        """Nothing can be taken."""
        broker = await self.broker("one", (source,))
        taken = await broker.receive([Ask(source, new_token(), 100)], wait=min(self.wait, SECOND // 5))
        assert not taken, f"nothing was to be taken, and receive gave {[d.id for d in taken]}"

    async def settle(
        self, delivery: Delivery, verdict: v.Verdict, *then: Message, worker: str = "one"
    ) -> Settled:
        """End one delivery."""
        broker = await self.broker(worker, (delivery.source,))
        (answer,) = await broker.settle([Settlement(delivery, verdict, then)])
        return answer

    async def lose(self) -> None:
        """Let every lease run out (or its connection end), and let the engine notice."""
        if self.traits.lease is LeaseKind.CONNECTION:
            await self.close()
            return
        await self.advance(self.lease + 1)
        if self.traits.remembers:
            await (await self.store()).sweep(1_000)

    async def bury(self, reason: v.Reason = v.Reason.ASKED) -> Delivery:
        """Take one message and make it a dead letter."""
        delivery = await self.take_one()
        assert await self.settle(delivery, v.Dead(reason, FAILURE)) is Settled.OK
        return delivery

    # -- what a store remembers

    async def steer(self, command: q.Command, *ids: EntryId) -> int:
        """Carry out a command on some messages, or on all; returns how many it touched."""
        return (await (await self.store()).steer(q.Selector(ids=ids), command)).touched

    async def record(self, of: EntryId | MessageId) -> q.TaskRecord:
        """Everything the store knows of one message that must be there."""
        page = await (await self.store()).find(q.Query(which=q.Selector(ids=(EntryId(of),))))
        assert len(page.records) == 1, (
            f"{of} should be remembered once, and was found {len(page.records)} times"
        )
        return page.records[0]

    async def state(self, of: EntryId | MessageId) -> State:
        """Where a message stands."""
        return (await self.record(of)).state

    async def counters(self) -> dict[str, int]:
        """What the store counted since it was made."""
        return (await (await self.store()).count()).counters

    async def states(self, queue: str = WORK.queue) -> dict[State, int]:
        """How many messages of a queue are in which state, empty states left out."""
        counts = await (await self.store()).count()
        found = next((c for c in counts.queues if c.queue == queue), None)
        return {} if found is None else {state: n for state, n in found.states.items() if n}

    def now(self) -> Instant:
        """The clock's time."""
        return self.clock.now()


async def run(claim: Claim, factory: Factory) -> None:
    """Hold an engine to a claim: return if it holds, raise AssertionError if not. Closes what it opened, and leaves no task behind."""
    before = asyncio.all_tasks()
    options = EngineOptions(retention=claim.retention)
    engine = factory("here", options)
    if not engine.traits.virtual_clock:
        options = but(options, timing=REAL_TIMING)
        engine = factory("here", options)
    harness = Harness(
        factory, options, VirtualClock() if engine.traits.virtual_clock else SystemClock(), engine
    )
    try:
        async with asyncio.timeout(30):
            await claim.check(harness)
    finally:
        await harness.close()
    await eventually(lambda: asyncio.all_tasks() <= before, within=1.0, what=f"{claim}: every task has ended")


def ids(deliveries: Iterable[Delivery | Published | q.TaskRecord]) -> list[str]:
    """Their ids as words, which entries and messages share."""
    return [delivery.id for delivery in deliveries]


@contextmanager
def refused(error: type[Exception], asked: str) -> Iterator[None]:
    """What is done inside is refused with ``error`` and a sentence."""
    said = None
    try:
        yield
    except error as refusal:
        said = str(refusal)
    assert said is not None, f"{asked}: should have been refused with {error.__name__}, and was not"
    assert len(said) > 20, f"{asked}: refused, but not with a sentence that helps: {said!r}"


def claims(
    group: str,
    needs: Callable[[Traits], bool],
    *checks: Callable[[Harness], Awaitable[None]],
    retention: Retention = DEFAULTS.retention,
) -> tuple[Claim, ...]:
    """Claims of one group that need the same."""
    return tuple(Claim(group=group, check=check, needs=needs, retention=retention) for check in checks)


def any_engine(traits: Traits) -> bool:
    """For claims about every engine."""
    return bool(traits.engine)


def fences(traits: Traits) -> bool:
    """For claims about engines that know a lost lease."""
    return traits.fences


def remembers(traits: Traits) -> bool:
    """For claims about stores."""
    return traits.remembers


def renews(traits: Traits) -> bool:
    """For claims about leases that end when their time is up."""
    return traits.lease is not LeaseKind.CONNECTION


def tethered(traits: Traits) -> bool:
    """For claims about leases that end with their connection."""
    return traits.lease is LeaseKind.CONNECTION


def survives(traits: Traits) -> bool:
    """For claims about what is there when the engine is opened again."""
    return traits.durability is not Durability.NOTHING
