"""Keeps leases alive, from a thread, a loop and a connection of its own, so that a handler that blocks the worker's loop keeps its work:
up to its timeout, for it also feels the loop's watchdog.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from forebay.engine import Cancels, LeaseKind, Losses, Notice
from forebay.errors import EngineError, told
from forebay.model.when import SECOND
from forebay.runtime.in_flight import Why, stopper
from forebay.runtime.watchdog import Watchdog
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.engine import Broker, Engine, Store, Tethered
    from forebay.model.survey import Presence
    from forebay.model.when import Micros
    from forebay.runtime.in_flight import InFlight, Run
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

log = Log("forebay.heartbeat")

BATCH: Final = 1_000
PACE: Final = SECOND
"""Progress is carried on at most this often."""
_JOIN: Final = 10.0
_WHY: Final = {Notice.LOST: Why.LOST, Notice.CANCEL: Why.CANCEL}


class Heartbeat:
    """Beats from `start` to `stop`. Belongs to the loop that started it: that is where runs are cut off."""

    def __init__(  # noqa: PLR0913  # the composition root's one call
        self,
        engine: Engine,
        worker: str,
        in_flight: InFlight,
        clock: Clock,
        every: Micros,
        on_fault: Callable[[BaseException], None],
        *,
        on_blocked: Callable[[], None] = lambda: None,
        presence: Callable[[], Presence] | None = None,
    ) -> None:
        self._on_fault, self._on_blocked = on_fault, on_blocked
        self._presence, self._said = presence, -every
        self._engine, self._worker, self._in_flight, self._clock, self._every = (
            engine,
            worker,
            in_flight,
            clock,
            every,
        )
        self._home: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._news: asyncio.Event | None = None
        self._urgent: asyncio.Event | None = None
        self._stopping = False
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._live, name="forebay-heartbeat", daemon=True)
        self.beats = 0
        self.missing: Micros | None = None
        """Since when (monotonic) the engine could not be reached; None if it could."""

    def start(self) -> None:
        """Begin to beat; cut-offs, and the fault that ends it if there is one, are delivered to the running loop."""
        self._home, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._in_flight.on_news = self._hear_news
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more. Waits for the beat under way, at most ten seconds."""
        if self._ended is None or self._thread.ident is None:
            return
        self._stopping = True
        with suppress(RuntimeError):  # its loop is closed: it has ended by itself
            if self._own is not None:
                self._own.call_soon_threadsafe(self._say_stop)
        # Not by a thread that joins it: at a stop there may be no room for a thread, or for the module that would start it.
        with suppress(TimeoutError):
            async with asyncio.timeout(_JOIN):
                await self._ended.wait()

    def _say_stop(self) -> None:
        for event in (self._stop, self._urgent, self._news):
            if event is not None:
                event.set()

    def _hear_news(self) -> None:
        """There is progress to tell of. From any thread."""
        with suppress(RuntimeError):  # its loop is closed: it has ended
            if self._own is not None and self._news is not None and not self._news.is_set():
                self._own.call_soon_threadsafe(self._news.set)

    def _live(self) -> None:
        try:
            asyncio.run(self._beat_and_feel())
        except BaseException as error:  # noqa: BLE001  # without a heartbeat the worker loses its leases: it has to end, in order
            self._tell_home(partial(self._on_fault, error))
        finally:
            if self._ended is not None:
                self._tell_home(self._ended.set)

    def _tell_home(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the worker's loop is closed
            if self._home is not None:
                self._home.call_soon_threadsafe(call)

    async def _beat_and_feel(self) -> None:
        self._own, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._news, self._urgent = asyncio.Event(), asyncio.Event()
        # The first beat is at once: it opens the connection, which from then on hears of cancels.
        self._urgent.set()
        if self._stopping:
            self._say_stop()
        if self._home is None:
            raise AssertionError("start() comes first")
        watchdog = Watchdog(self._home, self._in_flight, self._clock, self._on_blocked)
        feeling = self._own.create_task(watchdog.feel(self._stop))  # ends with the beat, below
        try:
            await self._beat(self._stop)
        finally:
            feeling.cancel()
            await asyncio.wait([feeling])

    async def _beat(self, stop: asyncio.Event) -> None:
        if self._engine.traits.lease is LeaseKind.CONNECTION:
            await stop.wait()  # nothing can be renewed from here: `hear_losses` is what there is
            return
        broker = self._engine.connect(self._worker, self._clock)
        listening: asyncio.Task[None] | None = None
        try:
            while not stop.is_set():
                await self._wait(stop)
                if stop.is_set():
                    return
                try:
                    if listening is None:
                        await broker.declare([])
                        listening = asyncio.get_running_loop().create_task(self._listen(broker))  # ends below
                        await asyncio.sleep(0)  # noqa: TID251  # let it begin: what is asked from now on is heard
                    await self._extend_all(broker)
                    await self._attend(broker)
                    self.beats += 1
                    self.missing = None
                except EngineError as error:
                    self.missing = self.missing or self._clock.monotonic()
                    log.warning("heartbeat.missed", extra=told(error))
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.wait([listening])
                await self._leave(broker)
            await broker.close()

    async def _wait(self, stop: asyncio.Event) -> None:
        """Until the next beat is due, something cannot wait for it, or there is progress to tell of, which may wait a little."""
        if self._news is None or self._urgent is None:
            raise AssertionError("start() comes first")
        if self._urgent.is_set():
            self._urgent.clear()
            return
        if await self._clock.wait(self._news, self._every) and not stop.is_set():
            self._news.clear()
            if not self._urgent.is_set():
                await self._clock.wait(self._urgent, min(PACE, self._every))
            self._urgent.clear()

    async def _listen(self, broker: Broker) -> None:
        """Hear at once of running messages that are asked to stop, instead of with the next beat."""
        if not broker.traits.remembers or self._news is None or self._urgent is None:
            return
        signals = cast("Store", broker).watch(Cancels())
        await anext(signals)
        async for _ in signals:
            self._urgent.set()
            self._news.set()

    async def _extend_all(self, broker: Broker) -> None:
        # In this order: what a receive has brought is among the runs before its token is out of the set.
        under_way, runs = list(self._in_flight.under_way), self._in_flight.snapshot()
        for batch in batches(runs) or ([[]] if under_way else []):
            said = [(run, progress) for run in batch if (progress := run.progress) is not None]
            notices = await broker.extend(
                [run.delivery for run in batch],
                under_way=under_way,
                progress={run.delivery.id: progress for run, progress in said},
            )
            for run, progress in said:
                run.told = progress
            self._pass_on(batch, notices)

    async def _attend(self, broker: Broker) -> None:
        """Say that the worker is there: with each beat, but not with each word of progress."""
        now = self._clock.monotonic()
        if self._presence is None or not broker.traits.remembers or now - self._said < self._every // 2:
            return
        await cast("Store", broker).attend(self._presence())
        self._said = now

    async def _leave(self, broker: Broker) -> None:
        """Say that it is gone; else that is noticed a lease later."""
        if self._presence is not None and broker.traits.remembers:
            with suppress(EngineError):
                await cast("Store", broker).attend(None)

    def _pass_on(self, batch: Sequence[Run], notices: Sequence[Notice]) -> None:
        for run, notice in zip(batch, notices, strict=True):
            if notice is not Notice.KEPT and self._home is not None:
                stopper(self._home, run, _WHY[notice])()


async def hear_losses(broker: Tethered, in_flight: InFlight) -> None:
    """Cut off at once what a connection has taken with it. On the loop and the broker that received it; ends when it is cancelled."""
    async for _ in broker.watch(Losses()):
        runs = in_flight.snapshot()
        try:
            notices = await broker.extend([run.delivery for run in runs])
        except EngineError as error:
            log.warning("heartbeat.missed", extra=told(error))
            continue
        for run, notice in zip(runs, notices, strict=True):
            if notice is Notice.LOST:
                run.stop(Why.LOST)


def batches(runs: Sequence[Run]) -> list[list[Run]]:
    """About a thousand at a time, and never some of a token without the others: what is not named goes back."""
    by_token: dict[Token, list[Run]] = {}
    for run in runs:
        by_token.setdefault(run.delivery.token, []).append(run)
    batches: list[list[Run]] = []
    for siblings in by_token.values():
        if not batches or len(batches[-1]) >= BATCH:
            batches.append([])
        batches[-1] += siblings
    return batches
