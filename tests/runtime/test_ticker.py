"""A worker fires schedules: at their time, once with any number of workers, idle in between, whatever its engine and its clock do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from forebay import App, Context, WorkerOptions
from forebay.engine import Ask, Finished, Settlement, Source
from forebay.errors import EngineUnavailable, InvalidOption
from forebay.features.schedules.book import CHANGED
from forebay.features.schedules.keeping import Declaration
from forebay.model.message import Message, MessageId
from forebay.model.query import Query
from forebay.model.schedule import TICK, Overlap, Schedule
from forebay.model.verdict import Done
from forebay.model.when import SECOND
from forebay.runtime.ticker import Ticker
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.support.ids import new_token
from forebay.testing.clock import Probe, VirtualClock, eventually
from tests.runtime.kit import Spied, story, working

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Engine, Store, Topic
    from forebay.support.clock import Clock

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
LOOK = 5 * SECOND
TASK = Message(id=MessageId(""), name="report", queue="work", body=b"{}")


def code(**plans: Schedule) -> Declaration:
    return Declaration(
        app="app", plans={name: ("shop", plan) for name, plan in plans.items()}, homes=frozenset({"shop"})
    )


class Ticking:
    """A ticker at work over a store of its own."""

    def __init__(
        self, engine: Engine, clock: Clock, declared: Declaration | None = None, look: int = LOOK
    ) -> None:
        self.store = cast("Store", engine.connect("one", clock))
        self.ticker = Ticker(self.store, clock, look, declared or Declaration())

    async def __aenter__(self) -> Store:
        await self.store.declare([])
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._group.create_task(self.ticker.run())
        return self.store

    async def __aexit__(self, *_: object) -> None:
        self.ticker.close()
        await self._group.__aexit__(None, None, None)
        await self.store.close()


async def sent(store: Store) -> list[str]:
    page = await store.find(Query(size=1_000, oldest_first=True))
    return [record.id for record in page.records]


@story
async def test_it_sleeps_until_the_next_tick_of_any_and_fires_it() -> None:
    clock, engine = VirtualClock(), MemoryEngine()
    plans = code(a=Schedule(task=TASK, every=90 * SECOND), b=Schedule(task=TASK, cron="*/1 * * * *"))
    async with Ticking(engine, clock, plans) as store:
        await clock.advance(MINUTE)
        assert await sent(store) == ["cron:b:2030-01-01T00:01:00Z"]
        await clock.advance(31 * SECOND)
        assert await sent(store) == ["cron:b:2030-01-01T00:01:00Z", "cron:a:2030-01-01T00:01:30Z"]


@story
async def test_with_several_each_tick_is_sent_once() -> None:
    clock, engine = VirtualClock(), MemoryEngine()
    plans = code(**{f"n{n}": Schedule(task=TASK, every=7 * SECOND) for n in range(20)})
    async with (
        Ticking(engine, clock, plans) as store,
        Ticking(engine, clock, plans),
        Ticking(engine, clock, plans),
    ):
        for _ in range(10):
            await clock.advance(7 * SECOND)
        found = await sent(store)

    assert len(found) == len(set(found)) == 200


@story
async def test_an_idle_one_asks_no_more_often_than_it_looks() -> None:
    clock, engine = VirtualClock(), Spied(MemoryEngine())
    async with Ticking(engine, clock, code(a=Schedule(task=TASK, cron="@monthly"))):
        await clock.advance(LOOK)
        before = engine.calls.copy()
        for _ in range(20):
            await clock.advance(LOOK)
        made = engine.calls - before

    assert made == {"survey": 20}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@story
async def test_what_another_process_puts_is_heard_of_at_once(kind: str, tmp_path: Path) -> None:
    clock, memory = VirtualClock(), MemoryEngine()
    engines: list[Engine] = [
        memory if kind == "memory" else SqliteEngine(tmp_path / "s.db") for _ in range(2)
    ]
    app = App(engines[1], clock=clock)
    ticking = Ticking(engines[0], clock, look=1_000 * HOUR)
    async with ticking as store, app:
        await eventually(lambda: clock.waiting, what="it sleeps")
        await app.schedules.put("new", every="1m", task=app.named("report", "work").bind())
        await eventually(lambda: ticking.ticker._work.next() is not None, what="it has heard of it")
        await clock.advance(MINUTE)

        async def there() -> bool:
            return await sent(store) == ["cron:new:2030-01-01T00:01:00Z"]

        await eventually(there)


@pytest.mark.parametrize("error", [EngineUnavailable("away"), InvalidOption("no more notes are kept")])
@story
async def test_while_its_engine_is_away_or_keeps_no_more_it_waits_and_then_makes_up_for_it(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    clock, engine = VirtualClock(), Spied(MemoryEngine())
    away = False

    def fail(kind: str, _: object) -> None:
        if away and kind in ("note", "survey"):
            raise error

    engine.before = fail
    async with Ticking(engine, clock, code(a=Schedule(task=TASK, every=MINUTE))) as store:
        await clock.advance(MINUTE - 1)
        away = True
        await clock.advance(30 * SECOND)
        assert await sent(store) == []
        away = False
        await clock.advance(2 * SECOND)
        assert await sent(store) == ["cron:a:2030-01-01T00:01:00Z"]
    assert "schedule.failed" in caplog.text


class SetClock(VirtualClock):
    """Its wall time may be set, as an administrator does."""

    __slots__ = ("apart",)

    def __init__(self) -> None:
        super().__init__()
        self.apart = 0

    def now(self) -> int:
        return super().now() + self.apart


@story
async def test_a_clock_that_is_set_is_noticed_within_a_look(caplog: pytest.LogCaptureFixture) -> None:
    clock, engine = SetClock(), MemoryEngine()
    async with Ticking(engine, clock, code(a=Schedule(task=TASK, every=HOUR))) as store:
        await clock.advance(MINUTE)
        clock.apart = 5 * HOUR
        await clock.advance(LOOK)
        forward = ["cron:a:2030-01-01T05:00:00Z"]
        assert await sent(store) == forward, "the last that was missed is made up for"

        clock.apart = 2 * HOUR
        await clock.advance(2 * HOUR)
        assert await sent(store) == forward, "set back, none comes again"
        await clock.advance(2 * HOUR)
        assert await sent(store) == [*forward, "cron:a:2030-01-01T06:00:00Z"]
    assert "schedule.missed" in caplog.text


@story
async def test_ticks_that_wait_come_with_the_end_of_the_one_before() -> None:
    clock, engine = VirtualClock(), MemoryEngine()
    queued = Schedule(task=TASK, every=MINUTE, overlap=Overlap.QUEUE)
    async with Ticking(engine, clock, code(a=queued)) as store:
        assert not hears(engine, Finished())
        await clock.advance(3 * MINUTE)
        assert [key[-9:] for key in await sent(store)] == ["00:01:00Z"]
        assert hears(engine, Finished())
        for n in (2, 3):
            (delivery,) = await store.receive([Ask(Source(queue="work"), new_token(), 9)], wait=0)
            await store.settle([Settlement(delivery, Done())])
            await clock.advance(0)
            assert (await sent(store))[-1].endswith(f"00:0{n}:00Z"), "at once, without a look"
        (delivery,) = await store.receive([Ask(Source(queue="work"), new_token(), 9)], wait=0)
        await store.settle([Settlement(delivery, Done())])
        await clock.advance(LOOK)
        assert not hears(engine, Finished()), "nobody hears what nobody waits for"


@story
async def test_a_worker_declares_and_fires_and_its_handler_is_told_which_tick_it_is() -> None:
    clock, ticks = VirtualClock(), Probe[str]("ticks")
    app = App("memory://", clock=clock)

    @app.schedule("*/5 * * * *")
    @app.task
    async def refresh(ctx: Context) -> None:
        ticks.hit(ctx.headers[TICK])

    async with working(app):
        await eventually(lambda: hears(app.engine, CHANGED), what="it follows the schedules")
        await clock.advance(10 * MINUTE)
        assert await ticks.wait(2) == ["2030-01-01T00:05:00Z", "2030-01-01T00:10:00Z"]
        (record,) = await app.schedules.list()
        assert record.state == "active"
    assert not hears(app.engine, CHANGED), "a stop ends it"


@story
async def test_a_worker_without_schedules_neither_declares_nor_fires() -> None:
    clock = VirtualClock()
    app = App("memory://", clock=clock)

    @app.schedule("* * * * *")
    @app.task
    async def refresh() -> None:
        raise AssertionError

    async with working(app, WorkerOptions(schedules=False)):
        await clock.advance(10 * MINUTE)
        (record,) = await app.schedules.list()
        assert record.state == "new"
        assert (await app.find(Query())).records == ()


@story
async def test_a_stop_waits_for_no_tick() -> None:
    app = App("memory://")
    app.every("1h", app.named("report").bind())

    async with working(app):
        pass


def hears(engine: Engine, topic: Topic) -> bool:
    """Whether anybody waits for it."""
    assert isinstance(engine, MemoryEngine)
    return engine.signals.awaited(topic)
