"""What a claim costs beside a crowd that has expired in another queue and that no sweep has come by yet."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from forebay.engine import Ask, EngineOptions, Settlement, Source
from forebay.model.message import Message
from forebay.model.verdict import Done
from forebay.model.when import After
from forebay.stores.sqlite import SqliteEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids, new_token

if TYPE_CHECKING:
    from pathlib import Path

CLAIMS = 200
BATCH = 50
PORTION = 10_000
SOON = 1_000
"""Microseconds after which the crowd has expired."""


async def claims_beside(path: Path, crowd: int) -> float:
    """Milliseconds of a receive of 50 from one queue, the median, while ``crowd`` messages are past their time in another."""
    store = SqliteEngine(path, EngineOptions()).connect("bench", SystemClock())
    work, ids = Source(queue="work"), Ids()
    await store.declare([work])
    for _ in range(0, crowd, PORTION):
        await store.publish(
            [
                Message(id=ids.message(), name="late", queue="late", expires=After(SOON))
                for _ in range(PORTION)
            ]
        )
    await store.publish([Message(id=ids.message(), name="noop", queue="work") for _ in range(CLAIMS * BATCH)])
    took: list[float] = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        taken = await store.receive([Ask(work, new_token(), BATCH)], wait=0)
        took.append(time.perf_counter() - began)
        await store.settle([Settlement(delivery, Done()) for delivery in taken])
    await store.close()
    return 1_000 * statistics.median(took)
