"""The runner takes as much as there is room for, in the order asked for, wakes for any queue, and outlives its engine's absences."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Context, QueueOptions, State, WorkerOptions
from forebay.errors import ConfigError, EngineUnavailable, InvalidOption, OutcomeUnknown
from forebay.model.verdict import Reason
from forebay.model.when import SECOND
from forebay.stores.memory import MemoryEngine
from forebay.testing.clock import Probe, VirtualClock, eventually
from tests.runtime.kit import Spied, reaches, story, working

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Crowd:
    """Counts how many are in at a time, and keeps them there until the gate opens."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    now: int = 0
    most: int = 0
    entered: Probe[str] = field(default_factory=lambda: Probe[str]("entered"))

    async def stay(self, who: str) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.entered.hit(who)
        await self.gate.wait()
        self.now -= 1


@story
async def test_never_more_at_work_than_the_limit() -> None:
    app, crowd = App("memory://"), Crowd()

    @app.task(queue="one")
    async def one() -> None:
        await crowd.stay("one")

    @app.task(queue="two")
    async def two() -> None:
        await crowd.stay("two")

    async with app:
        await app.send_many([task.bind() for task in (one, two) for _ in range(30)])
    async with working(app, WorkerOptions(concurrency=7)):
        await crowd.entered.wait(7)
        crowd.gate.set()
        await crowd.entered.wait(60)

    assert crowd.most == 7


@story
async def test_a_full_queue_leaves_room_for_the_others() -> None:
    app, crowd = App("memory://", queues={"slow": QueueOptions(per_process=2)}), Crowd()

    @app.task(queue="slow")
    async def slow() -> None:
        await crowd.stay("slow")

    @app.task(queue="quick")
    async def quick() -> str:
        return "quick"

    async with working(app, WorkerOptions(concurrency=10)):
        await app.send_many([slow.bind() for _ in range(10)])
        await crowd.entered.wait(2)
        assert [await (await quick.send()).result(5) for _ in range(5)] == ["quick"] * 5
        assert crowd.most == 2
        crowd.gate.set()
        await crowd.entered.wait(10)

    assert crowd.most == 2


@story
async def test_a_full_queue_that_has_room_again_is_asked_at_once_though_others_are_waited_for() -> None:
    clock, crowd = VirtualClock(), Crowd()
    app = App("memory://", clock=clock, queues={"slow": QueueOptions(per_process=1)})

    @app.task(queue="slow")
    async def slow(number: int) -> int:
        await crowd.stay("slow")
        return number

    _notes(app, "other", [])
    async with working(app):
        handles = [await slow.send(number) for number in range(5)]
        await crowd.entered.wait(1)
        await eventually(
            lambda: clock.waiting > 2
        )  # heartbeat, sweep, and a receive for the other queue alone
        crowd.gate.set()
        assert [await handle.result(5) for handle in handles] == list(range(5))
        # the clock stands still: no wait has ended by itself
        assert await (await app.send("other")).result(5) is None


@story
async def test_strict_order_empties_the_first_queue_first() -> None:
    app, order = App("memory://"), list[str]()
    for name in ("low", "high", "mid"):
        _notes(app, name, order)
    async with app:
        for _ in range(4):
            for name in ("low", "mid", "high"):
                await app.send(name)

    async with working(
        app, WorkerOptions(concurrency=1, queues={"high": 1, "mid": 1, "low": 1}, strict=True)
    ):
        await eventually(lambda: len(order) == 12)

    assert order == ["high"] * 4 + ["mid"] * 4 + ["low"] * 4


@story
async def test_weights_are_shares_and_nobody_starves() -> None:
    app, order = App("memory://"), list[str]()
    for name in ("heavy", "light"):
        _notes(app, name, order)
    async with app:
        await app.send_many(
            [app.named(name).bind() for _ in range(600) for name in ("heavy", "light")]  # both stay full
        )

    async with working(app, WorkerOptions(concurrency=1, queues={"heavy": 4, "light": 1})):
        await eventually(lambda: len(order) >= 500)

    share = Counter(order[:500])
    assert 350 <= share["heavy"] <= 450, "four fifths, give or take five standard deviations"
    assert share["light"] >= 50


