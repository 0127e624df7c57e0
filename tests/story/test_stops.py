"""Stops in order, one after the other under load: whatever was under way is finished or handed back, and nothing is left open.

``STOPS=1000 make test ARGS=tests/story/test_stops.py`` makes more of them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from forebay import App, Context, State
from forebay.model.query import Query, Selector, TaskRecord
from forebay.model.state import FINISHED
from forebay.runtime.worker import WorkerOptions
from forebay.testing.clock import eventually

STOPS = int(os.environ.get("STOPS", "250"))
GRACE = 10_000
"""Microseconds that handlers have at a stop: some of them need longer."""
AT_ONCE = 20


def factory(url: str, runs: Counter[str]) -> App:
    app = App(url)

    @app.task(queue="part")
    async def polish(ctx: Context, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251  # stands for work
        runs[ctx.id] += 1

    return app


class Watch:
    """What is open in this process."""

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> tuple[int, int, int]:
        gc.collect()
        return len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    def check(self) -> None:
        assert self._now() == self._before, "tasks, threads, descriptors"


async def send_until(stop: asyncio.Event, app: App, dice: random.Random) -> int:
    """Send as fast as it is worked off, most of it short, some of it longer than a stop waits."""
    polish, sent = app.named("polish", "part"), 0
    while not stop.is_set():
        calls = [polish.bind(0.05 if dice.random() < 0.1 else 0.002) for _ in range(5)]
        sent += len(await app.send_many(calls))
        await asyncio.sleep(0.003)  # noqa: TID251  # the pace of the senders
    return sent


async def work_and_stop(app: App, dice: random.Random) -> None:
    """One life: to ready, a moment of work, and a stop; every fifth is said twice, every seventh is said before it is ready."""
    worker = app.worker(WorkerOptions(concurrency=AT_ONCE, stop_within=GRACE))
    working = asyncio.get_running_loop().create_task(worker.run())
    if dice.random() > 1 / 7:
        await worker.ready.wait()
        await asyncio.sleep(dice.uniform(0, 0.02))  # noqa: TID251  # at no particular moment
    worker.stop()
    if dice.random() < 1 / 5:
        worker.stop()
    await asyncio.wait_for(working, 10)
    assert worker.load["running"] == worker.stuck == 0


async def everything(app: App) -> list[TaskRecord]:
    records: list[TaskRecord] = []
    cursor: str | None = None
    while True:
        page = await app.find(Query(which=Selector(), size=1_000, cursor=cursor))
        records += page.records
        if (cursor := page.next) is None:
            return records


async def is_quiet(app: App) -> bool:
    counts = await app.count()
    return all(state in FINISHED for queue in counts.queues for state, n in queue.states.items() if n)


@pytest.mark.timeout(60 + STOPS)
def test_stops_under_load_lose_nothing_spend_no_attempt_and_leave_nothing_open(tmp_path: Path) -> None:
    async def story() -> None:
        dice, runs, over = random.Random(11), Counter[str](), asyncio.Event()
        url = f"sqlite:///{tmp_path / 'stops.db'}"
        async with factory(url, runs) as app:
            await work_and_stop(factory(url, runs), dice)
            await app.count()  # from here on its store has the connection that looks, too
            watch = Watch()
            sending = asyncio.get_running_loop().create_task(send_until(over, app, dice))
            for stop in range(STOPS):
                await work_and_stop(factory(url, runs), dice)
                if stop % 50 == 49:
                    counts = await app.count()
                    assert not any(queue.states.get(State.RUNNING) for queue in counts.queues), (
                        "a stop left something running"
                    )
            over.set()
            sent = await sending
            watch.check()
            handed_back = sum(record.releases for record in await everything(app))

            last = app.worker(WorkerOptions(concurrency=200))
            working = asyncio.get_running_loop().create_task(last.run())
            await eventually(partial(is_quiet, app), within=60)
            last.stop()
            await working
            records = await everything(app)

        assert len(records) == sent
        assert {record.state for record in records} == {State.SUCCEEDED}
        assert sum(record.crashes for record in records) == 0, "no stop lost a lease"
        assert {record.attempts for record in records} == {1}, "no stop spent an attempt"
        assert Counter(runs.values()) == {1: sent}, "what was handed back had not been done"
        assert handed_back > STOPS / 20, (
            f"{handed_back} of {sent} handed back: few stops met work that outlasted them"
        )

    asyncio.run(story())
