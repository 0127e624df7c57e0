"""Claims about topics, and about the messages that follow from a settlement."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from forebay.engine import Settled, Settlement, Source, Stored
from forebay.model import verdict as v
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.when import After
from forebay.testing.conformance.harness import FAILURE, Harness, any_engine, but, claims, ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.engine import Delivery
    from forebay.model.message import Message

BILLING: Final = Source.subscription("orders.placed", "billing")
STOCK: Final = Source.subscription("orders.*", "stock")
AUDIT: Final = Source.subscription("**", "audit")
GROUPS: Final = (BILLING, STOCK, AUDIT)


async def every_group_gets_a_copy_of_its_own(h: Harness) -> None:
    broker, event = await h.broker("one", GROUPS), h.event("orders.placed")

    (answer,) = await broker.publish([event])

    assert (answer.status, answer.id) == (Stored.STORED, str(event.id))
    assert answer.groups in (3, None)
    for source in GROUPS:
        delivery = await h.take_one(source=source)
        assert (delivery.id, delivery.message) == (EntryId(f"{event.id}@{source.queue}"), event)
        assert await h.settle(delivery, v.Done()) is Settled.OK
        await h.nothing(source)


async def one_groups_failure_is_not_anothers(h: Harness) -> None:
    broker = await h.broker("one", GROUPS)
    await broker.publish([h.event("orders.placed")])

    await h.settle(await h.take_one(source=BILLING), v.Done())
    await h.settle(await h.take_one(source=STOCK), v.Retry(After(0), FAILURE))
    await h.settle(await h.take_one(source=AUDIT), v.Dead(v.Reason.ASKED))

    await h.nothing(BILLING)
    assert (await h.take_one(source=STOCK)).attempts == 1
    await h.nothing(AUDIT)


async def a_group_gets_what_its_pattern_matches(h: Harness) -> None:
    broker = await h.broker("one", GROUPS)
    topics = ("orders.placed", "orders.paid", "orders.eu.placed", "orders", "stock")
    await broker.publish([h.event(topic) for topic in topics])

    got = {
        source.group: sorted(d.message.topic or "" for d in await h.take(source=source)) for source in GROUPS
    }

    assert got == {
        "billing": ["orders.placed"],
        "stock": ["orders.paid", "orders.placed"],
        "audit": sorted(topics),
    }


async def the_members_of_a_group_share(h: Harness) -> None:
    broker = await h.broker("one", (STOCK,))
    await h.broker("two", (STOCK,))
    await broker.publish([h.event("orders.placed") for _ in range(10)])

    first = await h.take(4, source=STOCK)
    second = await h.take(worker="two", source=STOCK)

    assert len({d.id for d in (*first, *second)}) == 10


async def a_late_group_gets_what_comes_after_it(h: Harness) -> None:
    broker = await h.broker("one", (BILLING,))
    await broker.publish([h.event("orders.placed")])
    await h.broker("two", (STOCK,))
    late = h.event("orders.placed")
    await broker.publish([late])

    assert len(await h.take(source=BILLING)) == 2
    assert [d.message.id for d in await h.take(worker="two", source=STOCK)] == [late.id]


async def a_group_whose_workers_are_away_misses_nothing(h: Harness) -> None:
    away = h.engine.connect("away", h.clock)
    await away.declare([BILLING])
    await away.close()
    await h.publish(h.event("orders.placed"))

    assert len(await h.take(source=BILLING)) == 1


async def a_task_does_not_go_to_subscribers(h: Harness) -> None:
    await h.broker("one", (AUDIT,))
    await h.publish(h.message())

    assert len(await h.take()) == 1
    await h.nothing(AUDIT)


async def the_same_event_is_copied_once(h: Harness) -> None:
    broker, event = await h.broker("one", (BILLING, STOCK)), h.event("orders.placed")
    await broker.publish([event])
    await h.settle(await h.take_one(source=BILLING), v.Done())

    (again,) = await broker.publish([event])

    assert (again.status, again.id) == (Stored.DUPLICATE, str(event.id))
    await h.nothing(BILLING)
    assert len(await h.take(source=STOCK)) == 1


async def one_groups_copy_may_be_stored_by_itself(h: Harness) -> None:
    """What an inbox does: each group's copy comes on a way of its own, and again if its acknowledgement was lost."""
    broker, event = await h.broker("one", (BILLING, STOCK)), h.event("orders.placed")
    billing, stock = but(event, queue=BILLING.queue), but(event, queue=STOCK.queue)

    answers = await broker.publish([billing, stock, billing])

    assert [a.status for a in answers] == [Stored.STORED, Stored.STORED, Stored.DUPLICATE]
    assert [a.id for a in answers] == [
        f"{event.id}@{queue}" for queue in (BILLING.queue, STOCK.queue, BILLING.queue)
    ]
    assert (await h.take_one(source=STOCK)).message == stock
    assert (await h.take_one(source=BILLING)).message == billing
    await h.nothing(BILLING)


async def an_event_without_a_group_is_counted_and_not_kept(h: Harness) -> None:
    broker = await h.broker("one", (BILLING,))

    (answer,) = await broker.publish([h.event("nobody.listens")])

    assert (answer.status, answer.groups) == (Stored.STORED, 0)
    assert (await h.counters())["unrouted"] == 1
    await h.nothing(BILLING)


