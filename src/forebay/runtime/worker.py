"""Owns everything that works: runners, settlers, heartbeat, maintenance, and the order in which they stop."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import msgspec

from forebay.declaring.traits import check_all, for_engine, needs_topics
from forebay.engine import LeaseKind, Settlement, Store, Tethered
from forebay.errors import ConfigError, InvalidOption
from forebay.features.schedules.keeping import Declaration
from forebay.features.steps.desk import desk_of
from forebay.middleware import Middleware, compose
from forebay.model import verdict as v
from forebay.model.amounts import check_count
from forebay.model.survey import Presence
from forebay.model.when import SECOND, Micros, Span, span
from forebay.processes.pool import Pool, found
from forebay.runtime import bridge
from forebay.runtime.dead_hooks import DeadHook, DeadHooks
from forebay.runtime.executor import Executor, Live
from forebay.runtime.forks import forget_in_forks
from forebay.runtime.heartbeat import Heartbeat, hear_losses
from forebay.runtime.in_flight import InFlight, Why
from forebay.runtime.maintenance import keep
from forebay.runtime.runner import Gears, Lane, Limits, Runner
from forebay.runtime.settler import Settler
from forebay.runtime.threads import Threads
from forebay.runtime.ticker import Ticker
from forebay.support.logs import Log
from forebay.support.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from forebay.client.loop_client import LoopClient
    from forebay.compose import Composer
    from forebay.declaring.handler import Handler, Route
    from forebay.engine import Broker, Engine, Published, Timing
    from forebay.model.message import Message
    from forebay.model.query import TaskRecord
    from forebay.processes.protocol import Address
    from forebay.support.clock import Clock

log = Log("forebay.worker")

CUT_OFF: Final = 5 * SECOND
"""How long a cancelled handler may take to clean up before its work is handed back without it."""
AWAY: Final = 5 * SECOND
"""How long the engine may be out of reach before the worker says that it is waiting for it."""
SUSPECTS: Final = 8
"""Messages with a crash on record that are tried at the same time, each in a process of its own."""
SUSPECTS_IDLE: Final = 10 * SECOND
"""How long such a process waits for the next one."""
LAST_SETTLE: Final = 10 * SECOND
"""How long the last settlements may take at a stop; then their leases lapse and the work is done again."""

LAST_WORDS: Final = 5 * SECOND
"""How long the hooks may still be told of dead letters at a stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works. Durations are text, a `timedelta` or whole microseconds, which they are read as.

    ``queues``: weights by queue, in order of strictness; None for all declared.
    ``pool_processes``: processes for handlers that ask for one (0: as many as there are processors). ``schedules``: whether it fires
    them, and declares those of its code. Raises `InvalidOption`.

    >>> WorkerOptions(concurrency=20, stop_within="10s").stop_within
    10000000
    """

    concurrency: int = 100
    queues: Mapping[str, int] | None = None
    strict: bool = False
    stop_within: Micros = 25 * SECOND
    grace: Micros = 300 * SECOND
    pool_processes: int = 0
    schedules: bool = True

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0913  # one keyword for each concern
            self,
            *,
            concurrency: int = ...,
            queues: Mapping[str, int] | None = ...,
            strict: bool = ...,
            stop_within: Span = ...,
            grace: Span = ...,
            pool_processes: int = ...,
            schedules: bool = ...,
        ) -> None:
            """As written; durations are kept as microseconds."""

    def __post_init__(self) -> None:
        check_count(self.concurrency, "concurrency", 1)
        for queue, weight in (self.queues or {}).items():
            check_count(weight, f"the weight of queue {queue!r}", 1)
        for name in ("stop_within", "grace"):
            object.__setattr__(self, name, span(getattr(self, name), name))
        check_count(self.pool_processes, "pool_processes", 0)
        if self.queues is not None and not self.queues:
            raise InvalidOption("queues names no queue: name some, or leave it out for all the App declares.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What a worker works on: handed over by the App."""

    name: str
    engine: Engine
    bus: Engine | None
    routes: Sequence[Route]
    composer: Composer
    middleware: Sequence[Middleware]
    timing: Timing
    clock: Clock
    opened: Callable[[], AbstractAsyncContextManager[LoopClient]]
    lifespan: Callable[[], AbstractAsyncContextManager[object]]
    address: Callable[[], Address | None] = lambda: None
    on_dead: Sequence[DeadHook] = ()
    schedules: Declaration = field(default_factory=Declaration)
    roll: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # jitter, not secrets


