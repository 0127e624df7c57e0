"""Flows: how many steps run in a second. A wide flow runs all at once and is gathered; a chain runs one at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeAlias

from forebay import App, WorkerOptions
from forebay.testing.clock import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.flows import Flow
    from forebay.tasks import BoundTask

    Nothing: TypeAlias = Callable[[int], BoundTask[None]]

COUNT = 10_000
"""Steps beside each other, or one after the other."""


def wide(flow: Flow, nothing: Nothing, count: int) -> None:
    """One step, ``count`` that wait for it, and one that waits for all of them."""
    first = flow.add(nothing(0))
    flow.add(nothing(0), after=[flow.add(nothing(n), after=first) for n in range(count)])


def long(flow: Flow, nothing: Nothing, count: int) -> None:
    """A chain."""
    last = flow.add(nothing(0))
    for n in range(1, count):
        last = flow.add(nothing(n), after=last)


async def drain(url: str, shape: Callable[[Flow, Nothing, int], None], count: int = COUNT) -> float:
    """Steps a second of one flow of no-op tasks, concurrency 100, from the worker's start until the flow is over."""
    app = App(url)

    @app.task
    async def nothing(n: int) -> None: ...

    async with app:
        flow = app.flow("bench")
        shape(flow, nothing.bind, count)
        handle = await flow.send()
        steps = sum((await handle.status()).steps.values())
        worker = app.worker(WorkerOptions(concurrency=100))
        over = asyncio.Event()
        left = steps

        def judged(*_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                over.set()

        worker.on_verdict.append(judged)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(over.is_set, within=600)
            took = time.perf_counter() - began
            worker.stop()
        await handle.result(timeout=10)
        return steps / took
