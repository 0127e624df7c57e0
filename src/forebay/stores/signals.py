"""Hurry-up signals between whoever changes a store and whoever waits on it in this process. They carry no truth: waiters look again."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.engine import Topic
    from forebay.model.message import EntryId

ANY_END: Final = Finished()
"""What is waited for by whoever waits for ends."""


MOST: Final = 1_000
"""Ids of what has ended that are kept for one waiter; with more it is told that anything may have."""


class Wake(asyncio.Event):
    """Set at each signal. Belongs to its loop, but for what it heard, which is under ``lock``."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self._lock = lock
        self._ended: set[EntryId] | None = set()

    def hear(self, topic: Topic) -> None:
        """Keep what a signal says. The caller has the lock."""
        if (
            not isinstance(topic, Finished)
            or not topic.ids
            or self._ended is None
            or len(self._ended) + len(topic.ids) > MOST
        ):
            self._ended = None
        else:
            self._ended |= topic.ids

    def take(self) -> frozenset[EntryId] | None:
        """Which messages have ended by what was heard since the last time; None: any may have."""
        with self._lock:
            ended, self._ended = self._ended, set()
        return None if ended is None else frozenset(ended)


class Signals:
    """Wakes waiters of any loop in any thread of this process."""

    __slots__ = ("_lock", "_waiters")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[Topic, set[tuple[asyncio.AbstractEventLoop, Wake]]] = {}

    @contextmanager
    def listening(self, *topics: Topic) -> Iterator[Wake]:
        """An event of the running loop that is set at each signal of any of ``topics``; the waiter clears it before it looks."""
        waiter = (asyncio.get_running_loop(), Wake(self._lock))
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
        woken = set()
        with self._lock:
            for topic in topics:
                for waiter in self._waiters.get(ANY_END if isinstance(topic, Finished) else topic, ()):
                    waiter[1].hear(topic)
                    woken.add(waiter)
        for loop, event in woken:
            with suppress(RuntimeError):  # its loop was closed without the store: nobody waits there any more
                loop.call_soon_threadsafe(event.set)
