"""Durable steps in a handler: what was saved is not run again, what cannot be is said, and a handler that waits leaves its slot."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ParamSpec
from uuid import uuid4

import pytest

from forebay import App, Context, QueueOptions, Retry, Snooze, State, Task, WorkerOptions
from forebay.errors import (
    EngineUnavailable,
    InvalidName,
    InvalidOption,
    OutcomeUnknown,
    StepRefused,
)
from forebay.model.query import CancelNow, Redrive, Selector
from forebay.model.saved import LARGEST_STEP, MOST_STEPS
from forebay.model.verdict import Reason
from forebay.model.why import why
from forebay.stores.memory import MemoryEngine
from forebay.stores.memory.upkeep import hand_back
from forebay.testing.hostile import HostileBus
from forebay.testing.stage import Step
from tests.runtime.kit import Spied, reaches, story, working

P = ParamSpec("P")
Handler = Callable[[Context], Awaitable[Any]]


@dataclass
class Order:
    id: int
    placed: datetime
    total: Decimal


@dataclass
class Approval:
    by: str


async def tries(handler: Handler, *more: Handler, advance: str | None = None) -> list[Step]:
    """Try one message with one handler after the other, as if code were changed in between; the last goes on until it is over."""
    app, codes = App("memory://"), iter((handler, *more))
    code = [next(codes)]

    @app.task(max_attempts=5)
    async def job(ctx: Context) -> object:
        return await code[0](ctx)

    async with app.testing() as t:
        await job.send()
        while (step := await t.run_one()).state is not State.SUCCEEDED and step.state is not State.DEAD:
            code[0] = next(codes, code[0])
            await t.advance(advance or "1h")
        return t.steps


def error_of(steps: list[Step]) -> str:
    error = steps[-1].error
    assert error is not None
    return f"{error.type}: {error.message}"


class Recorder:
    """Functions that count their calls, and fail as often as they are told to."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.failures = Counter[str]()

    async def do(self, what: str) -> str:
        self.calls[what] += 1
        if self.failures[what]:
            self.failures[what] -= 1
            raise ConnectionError(what)
        return f"{what} done"

    def plainly(self, what: str) -> str:
        self.calls[what] += 1
        return f"{what} done in {threading.current_thread().name}"


# -- results


@story
async def test_what_was_saved_is_not_run_again() -> None:
    record = Recorder()
    record.failures["ship"] = 2

    async def handler(ctx: Context) -> list[str]:
        return [await ctx.step("charge", record.do, "charge"), await ctx.step("ship", record.do, what="ship")]

    steps = await tries(handler)

    assert [step.state for step in steps] == [State.RETRYING, State.RETRYING, State.SUCCEEDED]
    assert steps[-1].result == ["charge done", "ship done"]
    assert record.calls == {"charge": 1, "ship": 3}


@story
async def test_a_plain_function_is_called_in_a_thread() -> None:
    record = Recorder()

    async def handler(ctx: Context) -> str:
        return await ctx.step("work", record.plainly, "work")

    steps = await tries(handler)

    assert steps[-1].result.startswith("work done in forebay-handler")


@story
async def test_a_result_has_the_type_that_is_annotated_at_every_try() -> None:
    seen: list[object] = []
    order = Order(7, datetime(2030, 1, 1, tzinfo=UTC), Decimal("9.90"))

    async def load() -> Order:
        return order

    async def tags() -> tuple[str, set[int]]:
        return "a", {1, 2}

    async def nothing() -> None:
        return None

    async def handler(ctx: Context) -> None:
        seen.append(
            [await ctx.step("load", load), await ctx.step("tags", tags), await ctx.step("none", nothing)]
        )
        if len(seen) < 2:
            raise Retry

    await tries(handler)

    assert seen == [[order, ("a", {1, 2}), None]] * 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime(2030, 1, 1, tzinfo=UTC), "annotate what the function returns"),
        ({1: "a"}, "would be seen as {'1': 'a'}"),
        (object(), "cannot be written as JSON"),
        (float("nan"), "JSON has no NaN"),
        (lambda: None, "cannot be written as JSON"),
        ("x" * LARGEST_STEP, f"the limit is {LARGEST_STEP:,}"),
    ],
)
@story
async def test_what_would_not_be_read_as_it_was_returned_is_refused(value: Any, said: str) -> None:
    async def handler(ctx: Context) -> None:
        with suppress(StepRefused):  # swallowed, and no help
            await ctx.step("give", lambda: value)

    steps = await tries(handler)

    assert [step.state for step in steps] == [State.DEAD]
    assert steps[-1].record.reason is Reason.STEPS
    assert error_of(steps).startswith("StepRefused")
    assert said in error_of(steps)


