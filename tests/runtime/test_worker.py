"""A worker starts whole, stops in order whatever its handlers do, and says what ended it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from forebay import App, Context, State, WorkerOptions
from forebay.errors import EngineUnavailable, SendError
from forebay.model.when import SECOND
from forebay.runtime import worker as room
from forebay.stores.memory import MemoryEngine
from forebay.testing.clock import Probe, eventually
from tests.runtime.kit import Spied, reaches, story, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay import Call

MS = 1_000


@pytest.fixture(autouse=True)
def _brief_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What will not stop is waited for 50 ms and not five seconds."""
    monkeypatch.setattr(room, "CUT_OFF", 50 * MS)
    monkeypatch.setattr(room, "LAST_SETTLE", SECOND)


@story
async def test_a_stop_lets_handlers_finish_and_takes_nothing_new() -> None:
    app, entered, go, order = App("memory://"), asyncio.Event(), asyncio.Event(), list[int]()

    @app.task
    async def job(n: int) -> int:
        order.append(n)
        entered.set()
        await go.wait()
        return n

    async with app:
        async with working(app, WorkerOptions(concurrency=1)) as worker:
            first, second = await job.send(1), await job.send(2)
            await entered.wait()
            worker.stop()
            go.set()
        assert await first.result(5) == 1
        record = await second.status()

    assert order == [1]
    assert (record.state, record.attempts, record.releases) == (State.READY, 0, 0)


@story
async def test_past_stop_within_work_is_handed_back_and_no_attempt_is_spent() -> None:
    app, entered, cleaned = App("memory://"), Probe[int]("entered"), list[bool]()

    @app.task
    async def slow() -> None:
        entered.hit(1)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async with app:
        async with working(app, WorkerOptions(stop_within=20 * MS)):
            handles = [await slow.send() for _ in range(3)]
            await entered.wait(3)
        for handle in handles:
            record = await handle.status()
            assert (record.state, record.attempts, record.crashes, record.releases) == (State.READY, 0, 0, 1)

    assert cleaned == [True] * 3


@story
async def test_a_second_stop_hastens() -> None:
    app, entered = App("memory://"), asyncio.Event()

    @app.task
    async def slow() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with app:
        async with working(app, WorkerOptions(stop_within=600 * SECOND)) as worker:
            handle = await slow.send()
            await entered.wait()
            worker.stop()
        # leaving `working` stops it for the second time
        record = await handle.status()

    assert (record.state, record.attempts, record.releases) == (State.READY, 0, 1)


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@story
async def test_a_handler_that_will_not_stop_is_left_behind_and_its_work_handed_back(threaded: bool) -> None:
    app, entered, gate = App("memory://"), Probe[int]("entered"), threading.Event()
    go = asyncio.Event()

    def stuck() -> str:
        entered.hit(1)
        assert gate.wait(5)
        return "too late"

    async def deaf() -> str:
        entered.hit(1)
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    task = app.task(name="job")(cast("Any", stuck if threaded else deaf))
    async with app:
        async with working(app, WorkerOptions(stop_within=10 * MS)) as worker:
            handle = await task.send()
            await entered.wait()
        assert worker.stuck == (0 if threaded else 1)
        record = await handle.status()
        assert (record.state, record.attempts, record.crashes, record.releases) == (State.READY, 0, 0, 1)
        gate.set()
        go.set()
        await eventually(lambda: worker.stuck == 0)
        assert (await handle.status()).state is State.READY, "its late outcome counts for nothing"


@story
async def test_stop_before_and_during_start_ends_it_in_order() -> None:
    engine, opening, go = Spied(MemoryEngine()), asyncio.Event(), asyncio.Event()

    async def hold(kind: str, _: Any) -> None:
        if kind == "declare":
            opening.set()
            await go.wait()

    engine.before = hold
    app, life = App(engine), list[str]()
    app._lifespan = lambda: _noted(life)
    worker = app.worker()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        await opening.wait()
        worker.stop()
        go.set()
        await running
    early = app.worker()
    early.stop()
    await early.run()

    assert life == ["enter", "exit"] * 2
    assert engine.calls["close"] >= 2


@asynccontextmanager
async def _noted(life: list[str]) -> AsyncIterator[None]:
    life.append("enter")
    try:
        yield
    finally:
        life.append("exit")


@story
async def test_lifespan_is_around_all_work_and_inside_the_open_app() -> None:
    engine, life = Spied(MemoryEngine()), list[str]()

    def note(kind: str, _: Any) -> None:
        if kind in ("declare", "close"):
            life.append(kind)

    engine.before = note

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await app.publish("worker.starts", {})
        life.append("enter")
        yield
        life.append("exit")
        await app.publish("worker.ends", {})

    app = App(engine, lifespan=lifespan)

    @app.task
    async def job() -> None:
        life.append("job")

    worker = app.worker()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await worker.ready.wait()
        async with app:
            await (await job.send()).result(5)
            worker.stop()
            await eventually(lambda: "exit" in life)

    assert [one for one in life if one not in ("declare", "close")] == ["enter", "job", "exit"]
    assert (life[0], life[-1]) == ("declare", "close")


