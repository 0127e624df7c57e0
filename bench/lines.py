"""Lines: how fast tasks are worked off that stand in line of their keys, and what a claim takes beside a key with a million waiting."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from bench.work import until_judged
from forebay import App
from forebay.engine import Ask, EngineOptions, Settlement, Source
from forebay.model import verdict as v
from forebay.model.message import Message, MessageId
from forebay.model.rule import Rule, Rules
from forebay.stores.sqlite import SqliteEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token

if TYPE_CHECKING:
    from pathlib import Path

HOT = 1_000_000
KEYS = 2_000
BATCH = 1_000


async def drained(url: str, count: int) -> float:
    """Tasks a second that do nothing, in two hundred lines of two at a time each, from the worker's start until the last is judged."""
    app = App(url)
    app.queue("lines", per_key=2)

    @app.task(queue="lines")
    async def nothing(n: int) -> None: ...

    async with app:
        calls = [nothing.options(key=f"k{n % (KEYS // 10)}").bind(n) for n in range(count)]
        await app.send_many(calls)
        return await until_judged(app, count)


async def claimed(path: Path, hot: int) -> float:
    """Microseconds of a claim of ten, one of each of two thousand keys, beside one key with ``hot`` messages waiting: the median."""
    source = Source(queue="lines", rules=Rules(Rule(per_key=1)))
    store = SqliteEngine(path, EngineOptions()).connect("bench", SystemClock())
    await store.declare([source])
    keys = ["hot"] * hot + [f"k{n}" for n in range(KEYS)]
    for start in range(0, len(keys), BATCH):
        some = enumerate(keys[start : start + BATCH], start)
        await store.publish(
            [Message(id=MessageId(f"m{n}"), name="job", queue="lines", key=key) for n, key in some]
        )
    took: list[float] = []
    try:
        while True:
            began = time.perf_counter()
            taken = await store.receive([Ask(source, new_token(), 10)], wait=0)
            took.append(time.perf_counter() - began)
            # The hot key has its place until the others are through.
            rest = [one for one in taken if one.message.key != "hot"]
            if not rest:
                return median(took[1:-1]) * 1e6
            await store.settle([Settlement(one, v.Done()) for one in rest])
    finally:
        await store.close()
