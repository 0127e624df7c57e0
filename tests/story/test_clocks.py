"""The wall clock is set by an hour while work is held: nothing is lost, nothing runs beside itself, and no worker is taken for dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from forebay import App, Context, State, Timing
from forebay.engine import Ask, Engine, EngineOptions, Source
from forebay.model.query import TaskRecord
from forebay.model.when import SECOND, Instant
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token
from forebay.testing.clock import Probe, eventually
from tests.runtime.kit import Spied, story, working

HOUR = 3_600 * SECOND
TIMING = Timing(lease=1_500_000, heartbeat=150_000, sweep=20_000)


class SetClock(SystemClock):
    """The host's clocks, of which somebody sets the wall clock."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> Instant:
        return super().now() + self.ahead


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Spied:
    options = EngineOptions(timing=TIMING)
    inner: Engine = (
        MemoryEngine(options)
        if request.param == "memory"
        else SqliteEngine(tmp_path / "c.db", options=options)
    )
    return Spied(inner)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
@story
async def test_work_that_is_held_when_the_clock_is_set_stays_with_its_worker(
    engine: Spied, jump: int
) -> None:
    clock, entered, go = SetClock(), Probe[str]("entered"), asyncio.Event()
    app = App(engine, timing=TIMING, clock=clock)
    runs: Counter[str] = Counter()

    @app.task
    async def hold(ctx: Context) -> None:
        runs[ctx.id] += 1
        entered.hit(ctx.id)
        await go.wait()

    async with working(app):
        held = [await hold.send() for _ in range(5)]
        await entered.wait(5)
        sweeps = engine.calls["sweep"]
        clock.ahead = jump
        await eventually(lambda: engine.calls["sweep"] >= sweeps + 5, within=8)
        late = await hold.send()
        await entered.wait(6)
        go.set()
        for handle in [*held, late]:
            await handle.result(5)
        records: list[TaskRecord] = [await handle.status() for handle in [*held, late]]

    assert {record.state for record in records} == {State.SUCCEEDED}
    assert [record.crashes for record in records] == [0] * 6, "its holder lives: that is no crash"
    assert set(runs.values()) == {1}


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
@story
async def test_what_waits_when_the_clock_is_set_is_worked_off(engine: Spied, jump: int) -> None:
    clock = SetClock()
    app = App(engine, timing=TIMING, clock=clock)

    @app.task(backoff="5ms", backoff_cap="5ms")
    async def job(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("once")
        return ctx.attempt

    async with app:
        waiting = [await job.send() for _ in range(20)]
        clock.ahead = jump
    async with working(app):
        assert [await handle.result(5) for handle in waiting] == [2] * 20
        assert {(await handle.status()).crashes for handle in waiting} == {0}


@story
async def test_the_work_of_the_dead_is_swept_all_the_same_a_lease_after_the_clock_was_set(
    engine: Spied,
) -> None:
    clock = SetClock()
    app = App(engine, timing=TIMING, clock=clock)

    @app.task
    async def job() -> str:
        return "done"

    async with app:
        handle = await job.send()
        gone = engine.inner.connect("gone", clock)
        await gone.declare([])
        assert len(await gone.receive([Ask(Source(queue="default"), new_token(), 1)], wait=0)) == 1
    async with working(app):
        clock.ahead = HOUR
        assert await handle.result(5) == "done"
        assert (await handle.status()).crashes == 1
    await gone.close()
