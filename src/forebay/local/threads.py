"""A channel's ends for other threads. They wait by blocking their thread, never the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from forebay.local.cases import Received
from forebay.local.errors import ClosedError, WouldBlock, WrongLoop
from forebay.local.select import Selected, TimedOut, select

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from forebay.local.channel import Channel

T = TypeVar("T")
R = TypeVar("R")

LOOK = 0.5
"""Seconds between two looks at whether the loop is still there."""


class ThreadEnd(Generic[T]):
    """Sends to and receives from a channel of a loop that runs in another thread.

    ```python
    end = lines.from_thread  # on the loop
    await asyncio.to_thread(lambda: [end.send(line) for line in file])
    ```
    """

    __slots__ = ("_channel", "_loop")

    def __init__(self, channel: Channel[T], loop: asyncio.AbstractEventLoop) -> None:
        self._channel, self._loop = channel, loop

    def send(self, item: T, timeout: float | None = None) -> None:
        """Hand over one item. Raises `ClosedError` as the channel does.

        Raises `WouldBlock` after ``timeout`` seconds, and then nothing was sent.
        """
        if isinstance(self._run(select(self._channel.sending(item), timeout=timeout)), TimedOut):
            raise WouldBlock(
                f"{self._channel!r} took nothing for {timeout} s: receive faster, or wait longer."
            )

    def receive(self, timeout: float | None = None) -> T:
        """Take one item. Raises `WouldBlock` after ``timeout`` seconds, and then nothing was taken; `ClosedError` at the channel's end."""
        selected: Selected[T] = self._run(select(self._channel.receiving(), timeout=timeout))
        match selected:
            case Received(_, value):
                return value
            case TimedOut():
                raise WouldBlock(f"{self._channel!r} had nothing for {timeout} s: wait longer, or stop.")
            case _:
                raise ClosedError(f"{self._channel!r} has ended: a `for` loop stops there by itself.")

    def close(self) -> None:
        """Close the channel, once."""

        async def close() -> None:
            self._channel.close()

        self._run(close())

    def __iter__(self) -> Iterator[T]:
        """Items until the channel has ended."""
        while True:
            try:
                yield self.receive()
            except ClosedError:
                return

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run on the loop, and block this thread until done."""
        try:
            if _on(self._loop):
                raise WrongLoop(
                    f"This thread runs the loop of {self._channel!r}: await its own send and receive."
                )
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            if isinstance(error, WrongLoop):
                raise
            raise ClosedError(
                f"The loop of {self._channel!r} has ended: stop its threads before it."
            ) from error
        while True:
            try:
                return future.result(LOOK)
            except concurrent.futures.CancelledError as error:
                raise ClosedError(f"The loop of {self._channel!r} ended meanwhile.") from error
            except TimeoutError:
                # A loop may close with the call still on its list: then nobody would ever answer.
                if self._loop.is_closed() and not future.done():
                    work.close()
                    raise ClosedError(f"The loop of {self._channel!r} ended meanwhile.") from None


def _on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
