"""Upkeep goes on whatever happens to one sweep, in step with nobody, and never for too long at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forebay.engine import Swept, Timing
from forebay.errors import EngineUnavailable
from forebay.model.when import SECOND
from forebay.runtime.maintenance import AHEAD, BUDGET, LEAST, keep
from forebay.stores.memory import MemoryEngine
from forebay.testing.clock import Probe, VirtualClock
from tests.runtime.kit import Spied, story


@pytest.mark.parametrize(("roll", "first"), [(0.0, 3.75), (0.5, 5), (1.0, 6.25)])
@story
async def test_it_sweeps_every_so_often_give_or_take_a_quarter(roll: float, first: float) -> None:
    engine, clock, stop = Spied(MemoryEngine()), VirtualClock(), asyncio.Event()
    store = engine.connect("one", clock)
    await store.declare([])
    async with asyncio.TaskGroup() as group:
        group.create_task(keep(store, clock, Timing(sweep=5 * SECOND), stop, lambda: roll))
        await clock.advance(int(first * SECOND) - 1)
        assert engine.calls["sweep"] == 0
        await clock.advance(1)
        assert engine.calls["sweep"] == 1
        await clock.advance(int(first * SECOND))
        assert engine.calls["sweep"] == 2
        stop.set()


@story
async def test_a_sweep_that_fails_is_not_the_last() -> None:
    engine, clock, stop, failed = (
        Spied(MemoryEngine()),
        VirtualClock(),
        asyncio.Event(),
        Probe[None]("failed"),
    )

    def fail(kind: str, _: Any) -> None:
        if kind == "sweep" and failed.count < 2:
            failed.hit(None)
            raise EngineUnavailable("away")

    engine.before = fail
    store = engine.connect("one", clock)
    await store.declare([])
    async with asyncio.TaskGroup() as group:
        group.create_task(keep(store, clock, Timing(sweep=SECOND), stop, lambda: 0.5))
        await clock.advance(4 * SECOND)
        stop.set()

    assert engine.calls["sweep"] >= 4


@pytest.mark.parametrize(
    ("ended", "swept"),
    [(0, LEAST), (LEAST // AHEAD, LEAST), (LEAST, AHEAD * LEAST), (10 * LEAST, 10 * AHEAD * LEAST)],
)
@story
async def test_with_ever_more_to_do_it_sweeps_faster_than_was_worked_then_lets_others_have_the_store_again(
    ended: int, swept: int
) -> None:
    engine, clock, stop, budgets = Spied(MemoryEngine()), VirtualClock(), asyncio.Event(), list[int]()
    store = engine.connect("one", clock)
    await store.declare([])
    work = iter([7, 7 + ended, 7 + ended])

    class Endless:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def sweep(self, budget: int) -> Swept:
            budgets.append(budget)
            return Swept(expired=budget, more=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(
            keep(Endless(), clock, Timing(sweep=SECOND), stop, lambda: 0.5, ended=lambda: next(work))
        )
        await clock.advance(SECOND)
        stop.set()

    assert budgets == [BUDGET] * (swept // BUDGET)
