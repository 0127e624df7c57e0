"""Time and waiting for tests: a clock turned by hand, a probe to wait on, and the one capped poll. Nothing here guesses."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar, TypeVarTuple, Unpack, overload

from forebay.model.when import SECOND, Instant, Micros
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")
Args = TypeVarTuple("Args")

START: Final[Instant] = 1_893_456_000 * SECOND
"""Where a `VirtualClock` begins: 2030-01-01T00:00:00Z."""
_TURNS: Final = 60
"""How many times a loop goes round before what was woken on it counts as having run its course."""
_SLICE: Final = 0.01
"""Seconds between two looks whether a loop of another thread has closed, which ends what it was to do."""
_PATIENCE: Final = 100
"""Slices after which such a loop is no longer waited for: it is blocked, or was stopped."""
_POLL: Final = 2_000
"""Microseconds between two looks of `eventually`: short enough not to be felt, long enough not to be a load."""


@dataclass(slots=True)
class _Timer:
    due: Instant
    loop: asyncio.AbstractEventLoop
    scope: asyncio.Timeout
    over: bool = False

    def ring(self) -> None:
        """End the wait. Runs on the waiter's own loop, so a wait that ends meanwhile cannot be hit."""
        if not self.over:
            self.scope.reschedule(self.loop.time())


class VirtualClock:
    """A `Clock` that stands still until a test turns it. Safe to share between loops and threads.

    >>> async def story() -> list[str]:
    ...     clock, said = VirtualClock(), []
    ...     async def speak(word: str, after: int) -> None:
    ...         await clock.sleep(after * SECOND)
    ...         said.append(word)
    ...     async with asyncio.TaskGroup() as group:
    ...         group.create_task(speak("late", 7))
    ...         group.create_task(speak("early", 3))
    ...         await clock.advance(10 * SECOND)
    ...     return said
    >>> asyncio.run(story())
    ['early', 'late']
    """

    __slots__ = ("_lock", "_next", "_now", "_start", "_timers")

    def __init__(self, start: Instant = START) -> None:
        self._lock = threading.Lock()
        self._start = self._now = start
        self._next = 0
        self._timers: dict[int, _Timer] = {}

    def now(self) -> Instant:
        """The instant the clock was turned to."""
        return self._now

    def monotonic(self) -> Micros:
        """Microseconds turned so far."""
        return self._now - self._start

    @property
    def waiting(self) -> int:
        """How many sleeps and waits with a timeout are under way."""
        return len(self._timers)

    async def wait(self, event: asyncio.Event, timeout: Micros | None) -> bool:
        """Wait for ``event``, or until the clock has been turned by ``timeout`` microseconds."""
        if event.is_set():
            return True
        at_once = timeout is not None and timeout <= 0
        try:
            async with asyncio.timeout(0 if at_once else None) as scope:
                if at_once or timeout is None:
                    await event.wait()
                else:
                    with self._timer(scope, timeout):
                        await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    async def sleep(self, duration: Micros) -> None:
        """Return when the clock has been turned by ``duration`` microseconds."""
        await self.wait(asyncio.Event(), max(duration, 0))

    async def advance(self, duration: Micros) -> None:
        """Turn the clock by ``duration`` microseconds; see `advance_to`."""
        await self.advance_to(self._now + duration)

    async def advance_to(self, instant: Instant) -> None:
        """Turn the clock to ``instant``, stopping at each moment somebody waits for and letting those who wake run their course.

        Work that other threads do (a database's) may still be under way when it returns: wait for its effect with a `Probe` or
        `eventually`. Cancelled, it leaves the clock at the last moment it stopped at. Raises ValueError for a moment in the past.
        """
        if instant < self._now:
            raise ValueError(f"a clock is not turned back: it is {self._now}, and {instant} was asked for.")
        await _let_run({asyncio.get_running_loop()})
        while due := self._reach(instant):
            for timer in due:
                _call(timer.loop, timer.ring)
            await _let_run({asyncio.get_running_loop(), *(timer.loop for timer in due)})

    def _reach(self, instant: Instant) -> list[_Timer]:
        """Go on to the next moment anybody waits for, not past ``instant``, and take those who wait for it, oldest first."""
        with self._lock:
            self._now = max(self._now, min([instant, *(timer.due for timer in self._timers.values())]))
            keys = [key for key, timer in self._timers.items() if timer.due <= self._now]
            return [self._timers.pop(key) for key in keys]

    @contextmanager
    def _timer(self, scope: asyncio.Timeout, timeout: Micros) -> Iterator[None]:
        with self._lock:
            key, timer = self._next, _Timer(self._now + timeout, asyncio.get_running_loop(), scope)
            self._next += 1
            self._timers[key] = timer
        try:
            yield
        finally:
            timer.over = True
            with self._lock:
                self._timers.pop(key, None)


