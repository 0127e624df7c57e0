"""Groups of tasks that end together: `asyncio.TaskGroup` with a limit, names in its errors and results in order. Nothing here restarts."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Self, TypeVar

from forebay.local.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

_PENDING: Any = object()


class Group(Generic[T]):
    """Runs functions side by side, at most ``limit`` at a time, and ends when all of them have.

    ``on_error="cancel"``: the first error cancels the rest. ``"collect"``: all run to their end, as with Go's plain errgroup. Both then
    raise an `ExceptionGroup`; each error in it has a note that names what failed, and the first to fail comes first.

    ```python
    async with Group[bytes](limit=10) as group:
        for url in urls:
            await group.go(fetch, url)
    print(group.results)  # in the order of the urls
    ```
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        on_error: Literal["cancel", "collect"] = "cancel",
        name: str = "group",
    ) -> None:
        if on_error not in {"cancel", "collect"}:
            raise MisuseError(f"on_error is 'cancel' or 'collect', not {on_error!r}.")
        self.name = name
        self._collect = on_error == "collect"
        self._limit = _checked(limit)
        self._tasks: asyncio.TaskGroup | None = None
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._results: list[Any] = []
        self._errors: list[Exception] = []

    @property
    def limit(self) -> int | None:
        """How many may run at a time; ``None`` is no limit, and 0 lets nothing start."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        if self._running:
            raise MisuseError(
                f"{self._running} still run in {self.name}: set its limit before anything runs."
            )
        self._limit = _checked(limit)

    @property
    def results(self) -> list[T]:
        """What was returned, in the order of the starts. What failed or still runs is left out."""
        return [result for result in self._results if result is not _PENDING]

    @property
    def errors(self) -> list[Exception]:
        """What failed so far, first things first."""
        return list(self._errors)

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise MisuseError(f"{self.name} was entered before: make a new Group for each block.")
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        try:
            await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            rest = [one for one in group.exceptions if one not in self._errors]
            raise BaseExceptionGroup(self._verdict(), [*self._errors, *rest]) from None
        finally:
            self._running = 0  # one that was cancelled before its first step never said that it ended
        if self._errors and error is None:
            raise ExceptionGroup(self._verdict(), self._errors)

    async def go(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Start ``fn(*args)``, waiting while the group is at its limit.

        Cancelled while it waits, nothing was started. Called from inside a group at its limit it waits for itself, as in Go: use `try_go`.
        """
        if self._limit is not None and (self._running >= self._limit or self._waiting):
            await self._turn()
        else:
            self._running += 1
        self._start(fn, args, kwargs)

    def try_go(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Start ``fn(*args)`` unless the group is at its limit; whether it was started."""
        if self._limit is not None and (self._running >= self._limit or self._waiting):
            return False
        self._running += 1
        self._start(fn, args, kwargs)
        return True

    def _start(
        self, fn: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        number = len(self._results)
        work = self._run(number, fn, args, kwargs)
        try:
            if self._tasks is None:
                raise RuntimeError("it was not entered")
            self._tasks.create_task(work, name=_name(fn))
        except RuntimeError as error:
            work.close()
            self._ended()
            raise MisuseError(
                f"Nothing can be started in {self.name} now: go belongs inside its async with block, before it ends."
            ) from error
        self._results.append(_PENDING)

    async def _run(
        self,
        number: int,
        fn: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        try:
            self._results[number] = await fn(*args, **kwargs)
        except Exception as error:
            error.add_note(f"in {_name(fn)}, number {number} of {self.name}")
            self._errors.append(error)
            if not self._collect:
                raise
        finally:
            self._ended()

    async def _turn(self) -> None:
        """Wait for a place; whoever ends hands his on, so nobody comes in between."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._ended()
            raise

    def _ended(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._running -= 1

    def _verdict(self) -> str:
        return f"{len(self._errors)} of {len(self._results)} in {self.name} failed"


def _checked(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise MisuseError(f"A group's limit is None or a whole number from 0 on, not {limit!r}.")
    return limit


def _name(fn: Callable[..., object]) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)
