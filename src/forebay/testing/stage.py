"""An App on a stage: in memory, on a clock turned by hand, worked off message by message through the real runner, executor and policy.

The stage is entered around a block of a test and puts everything back after it. It knows no App, only the client and plant it is handed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from forebay.client.client import Ground
from forebay.client.loop_client import LoopClient
from forebay.client.results import Results
from forebay.codec import json
from forebay.engine import EngineOptions, Notice, Published, Retention, Stored, Timing
from forebay.errors import ResultTimeout, TaskDead
from forebay.features.schedules.clockwork import Clockwork
from forebay.features.schedules.keeping import declare
from forebay.features.steps.desk import desk_of
from forebay.model import verdict as v
from forebay.model.outcome import Steer, Suspended
from forebay.model.query import Query, Selector
from forebay.model.state import FINISHED, State
from forebay.model.waits import ForEvent
from forebay.model.when import LONGEST, SECOND, Duration, Micros, as_datetime, micros
from forebay.runtime.dead_hooks import DeadHooks
from forebay.runtime.executor import Executor
from forebay.runtime.in_flight import InFlight, Why
from forebay.runtime.runner import Gears, Lane, Limits, Runner
from forebay.runtime.settler import Settler
from forebay.runtime.threads import Threads
from forebay.runtime.worker import Plant, handlers_of, lives_of
from forebay.stores.memory import MemoryEngine
from forebay.stores.memory.claim import front, next_due
from forebay.stores.memory.queries import record
from forebay.support.clock import SystemClock
from forebay.testing.clock import VirtualClock
from forebay.testing.lending import lend, restore
from forebay.testing.sent import Known, Noting, Sends, shown_time, tally

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from datetime import datetime

    from forebay.client.backpressure import Backpressure
    from forebay.client.client import Client
    from forebay.client.results import Ends
    from forebay.context import Context
    from forebay.engine import Delivery, Engine, Store
    from forebay.middleware import Call
    from forebay.model.message import EntryId, Message
    from forebay.model.query import TaskRecord
    from forebay.model.when import Instant
    from forebay.runtime.in_flight import Run
    from forebay.stores.memory.entry import Entry
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

__all__ = ["Known", "Mode", "Stage", "Step", "SyncStage", "Testing"]

R = TypeVar("R")

MOST_TICKS: Final = 1_000
"""Times at which schedules tick while the clock is turned once."""
MOST_STEPS: Final = 1_000
"""Messages that are worked off in one call, unless more are allowed."""
DEEPEST: Final = 50
"""Sends inside handlers inside sends, in eager mode."""
RESULT_PATIENCE: Final = 5.0
"""Seconds of real time that a result is waited for: on a stage nothing is worked off by itself."""
CLEANUP: Final = 1.0
"""Seconds of real time that a handler has to end after it was cut off."""
_DEPTH: ContextVar[int] = ContextVar("forebay_eager_depth", default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a stage works. ``eager``: each send runs its task before it returns; ``propagate``: and raises what the handler raised.
    ``patience``: of real time, for one handler.
    """

    eager: bool
    propagate: bool
    patience: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One try of one message, and what became of it. ``exception``: the one the handler raised; ``error``: what is kept of it.

    ``due``: when the next try is, if there is one. ``record``: all that the store knows of the message.
    """

    id: EntryId
    name: str
    queue: str
    attempt: int
    state: State
    verdict: v.Verdict
    result: Any
    error: v.Failure | None
    exception: BaseException | None
    due: datetime | None
    record: TaskRecord

    def __str__(self) -> str:
        """One line."""
        why = f", {self.error.type}: {self.error.message}" if self.error else ""
        return f"{self.name} {self.id}, try {self.attempt}: {self.state}{why}"


class StageLink(LoopClient):
    """A link whose sends the stage hears of."""

    def __init__(self, stage: Stage, engine: Engine, name: str, clock: Clock) -> None:
        super().__init__(engine, name, clock)
        self._stage = stage

    async def publish(self, message: Message) -> Published:
        """Publish; in eager mode, see it through."""
        self._stage.check_depth()
        answer = await super().publish(message)
        await self._stage.heard([message], [answer])
        return answer

    async def publish_many(
        self, messages: Iterable[Message], room: Backpressure | None = None, *, whole: bool = False
    ) -> list[Published]:
        """Publish; in eager mode, see them through."""
        self._stage.check_depth()
        listed = list(messages)
        answers = await super().publish_many(listed, room, whole=whole)
        await self._stage.heard(listed, answers)
        return answers

    def _waits(self, ends: Ends[R]) -> Results[R]:
        # The safety net of those who wait hangs on real time: the clock would stop at every knot of it.
        return ImpatientResults(self.store, SystemClock(), ends)


class ImpatientResults(Results[R]):
    """Results that are not waited for for ever: nobody may ever say `Stage.run_all`."""

    async def wait(self, key: str) -> R:
        """The record once it has ended."""
        try:
            async with asyncio.timeout(RESULT_PATIENCE):
                return await super().wait(key)
        except TimeoutError:
            raise ResultTimeout(
                f"{key} has not ended, and nobody is working it off: in a test say run_all() or run_until_idle() before "
                "you ask for its result, or use app.testing(eager=True).",
                task_id=key,
            ) from None


class Hand:
    """Works off one message at a time, the one that has been due longest."""

    def __init__(self, plant: Plant, engine: MemoryEngine, store: Store, patience: Micros) -> None:
        self._engine, self._store, self._clock = engine, store, plant.clock
        self._patience = patience / SECOND
        self.running = InFlight(plant.clock)
        self._dead = DeadHooks(plant.on_dead, plant.timing.crashes)
        self._settler = Settler(store, self.running, plant.clock, self._dead.hear)
        self._threads = Threads(MOST_STEPS)
        self._spawned: list[Coroutine[object, object, None]] = []
        self._verdicts: dict[Token, v.Verdict] = {}
        self._raised: dict[Token, BaseException] = {}
        self.under_way: dict[EntryId, asyncio.Future[None]] = {}
        watched = replace(plant, middleware=(self._watch, *plant.middleware))
        self._lanes = {
            route.source.queue: Lane(
                route,
                lives_of(watched, route, self._threads),
                batched=any(handler.gathers for handler in handlers_of(route)),
                alone=True,
            )
            for route in plant.routes
        }
        gears = Gears(
            broker=store,
            executor=Executor(
                plant.composer, self.running, desk_of(store, plant.clock, self._threads.run, in_place=0)
            ),
            settler=self._settler,
            in_flight=self.running,
            clock=plant.clock,
            spawn=self._spawn,
            roll=lambda: 1.0,  # no jitter: a retry waits for its whole ceiling, always
            on_verdict=[self._judged],
        )
        self._runner = Runner(gears, list(self._lanes.values()), Limits(concurrency=1 << 30))

    async def work(self) -> tuple[Delivery, v.Verdict, BaseException | None] | None:
        """One try of one message: what was delivered, the verdict, what was raised. None if nothing is due.

        Cancelled, it hands the message back.
        """
        lane = self._next()
        if lane is None or not await self._runner.receive([lane], 1, 0):
            return None
        run, work = self.running.snapshot()[-1], self._spawned.pop()
        delivery = run.delivery
        self.under_way[delivery.id] = asyncio.get_running_loop().create_future()
        try:
            await self._see_through(run, work)
        finally:
            self.under_way.pop(delivery.id).set_result(None)
        verdict = self._verdicts.pop(delivery.token)
        return delivery, verdict, self._raised.pop(delivery.token, None)

    async def beat(self) -> None:
        """What a worker's heart does: hear who is to be cancelled."""
        runs = self.running.snapshot()
        for run, notice in zip(runs, await self._store.extend([run.delivery for run in runs]), strict=True):
            if notice is Notice.CANCEL:
                run.stop(Why.CANCEL)

    def next_limit(self) -> Instant | None:
        """When the first time limit of those at work is reached."""
        ends = [run.ends for run in self.running.snapshot() if run.ends is not None and not run.overdue]
        return self._clock.now() + min(ends) - self._clock.monotonic() if ends else None

    def next_due(self) -> Instant | None:
        """When the next message that waits for its time is due."""
        with self._engine.lock:
            dues = [next_due(self._engine.ledger, queue, self._clock.now()) for queue in self._open()]
        return min((due for due in dues if due is not None), default=None)

    def is_due(self) -> bool:
        """Whether there is anything to do now."""
        return self._next() is not None

    def close(self) -> None:
        """Let go of timers and threads."""
        self.running.close()
        self._threads.close()
        self._dead.close()

    def _open(self) -> list[str]:
        return [queue for queue in self._lanes if queue not in self._engine.ledger.paused]

    def _next(self) -> Lane | None:
        now, ledger = self._clock.now(), self._engine.ledger
        with self._engine.lock:
            fronts: list[tuple[Instant, int, str]] = [
                (entry.ready_since or 0, entry.seq, queue)
                for queue in self._lanes
                if (entry := front(ledger, queue, now)) is not None
            ]
        return self._lanes[min(fronts)[2]] if fronts else None

    async def _see_through(self, run: Run, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)  # awaited here
        try:
            _, late = await asyncio.wait([task], timeout=self._patience)
            if late:
                message = run.delivery.message
                raise AssertionError(
                    f"{message.name} {run.delivery.id} has been at work for {self._patience:g} s of real time and was cut off. Its own "
                    "timeout runs on the stage's clock: turn it with advance() while it works, or give app.testing(patience=...)."
                )
        finally:
            if not task.done():
                run.stop(Why.STOP)
                await asyncio.wait([task], timeout=CLEANUP)
            if len(self._settler):
                await self._settler.flush()
                await self._dead.tell()
        await task

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        self._spawned.append(work)

    def _judged(self, delivery: Delivery, verdict: v.Verdict) -> None:
        self._verdicts[delivery.token] = verdict

    async def _watch(self, call: Call, ctx: Context) -> object:
        """The outermost middleware: keeps the exception itself, of which only a description is stored."""
        try:
            return await call(ctx)
        except (Steer, Suspended, asyncio.CancelledError):
            raise
        except BaseException as error:
            self._raised[ctx.delivery.token] = error
            raise


