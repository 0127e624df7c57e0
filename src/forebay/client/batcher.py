"""Turns many single items into few batches: while one batch is under way the next one gathers. No timer, so no waiting for nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from forebay.errors import EngineUnavailable, NotOpen, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Gathers items and hands them on in batches of at most ``limit``, one batch at a time, in order.

    A caller that is cancelled while it waits harms nobody: its item goes the way of its batch.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]], *, limit: int
    ) -> None:
        self._send, self._limit = send, limit
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._some = asyncio.Event()
        self._turn = asyncio.Lock()
        self._closing = False

    def __len__(self) -> int:
        """How many items wait for the batch under way."""
        return len(self._waiting)

    async def put(self, item: T) -> R:
        """Send an item and return its answer: at once and alone if nothing is under way, else with the next batch."""
        if self._closing or self._waiting or self._turn.locked():
            return await self.submit(item)
        async with self._turn:
            (answer,) = await self._send([item])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def submit(self, item: T) -> asyncio.Future[R]:
        """Add an item to the next batch; the future holds its answer. Raises `NotOpen` after `close`."""
        if self._closing:
            raise NotOpen("The App is closing: nothing more can be sent through it.")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._some.set()
        return future

    def close(self) -> None:
        """Take no more; `run` ends when all that was taken is answered."""
        self._closing = True
        self._some.set()

    async def run(self) -> None:
        """Send batches until closed. Cancelled, it fails what still waits."""
        try:
            while self._waiting or not self._closing:
                await self._some.wait()
                async with self._turn:
                    if self._waiting:
                        await self._flush()
                if not self._waiting and not self._closing:
                    self._some.clear()
        finally:
            self._closing = True
            for _, future in self._waiting:
                _fail(future, NotOpen("The App was closed before this was sent: nothing was stored."))

    async def _flush(self) -> None:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(self._limit, len(waiting)))]
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait for it are told, and the next batch may do better
            answers = [error] * len(batch)
        except BaseException:
            for _, future in batch:
                _fail(future, OutcomeUnknown("The App was closed while this was being sent."))
            raise
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                _fail(future, answer)
            elif not future.done():
                future.set_result(answer)


def _fail(future: asyncio.Future[R], error: Exception) -> None:
    """Tell whoever waits. Nobody may be left, so that it is not asked for is no cause for alarm."""
    if not future.done():
        future.set_exception(error)
        future.exception()


async def halved(
    send: Callable[[Sequence[T]], Awaitable[Sequence[R]]], batch: Sequence[T]
) -> list[R | Exception]:
    """Send a batch; if the engine refuses it, halve it until the item that is refused stands alone.

    Raises `EngineUnavailable` and `OutcomeUnknown` as they come: those are no item's fault.
    """
    try:
        return list(await send(batch))
    except (EngineUnavailable, OutcomeUnknown):
        raise
    except Exception as error:  # noqa: BLE001  # the answer to the item at fault
        if len(batch) == 1:
            return [error]
    middle = len(batch) // 2
    return [*await halved(send, batch[:middle]), *await halved(send, batch[middle:])]