@story
async def test_what_is_not_as_annotated_is_refused() -> None:
    async def count() -> int:
        return "many"  # type: ignore[return-value]  # what a test plants

    async def handler(ctx: Context) -> None:
        await ctx.step("count", count)

    assert "not what is annotated" in error_of(await tries(handler))


@story
async def test_a_message_has_a_thousand_steps_at_most() -> None:
    ran = Counter[int]()

    async def handler(ctx: Context) -> None:
        for n in range(MOST_STEPS + 1):
            await ctx.step("count", lambda n: ran.update([n]), n)

    steps = await tries(handler)

    assert steps[-1].record.reason is Reason.STEPS
    assert "a message has 1,000 steps at most" in error_of(steps)
    assert len(ran) == MOST_STEPS


@story
async def test_a_step_that_raises_is_run_again_wherever_that_is_caught() -> None:
    record = Recorder()
    record.failures["a"] = 1

    async def handler(ctx: Context) -> list[str | None]:
        found: list[str | None] = []
        for name in ("a", "b"):
            try:
                found.append(await ctx.step(name, record.do, name))
            except ConnectionError:
                found.append(None)
        if ctx.attempt == 1:
            raise Retry
        return found

    steps = await tries(handler)

    assert steps[-1].result == ["a done", "b done"]
    assert record.calls == {"a": 2, "b": 1}


@story
async def test_a_name_may_be_used_again_one_after_the_other() -> None:
    record = Recorder()

    async def handler(ctx: Context) -> list[str]:
        found = [await ctx.step("page", record.do, f"page {n}") for n in range(3)]
        if ctx.attempt == 1:
            raise Retry
        return found

    steps = await tries(handler)

    assert steps[-1].result == ["page 0 done", "page 1 done", "page 2 done"]
    assert set(record.calls.values()) == {1}


@pytest.mark.parametrize("raised", [True, False])
@story
async def test_a_word_that_steers_is_for_the_handler(raised: bool) -> None:
    async def later() -> object:
        word = Snooze("5m")
        if raised:
            raise word
        return word

    async def handler(ctx: Context) -> None:
        await ctx.step("later", later)

    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> None:
        await handler(ctx)

    async with app.testing() as t:
        await job.send()
        step = await t.run_one()
        assert (step.state, step.due) == (State.SCHEDULED, t.now + timedelta(minutes=5))


@story
async def test_a_step_that_is_asked_for_too_late_is_told_so() -> None:
    app, left = App("memory://"), list[Context]()

    @app.task
    async def job(ctx: Context) -> None:
        left.append(ctx)

    async with app.testing() as t:
        await job.send()
        await t.run_one()
        with pytest.raises(InvalidOption, match="is over"):
            await left[0].step("late", uuid4)


# -- what the code may and may not do


@pytest.mark.parametrize(
    "call", [lambda ctx: ctx.step("not a name", uuid4), lambda ctx: ctx.step("_ours", uuid4)]
)
@story
async def test_a_step_has_a_name(call: Handler) -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidName):
            await call(ctx)

    assert (await tries(handler))[-1].state is State.SUCCEEDED


@pytest.mark.parametrize("function", [7, None, "charge", uuid4()])
@story
async def test_a_step_is_given_a_function(function: Any) -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidOption, match="Step 'a' takes a function and its arguments"):
            await ctx.step("a", function)
        with pytest.raises(InvalidOption, match="takes a function"):
            await anext(aiter(ctx.step_map("a", function, [1])))

    assert (await tries(handler))[-1].state is State.SUCCEEDED


@story
async def test_a_step_is_not_given_a_coroutine_which_could_not_run_again() -> None:
    async def charge() -> None: ...

    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidOption, match="takes a function"):
            await ctx.step("a", charge())  # type: ignore[call-overload]  # what is tried

    assert (await tries(handler))[-1].state is State.SUCCEEDED


@story
async def test_a_step_may_have_arguments_of_any_name() -> None:
    def plain(function: str, self: str) -> str:
        return f"{function} {self}"

    async def handler(ctx: Context) -> str:
        return await ctx.step("a", plain, function="f", self="s")

    assert (await tries(handler))[-1].result == "f s"