class Stage(Sends):
    """What ``async with app.testing() as t:`` gives. Nothing runs by itself: `run_one`, `run_all`, `run_until_idle` work off what was sent.

    >>> async with app.testing() as t:                            # doctest: +SKIP
    ...     handle = await send_receipt.send(7, "ada@example.org")
    ...     step = await t.run_one()
    ...     assert step.state == "retrying"                       # the mail server was away
    ...     await t.advance("1s")
    ...     await t.run_all()
    ...     assert await handle.result() == "sent"

    May be used from other loops and threads too; handlers always run on the loop the stage was entered on.
    """

    def __init__(self, known: Known, mode: Mode, timing: Timing) -> None:
        # No lease is ever lost here, and nothing is forgotten: a test turns the clock by days.
        kept = Retention(succeeded=None, cancelled=None, dead=None)
        options = EngineOptions(timing=Timing(lease=LONGEST, crashes=timing.crashes), retention=kept)
        ledger = Noting(options)
        super().__init__(ledger, known)
        self.engine = MemoryEngine(options)
        self.engine.ledger = ledger
        self.clock = VirtualClock()
        self.steps: list[Step] = []
        """Every try so far, in the order in which they ended."""
        self.host: asyncio.Task[None] | None = None
        """What keeps the lifespan open for a test without a loop. Held here, as the stage is by the client: a loop holds tasks weakly."""
        self._mode = mode
        self._owned: set[EntryId] = set()
        self._hand: Hand | None = None
        self._store: Store | None = None
        self._ticks: Clockwork | None = None
        self._home: asyncio.AbstractEventLoop | None = None

    @property
    def now(self) -> datetime:
        """The time on the stage's clock."""
        return as_datetime(self.clock.now())

    async def run_one(self) -> Step:
        """Work off the message that has been due longest, and say what became of it. Raises AssertionError if nothing is due.

        Cancelled, it cuts off the handler and hands the message back.
        """
        __tracebackhide__ = True
        step = await self._at_home(self._work())
        if step is None:
            raise AssertionError(f"Nothing is due. {self._waiting()}")
        return step

    async def run_all(self, at_most: int = MOST_STEPS) -> list[Step]:
        """Work off what is due, and what it sends, until nothing is; retries and delays wait for `advance`.

        Raises AssertionError when ``at_most`` messages were worked off and more are due. Cancelled, as `run_one`.
        """
        __tracebackhide__ = True
        return await self._at_home(self._run(at_most, jump=False))

    async def run_until_idle(self, at_most: int = MOST_STEPS) -> list[Step]:
        """Work off everything, and turn the clock to what is due next (a retry, a delay) until nothing waits any more. As `run_all`."""
        __tracebackhide__ = True
        return await self._at_home(self._run(at_most, jump=True))

    async def advance(self, duration: Duration) -> None:
        """Turn the clock. What becomes due runs with the next `run_one` or `run_all`; what expires is over; a handler that is at work
        in another task runs into its timeout. Schedules tick on the way, each at its time; after a thousand times they make up for the
        rest at the end, as they do for a worker that was away.
        """
        await self._at_home(self._turn(self.clock.now() + micros(duration, "advance()")))

    def check_depth(self) -> None:
        """Refuse a send inside too many others, before it is stored."""
        if self._mode.eager and _DEPTH.get() >= DEEPEST:
            raise AssertionError(f"{DEEPEST} sends inside one another: does a task send itself for ever?")

    async def heard(self, messages: Sequence[Message], answers: Sequence[Published]) -> None:
        """Something was sent, from any loop. In eager mode, see it through."""
        if self._mode.eager:
            ledger = self._ledger
            stored = [m for m, a in zip(messages, answers, strict=True) if a.status is Stored.STORED]
            await self._at_home(
                self._see_through([key for message in stored for key in ledger.keys(message)])
            )

    async def begin(self, plant: Plant, store: Store) -> None:
        """Ready to work, on this loop."""
        self._home, self._store = asyncio.get_running_loop(), store
        self._hand = Hand(plant, self.engine, store, self._mode.patience)
        self._ticks = Clockwork(store, self.clock)
        await declare(store, plant.schedules, self.clock.now())

    def end(self) -> None:
        """Work no more."""
        if self._hand is not None:
            self._hand.close()
        self._hand = None

    async def _at_home(self, work: Coroutine[Any, Any, R]) -> R:
        """Run on the loop that the stage was entered on."""
        home = self._home
        if self._hand is None or home is None:
            work.close()
            raise AssertionError("The block of app.testing() has been left: nothing can be run on its stage.")
        if home is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))

    async def _run(self, at_most: int, *, jump: bool) -> list[Step]:
        __tracebackhide__ = True
        steps: list[Step] = []
        while self._ready(jump=jump):
            if len(steps) == at_most:
                raise AssertionError(
                    f"{at_most} messages were worked off and more are due: does a task send itself, or put itself off, for ever? "
                    f"They were {tally(step.name for step in steps)}. If that many are expected, raise at_most=."
                )
            due = self.hand.next_due()
            if not self.hand.is_due() and due is not None:
                await self._turn(due)
            elif (step := await self._work()) is not None:
                steps.append(step)
        return steps

    def _ready(self, *, jump: bool) -> bool:
        return self.hand.is_due() or (jump and self.hand.next_due() is not None)

    @property
    def hand(self) -> Hand:
        """What works. Only inside the block."""
        if self._hand is None:
            raise AssertionError("The block of app.testing() has been left.")
        return self._hand

    async def _work(self) -> Step | None:
        worked = await self.hand.work()
        if worked is None:
            return None
        if self._ticks is not None and self._ticks.holds:
            await self._tick(0)
        delivery, verdict, exception = worked
        record = await self._record(delivery.id)
        step = Step(
            id=delivery.id,
            name=delivery.message.name,
            queue=delivery.source.queue,
            attempt=delivery.attempts + 1,
            state=record.state,
            verdict=verdict,
            result=self._result(record),
            error=v.failure_of(verdict),
            exception=exception,
            due=None if record.due is None or record.state in FINISHED else as_datetime(record.due),
            record=record,
        )
        self.steps.append(step)
        return step

    async def _record(self, key: EntryId) -> TaskRecord:
        if self._store is None:
            raise AssertionError(key)
        page = await self._store.find(Query(which=Selector(ids=(key,))))
        return page.records[0]

    def _result(self, record: TaskRecord) -> Any:
        """What the handler returned, read as the sender would."""
        if record.result is None:
            return None
        signature = self._known.signatures.get(record.message.name)
        try:
            return json.decode(record.result, Any if signature is None else signature.returns)
        except (msgspec.MsgspecError, TypeError, ValueError):
            return json.decode(record.result, Any)

    async def _turn(self, until: Instant) -> None:
        await self.clock.advance(0)  # handlers that are just starting have begun after this
        ticks = await self._tick(0)
        while moments := self._moments(until, ticks):
            await self.clock.advance_to(max(min(moments), self.clock.now()))
            self.hand.running.ring()
            ticks = await self._tick(ticks)
        await self.clock.advance_to(until)
        await self._tick(ticks)
        await self.hand.beat()
        if self._store is not None:
            while (await self._store.sweep(MOST_STEPS)).more:
                pass
        await self.clock.advance(0)

    def _moments(self, until: Instant, ticks: int) -> list[Instant]:
        """At which the clock stops on its way: time limits, and ticks of schedules until there were too many."""
        tick = self._ticks.next() if self._ticks is not None and ticks < MOST_TICKS else None
        return [at for at in (self.hand.next_limit(), tick) if at is not None and at <= until]

    async def _tick(self, ticks: int) -> int:
        """Fire what is due; so often something was, now."""
        if self._ticks is None:
            return ticks
        self._ticks.released(None)
        return ticks + bool(await self._ticks.turn())

    async def _see_through(self, keys: Sequence[EntryId]) -> None:
        """Eager: try what was just sent, and what follows from it, before the send returns."""
        token = _DEPTH.set(_DEPTH.get() + 1)
        try:
            steps = await self._tries_of(keys)
        finally:
            _DEPTH.reset(token)
        if self._mode.propagate:
            for step in steps:
                _raise_from(step)

    async def _tries_of(self, keys: Sequence[EntryId]) -> list[Step]:
        """The tries of some messages and of all that is due because of them. Another sender may be working off one of ours."""
        steps: list[Step] = []
        self._owned.update(keys)
        for _ in range(MOST_STEPS):
            step = await self._work()
            if step is None:
                break
            steps.append(step)
        else:
            raise AssertionError(
                f"{MOST_STEPS} messages were worked off in one send: {tally(step.name for step in steps)}."
            )
        for key in keys:
            if (other := self.hand.under_way.get(key)) is not None:
                await asyncio.shield(other)
        self._owned.difference_update(keys)
        return [
            *(step for step in self.steps if step.id in keys),
            *(step for step in steps if step.id not in keys and step.id not in self._owned),
        ]

    def _waiting(self) -> str:
        """What there is, if nothing is due."""
        entries = [entry for entry in self._ledger.entries.values() if entry.state not in FINISHED]
        if not entries:
            return "Nothing is waiting either: " + (
                "all that was sent has ended." if self._ledger.came else "nothing was sent."
            )
        return "Waiting: " + "; ".join(self._why(entry) for entry in entries[:5]) + _and(len(entries) - 5)

    def _why(self, entry: Entry) -> str:
        name = f"{entry.message.name} {entry.id}"
        if entry.state is State.RUNNING:
            return f"{name} is at work"
        if (parents := self._ledger.flows.waits(entry.id)) is not None:
            named = ", ".join(parents.first) + (", ..." if parents.open > len(parents.first) else "")
            return (
                f"{name}, which waits for {parents.open} step{'s' * (parents.open != 1)} before it: {named}"
            )
        if isinstance(waits := record(self._ledger, entry, self.clock.now()).waits, ForEvent):
            key = "" if waits.key is None else f", key={waits.key!r}"
            return (
                f"{name}, which waits for an event: say app.publish({waits.topic!r}, ...{key}), or advance()"
            )
        if entry.due is not None and entry.due > self.clock.now():
            return f"{name}, due in {shown_time(entry.due - self.clock.now())}: say advance()"
        if entry.queue in self._ledger.paused:
            return f"{name}, in queue {entry.queue}, which is paused"
        return f"{name}, in queue {entry.queue}, for which this App has no handler"


