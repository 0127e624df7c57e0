"""Joins a store and a bus, with the ordinary runner and no port of its own.

The *outbox* is a queue of the store that holds what goes to the bus: its handler publishes there and is then Done. The *inbox* takes from
the bus, stores, and only then acknowledges. A crash between any two steps leaves a second copy of a message under the same id, which the
store refuses, and never a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from forebay.client.backpressure import refusal
from forebay.codec.envelope import unpack
from forebay.codec.signature import Arguments
from forebay.declaring.handler import Handler, Route
from forebay.engine import Source, Stored
from forebay.errors import ConfigError, OutcomeUnknown
from forebay.model.policy import RetryPolicy
from forebay.model.when import SECOND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from forebay.engine import Published
    from forebay.model.message import Message

OUTBOX: Final = "_outbox"
PATIENCE: Final = RetryPolicy(max_attempts=1_000_000, cap=30 * SECOND)
"""A bus may be away for long, and nothing else is to be done with these: they are tried again until it is back.

What it cannot do at all (`ConfigError`) it will not learn by waiting: those messages become dead letters, where they are seen.
"""


def outbox(publish: Callable[[Message], Awaitable[Published]]) -> Route:
    """The store's queue of messages for the bus."""

    async def send(message: Message) -> None:
        answer = await publish(message)
        if answer.refused is not None:
            raise refusal(answer.refused)
        if answer.status is Stored.UNKNOWN:
            # Another try under the same id. UNROUTED is no failure: nobody has subscribed.
            raise OutcomeUnknown("The bus broke off before it said whether it has the event.")

    def decode(message: Message) -> Arguments:
        return Arguments((unpack(message.body),), {})

    handler = Handler(
        name=OUTBOX, function=send, decode=decode, relays=True, policy=PATIENCE, no_retry_on=(ConfigError,)
    )
    return Route(source=Source(queue=OUTBOX), handler=handler)


def inbox(source: Source, store: Callable[[Message], Awaitable[Published]]) -> Route:
    """A subscription of the bus, kept by the store: its copies become the store's, for the queue of the same name."""

    async def keep(message: Message) -> None:
        answer = await store(
            msgspec.structs.replace(message, queue=source.queue, topic=message.topic or message.name)
        )
        if answer.refused is not None:
            # The bus keeps it until there is backpressure.
            raise refusal(answer.refused)

    def decode(message: Message) -> Arguments:
        return Arguments((message,), {})

    handler = Handler(
        name=source.queue,
        function=keep,
        decode=decode,
        relays=True,
        policy=PATIENCE,
        no_retry_on=(ConfigError,),
    )
    return Route(source=source, handler=handler)