def _notes(app: App, name: str, order: list[str]) -> None:
    @app.task(name=name, queue=name)
    async def note() -> None:
        order.append(name)


@story
async def test_only_the_queues_asked_for_are_worked_on() -> None:
    app, order = App("memory://"), list[str]()
    for name in ("mine", "theirs"):
        _notes(app, name, order)
    async with working(app, WorkerOptions(queues={"mine": 1})):
        theirs, mine = await app.send("theirs"), await app.send("mine")
        await mine.result(5)
        assert (await theirs.status()).state is State.READY

    assert order == ["mine"]


@story
async def test_an_idle_worker_wakes_for_any_queue_at_once() -> None:
    app = App("memory://", clock=VirtualClock())
    for name in ("a", "b", "c"):
        _notes(app, name, [])
    async with working(app):
        for name in ("c", "a", "b", "c", "a"):
            await (await app.send(name)).result(5)  # the clock stands still: no poll can have found it


@story
async def test_an_idle_worker_asks_the_engine_for_nothing_between_its_waits() -> None:
    engine, clock = Spied(MemoryEngine()), VirtualClock()
    app = App(engine, clock=clock)
    for name in ("a", "b"):
        _notes(app, name, [])
    async with working(app):
        await eventually(lambda: clock.waiting >= 3)
        before = engine.calls["receive"]
        await clock.advance(60 * SECOND)
        asked = engine.calls["receive"] - before

    assert asked <= 60 // 5 + 1, "both queues are asked together, once every five seconds"


@pytest.mark.parametrize("queues", [("one",), ("one", "two")])
@story
async def test_while_the_engine_is_away_it_asks_more_and_more_seldom_and_then_works_on(
    queues: tuple[str, ...],
) -> None:
    engine, clock, away, times = Spied(MemoryEngine()), VirtualClock(), [True], list[int]()

    def fail(kind: str, _: Any) -> None:
        if kind == "receive" and away[0]:
            times.append(clock.monotonic())
            raise EngineUnavailable("away")

    engine.before = fail
    app = App(engine, clock=clock)
    for name in queues:
        _notes(app, name, [])
    async with working(app):
        await eventually(lambda: times)
        await clock.advance(60 * SECOND)
        assert 10 < len(times) < 60
        assert max(b - a for a, b in pairwise(times)) == 2 * SECOND
        away[0] = False
        handle = await app.send("one")
        await clock.advance(2 * SECOND)
        await handle.result(5)


@story
async def test_what_a_broken_receive_took_is_worked_on_and_not_left_to_its_lease() -> None:
    engine, clock, broken = Spied(MemoryEngine()), VirtualClock(), Probe[None]("broken")

    def lose_reply(kind: str, answer: Any) -> None:
        if kind == "receive" and answer and broken.count < 3:
            broken.hit(None)
            raise OutcomeUnknown("cut")

    engine.after = lose_reply
    app = App(engine, clock=clock)

    @app.task(queue="one")
    async def job() -> int:
        return 7

    _notes(app, "other", [])
    async with working(app):
        handle = await job.send()
        await broken.wait()
        await clock.advance(5 * SECOND)
        assert await handle.result(5) == 7
        assert (await handle.status()).crashes == 0


@story
async def test_what_a_receive_took_in_the_moment_of_the_stop_is_handed_back() -> None:
    engine, took = Spied(MemoryEngine()), asyncio.Event()
    forever = asyncio.Event()

    async def hang(kind: str, answer: Any) -> None:
        if kind == "receive" and answer and not took.is_set():
            took.set()
            await forever.wait()

    engine.after = hang
    app = App(engine)

    @app.task
    async def job() -> None: ...

    async with app:
        async with working(app):
            handle = await job.send()
            await took.wait()
        record = await handle.status()

    assert (record.state, record.releases, record.attempts, record.crashes) == (State.READY, 1, 0, 0)


