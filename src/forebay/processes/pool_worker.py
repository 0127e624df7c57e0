"""A pool worker: the child process in which a worker tries one message at a time. Started by `forebay.processes.pool`, never by a person.

It ends when its parent does: its line breaks then, and where code keeps the interpreter so that nobody here could see that, the system
is asked to kill it (Linux).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import AsyncExitStack, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from forebay.app import App
from forebay.features.steps.desk import desk_of
from forebay.model import outcome as o
from forebay.model.verdict import Failure, Reason
from forebay.processes import protocol
from forebay.processes.address import PROGRAM
from forebay.runtime.executor import Executor, mistaken
from forebay.runtime.in_flight import InFlight, Why
from forebay.runtime.threads import Threads
from forebay.runtime.worker import lives_of
from forebay.support.logs import Looks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebay.declaring.handler import Route
    from forebay.runtime.executor import Live
    from forebay.runtime.in_flight import Run

_PR_SET_PDEATHSIG: Final = 1
LONGEST_WHY: Final = 4_096
PACE: Final = 0.1
"""Seconds between two words of progress; the worker's heartbeat carries on one in a second."""


def main() -> None:
    """Work at the line whose number is the first argument, for the process whose number is the second."""
    line = socket.socket(fileno=int(sys.argv[1]))
    line.set_inheritable(False)
    os.register_at_fork(
        after_in_child=lambda: os.close(line.detach())
    )  # else a fork would outlive us at our line
    _die_with(int(sys.argv[2]))
    looks = os.environ.pop(protocol.POOL_LOG, "")
    orders = line.makefile("rb")
    address = _next(orders)
    if not isinstance(address, protocol.Address):
        return
    try:
        app = _app(address)
    except BaseException as error:  # noqa: BLE001  # whatever a user's module raises, the parent is told
        _decline(line, _importing(address), error)
        return
    if looks:
        Looks.parse(looks).set_up()
    asyncio.run(_work(app, line, orders))


def _importing(address: protocol.Address) -> str:
    if address.file is None:
        return f"importing {address.module}"
    return f"importing {address.file} (what starts the program belongs under 'if __name__ == \"__main__\":')"


async def _work(app: App, line: socket.socket, orders: BinaryIO) -> None:
    await _Work(app, line, orders).run()


def _decline(line: socket.socket, what: str, error: BaseException) -> None:
    why = "".join(traceback.format_exception_only(error)).strip()
    with suppress(OSError):  # the parent is gone
        line.sendall(protocol.frame(protocol.Unfit(f"{what} raised {why}"[:LONGEST_WHY])))


