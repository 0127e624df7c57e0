"""Small things tasks wait at: wait groups, weighted semaphores, calls made once or shared. All are fair, and safe to cancel."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from forebay.local.errors import MisuseError, WouldBlock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Hashable

T = TypeVar("T")


class WaitGroup:
    """Counts what is under way; `wait` returns at zero. It may be used again then.

    ```python
    group = WaitGroup()
    for path in paths:
        group.go(index, path)
    await group.wait()
    ```
    """

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errors: list[Exception] = []

    def __len__(self) -> int:
        """How much is under way."""
        return self._count

    def __bool__(self) -> bool:
        return True

    def add(self, delta: int = 1) -> None:
        """Count ``delta`` more, or less. Add before you wait. Raises `MisuseError` below zero, and changes nothing."""
        if self._count + delta < 0:
            raise MisuseError(
                f"The wait group counts {self._count}, {-delta} cannot be done: call done once for each add."
            )
        self._count += delta
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def done(self) -> None:
        """Count one less."""
        self.add(-1)

    def go(self, fn: Callable[..., Coroutine[Any, Any, object]], /, *args: object) -> None:
        """Count one, run ``fn(*args)`` beside, count one less at its end. It should not fail; if it does, `wait` raises what it raised."""
        work = fn(*args)
        self.add(1)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    async def wait(self) -> None:
        """Return when the count is zero. Raises an `ExceptionGroup` of what failed in `go` since the last wait."""
        if self._count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            finally:
                if future in self._waiting:
                    self._waiting.remove(future)
        if self._errors:
            errors, self._errors = self._errors, []
            raise ExceptionGroup("what the wait group ran has failed", errors)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._errors.append(error)
        self.done()


class Semaphore:
    """Lends out ``size`` units, first come, first served: a big request that waits holds back the small ones behind it.

    ```python
    memory = Semaphore(512)  # MiB
    async with memory.hold(100):
        ...
    ```
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise MisuseError(f"A semaphore's size is a whole number from 1 on, not {size!r}.")
        self.size = size
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Units lent out now."""
        return self._held

    async def acquire(self, units: int = 1) -> None:
        """Take ``units``, waiting for them. Cancelled, it holds nothing.

        More than there will ever be is waited for until cancelled, in nobody's way, as in Go.
        """
        _check_units(units)
        loop = asyncio.get_running_loop()
        if units > self.size:
            await loop.create_future()
        if self.try_acquire(units):
            return
        place = (units, loop.create_future())
        self._waiting.append(place)
        try:
            await place[1]
        except BaseException:
            if place[1].done() and not place[1].cancelled():
                self._held -= units
            else:
                self._waiting.remove(place)
            self._grant()
            raise

    def try_acquire(self, units: int = 1) -> bool:
        """Take ``units`` if they are free and nobody waits; whether it did. It never queues."""
        _check_units(units)
        if self._waiting or self._held + units > self.size:
            return False
        self._held += units
        return True

    def release(self, units: int = 1) -> None:
        """Give ``units`` back. Raises `MisuseError` for more than are held."""
        _check_units(units)
        if units > self._held:
            raise MisuseError(
                f"The semaphore lent out {self._held}, {units} cannot come back: release what was acquired."
            )
        self._held -= units
        self._grant()

    @asynccontextmanager
    async def hold(self, units: int = 1) -> AsyncIterator[None]:
        """Hold ``units`` for the length of a block."""
        await self.acquire(units)
        try:
            yield
        finally:
            self.release(units)

    def _grant(self) -> None:
        while self._waiting:
            units, future = self._waiting[0]
            # One that was cancelled and has not run yet leaves the row by itself, and grants then.
            if future.done() or self._held + units > self.size:
                return
            self._waiting.popleft()
            self._held += units
            future.set_result(None)


def _check_units(units: int) -> None:
    if units < 0:
        raise MisuseError(f"Units of a semaphore are a whole number from 0 on, not {units!r}.")


class Shared(NamedTuple, Generic[T]):
    """What a call came to, and whether more than one caller got it."""

    value: T
    shared: bool


class _Flight(Generic[T]):
    """One call under way."""

    __slots__ = ("callers", "ever", "task")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.callers = 0  # who still wait
        self.ever = 0


class Singleflight(Generic[T]):
    """Lets callers that ask for one key at the same time share one call.

    ```python
    flights = Singleflight[User]()
    user, shared = await flights.do(user_id, load_user, user_id)
    ```
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def do(
        self, key: Hashable, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: object
    ) -> Shared[T]:
        """Return what ``fn(*args)`` returns, or what the call for ``key`` that is under way returns; an error reaches all who wait.

        A caller that is cancelled leaves the others their call; it is cancelled when nobody is left.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.get_running_loop().create_task(fn(*args)))
            flight.task.add_done_callback(partial(self._landed, key, flight))
        flight.callers += 1
        flight.ever += 1
        try:
            value = await asyncio.shield(flight.task)
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()
        return Shared(value, flight.ever > 1)

    def forget(self, key: Hashable) -> None:
        """Let the next caller for ``key`` make a call of its own. Those who wait are not disturbed."""
        self._flights.pop(key, None)

    def _landed(self, key: Hashable, flight: _Flight[T], task: asyncio.Task[T]) -> None:
        self._land(key, flight)

    def _land(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class Once(Generic[T]):
    """Calls a function once, however many ask; later callers wait for the first. An error counts too, and every caller gets it.

    ```python
    connect = Once(open_connection)
    connection = await connect()
    ```
    """

    def __init__(self, fn: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._fn = fn
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return what the one call returned. Cancelled, the call goes on for the others."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._fn())
        elif self._task is asyncio.current_task():
            raise WouldBlock(
                "The function of this Once calls it again, and would wait for itself: call it from outside only."
            )
        return await asyncio.shield(self._task)
