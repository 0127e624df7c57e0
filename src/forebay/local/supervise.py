"""Keeps background tasks alive: a crash becomes a report and a bounded number of restarts. Nothing here fails silently."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple

from forebay.local.errors import MisuseError
from forebay.local.telling import tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class Restart:
    """How often to start again: at most ``limit`` times ``within`` so many seconds.

    The wait before it begins with ``backoff`` seconds and doubles with each crash, up to ``cap``. It is random between half of that and
    all of it, so that what crashed together does not come back together.
    """

    limit: int = 5
    within: float = 60.0
    backoff: float = 0.1
    cap: float = 30.0

    def __post_init__(self) -> None:
        if self.limit < 0 or min(self.within, self.backoff, self.cap) < 0:
            raise MisuseError(f"{self!r} has a negative number: all four are from 0 on.")

    def wait(self, crashes: int, chance: float) -> float:
        """Seconds to wait after so many crashes; ``chance`` is from 0 to 1."""
        longest = min(self.cap, self.backoff * 2.0 ** min(crashes - 1, 60))
        return longest * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True)
class Crash:
    """What a report is about. ``restart_in`` is in seconds; ``None`` says that it was given up."""

    name: str
    error: BaseException
    number: int
    restart_in: float | None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The last crash of what was not started again."""

    crash: Crash


def log_crash(crash: Crash) -> None:
    """Report a crash to the logger ``forebay.local``, with its traceback."""
    event = "task.restarts" if crash.restart_in is not None else "task.given_up"
    fields = {"task_name": crash.name, "crashes": crash.number, "restart_in": crash.restart_in}
    tell(logging.ERROR, event, fields, crash.error)


async def recover(
    fn: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    name: str | None = None,
    restart: Restart = Restart(),  # frozen
    report: Callable[[Crash], None] = log_crash,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T | GaveUp:
    """Run ``fn(*args)`` to its end, starting it again when it crashes; return its value, or `GaveUp`. It never raises what ``fn`` raises.

    Each crash is reported, the last one too. Cancelling it cancels ``fn`` and is passed on. A cancellation that ``fn`` raises by itself
    is a crash like any other; `SystemExit` and `KeyboardInterrupt` are not.
    """
    name = name or getattr(fn, "__qualname__", None) or repr(fn)
    loop = asyncio.get_running_loop()
    crashes: deque[float] = deque(maxlen=restart.limit + 1)
    while True:
        error: BaseException
        try:
            return await fn(*args)
        except asyncio.CancelledError as cancelled:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            error = cancelled
        except Exception as failed:  # noqa: BLE001  # to answer any failure is what this is for
            error = failed
        now = loop.time()
        crashes.append(now)
        while crashes[0] < now - restart.within:
            crashes.popleft()
        again = len(crashes) <= restart.limit
        wait = restart.wait(len(crashes), random.random()) if again else None
        crash = Crash(name, error, len(crashes), wait)
        _tell(report, crash)
        if wait is None:
            return GaveUp(crash)
        await sleep(wait)


def _tell(report: Callable[[Crash], None], crash: Crash) -> None:
    try:
        report(crash)
    except Exception as error:  # noqa: BLE001  # the application's own report decides nothing
        log_crash(crash)
        tell(logging.ERROR, "report.failed", {"task_name": crash.name}, error)


class Supervisor:
    """Runs background tasks beside a block, each under `recover`; one that is given up leaves the others alone. The end cancels them all.

    ```python
    async with Supervisor() as supervisor:
        supervisor.start(refresh_cache)
        await serve()
    ```
    """

    def __init__(
        self, *, restart: Restart | None = None, report: Callable[[Crash], None] = log_crash
    ) -> None:
        self._restart = restart or Restart()
        self._report = report
        self._group: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def running(self) -> list[str]:
        """The names of what is alive, a wait for a restart included."""
        return sorted(task.get_name() for task in self._running)

    def start(
        self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts, name: str | None = None
    ) -> asyncio.Task[object]:
        """Start ``fn(*args)``. The task's result is the function's, or `GaveUp`."""
        if self._group is None:
            raise MisuseError("The supervisor does not run: start tasks inside its async with block.")
        name = name or getattr(fn, "__qualname__", None) or repr(fn)
        work = recover(fn, *args, name=name, restart=self._restart, report=self._report)
        task: asyncio.Task[object] = self._group.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def __aenter__(self) -> Self:
        group = asyncio.TaskGroup()
        self._group = await group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        assert group is not None
        for task in self._running:
            task.cancel()
        await group.__aexit__(kind, error, trace)