def _die_with(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before the system was asked


def _app(address: protocol.Address) -> App:
    sys.path[:] = address.path
    if address.file is None:
        found: object = getattr(import_module(address.module), address.name)
    else:
        found = asyncio.run(_of_program(address.file, address.name))
    if not isinstance(found, App):
        raise TypeError(f"{address.module}:{address.name} is no App")
    for module in address.modules:
        import_module(module)
    return found


async def _of_program(file: str, name: str) -> object:
    """The variable of a program's file, which is run under another name: what stands under ``if __name__ == "__main__"`` does not run.

    A coroutine, so that a loop is running already: a program that starts one at its top level would else do all its work again, here.
    """
    from importlib.util import module_from_spec, spec_from_file_location  # programs only

    spec = spec_from_file_location(PROGRAM[1], file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = module_from_spec(spec)
    sys.modules[PROGRAM[1]] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def _next(orders: BinaryIO) -> protocol.Order | None:
    """The next order; None when there is nobody left to give one."""
    with suppress(OSError):
        head = orders.read(protocol.LENGTH.size)
        if len(head) == protocol.LENGTH.size:
            (length,) = protocol.LENGTH.unpack(head)
            body = orders.read(length)
            if len(body) == length:
                return protocol.read_order(body)
    return None


def _framed(tried: protocol.Tried) -> bytes:
    """What became of a try. More than the line carries is a result that is too large, and not a process that died of it."""
    said = protocol.frame(tried)
    if len(said) <= protocol.LONGEST:
        return said
    failure = Failure(
        "ResultTooLarge",
        f"what it sends with its success has {len(said)} bytes, from a process {protocol.LONGEST} are possible",
    )
    return protocol.frame(protocol.Tried(o.Buried(Reason.RESULT, failure, counts=True)))


class _Work:
    """The tries of one pool worker, one after the other."""

    def __init__(self, app: App, line: socket.socket, orders: BinaryIO) -> None:
        self._app, self._line, self._orders = app, line, orders
        self._plant = app.plant()
        self._jobs: asyncio.Queue[protocol.Job] = asyncio.Queue()
        self._run: Run | None = None
        self._loop = asyncio.get_running_loop()
        self._telling = False

    async def run(self) -> None:
        """Until the parent is gone."""
        plant, threads = self._plant, Threads(1)
        in_flight = InFlight(plant.clock)
        in_flight.on_news = self._tell
        lives = {route.source.queue: (route, lives_of(plant, route, threads)) for route in plant.routes}
        async with AsyncExitStack() as stack:
            try:
                broker = None
                if plant.engine.traits.shared:
                    broker = (await stack.enter_async_context(plant.opened())).broker
                await stack.enter_async_context(plant.lifespan())
            except BaseException as error:  # noqa: BLE001  # whatever a user's lifespan raises, the parent is told
                _decline(self._line, "opening the App", error)
                return
            executor = Executor(plant.composer, in_flight, desk_of(broker, plant.clock, threads.run))
            threading.Thread(target=self._listen, name="forebay-line", daemon=True).start()
            self._say(protocol.Ready())
            while True:
                job = await self._jobs.get()
                self._write(_framed(await self._try(job, executor, in_flight, lives)))

    async def _try(
        self,
        job: protocol.Job,
        executor: Executor,
        in_flight: InFlight,
        lives: Mapping[str, tuple[Route, Mapping[str, Live]]],
    ) -> protocol.Tried:
        delivery = job.delivery
        route, known = lives.get(delivery.source.queue, (None, {}))
        handler = None if route is None else route.handler_of(delivery.message)
        self._run = run = in_flight.add(delivery)
        task = asyncio.get_running_loop().create_task(
            executor.execute(run, None if handler is None else known[handler.name])
        )  # awaited on the next line; a task of its own, since it may be cancelled
        try:
            outcome, then = await task
        except asyncio.CancelledError:
            outcome, then = o.Interrupted(), ()
        except BaseException as error:  # noqa: BLE001  # a mistake of ours is no crash of the message's
            outcome, then = mistaken(error), ()
        finally:
            self._run = None
            in_flight.remove(run)
        return protocol.Tried(outcome, then)

    def _tell(self) -> None:
        """Carry on how far the job is. From whichever thread its handler runs in, so a thread's word is handed to the loop first; once
        for all that is said in a while, since a handler may say it a hundred thousand times a second.
        """
        if not self._telling:
            self._telling = True
            self._loop.call_soon_threadsafe(self._tell_latest)

    def _tell_latest(self) -> None:
        if self._run is not None and (said := self._run.progress) is not None:
            self._run.told = said
            self._say(protocol.Told(said))
        self._loop.call_later(PACE, self._tell_again)

    def _tell_again(self) -> None:
        self._telling = False
        if self._run is not None and self._run.progress is not None:
            self._tell()

    def _say(self, report: protocol.Report) -> None:
        self._write(protocol.frame(report))

    def _write(self, said: bytes) -> None:
        try:
            self._line.sendall(said)
        except OSError:
            os._exit(0)

    def _listen(self) -> None:
        """In a thread of its own: hears orders while user code keeps the loop, and ends the process when the parent is gone."""
        tell: Callable[..., Any] = self._loop.call_soon_threadsafe
        while (order := _next(self._orders)) is not None:
            if isinstance(order, protocol.Job):
                tell(self._jobs.put_nowait, order)
            elif isinstance(order, protocol.Stop):
                tell(self._cut_off)
        os._exit(0)

    def _cut_off(self) -> None:
        if self._run is not None:
            self._run.stop(Why.STOP)


if __name__ == "__main__":
    main()