@story
async def test_a_lifespan_that_fails_is_the_workers_error_and_the_app_is_closed_again() -> None:
    engine, life = Spied(MemoryEngine()), list[str]()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if life:
            yield
        raise ZeroDivisionError("my pool")

    app = App(engine, lifespan=lifespan)
    with pytest.raises(ZeroDivisionError, match="my pool"):
        await app.worker().run()

    assert engine.calls["close"] == 1


@story
async def test_an_engine_that_cannot_be_opened_is_the_workers_error() -> None:
    engine = Spied(MemoryEngine())

    def fail(kind: str, _: Any) -> None:
        if kind == "declare":
            raise EngineUnavailable("no such host")

    engine.before = fail
    with pytest.raises(EngineUnavailable, match="no such host"):
        await App(engine).worker().run()
    assert engine.calls["close"] == 1


@pytest.mark.parametrize("kind", ["receive", "sweep"])
@story
async def test_a_service_that_fails_ends_the_worker_in_order_and_run_raises_it(kind: str) -> None:
    engine, entered, trigger = Spied(MemoryEngine()), asyncio.Event(), list[bool]()

    def fail(called: str, _: Any) -> None:
        if called == kind and trigger:
            raise ZeroDivisionError("a defect of ours")

    engine.before = fail
    app, life = App(engine), list[str]()
    app._lifespan = lambda: _noted(life)
    app.timing = type(app.timing)(lease=90 * MS, heartbeat=30 * MS, sweep=10 * MS)

    @app.task(queue="one")
    async def slow() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with app:
        worker = app.worker(WorkerOptions(stop_within=600 * SECOND))
        running = asyncio.get_running_loop().create_task(worker.run())
        await worker.ready.wait()
        handle = await slow.send()
        await entered.wait()
        trigger.append(True)
        await slow.send()  # so that a receive comes round
        with pytest.raises(BaseExceptionGroup) as caught:
            await running
        record = await handle.status()

    assert all(isinstance(error, ZeroDivisionError | ExceptionGroup) for error in caught.value.exceptions)
    assert caught.group_contains(ZeroDivisionError)
    assert (record.state, record.attempts, record.releases) == (State.READY, 0, 1)
    assert life == ["enter", "exit"]


@story
async def test_a_heart_that_fails_ends_the_worker_in_order() -> None:
    engine, entered = Spied(MemoryEngine()), asyncio.Event()

    def fail(kind: str, _: Any) -> None:
        if kind == "extend":
            raise ZeroDivisionError("a defect of ours")

    engine.before = fail
    app = App(engine)
    app.timing = type(app.timing)(lease=90 * MS, heartbeat=10 * MS, sweep=SECOND)

    @app.task
    async def slow() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with app:
        worker = app.worker()
        running = asyncio.get_running_loop().create_task(worker.run())
        await worker.ready.wait()
        handle = await slow.send()
        with pytest.raises(BaseExceptionGroup) as caught:
            await running
        assert caught.group_contains(ZeroDivisionError)
        assert (await handle.status()).state is State.READY


@story
async def test_a_settler_that_fails_ends_the_worker_and_the_work_stays_under_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App("memory://")
    monkeypatch.setattr("forebay.runtime.worker.CUT_OFF", 0)

    @app.task
    async def job() -> None: ...

    async with app:
        worker = app.worker()
        running = asyncio.get_running_loop().create_task(worker.run())
        await worker.ready.wait()

        async def broken(*_: object) -> None:
            raise ZeroDivisionError("a defect of ours")

        monkeypatch.setattr("forebay.runtime.settler.Settler._persist", broken)
        handle = await job.send()
        with pytest.raises(BaseExceptionGroup) as caught:
            await running
        assert caught.group_contains(ZeroDivisionError)
        assert (await handle.status()).state is State.RUNNING


@story
async def test_a_heartbeat_that_cannot_start_ends_the_worker_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App("memory://")

    @app.task
    async def job() -> None: ...

    def no_room(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_room)
    async with app:
        with pytest.raises(BaseExceptionGroup) as caught:
            await app.worker().run()
        assert caught.group_contains(RuntimeError, match="can't start new thread", depth=1)


@story
async def test_callbacks_that_raise_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = App("memory://")

    @app.task
    async def job() -> None: ...

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of somebody else's")

    async with app, working(app) as worker:
        worker.on_verdict.append(broken)
        worker.on_blocked = broken
        worker._blocked()
        await reaches(await job.send(), State.SUCCEEDED)
        await reaches(await job.send(), State.SUCCEEDED)

    assert caplog.messages.count("listener.failed") == 3