@story
async def test_events_of_our_own_are_not_for_others() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> None:
        with pytest.raises(InvalidName, match="is reserved"):
            await ctx.wait_event("_flows.over", key="order-7", timeout="1d")
        with pytest.raises(InvalidName, match="is reserved"):
            ctx.publish("_flows.over", None, key="order-7")

    async with app.testing() as t:
        await job.send()
        assert (await t.run_one()).state is State.SUCCEEDED
        with pytest.raises(InvalidName, match="is reserved"):
            await app.publish("_flows.over", None, key="order-7")
        with pytest.raises(InvalidName, match="is reserved"):
            app.flow("other").wait_for("_flows.over", key="order-7", timeout="1d")


@pytest.mark.parametrize("key", ["", 7, "\ud800", "a\0b", "k" * 201])
@story
async def test_an_event_that_nobody_could_publish_is_not_waited_for(key: Any) -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidOption, match="key must be Unicode text of 1 to 200 characters"):
            await ctx.wait_event("approvals", key=key, timeout="1d")

    assert (await tries(handler))[-1].state is State.SUCCEEDED
    with pytest.raises(InvalidOption, match="key must be Unicode text of 1 to 200 characters"):
        App("memory://").flow("order-7").wait_for("approvals", key=key, timeout="1d")


@story
async def test_the_key_of_an_event_is_text() -> None:
    async def handler(ctx: Context) -> None:
        for key in (42, "", "\ud800"):
            with pytest.raises(InvalidOption, match="key must be Unicode text"):
                await ctx.wait_event("paid", key=key, timeout="1d")  # type: ignore[arg-type]  # refused

    assert (await tries(handler))[-1].state is State.SUCCEEDED


@story
async def test_steps_do_not_nest() -> None:
    async def handler(ctx: Context) -> str:
        async def outer() -> str:
            with pytest.raises(InvalidOption, match="steps do not nest"):
                await ctx.step("inner", uuid4)
            return "outer"

        return await ctx.step("outer", outer)

    assert (await tries(handler))[-1].result == "outer"


@story
async def test_steps_beside_others_are_known_by_their_names() -> None:
    record = Recorder()
    record.failures["b2"] = 1

    async def handler(ctx: Context) -> list[str]:
        async def branch(name: str) -> str:
            first = await ctx.step(f"{name}1", record.do, f"{name}1")
            return first + ", " + await ctx.step(f"{name}2", record.do, f"{name}2")

        names = "abc" if ctx.attempt == 1 else "cba"
        async with asyncio.TaskGroup() as group:
            branches = [group.create_task(branch(name)) for name in names]
        return sorted(branch.result() for branch in branches)

    steps = await tries(handler)

    assert steps[-1].result == [f"{n}1 done, {n}2 done" for n in "abc"]
    assert record.calls["b2"] == 2
    assert all(record.calls[f"{n}1"] == 1 for n in "abc")


@story
async def test_a_name_is_used_once_beside_others() -> None:
    async def handler(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(2):
                group.create_task(ctx.step("same", lambda n: n, n))

    steps = await tries(handler)

    assert steps[-1].error is not None
    assert "a name of its own" in str(steps[-1].exception.exceptions[0])  # type: ignore[union-attr]  # a group


# -- code that changes


async def _fails(ctx: Context) -> None:
    await ctx.step("a", lambda: 1)
    await ctx.step("b", lambda: 2)
    raise Retry


async def _renamed(ctx: Context) -> None:
    with suppress(Exception):
        await ctx.step("a", lambda: 1)
        await ctx.step("c", lambda: 2)


async def _moved(ctx: Context) -> None:
    await ctx.step("b", lambda: 2)


async def _inserted(ctx: Context) -> None:
    await ctx.step("a", lambda: 1)
    await ctx.step("new", lambda: 0)
    await ctx.step("b", lambda: 2)


async def _of_another_kind(ctx: Context) -> None:
    await ctx.step("a", lambda: 1)
    await ctx.sleep("1s", name="b")


async def _mapped(ctx: Context) -> None:
    async for _ in ctx.step_map("a", lambda n: n, [1]):
        pass


async def _of_another_type(ctx: Context) -> None:
    def words() -> list[str]:
        return []

    await ctx.step("a", words)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (_renamed, "as call 2, step 'b' was saved, and this code asks for step 'c' there"),
        (_moved, "step 'b' was saved as call 2, and this code makes it call 1"),
        (_inserted, "as call 2, step 'b' was saved, and this code asks for step 'new' there"),
        (_of_another_kind, "'b' was saved as a step, and this code asks for a sleep"),
        (_mapped, "as call 1, step 'a' was saved, and this code"),
        (_of_another_type, "what was saved of 'a' is not what this code expects"),
    ],
)
@story
async def test_other_code_than_what_began_a_message_is_told_so(changed: Handler, said: str) -> None:
    steps = await tries(_fails, changed)

    assert [step.state for step in steps] == [State.RETRYING, State.DEAD]
    assert steps[-1].record.reason is Reason.STEPS
    assert said in error_of(steps)


