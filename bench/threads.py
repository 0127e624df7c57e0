"""The two thread layouts, measured before one was chosen.

*own*: the handlers' loop receives and settles through its own broker, and the heartbeat has a thread, a loop and a broker of its own.
*io*: one I/O thread owns the only broker; the handlers' loop and the heartbeat reach it across threads.

Under handlers that do nothing, and under handlers that burn the processor without awaiting, which is what saturates a loop: tasks a
second, and the longest time between two renewals of the leases.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from forebay import App, Timing, WorkerOptions
from forebay.engine import EngineOptions, Finished, Ready, Traits
from forebay.engines import engine_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from forebay.engine import Engine
    from forebay.support.clock import Clock

TIMING = Timing(lease=6_000_000, heartbeat=500_000)


class Measured(NamedTuple):
    """``rate``: tasks a second; ``gap``: seconds, the longest between two renewals."""

    rate: float
    gap: float


class Remote:
    """A broker that lives on another thread's loop."""

    def __init__(
        self, broker: Any, loop: asyncio.AbstractEventLoop, renewals: list[float]
    ) -> None:  # any broker
        self._broker, self._loop, self._renewals = broker, loop, renewals

    @property
    def traits(self) -> Traits:
        """The broker's own."""
        return self._broker.traits  # type: ignore[no-any-return]  # any broker

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:  # any answer
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def declare(self, *args: object) -> object:
        """Passed on."""
        return await self._there(self._broker.declare(*args))

    async def publish(self, *args: object) -> object:
        """Passed on."""
        return await self._there(self._broker.publish(*args))

    async def receive(self, *args: object, **kwargs: object) -> object:
        """Passed on."""
        return await self._there(self._broker.receive(*args, **kwargs))

    async def settle(self, *args: object) -> object:
        """Passed on."""
        return await self._there(self._broker.settle(*args))

    async def extend(self, *args: object, **kwargs: object) -> object:
        """Passed on, and noted."""
        answer = await self._there(self._broker.extend(*args, **kwargs))
        self._renewals.append(time.monotonic())
        return answer

    async def sweep(self, *args: object) -> object:
        """Passed on."""
        return await self._there(self._broker.sweep(*args))

    async def find(self, *args: object) -> object:
        """Passed on."""
        return await self._there(self._broker.find(*args))

    async def watch(self, _: Ready | Finished) -> AsyncIterator[None]:
        """Polls: nothing in this measurement waits for results."""
        while True:
            yield
            await asyncio.sleep(1)

    async def close(self) -> None:
        """The thread's owner closes the broker."""


class Layout:
    """An engine that hands out brokers as one of the two layouts does, and notes every renewal."""

    def __init__(self, engine: Engine, *, shared: bool) -> None:
        self._engine, self._shared = engine, shared
        self.renewals: list[float] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._remote: Remote | None = None

    @property
    def traits(self) -> Traits:
        """The engine's own."""
        return self._engine.traits

    @property
    def url(self) -> str:
        """The engine's own."""
        return self._engine.url

    def connect(self, worker: str, clock: Clock) -> Any:  # one of two brokers
        """A broker of its own for each loop, or the one of the I/O thread."""
        if not self._shared:
            return Noted(self._engine.connect(worker, clock), self.renewals)
        if self._remote is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
            self._remote = Remote(self._engine.connect(worker, clock), self._loop, self.renewals)
        return self._remote


class Noted:
    """A local broker whose renewals are noted."""

    def __init__(self, broker: Any, renewals: list[float]) -> None:  # any broker
        self._renewals, self._broker = renewals, broker
        self.traits, self.declare, self.publish = broker.traits, broker.declare, broker.publish
        self.receive, self.settle, self.sweep = broker.receive, broker.settle, broker.sweep
        self.find, self.watch, self.close = broker.find, broker.watch, broker.close

    async def extend(self, *args: object, **kwargs: object) -> object:
        """Passed on, and noted."""
        answer = await self._broker.extend(*args, **kwargs)
        self._renewals.append(time.monotonic())
        return answer


async def measure(url: str, *, shared: bool, count: int, burn: float) -> Measured:
    """Drain ``count`` tasks, each burning ``burn`` seconds of processor, in one layout."""
    layout = Layout(engine_for(url, EngineOptions(timing=TIMING)), shared=shared)
    app = App(layout, timing=TIMING)
    left, over = count, asyncio.Event()

    @app.task
    async def work(_: int) -> None:
        nonlocal left
        until = time.perf_counter() + burn
        while burn and time.perf_counter() < until:
            pass
        left -= 1
        if left == 0:
            over.set()

    async with app:
        await app.send_many([work.bind(n) for n in range(count)])
        worker = app.worker(WorkerOptions(concurrency=100))
        began = time.monotonic()
        task = asyncio.ensure_future(worker.run())
        await over.wait()
        rate = count / (time.monotonic() - began)
        worker.stop()
        await task
    beats = [began, *layout.renewals, time.monotonic()]
    return Measured(rate, max(b - a for a, b in itertools.pairwise(beats)))
