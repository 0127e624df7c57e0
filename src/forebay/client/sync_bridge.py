"""The client for callers without an event loop: one thread with a loop of its own, on which the App's coroutines run for them."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.errors import NotOpen, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Future

R = TypeVar("R")


class SyncBridge:
    """Starts at the first `call`, ends at `close`. Any number of threads may call at once."""

    def __init__(self, on_close: Callable[[], Awaitable[None]]) -> None:
        self._on_close = on_close
        self._begin()

    def _begin(self) -> None:
        """As if nothing had been called yet."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Run ``work`` on the sync bridge's loop and wait for it. Raises what it raises, `NotOpen` if called from an event
        loop, and `OutcomeUnknown` if it was cut off by a `close`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            work.close()
            raise NotOpen(
                "This thread runs an event loop: await the asynchronous method instead of its ..._sync twin."
            )
        try:
            return self._submit(work).result()
        except CancelledError:
            raise OutcomeUnknown(
                "The App was closed in another thread while this was under way: it may or may not have happened."
            ) from None

    @property
    def running(self) -> bool:
        """Whether anything was called since the last `close`, in this process."""
        return self._loop is not None and self._process == os.getpid()

    def owns(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether ``loop`` is the sync bridge's."""
        return loop is self._loop

    def close(self) -> None:
        """Finish, close what the sync bridge's loop opened, and end the thread. Does nothing if nothing was ever called."""
        self._check_process()
        atexit.unregister(self.close)
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            try:
                asyncio.run_coroutine_threadsafe(_finish(self._on_close()), loop).result()
            finally:
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()

    def _submit(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Hand over ``work``, under the lock: after a `close` that comes meanwhile nobody would take it."""
        self._check_process()
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="forebay-sync bridge", daemon=True
                )
                self._thread.start()
                # A script that just ends has closed nothing: its loop would complain of every task that is left.
                atexit.register(self.close)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _check_process(self) -> None:
        """After a fork the thread is the parent's: who waited for it here would wait for ever."""
        if self._process != os.getpid():
            self._begin()


async def _finish(last: Awaitable[None]) -> None:
    """Do the last thing, then cut off whatever still runs here: those who wait for it in other threads must not wait for ever."""
    try:
        await last
    finally:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