@story
async def test_after_the_right_code_is_back_a_retry_goes_on() -> None:
    app, code = App("memory://"), list[Handler]([_fails])

    @app.task
    async def job(ctx: Context) -> object:
        return await code[0](ctx)

    async def good(ctx: Context) -> int:
        return await ctx.step("a", _never) + await ctx.step("b", _never)

    async with app.testing() as t:
        await job.send()
        await t.run_one()
        code[0] = _moved
        await t.advance("1h")
        assert (await t.run_one()).state is State.DEAD
        code[0] = good
        await app.steer(Selector(), Redrive())
        assert (await t.run_one()).result == 3


def _never() -> int:
    raise AssertionError("it was saved")


@story
async def test_a_version_tells_new_messages_from_those_begun_before() -> None:
    way = list[object]()

    async def new(ctx: Context) -> None:
        await ctx.step("a", lambda: 1)
        if await ctx.version("mail"):
            way.append(await ctx.step("mail", lambda: "mailed"))
        await ctx.step("b", lambda: 2)
        if ctx.attempt < 3:
            raise Retry

    await tries(_fails, new)
    assert way == [], "what began without it goes on without it"

    await tries(new)
    assert way == ["mailed"] * 3, "what began with it goes on with it"


@story
async def test_a_version_is_true_where_nothing_was_saved_after_it() -> None:
    async def began(ctx: Context) -> None:
        await ctx.step("a", lambda: 1)
        raise Retry

    async def new(ctx: Context) -> bool:
        await ctx.step("a", lambda: 1)
        return await ctx.version("v2")

    assert (await tries(began, new))[-1].result is True


@story
async def test_a_version_says_the_same_throughout_a_try() -> None:
    said = list[bool]()

    async def new(ctx: Context) -> None:
        said.append(await ctx.version("v2"))
        await ctx.step("a", lambda: 1)
        await ctx.step("b", lambda: 2)
        said.append(await ctx.version("v2"))

    await tries(_fails, new)

    assert said == [False, False]


@story
async def test_a_version_is_not_asked_for_beside_others() -> None:
    async def handler(ctx: Context) -> None:
        async def branch() -> None:
            with pytest.raises(InvalidOption, match="beside other steps"):
                await ctx.version("v2")

        async with asyncio.TaskGroup() as group:
            group.create_task(branch())

    assert (await tries(handler))[-1].state is State.SUCCEEDED


@story
async def test_a_version_that_is_not_awaited_says_so() -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidOption, match=r"if await ctx\.version"):
            bool(ctx.version("v2"))

    assert (await tries(handler))[-1].state is State.SUCCEEDED


# -- maps


@story
async def test_a_map_gives_results_in_the_order_of_its_items() -> None:
    record, gate = Recorder(), asyncio.Event()

    async def work(n: int) -> int:
        record.calls["running"] += 1
        record.calls["most"] = max(record.calls["most"], record.calls["running"])
        if n == 0:
            await gate.wait()
        elif n == 2:
            gate.set()
        record.calls["running"] -= 1
        return n * n

    async def handler(ctx: Context) -> list[int]:
        return [square async for square in ctx.step_map("square", work, range(10), concurrency=3)]

    steps = await tries(handler)

    assert steps[-1].result == [n * n for n in range(10)]
    assert 2 <= record.calls["most"] <= 3


@story
async def test_a_map_goes_on_with_what_is_not_saved() -> None:
    calls, failing = Counter[int](), [3]

    async def work(n: int) -> int:
        calls[n] += 1
        if n in failing:
            failing.remove(n)
            raise ConnectionError(n)
        return n

    async def handler(ctx: Context) -> list[int]:
        found = [n async for n in ctx.step_map("work", work, range(8), concurrency=4)]
        return [*found, await ctx.step("last", lambda: 100)]

    steps = await tries(handler)

    assert steps[0].error is not None
    assert steps[0].error.type == "ConnectionError"
    assert steps[-1].result == [*range(8), 100]
    assert calls == {n: 2 if n == 3 else 1 for n in range(8)}


@story
async def test_a_map_that_is_left_early_leaves_nothing_running() -> None:
    ended = list[int]()

    async def work(n: int) -> int:
        try:
            if n:
                await asyncio.Event().wait()
        finally:
            ended.append(n)
        return n

    async def handler(ctx: Context) -> int:
        numbers: AsyncIterator[int] = ctx.step_map("work", work, range(5), concurrency=5)
        async for n in numbers:
            return n
        return -1

    steps = await tries(handler)

    assert steps[-1].result == 0
    assert sorted(ended) == [0, 1, 2, 3, 4]


