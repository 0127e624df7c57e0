"""Leases are kept while the loop is blocked; what was lost is cut off and not settled; what is to be cancelled is told so."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from forebay import App, Context, State, Timing, WorkerOptions
from forebay.engine import Ask, EngineOptions, LeaseKind, Notice, Source
from forebay.errors import EngineUnavailable
from forebay.model.query import HandBack, Selector
from forebay.model.survey import Presence, Workers
from forebay.runtime.heartbeat import Heartbeat, batches
from forebay.runtime.in_flight import InFlight, Why
from forebay.stores.memory import MemoryEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token
from forebay.testing.clock import Probe, eventually
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import Spied, a_delivery, a_run, reaches, story, working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Delivery

MS = 1_000
BRISK = Timing(lease=1_000 * MS, heartbeat=20 * MS, sweep=20 * MS)
"""Fifty beats to a lease: a busy machine may swallow many of them."""


def brisk() -> Spied:
    return Spied(MemoryEngine(EngineOptions(timing=BRISK)))


@story
async def test_a_handler_that_blocks_the_loop_for_longer_than_the_lease_keeps_its_work() -> None:
    engine = brisk()
    app, others = App(engine, timing=BRISK), list[int]()

    @app.task
    async def blocks() -> str:
        threading.Event().wait(2.5)
        return "mine"

    def sweep_elsewhere() -> None:
        """Another process's upkeep: it would hand the work to somebody else if the lease had run out."""

        async def sweep() -> None:
            store = engine.inner.connect("elsewhere", SystemClock())
            await store.declare([])
            for _ in range(24):
                others.append((await store.sweep(100)).lost)  # type: ignore[attr-defined]  # a memory store
                threading.Event().wait(0.1)

        asyncio.run(sweep())

    async with working(app):
        handle = await blocks.send()
        elsewhere = asyncio.get_running_loop().run_in_executor(None, sweep_elsewhere)
        assert await handle.result(20) == "mine"
        await elsewhere
        record = await handle.status()

    assert (record.attempts, record.crashes, sum(others)) == (1, 0, 0)
    assert engine.calls["extend"] >= 5


@story
async def test_a_lost_lease_cuts_off_its_handler_and_nothing_is_settled() -> None:
    engine, cut, entered = brisk(), Probe[str]("cut"), Probe[int]("entered")
    app = App(engine, timing=BRISK)

    @app.task
    async def slow() -> str:
        entered.hit(1)
        if entered.count == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cut.hit("off")
                raise
        return "second"

    async with working(app) as worker:
        handle = await slow.send()
        await entered.wait()
        await app.steer(Selector(), HandBack(worker.name))
        await cut.wait()
        assert await handle.result(5) == "second"
        record = await handle.status()
        counts = await app.count()

    assert (record.attempts, record.crashes) == (1, 1)
    assert counts.counters["stale"] == 0, "what was lost is not even tried to settle"


@story
async def test_a_running_task_that_is_cancelled_is_told_and_ends_as_cancelled() -> None:
    engine, entered = brisk(), asyncio.Event()
    app = App(engine, timing=BRISK)

    @app.task
    async def slow() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with working(app):
        handle = await slow.send()
        await entered.wait()
        assert await handle.cancel() is True
        await reaches(handle, State.CANCELLED)
        assert (await handle.status()).attempts == 0


@story
async def test_a_worker_is_seen_while_it_is_there_and_not_any_more_once_it_has_stopped() -> None:
    engine = brisk()
    app, go, entered = App(engine, timing=BRISK), asyncio.Event(), asyncio.Event()

    @app.task(queue="mail")
    async def slow() -> None:
        entered.set()
        await go.wait()

    async def seen() -> Presence | None:
        return next(iter(await app.survey(Workers())), None)

    async with app:
        async with working(app, WorkerOptions(concurrency=7)) as worker:
            await slow.send()
            await entered.wait()

            async def busy() -> bool:
                said = await seen()
                return said is not None and said.running == 1

            await eventually(busy, what="a beat told of the running task")
            said = await seen()
            go.set()
        assert await seen() is None

    assert said is not None
    assert (said.worker, said.pid, said.queues, said.slots) == (worker.name, os.getpid(), ("mail",), 7)
    assert said.host
    assert said.version


