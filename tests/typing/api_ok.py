"""Calls that must type-check. Never executed: mypy and basedpyright read it, with the types they are to find."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from forebay import (
    App,
    BoundTask,
    Call,
    Cancel,
    Context,
    Dead,
    DeadLetter,
    Debounce,
    FlowHandle,
    Handle,
    Node,
    Partial,
    QueueOptions,
    Retention,
    Retry,
    Snooze,
    Subflow,
    Timing,
    Unique,
    WorkerOptions,
    chain,
    chord,
    group,
)
from forebay.engine import Published
from forebay.model.query import (
    Actor,
    By,
    Counts,
    Page,
    Pause,
    Query,
    Selector,
    Steered,
    TaskRecord,
)
from forebay.model.schedule import ScheduleRecord, ScheduleRun
from forebay.model.survey import Audit, Audited, FlowRecord, Group, Presence, Rate, Rates, StepRecord, Workers
from forebay.testing.sent import Sent, SentEvent
from forebay.testing.stage import Stage, Step, SyncStage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Order:
    id: int
    email: str


@asynccontextmanager
async def lifespan() -> AsyncIterator[int]:
    yield 1


async def middleware(call: Call, ctx: Context) -> object:
    return await call(ctx)


app = App(
    "memory://",
    name="shop",
    lifespan=lifespan,
    middleware=[middleware],
    queues={"mail": QueueOptions(per_process=5, weight=2, limit=9, when_full="block", block_for="5s")},
)


@app.task
async def bare(order_id: int, email: str = "") -> str:
    return email * order_id


@app.task(
    name="other", queue="mail", timeout="30s", max_attempts=8, backoff=1.5, backoff_cap=timedelta(hours=1),
    no_retry_on=(ValueError, KeyError), priority=9,
)  # fmt: skip
async def configured(order: Order, *, urgent: bool) -> list[Order]:
    return [order] if urgent else []


@app.task
async def with_context(ctx: Context, order_id: int) -> Order:
    ctx.log.info("at work")
    return Order(order_id + ctx.attempt, ctx.queue)


@app.task(no_retry_on=ValueError)
async def with_context_configured(ctx: Context, *order_ids: int) -> None:
    ctx.send(bare.bind(order_ids[0], "a@example.org"))
    ctx.publish("orders.billed", Order(1, ""), key="7", headers={"a": "b"}, delay="5m")


@app.task
def in_a_thread(number: int) -> float:
    return number / 2


@app.task(queue="math")
def in_a_thread_with_context(ctx: Context, number: int) -> float:
    return number / ctx.attempt


@app.task
async def steers(number: int) -> str | Retry | Snooze | Dead | Cancel:
    return Retry("later", after="5m") if number else "done"


@app.subscribe("orders.placed", group="billing", timeout="1m", max_attempts=3, queue="bills")
async def bill(order: Order, ctx: Context) -> None: ...


@app.subscribe("orders.**")
def audit(order: bytes) -> None: ...


async def sends() -> None:
    assert_type(await bare.send(1), Handle[str])
    assert_type(await bare.send(1, "a"), Handle[str])
    assert_type(await bare.send(order_id=1, email="a"), Handle[str])
    assert_type(await (await bare.send(1)).result(timeout=10), str)
    assert_type(await (await bare.send(1)).result("10s"), str)
    assert_type(await configured.send(Order(1, ""), urgent=True), Handle[list[Order]])
    assert_type(await with_context.send(7), Handle[Order])
    assert_type(await with_context.send(order_id=7), Handle[Order])
    assert_type(await with_context_configured.send(1, 2, 3), Handle[None])
    assert_type(await in_a_thread.send(3), Handle[float])
    assert_type(await in_a_thread_with_context.send(3), Handle[float])
    assert_type(await steers.send(3), Handle[str | Retry | Snooze | Dead | Cancel])
    assert_type(bare.bind(1, email="x"), BoundTask[str])
    assert_type(await app.send_many([bare.bind(n) for n in range(3)]), list[Handle[str]])
    assert_type(await app.send_many(in_a_thread.bind(n) for n in range(3)), list[Handle[float]])
    assert_type(await app.send("bare", 1, "a", queue="mail", anything=object()), Handle[Any])
    assert_type(await app.named("bare", "mail").options(delay=5).send(1, x=2), Handle[Any])
    assert_type(
        await app.publish("orders.placed", Order(1, ""), key="7", delay=timedelta(minutes=1)), Published
    )


@app.task(gather="1m", gather_max=10, gather_wait=5)
async def notify(changes: list[Order]) -> None: ...


@app.task(gather=60)
def count_up(each: list[Context], numbers: list[int]) -> list[int]:
    return numbers


async def groups() -> None:
    assert_type(await notify.options(key="k").send(Order(1, "")), Handle[Any])
    assert_type(await count_up.send(1), Handle[Any])


async def options() -> None:
    quick = bare.options(
        delay="5m", priority=9, unique="k", expires=datetime(2030, 1, 1, tzinfo=UTC), deadline=3600, key="k", headers={"a": "b"}, id="x",
        queue="fast", max_attempts=2, timeout=1.5,
    )  # fmt: skip
    assert_type(await quick.send(1), Handle[str])
    assert_type(await bare.options(unique=True).send(1), Handle[str])
    assert_type(
        await bare.options(unique=Unique(args=["number"], until=3600, on_conflict="reject")).send(1),
        Handle[str],
    )
    assert_type(await bare.options(debounce=Debounce("1s", longest=60)).send(1), Handle[str])
    await bare.options(debounce=1.5, key="k").send(1)
    await bare.options(throttle=timedelta(minutes=1)).send(1)
    assert_type(await with_context.options(delay=1).send(7), Handle[Order])


async def calls() -> None:
    """A task is still its function, for which the context is an ordinary parameter."""
    assert_type(await bare(1, "a"), str)
    assert_type(in_a_thread(3), float)
    assert_type(await configured(Order(1, ""), urgent=False), list[Order])
    await bill(Order(1, ""), context())
    audit(b"")


def context() -> Context: ...  # type: ignore[empty-body]


async def calls_with_context() -> None:
    assert_type(await with_context(context(), 1), Order)
    assert_type(in_a_thread_with_context(context(), 1), float)


async def looks() -> None:
    async with app:
        handle = app.handle("x")
        assert_type(handle, Handle[Any])
        assert_type(await handle.status(), TaskRecord)
        assert_type(await handle.cancel(), bool)
        assert_type(await app.find(Query(size=3)), Page)
        assert_type(await app.count(), Counts)
        assert_type(await app.count(by=By.NAME, which=Selector(queue="mail")), tuple[Group, ...])
        assert_type(await app.survey(Workers()), tuple[Presence, ...])
        assert_type(await app.survey(Rates(queue="mail")), tuple[Rate, ...])
        assert_type(await app.survey(Audit(limit=3)), tuple[Audited, ...])
        assert_type(await app.steer(Selector(), Pause(), by=Actor(name="ana")), Steered)
        await app.worker(
            WorkerOptions(concurrency=10, queues={"mail": 3}, strict=True, stop_within="10s")
        ).run()


@app.on_dead
def page(letter: DeadLetter) -> None:
    assert_type(letter.name, str)


@app.on_dead
async def page_later(letter: DeadLetter) -> None:
    assert_type(letter.attempts, int)


def amounts() -> None:
    timing = Timing(lease="1m", heartbeat=timedelta(seconds=20), sweep=5_000_000)
    kept = Retention(succeeded="1h", cancelled=None, dead=timedelta(days=30))
    App("memory://", timing=timing, retention=kept, max_body="4M")
    assert_type(timing.lease, int)
    assert_type(kept.dead, int | None)


def sync() -> None:
    with app:
        assert_type(bare.send_sync(1), Handle[str])
        assert_type(with_context.send_sync(7).result_sync(10), Order)
        assert_type(app.send_sync("bare", 1), Handle[Any])
        assert_type(app.publish_sync("orders.placed", b""), Published)
        assert_type(app.sync(app.count()), Counts)


@app.task(batch=100, within="1s")
async def index(orders: list[Order]) -> None: ...


@app.task(batch=10)
def insert(contexts: list[Context], rows: list[int]) -> list[object]:
    return [ctx.attempt + row for ctx, row in zip(contexts, rows, strict=True)]


async def batches() -> None:
    await index.send(Order(1, "a"))
    await index([Order(1, "a")])
    handle = await insert.options(delay="5m").send(7)
    assert_type(handle, Handle[Any])


@app.task
async def resize(image: bytes, size: int) -> str:
    return f"{image!r}@{size}"


@app.task
async def download(ctx: Context, url: str) -> bytes:
    ctx.flow.add(resize.bind(b"", 1), name="small")
    return url.encode()


@app.task
async def publish(pages: Sequence[str], *, to: str = "cdn") -> int:
    return len(pages)


@app.task
async def report(numbers: list[int | None]) -> None: ...


async def flows() -> None:
    assert_type(download.bind("a"), BoundTask[bytes])
    assert_type(resize.bind(size=1), Partial[bytes, str])
    assert_type(publish.bind(to="s3"), Partial[Sequence[str], int])
    flow = app.flow("x", deadline="1d", on_done=bare.bind(1), on_failed=bare.bind(2))
    fetch = flow.add(download.bind("a"))
    assert_type(fetch, Node[bytes])
    thumbs = [flow.add(resize.bind(size=size), after=fetch, gather=True) for size in (1, 2)]
    assert_type(thumbs, list[Node[str]])
    published = flow.add(publish.bind(), after=thumbs, gather=True)
    assert_type(published, Node[int])
    flow.add(report.bind(), after=[published], when="all_done", gather=True)
    flow.add(publish.bind(), after=["resize", "resize-2"], gather=True, name="again")
    small = flow.add(group([resize.bind(size=1), resize.bind(size=2)]), after=fetch, gather=True)
    assert_type(small, Node[list[str]])
    assert_type(flow.add(publish.bind(), after=small, gather=True), Node[int])
    assert_type(flow.add(bare.bind(1), after=[fetch, "resize"], when="any_failed"), Node[str])
    assert_type(flow.add(app.flow("y"), after=fetch), Node[Any])
    assert_type(await flow.send(), FlowHandle[Any])
    assert_type(flow.send_sync(), FlowHandle[Any])


async def short_forms(ctx: Context) -> None:
    assert_type(chain(download.bind("a"), resize.bind(size=1)), Subflow[object, str])
    assert_type(chain(resize.bind(size=1), bare.bind(1)), Subflow[bytes, str])
    thumbs = group(resize.bind(size=size) for size in (1, 2))
    assert_type(thumbs, Subflow[bytes, list[str]])
    whole = chain(download.bind("a"), thumbs, publish.bind())
    assert_type(whole, Subflow[object, int])
    assert_type(chord([bare.bind(1), bare.bind(2)], publish.bind()), Subflow[object, int])
    handle = await whole.send("x", deadline="1h")
    assert_type(handle, FlowHandle[int])
    assert_type(await handle.result("1s"), int)
    assert_type(whole.send_sync().result_sync(), int)
    assert_type(await handle.status(), FlowRecord)
    assert_type(await handle.steps(), list[StepRecord])
    assert_type(handle.step("resize"), Handle[Any])
    assert_type(await handle.cancel(), bool)
    assert_type(await handle.retry(), int)
    assert_type(app.flow_handle("x"), FlowHandle[Any])
    ctx.send(whole)
    ctx.send(app.flow("y"))
    assert_type(await ctx.wait_flow(handle, timeout="1h"), int)
    assert_type(ctx.wait_flow_sync(handle, timeout="1h"), int)
    for parent in await ctx.parents():
        assert_type(parent.result(int), int | None)


async def testing() -> None:
    async with app.testing(eager=True, propagate=False, patience="1m") as t:
        assert_type(t, Stage)
        assert_type(await t.run_one(), Step)
        assert_type(await t.run_all(at_most=5), list[Step])
        assert_type(await t.run_until_idle(), list[Step])
        await t.advance(timedelta(hours=1))
        assert_type(t.now, datetime)
        assert_type(t.assert_sent(bare, 7, email="a", times=1, delay="5m"), list[Sent])
        t.assert_not_sent("other", 7)
        assert_type(t.sent(with_context), list[Sent])
        assert_type(t.published("orders.*", Order), list[SentEvent[Order]])
        assert_type(t.published()[0].event, Any)
        t.assert_published("orders.placed", Order(1, "a"), key="7")


def testing_without_a_loop() -> None:
    with app.testing() as t:
        assert_type(t, SyncStage)
        assert_type(t.run_one(), Step)
        assert_type(t.run_all(), list[Step])
        t.advance("5m")
        t.assert_sent(bare)


async def schedules() -> None:
    kept = app.schedule(
        "*/5 * * * *", zone="Europe/Berlin", jitter="20s", catch_up="one", overlap="skip", name="a"
    )(bare.bind(1))
    assert_type(kept, BoundTask[str])
    app.every(
        timedelta(minutes=5),
        bare.bind(2),
        start=datetime(2030, 1, 1, tzinfo=UTC),
        until="2031-01-01T00:00Z",
        name="b",
    )
    app.every("90s", app.named("elsewhere"))
    record = await app.schedules.put("c", cron="@daily", task=bare.bind(3), catch_up="all")
    assert_type(record, ScheduleRecord)
    assert_type(await app.schedules.put("c", every=90, jitter=5, by=Actor(name="ana")), ScheduleRecord)
    assert_type(await app.schedules.list(), tuple[ScheduleRecord, ...])
    assert_type(await app.schedules.get("c"), ScheduleRecord)
    await app.schedules.pause("c", until="2d")
    await app.schedules.pause("c", until=datetime(2030, 1, 1, tzinfo=UTC), by=Actor())
    await app.schedules.resume("c")
    assert_type(await app.schedules.skip("c"), datetime)
    assert_type(await app.schedules.run("c"), Handle[Any])
    assert_type(await app.schedules.next("c", 3), tuple[datetime, ...])
    assert_type(await app.schedules.history("c"), tuple[ScheduleRun, ...])
    await app.schedules.reset("c")
    await app.schedules.remove("c")
    assert_type(app.sync(app.schedules.list()), tuple[ScheduleRecord, ...])


@app.schedule("@hourly")
@app.task(queue="mail")
async def hourly(times: int = 1) -> float:
    return times / 2


async def a_scheduled_task_is_still_its_task() -> None:
    assert_type(await hourly.send(2), Handle[float])


async def charge(order: Order, *, cents: int) -> str:
    return f"{order.id}: {cents}"


def weigh(order: Order) -> float:
    return float(order.id)


async def durable(ctx: Context) -> None:
    assert_type(await ctx.step("charge", charge, Order(1, ""), cents=5), str)
    assert_type(await ctx.step("weigh", weigh, Order(1, "")), float)
    await ctx.step("greet", bare, 1, "a@example.org")
    async for weight in ctx.step_map("weights", weigh, [Order(1, "")], concurrency=3):
        assert_type(weight, float)
    async for receipt in ctx.step_map("lines", bare_line, ["a"]):
        assert_type(receipt, bytes)
    await ctx.sleep("2d")
    await ctx.sleep(datetime(2030, 1, 1, tzinfo=UTC), name="until-then")
    assert_type(await ctx.wait_event("paid", key="7", timeout="3d", type=Order), Order)
    assert_type(await ctx.wait_event("paid", timeout=60), Any)
    if await ctx.version("v2"):
        assert_type(await ctx.version("v2"), bool)
    flow = app.flow("o")
    paid = flow.wait_for("paid", key="7", timeout="2d", type=bytes)
    assert_type(paid, Node[bytes])
    flow.add(resize.bind(size=1), after=paid, gather=True)


async def bare_line(text: str) -> bytes:
    return text.encode()


def durable_in_a_thread(ctx: Context) -> None:
    assert_type(ctx.step_sync("charge", charge, Order(1, ""), cents=5), str)
    assert_type(ctx.step_sync("weigh", weigh, Order(1, "")), float)
    ctx.sleep_sync("2d")
    assert_type(ctx.version_sync("v2"), bool)