class SyncStage(Sends):
    """What ``with app.testing() as t:`` gives: a `Stage` for tests without a loop, with the same words."""

    def __init__(self, stage: Stage, client: Client, known: Known) -> None:
        super().__init__(stage.engine.ledger, known)  # type: ignore[arg-type]  # the stage's own
        self._stage, self._client = stage, client

    @property
    def now(self) -> datetime:
        """The time on the stage's clock."""
        return self._stage.now

    @property
    def steps(self) -> list[Step]:
        """Every try so far, in the order in which they ended."""
        return self._stage.steps

    def run_one(self) -> Step:
        """As `Stage.run_one`."""
        __tracebackhide__ = True
        return self._client.sync(self._stage.run_one())

    def run_all(self, at_most: int = MOST_STEPS) -> list[Step]:
        """As `Stage.run_all`."""
        __tracebackhide__ = True
        return self._client.sync(self._stage.run_all(at_most))

    def run_until_idle(self, at_most: int = MOST_STEPS) -> list[Step]:
        """As `Stage.run_until_idle`."""
        __tracebackhide__ = True
        return self._client.sync(self._stage.run_until_idle(at_most))

    def advance(self, duration: Duration) -> None:
        """As `Stage.advance`."""
        __tracebackhide__ = True
        self._client.sync(self._stage.advance(duration))


