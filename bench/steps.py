"""Durable steps: how many are saved in a second, and how fast events wake those that wait for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.work import until_judged
from forebay import App, Context

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 5
CALLERS = 100


async def _nothing(n: int) -> int:
    return n


async def saved(url: str, count: int) -> float:
    """Steps a second: tasks of five steps each that do nothing, from the worker's start until the last is judged."""
    app = App(url)

    @app.task
    async def stepping(ctx: Context, number: int) -> None:
        for n in range(STEPS):
            await ctx.step("nothing", _nothing, number + n)

    async with app:
        await app.send_many([stepping.bind(n) for n in range(count)])
        return STEPS * await until_judged(app, count)


async def woken(url: str, count: int) -> float:
    """Tasks a second that go on with their event: as many wait as there are events, each with a key of its own."""
    app = App(url)

    @app.task
    async def waiting(ctx: Context, number: int) -> None:
        await ctx.wait_event("bench", key=str(number), timeout="1h")

    async def caller(keys: Iterator[int]) -> None:
        for number in keys:
            await app.publish("bench", None, key=str(number))

    async with app:
        await app.send_many([waiting.bind(n) for n in range(count)])
        await until_judged(app, count)
        keys = iter(range(count))
        async with asyncio.TaskGroup() as group:
            judged = group.create_task(until_judged(app, count))
            for _ in range(CALLERS):
                group.create_task(caller(keys))
        return judged.result()
