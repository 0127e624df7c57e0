"""Calls that must not type-check. Never executed: every line carries the ignores that both checkers need; one too many is an error."""

from __future__ import annotations

from dataclasses import dataclass

from forebay import (
    App,
    Context,
    QueueOptions,
    Retention,
    Retry,
    Timing,
    Unique,
    WorkerOptions,
    chain,
    chord,
    group,
)
from forebay.model.query import Query

app = App("memory://")


@dataclass
class Order:
    id: int


@app.task
async def job(number: int, text: str = "") -> str:
    return text * number


@app.task(queue="mail")
async def with_context(ctx: Context, number: int) -> Order:
    return Order(number + ctx.attempt)


@app.task
def in_a_thread(number: int) -> float:
    return number / 2


async def arguments(ctx: Context) -> None:
    await job.send()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await job.send("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.send(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.send(1, "a", 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await job.send(1, txt="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.send_many([job.bind("1")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.send(job.bind(text="1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.bind("1", 2)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    job.send_sync("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await in_a_thread.send("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job.options(delay=1).send("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await with_context.send(ctx, 1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    await with_context.send(ctx=ctx, number=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await with_context(1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    await job("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def results() -> None:
    number: int = await (await job.send(1)).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    order: str = (await with_context.send(1)).result_sync()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await (await job.send(1)).result(timeout=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (await job.send(1)).id = "x"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


async def message_options() -> None:
    job.options(dealy=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    job.options(delay=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.options(delay=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.options(priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.options(headers={"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    job.options(unique=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.options(unique=False)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.options(debounce=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.task(gather="1m", batch=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.task(gather_max=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Unique(on_conflict="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Unique(states=[7])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await app.publish("a.b", 1, unique=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.publish("a.b", 1, debounce=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    job.options("fast")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.publish("a.b", 1, dealy=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.publish("a.b", 1, key=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.publish("a.b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def follow_ups(ctx: Context) -> None:
    ctx.send(job)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.send(job.send(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.publish("a.b", 1, queue="q")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.publish("a.b", 1)  # type: ignore[misc, func-returns-value]  # pyright: ignore[reportGeneralTypeIssues]
    await app.send_many([1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.attempt = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@app.task(max_atempts=3)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue]
async def misspelt() -> None: ...


@app.task(max_attempts="three")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
async def wrong_type() -> None: ...


@app.task(no_retry_on=ValueError())  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
async def not_a_type() -> None: ...


@app.task("mail")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue, reportArgumentType]
async def by_position() -> None: ...


@app.subscribe("a.b", priority=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
async def has_no_priority(event: int) -> None: ...


@app.subscribe("a.b", timeout=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def wrong_timeout(event: int) -> None: ...


@app.subscribe()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
async def no_topic(event: int) -> None: ...


App(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
App("memory://", nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
App("memory://", queues={"a": 5})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
QueueOptions("5/s")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
QueueOptions(when_full="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(concurrency="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(stop_within=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Timing(lease=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Timing(leese="30s")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Retention(succeeded=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
App("memory://", max_body=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
job.delay(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
Retry(after=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.task(batch=100)
async def index(orders: list[Order]) -> None: ...


@app.task
async def publish(pages: list[str]) -> int:
    return len(pages)


async def flows(ctx: Context) -> None:
    flow = app.flow("x")
    app.flow("x", dedline=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.flow(on_done=job)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.flow(on_failed=publish.bind())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text, number = flow.add(job.bind(1)), flow.add(in_a_thread.bind(1))
    flow.add(job)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    flow.add(publish.bind())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    flow.add(publish.bind(), after=[text])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    flow.add(publish.bind(), after=text, gather=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    flow.add(publish.bind(), after=[number], gather=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    flow.add(job.bind(1), after=text, when="any_faild")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ctx.flow.add(publish.bind())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    chain(job.bind(1), publish.bind())  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
    chord([in_a_thread.bind(1)], publish.bind())  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await chain(publish.bind(), job.bind(1)).send()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    await group([publish.bind()]).send()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    length: str = await (await chain(job.bind(1), job.bind(2), in_a_thread.bind(3)).send()).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    group(job.bind(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def batches() -> None:
    await index.send([Order(1)])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await index(Order(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.task(batch="9")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def testing() -> None:
    app.testing(eager="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with app.testing() as t:
        t.assert_sent(print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await t.run_all(at_most="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        t.assert_published("a", 1, kye="7")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def looks() -> None:
    await app.count(by="name")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await app.survey(Query())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.on_dead(3)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def schedules() -> None:
    app.schedule("@daily", zon="UTC")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.schedule("@daily", catch_up="on")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.schedule(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.schedule("@daily")(len)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    app.every("1h", len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.every([], job.bind(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.put("a", cron=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.put("a", name="b")  # type: ignore[misc]  # pyright: ignore[reportCallIssue]
    await app.schedules.pause("a", until=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def weigh(order: Order) -> float:
    return 1.0


async def durable(ctx: Context) -> None:
    await ctx.step("weigh", weigh, "order")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.step("weigh", weigh)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await ctx.step(weigh, "weigh")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ctx.step_map("weights", weigh, ["order"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.wait_event("paid", key="7")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
