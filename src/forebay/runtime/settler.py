"""The one place where deliveries end: verdicts go to the engine in batches, each answered for itself."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from forebay.client.batcher import halved
from forebay.engine import Settled, Settlement
from forebay.errors import EngineUnavailable, OutcomeUnknown, name_of, text_of, told
from forebay.model import verdict as v
from forebay.model.when import SECOND
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.engine import Broker, Delivery
    from forebay.runtime.in_flight import InFlight, Run
    from forebay.support.clock import Clock

log = Log("forebay.settler")

BATCH: Final = 500
FIRST_PAUSE: Final = SECOND // 20
LONGEST_PAUSE: Final = 2 * SECOND


class Settler:
    """Settles until closed. While the engine is away it holds what it has and tries again: the leases are kept by the heartbeat.

    ``ended`` counts what was settled, ``stale`` what of it came too late. ``on_end`` hears of every verdict that took effect, but for Done.
    """

    def __init__(
        self,
        broker: Broker,
        in_flight: InFlight,
        clock: Clock,
        on_end: Callable[[Delivery, v.Verdict], None] = lambda *_: None,
    ) -> None:
        self._broker, self._in_flight, self._clock = broker, in_flight, clock
        self._on_end = on_end
        self._waiting: deque[tuple[Run, Settlement]] = deque()
        self._some = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self._closing = False
        self.stale = self.ended = 0

    def __len__(self) -> int:
        """How many verdicts wait for the batch under way."""
        return len(self._waiting)

    def submit(self, run: Run, settlement: Settlement) -> None:
        """Settle a run in the next batch. `room` is clear while two batches or more are waiting: take no new work then."""
        self._waiting.append((run, settlement))
        self._some.set()
        if len(self._waiting) >= 2 * BATCH:
            self.room.clear()

    def close(self) -> None:
        """`run` ends when all that was submitted is settled."""
        self._closing = True
        self._some.set()

    async def run(self) -> None:
        """Settle batches until closed. Cancelled, what was not settled stays under its lease."""
        while self._waiting or not self._closing:
            await self._some.wait()
            if self._waiting:
                await self.flush()
            if not self._waiting and not self._closing:
                self._some.clear()

    async def flush(self) -> None:
        """Settle one batch of what was submitted."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        answers = await self._persist([settlement for _, settlement in batch])
        self.ended += len(batch)
        for (run, _), (settlement, answer) in zip(batch, answers, strict=True):
            self._in_flight.remove(run)
            if answer is Settled.OK:
                if type(settlement.verdict) is not v.Done:
                    self._on_end(settlement.delivery, settlement.verdict)
            else:
                self.stale += 1
                log.warning(
                    "settle.stale",
                    extra={"task": settlement.delivery.message.name, "id": settlement.delivery.id},
                )
        if len(self._waiting) < 2 * BATCH:
            self.room.set()

    async def _persist(self, batch: Sequence[Settlement]) -> list[tuple[Settlement, Settled]]:
        """Settle; what the engine refuses for itself is buried instead, so that it cannot loop."""
        return [
            (settlement, answer) if isinstance(answer, Settled) else await self._bury(settlement, answer)
            for settlement, answer in zip(batch, await self._settled(batch), strict=True)
        ]

    async def _settled(self, batch: Sequence[Settlement]) -> list[Settled | Exception]:
        """The engine's answers, however long it is away."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await halved(self._broker.settle, batch)
            except (EngineUnavailable, OutcomeUnknown) as error:
                log.warning("settle.waits", extra={"count": len(batch), **told(error)})
                await self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _bury(self, settlement: Settlement, refusal: Exception) -> tuple[Settlement, Settled]:
        log.error("settle.refused", extra={"id": settlement.delivery.id, **told(refusal)}, exc_info=refusal)
        failure = v.Failure(name_of(refusal), f"the engine refused this settlement: {text_of(refusal)}")
        buried = Settlement(settlement.delivery, v.Dead(v.Reason.RESULT, failure))
        (answer,) = await self._settled([buried])
        if isinstance(answer, Exception):
            # Not even that: its lease runs out, and the crashes that are counted then bury it.
            log.error("settle.lost", extra={"id": settlement.delivery.id, **told(answer)})
            return buried, Settled.STALE
        return buried, answer
