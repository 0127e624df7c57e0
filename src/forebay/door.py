"""An App's way out: one link for each event loop that uses it, a portal for callers without one, and the sending of bound tasks."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.engine import Stored
from forebay.errors import NotOpen
from forebay.handle import Handle
from forebay.runtime.link import Link
from forebay.runtime.portal import Portal
from forebay.runtime.room import Room, refusal, refusal_of_many

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence

    from forebay.clock import Clock
    from forebay.compose import Composer
    from forebay.engine import Engine, Published, Source
    from forebay.model.message import Message
    from forebay.model.when import Micros
    from forebay.tasks import BoundTask

R = TypeVar("R")


class Door:
    """Opens, counts and closes links; everything an App sends goes through here."""

    def __init__(
        self,
        engine: Engine,
        composer: Composer,
        clock: Clock,
        sources: Callable[[], Sequence[Source]],
        patience: Mapping[str, Micros],
    ) -> None:
        self._engine, self._composer, self._clock, self._sources = engine, composer, clock, sources
        self._patience = patience
        self._links: dict[asyncio.AbstractEventLoop, Link] = {}
        self._portal = Portal(self._close_portal_link)
        self._pid, self._mark = 0, ""

    @property
    def identity(self) -> str:
        """Whose leases this process's are: unlike any other process, however often its number comes round again."""
        if self._pid != os.getpid():
            self._pid, self._mark = os.getpid(), secrets.token_hex(3)
        return f"{socket.gethostname()}-{self._pid}-{self._mark}"

    async def link(self) -> Link:
        """The running loop's way into the engine.

        Raises `NotOpen` outside ``async with app:``; on the portal's loop it opens itself.
        """
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None or not link.is_open:
            if self._portal.owns(loop):
                link = self._here()
                await link.open(self._sources())
                return link
            raise NotOpen(
                "The App is not open: use 'async with app:' around what sends, or the ..._sync methods without a loop."
            )
        return link

    async def send(self, call: BoundTask[R]) -> Handle[R]:
        """Send one bound task."""
        return self._handle(call, await self.publish(call.message(self._composer)))

    async def publish(self, message: Message) -> Published:
        """Publish one message. Raises `QueueFull` when there is no room, or none in the time that the App would wait."""
        link = await self.link()
        answer = await link.publish(message)
        if answer.refused is not None:

            async def again(batch: Sequence[Message]) -> list[Published]:
                return [await link.publish(one) for one in batch]

            (answer,) = await self._room().wait(again, [message], [answer])
            if answer.refused is not None:
                raise refusal(answer.refused)
        return answer

    async def send_many(self, calls: Iterable[BoundTask[R]]) -> list[Handle[R]]:
        """Send many bound tasks, in batches. Raises `QueueFull`, with the handles of what was stored, if anything was refused."""
        bound = list(calls)
        for call in bound:
            self._composer.check_size(call.task.name, call.body)
        link = await self.link()
        answers = await link.publish_many((call.message(self._composer) for call in bound), self._room())
        full = next((answer.refused for answer in answers if answer.status is Stored.FULL), None)
        if full is None:
            return [self._handle(call, answer) for call, answer in zip(bound, answers, strict=True)]
        handles = [
            None if answer.status is Stored.FULL else self._handle(call, answer)
            for call, answer in zip(bound, answers, strict=True)
        ]
        raise refusal_of_many(full, handles)

    def sync(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of this App for a caller without a loop."""
        return self._portal.call(work)

    async def open(self) -> Link:
        """The link of the running loop, one user more."""
        link = self._here()
        # Counted before it is awaited: one who closes meanwhile must not be the last.
        link.users += 1
        try:
            await link.open(self._sources())
        except BaseException:
            link.users -= 1
            raise
        return link

    async def close(self) -> None:
        """One user of the running loop's link less; the last one closes it."""
        loop = asyncio.get_running_loop()
        link = self._links[loop]
        link.users -= 1
        if link.users == 0:
            await self._shut(loop)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Link]:
        """`open` and `close` around a block."""
        link = await self.open()
        try:
            yield link
        finally:
            await self.close()

    def close_portal(self) -> None:
        """Close what the ``..._sync`` calls opened."""
        self._portal.close()

    async def _close_portal_link(self) -> None:
        """The portal's link has no users who would count: whoever calls may use it until the end."""
        if asyncio.get_running_loop() in self._links:
            await self._shut(asyncio.get_running_loop())

    def _room(self) -> Room:
        return Room(self._clock, self._patience)

    def _here(self) -> Link:
        """The link of the running loop, open or not."""
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            self._links[loop] = Link(self._engine, self.identity, self._clock)
        return self._links[loop]

    async def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._links.pop(loop).close()

    def _handle(self, call: BoundTask[R], answer: Published) -> Handle[R]:
        return Handle(
            answer.id, call.task.signature.returns, self, duplicate=answer.status is Stored.DUPLICATE
        )
