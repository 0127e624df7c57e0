"""The App of the story of flows: steps that are gathered, and steps that add others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from forebay import App, Context, Task, Timing

AnyTask = Task[..., Any, ..., Any]


@dataclass(frozen=True)
class Loom:
    """The tasks of one App."""

    fetch: AnyTask
    times: AnyTask
    total: AnyTask
    split: AnyTask


def loom(app: App) -> Loom:
    """Declare the tasks."""

    @app.task
    async def fetch(number: int) -> int:
        return number

    @app.task
    async def times(number: int, by: int) -> int:
        await asyncio.sleep(0.002)  # noqa: TID251  # stands for work
        return number * by

    @app.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task
    async def split(ctx: Context, number: int) -> None:
        parts = [ctx.flow.add(times.bind(number, by)) for by in range(5)]
        ctx.flow.add(total.bind(), after=parts, gather=True, name="sum")

    return Loom(fetch, times, total, split)


app = App(timing=Timing(lease="1500ms", heartbeat="400ms", sweep="300ms", crashes=1_000))
"""Its leases are short, so that what a killed worker had is back soon; being killed again and again must not make it a suspect for good."""
loom(app)
