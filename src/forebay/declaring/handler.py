"""What a declared handler is, and where its work comes from."""

from __future__ import annotations

import inspect
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


def _unchanged(_: object, __: bytes) -> None:
    """Nothing is known of results."""


def _instead(_: bytes, results: bytes) -> bytes:
    """It takes nothing else."""
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function, how its message is read, and what happens when it fails. ``timeout`` is of one try, in microseconds.

    ``context`` names the parameter that takes the context; ``leads``: it is the first, so it is given by position. ``relays``: it only
    carries messages on, so what they ask for (tries, time, size) is for the handler they go to and not for this one. ``process``: each
    try has a process to itself. ``batch``: it is called with up to so many messages at once, those that come ``within`` microseconds of
    the first, under the parameter ``items``, and with their contexts under ``context``; ``gathers``: they come together from the store.
    ``result_change``: what a reader of a result would see otherwise than it was returned, in words. ``with_results``: a body with the
    results of the steps before it in the place left for them. ``most``: how many of its tries run at once, over all processes.
    """

    name: str
    function: Callable[..., Any]
    decode: Decoder
    context: str | None = None
    leads: bool = False
    relays: bool = False
    threaded: bool = False
    process: bool = False
    batch: int = 0
    within: Micros = 0
    gathers: bool = False
    items: str = ""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: Micros = DEFAULT_TIMEOUT
    no_retry_on: tuple[type[BaseException], ...] = ()
    result_change: Callable[[object, bytes], str | None] = _unchanged
    with_results: Callable[[bytes, bytes], bytes] = _instead
    most: int | None = None

    def call(self, threads: Threads) -> Call:
        """The innermost call: user code with its arguments, on this loop or in a thread."""
        function = self.function

        async def plain(ctx: Context) -> object:
            args, kwargs = self._given(ctx)
            return await function(*args, **kwargs)

        async def threaded(ctx: Context) -> object:
            args, kwargs = self._given(ctx)
            value = await threads.run(function, *args, **kwargs)
            # A plain function around a coroutine function, as careless decorators make them.
            return await value if inspect.isawaitable(value) else value

        return threaded if self.threaded else plain

    def _given(self, ctx: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = ctx.arguments
        if self.context is None or self.batch:
            return given.args, given.kwargs
        if self.leads:
            return (ctx, *given.args), given.kwargs
        return given.args, {**given.kwargs, self.context: ctx}


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


def event_decoder(parameter: inspect.Parameter | None) -> Decoder:
    """Reads an event's body into the one parameter of its handler: raw for ``bytes``, else from JSON."""
    if parameter is None:
        return lambda _: Arguments((), {})
    name, kind = parameter.name, parameter.annotation
    by_position = parameter.kind is inspect.Parameter.POSITIONAL_ONLY

    def decode(message: Message) -> Arguments:
        raw = kind is bytes or (kind is Any and message.content_type != JSON)
        event = message.body if raw else json.decode(message.body, kind)
        return Arguments((event,), {}) if by_position else Arguments((), {name: event})

    return decode
