"""A bounded queue of work inside this process: for logs, caches and the like, which may be lost with it. What may not goes to an App."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, ParamSpec, Self, overload

from forebay.local.channel import Channel
from forebay.local.errors import ClosedError, MisuseError, QueueFull
from forebay.local.sync import WaitGroup
from forebay.local.telling import tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

P = ParamSpec("P")

Full = Literal["block", "reject", "drop_oldest"]


@dataclass(frozen=True, slots=True)
class Manners:
    """How a task is run: tries in all, seconds for each, and the wait before the next, doubled each time up to the cap."""

    max_attempts: int = 3
    timeout: float | None = 60.0
    backoff: float = 0.1
    backoff_cap: float = 30.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise MisuseError(f"max_attempts is a whole number from 1 on, not {self.max_attempts!r}.")
        if (self.timeout is not None and self.timeout <= 0) or min(self.backoff, self.backoff_cap) < 0:
            raise MisuseError(f"{self!r} has a time below zero, or a timeout of none: all times are seconds.")

    def wait(self, attempt: int, chance: float) -> float:
        """Seconds after try number ``attempt`` failed; ``chance`` is from 0 to 1."""
        return min(self.backoff_cap, self.backoff * 2.0 ** min(attempt - 1, 60)) * chance


class Statistics(NamedTuple):
    """A snapshot: how many wait, run, and wait to be tried again; and what became of the others since the start."""

    waiting: int
    running: int
    retrying: int
    done: int
    failed: int
    retried: int
    rejected: int
    dropped: int
    lost: int


@dataclass(slots=True)
class _Job:
    """One call, and how often it was tried."""

    task: BackgroundTask[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attempt: int = 1


class BackgroundTask(Generic[P]):
    """A function that can be called at once, or sent to run later."""

    def __init__(self, background: Background, fn: Callable[P, object], manners: Manners) -> None:
        self._background, self._fn, self.manners = background, fn, manners
        self.name: str = getattr(fn, "__qualname__", None) or repr(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call the function here and now."""
        return self._fn(*args, **kwargs)

    async def send(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call and go on. What happens when the queue is full is the queue's setting.

        Raises `QueueFull` if it rejects, `ClosedError` if it does not run. Cancelled while it waits for room, nothing was queued.
        """
        await self._background._put(_Job(self, args, kwargs))

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call the function within its time: a plain one in a thread, which cannot be stopped and is left behind when its time is over."""
        async with asyncio.timeout(self.manners.timeout):
            if inspect.iscoroutinefunction(self._fn):
                await self._fn(*args, **kwargs)
            else:
                await asyncio.to_thread(self._fn, *args, **kwargs)


class Background:
    """Runs what is sent to it on ``workers`` tasks; at most ``capacity`` calls wait. At its end it drains for up to ``drain`` seconds.

    ``full="block"`` makes `send` wait for room, ``"reject"`` raises `QueueFull`, ``"drop_oldest"`` drops what has waited longest.

    ```python
    background = Background(full="drop_oldest")


    @background.task(max_attempts=3, timeout=5.0)  # with `app` for `background` it is durable
    async def log_access(line: str) -> None: ...


    async with background:  # or Starlette(lifespan=background.lifespan)
        await log_access.send("GET /")
    ```
    """

    def __init__(
        self,
        *,
        workers: int = 4,
        capacity: int = 1_000,
        full: Full = "block",
        drain: float = 10.0,
        name: str = "background",
    ) -> None:
        if workers < 1 or capacity < 1:
            raise MisuseError(
                f"workers and capacity are whole numbers from 1 on, not {workers!r} and {capacity!r}."
            )
        if full not in {"block", "reject", "drop_oldest"}:
            raise MisuseError(f"full is 'block', 'reject' or 'drop_oldest', not {full!r}.")
        self.name = name
        self._workers, self._capacity, self._full, self._drain = workers, capacity, full, drain
        self._jobs: Channel[_Job] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._open = WaitGroup()
        self._running = self._retrying = 0
        self._done = self._failed = self._retried = self._rejected = self._dropped = self._lost = 0

    @overload
    def task(self, fn: Callable[P, object], /) -> BackgroundTask[P]: ...
    @overload
    def task(
        self,
        *,
        max_attempts: int = 3,
        timeout: float | None = 60.0,
        backoff: float = 0.1,
        backoff_cap: float = 30.0,
    ) -> Callable[[Callable[P, object]], BackgroundTask[P]]: ...
    def task(
        self,
        fn: Callable[..., object] | None = None,
        *,
        max_attempts: int = 3,
        timeout: float | None = 60.0,
        backoff: float = 0.1,
        backoff_cap: float = 30.0,
    ) -> Any:
        """Make a function a task of this queue. Times are seconds; a plain function runs in a thread."""
        manners = Manners(max_attempts, timeout, backoff, backoff_cap)

        def declare(fn: Callable[P, object]) -> BackgroundTask[P]:
            return BackgroundTask(self, fn, manners)

        return declare if fn is None else declare(fn)

    def statistics(self) -> Statistics:
        """Return a snapshot."""
        return Statistics(
            len(self._jobs) if self._jobs else 0,
            self._running,
            self._retrying,
            self._done,
            self._failed,
            self._retried,
            self._rejected,
            self._dropped,
            self._lost,
        )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run while an ASGI application does."""
        async with self:
            yield

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise MisuseError(f"{self.name} runs already: enter it once.")
        self._open = WaitGroup()
        self._jobs = Channel(self._capacity, name=self.name)
        self._group = await asyncio.TaskGroup().__aenter__()
        self._tasks = [
            self._group.create_task(self._work(self._jobs), name=f"{self.name}-{number}")
            for number in range(self._workers)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more, finish what was taken, count and report what was not finished in time."""
        group, jobs = self._group, self._jobs
        assert group is not None
        assert jobs is not None
        self._jobs = None
        try:
            async with asyncio.timeout(self._drain):
                await self._open.wait()
        except TimeoutError:
            pass  # what is lost is said below
        finally:
            if lost := len(self._open):
                self._lost += lost
                tell(logging.ERROR, "background.lost", {"background": self.name, "lost": lost})
            jobs.close()
            for task in self._tasks:
                task.cancel()
            self._tasks, self._group = [], None
            await group.__aexit__(kind, error, trace)

    async def _put(self, job: _Job) -> None:
        jobs = self._jobs
        if jobs is None:
            raise ClosedError(f"{self.name} does not run: send inside its async with block, or its lifespan.")
        if len(jobs) >= self._capacity and self._full == "reject":
            self._rejected += 1
            raise QueueFull(
                f"{self.name} holds {self._capacity} calls already: send less, or raise its capacity."
            )
        if len(jobs) >= self._capacity and self._full == "drop_oldest":
            jobs.try_receive()
            self._dropped += 1
            self._open.done()
        self._open.add()
        try:
            await jobs.send(job)
        except BaseException:
            self._open.done()
            raise

    async def _work(self, jobs: Channel[_Job]) -> None:
        async for job in jobs:
            self._running += 1
            try:
                await job.task.run(job.args, job.kwargs)
            except Exception as error:  # noqa: BLE001  # any failure is tried again, then reported: a worker outlives it
                self._fail(jobs, job, error)
            else:
                self._done += 1
                self._open.done()
            finally:
                self._running -= 1

    def _fail(self, jobs: Channel[_Job], job: _Job, error: Exception) -> None:
        manners = job.task.manners
        fields = {"background": self.name, "task_name": job.task.name, "attempt": job.attempt}
        # Calls that wait to be tried again are bounded like those that wait for the first time.
        if job.attempt >= manners.max_attempts or self._retrying >= self._capacity:
            self._failed += 1
            self._open.done()
            tell(logging.ERROR, "background.failed", fields, error)
            return
        tell(logging.WARNING, "background.retries", fields, error)
        wait = manners.wait(job.attempt, random.random())
        job.attempt += 1
        self._retrying += 1
        assert self._group is not None
        self._tasks.append(self._group.create_task(self._again(jobs, job, wait)))
        self._tasks = [task for task in self._tasks if not task.done()]

    async def _again(self, jobs: Channel[_Job], job: _Job, wait: float) -> None:
        try:
            await asyncio.sleep(wait)
            await jobs.send(job)
            self._retried += 1
        finally:
            self._retrying -= 1
