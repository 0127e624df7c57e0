"""A queue with a limit: senders are refused or wait, as the App says, and learn what was stored and when to return."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Context, QueueOptions, State
from forebay.engine import Stored
from forebay.errors import InvalidOption, QueueFull, TaskExpired, Unsupported
from forebay.model.query import CancelNow, Pause, Selector
from forebay.model.when import SECOND
from forebay.runtime.bridge import OUTBOX
from forebay.stores.memory import MemoryEngine
from forebay.testing.clock import VirtualClock, eventually
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import Spied, story, working

if TYPE_CHECKING:
    from forebay.engine import Engine

LIMIT = 3


def limited(engine: str | Engine = "memory://", clock: VirtualClock | None = None, **options: Any) -> App:
    """An App with the task ``job`` on the queue ``mail``, which has a limit."""
    app = App(engine, queues={"mail": QueueOptions(**{"limit": LIMIT} | options)}, clock=clock)

    @app.task(queue="mail")
    async def job(n: int) -> int:
        return n

    return app


async def fill(app: App) -> None:
    for n in range(LIMIT):
        await app.send("job", n, queue="mail")


async def waiting(app: App, queue: str = "mail") -> int:
    (found,) = [one for one in (await app.count()).queues if one.queue == queue]
    return found.states.get(State.READY, 0)


async def make_room(app: App, places: int = 1) -> None:
    await app.steer(Selector(queue="mail", states=frozenset({State.READY}), limit=places), CancelNow())


# -- declared


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, r"QueueOptions\(limit=\.\.\.\) must be a whole number from 1 to 10000000, not 0"),
        ({"limit": 10_000_001}, "from 1 to 10000000"),
        ({"limit": "10"}, "not '10'"),
        ({"limit": True}, "not True"),
        ({"when_full": "blok"}, "did you mean 'block'"),
        ({"when_full": "drop_expired"}, "did you mean 'drop-expired'"),
        ({"when_full": "zzz"}, "one of reject, block, drop-expired"),
        ({"when_full": None}, "one of reject"),
        ({"when_full": "drop-expired"}, "needs a limit="),
        ({"limit": 5, "block_for": "5s"}, "goes with when_full='block'"),
        ({"limit": 5, "when_full": "block", "block_for": 0}, "longer than 0"),
        ({"limit": 5, "when_full": "block", "block_for": "soon"}, "block_for"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        QueueOptions(**options)


def test_an_engine_without_limits_is_refused_when_the_app_is_made() -> None:
    with pytest.raises(
        Unsupported, match=r"^Queue 'mail': limit=5 cannot be: the hostile engine has no limits\. Declare the"
    ):
        App(HostileBus(), queues={"mail": QueueOptions(limit=5)})


# -- reject


@story
async def test_a_send_to_a_full_queue_is_refused_with_all_that_helps() -> None:
    async with limited() as app:
        await fill(app)

        with pytest.raises(QueueFull) as caught:
            await app.send("job", 9, queue="mail")

        assert (
            "Queue 'mail' is full: its limit of 3 waiting messages is reached, and nothing was stored."
            in str(caught.value)
        )
        assert "Try again in 5 s" in str(caught.value)
        assert (caught.value.queue, caught.value.limit, caught.value.retry_after) == ("mail", LIMIT, 5.0)
        assert await waiting(app) == LIMIT


def test_a_sync_send_is_refused_as_well(tmp_path: Path) -> None:
    with limited(f"sqlite:///{tmp_path}/f.db") as app:
        for n in range(LIMIT):
            app.send_sync("job", n, queue="mail")

        with pytest.raises(QueueFull, match="mail"):
            app.send_sync("job", 9, queue="mail")


@story
async def test_a_repeat_is_told_its_handle_however_full_the_queue_is() -> None:
    async with limited() as app:
        task = app.named("job")
        first = await task.options(id="one").send(1)
        await app.send_many([task.bind(n) for n in range(LIMIT - 1)])

        again = await task.options(id="one").send(1)

        assert (again.id, again.duplicate) == (first.id, True)


@story
async def test_of_many_what_fits_is_stored_and_the_rest_is_named() -> None:
    async with limited() as app:

        @app.task(queue="free")
        async def other() -> None: ...

        job = app.named("job")
        calls = [job.bind(n) for n in range(LIMIT + 2)]

        with pytest.raises(QueueFull) as caught:
            await app.send_many([*calls, other.bind()])

        assert "4 of 6 were stored, 2 were not" in str(caught.value)
        assert [handle is not None for handle in caught.value.handles] == [True] * LIMIT + [False] * 2 + [
            True
        ]
        assert caught.value.stored == LIMIT + 1
        status = await caught.value.handles[0].status()
        assert status.state is State.READY
        assert await waiting(app) == LIMIT
        assert await waiting(app, "free") == 1


@story
async def test_an_event_for_somebody_full_is_refused_for_all() -> None:
    app = App("memory://", queues={"billing.orders.placed": QueueOptions(limit=1)})
    for group in ("billing", "stock"):

        @app.subscribe("orders.placed", group=group)
        async def hear(order: int) -> None: ...

    async with app:
        assert (await app.publish("orders.placed", 1, id="one")).groups == 2

        with pytest.raises(QueueFull, match=r"Queue 'billing\.orders\.placed' is full"):
            await app.publish("orders.placed", 2)

        assert await waiting(app, "stock.orders.placed") == 1
        assert (await app.publish("orders.placed", 1, id="one")).status is Stored.DUPLICATE


@story
async def test_a_limit_holds_for_an_app_that_does_not_know_of_it() -> None:
    engine = MemoryEngine()
    async with limited(engine) as owner, App(engine) as stranger:
        await fill(owner)

        with pytest.raises(QueueFull, match="mail"):
            await stranger.send("anything", queue="mail")


@story
async def test_a_sender_may_limit_what_others_handle() -> None:
    engine = MemoryEngine()
    owner = App(engine)

    @owner.subscribe("orders.placed", group="billing")
    async def bill(order: int) -> None: ...

    front = App(engine, queues={"billing.orders.placed": QueueOptions(limit=1)})
    async with owner, front:
        assert (await front.publish("orders.placed", 1)).groups == 1

        with pytest.raises(QueueFull, match="limit of 1 "):
            await front.publish("orders.placed", 2)


@story
async def test_what_handlers_send_with_their_success_is_let_in() -> None:
    app = App("memory://", queues={"mail": QueueOptions(limit=1)})

    @app.task(queue="mail")
    async def job() -> None: ...

    @app.task(queue="work")
    async def spread(ctx: Context) -> None:
        for _ in range(LIMIT):
            ctx.send(job.bind())

    async with working(app):
        await app.steer(Selector(queue="mail"), Pause())

        handle = await spread.send()
        await handle.result(timeout=5)

        assert await waiting(app) == LIMIT
        with pytest.raises(QueueFull):
            await job.send()


@story
async def test_the_outbox_of_a_bus_may_have_a_limit() -> None:
    app = App("memory://", bus=HostileBus(), queues={OUTBOX: QueueOptions(limit=1)})
    async with app:
        await app.publish("orders.placed", 1)

        with pytest.raises(QueueFull, match=OUTBOX):
            await app.publish("orders.placed", 2)


@story
async def test_what_the_store_does_not_take_the_bus_keeps() -> None:
    store, bus, clock = MemoryEngine(), HostileBus(), VirtualClock()
    seen: list[int] = []
    options = QueueOptions(limit=1)
    app = App(store, bus=bus, clock=clock, queues={"billing.orders.placed": options})

    @app.subscribe("orders.placed", group="billing")
    async def bill(order: int) -> None:
        seen.append(order)

    async with working(app):
        for n in range(5):
            await app.publish("orders.placed", n)

        async def moved() -> bool:
            await clock.advance(SECOND)
            return len(seen) == 5

        await eventually(moved, what="all five are handled")
    assert sorted(seen) == [0, 1, 2, 3, 4]


# -- block


@story
async def test_a_sender_that_waits_is_let_in_when_there_is_room() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="block") as app:
        await fill(app)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(app.send("job", 9, queue="mail"))
            await eventually(lambda: clock.waiting == 1, what="the sender waits")

            await make_room(app)
            await clock.advance(SECOND)

        assert (await sending.result().status()).state is State.READY
        assert await waiting(app) == LIMIT


@story
async def test_a_sender_waits_so_long_and_no_longer() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="block", block_for="5s") as app:
        await fill(app)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_refused(app))
            await eventually(lambda: clock.waiting == 1, what="the sender waits")

            for _ in range(49):
                await clock.advance(SECOND // 10)
            assert not sending.done(), "4.9 seconds are not 5"
            await clock.advance(SECOND // 10)

        assert "mail" in sending.result()


async def _refused(app: App) -> str:
    with pytest.raises(QueueFull) as caught:
        await app.send("job", 9, queue="mail")
    return str(caught.value)


@story
async def test_a_blocked_sender_holds_up_nobody_else_on_its_link() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="block") as app:
        await fill(app)
        async with asyncio.TaskGroup() as group:
            blocked = [group.create_task(app.send("job", 9, queue="mail")) for _ in range(20)]
            await eventually(lambda: clock.waiting == 20, what="all wait")

            await app.send("other", queue="free")

            assert await waiting(app, "free") == 1
            assert not any(task.done() for task in blocked)
            for task in blocked:
                task.cancel()


@story
async def test_a_sender_that_is_cancelled_while_it_waits_has_sent_nothing() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="block") as app:
        await fill(app)
        sending = asyncio.get_running_loop().create_task(app.send("job", 9, queue="mail"))
        await eventually(lambda: clock.waiting == 1, what="the sender waits")

        sending.cancel()
        await asyncio.wait([sending])
        await make_room(app, LIMIT)
        await clock.advance(30 * SECOND)

        assert sending.cancelled()
        assert await waiting(app) == 0


@story
async def test_many_wait_their_turn_and_keep_their_order() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="block", block_for="1s") as app:
        job = app.named("job")
        sent: list[int] = []
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(app.send_many([job.bind(n) for n in range(4 * LIMIT)]))
            # Each time something is stored, the second begins anew: in all it takes longer than one.
            for _ in range(3):
                await eventually(lambda: clock.waiting == 1, what="the sender waits")
                await clock.advance(6 * SECOND // 10)
                sent.append(await waiting(app))
                await make_room(app, LIMIT)
                await clock.advance(3 * SECOND // 10)
            # The last pause may be a longer one.
            while not sending.done():
                await eventually(lambda: sending.done() or clock.waiting == 1)
                await clock.advance(SECOND // 10)

        handles = sending.result()
        assert len({handle.id for handle in handles}) == 4 * LIMIT
        created = [(await handle.status()).created for handle in handles]
        assert created == sorted(created)
        assert sent == [LIMIT] * 3


@story
async def test_of_many_that_waited_in_vain_what_is_stored_is_known() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="block", block_for="1s") as app:
        job = app.named("job")

        async def send() -> QueueFull:
            with pytest.raises(QueueFull) as caught:
                await app.send_many([job.bind(n) for n in range(LIMIT + 2)])
            return caught.value

        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send())
            await eventually(lambda: clock.waiting == 1, what="the sender waits")
            await make_room(app)
            await clock.advance(SECOND // 2)
            for _ in range(12):
                await clock.advance(SECOND // 10)

        assert [handle is not None for handle in sending.result().handles] == [True] * (LIMIT + 1) + [False]


@story
async def test_an_app_may_wait_where_another_has_set_the_limit() -> None:
    clock, engine = VirtualClock(), MemoryEngine()
    owner = limited(engine, clock)
    sender = App(engine, queues={"mail": QueueOptions(when_full="block")}, clock=clock)
    async with owner, sender:
        await fill(owner)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(sender.send("job", 9, queue="mail"))
            await eventually(lambda: clock.waiting == 1, what="the sender waits")
            await make_room(owner)
            await clock.advance(SECOND)

        assert sending.result().id


# -- drop what has expired


@story
async def test_what_has_expired_makes_room_where_that_is_asked_for() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="drop-expired") as app:
        job = app.named("job")
        stale = [await job.options(expires="1m").send(n) for n in range(LIMIT)]
        with pytest.raises(QueueFull):
            await job.send(9)

        await clock.advance(61 * SECOND)

        await job.send(9)
        assert {(await one.status()).state for one in stale} == {State.EXPIRED}
        assert await waiting(app) == 1


@story
async def test_a_task_that_was_dropped_is_told_to_who_waits_for_it() -> None:
    clock = VirtualClock()
    async with limited(clock=clock, when_full="drop-expired") as app:
        job = app.named("job")
        (stale, *_) = [await job.options(expires="1m").send(n) for n in range(LIMIT)]
        async with asyncio.TaskGroup() as group:
            result = group.create_task(_ended(stale, TaskExpired))
            await clock.advance(61 * SECOND)
            await job.send(9)
        assert result.result()


async def _ended(handle: Any, how: type[Exception]) -> bool:
    with pytest.raises(how):
        await handle.result()
    return True


# -- what it costs those who have none


@story
async def test_a_link_asks_once_for_a_send_that_is_refused() -> None:
    engine = Spied(MemoryEngine())
    async with limited(engine) as app:
        await fill(app)
        before = engine.calls["publish"]

        await _refused(app)

        assert engine.calls["publish"] == before + 1
