"""Store and bus joined: whatever breaks, wherever a process dies, every event is in every group's queue once and handled at least once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from forebay import App, Context, State, WorkerOptions
from forebay.engine import LeaseKind, Source
from forebay.errors import EngineUnavailable
from forebay.model.message import Message, MessageId
from forebay.model.query import Query
from forebay.model.verdict import Reason
from forebay.model.when import SECOND
from forebay.runtime import worker as room
from forebay.runtime.bridge import OUTBOX
from forebay.stores.memory import MemoryEngine
from forebay.stores.memory.upkeep import hand_back
from forebay.testing.clock import Probe, VirtualClock, eventually
from forebay.testing.hostile import NEVER, Faults, HostileBus
from tests.runtime.kit import CAP, Spied, reaches, story, working

if TYPE_CHECKING:
    from forebay import Call
    from forebay.model.query import TaskRecord

EVENTS: Final = ("e1", "e2")
GROUPS: Final = ("audit.orders._any", "billing.orders.placed")


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Doom:
    """Kills the process at its ``at``-th step; a step lies before and after every port call. A dead process does nothing any more."""

    at: int
    steps: int = 0
    dead: bool = False

    def step(self, kind: str, _: Any) -> None:
        if kind == "close":
            return  # a cut connection closes itself
        self.steps += 1
        self.dead = self.dead or self.steps >= self.at
        if self.dead:
            raise Crash


@dataclass
class World:
    """A store and a bus that outlive processes, and what handlers have done."""

    store: MemoryEngine = field(default_factory=MemoryEngine)
    bus: HostileBus = field(default_factory=HostileBus)
    handled: list[tuple[str, str]] = field(default_factory=list)

    def app(self, doom: Doom | None = None) -> App:
        """A process's App. It dies as ``doom`` says."""
        engines = Spied(self.store), Spied(self.bus)
        for engine in engines if doom is not None else ():
            engine.before = engine.after = doom.step  # type: ignore[union-attr]  # there is one
        app = App(engines[0], bus=engines[1])

        @app.subscribe("orders.placed", group="billing")
        async def bill(ctx: Context) -> None:
            self.handled.append(("billing.orders.placed", ctx.message.id))

        @app.subscribe("orders.*", group="audit")
        async def note(ctx: Context) -> None:
            self.handled.append(("audit.orders._any", ctx.message.id))

        return app

    async def process(self, doom: Doom | None) -> None:
        """Publish all events, work until every copy is done, stop."""
        app = self.app(doom)
        async with working(app, WorkerOptions(stop_within=0)):
            for key in EVENTS:
                await app.publish("orders.placed", {"of": key}, id=key)
            await eventually(lambda: self.done() or (doom is not None and doom.dead), what="all is handled")

    def copies(self) -> list[tuple[str, str]]:
        return sorted(
            (e.queue, e.message.id) for e in self.store.ledger.entries.values() if e.queue != OUTBOX
        )

    def done(self) -> bool:
        entries = list(self.store.ledger.entries.values())
        ended = all(entry.state is State.SUCCEEDED for entry in entries)
        quiet = not self.bus.held and not any(self.bus.ready.values())
        return ended and quiet and len(self.copies()) == len(EVENTS) * len(GROUPS)

    def supervise(self) -> None:
        """A process has died: a supervisor hands its leases back; on the bus they run out, or went with the connection."""
        now = VirtualClock().now()
        with self.bus.lock:
            self.bus.drop_lost(NEVER - 1)
        for lease in list(self.store.ledger.leases.values()):
            hand_back(self.store.ledger, lease.worker, now)


@pytest.fixture(autouse=True)
def _brief_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CUT_OFF", 20_000)
    monkeypatch.setattr(room, "LAST_SETTLE", 20_000)


def _live(world: World, doom: Doom | None) -> None:
    async def capped() -> None:
        async with asyncio.timeout(CAP):
            await world.process(doom)

    asyncio.run(capped())


