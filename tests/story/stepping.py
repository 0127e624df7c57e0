"""A program whose handlers have durable steps, which dies at a named point; imported, the same without the deaths. As `mortal`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial, wraps
from pathlib import Path
from typing import Any

from forebay import App, Context, Timing
from forebay.features.steps.desk import desk_of
from forebay.features.steps.steps import Steps
from forebay.model.message import EntryId
from forebay.runtime import worker
from forebay.runtime.worker import WorkerOptions
from forebay.stores.sqlite import arrivals
from forebay.support.clock import SystemClock
from forebay.testing.clock import eventually
from forebay.testing.history import Log, Op, Witness
from tests.story import mortal

ORDERS = 6
SLOTS = 3


def shop(url: str, witness: Witness, timing: Timing) -> App:
    """Orders that are charged, sleep, wait until they are paid for, and are shipped; what each step does is witnessed."""
    app = App(url, timing=timing)

    @app.task(max_attempts=50)
    async def order(ctx: Context, number: int) -> list[str]:
        def act(what: str) -> str:
            witness.saw(Op.EFFECT, f"{ctx.id}/{what}")
            return f"{what} {number}"

        done = [await ctx.step("charge", act, "charge")]
        await ctx.sleep("1ms")
        done.append(await ctx.wait_event("paid", key=str(number), timeout="60s"))
        names = [f"parts[{n}]" for n in range(3)]
        done += [part async for part in ctx.step_map("parts", act, names, concurrency=2)]
        return [*done, await ctx.step("ship", act, "ship")]

    return app


async def pay(app: App, ids: dict[str, int]) -> None:
    """Publish the event that an order waits for, as soon as it does; until all are over."""
    while ids:
        for key, number in list(ids.items()):
            if any(step.waits for step in await app.saved_steps(EntryId(key))):
                await app.publish("paid", f"paid {number}", key=str(number))
        ids = {key: number for key, number in ids.items() if not await is_over(app, key)}
        await asyncio.sleep(0.002)  # noqa: TID251  # somebody who looks now and then


async def is_over(app: App, key: str) -> bool:
    """Whether an order has ended."""
    return any(step.name == "ship" for step in await app.saved_steps(EntryId(key)))


async def work(app: App, ids: dict[str, int]) -> None:
    """Work until all orders are over, and a little longer."""
    crew = app.worker(WorkerOptions(concurrency=SLOTS, stop_within=50_000))
    async with asyncio.TaskGroup() as group:
        group.create_task(crew.run())
        await pay(app, ids)
        await eventually(partial(mortal.is_quiet, app), within=20)
        crew.stop()


in_no_place = partial(desk_of, in_place=0)
"""However short a sleep is, the try is left."""


async def _live(url: str, witness: Witness) -> None:
    app = shop(url, witness, mortal.SHORT)
    async with app:
        order = app.named("order")
        handles = await app.send_many([order.bind(number) for number in range(ORDERS)])
        for handle in handles:
            witness.saw(Op.SEND, handle.id)
        await work(app, {handle.id: number for number, handle in enumerate(handles)})


def _around(method: str, point: str) -> None:
    plain = getattr(Steps, method)

    @wraps(plain)
    async def dying(*args: Any, **kwargs: Any) -> Any:
        mortal.points.hit(f"{point} before")
        answer = await plain(*args, **kwargs)
        mortal.points.hit(f"{point} after")
        return answer

    setattr(Steps, method, dying)


def _all_points() -> None:
    mortal._commits()
    _around("_kept", "step")
    _around("_load", "load")
    _around("_call", "function")
    plain = arrivals._meet

    def between(*args: Any) -> int:
        met = plain(*args)
        if met:
            mortal.points.hit("met inside")
        return met

    vars(arrivals)["_meet"] = between


def main() -> None:
    url, history, fatal, at = sys.argv[1:]
    mortal.points.doom(fatal, int(at))
    _all_points()
    vars(worker)["desk_of"] = in_no_place
    asyncio.run(_live(url, Witness(Log(Path(history)), "stepping", SystemClock())))


if __name__ == "__main__":
    main()