@story
async def test_a_missed_beat_is_not_the_last() -> None:
    engine, failed = brisk(), Probe[None]("failed")

    def fail(kind: str, _: Any) -> None:
        if kind == "extend" and failed.count < 3:
            failed.hit(None)
            raise EngineUnavailable("away")

    engine.before = fail
    app, go, entered = App(engine, timing=BRISK), asyncio.Event(), asyncio.Event()

    @app.task
    async def slow() -> int:
        entered.set()
        await go.wait()
        return 1

    async with working(app):
        handle = await slow.send()
        await entered.wait()
        await failed.wait(3)
        await eventually(lambda: engine.calls["extend"] >= 6)
        go.set()
        assert await handle.result(5) == 1
        assert (await handle.status()).crashes == 0


@story
async def test_each_run_gets_the_notice_that_is_its_own() -> None:
    notices = {"id-kept": Notice.KEPT, "id-lost": Notice.LOST, "id-gone": Notice.CANCEL}
    engine, beaten = Spied(MemoryEngine()), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Told:
        async def declare(self, _: object) -> None: ...

        async def close(self) -> None: ...

        async def extend(self, batch: Sequence[Delivery], **_: object) -> list[Notice]:  # the port
            loop.call_soon_threadsafe(beaten.set)
            return [notices[delivery.id] for delivery in batch]

    engine.connect = lambda *_: Told()  # type: ignore[method-assign,assignment]  # all a heartbeat asks for
    in_flight = InFlight(SystemClock())
    runs = {name: in_flight.add(a_delivery(name=name)) for name in ("kept", "lost", "gone")}
    heartbeat = Heartbeat(engine, "one", in_flight, SystemClock(), MS, lambda _: None)
    heartbeat.start()
    await beaten.wait()
    await heartbeat.stop()
    await eventually(lambda: runs["gone"].cut)

    assert {name: run.cut for name, run in runs.items()} == {
        "kept": None,
        "lost": Why.LOST,
        "gone": Why.CANCEL,
    }


@story
async def test_a_heart_that_fails_says_so_and_can_still_be_stopped() -> None:
    engine, faults = Spied(MemoryEngine()), Probe[BaseException]("fault")

    def fail(kind: str, _: Any) -> None:
        if kind == "extend":
            raise ZeroDivisionError("a defect")

    engine.before = fail
    in_flight = InFlight(SystemClock())
    in_flight.add(a_delivery())
    heartbeat = Heartbeat(engine, "one", in_flight, SystemClock(), MS, faults.hit)
    heartbeat.start()
    (error,) = await faults.wait()
    await heartbeat.stop()

    assert isinstance(error, ZeroDivisionError)


@story
async def test_what_a_receive_has_taken_is_kept_before_its_answer_is_seen() -> None:
    """A loop that is blocked between a claim and its answer must not lose what it does not know of yet."""
    engine = MemoryEngine(EngineOptions(timing=BRISK))
    store = engine.connect("worker", SystemClock())
    await store.declare([])
    in_flight, token = InFlight(SystemClock()), new_token()
    heartbeat = Heartbeat(engine, "worker", in_flight, SystemClock(), BRISK.heartbeat, lambda _: None)
    await store.publish([a_delivery().message])
    (taken,) = await store.receive([Ask(Source(queue="default"), token, 1)], wait=0)
    in_flight.under_way.add(token)

    heartbeat.start()
    await eventually(lambda: heartbeat.beats >= 2)
    await heartbeat.stop()

    lease = engine.ledger.leases[token]
    assert lease.until > taken.received + BRISK.lease


def test_all_of_a_token_is_renewed_in_one_call() -> None:
    tokens = [new_token() for _ in range(3)]
    runs = [a_run(replace(a_delivery(), token=tokens[n % 3])) for n in range(3 * 800)]

    parts = batches(runs)

    assert [len(part) for part in parts] == [1_600, 800]
    assert [{run.delivery.token for run in part} for part in parts] == [set(tokens[:2]), {tokens[2]}]


@story
async def test_what_went_with_its_connection_is_cut_off_at_once_and_comes_again() -> None:
    bus = HostileBus(lease=LeaseKind.CONNECTION)
    engine, entered, cut = Spied(bus), Probe[int]("entered"), list[str]()
    app = App(engine, timing=BRISK)

    @app.task
    async def slow(ctx: Context) -> None:
        entered.hit(ctx.attempt)
        if len(entered.hits) == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                cut.append(str(error))
                raise

    async with working(app):
        await slow.send()
        await entered.wait(1)
        assert engine.calls["extend"] <= 1, (
            "asked once what it still has, when it began to listen, and no beat renews anything"
        )
        bus.cut()
        await entered.wait(2)

    assert (cut, entered.hits) == (["lost"], [1, 1])
    assert bus.queued("default") == ()