@story
async def test_a_map_of_too_many_items_runs_none_of_them() -> None:
    record = Recorder()

    async def handler(ctx: Context) -> None:
        async for _ in ctx.step_map("work", record.do, [str(n) for n in range(MOST_STEPS + 1)]):
            pass

    steps = await tries(handler)

    assert "maps 1,001 items" in error_of(steps)
    assert not record.calls


@pytest.mark.parametrize("concurrency", [0, 1_001, 2.5, "4", True])
@story
async def test_a_map_is_bounded(concurrency: Any) -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidOption, match="concurrency must be 1 to 1,000"):
            async for _ in ctx.step_map("work", str, [1], concurrency=concurrency):
                pass

    assert (await tries(handler))[-1].state is State.SUCCEEDED


# -- sleeping


async def _sleeper(ctx: Context) -> str:
    await ctx.sleep("2d")
    return "awake"


async def _swallows(ctx: Context) -> str:
    try:
        await ctx.sleep("2d")
    except BaseException:  # noqa: BLE001  # what careless code does
        return "never slept"
    return "awake"


async def _sleeps_in_a_group(ctx: Context) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.sleep("2d"))
        group.create_task(ctx.sleep("3d", name="longer"))
    return "awake"


@pytest.mark.parametrize("handler", [_sleeper, _swallows, _sleeps_in_a_group])
@story
async def test_a_sleep_leaves_the_slot_and_spends_no_attempt(handler: Handler) -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> object:
        return await handler(ctx)

    async with app.testing() as t:
        sent = t.now
        await job.send()
        step = await t.run_one()
        assert (step.state, step.due) == (State.SCHEDULED, sent + timedelta(days=2))
        assert step.record.attempts == 0
        await t.advance("47h")
        assert await t.run_all() == []
        last = (await t.run_until_idle())[-1]
        assert (last.result, last.attempt) == ("awake", 1)


@story
async def test_a_sleep_ends_at_the_moment_that_was_fixed_first() -> None:
    record = Recorder()

    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> str:
        record.calls["tries"] += 1
        await ctx.sleep("10m")
        return "awake"

    async with app.testing() as t:
        await job.send()
        began = t.now
        await t.run_one()
        await t.advance("4m")
        await app.steer(Selector(), Redrive())
        assert (await t.run_one()).due == began + timedelta(minutes=10), "retried early, it sleeps on"
        await t.advance("6m")
        assert (await t.run_one()).result == "awake"
    assert record.calls["tries"] == 3


@story
async def test_a_sleep_counts_from_when_it_is_asked_for() -> None:
    app = App("memory://")
    asked = asyncio.Event()

    @app.task
    async def job(ctx: Context) -> None:
        if await ctx.step("first", lambda: True):
            asked.set()
        await app.plant().clock.sleep(120_000_000)
        await ctx.sleep("10m")

    async with app.testing() as t:
        await job.send()
        async with asyncio.TaskGroup() as group:
            trying = group.create_task(t.run_one())
            await asked.wait()
            await t.advance("2m")
        assert trying.result().due == t.now + timedelta(minutes=10)


@story
async def test_a_sleep_past_the_deadline_is_not_begun() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> None:
        await ctx.sleep("2d")

    async with app.testing() as t:
        await job.options(deadline="1d").send()
        step = await t.run_one()
        assert (step.state, step.record.reason) == (State.DEAD, Reason.DEADLINE)


@story
async def test_what_sleeps_can_be_cancelled() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> None:
        await ctx.sleep("2d")

    async with app.testing() as t:
        handle = await job.send()
        await t.run_one()
        await app.steer(Selector(), CancelNow())
        assert (await handle.status()).state is State.CANCELLED


@story
async def test_steps_beside_a_sleep_end_before_the_try_does() -> None:
    record = Recorder()

    async def slowly() -> str:
        for _ in range(5):
            await asyncio.sleep(0)  # noqa: TID251  # stands for work
        return await record.do("slow")

    async def handler(ctx: Context) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep("1h"))
            slow = group.create_task(_two(ctx, slowly))
        return slow.result()

    async def _two(ctx: Context, work: Callable[[], Awaitable[str]]) -> str:
        await ctx.step("first", work)
        return await ctx.step("second", work)

    steps = await tries(handler, advance="1h")

    assert [step.state for step in steps] == [State.SCHEDULED, State.SUCCEEDED]
    assert record.calls["slow"] == 2, "each once"


