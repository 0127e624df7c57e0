"""Child processes that try one message at a time: for handlers that ask for a process, and for messages with a crash on record.

A pool worker is a fresh interpreter at the end of a socket pair (`forebay.processes.pool_worker` is its side of it). It imports the App,
tries what it is given, whole, and says what became of it; verdicts are the parent's. Its line breaks when either end dies, so it ends
with its parent, and the parent sees at once that it has died. Nothing but the one message is in it: whoever dies there is guilty.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.errors import Unsupported
from forebay.model import outcome as o
from forebay.model.verdict import Failure
from forebay.model.when import SECOND, After, Micros
from forebay.processes import protocol
from forebay.runtime.executor import cut_off, limit_of, too_late
from forebay.runtime.in_flight import Why
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.declaring.handler import Handler
    from forebay.model.message import Message
    from forebay.runtime.in_flight import InFlight, Run
    from forebay.support.clock import Clock

log = Log("forebay.pool")

MERCY: Final = SECOND // 4
"""How much longer than its timeout a try may take in a pool worker, so that an async handler can be cut off from inside."""
CLEAN_UP: Final = 4 * SECOND
"""How long a try that is cut off for another reason may take to clean up before its process is killed: less than a worker that stops
waits for it, so that the message is handed back and not left to its lease."""
LAST_WORDS: Final = 2 * SECOND
"""How long a process that has closed its line may take to end."""
START: Final = 60 * SECOND
"""How long a pool worker may take to import the App."""
FIRST_PAUSE: Final = SECOND
LONGEST_PAUSE: Final = 60 * SECOND
SOONEST: Final = SECOND // 20
LATEST: Final = 30 * SECOND
"""Bounds of how long a suspect is put off when all of them are taken."""


class UnfitError(Exception):
    """A pool worker could not be started, or could not have the App."""


class DiedError(Exception):
    """A pool worker died while it tried something. ``failure`` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(slots=True, eq=False)
