"""A loop that is blocked past its handlers' timeouts is noticed from outside, once, and no other silence is taken for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from forebay import App, WorkerOptions
from forebay.runtime.in_flight import InFlight
from forebay.runtime.watchdog import Watchdog, stacks
from forebay.stores.memory import MemoryEngine
from forebay.support.clock import SystemClock
from tests.runtime.kit import a_delivery, story, working

if TYPE_CHECKING:
    import pytest

MS = 1_000


def felt(in_flight: InFlight, home: asyncio.AbstractEventLoop, seconds: float) -> int:
    """Block this thread, whose loop ``home`` is, for so long while a watchdog is felt in another; how often it was told."""
    told: list[None] = []
    watchdog = Watchdog(home, in_flight, SystemClock(), lambda: told.append(None), tick=10 * MS)

    async def feel() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await watchdog.feel(stop)

    thread = threading.Thread(target=lambda: asyncio.run(feel()))
    thread.start()
    thread.join()
    return len(told)


@story
async def test_blocked_past_the_timeout_is_told_once_with_the_stacks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    in_flight, clock = InFlight(SystemClock()), SystemClock()
    run = in_flight.add(a_delivery(name="blocks"))
    run.begin(asyncio.current_task(), clock.monotonic() + 50 * MS)

    with caplog.at_level(logging.CRITICAL, "forebay.heartbeat"):
        told = felt(in_flight, asyncio.get_running_loop(), 0.3)

    assert told == 1
    (record,) = caplog.records
    fields = vars(record)
    assert (record.message, fields["task"]) == ("loop.blocked", "blocks")
    assert "thread.join()" in fields["traceback"]


@story
async def test_a_handler_that_blocks_within_its_time_is_let_be_though_others_are_overdue() -> None:
    in_flight, clock = InFlight(SystemClock()), SystemClock()
    in_flight.add(a_delivery(name="late")).begin(None, clock.monotonic() - 1)
    in_flight.add(a_delivery(name="blocks")).begin(asyncio.current_task(), clock.monotonic() + 60_000 * MS)

    assert felt(in_flight, asyncio.get_running_loop(), 0.15) == 0


@story
async def test_if_no_handler_is_known_to_block_all_must_be_overdue() -> None:
    in_flight, clock = InFlight(SystemClock()), SystemClock()
    in_flight.add(a_delivery(name="late")).begin(None, clock.monotonic() - 1)

    assert felt(in_flight, asyncio.get_running_loop(), 0.15) == 1

    in_flight.add(a_delivery(name="other")).begin(None, clock.monotonic() + 60_000 * MS)
    assert felt(in_flight, asyncio.get_running_loop(), 0.15) == 0


@story
async def test_a_loop_that_turns_is_well_whoever_is_overdue() -> None:
    in_flight, told, stop = InFlight(SystemClock()), list[None](), asyncio.Event()
    in_flight.add(a_delivery(name="late")).begin(None, 0)
    watchdog = Watchdog(
        asyncio.get_running_loop(), in_flight, SystemClock(), lambda: told.append(None), tick=10 * MS
    )
    asyncio.get_running_loop().call_later(0.15, stop.set)

    await watchdog.feel(stop)

    assert told == []


@story
async def test_a_worker_is_starting_then_working_then_stopping() -> None:
    app = App(MemoryEngine())

    @app.task
    async def job() -> None: ...

    assert app.worker().condition == "starting"
    async with working(app, WorkerOptions(concurrency=1)) as worker:
        assert worker.condition == "working"
        worker.stop()
        assert worker.condition == "stopping"


def test_stacks_show_every_thread_by_name() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="a-thread-that-waits")
    thread.start()
    try:
        shown = stacks()
    finally:
        go.set()
        thread.join()

    assert "Thread a-thread-that-waits" in shown
    assert "Thread MainThread" in shown
