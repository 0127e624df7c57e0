"""What a handler may know of its message and do beside its own work."""

from __future__ import annotations

import logging
import math
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Final, Protocol, Unpack

from forebay.codec.signature import Arguments
from forebay.errors import InvalidOption, SendError, quoted
from forebay.model.query import Progress
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.compose import Composer, EventOptions
    from forebay.engine import Delivery
    from forebay.model.message import EntryId, Message

MOST_FOLLOW_UPS: Final = 1_000
"""Messages one handler may collect. More belong into a loop of `app.send_many`, or into batches of their own tasks."""

LONGEST_NOTE: Final = 200
"""Characters of a note of progress; the rest is cut off."""


class Bound(Protocol):
    """A task with its arguments, ready to become a message (what ``task.bind(...)`` returns)."""

    def message(self, composer: Composer) -> Message:
        """A new message for this call."""
        ...


class Tether(Protocol):
    """What ties a try to its worker."""

    @property
    def is_cut(self) -> bool:
        """Whether it is to stop."""
        ...

    @property
    def most(self) -> int:
        """How many tries it has in all."""
        ...

    def say(self, said: Progress) -> None:
        """Carry on how far it is."""
        ...


class Context:
    """One try of one message. Ask for it with a parameter annotated ``Context``.

    >>> @app.subscribe("orders.placed", group="billing")          # doctest: +SKIP
    ... async def bill(order: OrderPlaced, ctx: Context) -> None:
    ...     ctx.publish("orders.billed", OrderBilled(order.id))   # leaves with this handler's success, or not at all
    """

    __slots__ = ("_composer", "_tether", "_then", "arguments", "delivery")

    def __init__(
        self, delivery: Delivery, composer: Composer, arguments: Arguments, tether: Tether | None = None
    ) -> None:
        self.delivery, self._composer, self.arguments = delivery, composer, arguments
        self._tether = tether
        self._then: list[Message] = []

    @property
    def id(self) -> EntryId:
        """The id of this message in this queue; the same at every try."""
        return self.delivery.id

    @property
    def attempt(self) -> int:
        """Which try this is, from 1. Hand-backs and crashes do not count."""
        return self.delivery.attempts + 1

    @property
    def is_last(self) -> bool:
        """Whether no other try follows if this one fails, as far as attempts go: its deadline may make an earlier one the last."""
        return self._tether is not None and self.attempt >= self._tether.most

    @property
    def name(self) -> str:
        """The task's name, or the event's topic."""
        return self.delivery.message.name

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.delivery.source.queue

    @property
    def key(self) -> str | None:
        """The key it was sent with."""
        return self.delivery.message.key

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was sent with."""
        return self.delivery.message.headers

    @property
    def message(self) -> Message:
        """The message itself, body and all."""
        return self.delivery.message

    @property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger that names this message in every line. Its calls never raise, whatever an application's filters do."""
        return Log("forebay.task", {"task": self.name, "id": self.id, "attempt": self.attempt})

    @property
    def cancelled(self) -> bool:
        """Whether this try is asked to stop: somebody cancelled it, its time is up, its lease is lost, or its worker must end now.

        For plain functions, which nothing else can stop; a coroutine is cancelled anyway.
        """
        return self._tether is not None and self._tether.is_cut

    def check_cancelled(self) -> None:
        """Raise what ends this try, if it is asked to stop; a call for loops in plain functions.

        >>> for row in rows:                                       # doctest: +SKIP
        ...     ctx.check_cancelled()
        ...     work(row)
        """
        if self.cancelled:
            raise CancelledError

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far this try is: ``progress(0.4)``, or ``progress(40, 100, "orders")``. Cheap; may be said as often as one likes.

        The store, and whoever looks, hears of the latest about once a second. Raises `InvalidOption` for a share that is not
        between 0 and 1.
        """
        try:
            share = done if total is None else done / total if total else 1.0
        except OverflowError:
            share = math.inf
        if not 0 <= share <= 1:
            raise InvalidOption(
                f"progress must lie between 0 and 1, or 0 and its total, not {quoted(done)} of {quoted(total)}."
            )
        if self._tether is not None:
            self._tether.say(Progress(share=round(float(share), 4), note=str(note)[:LONGEST_NOTE]))

    def publish(self, topic: str, event: object, **options: Unpack[EventOptions]) -> None:
        """Publish an event if, and only if, this handler succeeds: in the same transaction. A plain call; it collects.

        Raises `SendError` for an event that cannot be sent or one too many, `InvalidName` and `InvalidOption` as `App.publish` does.
        """
        self._collect(self._composer.event(topic, event, options))

    def send(self, call: Bound) -> None:
        """Send a task (``ctx.send(task.bind(...))``) if, and only if, this handler succeeds. As `publish`."""
        if not hasattr(call, "message"):
            raise InvalidOption("ctx.send() takes a bound task: ctx.send(task.bind(...)).")
        self._collect(call.message(self._composer))

    def called_with(self, arguments: Arguments) -> Context:
        """The same try, called with other arguments, as a batch is; what is sent through either leaves with both."""
        other = Context(self.delivery, self._composer, arguments, self._tether)
        other._then = self._then
        return other

    @property
    def collected(self) -> tuple[Message, ...]:
        """What `send` and `publish` have collected so far."""
        return tuple(self._then)

    def _collect(self, message: Message) -> None:
        if len(self._then) >= MOST_FOLLOW_UPS:
            raise SendError(
                f"A handler may send {MOST_FOLLOW_UPS} messages with its success; use app.send_many() for more."
            )
        self._then.append(message)
