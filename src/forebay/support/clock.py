"""Time, handed in. All code that reads a clock or waits for time takes a `Clock`; tests bring one they turn by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from forebay.model.when import SECOND, Instant, Micros


class Clock(Protocol):
    """Reads and waits."""

    def now(self) -> Instant:
        """Wall time in microseconds since the epoch."""
        ...

    def monotonic(self) -> Micros:
        """Microseconds since some moment, never going back."""
        ...

    async def wait(self, event: asyncio.Event, timeout: Micros | None) -> bool:
        """Wait until ``event`` is set or ``timeout`` has passed; whether it was set. Cancelling it has no effect on the event."""
        ...

    async def sleep(self, duration: Micros) -> None:
        """Return after ``duration``."""
        ...


class SystemClock:
    """The host's clocks."""

    __slots__ = ()

    def now(self) -> Instant:
        """Wall time in microseconds since the epoch."""
        return time.time_ns() // 1_000

    def monotonic(self) -> Micros:
        """The host's monotonic clock in microseconds."""
        return time.monotonic_ns() // 1_000

    async def wait(self, event: asyncio.Event, timeout: Micros | None) -> bool:
        """Wait for ``event`` at most ``timeout`` microseconds."""
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(None if timeout is None else timeout / SECOND):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    async def sleep(self, duration: Micros) -> None:
        """Sleep ``duration`` microseconds."""
        await asyncio.sleep(duration / SECOND)