@story
async def test_a_mistake_of_ours_in_a_try_keeps_neither_message_nor_slot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = App("memory://")

    @app.task(max_attempts=1)
    async def job() -> None: ...

    @app.task(max_attempts=1, batch=2, within=0, queue="batches")
    async def many(items: list[int]) -> None: ...

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("forebay.runtime.executor.too_late", broken)
    async with app, working(app, WorkerOptions(concurrency=1)) as worker:
        for handle in [await job.send(), await many.send(1), await job.send(), await many.send(2)]:
            (only,) = (await reaches(handle, State.DEAD)).tries
            assert only.error is not None
            assert only.error.type == "ZeroDivisionError"
        assert worker.load["running"] == 0

    assert caplog.messages.count("try.broken") == 4


@story
async def test_cancelled_it_stops_in_order_and_says_that_it_was_cancelled() -> None:
    app, entered, life = App("memory://"), asyncio.Event(), list[str]()
    app._lifespan = lambda: _noted(life)

    @app.task
    async def slow() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with app:
        worker = app.worker(WorkerOptions(stop_within=600 * SECOND))
        running = asyncio.get_running_loop().create_task(worker.run())
        await worker.ready.wait()
        handle = await slow.send()
        await entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        record = await handle.status()

    assert (record.state, record.attempts, record.releases) == (State.READY, 0, 1)
    assert life == ["enter", "exit"]


@pytest.mark.parametrize("times", [1, 2])
@story
async def test_sigterm_stops_it_and_a_second_hastens(times: int) -> None:
    app, entered, go = App("memory://"), asyncio.Event(), asyncio.Event()

    @app.task
    async def slow() -> str:
        entered.set()
        await go.wait()
        return "finished"

    async with app:
        worker = app.worker(WorkerOptions(stop_within=600 * SECOND))
        running = asyncio.get_running_loop().create_task(worker.run(signals=True))
        await worker.ready.wait()
        handle = await slow.send()
        await entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await worker._stop.wait()
        if times == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            go.set()
        await running
        state = (await handle.status()).state

    assert state is (State.SUCCEEDED if times == 1 else State.READY)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    "raises", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@story
async def test_a_handler_that_would_end_the_process_ends_its_try_only(
    raises: BaseException, threaded: bool
) -> None:
    app = App("memory://")

    def sync_exit() -> None:
        raise raises

    async def exit_() -> None:
        raise raises

    deadly = app.task(name="deadly", max_attempts=1)(cast("Any", sync_exit if threaded else exit_))

    @app.task
    async def next_one() -> int:
        return 1

    async with working(app):
        handle = await deadly.send()
        assert await (await next_one.send()).result(5) == 1
        await reaches(handle, State.DEAD)


@story
async def test_middleware_is_around_every_handler_outermost_first() -> None:
    order = list[str]()

    def named(name: str) -> Any:
        async def around(call: Call, ctx: Context) -> object:
            order.append(f"{name} in {ctx.name}")
            try:
                return await call(ctx)
            finally:
                order.append(f"{name} out")

        return around

    async def shouts(call: Call, ctx: Context) -> object:
        return f"{await call(ctx)}!"

    app = App("memory://", middleware=[named("outer"), named("inner"), shouts])

    @app.task
    async def job() -> str:
        order.append("job")
        return "done"

    @app.task
    def threaded() -> str:
        return "in a thread"

    async with working(app):
        assert await (await job.send()).result(5) == "done!"
        assert order == ["outer in job", "inner in job", "job", "inner out", "outer out"]
        assert await (await threaded.send()).result(5) == "in a thread!"


@story
async def test_middleware_may_end_a_try_by_a_word_or_an_error() -> None:
    from forebay import Dead

    async def gate(call: Call, ctx: Context) -> object:
        if ctx.headers.get("from") == "stranger":
            raise Dead("not for strangers")
        return await call(ctx)

    app = App("memory://", middleware=[gate])

    @app.task
    async def job() -> str:
        return "done"

    async with working(app):
        assert await (await job.send()).result(5) == "done"
        handle = await job.options(headers={"from": "stranger"}).send()
        await reaches(handle, State.DEAD)


@story
async def test_what_a_handler_sends_leaves_with_its_success_and_not_otherwise() -> None:
    app, got = App("memory://"), Probe[tuple[str, int]]("got")

    @app.task
    async def follow(n: int) -> None:
        got.hit(("task", n))

    @app.subscribe("things.happened", group="audit")
    async def audit(n: int) -> None:
        got.hit(("event", n))

    @app.task(max_attempts=2, backoff=0)
    async def job(ctx: Context) -> None:
        ctx.send(follow.bind(ctx.attempt))
        ctx.publish("things.happened", ctx.attempt, key="k", headers={"a": "b"})
        assert len(ctx.collected) == 2
        if ctx.attempt == 1:
            raise ValueError("not yet")

    async with working(app):
        await (await job.send()).result(5)
        await got.wait(2)
        counts = await app.count()

    assert sorted(got.hits) == [("event", 2), ("task", 2)]
    assert sum(sum(queue.states.values()) for queue in counts.queues) == 3