def _call(loop: asyncio.AbstractEventLoop, call: Callable[[Unpack[Args]], object], *args: *Args) -> None:
    """Call on a loop of any thread. One that has closed has nobody left to tell, and it may close while we look."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


async def _let_run(loops: set[asyncio.AbstractEventLoop]) -> None:
    """Return when each of ``loops`` has gone round often enough for what was just woken on it to have run its course."""

    def turn(loop: asyncio.AbstractEventLoop, left: int, done: Future[None]) -> None:
        if left:
            loop.call_soon(turn, loop, left - 1, done)
        elif done.set_running_or_notify_cancel():
            done.set_result(None)

    waits = []
    for loop in loops:
        done: Future[None] = Future()
        _call(loop, turn, loop, _TURNS, done)
        waits.append((loop, asyncio.wrap_future(done)))
    for _ in range(_PATIENCE):
        left = [wait for loop, wait in waits if not wait.done() and not loop.is_closed()]
        if not left:
            break
        await asyncio.wait(left, timeout=_SLICE)


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = 5.0, what: str = "") -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = 5.0, what: str = "") -> T: ...
async def eventually(check: Callable[[], T | Awaitable[T]], within: float = 5.0, what: str = "") -> T:
    """Return the first truthy answer of ``check``; fail if ``within`` real seconds pass without one.

    For what other threads and processes do; where a test can await a `Probe` or turn a clock, it does that. An `AssertionError` of
    ``check`` counts as "not yet". ``what`` says in the failure what was hoped for.

    >>> asyncio.run(eventually(lambda: 6 * 7, what="the answer"))
    42
    """
    real = SystemClock()
    until = real.monotonic() + int(within * SECOND)
    while True:
        last: object
        try:
            given = check()
            answer: T = await given if inspect.isawaitable(given) else given
            if answer:
                return answer
            last = answer
        except AssertionError as not_yet:
            last = not_yet
        if real.monotonic() >= until:
            raise AssertionError(
                f"{what or _source(check)}: not so within {within:g} s. The last look gave {last!r}."
            )
        await real.sleep(_POLL)


def _source(check: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(check).split())
    except (OSError, TypeError):
        return repr(check)


@dataclass(slots=True)
class Probe(Generic[T]):
    """A named place in the program that a test waits for: it is hit from any thread, and awaited on any loop.

    >>> async def story() -> list[str]:
    ...     mailed = Probe[str]("mailed")
    ...     mailed.hit("to Ada")
    ...     return await mailed.wait(1)
    >>> asyncio.run(story())
    ['to Ada']
    """

    name: str
    hits: list[T] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How often it was hit."""
        return len(self.hits)

    def hit(self, value: T) -> None:
        """Note that it happened, and with what."""
        with self._lock:
            self.hits.append(value)
            waiters = list(self._waiters)
        for loop, event in waiters:
            _call(loop, event.set)

    async def wait(self, times: int = 1, within: float = 5.0) -> list[T]:
        """Return all values once it was hit ``times`` times in all; fail if ``within`` real seconds pass first."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiters.append(waiter)
        try:
            async with asyncio.timeout(within):
                while len(self.hits) < times:
                    waiter[1].clear()
                    if len(self.hits) < times:
                        await waiter[1].wait()
        except TimeoutError:
            raise AssertionError(
                f"{self.name}: hit {len(self.hits)} times within {within:g} s, not {times} times."
            ) from None
        finally:
            with self._lock:
                self._waiters.remove(waiter)
        return list(self.hits)