async def an_event_that_nobody_takes_is_no_failure(h: Harness) -> None:
    (answer,) = await (await h.broker()).publish([h.event("nobody.listens")])

    assert (answer.status, answer.groups) in {
        (Stored.STORED, 0),
        (Stored.STORED, None),
        (Stored.UNROUTED, None),
    }


async def the_copies_of_an_event_keep_its_priority_and_delay(h: Harness) -> None:
    broker = await h.broker("one", (BILLING,))
    low, high, late = (h.event("orders.placed") for _ in range(3))
    await broker.publish([but(low, priority=1), but(high, priority=8), but(late, due=After(h.tick))])

    assert [d.message.id for d in await h.take(source=BILLING)] == [high.id, low.id]
    await h.advance(h.tick)
    assert [d.message.id for d in await h.take(source=BILLING)] == [late.id]


async def the_counts_name_what_feeds_a_queue(h: Harness) -> None:
    store = await h.store("one", (BILLING,))

    (counts,) = [c for c in (await store.count()).queues if c.queue == BILLING.queue]

    assert (counts.pattern, counts.group) == ("orders.placed", "billing")


# -- what follows from a settlement


async def what_follows_leaves_with_done(h: Harness) -> None:
    await h.broker("one", (BILLING,))
    await h.publish(h.message("first"))
    task, event = h.message("follow-up"), h.event("orders.placed")

    assert await h.settle(await h.take_one(), v.Done(), task, event) is Settled.OK

    assert (await h.take_one()).message == task
    assert (await h.take_one(source=BILLING)).message == event


async def what_follows_leaves_with_nothing_but_done(h: Harness) -> None:
    verdicts = (v.Retry(After(0), FAILURE), v.Snooze(After(0)), v.Release(), v.Cancelled())
    for verdict in verdicts:
        await h.publish(h.message("first"))
        await h.settle(await h.take_one(), verdict, h.message("follow-up"))
        for delivery in await h.take():
            assert delivery.message.name == "first", verdict
            await h.settle(delivery, v.Done())
    await h.publish(h.message("first"))
    await h.settle(await h.take_one(), v.Dead(v.Reason.ASKED), h.message("follow-up"))
    await h.nothing()


async def what_follows_may_be_there_already(h: Harness) -> None:
    before = h.message("follow-up")
    await h.publish(h.message("first"))
    first = await h.take_one()
    await h.publish(before)

    assert await h.settle(first, v.Done(), before) is Settled.OK

    assert ids(await h.take()) == [before.id]


async def _cut_off_while_settling(h: Harness) -> AsyncIterator[tuple[Delivery, Message]]:
    """Settlements with one message that follows, each cancelled a little later than the one before."""
    broker = await h.broker()
    for turns in range(12):
        await h.publish(h.message("first"))
        delivery, then = await h.take_one(), h.message("follow-up")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.settle([Settlement(delivery, v.Done(), (then,))]))
            for _ in range(turns):
                await asyncio.wait([task], timeout=0)
            task.cancel()
        yield delivery, then


async def what_follows_is_there_if_and_only_if_the_delivery_has_ended(h: Harness) -> None:
    async for delivery, then in _cut_off_while_settling(h):
        ended = await h.state(delivery.id) is State.SUCCEEDED
        assert ids(await h.take()) == ([then.id] if ended else [])
        await h.settle(delivery, v.Done())


async def what_follows_is_never_missing_though_it_may_be_there_twice(h: Harness) -> None:
    async for delivery, then in _cut_off_while_settling(h):
        assert await h.settle(delivery, v.Done(), then) is Settled.OK
        taken = await h.take()
        assert set(ids(taken)) == {then.id}
        for one in taken:
            await h.settle(one, v.Done())


CLAIMS: Final = (
    *claims(
        "events",
        lambda t: t.fan_out,
        an_event_that_nobody_takes_is_no_failure,
        every_group_gets_a_copy_of_its_own,
        one_groups_failure_is_not_anothers,
        a_group_gets_what_its_pattern_matches,
        the_members_of_a_group_share,
        a_late_group_gets_what_comes_after_it,
        a_group_whose_workers_are_away_misses_nothing,
        a_task_does_not_go_to_subscribers,
    ),
    *claims("events", lambda t: t.fan_out and t.dedupes, the_same_event_is_copied_once),
    *claims("events", lambda t: t.fan_out and t.remembers, one_groups_copy_may_be_stored_by_itself),
    *claims(
        "events",
        lambda t: t.fan_out and t.remembers,
        an_event_without_a_group_is_counted_and_not_kept,
        the_counts_name_what_feeds_a_queue,
    ),
    *claims(
        "events",
        lambda t: t.fan_out and t.priorities and t.delay,
        the_copies_of_an_event_keep_its_priority_and_delay,
    ),
    *claims("then", lambda t: t.fan_out, what_follows_leaves_with_done),
    *claims(
        "then",
        any_engine,
        what_follows_leaves_with_nothing_but_done,
        what_follows_is_never_missing_though_it_may_be_there_twice,
    ),
    *claims(
        "then",
        lambda t: t.settles_atomically and t.remembers,
        what_follows_is_there_if_and_only_if_the_delivery_has_ended,
    ),
    *claims("then", lambda t: t.dedupes, what_follows_may_be_there_already),
)