@dataclass(slots=True)
class Side:
    """One broker's runner and settler."""

    broker: Broker
    settler: Settler
    runner: Runner
    in_flight: InFlight
    heartbeat: Heartbeat
    pools: tuple[Pool, ...]


class Worker:
    """Works until told to stop.

    >>> worker = app.worker()     # doctest: +SKIP
    >>> await worker.run()        # until worker.stop(), SIGTERM or SIGINT   # doctest: +SKIP
    """

    def __init__(self, plant: Plant, options: WorkerOptions) -> None:
        self._plant, self._options = plant, options
        self._stop, self._hasten = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._faults: list[BaseException] = []
        self._crew: set[asyncio.Task[None]] = set()
        self._dead = DeadHooks(plant.on_dead, plant.timing.crashes)
        self._at_work: Sequence[Side] = ()
        self._ticker: Ticker | None = None
        self.ready = asyncio.Event()
        self.on_verdict: list[Callable[..., None]] = []
        self.on_blocked: Callable[[], None] = lambda: None
        """Called from another thread when a handler has blocked the loop past its timeout, after the stacks are logged: a process of
        the worker's own can only be ended, since code that does not yield cannot be stopped."""

    @property
    def name(self) -> str:
        """Who holds the leases."""
        return self._plant.name

    def stop(self) -> None:
        """Take no more work, let handlers finish within ``stop_within``, hand back the rest, end. Said twice: hand back at once.

        Safe to call from any thread.
        """
        if self._loop is None or threading.get_ident() == self._thread:
            self._say_stop()
        else:
            with suppress(RuntimeError):  # its loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._say_stop)

    def _say_stop(self) -> None:
        if self._stop.is_set():
            self._hasten.set()
        self._stop.set()

    async def run(self, *, signals: bool = False) -> None:
        """Work until `stop`; with ``signals``, SIGTERM and SIGINT say it too.

        Raises what ended it if one of its own services failed, after stopping in order. Cancelling it stops it in order as well.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        caught = [signal.SIGTERM, signal.SIGINT] if signals else []
        for number in caught:
            loop.add_signal_handler(number, self.stop)
        if caught:
            forget_in_forks(caught)
        try:
            async with AsyncExitStack() as stack:
                link = await stack.enter_async_context(self._plant.opened())
                await stack.enter_async_context(self._plant.lifespan())
                await self._serve(link)
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
            caught.clear()
        if self._faults:
            raise BaseExceptionGroup("the worker stopped because a part of it failed", self._faults)

    @property
    def condition(self) -> str:
        """``starting``, ``working``, ``waiting`` (for its engine, which it cannot reach) or ``stopping``."""
        if self._stop.is_set():
            return "stopping"
        if not self.ready.is_set():
            return "starting"
        long_ago = self._plant.clock.monotonic() - AWAY
        missing = [part.missing for side in self._at_work for part in (side.runner, side.heartbeat)]
        return "waiting" if any(since is not None and since < long_ago for since in missing) else "working"

    @property
    def load(self) -> dict[str, int]:
        """How many deliveries it has, and how many of them are handlers whose time is up and that cannot be stopped."""
        return {
            "running": sum(len(side.in_flight) for side in self._at_work),
            "overdue": sum(side.in_flight.overdue for side in self._at_work),
        }

    @property
    def stuck(self) -> int:
        """Handlers that are still at work after `run` has ended: they would not stop. They end with the process."""
        return len(self._crew)

    async def _serve(self, link: LoopClient) -> None:
        threads = Threads(self._options.concurrency)
        swept, cancelled = asyncio.Event(), False
        sides = self._at_work = await self._sides(link, threads)
        async with asyncio.TaskGroup() as tasks:
            settling = [tasks.create_task(self._guarded(side.settler.run)) for side in sides]
            fetching = [tasks.create_task(self._guarded(side.runner.run)) for side in sides]
            hearing = [tasks.create_task(self._guarded(hear)) for side in sides if (hear := _losses(side))]
            telling = tasks.create_task(self._guarded(self._dead.run))
            if self._plant.engine.traits.remembers:
                tasks.create_task(self._guarded(partial(self._keep, link, swept)))
                if self._options.schedules:
                    tasks.create_task(self._guarded(self._tick(link).run))
            self._begin(sides)
            try:
                await self._stop.wait()
            except asyncio.CancelledError:
                cancelled = True
                self._hasten.set()
            await asyncio.shield(
                tasks.create_task(self._wind_down(sides, fetching, settling, swept, threads))
            )
            for task in hearing:
                task.cancel()
            await self._last_words(telling)
        log.info("worker.stopped", extra={"worker": self.name})
        if cancelled:
            raise asyncio.CancelledError

    def _begin(self, sides: Sequence[Side]) -> None:
        try:
            for side in sides:
                side.heartbeat.start()
        except RuntimeError as error:  # the host has no room for another thread
            self._fail(error)
        else:
            self.ready.set()
            log.info("worker.started", extra={"worker": self.name, "concurrency": self._options.concurrency})
            if not self._plant.routes and self._plant.bus is None:
                log.warning("worker.no_handlers", extra={"worker": self.name})

    async def _wind_down(
        self,
        sides: Sequence[Side],
        fetching: Sequence[asyncio.Task[None]],
        settling: Sequence[asyncio.Task[None]],
        swept: asyncio.Event,
        threads: Threads,
    ) -> None:
        """Stop receiving, so that nothing new begins; drain; cancel; release; settle for the last time; only then let the heartbeat stop,
        because until a delivery is settled its lease must hold; the connections close last.
        """
        log.info(
            "worker.stopping",
            extra={"worker": self.name, "running": sum(len(side.in_flight) for side in sides)},
        )
        try:
            if self._ticker is not None:
                self._ticker.close()
            for task in fetching:
                task.cancel()
            await asyncio.wait(fetching)
            for side in sides:
                await self._guarded(side.runner.hand_back)
            await self._drain(sides)
            await self._last_settle(sides, settling)
        finally:
            swept.set()
            threads.close()
            for pool in [pool for side in sides for pool in side.pools]:
                await self._guarded(pool.close)
            for side in sides:
                side.in_flight.close()
                await side.heartbeat.stop()
                if side is not sides[0]:
                    await self._guarded(side.broker.close)

    async def _last_settle(self, sides: Sequence[Side], settling: Sequence[asyncio.Task[None]]) -> None:
        for side in sides:
            self._hand_back(side)
            side.settler.close()
        _done, late = await asyncio.wait(settling, timeout=LAST_SETTLE / SECOND)
        for task in late:
            task.cancel()
            log.error(
                "worker.unsettled",
                extra={"worker": self.name, "count": sum(len(side.in_flight) for side in sides)},
            )

    async def _last_words(self, telling: asyncio.Task[None]) -> None:
        """All is settled and closed: the hooks may hear of what died last."""
        self._dead.close()
        await asyncio.wait([telling], timeout=LAST_WORDS / SECOND)
        telling.cancel()

    async def _drain(self, sides: Sequence[Side]) -> None:
        """Let handlers finish; when time is up cut them off, and give them a moment to clean up."""
        async with asyncio.TaskGroup() as group:
            empty = group.create_task(_all_empty(sides))
            hasten = group.create_task(_wait(self._hasten))
            await asyncio.wait(
                [empty, hasten],
                timeout=self._options.stop_within / SECOND,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for side in sides:
                side.in_flight.stop_all(Why.STOP)
            if not empty.done():
                await asyncio.wait([empty], timeout=CUT_OFF / SECOND)
            empty.cancel()
            hasten.cancel()

    def _hand_back(self, side: Side) -> None:
        """What would not stop (a thread, a handler that ignores its cancellation) is handed back; its late outcome counts for nothing."""
        for run in side.in_flight.snapshot():
            if run.ends is not None:
                run.end()
                run.cut = Why.LOST
                side.settler.submit(run, Settlement(run.delivery, v.Release()))
                log.warning("task.left", extra={"task": run.delivery.message.name, "id": run.delivery.id})

    async def _sides(self, link: LoopClient, threads: Threads) -> list[Side]:
        """The store's side, or the bare bus's; and with both, the bus's inbox, and the outbox among the store's routes."""
        routes = self._chosen()
        if self._plant.bus is None:
            return [self._side(link.broker, self._plant.engine, routes, threads)]
        bus = self._plant.bus.connect(self.name, self._plant.clock)
        subscriptions = [route for route in routes if route.source.pattern is not None]
        try:
            # Limits are for the store's queues: the bus keeps what they do not take.
            await bus.declare(
                [
                    for_engine(
                        msgspec.structs.replace(route.source, limit=None, drops_expired=False), bus.traits
                    )
                    for route in subscriptions
                ]
            )
            needs = [needs_topics(f"Queue {route.source.queue!r}", route.source) for route in subscriptions]
            check_all(needs, bus.traits)
        except BaseException:
            await bus.close()
            raise

        async def to_bus(message: Message) -> Published:
            (answer,) = await bus.publish([message])
            return answer

        inbox = [bridge.inbox(route.source, link.publish) for route in subscriptions]
        # The outbox comes first: under strict order it would starve behind busy queues, and its work is short.
        sides = [self._side(link.broker, self._plant.engine, [bridge.outbox(to_bus), *routes], threads)]
        if inbox:
            sides.append(self._side(bus, self._plant.bus, inbox, threads))
        return sides

    def _side(self, broker: Broker, engine: Engine, routes: Sequence[Route], threads: Threads) -> Side:
        plant, options = self._plant, self._options
        in_flight = InFlight(plant.clock)
        settler = Settler(broker, in_flight, plant.clock, self._dead.hear)
        pool, suspects = self._pool(routes, in_flight), self._suspects(in_flight)
        gears = Gears(
            broker=broker,
            executor=Executor(plant.composer, in_flight, desk_of(broker, plant.clock, threads.run)),
            settler=settler,
            in_flight=in_flight,
            clock=plant.clock,
            spawn=self._spawn,
            roll=plant.roll,
            on_verdict=self.on_verdict,
            pool=pool,
            suspects=suspects,
        )
        lanes = [self._lane(route, threads) for route in routes]
        limits = Limits(
            concurrency=options.concurrency,
            strict=options.strict,
            grace=options.grace,
            look=plant.timing.sweep,
        )
        runner = Runner(gears, lanes, limits)
        return Side(
            broker,
            settler,
            runner,
            in_flight,
            Heartbeat(
                engine,
                self.name,
                in_flight,
                plant.clock,
                plant.timing.heartbeat,
                self._fail,
                on_blocked=self._blocked,
                presence=self._presence,
            ),
            tuple(one for one in (pool, suspects) if one is not None),
        )

    def _lane(self, route: Route, threads: Threads) -> Lane:
        pooled = any(handler.process for handler in handlers_of(route))
        bounded = _pooled(route, self._pool_size) if pooled else route
        batched = any(handler.batch for handler in handlers_of(route))
        batches = [handler.batch for handler in handlers_of(route) if handler.batch and not handler.gathers]
        most = min(bounded.concurrency or self._options.concurrency, self._options.concurrency)
        if batches and max(batches) > most:
            log.warning(
                "batch.bounded",
                extra={"queue": route.source.queue, "batch": max(batches), "concurrency": most},
            )
        return Lane(bounded, lives_of(self._plant, route, threads), pooled=pooled, batched=batched)

    @property
    def _pool_size(self) -> int:
        return self._options.pool_processes or os.cpu_count() or 1

    def _pool(self, routes: Sequence[Route], in_flight: InFlight) -> Pool | None:
        """The processes of handlers that ask for one. Raises `Unsupported` where there can be none."""
        asking = next(
            (handler for route in routes for handler in handlers_of(route) if handler.process), None
        )
        if asking is None:
            return None
        address = found(self._plant.address(), asking.name)
        return Pool(lambda: address, in_flight, self._plant.clock, self._pool_size)

    def _suspects(self, in_flight: InFlight) -> Pool | None:
        """The processes of messages with a crash on record; None where a process of its own could not have the App, or not its store:
        then they run here, as the others do.
        """
        plant = self._plant
        address = plant.address() if plant.engine.traits.shared else None
        if address is None:
            return None
        limit = min(SUSPECTS, self._options.concurrency)
        return Pool(lambda: address, in_flight, plant.clock, limit, SUSPECTS_IDLE)

    def _chosen(self) -> list[Route]:
        """The routes of the queues this worker takes from, weighted and ordered as asked."""
        routes = {route.source.queue: route for route in self._plant.routes}
        wanted = self._options.queues
        if wanted is None:
            return list(routes.values())
        missing = [queue for queue in wanted if queue not in routes]
        if missing:
            raise ConfigError(
                f"Queue {missing[0]!r} has no handler in this App: it declares {', '.join(sorted(routes)) or 'none'}."
            )
        return [_weighted(routes[queue], weight) for queue, weight in wanted.items()]

    def _tick(self, link: LoopClient) -> Ticker:
        plant = self._plant
        store = cast("Store", link.broker)
        self._ticker = Ticker(store, plant.clock, plant.timing.sweep, plant.schedules)
        return self._ticker

    async def _keep(self, link: LoopClient, stop: asyncio.Event) -> None:
        plant = self._plant
        await keep(
            cast("Store", link.broker),
            plant.clock,
            plant.timing,
            stop,
            plant.roll,
            ended=self._ended,
            on_dead=self.on_dead,
        )

    def on_dead(self, record: TaskRecord) -> None:
        """Tell the App's hooks of a message that died with another worker. From the worker's loop."""
        self._dead.hear_of(record)

    def _ended(self) -> int:
        """How many deliveries this worker has settled."""
        return sum(side.settler.ended for side in self._at_work)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        """A handler's task. Not in the task group: that would wait for ever for a handler that will not stop."""
        self._crew.add(asyncio.get_running_loop().create_task(self._member(work)))

    async def _member(self, work: Coroutine[object, object, None]) -> None:
        """One of the crew. Leaves by itself: a callback on each task would cost the loop another round."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  # a mistake of ours: raised again by run(), after the stop
            self._fail(error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._crew.discard(task)

    def _presence(self) -> Presence:
        """What it says of itself to the store. From the heartbeat's thread."""
        return Presence(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            queues=tuple(route.source.queue for route in self._chosen()),
            slots=self._options.concurrency,
            running=self.load["running"],
        )

    def _blocked(self) -> None:
        try:
            self.on_blocked()
        except Exception:
            log.exception("listener.failed", extra={"worker": self.name})

    def _fail(self, error: BaseException) -> None:
        self._faults.append(error)
        self._hasten.set()
        self._stop.set()
        log.error("worker.fault", extra={"worker": self.name}, exc_info=error)

    async def _guarded(self, service: Callable[[], Coroutine[object, object, None]]) -> None:
        """A service that fails ends the worker in order; the others work until then."""
        try:
            await service()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # raised again by run(), after the stop
            self._fail(error)