class PoolWorker:
    """One child process."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: Micros = 0

    @classmethod
    async def start(cls, address: protocol.Address) -> PoolWorker:
        """A process that has the App. Raises `UnfitError` with what it said if it has not."""
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours)
            number = theirs.fileno()
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "forebay.processes.pool_worker", str(number), str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL, pass_fds=(number,), start_new_session=True,
                )  # fmt: skip
            except BaseException as error:
                writer.close()
                if isinstance(error, OSError):
                    raise UnfitError(f"no process could be started: {error}") from error
                raise
        child = cls(process, reader, writer)
        try:
            child.tell(address)
            async with asyncio.timeout(START / SECOND):
                report = await child.hear()
            if not isinstance(report, protocol.Ready):
                raise UnfitError(report.why if isinstance(report, protocol.Unfit) else "it spoke out of turn")
        except BaseException as error:
            await child.end()
            if isinstance(error, TimeoutError):
                raise UnfitError(f"importing the App took longer than {START // SECOND} s") from None
            if isinstance(error, DiedError):
                raise UnfitError(f"it died while it imported the App: {error}") from error
            raise
        return child

    def tell(self, order: protocol.Order) -> None:
        """Write it an order. One that is dead is heard of by `hear`."""
        if not self.writer.is_closing():
            self.writer.write(protocol.frame(order))

    async def hear(self) -> protocol.Report:
        """Its next report. Raises `DiedError`."""
        try:
            (length,) = protocol.LENGTH.unpack(await self.reader.readexactly(protocol.LENGTH.size))
            if length > protocol.LONGEST:
                self.kill()
                raise DiedError(Failure("Crashed", f"its process sent a frame of {length} bytes"))
            return protocol.read_report(await self.reader.readexactly(length))
        except msgspec.DecodeError as error:
            self.kill()
            raise DiedError(Failure("Crashed", f"its process sent what is no report: {error}")) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise DiedError(Failure("Crashed", await self._end())) from None

    async def _end(self) -> str:
        """How the process ended, in words."""
        self.writer.close()
        try:
            async with asyncio.timeout(LAST_WORDS / SECOND):
                code = await self.process.wait()
        except TimeoutError:
            self.kill()
            return "its process closed its line and did not end"
        with suppress(ProcessLookupError, PermissionError):  # what it left behind, if anything
            os.killpg(self.process.pid, signal.SIGKILL)
        if code < 0:
            with suppress(ValueError):
                return f"its process died of {signal.Signals(-code).name}"
        return f"its process ended with exit code {code} while it ran"

    @property
    def alive(self) -> bool:
        """Whether it can be given something to do."""
        return self.process.returncode is None and not self.writer.is_closing() and not self.reader.at_eof()

    def kill(self) -> None:
        """End it at once, and the programs that it runs: it leads a group of its own.

        Not by the process object's own method, which can lose the exit code (CPython issue 87744).
        """
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.writer.close()

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS / SECOND):
                await self.process.wait()


class Pool:
    """Up to ``limit`` pool workers, started when needed. Idle ones end after ``idle`` microseconds (None: with the worker)."""

    def __init__(
        self,
        address: Callable[[], protocol.Address | None],
        in_flight: InFlight,
        clock: Clock,
        limit: int,
        idle: Micros | None = None,
    ) -> None:
        self._address, self._in_flight, self._clock = address, in_flight, clock
        self.limit, self._idle_for = limit, idle
        self._slots = asyncio.Semaphore(limit)
        self._idle: deque[PoolWorker] = deque()
        self._started: list[PoolWorker] = []
        self._timer: asyncio.TimerHandle | None = None
        self._average: Micros = SECOND // 10
        self._unfit = 0
        self._turn: Micros = 0

    def later(self) -> o.Put:
        """When a try that finds no free pool worker should come again: about when those before it will be through, one turn for each."""
        now = self._clock.monotonic()
        self._turn = min(max(self._turn, now) + self._average // self.limit, now + LATEST)
        return o.Put(After(max(self._turn - now, SOONEST)))

    async def execute(self, run: Run, handler: Handler) -> tuple[o.Outcome, tuple[Message, ...]]:
        """One try of one delivery, in a process where nothing else is. As `Executor.execute`; never raises."""
        if (late := too_late(run)) is not None:
            return late, ()
        task, arrived = asyncio.current_task(), self._clock.monotonic()
        run.begin(task, None)
        child: PoolWorker | None = None
        try:
            if run.cut is not None:
                return cut_off(run.cut, handler), ()
            async with self._slots:
                child = await self._child()
                began = self._clock.monotonic()
                run.waited = began - arrived
                if (late := too_late(run)) is not None:
                    self._keep(child)
                    return late, ()
                run.begin(task, began + limit_of(run, handler) + MERCY)
                self._in_flight.watch(run)
                child.tell(protocol.Job(msgspec.structs.replace(run.delivery, native=None)))
                report = await self._heard(child, run)
                self._note(self._clock.monotonic() - began)
        except asyncio.CancelledError:
            run.end()
            return await self._broken_off(run, handler, child)
        except UnfitError as error:
            return self._unfitting(error, handler), ()
        except DiedError as died:
            return o.Fell(died.failure), ()
        finally:
            run.end()
        return self._answer(child, report)

    async def close(self) -> None:
        """End all of them. When handlers have been let finish or been cut off, none is busy."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        for child in self._started:
            await child.end()

    async def _heard(self, child: PoolWorker, run: Run) -> protocol.Report:
        """Its last word; what it says of its progress before is carried on."""
        while isinstance(report := await child.hear(), protocol.Told):
            self._in_flight.say(run, report.progress)
        return report

    async def _child(self) -> PoolWorker:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            child.kill()
        address = self._address()
        if address is None:
            raise UnfitError("the App cannot be found by a process of its own")
        child = await PoolWorker.start(address)
        self._started = [one for one in self._started if one.process.returncode is None] + [child]
        self._unfit = 0
        return child

    def _answer(self, child: PoolWorker, report: protocol.Report) -> tuple[o.Outcome, tuple[Message, ...]]:
        if not isinstance(report, protocol.Tried):
            child.kill()
            return o.Fell(Failure("Crashed", "its process spoke out of turn")), ()
        self._keep(child)
        return report.outcome, report.then

    def _keep(self, child: PoolWorker) -> None:
        """Ready for the next one; not for ever."""
        child.idle_since = self._clock.monotonic()
        self._idle.append(child)
        if self._idle_for is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_for / SECOND, self._let_go)

    def _let_go(self) -> None:
        """End those that have been idle for long, the longest first; look again when the next one may have been."""
        self._timer = None
        long_ago = self._clock.monotonic() - (self._idle_for or 0)
        while self._idle and self._idle[0].idle_since <= long_ago:
            self._idle.popleft().kill()
        if self._idle:
            wait = self._idle[0].idle_since - long_ago
            self._timer = asyncio.get_running_loop().call_later(wait / SECOND, self._let_go)

    async def _broken_off(
        self, run: Run, handler: Handler, child: PoolWorker | None
    ) -> tuple[o.Outcome, tuple[Message, ...]]:
        """Cut off: at its timeout by killing the process, else by asking first. What it comes to in that time counts."""
        task = asyncio.current_task()
        while task is not None and task.uncancel():
            pass
        why = run.cut or Why.STOP
        if child is None:
            return cut_off(why, handler), ()
        if why in (Why.TIMEOUT, Why.DEADLINE):
            child.kill()
            return cut_off(why, handler), ()
        child.tell(protocol.Stop())
        try:
            async with asyncio.timeout(CLEAN_UP / SECOND):
                report = await self._heard(child, run)
        except (TimeoutError, DiedError, asyncio.CancelledError):
            child.kill()
            return cut_off(why, handler), ()
        outcome, then = self._answer(child, report)
        return (cut_off(why, handler), ()) if isinstance(outcome, o.Interrupted) else (outcome, then)

    def _unfitting(self, error: UnfitError, handler: Handler) -> o.Outcome:
        """No fault of the message's: it waits, longer each time, and the log says why."""
        wait = min(FIRST_PAUSE << min(self._unfit, 10), LONGEST_PAUSE)
        self._unfit += 1
        log.error(
            "pool.unfit", extra={"task": handler.name, "error": str(error), "again_seconds": wait / SECOND}
        )
        return o.Put(After(wait))

    def _note(self, took: Micros) -> None:
        self._average += (took - self._average) // 8


def found(address: protocol.Address | None, handler: str) -> protocol.Address:
    """The address that a handler with a process of its own needs. Raises `Unsupported`."""
    if address is None:
        raise Unsupported(
            f"{handler} asks for pool='process', but its App is no variable of a module that a new process could import: "
            "assign the App to a name at the top of a module."
        )
    return address
