"""The App that story tests run in worker processes: every handler notes what it does in one history file."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from forebay import App, Call, Context, Timing
from forebay.support.clock import SystemClock
from forebay.testing.history import Log, Op, Outcome, Witness

TIMING = Timing(lease=3_000_000, heartbeat=500_000, sweep=500_000, crashes=1_000)
"""Short, so that a killed worker's work is back within seconds; killing the innocent again and again must not quarantine them here."""

witness = Witness(Log(Path(os.environ["STORY_HISTORY"])), str(os.getpid()), SystemClock())


async def noted(call: Call, ctx: Context) -> object:
    """Start and end of every handler, under its lease."""
    lease = ctx.delivery.token
    witness.saw(Op.START, ctx.id, lease=lease, attempt=ctx.attempt)
    try:
        answer = await call(ctx)
    except BaseException:
        witness.saw(Op.FINISH, ctx.id, lease=lease, outcome=Outcome.FAIL)
        raise
    witness.saw(Op.FINISH, ctx.id, lease=lease)
    return answer


app = App(middleware=[noted], timing=TIMING)


@app.task(backoff="20ms", backoff_cap="100ms")
async def charge(ctx: Context, order: int) -> int:
    """Takes a moment, fails now and then, and has an effect when it does not."""
    await asyncio.sleep(random.uniform(0, 0.06))  # noqa: TID251  # stands for work
    if order % 10 == 0 and ctx.attempt == 1:
        raise ConnectionError("the provider is away")
    witness.saw(Op.EFFECT, ctx.id)
    return order


@app.task
async def place(ctx: Context, order: int) -> None:
    """Sends a charge with its success: both or neither."""
    ctx.send(charge.bind(order))
