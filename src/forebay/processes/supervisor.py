"""Keeps worker processes alive: starts them, starts them again, hands back what the dead held, and stops all in order.

It imports no user code and opens no engine, so nothing of theirs can bring it down. Each process is a fresh interpreter at the end of a
line of its own (see `forebay.processes.link`), in a session of its own: Ctrl-C reaches the supervisor alone, which passes it on once. The
leases of a dead process are handed back by every process that lives, and by the next that starts, until one of them says it is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.model.amounts import check_count
from forebay.model.when import SECOND, Micros
from forebay.processes.link import LONGEST_LINE, VARIABLE
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.support.clock import Clock

log = Log("forebay.supervisor")

SETTLED: Final = 10 * SECOND
"""A process that was ready for so long has lived: the next start of its place does not wait."""
FIRST_PAUSE: Final = SECOND // 10
LONGEST_PAUSE: Final = 10 * SECOND
STARTS: Final = 5
"""Starts in a row that failed, with no process alive, after which the supervisor gives up."""
LAST_WORDS: Final = SECOND
"""How long a dead process that has not said its name yet is listened to: programs it started may hold its end of the line open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is supervised. ``patience``: how long a process may take to stop before it is killed, in microseconds; ``hurry``: once
    hastened. ``hopeless``: exit codes after which, if no process was ever ready, trying again is of no use.
    """

    command: Sequence[str]
    processes: int
    patience: Micros
    hurry: Micros
    hopeless: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        check_count(self.processes, "processes", 1)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a supervised time ended. ``code``: the exit code that tells most, 0 if all stopped in order, negative for a signal.

    ``gave_up``: no process could be kept alive.
    """

    code: int = 0
    gave_up: bool = False


@dataclass(slots=True, eq=False)
class Child:
    """One process."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    name: str = ""
    since: Micros | None = None
    full: asyncio.Event = field(default_factory=asyncio.Event)
    asked: bool = False

    @property
    def ready(self) -> bool:
        """Whether it works."""
        return self.since is not None

    def ask(self) -> None:
        """Ask it to stop in order, once."""
        if not self.asked:
            self.asked = True
            self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there.

        Not by the process object's own method: that looks first whether the process has ended, and so takes its exit code away from the
        event loop's watcher, which then reports 255 (CPython issue 87744; needed until all supported versions have its cure).
        """
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def tell(self, *words: str) -> None:
        """Write it a line. What it cannot be told any more, others are."""
        if not self.writer.is_closing():
            self.writer.write(f"{' '.join(words)}\n".encode("ascii", "replace"))


@dataclass(slots=True, eq=False)
class Place:
    """Where one process after the other works. ``falls``: deaths since one lived. ``turn``: it is being replaced, and others wait."""

    number: int
    falls: int = 0
    turn: bool = False


