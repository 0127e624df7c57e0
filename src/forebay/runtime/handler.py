"""What a declared handler is, and where its work comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from forebay.codec import json
from forebay.codec.signature import Arguments, Signature
from forebay.context import Context
from forebay.model.message import JSON
from forebay.model.policy import RetryPolicy
from forebay.model.when import SECOND, Micros

if TYPE_CHECKING:
    from forebay.engine import Source
    from forebay.middleware import Call
    from forebay.model.message import Message
    from forebay.runtime.threads import Threads

DEFAULT_TIMEOUT: Final = 600 * SECOND
"""How long one try may take if nothing else was said: 10 minutes."""


Decoder: TypeAlias = "Callable[[Message], Arguments]"
"""Reads a message into the arguments of a call. Raises msgspec's errors, RecursionError, TypeError or ValueError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function, how its message is read, and what happens when it fails. ``timeout`` is of one try, in microseconds."""

    name: str
    function: Callable[..., Any]
    decode: Decoder
    context: str | None = None
    threaded: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: Micros = DEFAULT_TIMEOUT
    no_retry_on: tuple[type[BaseException], ...] = ()

    def call(self, threads: Threads) -> Call:
        """The innermost call: user code with its arguments, on this loop or in a thread."""
        function, context = self.function, self.context

        async def plain(ctx: Context) -> object:
            given = ctx.arguments
            if context is None:
                return await function(*given.args, **given.kwargs)
            return await function(*given.args, **given.kwargs, **{context: ctx})

        async def threaded(ctx: Context) -> object:
            given = ctx.arguments
            extra = {} if context is None else {context: ctx}
            return await threads.run(function, *given.args, **given.kwargs, **extra)

        return threaded if self.threaded else plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One source and who handles what comes from it. ``handler`` takes every name, else ``handlers`` are looked up by name.

    ``weight`` is this queue's share of the worker where queues compete; ``concurrency`` bounds its deliveries at work in this process.
    """

    source: Source
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    handler: Handler | None = None
    weight: int = 1
    concurrency: int | None = None

    def handler_of(self, message: Message) -> Handler | None:
        """The handler of a message, None if this worker has none."""
        return self.handler or self.handlers.get(message.name)


def task_decoder(signature: Signature) -> Decoder:
    """Reads a task's body by its signature."""

    def decode(message: Message) -> Arguments:
        return signature.decode(message.body)

    return decode


def event_decoder(parameter: str | None, kind: Any) -> Decoder:  # a type form
    """Reads an event's body into the one parameter of its handler: raw for ``bytes``, else from JSON."""

    def raw(message: Message) -> Arguments:
        return Arguments((), {str(parameter): message.body})

    def typed(message: Message) -> Arguments:
        if kind is Any and message.content_type != JSON:
            return raw(message)
        return Arguments((), {str(parameter): json.decode(message.body, kind)})

    def nothing(_: Message) -> Arguments:
        return Arguments((), {})

    if parameter is None:
        return nothing
    return raw if kind is bytes else typed
