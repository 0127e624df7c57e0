"""Threads for handlers that block. A thread cannot be stopped, so these never keep the process alive."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from forebay.errors import name_of, text_of
from forebay.runtime.forks import end_fork

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """Up to ``limit`` daemon threads, started when needed.

    The standard library's executor joins its threads at exit, so one stuck handler would hang the stop for ever; these do not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._left = asyncio.Event()

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in a thread, with this task's context variables.

        A thread cannot be stopped. Cancelled while it runs, this waits for it all the same, since the work is not over and neither is its
        lease, and what it comes to counts: work that was done late is not done again. Raises `asyncio.CancelledError` only if `close` gave
        up on the thread first.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        call = partial(contextvars.copy_context().run, partial(function, *args, **kwargs))
        self._submit(partial(_work, loop, future, call))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await self._outlast(future)
            if not future.done():
                raise
            return future.result()

    def close(self) -> None:
        """Let idle threads end. Busy ones end with their work or with the process; nobody waits for them any more."""
        self._left.set()
        for _ in range(self._started):
            self._jobs.put(None)

    async def _outlast(self, future: asyncio.Future[Any]) -> None:
        """Wait until the thread is through, however often we are told to stop waiting, or until nobody waits for threads any more."""
        async with asyncio.TaskGroup() as group:
            left = group.create_task(self._left.wait())
            while not future.done() and not left.done():
                try:
                    await asyncio.wait([future, left], return_when=asyncio.FIRST_COMPLETED)
                except asyncio.CancelledError:
                    continue
            left.cancel()

    def _submit(self, job: Callable[[], None]) -> None:
        if not self._idle.acquire(blocking=False) and self._started < self._limit:
            self._started += 1
            threading.Thread(target=self._serve, name=f"forebay-handler-{self._started}", daemon=True).start()
        self._jobs.put(job)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._idle.release()


def _work(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
    """Runs in the thread: the result, or whatever was raised, goes back to the loop that waits for it."""
    process = os.getpid()
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # SystemExit in a handler must not end the thread unanswered
        if os.getpid() != process:
            end_fork(error)
        answer = partial(_fail, future, error)
    else:
        if os.getpid() != process:
            end_fork(None)
        answer = partial(_resolve, future, result)
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(answer)


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.done():
        return
    # By its type: a user's class may refuse to be asked as an instance, and whoever waits would wait for ever.
    if issubclass(type(error), StopIteration | GeneratorExit | KeyboardInterrupt | SystemExit):
        # A future refuses the first, the second would unwind whoever waits, and the loop would stop on the others.
        wrapped = RuntimeError(f"the handler raised {name_of(error)}: {text_of(error)}")
        wrapped.__cause__ = error
        error = wrapped
    future.set_exception(error)
