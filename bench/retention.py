"""A store at full rate with a cap on what it keeps, beside one that keeps everything: how fast it drains, and how large the file grows."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from forebay.app import App
from forebay.engine import Retention
from forebay.runtime.worker import WorkerOptions

if TYPE_CHECKING:
    from pathlib import Path

CAP = 100_000
"""How many that have succeeded are kept."""
PORTION = 5_000
LEAST = 4 * PORTION
"""How many wait at any time, so that the worker never runs dry."""
EVERY = 1.0
"""Seconds from one look at the file to the next."""


class Flow(NamedTuple):
    """Tasks a second; bytes of database and log, by second."""

    rate: float
    sizes: list[int]

    def growth(self, since: float) -> float:
        """How much larger the file was at the end than at its largest by then, as a share. ``since``: a share of the time."""
        first = self.sizes[: max(1, int(len(self.sizes) * since))]
        return max(self.sizes) / max(first) - 1


async def flow(path: Path, seconds: float, retention: Retention) -> Flow:
    """Send and work off no-op tasks, concurrency 100, as fast as one process does both, for so long."""
    app = App(f"sqlite:///{path}", retention=retention)
    left, low, done = 0, asyncio.Event(), 0

    @app.task
    async def noop(n: int) -> None: ...

    def settled(*_: object) -> None:
        nonlocal left, done
        left, done = left - 1, done + 1
        if left < LEAST:
            low.set()

    sizes: list[int] = []

    async def look(until: float) -> None:
        while time.monotonic() < until:
            sizes.append(
                sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.is_file())
            )
            await asyncio.sleep(EVERY)

    async with app:
        worker = app.worker(WorkerOptions(concurrency=100))
        worker.on_verdict.append(settled)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            looking = group.create_task(look(began + seconds))
            while not looking.done():
                low.clear()
                await app.send_many([noop.bind(n) for n in range(PORTION)])
                left += PORTION
                if left >= LEAST:
                    await low.wait()
            rate = done / (time.monotonic() - began)
            worker.stop()
    return Flow(rate, sizes)
