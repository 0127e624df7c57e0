"""Finds what was left running, and says who waits for what. It looks at tasks from outside: nothing is recorded while they run."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from forebay.local.background import Background
from forebay.local.channel import Channel
from forebay.local.errors import DeadlockError, LeakError
from forebay.local.group import Group
from forebay.local.sync import Once, Semaphore, Singleflight, WaitGroup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import FrameType


class Waiting(NamedTuple):
    """One task and what it waits for. ``where`` is file and line of the code that waits; ``what`` is empty if it is nothing of ours."""

    task: str
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.task} waits {self.what or 'for something else'} at {self.where}"


def waits(tasks: Iterable[asyncio.Task[Any]] | None = None) -> list[Waiting]:
    """Say of each task, all others of this loop by default, what it waits for."""
    if tasks is None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return sorted(_look(task) for task in tasks if not task.done())


def report(tasks: Iterable[asyncio.Task[Any]] | None = None) -> str:
    """Return `waits` as text, a line for each task."""
    return "\n".join(f"- {waiting}" for waiting in waits(tasks))


@asynccontextmanager
async def no_leaks(*, grace: float = 0.1) -> AsyncIterator[None]:
    """Raise `LeakError` if the block leaves tasks or threads running. They have ``grace`` seconds to end by themselves.

    The message names each task, and what it waits for, such as a channel nobody sends to. The tasks found are cancelled, so that the
    next test starts clean. Threads of pools are meant to stay and are not counted.
    """
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    yield
    loop = asyncio.get_running_loop()
    until = loop.time() + grace
    while (_tasks_since(tasks) or _threads_since(threads)) and loop.time() < until:  # noqa: ASYNC110  # threads set no event at their end
        await asyncio.sleep(0.001)
    left = _tasks_since(tasks)
    lines = [
        *(f"- task {waiting}" for waiting in waits(left)),
        *(f"- thread {thread.name}" for thread in _threads_since(threads)),
    ]
    for task in left:
        task.cancel()
    if lines:
        raise LeakError("\n".join([f"{len(lines)} left running: end or await them.", *lines]))


@asynccontextmanager
async def no_deadlock(within: float) -> AsyncIterator[None]:
    """Cancel the block after ``within`` seconds and raise `DeadlockError`, which names who waited for what."""
    loop = asyncio.get_running_loop()
    found: list[str] = []

    def expire() -> None:
        found.append(report(asyncio.all_tasks()))
        limit.reschedule(loop.time())

    timer = loop.call_later(within, expire)
    try:
        async with asyncio.timeout(None) as limit:
            yield
    except TimeoutError:
        if not found:
            raise
        raise DeadlockError(f"Not done after {within} s:\n{found[0]}") from None
    finally:
        timer.cancel()


def _tasks_since(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task not in before and task is not asyncio.current_task()]


def _threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    pools = ("asyncio_", "uvloop_", "ThreadPoolExecutor")
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith(pools)
    ]


def _look(task: asyncio.Task[Any]) -> Waiting:
    """Follow the chain of awaits to the innermost frame of ours; the one before it is where the user waits."""
    what, where = "", "?"
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is None:
            break
        if found := _what(frame):
            what = found
        elif not what:
            where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return Waiting(task.get_name(), what, where)


def _what(frame: FrameType) -> str:
    here = sys.modules[__name__].__package__ or ""
    if not str(frame.f_globals.get("__name__", "")).startswith(here):
        return ""
    name, held = frame.f_code.co_name, frame.f_locals
    match held.get("self"):
        case Channel() as channel:
            return f"to {'send to' if name == 'send' else 'receive from'} {channel!r}"
        case WaitGroup() as group:
            return f"for a wait group at {len(group)}"
        case Semaphore() as semaphore:
            return f"for {held.get('units')} of a semaphore with {semaphore.held} of {semaphore.size} held"
        case Group() as group if name in {"go", "_turn"}:
            return f"for a place in {group.name} (limit {group.limit})"
        case Singleflight():
            return f"for the call for {held.get('key')!r} that is under way"
        case Once():
            return "for a call made once"
        case Background() as background if name == "__aexit__":
            return f"for {background.name} to drain"
        case _ if name in {"select", "_wait"}:
            rows = [case.channel for case in map(_case, held.get("cases", ())) if case is not None]
            return "in select on " + (", ".join(map(repr, rows)) or "nothing")
        case _:
            return ""


def _case(case: Any) -> Any:
    """In the frame that waits, cases have their numbers with them."""
    return case[1] if isinstance(case, tuple) else case
