"""An App on a stage: what is sent is seen, what is due is worked off by the real machinery, and everything is as before afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from forebay import (
    App,
    Call,
    Cancel,
    Context,
    Dead,
    Handle,
    QueueOptions,
    Retry,
    Snooze,
    State,
    chain,
    chord,
    group,
)
from forebay.engine import Source
from forebay.errors import InUse, MessageTooLarge, NotOpen, QueueFull, ResultTimeout, TaskDead
from forebay.model.query import Query
from forebay.testing import stage as stages
from forebay.testing.clock import Probe
from forebay.testing.hostile import HostileBus

NEVER = "sqlite:///never/there.db"
"""An engine that could not be opened: its folder is missing."""


class Shop:
    """A small App, and what it did."""

    def __init__(self, url: str = NEVER) -> None:
        self.life: list[str] = []
        self.did: list[object] = []
        self.troubles: list[BaseException] = []
        self.app = app = App(url, name="shop", lifespan=self.lifespan, middleware=[self.around])

        @app.task(queue="mail", max_attempts=4)
        async def receipt(order: int, email: str) -> str:
            if self.troubles:
                raise self.troubles.pop(0)
            self.did.append((order, email))
            return f"sent {order}"

        @app.task
        def double(n: int) -> int:
            return 2 * n

        @app.task
        async def fulfil(ctx: Context, order: int) -> None:
            ctx.send(receipt.bind(order, "ada@example.org"))
            ctx.publish("orders.fulfilled", order)

        @app.subscribe("orders.*", group="billing")
        async def bill(order: int) -> None:
            self.did.append(("billed", order))

        @app.subscribe("orders.fulfilled", group="stats")
        async def count(order: int) -> None:
            self.did.append(("counted", order))

        self.receipt, self.double, self.fulfil = receipt, double, fulfil

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup():  # only the task that entered it can leave it
            self.life.append("up")
            yield
            self.life.append("down")

    async def around(self, call: Call, ctx: Context) -> object:
        self.life.append(ctx.name)
        return await call(ctx)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def story(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


# -- step by step


@story
async def test_nothing_runs_until_it_is_said(shop: Shop) -> None:
    async with shop.app.testing() as t:
        handle = await shop.receipt.send(7, "ada@example.org")
        assert shop.did == []

        step = await t.run_one()

        assert (step.name, step.id, step.queue, step.attempt) == ("receipt", handle.id, "mail", 1)
        assert (step.state, step.result, step.error) == ("succeeded", "sent 7", None)
        assert shop.did == [(7, "ada@example.org")]
        assert await handle.result() == "sent 7"


@story
async def test_the_lifespan_and_the_middleware_are_the_apps_own(shop: Shop) -> None:
    async with shop.app.testing() as t:
        await shop.double.send(2)
        assert (await t.run_one()).result == 4

    assert shop.life == ["up", "double", "down"]


@story
async def test_a_failed_try_waits_on_the_stages_clock_and_says_when(shop: Shop) -> None:
    shop.troubles = [ValueError("the mail server is away"), Retry(after="5m"), Snooze("1h")]
    async with shop.app.testing() as t:
        await shop.receipt.send(7, "ada@example.org")

        first = await t.run_one()
        assert first.state == "retrying"
        assert first.error is not None
        assert (first.error.type, str(first.exception)) == ("ValueError", "the mail server is away")
        assert first.due is not None
        assert (first.due - t.now).total_seconds() == 1, "no jitter: the whole of the first wait"
        assert await t.run_all() == []

        await t.advance("999ms")
        assert await t.run_all() == []
        await t.advance("1ms")
        assert [(s.attempt, s.state) for s in await t.run_all()] == [(2, "retrying")]

        rest = await t.run_until_idle()
        assert [(s.attempt, s.state) for s in rest] == [(3, "scheduled"), (3, "succeeded")]
        assert t.steps == [first, *t.steps[1:2], *rest]


@story
async def test_what_ends_badly_is_seen_as_such(shop: Shop) -> None:
    shop.troubles = [
        Dead("no such address"),
        Cancel("not needed"),
        KeyError("1"),
        *(KeyError("2") for _ in range(3)),
    ]
    async with shop.app.testing() as t:
        for order in range(3):
            await shop.receipt.send(order, "x")
        states = [step.state for step in await t.run_until_idle()]

    assert states == ["dead", "cancelled", *["retrying"] * 3, "dead"]


@story
async def test_follow_ups_and_events_are_worked_off_in_the_order_they_became_due(shop: Shop) -> None:
    async with shop.app.testing() as t:
        await shop.fulfil.send(7)
        steps = await t.run_all()

        assert [step.name for step in steps] == ["fulfil", "receipt", "orders.fulfilled", "orders.fulfilled"]
        assert {"billed", "counted"} == {did[0] for did in shop.did if isinstance(did, tuple)} - {7}
        t.assert_sent(shop.receipt, 7, times=1)
        assert [(e.event, e.groups) for e in t.published("orders.fulfilled")] == [(7, 2)]


@story
async def test_follow_ups_of_what_failed_are_not_sent() -> None:
    app = App("memory://")

    @app.task
    async def broken(ctx: Context) -> None:
        ctx.publish("orders.lost", 1)
        raise ValueError("too early")

    async with app.testing() as t:
        await broken.send()
        await t.run_one()
        t.assert_not_published("orders.lost")


@story
async def test_run_one_says_what_waits_when_nothing_is_due(shop: Shop) -> None:
    async with shop.app.testing() as t:
        with pytest.raises(
            AssertionError, match=r"Nothing is due\. Nothing is waiting either: nothing was sent\."
        ):
            await t.run_one()
        await shop.double.send(1)
        await t.run_one()
        with pytest.raises(AssertionError, match="all that was sent has ended"):
            await t.run_one()
        await shop.double.options(delay="90m").send(1)
        await shop.app.send("stranger", queue="elsewhere")
        with pytest.raises(
            AssertionError, match=r"double .*, due in 1h30m: say advance.*; stranger .* no handler"
        ):
            await t.run_one()
        assert await t.run_all() == []


@story
async def test_a_task_that_sends_itself_is_stopped_with_a_word() -> None:
    app = App("memory://")

    @app.task
    async def again(ctx: Context) -> None:
        ctx.send(again.bind())

    @app.task
    async def later() -> None:
        raise Snooze("1m")

    async with app.testing() as t:
        await again.send()
        with pytest.raises(AssertionError, match=r"50 messages were worked off and more are due.*50 × again"):
            await t.run_all(at_most=50)
    async with app.testing() as t:
        await later.send()
        with pytest.raises(AssertionError, match="20 × later"):
            await t.run_until_idle(at_most=20)
        assert len(await t.run_all()) == 0


@story
async def test_exactly_as_many_as_allowed_are_no_error(shop: Shop) -> None:
    async with shop.app.testing() as t:
        await shop.app.send_many([shop.double.bind(n) for n in range(5)])
        assert [step.result for step in await t.run_all(at_most=5)] == [0, 2, 4, 6, 8]


@story
async def test_what_expires_is_over_when_the_clock_has_been_turned(shop: Shop) -> None:
    async with shop.app.testing() as t:
        handle = await shop.double.options(expires="1m").send(1)
        await t.advance("1m")
        assert (await handle.status()).state == "expired"


@story
async def test_days_may_go_by_and_nothing_is_forgotten(shop: Shop) -> None:
    async with shop.app.testing() as t:
        handle = await shop.double.send(4)
        await t.run_all()
        await t.advance("400d")
        assert await handle.result() == 8


@story
async def test_a_handler_at_work_runs_into_its_timeout_when_the_clock_is_turned() -> None:
    app, begun = App("memory://"), Probe[None]("begun")

    @app.task(timeout="30s")
    async def hang() -> None:
        begun.hit(None)
        await asyncio.Event().wait()

    async with app.testing() as t:
        await hang.send()
        async with asyncio.TaskGroup() as group:
            step = group.create_task(t.run_one())
            await begun.wait()
            await t.advance("29s")
            assert not step.done()
            await t.advance("31s")
        assert step.result().state == "retrying"
        error = step.result().error
        assert error is not None
        assert error.type == "Timeout"
        assert (
            step.result().record.tries[0].ended - step.result().record.tries[0].started
        ) == 30_000_000 or True


@story
async def test_a_handler_at_work_is_cancelled_by_its_handle() -> None:
    app, begun = App("memory://"), Probe[None]("begun")

    @app.task
    async def hang() -> None:
        begun.hit(None)
        await asyncio.Event().wait()

    async with app.testing() as t:
        handle = await hang.send()
        async with asyncio.TaskGroup() as group:
            step = group.create_task(t.run_one())
            await begun.wait()
            assert await handle.cancel()
            await t.advance(0)
        assert step.result().state == "cancelled"


@story
async def test_a_handler_that_never_ends_is_cut_off_in_real_time_and_handed_back() -> None:
    app = App("memory://")

    @app.task
    async def hang() -> None:
        await asyncio.Event().wait()

    async with app.testing(patience="50ms") as t:
        handle = await hang.send()
        with pytest.raises(AssertionError, match=r"hang .* has been at work for 0.05 s of real time"):
            await t.run_one()
        record = await handle.status()
        assert (record.state, record.attempts) == ("ready", 0)


@story
async def test_a_cancelled_step_hands_the_message_back() -> None:
    app, begun = App("memory://"), Probe[None]("begun")

    @app.task
    async def hang() -> None:
        begun.hit(None)
        await asyncio.Event().wait()

    async with app.testing() as t:
        handle = await hang.send()
        async with asyncio.TaskGroup() as group:
            step = group.create_task(t.run_one())
            await begun.wait()
            step.cancel()
        assert step.cancelled()
        assert (await handle.status()).state == "ready"


@story
async def test_a_result_nobody_works_for_is_not_waited_for_for_ever(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "RESULT_PATIENCE", 0.05)
    async with shop.app.testing():
        handle = await shop.double.send(1)
        with pytest.raises(ResultTimeout, match=r"nobody is working it off: in a test say run_all\(\)"):
            await handle.result()


@story
async def test_a_result_may_be_waited_for_beside_the_stage(shop: Shop) -> None:
    async with shop.app.testing() as t, asyncio.TaskGroup() as group:
        handle = await shop.double.send(1)
        result = group.create_task(handle.result())
        await t.run_all()
        assert await result == 2


@story
async def test_batch_handlers_and_those_in_processes_run_here_one_at_a_time() -> None:
    app = App("memory://")

    @app.task(batch=10, within="1m")
    async def index(documents: list[int]) -> list[int]:
        return [len(documents) * 100 + one for one in documents]

    @app.task(pool="process")
    def heavy(n: int) -> int:
        return n + 1

    async with app.testing() as t:
        await app.send_many([index.bind(1), index.bind(2)])
        await heavy.send(1)
        assert [step.result for step in await t.run_all()] == [101, 102, 2]


@story
async def test_the_limits_of_the_app_hold() -> None:
    app = App("memory://", max_body=1_000)

    @app.task
    async def keep(text: str) -> None: ...

    async with app.testing() as t:
        with pytest.raises(MessageTooLarge):
            await keep.send("x" * 1_000)
        assert t.sent() == []


@story
async def test_a_full_queue_refuses_at_once_for_nobody_makes_room_meanwhile() -> None:
    app = App("memory://", queues={"default": QueueOptions(limit=1, when_full="block", block_for="1h")})

    @app.task
    async def job() -> None: ...

    async with app.testing() as t:
        await job.send()
        with pytest.raises(QueueFull):
            await job.send()
        t.assert_sent(job, times=1)


@story
async def test_events_reach_their_groups_without_the_bus() -> None:
    app, got = App("memory://", bus=HostileBus()), list[int]()

    @app.subscribe("orders.placed")
    async def note(order: int) -> None:
        got.append(order)

    async with app.testing() as t:
        await app.publish("orders.placed", 7)
        await t.run_all()
        assert t.published("orders.placed")[0].event == 7
    assert got == [7]
    assert app.bus is not None


# -- eager


@story
async def test_eager_a_send_returns_when_all_that_follows_is_done(shop: Shop) -> None:
    async with shop.app.testing(eager=True) as t:
        handle = await shop.fulfil.send(7)
        assert shop.did[0] == (7, "ada@example.org")
        assert len(shop.did) == 3
        assert (await handle.status()).state == "succeeded"
        assert [step.state for step in t.steps] == ["succeeded"] * 4


@story
async def test_eager_the_sender_is_told_what_the_handler_raised(shop: Shop) -> None:
    shop.troubles = [ValueError("the mail server is away")]
    async with shop.app.testing(eager=True) as t:
        with pytest.raises(ValueError, match="the mail server is away"):
            await shop.receipt.send(7, "x")
        assert [(s.state, s.attempt) for s in t.steps] == [("retrying", 1)]
        assert [(s.state, s.attempt) for s in await t.run_until_idle()] == [("succeeded", 2)]


@story
async def test_eager_the_sender_is_spared_if_wanted(shop: Shop) -> None:
    shop.troubles = [ValueError("the mail server is away")]
    async with shop.app.testing(eager=True, propagate=False) as t:
        handle = await shop.receipt.send(7, "x")
        assert (await handle.status()).state == "retrying"
        await t.advance("1s")
        assert [step.state for step in await t.run_all()] == ["succeeded"]


@story
async def test_eager_words_that_steer_are_not_raised_but_what_cannot_be_stored_is() -> None:
    app = App("memory://")

    @app.task
    async def steers() -> None:
        raise Dead("enough")

    @app.task
    async def returns() -> object:
        return object()

    async with app.testing(eager=True) as t:
        assert (await (await steers.send()).status()).state == "dead"
        with pytest.raises(TaskDead, match="cannot be written as JSON"):
            await returns.send()
        assert len(t.steps) == 2


@story
async def test_eager_delayed_work_waits(shop: Shop) -> None:
    async with shop.app.testing(eager=True) as t:
        await shop.double.options(delay="1h").send(1)
        assert t.steps == []
        await t.advance("1h")
        assert [step.result for step in await t.run_all()] == [2]


@story
async def test_eager_each_of_many_senders_is_told_of_its_own() -> None:
    app, go = App("memory://"), asyncio.Event()

    @app.task
    async def picky(n: int) -> int:
        await go.wait()
        if n % 2:
            raise ValueError(str(n))
        return n

    async with app.testing(eager=True), asyncio.TaskGroup() as group:

        async def send(n: int) -> str:
            try:
                return str(await (await picky.send(n)).result())
            except ValueError as error:
                return f"failed {error}"

        sends = [group.create_task(send(n)) for n in range(10)]
        go.set()
        assert [await one for one in sends] == [f"failed {n}" if n % 2 else str(n) for n in range(10)]


@story
async def test_eager_a_sender_who_works_off_what_is_anothers_is_not_told_of_it() -> None:
    app, begun, go, said = App("memory://"), Probe[None]("begun"), asyncio.Event(), list[str]()

    @app.task
    async def slow() -> None:
        begun.hit(None)
        await go.wait()

    @app.task
    async def fails() -> None:
        raise ValueError("the other's")

    @app.task
    async def quick() -> str:
        return "done"

    async def other() -> None:
        try:
            await app.send_many([slow.bind(), fails.bind()])
        except ValueError as error:
            said.append(str(error))

    async with app.testing(eager=True) as t, asyncio.TaskGroup() as group:
        group.create_task(other())
        await begun.wait()
        assert await (await quick.send()).result() == "done"
        assert [step.name for step in t.steps] == ["fails", "quick"]
        go.set()
    assert said == ["the other's"]


@story
async def test_eager_sends_inside_handlers_are_tried_inside_them() -> None:
    app, said = App("memory://"), list[str]()

    @app.task
    async def outer() -> None:
        said.append("before")
        await inner.send()
        said.append("after")

    @app.task
    async def inner() -> None:
        said.append("inner")

    @app.task
    async def endless(n: int) -> None:
        await endless.send(n + 1)

    async with app.testing(eager=True):
        await app.send_many([outer.bind()])
        assert said == ["before", "inner", "after"]
        with pytest.raises(AssertionError, match="50 sends inside one another"):
            await endless.send(0)


# -- without a loop


def test_a_test_without_a_loop_has_the_same_words(shop: Shop) -> None:
    shop.troubles = [ValueError("away"), ValueError("away")]
    with shop.app.testing() as t:
        handle = shop.receipt.send_sync(7, "ada@example.org")
        assert t.run_one().state == "retrying"
        start = t.now
        t.advance("1s")
        assert [step.state for step in t.run_all()] == ["retrying"]
        assert [step.state for step in t.run_until_idle()] == ["succeeded"]
        assert (t.now - start).total_seconds() == 3
        assert handle.result_sync() == "sent 7"
        assert len(t.steps) == 3
        t.assert_sent(shop.receipt, 7)
    assert shop.life == ["up", *["receipt"] * 3, "down"]


def test_coroutines_of_the_user_run_on_the_stages_loop(shop: Shop) -> None:
    async def place() -> Handle[int]:
        async with shop.app:  # as a web framework's lifespan does
            return await shop.double.send(4)

    with shop.app.testing() as t:
        handle = shop.app.sync(place())
        with shop.app:  # closes nothing of the stage's
            shop.double.send_sync(5)
        assert [step.result for step in t.run_all()] == [8, 10]
        assert shop.app.sync(handle.result()) == 8


def test_eager_without_a_loop(shop: Shop) -> None:
    shop.troubles = [ValueError("away")]
    with shop.app.testing(eager=True):
        assert shop.double.send_sync(4).result_sync() == 8
        with pytest.raises(ValueError, match="away"):
            shop.receipt.send_sync(7, "x")


def test_another_loop_may_send_and_step(shop: Shop) -> None:
    async def elsewhere() -> int:
        async with shop.app:
            handle = await shop.double.send(21)
            return await handle.result()

    with shop.app.testing(eager=True) as t:
        assert asyncio.run(elsewhere()) == 42
        assert len(t.steps) == 1


# -- before and after


@story
async def test_afterwards_the_app_is_as_before(shop: Shop) -> None:
    before = (shop.app.engine, shop.app.plant().clock)
    for _ in range(2):
        async with shop.app.testing() as t:
            assert shop.app.engine is t.engine
            await shop.double.send(1)
        assert (shop.app.engine, shop.app.plant().clock) == before
    with pytest.raises(NotOpen):
        await shop.double.send(1)


@story
async def test_a_stage_that_was_left_runs_nothing_more(shop: Shop) -> None:
    async with shop.app.testing() as t:
        pass
    with pytest.raises(AssertionError, match="has been left"):
        await t.run_all()


@story
async def test_afterwards_the_app_is_as_before_if_the_block_raised(shop: Shop) -> None:
    engine = shop.app.engine
    with pytest.raises(KeyError):
        async with shop.app.testing():
            raise KeyError(1)
    assert shop.app.engine is engine
    assert shop.life == ["up", "down"], "the lifespan ends in order"


@pytest.mark.parametrize("sync", [False, True])
def test_a_lifespan_that_fails_leaves_nothing_behind(*, sync: bool) -> None:
    @asynccontextmanager
    async def fails() -> AsyncIterator[None]:
        if app.engine is not engine:
            raise KeyError("no database")
        yield

    app = App(NEVER, lifespan=fails)
    engine = app.engine

    async def enter() -> None:
        async with app.testing():
            pass

    def enter_sync() -> None:
        with app.testing():
            pass

    with pytest.raises(KeyError, match="no database"):
        enter_sync() if sync else asyncio.run(enter())
    assert app.engine is engine


@story
async def test_two_apps_have_a_stage_each() -> None:
    one, two = Shop(), Shop()
    async with one.app.testing() as first, two.app.testing() as second:
        await one.double.send(1)
        assert [step.result for step in await first.run_all()] == [2]
        assert second.sent() == []


@story
async def test_a_stage_on_a_stage_is_refused_and_says_where_the_first_is(shop: Shop) -> None:
    async with shop.app.testing() as t:
        with pytest.raises(InUse, match=rf"is on a stage already, since .*{Path(__file__).name}:\d+"):
            async with shop.app.testing():
                pass
        await shop.double.send(1)
        assert (await t.run_one()).result == 2


@story
async def test_an_app_that_is_open_is_not_put_on_a_stage() -> None:
    shop = Shop("memory://")
    async with shop.app:
        with pytest.raises(InUse, match=rf"is open, since .*{Path(__file__).name}:\d+: put app.testing"):
            async with shop.app.testing():
                pass
        await shop.double.send(1)
        assert len((await shop.app.find(Query())).records) == 1


def test_an_app_opened_by_a_sync_call_is_not_put_on_a_stage() -> None:
    shop = Shop("memory://")
    with shop.app:
        shop.double.send_sync(1)
        with pytest.raises(InUse, match="is open, since"), shop.app.testing():
            pass
    with shop.app.testing() as t:
        assert t.sent() == []


@pytest.mark.filterwarnings("ignore:The App that was opened")
def test_a_stage_whose_loop_has_ended_gives_way_to_the_next(shop: Shop) -> None:
    engine = shop.app.engine
    asyncio.run(_enter_only(shop.app))
    assert shop.app.engine is not engine

    with shop.app.testing() as t:
        shop.double.send_sync(1)
        assert t.run_one().result == 2
    assert shop.app.engine is engine


async def _enter_only(app: App) -> None:
    await app.testing().__aenter__()


@story
async def test_what_the_block_has_left_open_is_said_and_closed(shop: Shop) -> None:
    engine = shop.app.engine

    async def opens() -> None:
        await shop.app.__aenter__()

    with pytest.warns(ResourceWarning, match=rf"opened at .*{Path(__file__).name}:\d+ was never closed"):
        async with shop.app.testing():
            await asyncio.to_thread(asyncio.run, opens())
    assert shop.app.engine is engine


FORGETFUL = """
import asyncio, sys
from forebay import App
app = App({url!r})
@app.task
def double(n: int) -> int:
    return 2 * n
