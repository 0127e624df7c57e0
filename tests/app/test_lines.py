"""Rules of queues as an App says them, and what its workers then do; rates that handlers share."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Context, QueueOptions, State
from forebay.declaring.options import QueueSettings
from forebay.errors import InvalidOption, NameTaken, Unsupported
from forebay.model.rule import Rule, Rules, rate_limit
from forebay.model.when import SECOND
from forebay.testing.clock import VirtualClock, eventually
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import story, working

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'lines.db'}"


class Crowd:
    """How many are at work at once, in all and by key, and the order in which they began."""

    def __init__(self) -> None:
        self.now, self.most, self.began = Counter[str](), Counter[str](), list[tuple[str, int]]()
        self.go = asyncio.Event()

    async def work(self, ctx: Context, n: int) -> None:
        for place in ("all", ctx.key or ""):
            self.now[place] += 1
            self.most[place] = max(self.most[place], self.now[place])
        self.began.append((ctx.key or "", n))
        await asyncio.sleep(0)  # noqa: TID251  # others begin meanwhile, if they may
        await self.go.wait()
        for place in ("all", ctx.key or ""):
            self.now[place] -= 1


async def _over(app: App, number: int) -> None:
    async def enough() -> bool:
        counts = await app.count()
        return sum(one.states.get(State.SUCCEEDED, 0) for one in counts.queues) == number

    await eventually(enough, within=20, what=f"{number} are over")


@story
async def test_no_more_of_a_key_run_at_once_than_the_queue_says(url: str) -> None:
    app, crowd = App(url), Crowd()
    app.queue("mail", per_key=2, concurrency=5)
    app.task(queue="mail", name="work")(crowd.work)
    crowd.go.set()

    async with app:
        for n in range(60):
            await app.named("work").options(key=f"k{n % 3}").send(n)
        async with working(app), working(app):
            await _over(app, 60)

    assert crowd.most["all"] <= 5
    assert {key: most for key, most in crowd.most.items() if key != "all"} == dict.fromkeys(
        ("k0", "k1", "k2"), 2
    )


@story
async def test_those_of_a_key_run_in_order_with_their_retries(url: str) -> None:
    app, done = App(url), list[tuple[str, int]]()
    app.queue("mail", ordered=True)

    @app.task(queue="mail", backoff="1ms", backoff_cap="1ms")
    async def work(ctx: Context, n: int) -> None:
        if n % 3 == 0 and ctx.attempt < 3:
            raise ValueError(n)
        done.append((ctx.key or "", n))

    async with app:
        for n in range(30):
            await work.options(key=f"k{n % 2}").send(n)
        async with working(app), working(app):
            await _over(app, 30)

    for key in ("k0", "k1"):
        assert [n for k, n in done if k == key] == [n for n in range(30) if f"k{n % 2}" == key]


@story
async def test_a_task_runs_no_more_at_once_than_it_says(url: str) -> None:
    app, crowd = App(url), Crowd()
    app.task(queue="mail", name="work", max_running=2)(crowd.work)
    crowd.go.set()

    async with app:
        await app.send_many([app.named("work").bind(n) for n in range(30)])
        async with working(app), working(app):
            await _over(app, 30)

    assert crowd.most["all"] == 2


@story
async def test_what_is_said_while_it_runs_holds_at_once_and_until_it_is_taken_back(url: str) -> None:
    app, crowd = App(url), Crowd()
    app.queue("mail", concurrency=1, rate="1000/s")
    app.task(queue="mail", name="work")(crowd.work)

    async with app, working(app):
        await app.send_many([app.named("work").bind(n) for n in range(9)])
        await eventually(lambda: crowd.now["all"] == 1, what="one runs")

        assert await app.set_queue("mail", concurrency=3)

        await eventually(lambda: crowd.now["all"] == 3, what="three run")
        assert not await app.set_queue("mail", concurrency=3)
        (queue,) = (await app.count()).queues
        assert queue.rules == Rules(Rule(rate=rate_limit("1000/s", "rate"), concurrency=3))
        assert await app.reset_queue("mail", "concurrency")
        assert not await app.reset_queue("mail")
        (queue,) = (await app.count()).queues
        assert queue.rules.rule.concurrency == 1
        crowd.go.set()
        await _over(app, 9)

    assert crowd.most["all"] == 3


@story
async def test_a_handler_waits_for_its_turn_in_place_if_it_comes_soon() -> None:
    clock = VirtualClock()
    app, began = App("memory://", clock=clock), list[int]()

    @app.task
    async def call(ctx: Context) -> None:
        await ctx.limit("stripe", "1/s")
        began.append(clock.now())

    async with app, working(app):
        for _ in range(3):
            await call.send()
        await eventually(lambda: len(began) == 1, what="the first has its turn")
        await eventually(lambda: clock.waiting > 1, what="the others wait in place")
        await clock.advance(SECOND)
        await eventually(lambda: len(began) == 2, what="the second has its turn")
        await clock.advance(SECOND)
        await eventually(lambda: len(began) == 3, what="the third has its turn")

    assert began[2] - began[0] == 2 * SECOND


@story
async def test_a_handler_whose_turn_comes_late_is_put_off_and_spends_no_attempt() -> None:
    clock = VirtualClock()
    app = App("memory://", clock=clock)

    @app.task
    async def call(ctx: Context) -> int:
        await ctx.limit("stripe", "1/min", wait="1s")
        return ctx.attempt

    async with app, working(app):
        first, second = await call.send(), await call.send()

        async def put_off() -> bool:
            states = [(await handle.status()).state for handle in (first, second)]
            return sorted(states) == [State.SCHEDULED, State.SUCCEEDED]

        await eventually(put_off, what="one has its turn, and one is put off")
        await clock.advance(60 * SECOND)
        assert {await first.result(), await second.result()} == {1}


@story
async def test_a_plain_function_shares_a_rate(url: str) -> None:
    app = App(url)

    @app.task
    def call(ctx: Context) -> str:
        ctx.limit_sync("stripe", "1000/s")
        return "called"

    async with app, working(app):
        assert await (await call.send()).result(timeout=10) == "called"


@story
async def test_a_rate_that_is_none_makes_a_dead_letter_of_nobody_else(url: str) -> None:
    app = App(url)

    @app.task(max_attempts=1)
    async def call(ctx: Context) -> None:
        await ctx.limit("stripe", "often")

    async with app, working(app):
        handle = await call.send()
        with pytest.raises(Exception, match="must be a rate"):
            await handle.result(timeout=10)


@story
async def test_on_a_stage_limits_turn_by_the_clock_of_the_test() -> None:
    app, done = App("memory://"), list[int]()
    app.queue("mail", rate="1/s")

    @app.task(queue="mail")
    async def work(ctx: Context, n: int) -> None:
        await ctx.limit("stripe", "30/min")
        done.append(n)

    async with app.testing() as t:
        for n in range(4):
            await work.send(n)
        await t.run_all()
        assert done == [0]
        for _ in range(5):
            await t.advance("2s")
            await t.run_all()

    assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"rate": "fast"}, "100/s"), ({"burst": 5}, "goes with rate="), ({"per_key": 0}, "per_key"), ({"concurrency": True}, "concurrency"),
        ({"weights": {"a": 2}}, "fair=True"), ({"fair": True, "weights": {"a": 0}}, "weights"), ({"ordered": "yes"}, "True or False"),
        ({"per_keys": 2}, "did you mean 'per_key'"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_are_refused_where_they_are_said(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidOption, match=word):
        App("memory://").queue("mail", **options)


def test_a_queue_is_declared_once() -> None:
    app = App("memory://", queues={"mail": QueueOptions(rate="5/s")})

    with pytest.raises(NameTaken, match="declared twice"):
        app.queue("mail", per_key=2)


def test_the_keywords_of_a_queue_are_the_fields_of_its_options() -> None:
    assert set(QueueSettings.__annotations__) == {one.name for one in fields(QueueOptions)}


def test_an_engine_without_rules_refuses_them_where_they_are_said() -> None:
    for options in ({"rate": "5/s"}, {"per_key": 1}, {"concurrency": 2}, {"ordered": True}, {"fair": True}):
        with pytest.raises(Unsupported, match="no rules that hold over all processes"):
            App(HostileBus()).queue("mail", **options)
    with pytest.raises(Unsupported, match="max_running=2"):
        App(HostileBus()).task(max_running=2)(nothing)
    App(HostileBus()).queue("mail", per_process=2, weight=3)


async def nothing() -> None: ...
