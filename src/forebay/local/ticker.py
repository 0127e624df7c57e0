"""Ticks at a fixed interval. A slow receiver misses some; it never gets a pile of old ones."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from forebay.local.channel import Channel
from forebay.local.errors import MisuseError, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.local.channel import ReceiveOnly


@contextmanager
def ticker(interval: float) -> Iterator[ReceiveOnly[float]]:
    """Give a channel with a tick every ``interval`` seconds, the loop's time each; it ends with the block, and no stale tick is left.

    ```python
    with ticker(1.0) as ticks:
        async for now in ticks:
            print(now)
    ```
    """
    if interval <= 0:
        raise MisuseError(f"A ticker's interval is more than 0 seconds, not {interval!r}.")
    loop = asyncio.get_running_loop()
    ticks = Channel[float](1, name="ticker")

    timer: asyncio.TimerHandle

    def tick(due: float) -> None:
        nonlocal timer
        with suppress(WouldBlock):  # the receiver is slow: this tick is dropped
            ticks.try_send(due)
        timer = loop.call_at(due + interval, tick, due + interval)

    tick_at = loop.time() + interval
    timer = loop.call_at(tick_at, tick, tick_at)
    try:
        yield ticks.receive_only
    finally:
        timer.cancel()
        ticks.close()
        while len(ticks):
            ticks.try_receive()
