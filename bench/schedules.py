"""From the moment of a tick to its message being ready: ten thousand schedules, fired by the worker's own ticker on SQLite."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, cast

from forebay.engine import EngineOptions, Source
from forebay.features.schedules.book import read
from forebay.features.schedules.keeping import Declaration
from forebay.model.message import Message, MessageId
from forebay.model.query import Query
from forebay.model.schedule import TICK, Schedule
from forebay.model.when import SECOND, instant
from forebay.runtime.ticker import Ticker
from forebay.stores.sqlite import SqliteEngine
from forebay.support.clock import SystemClock
from forebay.testing.measure import Delays, summary

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Store
    from forebay.model.when import Instant

COUNT = 10_000
EVERY = 10 * SECOND
TICKS = 2
AHEAD = 8 * SECOND
"""For declaring them, before the first tick."""


async def tick_to_ready(path: Path, *, spread: bool, count: int = COUNT) -> Delays:
    """Milliseconds; all in the same moment, or ``spread`` over the whole interval by their jitter."""
    clock = SystemClock()
    store = cast("Store", SqliteEngine(path, EngineOptions()).connect("bench", clock))
    await store.declare([Source(queue="work")])
    first = (clock.now() + AHEAD) // SECOND * SECOND
    task = Message(id=MessageId(""), name="noop", queue="work", body=b"{}")
    plan = Schedule(
        task=task,
        every=EVERY,
        start=first,
        until=first + (TICKS - 1) * EVERY,
        jitter=EVERY if spread else 0,
    )
    names = [f"schedule-{n}" for n in range(count)]
    declared = Declaration(
        app="bench", plans=dict.fromkeys(names, ("bench", plan)), homes=frozenset({"bench"})
    )
    ticker = Ticker(store, clock, 5 * SECOND, declared)
    async with asyncio.TaskGroup() as group:
        group.create_task(ticker.run())
        while sum(sum(one.states.values()) for one in (await store.count()).queues) < TICKS * count:
            await clock.sleep(SECOND // 2)
        ticker.close()
    delays = await _delays(store, plan)
    runs = await read(store, names[:10])
    if not all(len(entry.course.runs) == TICKS for entry in runs.values()):
        raise AssertionError(runs)
    await store.close()
    return summary(delays)


async def _delays(store: Store, plan: Schedule) -> list[float]:
    found, cursor = list[float](), None
    while True:
        page = await store.find(Query(size=1_000, cursor=cursor))
        for record in page.records:
            name, _, tick = record.id.removeprefix("cron:").partition(":")
            moment = plan.moment(name, _instant(tick))
            found.append((record.created - moment) / SECOND)
        if (cursor := page.next) is None:
            return found


def _instant(stamp: str) -> Instant:
    return instant(datetime.fromisoformat(stamp), TICK)
