"""A worker's hand on the schedules: declares those of its code, sleeps until the next tick of any, and has it fired. No leader: any number
of workers fire, and each tick comes once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished
from forebay.errors import EngineError, InvalidOption, told
from forebay.features.schedules.book import CHANGED
from forebay.features.schedules.clockwork import Clockwork
from forebay.features.schedules.keeping import declare
from forebay.model.when import SECOND
from forebay.support.logs import Log

if TYPE_CHECKING:
    from forebay.engine import Store
    from forebay.features.schedules.keeping import Declaration
    from forebay.model.when import Micros
    from forebay.support.clock import Clock

log = Log("forebay.schedules")

AGAIN: Final = SECOND
"""After what has failed it is tried again so soon."""


class Ticker:
    """``look``: how often it looks for what it was not told of, and whether the clock was set, though no tick is near."""

    def __init__(self, store: Store, clock: Clock, look: Micros, declared: Declaration) -> None:
        self._store, self._clock, self._look, self._declared = store, clock, look, declared
        self._work = Clockwork(store, clock)
        self._wake = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Fire nothing any more; `run` ends with what is under way. From its loop."""
        self._closed = True
        self._wake.set()

    async def run(self) -> None:
        """Fire what is due, until it is closed."""
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._hear_changes())
            ends: asyncio.Task[None] | None = None
            declared = False
            while not self._closed:
                self._wake.clear()
                try:
                    if not declared:
                        await declare(self._store, self._declared, self._clock.now())
                        declared = True
                    if self._work.holds:
                        self._work.released(None)
                    if sent := await self._work.turn():
                        log.debug("schedule.fired", extra={"count": sent})
                    wait = self._until_next()
                except (EngineError, InvalidOption) as error:
                    # Also where no more notes are kept: the worker has other work.
                    log.warning("schedule.failed", extra=told(error))
                    wait = AGAIN
                if self._work.holds and (ends is None or ends.done()):
                    ends = group.create_task(self._hear_ends())
                await self._clock.wait(self._wake, wait)
            hearing.cancel()
            if ends is not None:
                ends.cancel()

    def _until_next(self) -> Micros:
        due = self._work.next()
        return self._look if due is None else min(self._look, max(due - self._clock.now(), 0))

    async def _hear_changes(self) -> None:
        while True:
            try:
                async for _ in self._store.watch(CHANGED):
                    self._wake.set()
            except EngineError as error:
                log.warning("schedule.failed", extra=told(error))
                await self._clock.sleep(AGAIN)

    async def _hear_ends(self) -> None:
        """As long as ticks wait for messages, hear of their ends: each hearing is work for all who end messages."""
        try:
            async for ended in self._store.watch(Finished()):
                if not self._work.holds:
                    return
                if self._work.released(ended):
                    self._wake.set()
        except EngineError as error:
            # With the next look it is begun again.
            log.warning("schedule.failed", extra=told(error))
