"""Sending and draining: rates of one process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from forebay import App, WorkerOptions

if TYPE_CHECKING:
    from pathlib import Path


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


async def drain(url: str, count: int, concurrency: int = 100) -> float:
    """No-op tasks a second from the worker's start to the last settled, history kept."""
    app = App(url)
    left, over = count, asyncio.Event()

    @app.task
    async def noop(n: int) -> None: ...

    def settled(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            over.set()

    async with app:
        for start in range(0, count, 10_000):
            await app.send_many([noop.bind(n) for n in range(start, min(start + 10_000, count))])
        worker = app.worker(WorkerOptions(concurrency=concurrency))
        worker.on_verdict.append(settled)
        began = time.perf_counter()
        task = asyncio.ensure_future(worker.run())
        await over.wait()
        worker.stop()
        await task  # until the last settlement is committed
        return count / (time.perf_counter() - began)


def on_disk(folder: Path, name: str) -> str:
    """The URL of a new SQLite file."""
    return f"sqlite:///{folder / name}.db"
