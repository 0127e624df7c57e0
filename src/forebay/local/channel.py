"""Channels as Go has them: rendezvous or buffered, first in first out, closed once. Nothing here chooses between channels: `select` does.

An item stays in the channel until the receiver it was promised to runs and takes it. So a receiver that is cancelled on the way
only hands back its promise: no item is lost, none comes twice, and none is overtaken by a later one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from asyncio import get_running_loop
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from forebay.local.cases import ReceiveCase, Received, SendCase, Ticket
from forebay.local.errors import ClosedError, MisuseError, WouldBlock, WrongLoop
from forebay.local.select import Selected, TimedOut, select

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class Statistics(NamedTuple):
    """A snapshot of a channel: true when taken, and perhaps no longer."""

    items: int
    capacity: int
    senders_waiting: int
    receivers_waiting: int
    closed: bool


LOOK: Final = 0.5
"""Seconds between two looks of another thread at whether the loop is still there."""


class Channel(Generic[T]):
    """Hands items from senders to receivers, in order.

    With ``capacity`` 0 a send returns only when a receiver has been given the item; otherwise it waits only while ``capacity`` items wait.
    Any value is an item, ``None`` too. ``name`` is what reports call it.

    ```python
    jobs = Channel[int](10, name="jobs")
    await jobs.send(1)
    jobs.close()
    async for job in jobs:  # drains, then ends
        print(job)
    ```
    """

    __slots__ = (
        "__weakref__",
        "_capacity",
        "_closed",
        "_items",
        "_loop",
        "_promised",
        "_receivers",
        "_receiving",
        "_senders",
        "name",
    )

    def __init__(self, capacity: int = 0, *, name: str = "") -> None:
        if capacity < 0:
            raise MisuseError(
                f"A channel's capacity is a whole number from 0 on, not {capacity!r}: 0 hands over directly."
            )
        self.name = name
        self._capacity = capacity
        self._closed = False
        self._items: deque[T] = deque()
        # So many of the items are promised to receivers that were woken and have not run yet.
        self._promised = 0
        # Ordered dicts: first in first out, and whoever gives up is out at once wherever he stood.
        self._receivers: OrderedDict[Ticket[T], None] = OrderedDict()
        self._senders: OrderedDict[Ticket[T], None] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receiving: ReceiveCase[T] = ReceiveCase(self)

    def __repr__(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        return f"<Channel{named} {len(self)}/{self._capacity}{' closed' if self._closed else ''}>"

    def __bool__(self) -> bool:
        return True  # an empty channel is still a channel

    def __len__(self) -> int:
        """How many items wait for a receiver, now."""
        return len(self._items) - self._promised

    @property
    def capacity(self) -> int:
        """How many items may wait before a send does."""
        return self._capacity

    @property
    def closed(self) -> bool:
        """Whether `close` was called. Items may still wait."""
        return self._closed

    def statistics(self) -> Statistics:
        """Return a snapshot."""
        senders = sum(not ticket.future.done() for ticket in self._senders)
        receivers = sum(not ticket.future.done() for ticket in self._receivers)
        return Statistics(len(self), self._capacity, senders, receivers, self._closed)

    async def send(self, item: T) -> None:
        """Hand over one item, waiting for room or a receiver.

        Raises `ClosedError` if the channel is closed, also while it waits. Cancelled while it waits, nothing was sent; cancelled just
        after a receiver took the item, it stays sent, once. Who must know which uses ``select(channel.sending(item), timeout=...)``.
        """
        loop = get_running_loop()
        if self._loop is not loop:
            self._bind(loop)
        if self._closed:
            raise self._refusal()
        if len(self._items) - self._promised < self._capacity or (self._receivers and first(self._receivers)):
            self._put(item)
            return
        ticket = Ticket(loop.create_future(), 0, item)
        self._senders[ticket] = None
        try:
            await ticket.future
        finally:
            self._senders.pop(ticket, None)
        if ticket.closed:
            raise self._refusal()

    async def receive(self) -> T:
        """Take the oldest item, waiting for one.

        Raises `ClosedError` when the channel is closed and empty. Cancelled, it took nothing.
        """
        loop = get_running_loop()
        if self._loop is not loop:
            self._bind(loop)
        if len(self._items) > self._promised or (self._senders and first(self._senders)):
            return self._take()
        if self._closed:
            raise self._end()
        ticket: Ticket[T] = Ticket(loop.create_future(), 0)
        self._receivers[ticket] = None
        try:
            await ticket.future
        except BaseException:
            self._forgo(ticket)
            raise
        if ticket.closed:
            raise self._end()
        self._promised -= 1
        return self._items.popleft()

    def try_send(self, item: T) -> None:
        """Hand over one item at once, or raise `WouldBlock` and do nothing. Raises `ClosedError` if the channel is closed."""
        self._check()
        if self._closed:
            raise self._refusal()
        if not self._can_send():
            raise WouldBlock(f"{self!r} has no room and no waiting receiver: await send, or try again later.")
        self._put(item)

    def try_receive(self) -> T:
        """Take the oldest item at once, or raise `WouldBlock`. Raises `ClosedError` when the channel is closed and empty."""
        self._check()
        if self._can_receive():
            return self._take()
        if self._closed:
            raise self._end()
        raise WouldBlock(f"{self!r} has no item and no waiting sender: await receive, or try again later.")

    def close(self) -> None:
        """Take no more. Waiting senders get `ClosedError`; receivers take what is left and then end. Only senders should close.

        Raises `ClosedError` if it is closed already.
        """
        self._check()
        if self._closed:
            raise ClosedError(
                f"{self!r} is closed already: close it once, by the one who knows that all was sent."
            )
        self._closed = True
        for waiting in (self._receivers, self._senders):
            while ticket := first(waiting):
                del waiting[ticket]
                ticket.closed = True
                ticket.future.set_result(ticket)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except ClosedError:
            raise StopAsyncIteration from None

    def receiving(self) -> ReceiveCase[T]:
        """Return the case of `select` that receives from here. It may be used again and again."""
        return self._receiving

    def sending(self, item: T) -> SendCase[T]:
        """Return the case of `select` that sends ``item`` here."""
        return SendCase(self, item)

    @property
    def send_only(self) -> SendOnly[T]:
        """The same channel for those who only send."""
        return SendOnly(self)

    @property
    def receive_only(self) -> ReceiveOnly[T]:
        """The same channel for those who only receive."""
        return ReceiveOnly(self)

    @property
    def from_thread(self) -> ThreadEnd[T]:
        """The same channel for other threads. Ask for it on the channel's loop, then hand it to the thread."""
        try:
            loop = get_running_loop()
        except RuntimeError:
            raise WrongLoop(
                f"Ask {self!r} for from_thread on its event loop, and hand what you get to the thread."
            ) from None
        if self._loop is not loop:
            self._bind(loop)
        return ThreadEnd(self, loop)

    def _can_send(self) -> bool:
        return len(self) < self._capacity or first(self._receivers) is not None

    def _can_receive(self) -> bool:
        return len(self._items) > self._promised or first(self._senders) is not None

    def _put(self, item: T) -> None:
        """Add an item there is room or a receiver for; promise one to the first receiver."""
        self._items.append(item)
        if self._receivers:
            self._promise()

    def _promise(self) -> None:
        if ticket := first(self._receivers):
            del self._receivers[ticket]
            self._promised += 1
            ticket.future.set_result(ticket)

    def _take(self) -> T:
        """Take the oldest item that is promised to nobody, and let the first waiting sender move up."""
        items = self._items
        if len(items) <= self._promised:
            self._admit()
            return items.popleft()
        item = items.popleft()
        if self._senders and len(items) - self._promised < self._capacity:
            self._admit()
        return item

    def _admit(self) -> None:
        if ticket := first(self._senders):
            del self._senders[ticket]
            self._items.append(ticket.item)
            ticket.future.set_result(ticket)

    def _forgo(self, ticket: Ticket[T]) -> None:
        """A receiver gives up. What it was promised goes to the next, or waits at its place in the row."""
        self._receivers.pop(ticket, None)
        if ticket.future.cancelled() or not ticket.future.done() or ticket.closed:
            return
        self._promised -= 1
        self._promise()

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to ``loop`` from now on; a loop that is closed has no more claim."""
        if self._loop is not None and not self._loop.is_closed():
            raise WrongLoop(
                f"{self!r} belongs to another event loop: use it there, or from a thread by its from_thread."
            )
        self._receivers.clear()
        self._senders.clear()
        self._loop = loop

    def _check(self) -> None:
        """Calls that do not wait may come before there is a loop, but not from beside it."""
        if self._loop is None:
            return
        try:
            loop = get_running_loop()
        except RuntimeError:
            if self._loop.is_closed():
                return
            raise WrongLoop(
                f"{self!r} belongs to an event loop that does not run in this thread: use its from_thread."
            ) from None
        if self._loop is not loop:
            self._bind(loop)

    def _refusal(self) -> ClosedError:
        return ClosedError(f"{self!r} takes no more: send before it is closed, and let the senders close it.")

    def _end(self) -> ClosedError:
        return ClosedError(f"{self!r} has ended: `async for` stops there by itself.")


def first(waiting: OrderedDict[Ticket[T], None]) -> Ticket[T] | None:
    """Return the first who still waits. Those already served elsewhere, or cancelled, are dropped on the way."""
    while waiting:
        ticket = next(iter(waiting))
        if not ticket.future.done():
            return ticket
        del waiting[ticket]
    return None


class SendOnly(Generic[T_contra]):
    """A channel as its senders see it."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel[T_contra]) -> None:
        self._channel = channel

    def __repr__(self) -> str:
        return f"<send-only {self._channel!r}>"

    async def send(self, item: T_contra) -> None:
        """As `Channel.send`."""
        await self._channel.send(item)

    def try_send(self, item: T_contra) -> None:
        """As `Channel.try_send`."""
        self._channel.try_send(item)

    def sending(self, item: T_contra) -> SendCase[T_contra]:
        """As `Channel.sending`."""
        return self._channel.sending(item)

    def close(self) -> None:
        """As `Channel.close`."""
        self._channel.close()


class ReceiveOnly(Generic[T_co]):
    """A channel as its receivers see it."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel[T_co]) -> None:
        self._channel = channel

    def __repr__(self) -> str:
        return f"<receive-only {self._channel!r}>"

    async def receive(self) -> T_co:
        """As `Channel.receive`."""
        return await self._channel.receive()

    def try_receive(self) -> T_co:
        """As `Channel.try_receive`."""
        return self._channel.try_receive()

    def receiving(self) -> ReceiveCase[T_co]:
        """As `Channel.receiving`."""
        return self._channel.receiving()

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self._channel.__aiter__()


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