@pytest.mark.parametrize("lease", LeaseKind)
def test_a_process_that_dies_between_any_two_steps_loses_and_doubles_nothing(
    lease: LeaseKind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    at, died = 0, True
    while died:
        at += 1
        world, doom = World(bus=HostileBus(lease=lease)), Doom(at)
        try:
            _live(world, doom)
        except (Crash, BaseExceptionGroup, asyncio.CancelledError):
            assert doom.dead
        died = doom.dead
        world.supervise()
        _live(world, None)

        wanted = sorted((queue, key) for queue in GROUPS for key in EVENTS)
        assert world.copies() == wanted, f"dead at step {at}"
        assert set(world.handled) == set(wanted), f"dead at step {at}"
        assert all(entry.crashes <= 1 for entry in world.store.ledger.entries.values())

    assert at > 40, "there are that many steps, and one life of each length was ended"


@pytest.mark.parametrize("lease", LeaseKind)
@pytest.mark.parametrize("seed", range(6))
@story
async def test_a_hostile_bus_loses_and_doubles_nothing(seed: int, lease: LeaseKind) -> None:
    clock = VirtualClock()
    world = World(bus=HostileBus(Faults.seeded(seed, rate=0.4), lease=lease))
    app = world.app()
    app._client.ground = replace(app._client.ground, clock=clock)
    async with working(app):
        for key in EVENTS:
            await app.publish("orders.placed", {"of": key}, id=key)
        for _ in range(400):
            if world.done():
                break
            await clock.advance(SECOND)
        assert world.done()

    wanted = sorted((queue, key) for queue in GROUPS for key in EVENTS)
    assert world.copies() == wanted
    assert set(world.handled) == set(wanted)


@story
async def test_an_event_travels_with_all_it_has() -> None:
    got = Probe[Message]("got")
    app = App("memory://", bus=HostileBus())

    @app.subscribe("orders.placed", group="billing")
    async def bill(ctx: Context) -> None:
        got.hit(ctx.message)

    async with working(app):
        await app.publish(
            "orders.placed", b"\x00raw", key="k", headers={"traceparent": "00-1", "x": "y"}, id="e"
        )
        (message,) = await got.wait()

    assert message == Message(
        id=MessageId("e"), name="orders.placed", queue="billing.orders.placed", topic="orders.placed", body=b"\x00raw",
        content_type="application/octet-stream", key="k", headers={"traceparent": "00-1", "x": "y"},
    )  # fmt: skip


@story
async def test_a_delayed_event_waits_in_the_store_because_a_bus_has_no_timers() -> None:
    clock, got = VirtualClock(), Probe[str]("got")
    bus = HostileBus()
    app = App("memory://", bus=bus, clock=clock)

    @app.subscribe("orders.placed", group="billing")
    async def bill(ctx: Context) -> None:
        got.hit(ctx.id)

    async with working(app):
        await app.publish("orders.placed", 1, delay="1m")
        await clock.advance(59 * SECOND)
        assert not got.hits
        await clock.advance(2 * SECOND)
        await got.wait()


@story
async def test_an_event_of_the_largest_size_gets_through_its_envelope() -> None:
    got = Probe[int]("got")
    app = App("memory://", bus=HostileBus(), max_body=1_000)

    @app.subscribe("blobs.made", group="keep")
    async def keep(blob: bytes) -> None:
        got.hit(len(blob))

    async with working(app):
        await app.publish("blobs.made", b"\xff" * 1_000)
        assert await got.wait() == [1_000]


@story
async def test_what_a_message_asks_of_its_handler_is_not_asked_of_the_inbox() -> None:
    bus, got = HostileBus(), Probe[str]("got")
    store, failed = Spied(MemoryEngine()), Probe[None]("failed")

    def fail(kind: str, batch: Any) -> None:
        if kind == "publish" and batch[0].queue == "billing.orders.placed" and failed.count < 3:
            failed.hit(None)
            raise EngineUnavailable("away")

    store.before = fail
    clock = VirtualClock()
    app = App(store, bus=bus, clock=clock)

    @app.subscribe("orders.placed", group="billing")
    async def bill(ctx: Context) -> None:
        got.hit(ctx.id)

    async with working(app):
        await app.publish("orders.placed", 1, max_attempts=1)
        for times in range(1, 4):
            await failed.wait(times)
            await clock.advance(31 * SECOND)
        await got.wait()


@story
async def test_what_a_bus_cannot_do_is_a_dead_letter_of_the_outbox_and_the_next_event_leaves() -> None:
    got = Probe[int]("got")
    app = App("memory://", bus=HostileBus())

    @app.subscribe("orders.placed", group="billing")
    async def bill(n: int) -> None:
        got.hit(n)

    async with working(app):
        await app.publish("orders.placed", 1, priority=9, id="urgent")
        await app.publish("orders.placed", 2)
        await got.wait()
        record = await reaches(app.handle("urgent"), State.DEAD)

    assert got.hits == [2]
    assert record.reason is Reason.NOT_RETRYABLE
    assert "has no priorities" in (record.tries[0].error or record).message  # type: ignore[operator]  # there is an error


@story
async def test_middleware_is_around_handlers_and_not_around_the_bridge() -> None:
    seen, got = list[str](), Probe[int]("got")

    async def note(call: Call, ctx: Context) -> object:
        seen.append(ctx.queue)
        return await call(ctx)

    app = App("memory://", bus=HostileBus(), middleware=[note])

    @app.subscribe("orders.placed", group="billing")
    async def bill(n: int) -> None:
        got.hit(n)

    async with working(app):
        await app.publish("orders.placed", 1)
        await got.wait()

    assert seen == ["billing.orders.placed"]


@story
async def test_under_strict_order_events_leave_before_the_queues_are_empty() -> None:
    app, left, order = App("memory://", bus=(bus := HostileBus())), Probe[str]("left"), list[str]()
    bus.bindings["elsewhere"] = Source.subscription("orders.placed", "elsewhere", "elsewhere")

    @app.task
    async def busy(ctx: Context) -> None:
        order.append("busy")
        if len(bus.queued("elsewhere")) == 1:
            left.hit(ctx.id)

    async with app:
        await app.send_many([busy.bind() for _ in range(50)])
        await app.publish("orders.placed", 1)
    async with working(app, WorkerOptions(concurrency=1, queues={"default": 1}, strict=True)):
        await left.wait()

    assert len(order) < 50


@story
async def test_an_event_from_a_stranger_is_taken_in_under_its_own_id() -> None:
    bus, got = HostileBus(), Probe[tuple[str, object]]("got")
    app = App("memory://", bus=bus)

    @app.subscribe("orders.placed", group="billing")
    async def bill(order: dict[str, int], ctx: Context) -> None:
        got.hit((ctx.id, order))

    async with working(app):
        stranger = bus.connect("stranger", app._client.ground.clock)
        await stranger.declare([])
        message = Message(
            id=MessageId("theirs"), name="orders.placed", topic="orders.placed", body=b' {"id": 1}'
        )
        await stranger.publish([message, message])
        await got.wait()
        page = await app.find(Query())

    assert got.hits == [("theirs@billing.orders.placed", {"id": 1})]
    assert len(page.records) == 1


@story
async def test_an_outbox_entry_that_is_no_envelope_is_buried() -> None:
    engine = MemoryEngine()
    app = App(engine, bus=HostileBus())

    async with working(app):
        store = engine.connect("vandal", app._client.ground.clock)
        await store.declare([])
        await store.publish(
            [
                Message(id=MessageId("bad"), name=OUTBOX, queue=OUTBOX, body=b"\xff"),
                Message(id=MessageId("new"), name=OUTBOX, queue=OUTBOX, body=b'{"v":2}'),
            ]
        )
        bad = await reaches(app.handle("bad"), State.DEAD)
        new = await reaches(app.handle("new"), State.DEAD)

    assert bad.reason is Reason.UNDECODABLE
    assert "envelope version 2 is not 1" in _error(new)


def _error(record: TaskRecord) -> str:
    return next(one.error.message for one in record.tries if one.error)


@story
async def test_a_bus_that_cannot_be_opened_is_the_workers_error_and_nothing_stays_open() -> None:
    store, bus = Spied(MemoryEngine()), Spied(HostileBus())

    def fail(kind: str, _: Any) -> None:
        if kind == "declare":
            raise EngineUnavailable("no such host")

    bus.before = fail
    with pytest.raises(EngineUnavailable, match="no such host"):
        await App(store, bus=bus).worker().run()

    assert (store.calls["close"], bus.calls["close"]) == (1, 1)
