"""Takes as much work as there are free slots, lane by lane, and sees each delivery through to its verdict."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast

from forebay.engine import Ask, Delivery, Settlement
from forebay.errors import EngineUnavailable, OutcomeUnknown, told
from forebay.features.flows.gathering import gathered
from forebay.model import verdict as v
from forebay.model.flow import Gather
from forebay.model.outcome import Interrupted, Returned
from forebay.model.policy import Facts, RetryPolicy, decide
from forebay.model.when import SECOND, Micros
from forebay.runtime.executor import mistaken
from forebay.runtime.in_flight import Why
from forebay.support.ids import Token, new_token
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from forebay.declaring.handler import Handler, Route
    from forebay.engine import Broker, Store
    from forebay.model.message import Message
    from forebay.model.outcome import Outcome
    from forebay.processes.pool import Pool
    from forebay.runtime.executor import Executor, Live
    from forebay.runtime.in_flight import InFlight, Run
    from forebay.runtime.settler import Settler
    from forebay.support.clock import Clock

log = Log("forebay.runner")

WAIT: Final = 5 * SECOND
"""How long one `receive` waits for work before it is asked again."""
BATCH: Final = 500
"""Deliveries asked for at a time, however many slots are free."""
MOST_NAMELESS: Final = 1_000
"""Unknown names that are remembered, so that each is warned of once."""
COMPANY: Final = 2
"""Failed tries after which a message is not put into a batch any more, but tried alone."""
_NAMELESS: Final = RetryPolicy()
_NOTHING: Final[tuple[Message, ...]] = ()


class Spawn(Protocol):
    """Starts a task that somebody owns."""

    def __call__(self, work: Coroutine[object, object, None]) -> object:
        """Start ``work``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a runner takes on. ``grace``: how long a message with an unknown name is put off before it is dead, in microseconds.
    ``look``: how often it is looked whether others put off what is known here.
    """

    concurrency: int = 100
    strict: bool = False
    grace: Micros = 300 * SECOND
    look: Micros = 5 * SECOND


class Batch:
    """Messages that wait for company: full, or for as long as the first of them may wait.

    What has gathered in the store waits no more here: those of one ``place``, a handler and a key, that came together are together.
    """

    __slots__ = ("_clock", "_since", "full", "handler", "place", "runs")

    def __init__(self, handler: Handler, place: tuple[str, str | None], clock: Clock) -> None:
        self.handler, self.place, self._clock = handler, place, clock
        self.runs: list[Run] = []
        self._since: list[Micros] = []
        self.full = asyncio.Event()

    def add(self, run: Run) -> None:
        """One more."""
        self.runs.append(run)
        self._since.append(self._clock.monotonic())

    @property
    def slots(self) -> int:
        """How many slots it takes: one for each message, but what has gathered in the store is handed out as one."""
        return 1 if self.handler.gathers else len(self.runs)

    async def gathered(self) -> None:
        """Return when it is time to begin."""
        await self._clock.wait(self.full, self.handler.within)
        now = self._clock.monotonic()
        for run, since in zip(self.runs, self._since, strict=True):
            run.waited = now - since


@dataclass(slots=True)
class Lane:
    """A route, and how many of its deliveries are at work here. ``token``: of a `receive` that is under way, or was broken off.
    ``look_at``: when (monotonic) it is next looked whether others put off what is known here; ``tell_at``: when, being full, it next says
    what that is.

    ``pooled``: some of its handlers have a process to themselves; ``batched``: some take batches, and ``batches`` are gathering.
    ``alone``: not here, but for what has gathered in the store.
    """

    route: Route
    lives: dict[str, Live]
    busy: int = 0
    token: Token | None = None
    pooled: bool = False
    batched: bool = False
    alone: bool = False
    batches: dict[tuple[str, str | None], Batch] = field(default_factory=dict)
    look_at: Micros = 0
    tell_at: Micros = 0

    def names(self, now: Micros) -> tuple[str, ...]:
        """What it says that it knows, if it is time to."""
        return tuple(self.route.handlers) if now >= self.look_at else ()

    def room(self, free: int) -> int:
        """How many more this lane may take when ``free`` slots are free."""
        bound = self.route.concurrency
        return free if bound is None else min(free, bound - self.busy)


@dataclass(slots=True)
class Gears:
    """What a runner works with. ``pool``: where handlers run that ask for a process; ``suspects``: where messages with a crash on record
    do, if there is such a place.
    """

    broker: Broker
    executor: Executor
    settler: Settler
    in_flight: InFlight
    clock: Clock
    spawn: Spawn
    roll: Callable[[], float]
    on_verdict: list[Callable[[Delivery, v.Verdict], None]] = field(default_factory=list)
    pool: Pool | None = None
    suspects: Pool | None = None


def _begin_gathered(lane: Lane) -> None:
    """What has gathered in the store has come whole, with one receive."""
    for batch in [batch for batch in lane.batches.values() if batch.handler.gathers]:
        del lane.batches[batch.place]
        batch.full.set()


class Runner:
    """One broker's worth of work. `run` takes on deliveries until it is cancelled; what it took on goes on without it."""

    def __init__(self, gears: Gears, lanes: Sequence[Lane], limits: Limits) -> None:
        self._gears, self._lanes, self._limits = gears, list(lanes), limits
        self._busy = self._suspects = 0
        self._freed = asyncio.Event()
        self._waits: asyncio.Timeout | None = None
        """Of a `receive` that waits for the open lanes while others are full."""
        self.missing: Micros | None = None
        """Since when (monotonic) the engine could not be reached; None if it could."""
        self._nameless: set[str] = set()

    async def run(self) -> None:
        """Take work until cancelled. A delivery is either at work or was never taken: no moment lies between."""
        pause = SECOND // 20
        while True:
            try:
                await self._gears.settler.room.wait()
                await self._slot()
                await self._take()
                pause, self.missing = SECOND // 20, None
            except (EngineUnavailable, OutcomeUnknown) as error:
                self.missing = self.missing or self._gears.clock.monotonic()
                log.warning("receive.waits", extra={**told(error), "seconds": pause / SECOND})
                await self._gears.clock.sleep(pause)
                pause = min(2 * pause, 2 * SECOND)

    async def hand_back(self) -> None:
        """After `run` was cancelled: hand back what gathers still, and what the `receive` that was under way may have taken."""
        gears = self._gears
        for batch in [batch for lane in self._lanes for batch in lane.batches.values()]:
            for run in batch.runs:
                run.stop(Why.STOP)
            batch.full.set()
        left = [Ask(lane.route.source, lane.token, 0) for lane in self._lanes if lane.token is not None]
        if not left:
            return
        try:
            got = await gears.broker.receive(left, wait=0)
        except (EngineUnavailable, OutcomeUnknown) as error:
            log.warning("receive.left", extra={"queues": [ask.source.queue for ask in left], **told(error)})
            return
        for delivery in got:
            gears.settler.submit(gears.in_flight.add(delivery), Settlement(delivery, v.Release()))
        gears.in_flight.under_way.difference_update(ask.token for ask in left)

    async def _slot(self) -> None:
        """Wait for a free slot in some lane."""
        while not self._open():
            self._freed.clear()
            await self._tell_names()
            await self._gears.clock.wait(self._freed, self._limits.look)

    async def _tell_names(self) -> None:
        """For lanes that are full, say what is known here: what was put off for them is not to be given up meanwhile."""
        now = self._gears.clock.monotonic()
        full = [lane for lane in self._lanes if now >= lane.tell_at and lane.room(self._free) <= 0]
        if told := [lane for lane in full if lane.token is None and lane.names(now)]:
            await self.receive(told, 0, 0)
        for lane in told:
            lane.tell_at = now + self._limits.look

    def _open(self) -> list[Lane]:
        return [lane for lane in self._lanes if lane.room(self._free) > 0]

    @property
    def _free(self) -> int:
        return self._limits.concurrency - self._busy

    async def _take(self) -> None:
        """Fill the free slots; if there is nothing to take, wait for it, or until a full lane has room again."""
        self._freed.clear()
        lanes = self._order(self._open())
        if len(lanes) == len(self._lanes):
            await self.receive(lanes, self._free, WAIT)
            return
        await self._tell_names()
        if await self.receive(lanes, self._free, 0) or self._freed.is_set():
            return
        try:
            async with asyncio.timeout(None) as self._waits:
                await self.receive(lanes, self._free, WAIT)
        except TimeoutError:
            return  # a full lane has room: what was asked for is asked again, under the same tokens
        finally:
            self._waits = None

    async def receive(self, lanes: Sequence[Lane], most: int, wait: Micros) -> int:
        """Take up to ``most`` for ``lanes``, in their order. A call that broke off is repeated under its tokens: what it may have taken is
        not left to its lease.
        """
        in_flight, most = self._gears.in_flight, min(most, BATCH)
        asked: dict[Token, Lane] = {}
        for lane in lanes:
            lane.token = lane.token or new_token()
            asked[lane.token] = lane
        in_flight.under_way.update(asked)
        now = self._gears.clock.monotonic()
        asks = [
            Ask(lane.route.source, token, lane.room(most), lane.names(now)) for token, lane in asked.items()
        ]
        # Who waits without names would not be handed what is put off meanwhile.
        wait = min([wait, *(lane.look_at - now for lane in lanes if lane.look_at > now)])
        got = await self._gears.broker.receive(asks, wait=wait, most=most)
        for lane in lanes:
            lane.token = None
        if looked := [asked[ask.token] for ask in asks if ask.names and ask.limit > 0]:
            self._looked(looked, asked, got)
        for delivery in got:
            self._start(asked[delivery.token], delivery)
        for lane in lanes:
            if lane.batches:
                _begin_gathered(lane)
        in_flight.under_way.difference_update(asked)
        return len(got)

    def _looked(self, lanes: Sequence[Lane], asked: Mapping[Token, Lane], got: Sequence[Delivery]) -> None:
        """Where something was put off there may be more of it: it is looked again at once. Elsewhere it is not for a while."""
        more = {id(asked[delivery.token]) for delivery in got if delivery.unknown_since is not None}
        now = self._gears.clock.monotonic()
        for lane in lanes:
            if id(lane) not in more:
                lane.look_at = now + self._limits.look

    def _order(self, lanes: list[Lane]) -> list[Lane]:
        """Strict: as listed. Weighted: a random order in which a lane comes first in proportion to its weight (Efraimidis and Spirakis,
        "Weighted random sampling with a reservoir", 2006), so that no lane starves.
        """
        if len(lanes) == 1 or self._limits.strict:
            return lanes
        return sorted(lanes, key=lambda lane: -(self._gears.roll() ** (1 / lane.route.weight)))

    def _let_go(self, lane: Lane, slots: int = 1) -> None:
        """Slots are free again. A receive that waits is cut short: it is asked again, with the slots that are free now."""
        self._busy -= slots
        lane.busy -= slots
        self._freed.set()
        if (waits := self._waits) is not None:
            self._waits = None
            waits.reschedule(0)

    def _start(self, lane: Lane, delivery: Delivery) -> None:
        pool = self._pool_for(lane, delivery) if delivery.crashes or lane.pooled else None
        if pool is not None and pool is self._gears.suspects:
            if self._suspects >= pool.limit:
                self._put_off(lane, delivery, pool)
                return
            self._suspects += 1
        run = self._gears.in_flight.add(delivery)
        if lane.batched and pool is None and (handler := self._batching(lane, delivery)) is not None:
            self._gather(lane, run, handler)
            return
        self._busy += 1
        lane.busy += 1
        self._gears.spawn(self._see_through(lane, run, pool))

    def _take_slots(self, lane: Lane, slots: int) -> None:
        self._busy += slots
        lane.busy += slots

    def _batching(self, lane: Lane, delivery: Delivery) -> Handler | None:
        """The handler that takes this delivery in a batch. What failed twice is tried alone: it may be what the batches failed of."""
        handler = lane.route.handler_of(delivery.message)
        if handler is None or not handler.batch or delivery.attempts >= COMPANY:
            return None
        return handler if handler.gathers or not lane.alone else None

    def _gather(self, lane: Lane, run: Run, handler: Handler) -> None:
        place = (handler.name, run.delivery.message.key if handler.gathers else None)
        batch = lane.batches.get(place)
        if batch is None:
            batch = lane.batches[place] = Batch(handler, place, self._gears.clock)
            self._gears.spawn(self._see_batch_through(lane, batch))
        before = batch.slots if batch.runs else 0
        batch.add(run)
        self._take_slots(lane, batch.slots - before)
        most = self._limits.concurrency
        room = handler.batch if handler.gathers else min(handler.batch, lane.route.concurrency or most, most)
        if len(batch.runs) >= room:
            del lane.batches[place]
            batch.full.set()

    async def _see_batch_through(self, lane: Lane, batch: Batch) -> None:
        """From the first of a batch to the verdicts on all."""
        gears, handler, runs = self._gears, batch.handler, batch.runs
        await batch.gathered()
        if lane.batches.get(batch.place) is batch:
            del lane.batches[batch.place]
        began = gears.clock.monotonic()
        try:
            answers = await self._execute_batch(runs, lane.lives[handler.name])
        except asyncio.CancelledError:
            answers = [(Interrupted(), ())] * len(runs)
        except BaseException as error:  # as in `_see_through`
            log.exception("try.broken", extra={"task": handler.name, "count": len(runs)})
            answers = [(mistaken(error), ())] * len(runs)
        self._let_go(lane, batch.slots)
        took = gears.clock.monotonic() - began
        # What has gathered is tried again together.
        roll = gears.roll() if handler.gathers else None
        for run, (outcome, then) in zip(runs, answers, strict=True):
            self._end(run, handler, outcome, then, took, roll=roll)

    async def _execute_batch(
        self, runs: Sequence[Run], live: Live
    ) -> Sequence[tuple[Outcome, tuple[Message, ...]]]:
        """Call for all that can be called for; steps of flows are given the results of their parents before."""
        early: dict[Run, Outcome] = {}
        for run in runs:
            if run.delivery.message.step is not None and (
                said := await self._give_results(run, live.handler)
            ):
                early[run] = said
        rest = [run for run in runs if run not in early]
        answers = dict(zip(rest, await self._gears.executor.execute_batch(rest, live), strict=True))
        return [(early[run], ()) if run in early else answers[run] for run in runs]

    async def _give_results(self, run: Run, handler: Handler) -> Outcome | None:
        """Give a step the results of its parents, if it asks for them; what becomes of it without a call, if it cannot be."""
        delivery, clock = run.delivery, self._gears.clock
        if delivery.message.step is None or delivery.message.step.gather is Gather.NONE:
            return None
        began = clock.monotonic()
        # Steps come from stores alone.
        store, gather = cast("Store", self._gears.broker), delivery.message.step.gather
        found = await gathered(store, delivery, gather, handler.with_results, handler.decode)
        if not isinstance(found, Delivery):
            return found
        run.delivery, run.waited = found, run.waited + clock.monotonic() - began
        return None

    def _pool_for(self, lane: Lane, delivery: Delivery) -> Pool | None:
        """Where a delivery is tried, if not here."""
        gears, handler = self._gears, lane.route.handler_of(delivery.message)
        if handler is None or handler.relays:
            return None
        if delivery.crashes and gears.suspects is not None:
            return gears.suspects
        return gears.pool if handler.process else None

    def _put_off(self, lane: Lane, delivery: Delivery, suspects: Pool) -> None:
        """A message with a crash on record that finds no free pool worker comes again later. It is not kept here: should another
        bring this process down meanwhile, that would count against it.
        """
        handler = lane.route.handler_of(delivery.message)
        self._judge(self._gears.in_flight.add(delivery), handler, suspects.later(), (), 0)

    async def _see_through(self, lane: Lane, run: Run, pool: Pool | None) -> None:
        """From delivery to verdict. The slot is free when user code is over; the settlement goes its own way."""
        gears, handler = self._gears, lane.route.handler_of(run.delivery.message)
        began = gears.clock.monotonic()
        try:
            if (
                run.delivery.message.step is not None
                and handler is not None
                and (early := await self._give_results(run, handler)) is not None
            ):
                outcome, then = early, _NOTHING
            elif pool is not None and handler is not None:
                outcome, then = await pool.execute(run, handler)
            else:
                live = None if handler is None else lane.lives[handler.name]
                outcome, then = await gears.executor.execute(run, live)
        except asyncio.CancelledError:
            outcome, then = Interrupted(), ()
        except BaseException as error:  # no mistake of ours may keep a message, its slot or its lease
            log.exception("try.broken", extra={"task": run.delivery.message.name, "id": run.delivery.id})
            outcome, then = mistaken(error), ()
        self._suspects -= pool is not None and pool is gears.suspects
        self._let_go(lane)
        self._end(run, handler, outcome, then, gears.clock.monotonic() - began)

    def _end(  # what a try came to
        self,
        run: Run,
        handler: Handler | None,
        outcome: Outcome,
        then: tuple[Message, ...],
        took: Micros,
        *,
        roll: float | None = None,
    ) -> None:
        """Judge a try; one whose lease was lost is nobody's to judge any more."""
        if run.cut is Why.LOST:
            self._gears.in_flight.remove(run)
            log.warning("lease.lost", extra={"task": run.delivery.message.name, "id": run.delivery.id})
            return
        self._judge(run, handler, outcome, then, took, roll=roll)

    def _judge(  # as above
        self,
        run: Run,
        handler: Handler | None,
        outcome: Outcome,
        then: tuple[Message, ...],
        took: Micros,
        *,
        roll: float | None = None,
    ) -> None:
        delivery = run.delivery
        if type(outcome) is Returned:
            # As `decide` would say, for almost every try.
            verdict: v.Verdict = v.Done(outcome.result)
        else:
            verdict = self._decided(
                delivery, handler, outcome, took, self._gears.roll() if roll is None else roll
            )
        self._gears.settler.submit(run, Settlement(delivery, verdict, then))
        # What comes of it is settled: from here on nothing can change it.
        self._report(delivery, verdict, took)
        for listener in self._gears.on_verdict:
            try:
                listener(delivery, verdict)
            except Exception:
                log.exception("listener.failed", extra={"task": delivery.message.name, "id": delivery.id})

    def _decided(
        self, delivery: Delivery, handler: Handler | None, outcome: Outcome, took: Micros, roll: float
    ) -> v.Verdict:
        facts = Facts(
            attempts=delivery.attempts,
            now=delivery.received + took,
            max_attempts=None if handler is not None and handler.relays else delivery.message.max_attempts,
            deadline=delivery.deadline,
            unknown_since=delivery.unknown_since,
            grace=self._limits.grace,
            handed_on=self._gears.broker.traits.remembers,
        )
        return decide(outcome, facts, handler.policy if handler else _NAMELESS, roll)

    def _report(self, delivery: Delivery, verdict: v.Verdict, took: Micros) -> None:
        """The one line that is logged of a try. No bodies; formatted only if somebody listens."""
        level, event = _LEVELS[type(verdict)]
        if isinstance(verdict, v.Snooze) and verdict.unknown:
            event = "task.unknown"
            level = logging.WARNING if delivery.message.name not in self._nameless else logging.DEBUG
            if len(self._nameless) < MOST_NAMELESS:
                self._nameless.add(delivery.message.name)
        if not log.logger.isEnabledFor(level):
            return
        fields: dict[str, object] = {
            "task": delivery.message.name,
            "id": delivery.id,
            "queue": delivery.source.queue,
            "attempt": delivery.attempts + 1,
            "took_ms": round(took / 1_000, 1),
        }
        if (failure := v.failure_of(verdict)) is not None:
            fields |= {"error": f"{failure.type}: {failure.message}", "traceback": failure.traceback}
        if isinstance(verdict, v.Dead):
            fields["reason"] = verdict.reason.value
        log.log(level, event, extra=fields)


_LEVELS: Final = {
    v.Done: (logging.DEBUG, "task.done"),
    v.Retry: (logging.WARNING, "task.retry"),
    v.Snooze: (logging.DEBUG, "task.snoozed"),
    v.Release: (logging.INFO, "task.released"),
    v.Dead: (logging.ERROR, "task.dead"),
    v.Crashed: (logging.ERROR, "task.crashed"),
    v.Cancelled: (logging.INFO, "task.cancelled"),
    v.Expired: (logging.INFO, "task.expired"),
}