class Testing:
    """What `App.testing` returns: enter it with ``async with`` or, without a loop, with ``with``. May be entered again once it was left."""

    __test__ = False
    """For pytest, which would take the name for a class of tests."""

    def __init__(self, client: Client, plant: Callable[[], Plant], known: Known, mode: Mode) -> None:
        self._client, self._plant, self._known, self._mode = client, plant, known, mode
        self._play: AsyncExitStack | None = None
        self._host: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    async def __aenter__(self) -> Stage:
        """Put the App on the stage and enter its lifespan. Raises `InUse`."""
        stage = self._lend()
        try:
            self._play = await self._rise(stage)
        except BaseException:
            await self._give_back()
            raise
        return stage

    async def __aexit__(self, *_: object) -> None:
        """Leave the lifespan and put the App back where it was, whatever happened. The lifespan is not told of what the block raised:
        a worker does not tell its lifespan what handlers raise, and a task group in it would wrap every failed assertion.
        """
        play, self._play = self._play, None
        try:
            if play is not None:
                await play.aclose()
        finally:
            await self._give_back()

    def __enter__(self) -> SyncStage:
        """As ``async with``, on the loop of the App's ``..._sync`` calls. Raises `InUse`."""
        stage = self._lend()
        try:
            self._client.sync(self._raise_curtain(stage))
        except BaseException:
            restore(self._client)
            raise
        return SyncStage(stage, self._client, self._known)

    def __exit__(self, *_: object) -> None:
        """Leave the lifespan and put the App back where it was, whatever happened."""
        try:
            self._client.sync(self._drop_curtain())
        finally:
            restore(self._client)

    def _lend(self) -> Stage:
        client, plant = self._client, self._plant()
        stage = Stage(self._known, self._mode, plant.timing)
        composer = replace(plant.composer, outbox=None)  # events go straight to their groups
        link = partial(StageLink, stage)
        ground = Ground(
            engine=stage.engine, bus=None, clock=stage.clock, composer=composer, link=link, borrowed=True
        )
        lend(client, ground)
        return stage

    async def _give_back(self) -> None:
        if self._client.calls:
            await asyncio.to_thread(restore, self._client)  # it joins a thread
        else:
            restore(self._client)

    async def _rise(self, stage: Stage) -> AsyncExitStack:
        """Open the link and enter the lifespan; what is returned undoes it. No generator: a loop that ends would close it out of turn."""
        plant, stack = self._plant(), AsyncExitStack()
        try:
            link = await self._client.open()
            stack.push_async_callback(self._client.close)
            stack.callback(stage.end)
            await stage.begin(plant, link.store)
            await stack.enter_async_context(plant.lifespan())
        except BaseException:
            await stack.aclose()
            raise
        return stack

    async def _raise_curtain(self, stage: Stage) -> None:
        """A lifespan is left by the task that entered it: one that stays until the end."""
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._host = stage.host = asyncio.get_running_loop().create_task(self._perform(stage, up))
        await asyncio.wait([up, self._host], return_when=asyncio.FIRST_COMPLETED)
        if self._host.done():
            await self._host

    async def _perform(self, stage: Stage, up: asyncio.Future[None]) -> None:
        async with await self._rise(stage):
            up.set_result(None)
            await self._leave.wait()

    async def _drop_curtain(self) -> None:
        host, self._host = self._host, None
        self._leave.set()
        if host is not None:
            await host


def _raise_from(step: Step) -> None:
    """Raise what a try came to, if that is an error."""
    if step.exception is not None:
        raise step.exception
    if isinstance(step.verdict, v.Dead) and step.verdict.reason is not v.Reason.ASKED:
        raise TaskDead(str(step), task_id=step.id)


def _and(more: int) -> str:
    return f" and {more} more" if more > 0 else ""
