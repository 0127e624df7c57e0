"""Flows at work: results are handed on, failures stop what needs them, steps add steps, and whoever waits for the end is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from forebay import (
    App,
    Call,
    Context,
    Dead,
    FlowHandle,
    QueueOptions,
    WorkerOptions,
    chain,
    chord,
    group,
)
from forebay.client import results
from forebay.engine import EngineOptions
from forebay.errors import (
    EngineUnavailable,
    FlowCancelled,
    FlowFailed,
    FlowNotFound,
    InvalidOption,
    QueueFull,
    ResultTimeout,
    TaskDead,
)
from forebay.features.flows import gathering
from forebay.model.flow import FlowState
from forebay.model.state import State
from forebay.model.survey import Parents
from forebay.model.verdict import Reason
from forebay.stores.memory import MemoryEngine
from forebay.testing.clock import eventually
from tests.runtime import pooled
from tests.runtime.kit import Spied, story, working

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Engine


@dataclass
class Picture:
    url: str
    size: int = 0


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/flows.db"


class Shop:
    """An App with a few tasks, and what they did."""

    def __init__(self, url: str, *, engine: Engine | None = None, **options: Any) -> None:
        self.app = App(engine or url, **options)
        self.calls: list[str] = []
        app, calls = self.app, self.calls

        @app.task
        async def download(url: str) -> Picture:
            calls.append(f"download {url}")
            return Picture(url)

        @app.task
        async def resize(picture: Picture, size: int) -> Picture:
            calls.append(f"resize {size}")
            return Picture(picture.url, size)

        @app.task
        async def publish(pictures: list[Picture]) -> str:
            calls.append("publish")
            return ",".join(f"{one.url}@{one.size}" for one in pictures)

        @app.task(max_attempts=1)
        async def fail(why: str = "no luck") -> Picture:
            calls.append("fail")
            raise ValueError(why)

        @app.task
        async def count(given: list[int | None]) -> int:
            calls.append(f"count {given}")
            return sum(one or 0 for one in given)

        @app.task
        async def one(number: int = 1) -> int:
            calls.append(f"one {number}")
            return number

        @app.task
        async def note(word: str) -> str:
            calls.append(f"note {word}")
            return word

        self.download, self.resize, self.publish = download, resize, publish
        self.fail, self.count, self.one, self.note = fail, count, one, note


@story
async def test_results_are_handed_on_with_the_types_of_the_signatures(url: str) -> None:
    shop = Shop(url)
    flow = shop.app.flow("order-42")
    fetch = flow.add(shop.download.bind("cat"))
    thumbs = [flow.add(shop.resize.bind(size=size), after=fetch, gather=True) for size in (3, 1, 2)]
    flow.add(shop.publish.bind(), after=thumbs, gather=True)
    async with working(shop.app):
        handle = await flow.send()
        result = await handle.result("5s")
        record = await handle.status()

    assert result == "cat@3,cat@1,cat@2"
    assert (record.state, record.steps) == (FlowState.SUCCEEDED, {State.SUCCEEDED: 5})
    assert shop.calls[0] == "download cat"
    assert shop.calls[-1] == "publish"


@story
async def test_short_forms_run_and_their_results_are_typed(url: str) -> None:
    shop = Shop(url)
    async with working(shop.app):
        one = await chain(shop.download.bind("cat"), shop.resize.bind(size=3)).send()
        several = await group([shop.one.bind(n) for n in range(3)]).send()
        closed = await chord([shop.one.bind(n) for n in (4, 5)], shop.count.bind()).send("sums")

        assert await one.result("5s") == Picture("cat", 3)
        assert await several.result("5s") == [0, 1, 2]
        assert await closed.result("5s") == 9
        assert await shop.app.flow_handle("sums").result() == 9


@story
async def test_a_group_of_one_is_a_list_of_one(url: str) -> None:
    shop = Shop(url)
    async with working(shop.app):
        handle = await chord([shop.one.bind(7)], shop.count.bind()).send()

        assert await handle.result("5s") == 7
        assert await (await group([shop.one.bind(8)]).send()).result("5s") == [8]
        assert await (await chain(shop.one.bind(0), group([shop.one.bind(9)])).send()).result("5s") == [9]

    assert shop.calls[:2] == ["one 7", "count [7]"]


@story
async def test_a_failure_cancels_what_needed_it_and_tells_whoever_waits(url: str) -> None:
    shop = Shop(url)
    flow = shop.app.flow("x", on_failed=shop.note.bind("failed"), on_done=shop.note.bind("done"))
    bad = flow.add(shop.fail.bind())
    good = flow.add(shop.one.bind(1))
    flow.add(shop.count.bind(), after=[good], gather=True)
    flow.add(shop.publish.bind(), after=[bad], gather=True)
    flow.add(shop.note.bind("cry"), after=[bad], when="any_failed")
    async with working(shop.app):
        handle = await flow.send()
        with pytest.raises(FlowFailed) as failed:
            await handle.result("5s")
        states = {step.name: (step.state, step.reason) for step in await handle.steps()}

    assert [step.name for step in failed.value.steps] == ["fail"]
    assert failed.value.flow_id == "x"
    assert failed.value.error.message == "no luck"
    assert "step fail is dead (exhausted), attempts 1: ValueError: no luck" in str(failed.value)
    assert states["publish"] == (State.CANCELLED, Reason.PARENT_FAILED)
    assert states["_on_done"] == (State.CANCELLED, Reason.SKIPPED)
    assert {"note cry", "note failed", "count [1]"} <= set(shop.calls)
    assert "note done" not in shop.calls


@story
async def test_what_runs_once_all_is_done_gathers_none_for_what_has_no_result(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def bury() -> int | Dead:
        return Dead("not this one")

    flow = shop.app.flow("x")
    parts: list[Any] = [flow.add(shop.one.bind(1)), flow.add(bury.bind()), flow.add(shop.one.bind(2))]
    flow.add(shop.count.bind(), after=parts, when="all_done", gather=True)
    async with working(shop.app):
        handle = await flow.send()
        with pytest.raises(FlowFailed):
            await handle.result("5s")

        assert await handle.step("count").result() == 3

    assert "count [1, None, 2]" in shop.calls


@story
async def test_a_retry_goes_on_from_what_failed_and_keeps_what_was_done(url: str) -> None:
    shop = Shop(url)
    broken = [True]

    @shop.app.task(max_attempts=1)
    async def flaky(number: int) -> int:
        shop.calls.append("flaky")
        if broken:
            raise OSError("away")
        return number

    flow = shop.app.flow("x")
    first = flow.add(shop.one.bind(5))
    flow.add(shop.count.bind(), after=[flow.add(flaky.bind(), after=first, gather=True)], gather=True)
    async with working(shop.app):
        handle = await flow.send()
        with pytest.raises(FlowFailed):
            await handle.result("5s")
        broken.clear()
        assert await handle.retry() == 1
        assert await handle.result("5s") == 5

    assert shop.calls == ["one 5", "flaky", "flaky", "count [5]"]


@story
async def test_a_flow_is_cancelled_as_a_whole(url: str) -> None:
    shop = Shop(url)
    begun = asyncio.Event()

    @shop.app.task
    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    flow = chain(forever.bind(), shop.note.bind("after"))
    async with working(shop.app):
        handle = await flow.send()
        await begun.wait()
        assert await handle.cancel()
        with pytest.raises(FlowCancelled) as cancelled:
            await handle.result("5s")
        assert not await handle.cancel()

    assert "step forever is cancelled" in str(cancelled.value)
    assert "note after" not in shop.calls


@story
async def test_two_flows_of_one_id_are_one(url: str) -> None:
    shop = Shop(url)
    async with working(shop.app):
        first = await chain(shop.one.bind(1), shop.note.bind("a")).send("x")
        await first.result("5s")
        second = await chain(shop.one.bind(1), shop.note.bind("a"), shop.note.bind("b")).send("x")

        assert (first.duplicate, second.duplicate) == (False, True)
        assert await second.result("5s") == "a"

    assert shop.calls == ["one 1", "note a"]


@story
async def test_a_flow_that_there_is_no_room_for_is_not_stored_at_all(url: str) -> None:
    shop = Shop(url, queues={"default": QueueOptions(limit=3)})
    async with shop.app:
        await shop.one.send(0)
        with pytest.raises(QueueFull, match="nothing was stored"):
            await group([shop.one.bind(n) for n in range(3)]).send("x")
        with pytest.raises(InvalidOption, match="it would never be let in"):
            await group([shop.one.bind(n) for n in range(4)]).send("x")
        with pytest.raises(FlowNotFound, match="No flow x is stored here"):
            await shop.app.flow_handle("x").status()
        assert not (await group([shop.one.bind(n) for n in range(2)]).send("x")).duplicate


@story
async def test_a_flow_whose_step_has_a_key_that_is_taken_is_new_all_the_same(url: str) -> None:
    shop = Shop(url)
    async with shop.app:
        await shop.one.options(unique="k", delay="1h").send(1)
        handle = await chain(shop.one.options(unique="k").bind(2)).send("x")

        assert not handle.duplicate
        assert (await chain(shop.one.options(unique="k").bind(2)).send("x")).duplicate
        assert [(step.state, step.reason) for step in await handle.steps()] == [
            (State.CANCELLED, Reason.DUPLICATE)
        ]


@story
async def test_a_sender_may_wait_for_room_for_a_whole_flow(url: str) -> None:
    shop = Shop(url, queues={"default": QueueOptions(limit=3, when_full="block", block_for="5s")})
    async with shop.app:
        await shop.app.send_many([shop.one.bind(0), shop.one.bind(0)])
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(group([shop.one.bind(n) for n in (1, 2)]).send("x"))
            worker = shop.app.worker()
            tasks.create_task(worker.run())
            handle = await sending
            assert await handle.result("5s") == [1, 2]
            worker.stop()

        assert not handle.duplicate


@story
async def test_a_flow_is_sent_in_one_call_and_its_end_is_told_and_not_polled_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "POLL", 3_600_000_000)
    engine = Spied(MemoryEngine(EngineOptions()))
    shop = Shop("memory://", engine=engine)
    async with working(shop.app):
        before = engine.calls["publish"]
        handle = await chord([shop.one.bind(n) for n in range(1_200)], shop.count.bind()).send("x")
        assert engine.calls["publish"] == before + 1
        assert await handle.result("9s") == sum(range(1_200))


@story
async def test_a_flow_in_which_very_many_fail_tells_of_the_first_hundred(url: str) -> None:
    shop = Shop(url)
    async with working(shop.app, WorkerOptions(concurrency=100)):
        handle = await group([shop.fail.bind(f"no {n}") for n in range(250)]).send("x")
        with pytest.raises(FlowFailed) as failed:
            await handle.result("9s")

    ends = [step.finished for step in failed.value.steps]
    assert len(ends) == 100
    assert ends == sorted(ends)
    assert failed.value.error == failed.value.steps[0].error


@story
async def test_a_result_that_is_not_there_in_time_says_how_it_stands(url: str) -> None:
    shop = Shop(url)
    async with shop.app:
        handle = await chain(shop.one.bind(1), shop.note.bind("a")).send("x")
        with pytest.raises(ResultTimeout, match=r"Flow x has not ended within 0\.01: .*1 ready"):
            await handle.result(0.01)


@story
async def test_a_step_adds_steps_that_come_with_its_success(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def split(ctx: Context, words: list[str]) -> int:
        parts = [ctx.flow.add(shop.one.bind(len(word))) for word in words]
        ctx.flow.add(shop.count.bind(), after=parts, gather=True, name="sum")
        assert ctx.flow.id == "x"
        return len(words)

    async with working(shop.app):
        handle = await chain(split.bind(["a", "bcd"])).send("x")

        assert await handle.result("5s") == 4
        assert [step.name for step in await handle.steps()] == ["split", "split.one", "split.one-2", "sum"]
        assert (await handle.status()).steps == {State.SUCCEEDED: 4}


@story
async def test_a_step_that_fails_adds_nothing_and_the_next_try_adds_the_same(url: str) -> None:
    shop = Shop(url)

    @shop.app.task(backoff="1ms", backoff_cap="1ms")
    async def split(ctx: Context) -> None:
        ctx.flow.add(chain(shop.one.bind(1), shop.note.bind("a")))
        if ctx.attempt == 1:
            raise OSError("away")

    async with working(shop.app):
        handle: FlowHandle[Any] = await chain(split.bind()).send("x")
        assert await handle.result("5s") == "a"

    assert shop.calls == ["one 1", "note a"]


@story
async def test_steps_that_add_the_next_make_a_flow_of_any_length(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def page(ctx: Context, number: int) -> int:
        if number < 40:
            ctx.flow.add(page.bind(number + 1))
        return number

    async with working(shop.app):
        handle: FlowHandle[Any] = await chain(page.bind(0)).send("x")
        await eventually_over(handle)
        assert await handle.result("5s") == 40
        assert max(len(step.name) for step in await handle.steps()) < 100


async def eventually_over(handle: Any) -> None:
    async with asyncio.timeout(5):
        await handle.result()


@story
async def test_a_step_sees_the_steps_before_it(url: str) -> None:
    shop = Shop(url)
    seen: list[tuple[str, State, Any]] = []
    errors: list[tuple[Reason | None, str | None]] = []

    @shop.app.task
    async def look(ctx: Context) -> None:
        seen.extend((one.name, one.state, one.result(Picture)) for one in await ctx.parents())
        errors.extend((one.reason, one.error.message if one.error else None) for one in await ctx.parents())

    @shop.app.task
    def look_too(ctx: Context) -> None:
        seen.extend((one.name, one.state, one.result()) for one in ctx.parents_sync())

    flow = shop.app.flow("x")
    fetch, bad = flow.add(shop.download.bind("cat")), flow.add(shop.fail.bind())
    middle = flow.add(look.bind(), after=[fetch, bad], when="all_done")
    flow.add(look_too.bind(), after=middle)
    async with working(shop.app):
        with pytest.raises(FlowFailed):
            await (await flow.send()).result("5s")

    assert seen == [
        ("download", State.SUCCEEDED, Picture("cat")),
        ("fail", State.DEAD, None),
        ("look", State.SUCCEEDED, None),
    ]
    assert errors == [(None, None), (Reason.EXHAUSTED, "no luck")]


@story
async def test_a_task_that_is_no_step_has_no_flow_and_no_parents(url: str) -> None:
    shop = Shop(url)

    @shop.app.task(max_attempts=1)
    async def alone(ctx: Context) -> int:
        assert await ctx.parents() == ()
        ctx.flow.add(shop.one.bind(1))
        return 1

    async with working(shop.app):
        with pytest.raises(TaskDead, match="is no step of a flow"):
            await (await alone.send()).result("5s")


@story
async def test_a_handler_sends_a_whole_flow_with_its_success(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def start(ctx: Context) -> None:
        ctx.send(chain(shop.one.bind(1), shop.note.bind("a")))
        flow = shop.app.flow("told")
        flow.add(shop.note.bind("b"))
        ctx.send(flow)

    async with working(shop.app):
        await (await start.send()).result("5s")

        assert await shop.app.flow_handle("told").result("5s") == "b"
        await eventually(lambda: "note a" in shop.calls, what="the chain has run")


@story
async def test_a_step_waits_for_a_flow_that_it_starts_and_what_comes_after_it_waits_too(url: str) -> None:
    shop = Shop(url)
    tries: list[int] = []

    @shop.app.task
    async def double(number: int) -> int:
        return 2 * number

    @shop.app.task
    async def album(ctx: Context, sizes: list[int]) -> int:
        tries.append(ctx.attempt)
        handle = await group([shop.one.bind(size) for size in sizes]).send(f"{ctx.id}-inner")
        return sum(await ctx.wait_flow(handle, timeout="1h"))

    async with working(shop.app):
        handle = await chain(album.bind([1, 2, 3]), double.bind()).send("outer")

        assert await handle.result("5s") == 12

    assert set(tries) == {1}
    assert sorted(shop.calls) == ["one 1", "one 2", "one 3"]


@story
async def test_whoever_waits_for_a_flow_that_is_over_does_not_wait(url: str) -> None:
    shop = Shop(url)

    @shop.app.task(max_attempts=1)
    def look(ctx: Context) -> list[object]:
        found: list[object] = [ctx.wait_flow_sync(shop.app.flow_handle("done"), timeout="1h")]
        try:
            ctx.wait_flow_sync(shop.app.flow_handle("failed"), timeout="1h", name="other")
        except FlowFailed as failed:
            found.append(failed.flow_id)
        return found

    async with working(shop.app):
        await (await chain(shop.one.bind(1)).send("done")).result("5s")
        with pytest.raises(FlowFailed):
            await (await chain(shop.fail.bind()).send("failed")).result("5s")

        assert await (await look.send()).result("5s") == [1, "failed"]


@story
async def test_what_is_no_flow_cannot_be_waited_for(url: str) -> None:
    shop = Shop(url)

    @shop.app.task(max_attempts=1)
    async def look(ctx: Context) -> str:
        task: Any = await shop.one.options(delay="1h").send(1)
        with pytest.raises(InvalidOption, match=r"ctx\.wait_flow\(\) takes the handle of a flow.*<handle"):
            await ctx.wait_flow(task, timeout="1h")
        return str(await shop.app.saved_steps(ctx.id))

    async with working(shop.app):
        assert await (await look.send()).result("5s") == "()"


@story
async def test_a_flow_that_is_not_over_in_time_is_a_timeout_of_its_handler(url: str) -> None:
    shop = Shop(url)

    @shop.app.task(max_attempts=1)
    async def look(ctx: Context) -> None:
        await ctx.wait_flow(shop.app.flow_handle("slow"), timeout="50ms")

    async with working(shop.app):
        await chain(shop.one.options(delay="1h").bind(1)).send("slow")
        with pytest.raises(TaskDead, match="TimeoutError"):
            await (await look.send()).result("5s")


@pytest.mark.parametrize(
    ("rule", "most"),
    [({"ordered": True}, 1), ({"per_key": 2}, 2), ({"fair": True}, 99), ({"rate_per_key": "500/s"}, 99)],
)
@story
async def test_steps_stand_in_the_line_of_their_key(url: str, rule: dict[str, Any], most: int) -> None:
    shop = Shop(url)
    shop.app.queue("default", **rule)
    running = [0]

    @shop.app.task
    async def at_once(number: int) -> int:
        running[0] += 1
        now = running[0]
        await asyncio.sleep(0.001)  # noqa: TID251  # stands for work
        running[0] -= 1
        return now

    @shop.app.task
    async def largest(numbers: list[int]) -> int:
        return max(numbers)

    keyed = at_once.options(key="k")
    several = group([keyed.bind(n) for n in range(12)])
    async with working(shop.app):
        handles = [
            await chain(keyed.bind(0), several, largest.options(key="k").bind()).send(f"x{n}")
            for n in range(2)
        ]
        results = [await handle.result("9s") for handle in handles]

    assert max(results) <= most


@story
async def test_a_result_that_does_not_fit_is_a_dead_letter_that_names_the_step(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def lie() -> Any:
        return "nothing of the kind"

    flow = shop.app.flow("x")
    parts = [flow.add(shop.one.bind(1)), flow.add(lie.bind(), name="liar")]
    flow.add(shop.count.bind(), after=parts, gather=True)
    flow.add(shop.resize.bind(size=1), after="liar", gather=True)
    async with working(shop.app):
        with pytest.raises(FlowFailed) as failed:
            await (await flow.send()).result("5s")

    found = {step.name: (step.reason, step.error.message) for step in failed.value.steps}
    assert found["count"][0] is Reason.ARGUMENTS
    assert found["count"][1].startswith(
        "it cannot take the result of step 'liar': Expected `int | null`, got `str`"
    )
    assert found["resize"][1].startswith(
        "it cannot take the result of step 'liar': Expected `object`, got `str`"
    )


@story
async def test_a_batch_handler_is_given_the_results_of_the_steps_before_each(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def lie() -> Any:
        return "dog"

    @shop.app.task(batch=10, within="10ms")
    async def index(pictures: list[Picture]) -> list[Any]:
        return [one.url for one in pictures]

    async with working(shop.app):
        good = await chain(shop.download.bind("cat"), index.bind()).send()
        bad: Any = await chain(lie.bind(), index.bind()).send()

        assert await good.result("5s") == "cat"
        with pytest.raises(FlowFailed, match="it cannot take the result of step 'lie'"):
            await bad.result("5s")


@story
async def test_plain_functions_and_tasks_sent_by_name_gather_too(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    def join(words: list[str], /, end: str, *rest: str, **more: str) -> str:
        return "".join(words) + end + "".join(rest) + "".join(more.values())

    flow = shop.app.flow("x")
    words = [flow.add(shop.note.bind(word)) for word in "abc"]
    flow.add(join.bind("!", z="."), after=words, gather=True, name="typed")
    flow.add(App("memory://").named("join").bind("!"), after=words, gather=True, name="untyped")
    async with working(shop.app):
        assert await (await flow.send()).result("5s") == ["abc!.", "abc!"]


@story
async def test_a_handler_with_a_process_is_given_results_too() -> None:
    async with working(pooled.app):
        handle = await chord(
            [pooled.note.bind("how"), pooled.note.bind("now")], pooled.shout.bind(end="?")
        ).send()

        assert await handle.result("20s") == "HOW NOW?"


@story
async def test_a_handler_with_a_process_adds_steps() -> None:
    async with working(pooled.app):
        handle: FlowHandle[Any] = await chain(pooled.grow.bind()).send()

        assert await handle.result("20s") == "HOW NOW!"


@story
async def test_steps_of_a_task_that_gathers_do_not_wait_for_others(url: str) -> None:
    shop = Shop(url)
    lengths: list[int] = []

    @shop.app.task(gather="1h")
    async def index(pictures: list[Picture]) -> list[Any]:
        lengths.append(len(pictures))
        return [one.url for one in pictures]

    async with working(shop.app):
        handles = [await chain(shop.download.bind(url), index.bind()).send() for url in ("cat", "dog")]

        assert [await handle.result("5s") for handle in handles] == ["cat", "dog"]

    assert sum(lengths) == 2


@story
async def test_each_of_a_batch_adds_steps_to_its_own_flow(url: str) -> None:
    shop = Shop(url)

    @shop.app.task(batch=2, within="50ms")
    async def split(contexts: list[Context], words: list[str]) -> None:
        for ctx, word in zip(contexts, words, strict=True):
            ctx.flow.add(shop.note.bind(word))

    async with working(shop.app):
        one: FlowHandle[Any] = await chain(split.bind("a")).send("one")
        two: FlowHandle[Any] = await chain(split.bind("b")).send("two")

        assert (await one.result("5s"), await two.result("5s")) == ("a", "b")


@story
async def test_what_middleware_adds_to_a_flow_and_what_the_handler_adds_are_different_steps() -> None:
    async def around(call: Call, ctx: Context) -> object:
        if ctx.name == "split":
            ctx.flow.add(shop.note.bind("from outside"))
        return await call(ctx)

    shop = Shop("memory://", middleware=[around])

    @shop.app.task(batch=2, within="1ms")
    async def split(contexts: list[Context], words: list[str]) -> None:
        contexts[0].flow.add(shop.note.bind(words[0]))

    async with working(shop.app):
        handle: FlowHandle[Any] = await chain(split.bind("from inside")).send()

        assert await handle.result("5s") == ["from outside", "from inside"]


@story
async def test_in_another_process_the_steps_before_it_are_out_of_reach_of_a_memory_store() -> None:
    async with working(pooled.app):
        handle = await chain(pooled.note.bind("how"), pooled.look_back.bind()).send()

        with pytest.raises(FlowFailed, match="out of reach of this process"):
            await handle.result("20s")


@story
async def test_the_results_of_many_are_gathered_in_their_order(url: str) -> None:
    shop = Shop(url)

    @shop.app.task
    async def ordered(numbers: list[int]) -> bool:
        return numbers == list(range(150))

    async with working(shop.app):
        handle = await chord([shop.one.bind(n) for n in range(150)], ordered.bind()).send()

        assert await handle.result("9s") is True


@story
async def test_more_results_than_can_be_gathered_are_a_dead_letter_that_says_what_to_do(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "LARGEST_GATHERED", 20)
    shop = Shop(url)

    @shop.app.task
    async def join(words: list[str]) -> str:
        return "".join(words)

    async with working(shop.app):
        fits = await chord([shop.note.bind("a" * 8), shop.note.bind("b" * 8)], join.bind()).send()
        handle = await chord([shop.note.bind("a" * 8), shop.note.bind("b" * 9)], join.bind()).send()

        assert await fits.result("5s") == "a" * 8 + "b" * 8
        with pytest.raises(FlowFailed, match="let steps in between gather some each") as failed:
            await handle.result("5s")

    assert failed.value.steps[0].reason is Reason.TOO_LARGE


@story
async def test_a_step_whose_parents_cannot_be_read_is_put_off_and_spends_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "PAUSE", 1_000)
    engine = Spied(MemoryEngine(EngineOptions()))
    shop = Shop("memory://", engine=engine)
    broken = [1, 2]

    def fail(kind: str, given: Any) -> None:
        if kind == "survey" and isinstance(given, Parents) and broken:
            broken.pop()
            raise EngineUnavailable("away")

    engine.before = fail
    async with working(shop.app):
        handle = await chord([shop.one.bind(1)], shop.count.bind()).send("x")

        assert await handle.result("5s") == 1
        record = await handle.step("count").status()

    assert (record.attempts, broken) == (1, [])


@story
async def test_the_result_of_a_flow_is_that_of_its_end_however_wide_it_is(url: str) -> None:
    shop = Shop(url)
    wide = 1_100

    @shop.app.task
    async def number_of(given: list[int]) -> int:
        return len(given)

    async with working(shop.app, WorkerOptions(concurrency=500)):
        handle = await chord([shop.one.bind(n) for n in range(wide)], number_of.bind()).send("x")
        assert await handle.result("9s") == wide
        assert await shop.app.flow_handle("x").result() == wide


@story
async def test_an_empty_list_of_steps_is_gathered_by_nobody(url: str) -> None:
    shop = Shop(url)
    flow = shop.app.flow("x")

    with pytest.raises(Exception, match="say them with after="):
        flow.add(shop.count.bind(), after=[], gather=True)


@story
async def test_a_flow_that_is_deleted_while_it_is_waited_for_is_not_found(url: str) -> None:
    shop = Shop(url)
    async with shop.app:
        with pytest.raises(FlowNotFound):
            await shop.app.flow_handle("nowhere").result()


def test_a_flow_is_sent_and_waited_for_without_a_loop() -> None:
    shop = Shop("memory://")
    with shop.app:
        handle = chain(shop.one.bind(1), shop.note.bind("a")).send_sync("x")
        assert shop.app.sync(handle.status()).state is FlowState.RUNNING
        assert shop.app.sync(handle.cancel())
        with pytest.raises(FlowCancelled):
            handle.result_sync(5)
