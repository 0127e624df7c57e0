"""What `select` chooses between: to receive from a channel, or to send to one. A case does nothing until it is chosen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeVar

from forebay.local.errors import ClosedError

if TYPE_CHECKING:
    from collections import OrderedDict, deque

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(
    slots=True, unsafe_hash=True
)  # not frozen: that would double what it costs, and one is made for each item
class Received(Generic[T_co]):
    """Case number ``case`` received ``value``."""

    case: int
    value: T_co


@dataclass(frozen=True, slots=True)
class Sent:
    """Case number ``case`` sent its item."""

    case: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Case number ``case`` receives from a channel that is closed and empty."""

    case: int


class Ticket(Generic[T]):
    """One who waits at one channel. The tickets of one `select` share a future: who sets it has chosen."""

    __slots__ = ("case", "closed", "future", "item")

    def __init__(self, future: asyncio.Future[Any], case: int, item: T | None = None) -> None:
        self.future = future
        self.case = case
        # Read only of a sender's ticket, which has one; so None may be an item.
        self.item: Any = item
        self.closed = False


class Insides(Protocol):
    """What a case knows of its channel. The types of items are kept by the cases, not here."""

    _closed: bool
    _items: deque[Any]
    _loop: asyncio.AbstractEventLoop | None
    _promised: int
    _receivers: OrderedDict[Ticket[Any], None]
    _senders: OrderedDict[Ticket[Any], None]

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def _can_send(self) -> bool: ...
    def _can_receive(self) -> bool: ...
    def _put(self, item: Any) -> None: ...
    def _take(self) -> Any: ...
    def _forgo(self, ticket: Ticket[Any]) -> None: ...
    def _refusal(self) -> ClosedError: ...


class Case(Protocol[T_co]):
    """Stands at one channel for `select`."""

    def ready(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it could take effect now."""
        ...

    def act(self, number: int) -> Received[T_co] | Sent | Ended:
        """Take effect: it is ready and was chosen."""
        ...

    def enter(self, future: asyncio.Future[Any], number: int) -> Ticket[Any]:
        """Stand in the channel's row."""
        ...

    def leave(self, ticket: Ticket[Any]) -> None:
        """Stand there no more; harmless if it does not."""
        ...

    def finish(self, ticket: Ticket[Any]) -> Received[T_co] | Sent | Ended:
        """Say what it came to, after another task has chosen this ticket."""
        ...

    def abandon(self, ticket: Ticket[Any]) -> None:
        """Hand back what the chosen ticket was promised."""
        ...


class ReceiveCase(Generic[T_co]):
    """To receive from ``channel``."""

    __slots__ = ("channel",)

    def __init__(self, channel: Insides) -> None:
        self.channel = channel

    def ready(self, loop: asyncio.AbstractEventLoop) -> bool:
        channel = self.channel
        if channel._loop is not loop:
            channel._bind(loop)
        if len(channel._items) > channel._promised or channel._closed:
            return True
        return bool(channel._senders) and channel._can_receive()

    def act(self, number: int) -> Received[T_co] | Sent | Ended:
        channel = self.channel
        if len(channel._items) > channel._promised or channel._can_receive():
            return Received(number, channel._take())
        return Ended(number)

    def enter(self, future: asyncio.Future[Any], number: int) -> Ticket[Any]:
        ticket: Ticket[Any] = Ticket(future, number)
        self.channel._receivers[ticket] = None
        return ticket

    def leave(self, ticket: Ticket[Any]) -> None:
        self.channel._receivers.pop(ticket, None)

    def finish(self, ticket: Ticket[Any]) -> Received[T_co] | Sent | Ended:
        if ticket.closed:
            return Ended(ticket.case)
        self.channel._promised -= 1
        return Received(ticket.case, self.channel._items.popleft())

    def abandon(self, ticket: Ticket[Any]) -> None:
        self.channel._forgo(ticket)


class SendCase(Generic[T]):
    """To send ``item`` to ``channel``."""

    __slots__ = ("channel", "item")

    def __init__(self, channel: Insides, item: T) -> None:
        self.channel = channel
        self.item = item

    def ready(self, loop: asyncio.AbstractEventLoop) -> bool:
        channel = self.channel
        if channel._loop is not loop:
            channel._bind(loop)
        return channel._closed or channel._can_send()

    def act(self, number: int) -> Received[Never] | Sent | Ended:
        if self.channel._closed:
            raise self.channel._refusal()
        self.channel._put(self.item)
        return Sent(number)

    def enter(self, future: asyncio.Future[Any], number: int) -> Ticket[Any]:
        ticket: Ticket[Any] = Ticket(future, number, self.item)
        self.channel._senders[ticket] = None
        return ticket

    def leave(self, ticket: Ticket[Any]) -> None:
        self.channel._senders.pop(ticket, None)

    def finish(self, ticket: Ticket[Any]) -> Received[Never] | Sent | Ended:
        if ticket.closed:
            raise self.channel._refusal()
        return Sent(ticket.case)

    def abandon(self, ticket: Ticket[Any]) -> None:
        """A receiver has the item already: it stays sent, once."""
