"""Batch handlers: when a call begins, who is in it, and what its answer means for each."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from forebay import App, Cancel, Context, Dead, Retry, Snooze, State, WorkerOptions
from forebay.engine import Timing
from forebay.errors import InvalidArguments, InvalidOption, TaskDead
from forebay.model.message import Message, MessageId
from forebay.model.query import CancelNow, Query, Selector
from forebay.model.verdict import Reason
from forebay.model.when import SECOND
from forebay.runtime.in_flight import Run, Why
from forebay.testing.clock import VirtualClock, eventually
from tests.runtime.kit import reaches, story, working

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.middleware import Call


@story
async def test_a_full_batch_begins_at_once() -> None:
    clock, calls = VirtualClock(), list[list[int]]()
    app = App("memory://", clock=clock)

    @app.task(batch=3, within="50s")
    async def take(numbers: list[int]) -> None:
        calls.append(numbers)

    async with working(app):
        handles = [await take.send(n) for n in range(6)]
        for handle in handles:
            await handle.result()

    assert calls == [[0, 1, 2], [3, 4, 5]]


@story
async def test_a_batch_that_does_not_fill_begins_when_its_first_has_waited() -> None:
    clock, calls = VirtualClock(), list[list[int]]()
    app = App("memory://", clock=clock)

    @app.task(batch=100, within="10s")
    async def take(numbers: list[int]) -> None:
        calls.append(numbers)

    async with working(app):
        first = await take.send(1)
        await reaches(first, State.RUNNING)
        await clock.advance(6 * SECOND)
        second = await take.send(2)
        await reaches(second, State.RUNNING)
        assert not calls
        await clock.advance(4 * SECOND)
        await second.result()

    assert calls == [[1, 2]]


@story
async def test_a_batch_larger_than_the_worker_begins_with_what_the_worker_can_hold() -> None:
    clock, calls = VirtualClock(), list[int]()
    app = App("memory://", clock=clock)

    @app.task(batch=100, within="50s")
    def take(numbers: list[int]) -> None:
        calls.append(len(numbers))

    async with working(app, WorkerOptions(concurrency=4)):
        handles = [await take.send(n) for n in range(8)]
        for handle in handles:
            await handle.result()

    assert calls == [4, 4]


@story
async def test_each_item_has_its_own_verdict() -> None:
    app = App("memory://")
    again: list[int] = []

    @app.task(batch=7, within="5s")
    async def take(numbers: list[int]) -> list[object]:
        if len(numbers) == 1:
            again.extend(numbers)
            return ["later"]
        words = [10, None, Dead("odd"), Cancel(), Snooze("1h"), Retry(after=0), LookupError("no")]
        return [words[n] for n in numbers]

    async with working(app):
        handles = [await take.options(max_attempts=1 if n == 6 else 5).send(n) for n in range(7)]
        assert await handles[0].result() == 10
        assert await handles[1].result() is None
        assert (await reaches(handles[2], State.DEAD)).reason is Reason.ASKED
        await reaches(handles[3], State.CANCELLED)
        await reaches(handles[4], State.SCHEDULED)
        dead = await reaches(handles[6], State.DEAD)
        assert dead.tries[0].error is not None
        assert dead.tries[0].error.message == "no"
        assert (await handles[5].status()).attempts >= 1


@story
async def test_follow_ups_leave_with_their_own_item() -> None:
    app = App("memory://")

    @app.task(queue="follow-ups")
    async def note(number: int) -> None: ...

    @app.task(queue="batches", batch=2, within="5s", max_attempts=1)
    async def take(contexts: list[Context], numbers: list[int]) -> list[object]:
        for ctx, number in zip(contexts, numbers, strict=True):
            assert ctx.arguments.kwargs == {"numbers": number}
            ctx.send(note.bind(number))
        return [None, LookupError("this one failed")]

    async with working(app, WorkerOptions(queues={"batches": 1})):
        good, bad = [await take.send(n) for n in (1, 2)]
        await good.result()
        with pytest.raises(TaskDead):
            await bad.result()
        page = await app.find(Query(which=Selector(queue="follow-ups")))

    assert [record.message.body for record in page.records] == [b'{"number":1}']


@pytest.mark.parametrize("answer", [[1], [1, 2, 3], "ab", 7, {"a": 1}])
@story
async def test_an_answer_that_does_not_fit_fails_every_item(answer: object) -> None:
    app = App("memory://")

    @app.task(batch=2, within="5s", max_attempts=1)
    async def take(numbers: list[int]) -> object:
        return answer

    async with working(app):
        for handle in [await take.send(n) for n in range(2)]:
            with pytest.raises(TaskDead, match="was given 2 items and returned"):
                await handle.result()


@story
async def test_what_fails_its_batch_twice_is_tried_alone_and_the_others_succeed() -> None:
    app = App("memory://")
    sizes: list[int] = []

    @app.task(batch=5, within="20ms", max_attempts=3, backoff="1ms", backoff_cap="1ms")
    async def take(numbers: list[int]) -> None:
        sizes.append(len(numbers))
        if 3 in numbers:
            raise ValueError("three")

    async with working(app):
        handles = [await take.send(n) for n in range(5)]
        for number, handle in enumerate(handles):
            if number == 3:
                with pytest.raises(TaskDead, match="three"):
                    await handle.result()
            else:
                await handle.result()

    assert max(sizes[:1]) == 5
    assert sizes[-1] == 1


@story
async def test_what_cannot_be_read_never_gets_into_the_batch() -> None:
    app = App("memory://")
    calls: list[list[int]] = []

    @app.task(batch=2, within="5s")
    async def take(numbers: list[int]) -> None:
        calls.append(numbers)

    async with working(app):
        link = await app._client.link()
        await link.publish(Message(id=MessageId("bad"), name="take", queue="default", body=b"{"))
        good = await take.send(1)
        await good.result()
        bad = await reaches(app.handle("bad"), State.DEAD)

    assert bad.reason is Reason.UNDECODABLE
    assert calls == [[1]]


@story
async def test_cancelling_one_item_does_not_disturb_the_others() -> None:
    beat = SECOND // 50
    app = App("memory://", timing=Timing(lease=5 * SECOND, heartbeat=beat))
    cuts: list[object] = []
    stop = Run.stop

    def heard(run: Run, why: Why) -> None:
        stop(run, why)
        cuts.append(why)
        go.set()

    begun, go = asyncio.Event(), asyncio.Event()

    @app.task(batch=2, within="5s")
    async def take(numbers: list[int]) -> list[int]:
        begun.set()
        await go.wait()
        return numbers

    async with working(app):
        one, two = [await take.send(n) for n in (1, 2)]
        await begun.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "stop", heard)
            await app.steer(Selector(ids=(one.id,)), CancelNow())
            await go.wait()
        assert cuts == [Why.CANCEL]

        assert await two.result() == 2
        assert await one.result() == 1, "it was done when it was asked to stop"


@story
async def test_a_batch_that_takes_too_long_is_cut_off_as_a_whole() -> None:
    app = App("memory://")

    @app.task(batch=2, within="5s", timeout="30ms", max_attempts=1)
    async def take(numbers: list[int]) -> None:
        await asyncio.Event().wait()

    async with working(app):
        for handle in [await take.send(n) for n in range(2)]:
            with pytest.raises(TaskDead, match="Timeout"):
                await handle.result()


@story
async def test_a_batch_all_of_whose_messages_are_cancelled_still_ends_at_its_timeout() -> None:
    clock = VirtualClock()
    app = App("memory://", clock=clock)
    at_work: list[Context] = []

    @app.task(batch=2, within="5s", timeout="1s", max_attempts=1)
    async def take(contexts: list[Context], numbers: list[int]) -> None:
        at_work.extend(contexts)
        await asyncio.Event().wait()

    async with working(app):
        handles = [await take.send(n) for n in range(2)]
        await eventually(lambda: len(at_work) == 2)
        for handle in handles:
            await handle.cancel()
        await eventually(lambda: all(ctx.cancelled for ctx in at_work))
        await clock.advance(2 * SECOND)
        for handle in handles:
            await reaches(handle, State.CANCELLED)


@pytest.mark.parametrize(("option", "state"), [("deadline", State.DEAD), ("expires", State.EXPIRED)])
@story
async def test_what_comes_too_late_while_its_batch_gathers_is_in_no_call(option: str, state: State) -> None:
    clock, calls = VirtualClock(), list[list[int]]()
    app = App("memory://", clock=clock)

    @app.task(batch=3, within="10s")
    async def take(numbers: list[int]) -> None:
        calls.append(numbers)

    async with working(app):
        patient = take.options(deadline="5s") if option == "deadline" else take.options(expires="5s")
        late = await patient.send(1)
        await reaches(late, State.RUNNING)
        good = await take.send(2)
        await reaches(good, State.RUNNING)
        await clock.advance(10 * SECOND)
        await good.result()
        record = await reaches(late, state)

    assert calls == [[2]]
    assert record.attempts == 0


@story
async def test_a_stop_hands_back_what_gathers_and_spends_nothing() -> None:
    clock = VirtualClock()
    app = App("memory://", clock=clock)

    @app.task(batch=10, within="50s")
    async def take(numbers: list[int]) -> None: ...

    async with app:
        handle = await take.send(1)
        async with working(app):
            await reaches(handle, State.RUNNING)
        record = await handle.status()

    assert (record.state, record.attempts, record.releases) == (State.READY, 0, 1)


@story
async def test_middleware_is_around_the_whole_batch() -> None:
    seen: list[object] = []

    async def around(call: Call, ctx: Context) -> object:
        seen.append(ctx.arguments.kwargs)
        return await call(ctx)

    app = App("memory://", middleware=[around])

    @app.task(batch=2, within="5s")
    async def take(numbers: list[int]) -> None: ...

    async with working(app):
        for handle in [await take.send(n) for n in range(2)]:
            await handle.result()

    assert seen == [{"numbers": [0, 1]}]


@story
async def test_what_middleware_sends_around_a_batch_leaves_with_its_first_message() -> None:
    sent = asyncio.Event()

    async def around(call: Call, ctx: Context) -> object:
        if ctx.queue == "batches":
            ctx.send(note.bind())
        return await call(ctx)

    app = App("memory://", middleware=[around])

    @app.task
    async def note() -> None:
        sent.set()

    @app.task(queue="batches", batch=2, within="5s")
    async def take(numbers: list[int]) -> None: ...

    async with working(app):
        for n in range(2):
            await take.send(n)
        await sent.wait()


@story
async def test_events_come_in_batches_too(tmp_path: Path) -> None:
    app = App(f"sqlite:///{tmp_path / 'batches.db'}")
    calls: list[list[str]] = []

    @app.subscribe("orders.placed", group="stats", batch=3, within="5s")
    async def count(orders: list[str]) -> None:
        calls.append(orders)

    async with working(app):
        for name in "abc":
            await app.publish("orders.placed", name)
        await eventually(lambda: bool(calls))

    assert calls == [["a", "b", "c"]]


def test_a_sender_sends_one() -> None:
    app = App("memory://")

    @app.task(batch=3)
    async def take(numbers: list[int]) -> None: ...

    assert take.bind(1).body == b'{"numbers":1}'
    with pytest.raises(InvalidArguments):
        take.bind([1])  # type: ignore[call-overload]  # the mistake under test


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 1}, "from 2 to 10000"),
        ({"batch": 20_000}, "from 2 to 10000"),
        ({"batch": "9"}, "from 2 to 10000"),
        ({"within": "1s"}, "goes with batch"),
        ({"batch": 3, "within": "2m"}, "at most 60 s"),
        ({"batch": 3, "within": -1}, "within"),
        ({"batch": 3, "pool": "process"}, "do not go together"),
        ({"bacth": 3}, "did you mean 'batch'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], said: str) -> None:
    app = App("memory://")
    with pytest.raises(InvalidOption, match=said):
        app.task(**options)  # type: ignore[call-overload]  # the mistake under test
    with pytest.raises(InvalidOption, match=said):
        app.subscribe("a.b", **options)  # type: ignore[arg-type]  # the mistake under test


def test_a_handler_that_takes_no_list_is_refused() -> None:
    app = App("memory://")

    def single(number: int) -> None: ...
    def two(a: list[int], b: list[int]) -> None: ...
    def none() -> None: ...
    def rest(*numbers: list[int]) -> None: ...

    for function in (single, two, none, rest):
        with pytest.raises(InvalidOption, match=r"one parameter annotated list\[\.\.\.\]"):
            app.task(batch=3)(function)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(("threaded", "state"), [(False, State.DEAD), (True, State.SUCCEEDED)])
@story
async def test_what_a_batch_returns_after_its_timeout_counts_only_from_a_thread(
    *, threaded: bool, state: State
) -> None:
    app, over = App("memory://"), threading.Event()

    async def swallow(numbers: list[int]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    def outlast(numbers: list[int]) -> None:
        assert over.wait(5)

    take = app.task(batch=2, within="1s", timeout="20ms", max_attempts=1, name="take")(
        outlast if threaded else swallow
    )

    async with working(app) as worker:
        handles = [await take.send(n) for n in range(2)]
        await eventually(lambda: worker.load["overdue"] == 2 or not threaded)
        over.set()
        for handle in handles:
            assert (await reaches(handle, state)).attempts == 1
