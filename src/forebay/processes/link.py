"""A worker process's end of the line to its supervisor: it says who it is and how it fares, and hears whose work to hand back.

The line is a socket pair, handed down by number in the environment. It needs no file and no name, and breaks by itself when either end
dies, however it dies: a worker whose line breaks has lost its supervisor and ends in order.

Lines are words in ASCII. From the worker: ``name NAME`` before it takes work, ``ready``, ``full WHY`` (it asks to be replaced),
``back NAME`` (done). From the supervisor: ``lost NAME`` (this worker is dead: hand back its leases).
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from forebay.errors import ConfigError, EngineError, told
from forebay.model.when import SECOND, Micros
from forebay.processes.memory import resident
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from forebay.runtime.worker import Worker
    from forebay.support.clock import Clock

log = Log("forebay.link")

VARIABLE: Final = "FOREBAY_LEASH"
LONGEST_LINE: Final = 1_024
_LOOK: Final = SECOND // 4
_AGAIN: Final = SECOND // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """When a worker process asks to be replaced: after so many deliveries, or with so many bytes in memory. 0: never."""

    tasks: int = 0
    memory: int = 0


class SupervisorLink:
    """One line, from `taken` until the process ends."""

    def __init__(self, line: socket.socket, *, first: bool) -> None:
        self._line, self.first = line, first
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._broken = False
        self._end: Callable[[], NoReturn] = _gone
        self._patience: Micros = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lost: asyncio.Queue[str] = asyncio.Queue()
        self._handled = 0

    @classmethod
    def taken(cls, environment: MutableMapping[str, str]) -> Self | None:
        """The line this process was given, taken out of ``environment`` so that programs started here do not take it for theirs.

        From now on a broken line ends the process. Raises `ConfigError` for a line that is none.
        """
        said = environment.pop(VARIABLE, "")
        if not said:
            return None
        number, _, place = said.partition(" ")
        try:
            line = socket.socket(fileno=int(number))
        except (ValueError, OSError) as error:
            raise ConfigError(
                f"{VARIABLE}={said!r} leads to no supervisor: only 'forebay worker --processes' sets it, for its own; unset it."
            ) from error
        line.set_inheritable(False)
        line.setblocking(True)
        link = cls(line, first=place == "first")
        threading.Thread(target=link._listen, name="forebay-link", daemon=True).start()
        return link

    def hold(self, worker: Worker, patience: Micros, end: Callable[[], NoReturn]) -> None:
        """The worker that is stopped in order when the line breaks; ``end`` ends the process if it has not by ``patience``."""
        with self._lock:
            self._worker, self._patience, self._end = worker, patience, end
        self._say("name", worker.name)

    async def attend(
        self, hand_back: Callable[[str], Awaitable[object]] | None, fill: Fill, clock: Clock
    ) -> None:
        """Report to the supervisor and do what it asks, until cancelled. ``hand_back`` None: this engine keeps no leases to hand back."""
        worker = self._held()
        self._loop = asyncio.get_running_loop()
        if fill.tasks:
            worker.on_verdict.append(self._count)
        await worker.ready.wait()
        self._say("ready")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._weigh(fill, clock))
            while True:
                name = await self._lost.get()
                if hand_back is not None:
                    await _surely(hand_back, name, clock)
                self._say("back", name)

    async def _weigh(self, fill: Fill, clock: Clock) -> None:
        while fill.tasks or fill.memory:
            await clock.sleep(_LOOK)
            why = "tasks" if 0 < fill.tasks <= self._handled else ""
            if not why and fill.memory and resident() >= fill.memory:
                why = "memory"
            if why:
                self._say("full", why)
                return

    def _count(self, *_: object) -> None:
        self._handled += 1

    def _held(self) -> Worker:
        if self._worker is None:
            raise AssertionError("hold() comes first")
        return self._worker

    def _say(self, *words: str) -> None:
        with suppress(OSError):  # the supervisor is dead: the thread that listens sees it too
            self._line.sendall(f"{' '.join(words)}\n".encode("ascii", "replace"))

    def _listen(self) -> None:
        with suppress(OSError), self._line.makefile("rb") as lines:
            while line := lines.readline(LONGEST_LINE):
                word, _, name = line.decode("ascii", "replace").strip().partition(" ")
                if word == "lost" and self._loop is not None:
                    with suppress(RuntimeError):  # the loop is closed: this process ends, another hands back
                        self._loop.call_soon_threadsafe(self._lost.put_nowait, name)
        self._alone()

    def _alone(self) -> None:
        with self._lock:
            worker = self._worker
            if worker is None:
                _gone()  # still at its imports: it holds nothing
        worker.stop()
        log.warning("supervisor.gone", extra={"worker": worker.name})
        threading.Event().wait(self._patience / SECOND)
        self._end()


def _gone() -> NoReturn:
    os._exit(0)


async def _surely(hand_back: Callable[[str], Awaitable[object]], name: str, clock: Clock) -> None:
    """Hand back, again and again while the engine is away."""
    while True:
        try:
            count = await hand_back(name)
        except EngineError as error:
            log.warning("leases.wait", extra={"of": name, **told(error)})
            await clock.sleep(_AGAIN)
        else:
            log.info("leases.handed_back", extra={"of": name, "count": count})
            return