class Supervisor:
    """Runs once, until it is told to stop or gives up."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch, self._clock = watch, clock
        self._stop, self._hasten, self._proven = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._children: set[Child] = set()
        self._orphans: set[str] = set()
        self._turn = asyncio.Lock()
        self._failed_starts = 0
        self._ended = Ended()

    @property
    def ready(self) -> int:
        """How many processes work."""
        return sum(child.ready for child in self._children)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, or gave up."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop all processes in order. Said twice: tell them twice, so that they hand back their work at once."""
        if self._stop.is_set():
            self._hasten.set()
        self._stop.set()
        self._proven.set()

    async def run(self) -> Ended:
        """Work until `stop`, SIGTERM or SIGINT, or until no process can be kept alive. No process is left when it returns.

        Cancelling it kills the processes.
        """
        loop = asyncio.get_running_loop()
        for caught in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(caught, self.stop)
        log.info("supervisor.started", extra={"pid": os.getpid(), "processes": self._watch.processes})
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._watch.processes):
                    group.create_task(self._keep(Place(number)))
                    # The first one proves that the App can be imported and its engine opened: what is wrong is said once.
                    await self._proven.wait()
        finally:
            for caught in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(caught)
        log.info("supervisor.stopped", extra={"pid": os.getpid()})
        return self._ended

    async def _keep(self, place: Place) -> None:
        while not self._stop.is_set():
            child = await self._start(place, first=place.number == 0 and not self._proven.is_set())
            if child is None:
                continue
            try:
                await self._see_through(place, child)
            finally:
                self._children.discard(child)
                child.writer.close()
            if not child.asked:
                self._pass_turn(place)
            if child.name:
                self._orphans.add(child.name)
                self._tell_of_orphans(self._children)
            code = child.process.returncode or 0
            if self._stop.is_set():
                self._note_end(child, code)
            else:
                pause = self._pause(place, child, code)
                fields: dict[str, object] = {"pid": child.process.pid, "exit": code}
                if not self._stop.is_set():
                    fields["again_seconds"] = pause / SECOND
                log.log(logging.INFO if child.asked else logging.ERROR, "process.ended", extra=fields)
                await self._clock.wait(self._stop, pause)

    async def _start(self, place: Place, *, first: bool) -> Child | None:
        """A new process; None if the host has no room for one now, after a pause."""
        try:
            child = await self._spawn(first=first)
        except OSError as error:
            pause = self._pause(place, None, 1)
            log.error("process.unstarted", extra={"error": str(error), "again_seconds": pause / SECOND})  # noqa: TRY400  # the host's
            await self._clock.wait(self._stop, pause)
            return None
        self._children.add(child)
        log.info("process.started", extra={"pid": child.process.pid})
        return child

    async def _spawn(self, *, first: bool) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST_LINE)
            number = theirs.fileno()
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._watch.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(number,),
                    env={**os.environ, VARIABLE: f"{number} first" if first else str(number)},
                    start_new_session=True,
                )
            except BaseException:
                writer.close()
                raise
        return Child(process, reader, writer)

    async def _see_through(self, place: Place, child: Child) -> None:
        """From its start to its end."""
        try:
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(self._hear(place, child))
                ends = [
                    group.create_task(self._end_with_all(child)),
                    group.create_task(self._end_when_full(place, child)),
                ]
                await child.process.wait()
                await asyncio.wait([hearing], timeout=0 if child.name else LAST_WORDS / SECOND)
                for task in (hearing, *ends):
                    task.cancel()
        finally:
            if child.process.returncode is None:
                child.signal(signal.SIGKILL)

    async def _hear(self, place: Place, child: Child) -> None:
        with suppress(ConnectionError):
            while line := await child.reader.readline():
                word, _, rest = line.decode("ascii", "replace").strip().partition(" ")
                match word:
                    case "name":
                        child.name = rest
                    case "ready":
                        self._is_ready(place, child)
                    case "full":
                        child.full.set()
                        log.info("process.full", extra={"pid": child.process.pid, "why": rest})
                    case "back":
                        self._orphans.discard(rest)
                    case _:
                        log.warning("process.mumbles", extra={"pid": child.process.pid})

    def _is_ready(self, place: Place, child: Child) -> None:
        child.since = self._clock.monotonic()
        self._failed_starts = 0
        self._proven.set()
        self._pass_turn(place)
        self._tell_of_orphans([child])
        log.info("process.ready", extra={"pid": child.process.pid, "worker": child.name})

    def _tell_of_orphans(self, children: Iterable[Child]) -> None:
        for child in children:
            if child.ready:
                for name in self._orphans:
                    child.tell("lost", name)

    async def _end_with_all(self, child: Child) -> None:
        await self._stop.wait()
        child.ask()
        if await self._clock.wait(self._hasten, self._watch.patience):
            child.signal(signal.SIGTERM)
            await self._clock.sleep(self._watch.hurry)
        self._kill(child)

    async def _end_when_full(self, place: Place, child: Child) -> None:
        """Ask it to stop when it is its turn: one place at a time, until the process that comes after is ready."""
        await child.full.wait()
        await self._turn.acquire()
        place.turn = True
        child.ask()
        await self._clock.sleep(self._watch.patience)
        self._kill(child)

    def _kill(self, child: Child) -> None:
        child.signal(signal.SIGKILL)
        log.error("process.killed", extra={"pid": child.process.pid, "why": "it did not stop in time"})

    def _pass_turn(self, place: Place) -> None:
        """Let the next place be replaced, if this one's new process is ready or has failed."""
        if place.turn:
            place.turn = False
            self._turn.release()

    def _pause(self, place: Place, child: Child | None, code: int) -> Micros:
        """How long this place waits before its next process. Gives up when there is no use in one."""
        if child is not None and child.asked:
            place.falls = 0
            return 0
        if child is None or child.since is None:
            self._failed_starts += 1
            hopeless = code in self._watch.hopeless and not self._proven.is_set()
            if hopeless or (self._failed_starts >= STARTS and not self.ready):
                self._ended = Ended(code, gave_up=True)
                self.stop()
        elif self._clock.monotonic() - child.since >= SETTLED:
            place.falls = 0
        pause = 0 if place.falls == 0 else FIRST_PAUSE << min(place.falls - 1, 10)
        place.falls += 1
        return min(pause, LONGEST_PAUSE)

    def _note_end(self, child: Child, code: int) -> None:
        """The end of a process that was told to stop. One that was still starting may die of the signal: it held nothing."""
        log.info("process.stopped", extra={"pid": child.process.pid, "exit": code})
        if code not in {0, -signal.SIGTERM} and not self._ended.gave_up:
            self._ended = Ended(code)
