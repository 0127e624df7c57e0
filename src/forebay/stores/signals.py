"""Hurry-up signals between whoever changes a store and whoever waits on it in this process. They carry no truth: waiters look again."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.engine import Topic


class Signals:
    """Wakes waiters of any loop in any thread of this process."""

    __slots__ = ("_lock", "_waiters")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[Topic, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @contextmanager
    def listening(self, *topics: Topic) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set at each signal of any of ``topics``; the waiter clears it before it looks."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            for topic in set(topics):
                self._waiters.setdefault(topic, set()).add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._lock:
                for topic in set(topics):
                    self._waiters[topic].discard(waiter)
                    if not self._waiters[topic]:
                        del self._waiters[topic]

    def awaited(self, topic: Topic) -> bool:
        """Whether anybody in this process waits for ``topic``."""
        return topic in self._waiters

    def notify(self, topics: Iterable[Topic]) -> None:
        """Wake all who wait for any of ``topics``. May be called from any thread."""
        with self._lock:
            woken = [waiter for topic in topics for waiter in self._waiters.get(topic, ())]
        for loop, event in woken:
            with suppress(RuntimeError):  # its loop was closed without the store: nobody waits there any more
                loop.call_soon_threadsafe(event.set)
