"""From enqueue to the start of the handler on an idle worker, in the same process and in another one."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from forebay import App

if TYPE_CHECKING:
    from pathlib import Path

EVERY = 0.02
"""Seconds between two sends: the worker is idle each time."""


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


async def same_process(url: str, count: int = 300) -> Delays:
    """Sender and worker on one loop."""
    delays: list[float] = []
    app = timed_app(url, delays)
    async with app:
        worker = app.worker()
        task = asyncio.ensure_future(worker.run())
        await worker.ready.wait()
        await _send(app, count + 20)
        worker.stop()
        await task
    return summary(delays[20:])


async def _send(app: App, count: int) -> None:
    for _ in range(count):
        handle = await app.send("arrive", time.monotonic(), queue="latency")
        await handle.result(10)
        await asyncio.sleep(EVERY)


async def across_processes(url: str, folder: Path, count: int = 300) -> Delays:
    """The worker in a process of its own."""
    output = folder / "delays.txt"
    app = App(url)
    async with app:
        child = subprocess.Popen([sys.executable, "-m", "bench.latency", url, str(output)])  # noqa: ASYNC220  # our own module
        await _send(app, count + 20)
        child.terminate()
        child.wait(30)
    return summary([float(line) for line in output.read_text().splitlines()][20:])


async def _work(url: str, output: str) -> None:
    delays: list[float] = []
    await timed_app(url, delays).worker().run(signals=True)
    with open(output, "w", encoding="ascii") as file:  # noqa: ASYNC230, PTH123  # the work is over
        file.writelines(f"{delay}\n" for delay in delays)


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