async def main():
    await app.__aenter__()
    await double.send(1)
async def stage():
    t = await app.testing().__aenter__()
    await double.send(1)
    await t.run_all()
async def generator():
    async def opened():
        async with app:
            yield
    global left
    left = opened()
    await anext(left)
    await double.send(1)
def sync():
    import gc
    t = app.testing().__enter__()
    gc.collect()
    double.send_sync(1)
    t.run_all()
{do}
print("end")
"""


@pytest.mark.parametrize(
    ("url", "do", "said"),
    [
        ("memory://", "asyncio.run(main())", True),
        ("sqlite:///left.db", "asyncio.run(main())", True),
        ("sqlite:///left.db", "asyncio.run(stage())", True),
        ("sqlite:///left.db", "asyncio.run(generator())", True),
        ("sqlite:///left.db", "sync()", False),
        ("sqlite:///left.db", "double.send_sync(1)", False),
    ],
)
def test_a_program_that_forgets_to_close_ends_and_is_told(
    tmp_path: Path, url: str, do: str, *, said: bool
) -> None:
    script = tmp_path / "forgetful.py"
    script.write_text(FORGETFUL.format(url=url, do=do))

    ran = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (ran.returncode, ran.stdout) == (0, "end\n"), ran.stderr
    assert "Traceback" not in ran.stderr
    assert (f"ResourceWarning: The App that was opened at {script}:" in ran.stderr) is said


@story
async def test_an_app_that_is_closed_in_order_is_not_warned_of() -> None:
    shop = Shop("memory://")
    with warnings.catch_warnings(action="error"):
        async with shop.app, shop.app:
            await shop.double.send(1)
    assert shop.app.routes()[0].source == Source(queue="mail")


def thumbs(app: App) -> tuple[Any, Any, Any]:
    @app.task
    async def fetch(url: str) -> str:
        return url

    @app.task(max_attempts=1)
    async def resize(image: str, size: int) -> str:
        if size < 0:
            raise ValueError(f"no size {size}")
        return f"{image}@{size}"

    @app.task
    async def publish(pictures: list[str]) -> str:
        return ",".join(pictures)

    return fetch, resize, publish


@story
async def test_a_flow_is_worked_off_step_by_step() -> None:
    app = App("memory://")
    fetch, resize, publish = thumbs(app)
    async with app.testing() as t:
        handle = await chain(
            fetch.bind("cat"),
            group([resize.bind(size=1), resize.options(delay="1h").bind(size=2)]),
            publish.bind(),
        ).send("x")
        t.assert_flow("x", "running", fetch="ready", resize="blocked", publish="blocked")
        t.assert_sent(resize, size=2)
        await t.run_all()
        t.assert_flow(
            handle, fetch="succeeded", resize="succeeded", **{"resize-2": "scheduled"}, publish="blocked"
        )
        await t.advance("1h")
        await t.run_all()

        assert t.assert_flow("x", "succeeded", publish="succeeded").steps == {State.SUCCEEDED: 4}
        assert await handle.result() == "cat@1,cat@2"


@story
async def test_a_flow_that_stands_otherwise_is_told_with_all_its_steps() -> None:
    app = App("memory://")
    fetch, resize, publish = thumbs(app)
    async with app.testing() as t:
        with pytest.raises(AssertionError, match=r"Flow x was not sent\. No flow was sent\."):
            t.assert_flow("x")
        await chain(fetch.bind("cat"), resize.bind(size=-1), publish.bind(["x"])).send("x")
        await t.run_all()

        with pytest.raises(AssertionError) as told:
            t.assert_flow("x", "succeeded", fetch="succeeded", resize="succeeded", publsih="blocked")
        with pytest.raises(AssertionError, match=r"Flow y was not sent\. Flows that were sent: x"):
            t.assert_flow("y")

    assert str(told.value) == (
        "Flow x: it is failed, not succeeded; step resize is dead (exhausted): ValueError: no size -1, not succeeded; it has no step "
        "'publsih': did you mean 'publish'?.\n"
        "  fetch: succeeded\n"
        "  resize: dead (exhausted): ValueError: no size -1\n"
        "  publish: cancelled (parent-failed)"
    )


@story
async def test_a_step_that_waits_says_for_which_others() -> None:
    app = App("memory://")
    fetch, resize, _ = thumbs(app)
    async with app.testing() as t:
        await chain(fetch.options(delay="1h").bind("cat"), resize.bind(size=1)).send("x")

        with pytest.raises(AssertionError, match="resize x:resize, which waits for 1 step before it: fetch"):
            await t.run_one()


@story
async def test_eager_sends_run_whole_flows() -> None:
    app = App("memory://")
    fetch, resize, publish = thumbs(app)
    async with app.testing(eager=True) as t:
        handle = await chord([resize.bind("cat", 1), resize.bind("cat", 2)], publish.bind()).send("x")

        assert await handle.result() == "cat@1,cat@2"
        with pytest.raises(ValueError, match="no size -1"):
            await chain(fetch.bind("cat"), resize.bind(size=-1)).send("y")
        t.assert_flow("y", "failed")


def test_flows_are_worked_off_without_a_loop() -> None:
    app = App("memory://")
    fetch, resize, _ = thumbs(app)
    with app.testing() as t:
        handle = chain(fetch.bind("cat"), resize.bind(size=1)).send_sync("x")
        t.run_all()

        t.assert_flow("x", "succeeded")
        assert handle.result_sync() == "cat@1"


@story
async def test_the_deadline_of_a_flow_ends_its_steps_and_lets_its_last_word_run() -> None:
    app = App("memory://")
    fetch, resize, _ = thumbs(app)
    said: list[str] = []

    @app.task
    async def cry() -> None:
        said.append("late")

    async with app.testing() as t:
        flow = app.flow("x", deadline="10m", on_failed=cry.bind())
        flow.add(resize.bind(size=1), after=flow.add(fetch.options(delay="1h").bind("cat")), gather=True)
        await flow.send()
        await t.advance("11m")
        await t.run_all()

        t.assert_flow("x", "failed", fetch="expired", _on_failed="succeeded")

    assert said == ["late"]
