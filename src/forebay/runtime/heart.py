"""Keeps leases alive, from a thread, a loop and a connection of its own, so that a handler that blocks the worker's loop keeps its work:
up to its timeout, for it also feels the loop's pulse.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from forebay.engine import Notice
from forebay.errors import EngineError, told
from forebay.runtime.pulse import Pulse
from forebay.runtime.running import Why, stopper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.clock import Clock
    from forebay.engine import Broker, Engine
    from forebay.model.when import Micros
    from forebay.runtime.running import Run, Running

log = logging.getLogger("forebay.heart")

BATCH: Final = 1_000
_JOIN: Final = 10.0
_WHY: Final = {Notice.LOST: Why.LOST, Notice.CANCEL: Why.CANCEL}


class Heart:
    """Beats from `start` to `stop`. Belongs to the loop that started it: that is where runs are cut off."""

    def __init__(  # noqa: PLR0913  # the composition root's one call
        self,
        engine: Engine,
        worker: str,
        running: Running,
        clock: Clock,
        every: Micros,
        on_fault: Callable[[BaseException], None],
        *,
        on_blocked: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_fault, self._on_blocked = on_fault, on_blocked
        self._engine, self._worker, self._running, self._clock, self._every = (
            engine,
            worker,
            running,
            clock,
            every,
        )
        self._home: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._live, name="forebay-heart", daemon=True)
        self.beats = 0

    def start(self) -> None:
        """Begin to beat; cut-offs, and the fault that ends it if there is one, are delivered to the running loop."""
        self._home = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more. Waits for the beat under way, at most ten seconds."""
        if self._home is None:
            return
        await self._home.run_in_executor(None, self._end)

    def _end(self) -> None:
        self._up.wait(_JOIN)
        with suppress(RuntimeError):  # its loop is closed: it has ended by itself
            if self._own is not None and self._stop is not None:
                self._own.call_soon_threadsafe(self._stop.set)
        self._thread.join(_JOIN)

    def _live(self) -> None:
        try:
            asyncio.run(self._beat_and_feel())
        except BaseException as error:  # noqa: BLE001  # without a heart the worker loses its leases: it has to end, in order
            self._up.set()
            with suppress(RuntimeError):  # the worker's loop is closed
                if self._home is not None:
                    self._home.call_soon_threadsafe(self._on_fault, error)

    async def _beat_and_feel(self) -> None:
        self._own, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._up.set()
        if self._home is None:
            raise AssertionError("start() comes first")
        pulse = Pulse(self._home, self._running, self._clock, self._on_blocked)
        feeling = self._own.create_task(pulse.feel(self._stop))  # ends with the beat, below
        try:
            await self._beat(self._stop)
        finally:
            feeling.cancel()
            await asyncio.wait([feeling])

    async def _beat(self, stop: asyncio.Event) -> None:
        broker = self._engine.connect(self._worker, self._clock)
        opened = False
        try:
            while not await self._clock.wait(stop, self._every):
                try:
                    if not opened:
                        await broker.declare([])
                        opened = True
                    await self._extend_all(broker)
                    self.beats += 1
                except EngineError as error:
                    log.warning("heart.missed", extra=told(error))
        finally:
            await broker.close()

    async def _extend_all(self, broker: Broker) -> None:
        under_way, runs = list(self._running.under_way), self._running.snapshot()
        for start in range(0, max(len(runs), len(under_way[:1])), BATCH):
            batch = runs[start : start + BATCH]
            notices = await broker.extend([run.delivery for run in batch], under_way=under_way)
            self._pass_on(batch, notices)

    def _pass_on(self, batch: Sequence[Run], notices: Sequence[Notice]) -> None:
        for run, notice in zip(batch, notices, strict=True):
            if notice is not Notice.KEPT and self._home is not None:
                stopper(self._home, run, _WHY[notice])()
