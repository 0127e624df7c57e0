"""Where a benchmark's files lie, and how long tries take that are judged. What is measured is in `forebay.testing.measure`, which
``forebay bench`` uses as well.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from forebay import WorkerOptions
from forebay.testing.clock import eventually
from forebay.testing.measure import concurrent_sends, drain, send_many, single_sends

if TYPE_CHECKING:
    from pathlib import Path

    from forebay import App

__all__ = ["concurrent_sends", "drain", "on_disk", "send_many", "single_sends", "until_judged"]


def on_disk(folder: Path, name: str) -> str:
    """The URL of a new SQLite file."""
    return f"sqlite:///{folder / name}.db"


async def until_judged(app: App, count: int) -> float:
    """How many tries a worker has judged in a second, when so many have been."""
    worker, left = app.worker(WorkerOptions(concurrency=100)), count

    def judged(*_: object) -> None:
        nonlocal left
        left -= 1

    worker.on_verdict.append(judged)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await eventually(lambda: left <= 0, within=600)
        took = time.perf_counter() - began
        worker.stop()
    return count / took