@story
async def test_a_short_sleep_is_slept_in_place() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> int:
        await ctx.sleep("20ms")
        return ctx.attempt

    async with working(app):
        handle = await job.send()
        assert await handle.result(timeout=5) == 1
        assert len((await handle.status()).tries) == 1


@pytest.mark.parametrize(
    ("rule", "tried"),
    [(QueueOptions(concurrency=1), 2), (QueueOptions(per_key=1), 2), (QueueOptions(ordered=True), 1)],
)
@story
async def test_what_sleeps_takes_no_place_and_keeps_its_order(rule: QueueOptions, tried: int) -> None:
    app = App("memory://", queues={"mail": rule})

    @app.task(queue="mail")
    async def job(ctx: Context, number: int) -> int:
        await ctx.sleep("2d")
        return number

    async with app.testing() as t:
        for number in range(2):
            await job.options(key="k").send(number)
        assert [step.state for step in await t.run_all()] == [State.SCHEDULED] * tried
        steps = await t.run_until_idle()
        assert [step.result for step in steps if step.state is State.SUCCEEDED] == [0, 1]


@story
async def test_what_sleeps_expires_like_others_that_wait() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> None:
        await ctx.sleep("2d")

    async with app.testing() as t:
        handle = await job.options(expires="1d").send()
        await t.run_all()
        await t.advance("1d")
        assert (await handle.status()).state is State.EXPIRED


# -- events


def _approving(url: str = "memory://") -> tuple[App, Task[[int], str, Any, Any]]:
    app = App(url)

    @app.task
    async def order(ctx: Context, number: int) -> str:
        await ctx.step("reserve", lambda: number)
        try:
            said = await ctx.wait_event("approvals", key=str(number), timeout="3d", type=Approval)
        except TimeoutError as error:
            return str(error)
        return f"{said.by} approved {number}"

    return app, order


@story
async def test_an_event_ends_the_wait_for_it() -> None:
    app, order = _approving()
    async with app.testing() as t:
        await order.send(7)
        await order.send(8)
        waiting = await t.run_all()
        assert [step.state for step in waiting] == [State.SCHEDULED, State.SCHEDULED]
        assert (
            why(waiting[0].record)
            == "waits for an event on 'approvals' with key '7' until 2030-01-04 00:00:00Z"
        )

        await app.publish("approvals", Approval("ana"), key="8")

        assert [step.result for step in await t.run_all()] == ["ana approved 8"]
        await t.advance("3d")
        (last,) = await t.run_all()
        assert last.result == "no event came on 'approvals' within the time of step 'approvals'"
        assert last.attempt == 1


@story
async def test_a_worker_goes_on_when_the_event_comes(tmp_path: Path) -> None:
    app, order = _approving(f"sqlite:///{tmp_path / 'events.db'}")
    async with working(app):
        handle = await order.send(7)
        await reaches(handle, State.SCHEDULED)
        await app.publish("approvals", Approval("ana"), key="7")
        assert await handle.result(timeout=5) == "ana approved 7"
        record = await handle.status()
    assert [one.verdict for one in record.tries] == ["snooze", "done"]


@story
async def test_a_wait_that_timed_out_has_timed_out_at_every_try() -> None:
    app, seen = App("memory://"), list[str]()

    @app.task
    async def job(ctx: Context) -> None:
        try:
            seen.append(await ctx.wait_event("late", timeout="1h"))
        except TimeoutError:
            seen.append("timed out")
        if ctx.attempt == 1:
            raise Retry

    async with app.testing() as t:
        await job.send()
        await t.run_one()
        await t.advance("1h")
        await t.run_one()
        await app.publish("late", "too late")
        await t.run_until_idle()
    assert seen == ["timed out", "timed out"]


@story
async def test_the_first_of_several_events_goes_on() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> list[str]:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(ctx.wait_event(name, timeout="1d")) for name in ("a", "b")]
        return [wait.result() for wait in waits]

    async with app.testing() as t:
        await job.send()
        await t.run_all()
        await app.publish("b", "second")
        assert [step.state for step in await t.run_all()] == [State.SCHEDULED]
        await app.publish("a", "first")
        assert [step.result for step in await t.run_all()] == [["first", "second"]]


@story
async def test_an_event_of_another_form_is_refused() -> None:
    app, order = _approving()
    async with app.testing() as t:
        await order.send(7)
        await t.run_all()
        await app.publish("approvals", {"no": "name"}, key="7")
        (step,) = await t.run_all()
        assert step.record.reason is Reason.STEPS
        assert "the event that step 'approvals' waited for cannot be read" in step.error.message  # type: ignore[union-attr]  # dead