def _losses(side: Side) -> Callable[[], Coroutine[object, object, None]] | None:
    """The service that hears of leases lost with a side's connection, if that is what they hang on."""
    if side.broker.traits.lease is not LeaseKind.CONNECTION:
        return None
    return partial(hear_losses, cast("Tethered", side.broker), side.in_flight)


def lives_of(plant: Plant, route: Route, threads: Threads) -> dict[str, Live]:
    """The route's handlers, ready to be called. Middleware is for the App's own, not for the bridge."""
    return {
        handler.name: Live(
            handler, compose(() if handler.relays else plant.middleware, handler.call(threads))
        )
        for handler in handlers_of(route)
    }


def handlers_of(route: Route) -> list[Handler]:
    """All that handle what comes from a route."""
    return [*route.handlers.values(), *([route.handler] if route.handler else [])]


def _pooled(route: Route, processes: int) -> Route:
    """A route all of whose handlers have a process to themselves takes no more than there are processes."""
    if not all(handler.process for handler in handlers_of(route)):
        return route
    return replace(route, concurrency=min(route.concurrency or processes, processes))


async def _all_empty(sides: Sequence[Side]) -> None:
    for side in sides:
        await side.in_flight.empty.wait()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _weighted(route: Route, weight: int) -> Route:
    return replace(route, weight=weight)
