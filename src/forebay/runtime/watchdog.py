"""Feels from another thread whether a worker's loop still turns, and tells when a handler blocks it for longer than it may take."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from forebay.model.when import SECOND
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.when import Micros
    from forebay.runtime.in_flight import InFlight
    from forebay.support.clock import Clock

log = Log("forebay.heartbeat")

TICK: Final = SECOND
SILENCE: Final = 3
"""Ticks in a row without an answer after which a loop counts as blocked. Counted, not measured: a process that was stopped as a whole
(SIGSTOP, a laptop's sleep) did not tick either."""
LONGEST_STACKS: Final = 64 * 1_024


class Watchdog:
    """Of one loop. ``on_blocked`` is called once for each time the loop is found blocked past its handlers' timeouts."""

    def __init__(
        self,
        home: asyncio.AbstractEventLoop,
        in_flight: InFlight,
        clock: Clock,
        on_blocked: Callable[[], None],
        tick: Micros = TICK,
    ) -> None:
        self._home, self._in_flight, self._clock, self._on_blocked = home, in_flight, clock, on_blocked
        self._tick = tick
        self._answered = threading.Event()

    async def feel(self, stop: asyncio.Event) -> None:
        """Ask the loop to answer, tick by tick, until ``stop`` is set."""
        silent, told = 0, False
        self._ask()
        while not await self._clock.wait(stop, self._tick):
            if self._answered.is_set():
                silent, told = 0, False
                self._ask()
                continue
            silent += 1
            if silent >= SILENCE and not told and self._is_overdue():
                told = True
                self._tell(silent)

    def _ask(self) -> None:
        self._answered.clear()
        with suppress(RuntimeError):  # the loop is closed: the worker has ended
            self._home.call_soon_threadsafe(self._answered.set)

    def _is_overdue(self) -> bool:
        """Whether the handler that blocks has had its time; if it is not known which one that is, whether all have."""
        task = asyncio.current_task(self._home)
        runs = [run for run in self._in_flight.snapshot() if run.ends is not None]
        suspects = [run for run in runs if run.is_in(task)] or runs
        ends = [run.ends for run in suspects if run.ends is not None]
        return bool(ends) and max(ends) < self._clock.monotonic()

    def _tell(self, silent: int) -> None:
        runs = self._in_flight.snapshot()
        task = asyncio.current_task(self._home)
        names = sorted({run.delivery.message.name for run in runs if run.is_in(task)})
        fields = {
            "task": ", ".join(names),
            "silent_seconds": silent * self._tick / SECOND,
            "running": len(runs),
            "traceback": stacks()[:LONGEST_STACKS],
        }
        # In a thread of its own: the code that blocks may hold the lock of the log.
        writer = threading.Thread(
            target=log.critical, args=("loop.blocked",), kwargs={"extra": fields}, daemon=True
        )
        try:
            writer.start()
            writer.join(5)
        except RuntimeError:
            pass  # there is no room for another thread
        finally:
            self._on_blocked()


def stacks() -> str:
    """What every thread of this process is doing now, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # there is no other way to see another thread
        parts.append(f"Thread {names.get(ident, '?')} ({ident}):\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)