@story
async def test_raw_events_come_as_bytes() -> None:
    app = App("memory://")

    @app.task
    async def job(ctx: Context) -> list[bytes]:
        first = await ctx.wait_event("raw", timeout="1d")
        return [first, await ctx.wait_event("raw", timeout="1d", type=bytes, name="second")]

    async with app.testing() as t:
        await job.send()
        await t.run_all()
        await app.publish("raw", b"\xff")
        await t.run_all()
        await app.publish("raw", {"a": 1})
        (step,) = await t.run_all()
        assert step.error is None


@story
async def test_a_stage_says_what_is_waited_for() -> None:
    app, order = _approving()
    async with app.testing() as t:
        await order.send(7)
        await t.run_all()
        with pytest.raises(
            AssertionError, match=r"say app.publish\('approvals', ..., key='7'\), or advance\(\)"
        ):
            await t.run_one()


@story
async def test_an_event_from_the_bus_wakes_who_waits_for_it() -> None:
    bus = HostileBus()
    app = App("memory://", bus=bus)
    heard, got = asyncio.Event(), list[str]()

    @app.subscribe("approvals")
    async def hear(approval: Approval) -> None:
        heard.set()

    @app.task
    async def order(ctx: Context) -> None:
        got.append((await ctx.wait_event("approvals", key="7", timeout="1h", type=Approval)).by)

    async with working(app):
        handle = await order.send()
        await reaches(handle, State.SCHEDULED)
        await app.publish("approvals", Approval("ana"), key="7")
        await handle.result(timeout=5)
        await heard.wait()
    assert got == ["ana"]


@story
async def test_a_deadline_ends_a_wait() -> None:
    app, order = _approving()
    async with app.testing() as t:
        await order.options(deadline="1h").send(7)
        step = await t.run_one()
        assert (step.state, step.due) == (State.SCHEDULED, t.now + timedelta(hours=1))
        await t.advance("1h")
        step = await t.run_one()
        assert (step.state, step.record.reason) == (State.DEAD, Reason.DEADLINE)


# -- plain functions


@story
async def test_a_plain_handler_has_steps_too() -> None:
    app, record = App("memory://"), Recorder()

    @app.task(backoff="1ms", backoff_cap="1ms")
    def job(ctx: Context) -> list[str]:
        found = [ctx.step_sync("a", record.plainly, "a"), ctx.step_sync("b", record.do, "b")]
        if ctx.version_sync("v2"):
            ctx.sleep_sync("10ms")
        if ctx.attempt == 1:
            raise Retry
        return found

    async with working(app):
        first, second = await (await job.send()).result(timeout=5)
    assert first.startswith("a done in forebay-handler")
    assert second == "b done"
    assert record.calls == {"a": 1, "b": 1}


@story
async def test_a_plain_handler_that_sleeps_leaves_its_thread() -> None:
    app = App("memory://")

    @app.task
    def job(ctx: Context) -> str:
        ctx.sleep_sync("2d")
        return "awake"

    async with app.testing() as t:
        await job.send()
        assert (await t.run_one()).state is State.SCHEDULED
        assert (await t.run_until_idle())[-1].result == "awake"


@story
async def test_a_coroutine_is_told_to_await() -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidOption, match=r"await ctx\.step"):
            ctx.step_sync("a", uuid4)

    assert (await tries(handler))[-1].state is State.SUCCEEDED


@story
async def test_a_plain_handler_is_told_that_a_loop_of_its_own_has_no_steps() -> None:
    app = App("memory://")

    @app.task
    def job(ctx: Context) -> None:
        for call in (lambda: ctx.step("a", uuid4), lambda: ctx.version("v2"), lambda: ctx.sleep("1d")):
            with pytest.raises(InvalidOption, match=r"ctx\.step_sync\(\)"):
                asyncio.run(_awaited(call()))

    async with app.testing() as t:
        await job.send()
        assert (await t.run_one()).state is State.SUCCEEDED


async def _awaited(call: Awaitable[object]) -> None:
    await call


@story
async def test_a_thread_that_was_cut_off_keeps_what_it_did() -> None:
    app, record, gate = App("memory://"), Recorder(), threading.Event()
    went_on = list[int]()

    def slow() -> str:
        gate.wait(5)
        return record.plainly("slow")

    @app.task(timeout="30ms", backoff="1ms", backoff_cap="1ms")
    async def job(ctx: Context) -> str:
        threading.Timer(0.1, gate.set).start()
        done = await ctx.step("slow", slow)
        went_on.append(ctx.attempt)
        return done

    async with working(app):
        handle = await job.send()
        assert (await handle.result(timeout=5)).startswith("slow done")
    assert record.calls["slow"] == 1
    assert went_on == [2], "the first try ended when its time was up"


