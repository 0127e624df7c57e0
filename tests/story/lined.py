"""The App of the story of rules, as worker processes run it: every handler notes its start, with its key, and its end."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from forebay import App, Call, Context, Timing
from forebay.support.clock import SystemClock
from forebay.testing.history import Log, Op, Outcome, Witness

TIMING = Timing(lease=3_000_000, heartbeat=500_000, sweep=500_000, crashes=1_000)

witness = Witness(Log(Path(os.environ["STORY_HISTORY"])), str(os.getpid()), SystemClock())


async def noted(call: Call, ctx: Context) -> object:
    """Start and end of every handler, under its lease."""
    lease, received = ctx.delivery.token, ctx.delivery.received
    witness.saw(Op.START, ctx.id, lease=lease, attempt=ctx.attempt, key=ctx.key, received=received)
    try:
        answer = await call(ctx)
    except BaseException:
        witness.saw(Op.FINISH, ctx.id, lease=lease, outcome=Outcome.FAIL)
        raise
    witness.saw(Op.FINISH, ctx.id, lease=lease)
    return answer


app = App(middleware=[noted], timing=TIMING)
app.queue("crowd", per_key=2, concurrency=5, rate_per_key="30/s", burst_per_key=3)
app.queue("order", ordered=True, fair=True, rate="200/s", burst=10)


async def _work(ctx: Context, number: int) -> None:
    await asyncio.sleep(random.uniform(0, 0.03))  # noqa: TID251  # stands for work
    if number % 7 == 0 and ctx.attempt == 1:
        raise ConnectionError("the provider is away")


app.task(name="crowd", queue="crowd", backoff="20ms", backoff_cap="50ms")(_work)
app.task(name="order", queue="order", backoff="20ms", backoff_cap="50ms")(_work)
app.task(name="capped", queue="crowd", max_running=2, backoff="20ms", backoff_cap="50ms")(_work)
