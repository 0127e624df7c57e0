"""Looking beside the work: a thread and a read-only connection of their own, opened with the first look, so that no claim waits for one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

import apsw

from forebay.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.stores.sqlite.session import Session
    from forebay.stores.sqlite.thread import DatabaseThread

T = TypeVar("T")

LONGEST: Final = 10.0
"""Seconds that one look may take: as long as it goes on, no checkpoint gets past what it sees, and the log grows."""
STEPS: Final = 20_000
"""Steps of SQLite's machine, a millisecond or less, from one look at the clock to the next."""


class Reader:
    """The thread that reads, once there is something to read. Belongs to the loop of its store."""

    def __init__(self, thread: Callable[[], DatabaseThread]) -> None:
        self._make = thread
        self._thread: DatabaseThread | None = None
        self._opening = asyncio.Lock()

    async def read(self, look: Callable[[Session], T]) -> T:
        """The answer of ``look``, all of it from one moment. Cancelled, nobody hears of it.

        Raises `EngineUnavailable` if it takes too long.
        """
        async with self._opening:
            thread = self._thread = self._thread or await self._begun()
        return await thread.submit(look=lambda session: _bounded(session, look))

    async def _begun(self) -> DatabaseThread:
        thread = self._make()
        try:
            await thread.start()
        except BaseException:
            await thread.close()
            raise
        return thread

    async def close(self) -> None:
        """End the thread, if it was ever begun. Idempotent."""
        async with self._opening:
            if self._thread is not None:
                await self._thread.close()


def _bounded(session: Session, look: Callable[[Session], T]) -> T:
    conn, until = session.conn, time.monotonic() + LONGEST
    conn.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        conn.execute("BEGIN")
        return look(session)
    except apsw.InterruptError as error:
        raise EngineUnavailable(
            f"Looking took longer than {LONGEST:g} s and was broken off: ask for less, such as the messages of one queue."
        ) from error
    finally:
        conn.set_progress_handler(None)
        if conn.in_transaction:
            conn.execute("ROLLBACK")