@story
async def test_an_unknown_name_is_put_off_and_dead_after_its_grace_and_the_queue_goes_on() -> None:
    clock = VirtualClock()
    app = App("memory://", clock=clock)

    @app.task
    async def known() -> str:
        return "done"

    async with working(app, WorkerOptions(grace=60 * SECOND)):
        stranger = await app.send("stranger", 1, 2)
        assert await (await known.send()).result(5) == "done"
        await reaches(stranger, State.SCHEDULED)
        assert (await stranger.status()).attempts == 0
        await clock.advance(59 * SECOND)
        assert (await stranger.status()).state is State.SCHEDULED
        await clock.advance(6 * SECOND)
        await reaches(stranger, State.DEAD)
        record = await stranger.status()

    assert record.reason is Reason.UNKNOWN_NAME
    assert record.message.body == b"[1,2]", "kept as it was"


@pytest.mark.parametrize("after", [None, "7s"])
@story
async def test_a_failed_try_comes_back_after_its_backoff(after: str | None) -> None:
    from forebay import Retry

    clock, attempts = VirtualClock(), Probe[int]("attempts")
    app = App("memory://", clock=clock)

    @app.task(max_attempts=3, backoff="4s", backoff_cap="5s")
    async def fails(ctx: Context) -> None:
        attempts.hit(ctx.attempt)
        raise Retry(after=after) if after else ValueError("no")

    async with working(app):
        handle = await fails.send()
        await attempts.wait(1)
        await clock.advance(7 * SECOND)
        await attempts.wait(2)
        await clock.advance(7 * SECOND)
        await attempts.wait(3)
        await reaches(handle, State.DEAD)
        record = await handle.status()

    assert attempts.hits == [1, 2, 3]
    assert record.reason is Reason.EXHAUSTED
    gaps = [b.started - a.ended for a, b in pairwise(record.tries)]
    assert all(gap == 7 * SECOND for gap in gaps) if after else all(gap <= 5 * SECOND for gap in gaps)


@story
async def test_the_messages_own_max_attempts_has_the_first_word() -> None:
    app = App("memory://")

    @app.task(max_attempts=20, backoff=0)
    async def fails() -> None:
        raise ValueError

    async with working(app):
        handle = await fails.options(max_attempts=2).send()
        await reaches(handle, State.DEAD)

    assert (await _attempts(app, handle.id)) == 2


async def _attempts(app: App, key: str) -> int:
    async with app:
        return (await app.handle(key).status()).attempts


@story
async def test_a_snooze_spends_no_attempt() -> None:
    from forebay import Snooze

    app, tries = App("memory://"), list[int]()

    @app.task(max_attempts=1)
    async def later(ctx: Context) -> str:
        tries.append(ctx.attempt)
        if len(tries) < 4:
            raise Snooze(0)
        return "at last"

    async with working(app):
        assert await (await later.send()).result(5) == "at last"

    assert tries == [1, 1, 1, 1]


@story
async def test_a_stuck_thread_keeps_its_slot_and_its_queue_mates_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, gate = App("memory://"), threading.Event()

    @app.task(timeout=0.01, max_attempts=1)
    def stuck() -> None:
        assert gate.wait(5)

    @app.task
    async def quick() -> int:
        return 1

    async with working(app, WorkerOptions(concurrency=2)):
        handle = await stuck.send()
        await eventually(lambda: "task.overdue" in caplog.messages)
        for _ in range(5):
            assert await (await quick.send()).result(5) == 1
        record = await handle.status()
        assert record.state is State.RUNNING
        gate.set()
        await reaches(handle, State.SUCCEEDED)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            lambda: WorkerOptions(concurrency=0),
            "concurrency must be a whole number from 1 to 1000000000, not 0.",
        ),
        (
            lambda: WorkerOptions(queues={"a": 0}),
            "the weight of queue 'a' must be a whole number from 1",
        ),
        (lambda: WorkerOptions(queues={}), "queues names no queue"),
        (lambda: QueueOptions(weight=0), "weight"),
        (lambda: QueueOptions(per_process=0), "per_process"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        options()


@story
async def test_a_queue_without_a_handler_is_one_sentence() -> None:
    app = App("memory://")

    @app.task(queue="mail")
    async def job() -> None: ...

    with pytest.raises(
        ConfigError, match=r"^Queue 'nowhere' has no handler in this App: it declares mail\.$"
    ):
        await app.worker(WorkerOptions(queues={"nowhere": 1})).run()
