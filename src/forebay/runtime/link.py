"""One event loop's way into the engine: its broker, its batch of sends, its waiting results."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from forebay.engine import Published, Store
from forebay.errors import NotOpen, OutcomeUnknown, Unsupported
from forebay.runtime.batcher import Batcher, halved
from forebay.runtime.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.clock import Clock
    from forebay.engine import Broker, Engine, Source
    from forebay.model.message import Message

log = logging.getLogger("forebay.link")

BATCH: Final = 500
REPEATS: Final = 3
"""Times a publish is repeated when its outcome is unknown. Ids make that safe."""


class Link:
    """Opened and closed on one loop, used on that loop only."""

    def __init__(self, engine: Engine, name: str, clock: Clock) -> None:
        self.broker: Broker = engine.connect(name, clock)
        self._remembers = engine.traits.remembers
        self._engine = engine.traits.engine
        self._sends: Batcher[Message, Published] = Batcher(self._publish, limit=BATCH)
        self.results = Results(cast("Store", self.broker), clock) if self._remembers else None
        self._host: asyncio.Task[None] | None = None
        self.users = 1

    @property
    def store(self) -> Store:
        """The broker as a store. Raises `Unsupported` for a bare bus, which remembers nothing."""
        if not self._remembers:
            raise Unsupported(
                f"{self._engine} is a bus and remembers nothing: for status, results, cancel and counts add a store, "
                "as in App('sqlite:///forebay.db', bus=...)."
            )
        return cast("Store", self.broker)

    async def open(self, sources: Sequence[Source]) -> None:
        """Open the broker and start the services of this link. If it cannot be opened nothing stays behind."""
        try:
            await self.broker.declare(sources)
        except BaseException:
            await self.broker.close()
            raise
        self._host = asyncio.get_running_loop().create_task(
            self._serve(), name="forebay-link"
        )  # lives past any one caller

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            sends = group.create_task(self._sends.run())
            results = None if self.results is None else group.create_task(self.results.run())
            await sends
            if results is not None:
                results.cancel()

    async def publish(self, message: Message) -> Published:
        """Publish one message with the next batch. Cancelled, the message may still be sent."""
        self._check()
        return await asyncio.shield(self._sends.submit(message))

    async def publish_many(self, messages: Sequence[Message]) -> list[Published]:
        """Publish many, in batches, each of which is stored whole or not at all. Raises at the first batch that fails."""
        self._check()
        answers: list[Published] = []
        for start in range(0, len(messages), 2 * BATCH):
            for answer in await self._publish(messages[start : start + 2 * BATCH]):
                if isinstance(answer, Exception):
                    raise answer
                answers.append(answer)
        return answers

    async def close(self) -> None:
        """Send what was given, then let go of the engine."""
        self._sends.close()
        try:
            if self._host is not None:
                await self._host
        finally:
            self._host = None
            await self.broker.close()

    def _check(self) -> None:
        if self._host is None or self._host.done():
            raise NotOpen("The App is not open: use 'async with app:' around what sends.")

    async def _publish(self, batch: Sequence[Message]) -> list[Published | Exception]:
        for _ in range(REPEATS):
            try:
                return await halved(self.broker.publish, batch)
            except OutcomeUnknown as error:
                log.warning("publish.unknown", extra={"count": len(batch), "error": str(error)})
        return await halved(self.broker.publish, batch)
