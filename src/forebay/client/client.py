"""An App's way out: one link for each event loop that uses it, and a sync bridge for callers without one."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import weakref
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from forebay.client.backpressure import Backpressure, refusal, taken, unrouted
from forebay.client.loop_client import LoopClient
from forebay.client.sync_bridge import SyncBridge
from forebay.engine import Stored
from forebay.errors import NotOpen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
    from types import FrameType

    from forebay.compose import Composer
    from forebay.engine import Engine, Published, Source, Traits
    from forebay.model.message import Message
    from forebay.model.query import Actor
    from forebay.model.when import Micros
    from forebay.support.clock import Clock

R = TypeVar("R")


_DOORS: Final = weakref.WeakSet["Client"]()
"""All there are, as `asyncio.all_tasks` knows all tasks: for who looks for what was left open. Nothing is steered by it."""


def clients() -> list[Client]:
    """The clients of all Apps of this process."""
    return list(_DOORS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What an App stands on. One value, so that another can be put in its place, whole. ``borrowed``: who lends it closes it."""

    engine: Engine
    bus: Engine | None
    clock: Clock
    composer: Composer
    patience: Mapping[str, Micros] = field(default_factory=dict)
    link: Callable[[Engine, str, Clock], LoopClient] = LoopClient
    borrowed: bool = False


