"""What an engine does on this machine: rates of sending and draining, and the time from a send to the first line of its handler.

No-op handlers, one process, history kept. Each function opens an App of its own on the URL it is given, which should be new.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from forebay.app import App
from forebay.model.when import SECOND
from forebay.runtime.worker import WorkerOptions
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY: Final = SECOND // 50
"""Microseconds between two sends when delays are measured: the worker is idle each time."""
PORTION: Final = 10_000


def _nobody(_: int) -> None:
    """Nobody watches how it goes."""


async def send_many(url: str, count: int) -> float:
    """Tasks a second through one `send_many`."""
    app = App(url)

    @app.task
    async def noop(n: int) -> None: ...

    async with app:
        began = time.perf_counter()
        await app.send_many([noop.bind(n) for n in range(count)])
        return count / (time.perf_counter() - began)


async def single_sends(url: str, count: int = 1_000) -> float:
    """Tasks a second, each `send` awaited before the next."""
    app = App(url)

    @app.task
    async def noop(n: int) -> None: ...

    async with app:
        began = time.perf_counter()
        for n in range(count):
            await noop.send(n)
        return count / (time.perf_counter() - began)


async def concurrent_sends(url: str, count: int = 10_000, callers: int = 100) -> float:
    """Tasks a second, a hundred callers each awaiting one `send` after the other."""
    app = App(url)

    @app.task
    async def noop(n: int) -> None: ...

    async def caller() -> None:
        for n in range(count // callers):
            await noop.send(n)

    async with app:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        return count / (time.perf_counter() - began)


async def drain(
    url: str,
    count: int,
    concurrency: int = 100,
    *,
    waiting: int = 0,
    batch: int = 0,
    progress: Callable[[int], None] = _nobody,
) -> float:
    """No-op tasks a second from the worker's start until ``count`` are judged and the worker has stopped in order.

    ``waiting``: more of them that are there and not waited for. ``batch``: the handler takes so many at once. ``progress`` is told of each
    portion that was stored or worked off.
    """
    app = App(url)
    if batch:

        @app.task(name="noop", batch=batch, within="100ms")
        async def many(numbers: list[int]) -> None: ...

    else:

        @app.task(name="noop")
        async def noop(n: int) -> None: ...

    left, over = count, asyncio.Event()

    def settled(*_: object) -> None:
        nonlocal left
        left -= 1
        if left % PORTION == 0:
            progress(PORTION)
        if left <= 0:
            over.set()

    async with app:
        task = app.named("noop")
        for start in range(0, count + waiting, PORTION):
            calls = [task.bind(n) for n in range(start, min(start + PORTION, count + waiting))]
            await app.send_many(calls)
            progress(len(calls))
        worker = app.worker(WorkerOptions(concurrency=concurrency))
        worker.on_verdict.append(settled)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())  # until the last settlement is committed
            await over.wait()
            worker.stop()
        return count / (time.perf_counter() - began)


class Delays(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float


def summary(delays: list[float]) -> Delays:
    """Percentiles of delays in seconds."""
    cuts = statistics.quantiles(delays, n=100)
    return Delays(1_000 * statistics.median(delays), 1_000 * cuts[98])


def timed_app(url: str, delays: list[float]) -> App:
    """An App whose one task notes how long it was on its way, by the host's monotonic clock."""
    app = App(url)

    @app.task(queue="latency")
    async def arrive(sent: float) -> None:
        delays.append(time.monotonic() - sent)

    return app


async def delays_in_process(url: str, count: int = 300, progress: Callable[[int], None] = _nobody) -> Delays:
    """From a send to the first line of its handler, sender and worker on one loop; the first twenty are left out."""
    delays: list[float] = []
    app = timed_app(url, delays)
    async with app:
        worker = app.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await worker.ready.wait()
            await send_slowly(app, count + 20, progress)
            worker.stop()
    return summary(delays[20:])


async def send_slowly(app: App, count: int, progress: Callable[[int], None] = _nobody) -> None:
    """Send one task after the other, each when the worker is idle again."""
    clock = SystemClock()
    for _ in range(count):
        handle = await app.send("arrive", time.monotonic(), queue="latency")
        await handle.result(10)
        await clock.sleep(EVERY)
        progress(1)