@story
async def test_a_worker_that_stops_hands_back_what_goes_on_elsewhere(tmp_path: Path) -> None:
    url, record, at_work = f"sqlite:///{tmp_path / 'stop.db'}", Recorder(), asyncio.Event()

    def shop() -> tuple[App, Task[[], list[str], Any, Any]]:
        app = App(url)

        @app.task
        async def job(ctx: Context) -> list[str]:
            return [await ctx.step("charge", record.do, "charge"), await ctx.step("ship", ship)]

        return app, job

    async def ship() -> str:
        at_work.set()
        if record.calls["ship"] == 0:
            record.calls["ship"] += 1
            await asyncio.Event().wait()
        return "shipped"

    app, job = shop()
    async with working(app, WorkerOptions(stop_within=1)) as worker:
        handle = await job.send()
        await at_work.wait()
        worker.stop()
        await reaches(handle, State.READY)
    app, _ = shop()
    async with working(app):
        record_of = await app.handle(handle.id).status()
        assert await app.handle(handle.id).result(timeout=5) == ["charge done", "shipped"]
    assert record_of.releases == 1
    assert record.calls["charge"] == 1


# -- where there can be none


@story
async def test_a_batch_has_no_steps() -> None:
    app = App("memory://")

    @app.task(batch=2, within=0, max_attempts=1)
    async def job(contexts: list[Context], items: list[int]) -> None:
        await contexts[0].step("a", uuid4)

    async with app.testing() as t:
        await job.send(1)
        step = await t.run_one()
        assert step.error is not None
        assert "takes batches, and steps are of one message" in step.error.message


@story
async def test_a_bare_bus_has_no_steps() -> None:
    app, said = App(HostileBus()), list[str]()
    done = asyncio.Event()

    @app.task
    async def job(ctx: Context) -> None:
        try:
            await ctx.step("a", uuid4)
        except Exception as error:  # noqa: BLE001  # what it says is asserted
            said.append(f"{type(error).__name__}: {error}")
        done.set()

    async with working(app):
        await job.send()
        await done.wait()
    assert said[0].startswith("Unsupported: job: steps are kept in a store, and there is none here")


# -- the engine


@pytest.mark.parametrize("error", [EngineUnavailable("away"), OutcomeUnknown("cut")])
@story
async def test_a_step_waits_for_its_engine(error: Exception) -> None:
    spied, record = Spied(MemoryEngine()), Recorder()
    app, failures = App(spied), {"save": 1, "saved": 1}

    def fault(kind: str, _: Any) -> None:
        if failures.get(kind):
            failures[kind] -= 1
            raise error

    spied.before = spied.after = fault

    @app.task
    async def job(ctx: Context) -> str:
        return await ctx.step("charge", record.do, "charge")

    async with working(app):
        assert await (await job.send()).result(timeout=5) == "charge done"
    assert record.calls == {"charge": 1}
    assert spied.calls["save"] == spied.calls["saved"] == 2


@story
async def test_a_handler_without_steps_asks_its_engine_for_none() -> None:
    spied = Spied(MemoryEngine())
    app = App(spied)

    @app.task
    async def job(ctx: Context) -> int:
        return ctx.attempt

    async with working(app):
        assert await (await job.send()).result(timeout=5) == 1
    assert spied.calls["save"] == spied.calls["saved"] == 0


@story
async def test_a_try_whose_lease_is_lost_ends_with_its_next_step() -> None:
    spied, record, after = Spied(MemoryEngine()), Recorder(), list[str]()
    app = App(spied)

    @app.task
    async def job(ctx: Context) -> str:
        try:
            await ctx.step("charge", record.do, "charge")
        except Exception:  # noqa: BLE001  # it must not be met here
            after.append("swallowed")
        after.append("went on")
        return "done"

    def lose(kind: str, answer: Any) -> None:
        if kind == "receive" and answer and not record.calls["lost"]:
            record.calls["lost"] += 1
            with spied.inner.lock:  # type: ignore[attr-defined]  # the memory engine's
                hand_back(spied.inner.ledger, app.worker().name, 0)  # type: ignore[attr-defined]  # as above

    spied.after = lose
    async with working(app):
        handle = await job.send()
        assert await handle.result(timeout=5) == "done"
    assert after == ["went on"], "only the second try goes on"
    assert record.calls["charge"] == 2
