"""What became of a task, from its sender's side: typed results, ends told as errors with their story, waiting that never hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from forebay import App, Cancel, Context, Retry, State, chain
from forebay.errors import (
    EngineUnavailable,
    InvalidOption,
    NotOpen,
    OutcomeUnknown,
    ResultTimeout,
    TaskCancelled,
    TaskDead,
    TaskError,
    TaskExpired,
    TaskNotFound,
    Unsupported,
)
from forebay.model.query import Actor, Delete, Selector
from forebay.model.survey import Audit
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.testing.clock import Probe, eventually
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import Spied, reaches, story, working

if TYPE_CHECKING:
    from forebay import Handle


@dataclass
class Point:
    x: int
    y: int


class Line(msgspec.Struct):
    start: Point
    length: float


class Customer(pydantic.BaseModel):
    name: str


RESULTS: list[tuple[Any, Any]] = [
    (int, 7),
    (str, "é"),
    (bytes, b"\x00"),
    (None, None),
    (bool, True),
    (Point, Point(1, 2)),
    (Line, Line(Point(1, 2), 1.5)),
    (Customer, Customer(name="Ada")),
    (datetime, datetime(2030, 1, 1, tzinfo=UTC)),
    (timedelta, timedelta(hours=1)),
    (list[Point], [Point(1, 2)]),
    (dict[str, Line], {"a": Line(Point(1, 2), 0.0)}),
    (tuple[int, str], (1, "a")),
    (Point | None, None),
    (Any, {"free": [1]}),
]


class Grown(Customer):
    age: int = 0


CHANGED: list[tuple[Any, Any, str]] = [
    (str, datetime(2030, 1, 1, tzinfo=UTC), "it is datetime.datetime(2030, 1, 1"),
    (Point, Line(Point(1, 2), 0.5), ""),
    (Customer, Grown(name="Ada"), "it is Grown("),
    (list[str | None], [None, b"x"], "it[1] is b'x' and would be seen as 'eA=='"),
    (dict[str, int], {1: 2}, "the key 1 of it is 1"),
    (datetime, datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), "it is datetime.datetime(1890, 1, 1"),
]


@pytest.mark.parametrize(("kind", "value", "sentence"), CHANGED, ids=[str(kind) for kind, _, _ in CHANGED])
@story
async def test_a_result_that_would_be_read_as_another_is_refused(
    kind: Any, value: Any, sentence: str
) -> None:
    app = App("memory://")

    async def job() -> Any:
        return value

    job.__annotations__["return"] = kind
    task = app.task(job)
    async with working(app):
        handle = await task.send()
        if not sentence:  # does not fit at all: the reader hears of it
            with pytest.raises(TaskError, match="its result cannot be read as"):
                await handle.result(5)
            return
        with pytest.raises(TaskDead) as dead:
            await handle.result(5)

    assert f"the result would not be read as it was returned: {sentence}" in str(dead.value)


@pytest.mark.parametrize(("kind", "value"), RESULTS, ids=[str(kind) for kind, _ in RESULTS])
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@story
async def test_a_result_comes_back_as_the_type_it_was_returned_as(
    kind: Any, value: Any, threaded: bool
) -> None:
    app = App("memory://")

    async def job() -> Any:
        return value

    def sync_job() -> Any:
        return value

    function: Any = sync_job if threaded else job
    function.__annotations__["return"] = kind
    task = app.task(function)
    async with working(app):
        result = await (await task.send()).result(5)

    assert (result, type(result)) == (value, type(value))


@story
async def test_a_handle_made_from_an_id_reads_plain_json() -> None:
    app = App("memory://")

    @app.task
    async def job() -> Point:
        return Point(1, 2)

    async with working(app):
        handle = await job.send()
        assert await app.handle(handle.id).result(5) == {"x": 1, "y": 2}


@story
async def test_a_result_that_is_not_what_was_declared_is_a_task_error() -> None:
    app = App("memory://")

    @app.task
    async def job() -> int:
        return "seven"  # type: ignore[return-value]  # that is the test

    async with working(app):
        handle = await job.send()
        with pytest.raises(
            TaskError, match=r"succeeded, and its result cannot be read as <class 'int'>: Expected `int`"
        ):
            await handle.result(5)
        assert await app.handle(handle.id).result() == "seven"


@story
async def test_a_result_beside_the_words_a_handler_may_return() -> None:
    app, tries = App("memory://"), list[int]()

    @app.task(backoff=0)
    async def job(ctx: Context) -> Point | Retry | Cancel:
        tries.append(ctx.attempt)
        return Point(1, 2) if ctx.attempt == 2 else Retry()

    async with working(app):
        assert await (await job.send()).result(5) == Point(1, 2)
    assert tries == [1, 2]


@story
async def test_death_tells_its_story() -> None:
    app = App("memory://")

    @app.task(max_attempts=2, backoff=0)
    async def job(ctx: Context) -> None:
        raise ValueError(f"no {ctx.attempt}")

    async with working(app):
        handle = await job.send()
        with pytest.raises(
            TaskDead, match=rf"^Task job {handle.id} is dead \(exhausted\), attempts 2: ValueError: no 2\n"
        ) as caught:
            await handle.result(5)

    assert caught.value.task_id == handle.id
    first, second = caught.value.story.splitlines()
    assert ": attempt 1 failed, ValueError: no 1" in first
    assert ": attempt 2 dead, ValueError: no 2" in second


@story
async def test_the_other_ends_are_errors_of_their_own() -> None:
    app = App("memory://")

    @app.task
    async def cancels() -> None:
        raise Cancel

    @app.task
    async def job() -> None: ...

    async with working(app):
        with pytest.raises(TaskCancelled, match="is cancelled"):
            await (await cancels.send()).result(5)
        with pytest.raises(TaskExpired, match="is expired"):
            await (await job.options(expires=0).send()).result(5)
        with pytest.raises(
            TaskNotFound, match=r"No task nobody is stored here: it was never sent, or its history was pruned"
        ):
            await app.handle("nobody").result(5)
        with pytest.raises(TaskNotFound):
            await app.handle("nobody").status()
        assert await app.handle("nobody").cancel() is False


@story
async def test_the_wait_ends_when_its_time_is_up_and_the_task_goes_its_way() -> None:
    app, go = App("memory://"), asyncio.Event()

    @app.task
    async def job() -> int:
        await go.wait()
        return 1

    async with working(app):
        handle = await job.send()
        with pytest.raises(
            ResultTimeout, match=r"has not ended within 0\.01: it is (ready|running)\."
        ) as caught:
            await handle.result(timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(ResultTimeout):
            await handle.result(timeout="1ms")
        with pytest.raises(InvalidOption, match="timeout is not a duration"):
            await handle.result(timeout="soon")
        waiting = asyncio.get_running_loop().create_task(handle.result())
        await asyncio.wait([waiting], timeout=0.01)
        waiting.cancel()
        go.set()
        assert await handle.result(5) == 1
        assert await handle.result(timeout=0) == 1, "what is there needs no time"
        assert await handle.result() == 1


@story
async def test_many_wait_at_once_and_one_of_them_may_leave() -> None:
    engine, go = Spied(MemoryEngine()), asyncio.Event()
    app = App(engine)

    @app.task
    async def job(n: int) -> int:
        await go.wait()
        return n

    async with working(app), asyncio.TaskGroup() as group:
        handles = await app.send_many([job.bind(n) for n in range(50)])
        waits = [group.create_task(handle.result(5)) for handle in handles for _ in range(3)]
        await asyncio.wait(waits, timeout=0.02)
        waits[0].cancel()
        before = engine.calls["find"]
        go.set()
        await asyncio.wait(waits)
        assert [wait.result() for wait in waits[1:]] == [n for n in range(50) for _ in range(3)][1:]
        assert engine.calls["find"] - before < 50, "one look for all"


@story
async def test_whoever_waits_when_the_app_closes_is_told() -> None:
    app = App("memory://")

    @app.task
    async def job() -> None: ...

    async with app:
        handle = await job.send()
        waiting = asyncio.get_running_loop().create_task(handle.result())
        await asyncio.wait([waiting], timeout=0.01)
    with pytest.raises(NotOpen, match="closed while its result was waited for"):
        await waiting


@story
async def test_a_look_that_fails_is_not_the_last() -> None:
    engine, failed = Spied(MemoryEngine()), Probe[None]("failed")
    app, go = App(engine), asyncio.Event()

    @app.task
    async def job() -> int:
        await go.wait()
        return 1

    def fail(kind: str, query: Any) -> None:
        if kind == "find" and query.which.states and failed.count < 2:
            failed.hit(None)
            raise EngineUnavailable("away")

    engine.before = fail
    async with working(app):
        handle = await job.send()
        waiting = asyncio.get_running_loop().create_task(handle.result(5))
        await failed.wait()
        go.set()
        assert await waiting == 1
        assert (await job.send()).id, "and sending goes on"


@story
async def test_what_is_done_with_a_handle_is_noted_as_done_by_the_app() -> None:
    app = App("memory://", name="shop")

    @app.task
    async def job() -> int:
        return 1

    async with app:
        await (await job.options(delay="1h").send()).cancel()
        flow = await chain(job.bind(), job.bind()).send()
        await flow.cancel()
        await flow.retry()

        noted = [one.by for one in await app.survey(Audit())]

    assert noted == [Actor(name="shop", via="app")] * 3


@story
async def test_cancel_says_whether_it_changed_anything() -> None:
    app = App("memory://")

    @app.task
    async def job() -> int:
        return 1

    async with app:
        waiting = await job.options(delay="1h").send()
        assert [await waiting.cancel(), await waiting.cancel()] == [True, False]
        assert (await waiting.status()).state is State.CANCELLED
    async with working(app):
        done = await job.send()
        await done.result(5)
        assert await done.cancel() is False


@story
async def test_status_is_everything_that_is_known() -> None:
    app = App("memory://")

    @app.task(queue="math", max_attempts=3, backoff=0)
    async def job(ctx: Context, n: int) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return n

    async with working(app) as worker:
        handle = await job.send(7)
        record = await reaches(handle, State.SUCCEEDED)

    assert (record.queue, record.attempts, record.result, record.message.name) == ("math", 2, b"7", "job")
    assert [one.verdict for one in record.tries] == ["retry", "done"]
    assert {one.worker for one in record.tries} == {worker.name}


@story
async def test_a_bare_bus_remembers_nothing_and_says_what_to_add() -> None:
    app = App(HostileBus())

    @app.task
    async def job() -> None: ...

    async with app:
        handle = await job.send()
        for ask in (handle.status, handle.result, handle.cancel, app.count):
            with pytest.raises(Unsupported, match=r"is a bus and remembers nothing: .* add a store"):
                await ask()


# -- callers without a loop


def test_without_a_loop_the_sync_twins_do_it() -> None:
    app = App("memory://")

    @app.task
    def double(n: int) -> int:
        return 2 * n

    with app:
        handle = double.send_sync(4)
        assert app.send_sync("double", 5).id != handle.id
        assert app.publish_sync("a.b", 1).groups == 0
        assert app.sync(app.count()).queues[0].states == {State.READY: 2}
        with pytest.raises(ResultTimeout):
            handle.result_sync(0.01)
        worker = app.worker()
        done: list[int] = []
        work = threading.Thread(target=lambda: asyncio.run(worker.run()))
        work.start()
        done.append(handle.result_sync(5))
        worker.stop()
        work.join(5)
    assert done == [8]
    assert not any(thread.name == "forebay-sync bridge" for thread in threading.enumerate())


def test_many_threads_may_send_at_once_from_the_first_moment() -> None:
    engine = Spied(MemoryEngine())
    app, start, ids = App(engine), threading.Barrier(8), list[str]()
    errors: list[BaseException] = []

    def send() -> None:
        start.wait(5)
        try:
            ids.extend(app.send_sync("job", n).id for n in range(20))
        except BaseException as error:  # noqa: BLE001  # shown below
            errors.append(error)

    async def slow(kind: str, _: Any) -> None:
        if kind == "declare":
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.05)

    engine.before = slow
    with app:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    assert not errors
    assert len(set(ids)) == 160
    assert (engine.calls["declare"], engine.calls["close"]) == (1, 1)


def test_a_thread_that_waits_when_the_app_closes_does_not_wait_for_ever() -> None:
    app, errors, waiting = App("memory://"), list[BaseException](), threading.Event()

    def wait() -> None:
        handle = app.send_sync("job")
        waiting.set()
        try:
            handle.result_sync()
        except BaseException as error:  # noqa: BLE001  # shown below
            errors.append(error)

    with app:
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(5)
    thread.join(5)

    assert not thread.is_alive()
    assert len(errors) == 1


def test_an_app_closed_for_sync_callers_opens_again() -> None:
    app = App("memory://")
    for n in range(3):
        with app:
            app.send_sync("job", n)
    with app:
        assert app.sync(app.count()).queues[0].states == {State.READY: 3}
    app.__exit__()


@story
async def test_in_a_loop_the_sync_twins_are_refused() -> None:
    app = App("memory://")

    @app.task
    async def job() -> None: ...

    async with app:
        handle = await job.send()
        for call in (
            job.send_sync,
            lambda: app.send_sync("job"),
            lambda: app.publish_sync("a.b", 1),
            handle.result_sync,
            lambda: app.sync(app.count()),
        ):
            with pytest.raises(
                NotOpen, match="This thread runs an event loop: await the asynchronous method"
            ):
                call()


@story
async def test_a_sync_handler_may_send_and_wait_from_its_thread() -> None:
    app = App("memory://")

    @app.task
    async def inner(n: int) -> int:
        return n + 1

    @app.task
    def outer(n: int) -> int:
        return inner.send_sync(n).result_sync(5) + 10

    async with working(app):
        assert await (await outer.send(1)).result(5) == 12
    await asyncio.to_thread(app.__exit__)


@story
async def test_errors_come_through_the_portal_as_they_are() -> None:
    app = App("memory://")

    def use() -> None:
        with app, pytest.raises(TaskNotFound):
            app.handle("nobody").result_sync(1)

    await asyncio.to_thread(use)


@story
async def test_two_apps_in_one_process_are_two_worlds() -> None:
    one, two = App("memory://"), App("memory://")
    async with one, two:
        handle: Handle[Any] = await one.send("job")
        assert (await one.handle(handle.id).status()).state is State.READY
        with pytest.raises(TaskNotFound):
            await two.handle(handle.id).status()


@story
async def test_a_task_that_is_deleted_while_it_is_waited_for_is_not_waited_for_for_ever() -> None:
    app = App("memory://")

    @app.task
    async def job() -> None: ...

    async with app:
        handle = await job.send()
        waiting = asyncio.get_running_loop().create_task(handle.result())
        await app.steer(Selector(ids=(handle.id,)), Delete())

        with pytest.raises(TaskNotFound, match=r"was deleted while its result was waited for|No task"):
            await waiting


@story
async def test_results_are_waited_for_without_polling_hard() -> None:
    engine = Spied(MemoryEngine())
    app = App(engine)

    @app.task
    async def job() -> None: ...

    async with app:
        handle = await job.send()
        waiting = asyncio.get_running_loop().create_task(handle.result())
        await eventually(lambda: engine.calls["find"] >= 2)
        await asyncio.wait([waiting], timeout=0.1)
        looks = engine.calls["find"]
        waiting.cancel()
        await asyncio.wait([waiting])

    assert looks <= 4


@pytest.mark.parametrize("kind", ["memory", "sqlite", "sqlite, another process's worker"])
@story
async def test_the_ends_of_others_are_no_reason_to_look(kind: str, tmp_path: Path) -> None:
    inner = MemoryEngine() if kind == "memory" else SqliteEngine(tmp_path / "x.db")
    engine, go = Spied(inner), asyncio.Event()

    def declared(app: App) -> App:
        @app.task
        async def held() -> int:
            await go.wait()
            return 7

        @app.task
        async def job(n: int) -> None: ...

        return app

    asking = declared(App(engine))
    at_work = declared(App(SqliteEngine(tmp_path / "x.db"))) if "another" in kind else asking
    async with asking, working(at_work), asyncio.TaskGroup() as group:
        waiting = group.create_task((await asking.send("held")).result(30))
        await eventually(lambda: engine.calls["find"] >= 3)
        before = engine.calls["find"]
        for n in range(100):
            await asking.send("job", n)
            await eventually(partial(ended, at_work, n + 1))
        looks = engine.calls["find"] - before
        go.set()
        assert await waiting == 7

    assert looks < 50, "for other reasons once a second"


async def ended(app: App, number: int) -> bool:
    counts = await app.count()
    return sum(queue.states.get(State.SUCCEEDED, 0) for queue in counts.queues) >= number


def test_a_sync_call_that_a_close_in_another_thread_cuts_off_says_that_its_outcome_is_unknown() -> None:
    app = App("memory://")
    begun = threading.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(lambda: app.sync(endless()))
        assert begun.wait(10)
        app.__exit__()

        with pytest.raises(OutcomeUnknown, match="closed in another thread"):
            calling.result(10)


def test_a_script_that_sends_and_just_ends_ends_quietly(tmp_path: Path) -> None:
    script = "import forebay; print(forebay.App('sqlite:///x.db').send_sync('job', 1).id)"

    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )

    assert (ran.returncode, ran.stderr, len(ran.stdout.split())) == (0, "", 1)