class Client:
    """Opens, counts and closes links; everything an App sends goes through here."""

    def __init__(
        self,
        ground: Ground,
        sources: Callable[[], Sequence[Source]],
        check: Callable[[Traits], None],
        actor: Actor,
    ) -> None:
        self.ground, self._sources, self._check = ground, sources, check
        self.actor = actor
        """As whom its App gives commands."""
        self._called = ""
        self._links: dict[asyncio.AbstractEventLoop, LoopClient] = {}
        self._sync_bridge = SyncBridge(self._close_sync_bridge)
        self._pid, self._mark = 0, ""
        _DOORS.add(self)

    @property
    def identity(self) -> str:
        """Whose leases this process's are: unlike any other process, however often its number comes round again."""
        if self._pid != os.getpid():
            self._pid, self._mark = os.getpid(), secrets.token_hex(3)
        return f"{socket.gethostname()}-{self._pid}-{self._mark}"

    async def link(self) -> LoopClient:
        """The running loop's way into the engine.

        Raises `NotOpen` outside ``async with app:``; on the sync bridge's loop it opens itself.
        """
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None or not link.is_open:
            if self._sync_bridge.owns(loop):
                link = self._here()
                link.opened_at = self._called
                await link.open(self._sources(), self._check)
                return link
            raise NotOpen(self._why_not_open())
        return link

    def _why_not_open(self) -> str:
        others = [
            link.opened_at
            for loop, link in list(self._links.items())
            if link.is_open and loop.is_running() and not self._sync_bridge.owns(loop)
        ]
        if not others:
            return "The App is not open: use 'async with app:' around what sends, or the ..._sync methods without a loop."
        return (
            f"The App is open on another event loop (since {others[0]}), and not on this one: an open App belongs to its loop. "
            "Use 'async with app:' in this loop as well (an App may be open on several), run the call there with "
            "asyncio.run_coroutine_threadsafe, or use the ..._sync methods in a thread without a loop."
        )

    def be_patient(self, patience: Mapping[str, Micros]) -> None:
        """Senders wait so long for room in some queues. Before it is opened."""
        self.ground = replace(self.ground, patience=patience)

    async def publish(self, message: Message) -> Published:
        """Publish one message. Raises `QueueFull` when there is no room, or none in the time that the App would wait, `Unrouted` for a
        task that no queue takes (an event may have nobody who does), and `DuplicateTask` for one that is rejected.
        """
        link = await self.link()
        answer = await link.publish(message)
        if answer.refused is not None:

            async def again(batch: Sequence[Message]) -> list[Published]:
                return [await link.publish(one) for one in batch]

            (answer,) = await self._backpressure().wait(again, [message], [answer])
            if answer.refused is not None:
                raise refusal(answer.refused)
        if answer.status is Stored.UNROUTED and message.queue is not None:
            raise unrouted([message.queue])
        if answer.status is Stored.TAKEN:
            raise taken([answer])
        return answer

    async def publish_many(self, messages: Iterable[Message]) -> list[Published]:
        """Publish many messages, in batches, each of which is stored whole or not at all but for what is FULL; answers in order."""
        return await (await self.link()).publish_many(messages, self._backpressure())

    async def publish_whole(self, messages: Sequence[Message]) -> list[Published]:
        """Publish many messages in one call of the engine's, so that all of them are stored or none."""
        return await (await self.link()).publish_many(messages, self._backpressure(), whole=True)

    def sync(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of this App for a caller without a loop."""
        if not self._sync_bridge.running:
            self._called = caller()
        return self._sync_bridge.call(work)

    async def open(self) -> LoopClient:
        """The link of the running loop, one user more."""
        link = self._here()
        # Counted before it is awaited: one who closes meanwhile must not be the last.
        link.users += 1
        link.opened_at = link.opened_at or caller()
        try:
            await link.open(self._sources(), self._check)
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
    async def opened(self) -> AsyncIterator[LoopClient]:
        """`open` and `close` around a block."""
        link = await self.open()
        try:
            yield link
        finally:
            await self.close()

    def close_portal(self) -> None:
        """Close what the ``..._sync`` calls opened, unless that is somebody else's to close."""
        if not self.ground.borrowed:
            self._sync_bridge.close()

    # -- what is open

    @property
    def calls(self) -> bool:
        """Whether a sync bridge for ``..._sync`` calls is open."""
        return self._sync_bridge.running

    @property
    def open_since(self) -> str | None:
        """The place that opened it; None if nothing is open. Links whose loop has ended are let go of."""
        self._forget_dead()
        if self._links or self.calls:
            return next((link.opened_at for link in self._links.values()), "") or self._called
        return None

    def links(self) -> list[LoopClient]:
        """The links that are open, those whose loop has ended without closing them included."""
        return [link for link in list(self._links.values()) if link.is_open]

    def release(self, known: Collection[LoopClient] | None = None) -> None:
        """Close the sync bridge, and let go of links whose loop has ended. Not from the bridge's thread.

        ``known``: only if the bridge has a link that is not one of these.
        """
        bridging = next((link for loop, link in self._links.items() if self._sync_bridge.owns(loop)), None)
        try:
            if known is None or (bridging is not None and bridging not in known):
                self._sync_bridge.close()
        finally:
            self._forget_dead()  # those have said it themselves

    def abandon(self) -> list[LoopClient]:
        """Let go of all links without closing them; they are whoever's who asks."""
        left, self._links = self.links(), {}
        return left

    def _forget_dead(self) -> None:
        self._links = {loop: link for loop, link in self._links.items() if not loop.is_closed()}

    async def _close_sync_bridge(self) -> None:
        """The sync bridge's link has no users who would count: whoever calls may use it until the end."""
        if asyncio.get_running_loop() in self._links:
            await self._shut(asyncio.get_running_loop())

    def _backpressure(self) -> Backpressure:
        return Backpressure(self.ground.clock, self.ground.patience)

    def _here(self) -> LoopClient:
        """The link of the running loop, open or not."""
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            self._links[loop] = self.ground.link(self.ground.engine, self.identity, self.ground.clock)
        return self._links[loop]

    async def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._links.pop(loop).close()


def caller() -> str:
    """The place in somebody else's code from which this was called: for sentences about what was forgotten there."""
    frame = _outside()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def calling_package() -> str:
    """The package of somebody else's code from which this was called."""
    return _package(_outside())


def _outside() -> FrameType:
    frame = sys._getframe(1)  # noqa: SLF001  # what `inspect.stack` calls, without reading all the sources
    while frame.f_back is not None and _package(frame) in _OURS:
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


_OURS: Final = frozenset({"forebay", "contextlib", "asyncio"})