@story
async def test_a_sync_handler_may_send_with_its_success_too() -> None:
    app, got = App("memory://"), Probe[int]("got")

    @app.task
    def follow(n: int) -> None:
        got.hit(n)

    @app.task
    def job(ctx: Context) -> None:
        for n in range(3):
            ctx.send(follow.bind(n))

    async with working(app):
        await (await job.send()).result(5)
        assert sorted(await got.wait(3)) == [0, 1, 2]


@story
async def test_one_handler_may_not_send_without_end_nor_what_is_no_message() -> None:
    app = App("memory://")
    errors = list[str]()

    @app.task
    async def other(n: int) -> None: ...

    @app.task
    async def job(ctx: Context) -> int:
        for wrong in (other, other(1), "other"):
            try:
                ctx.send(wrong)  # type: ignore[arg-type]  # that is the test
            except ValueError as error:
                errors.append(str(error))
        for n in range(2_000):
            try:
                ctx.send(other.bind(n))
            except SendError as error:
                errors.append(str(error))
                break
        return len(ctx.collected)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        async with working(app):
            assert await (await job.send()).result(5) == 1_000

    refused = "ctx.send() takes a bound task, a flow, a chain, a group or a chord: ctx.send(task.bind(...))."
    assert errors == [refused] * 3 + [
        "A handler may send 1000 messages with its success; use app.send_many() for more."
    ]


@story
async def test_a_context_says_what_is_known_of_the_try(caplog: pytest.LogCaptureFixture) -> None:
    app, seen = App("memory://"), dict[str, object]()

    @app.task(queue="work")
    async def job(ctx: Context, n: int) -> None:
        seen.update(
            id=ctx.id, attempt=ctx.attempt, name=ctx.name, queue=ctx.queue, key=ctx.key, headers=dict(ctx.headers), body=ctx.message.body
        )  # fmt: skip
        ctx.log.warning("noted", extra=None)

    async with working(app):
        handle = await job.options(key="k", headers={"a": "b"}).send(7)
        await handle.result(5)

    assert seen == {
        "id": handle.id, "attempt": 1, "name": "job", "queue": "work", "key": "k", "headers": {"a": "b"}, "body": b'{"n":7}'
    }  # fmt: skip
    (record,) = [one for one in caplog.records if one.message == "noted"]
    assert (record.task, record.id, record.attempt) == ("job", handle.id, 1)  # type: ignore[attr-defined]  # extra fields


@story
async def test_two_workers_share_a_store_and_each_message_is_handled_once() -> None:
    engine, handled = MemoryEngine(), list[int]()
    apps = [App(engine), App(engine)]
    for app in apps:

        @app.task(name="job")
        async def job(n: int) -> None:
            handled.append(n)

    async with working(apps[0]), working(apps[1]):
        await apps[0].send_many([apps[0].named("job").bind(n) for n in range(300)])
        await eventually(lambda: len(handled) >= 300)

    assert sorted(handled) == list(range(300))


@story
async def test_two_apps_on_two_stores_do_not_touch_each_other() -> None:
    one, two = App("memory://"), App("memory://")
    got = list[str]()
    for app, name in ((one, "one"), (two, "two")):
        _declares(app, name, got)
    async with working(one), working(two):
        assert await (await one.send("job")).result(5) == "one"
        assert await (await two.send("job")).result(5) == "two"
        await one.publish("things.happened", 1)
        await eventually(lambda: got)
        counts = [await app.count() for app in (one, two)]

    assert got == ["one"]
    assert [sum(sum(q.states.values()) for q in count.queues) for count in counts] == [2, 1]


def _declares(app: App, name: str, got: list[str]) -> None:
    @app.task
    async def job() -> str:
        return name

    @app.subscribe("things.happened")
    async def seen(_: int) -> None:
        got.append(name)


@story
async def test_a_worker_logs_one_line_for_a_try_and_no_bodies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "forebay")
    app = App("memory://")

    @app.task(max_attempts=1)
    async def fails(secret: str) -> None:
        raise ValueError("no")

    async with working(app):
        handle = await fails.send("hunter2")
        await reaches(handle, State.DEAD)

    (line,) = [one for one in caplog.records if one.message.startswith("task.")]
    assert (line.message, line.error) == ("task.dead", "ValueError: no")  # type: ignore[attr-defined]  # extra fields
    assert "hunter2" not in str(vars(line)).replace(str(line.traceback), "")  # type: ignore[attr-defined]  # its source line
