"""A program whose tasks gather, are debounced and throttled, dying at a named point; imported, the same without the deaths. As `mortal`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from forebay import App, Context, Debounce, Timing
from forebay.runtime.worker import WorkerOptions
from forebay.support.clock import SystemClock
from forebay.testing.clock import eventually
from forebay.testing.history import Log, Op, Witness
from tests.story import mortal

GLEANED = 10
VERSIONS = 4
SLOTS = 3


def shop(url: str, witness: Witness, timing: Timing) -> App:
    """Numbers that are added up together, pages that are drawn in their last version, and a greeting that goes out once; all witnessed."""
    app = App(url, timing=timing)

    @app.task(gather="200ms", gather_wait="20ms", gather_max=4, max_attempts=50)
    async def add(each: list[Context], numbers: list[int]) -> None:
        for ctx, number in zip(each, numbers, strict=True):
            witness.saw(Op.EFFECT, f"{ctx.id}/{number}/{ctx.key}/{len(each)}")

    @app.task(max_attempts=50)
    async def draw(page: int, version: int) -> None:
        witness.saw(Op.EFFECT, f"page{page}/{version}")

    @app.task(max_attempts=50)
    async def greet() -> None:
        witness.saw(Op.EFFECT, "greeting")

    return app


async def send_all(app: App, witness: Witness) -> None:
    """One by one; each is noted when its answer is there."""
    add, draw, greet = (app.named(name) for name in ("add", "draw", "greet"))
    for number in range(GLEANED):
        handle = await add.options(key=f"k{number % 2}").send(number)
        witness.saw(Op.SEND, handle.id)
        for page in range(2):
            if number < VERSIONS:
                calm = draw.options(debounce=Debounce("15ms", longest="1s"), key=f"page{page}")
                await calm.send(page, number)
                witness.saw(Op.SEND, f"page{page}/{number}")
        await greet.options(throttle="1h").send()


async def work(app: App) -> None:
    """Work until all is quiet."""
    crew = app.worker(WorkerOptions(concurrency=SLOTS, stop_within=50_000))
    async with asyncio.TaskGroup() as group:
        group.create_task(crew.run())
        await eventually(partial(mortal.is_quiet, app), within=20)
        crew.stop()


async def _live(url: str, witness: Witness) -> None:
    app = shop(url, witness, mortal.SHORT)
    async with app:
        crew = app.worker(WorkerOptions(concurrency=SLOTS, stop_within=50_000))
        async with asyncio.TaskGroup() as group:
            group.create_task(crew.run())
            await send_all(app, witness)
            await eventually(partial(mortal.is_quiet, app), within=20)
            crew.stop()


def main() -> None:
    url, history, fatal, at = sys.argv[1:]
    mortal.points.doom(fatal, int(at))
    mortal._commits()
    asyncio.run(_live(url, Witness(Log(Path(history)), "gleaning", SystemClock())))


if __name__ == "__main__":
    main()
