"""Claims about receiving: to each its own, in order, no more than asked for, and soon."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from forebay.engine import Ask, Ordering, Settled, Settlement, Source
from forebay.model import verdict as v
from forebay.model.message import EntryId
from forebay.model.policy import NAMES_KEPT
from forebay.model.query import CancelNow, Pause, Resume, Selector
from forebay.model.when import SECOND, After
from forebay.support.ids import new_token
from forebay.testing.clock import eventually
from forebay.testing.conformance.harness import FAILURE, WORK, Harness, any_engine, but, claims, ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Delivery
    from forebay.model.message import Message
    from forebay.model.when import Micros

LONG: Final = 3_600 * SECOND
OTHER: Final = Source(queue="other")


async def a_delivery_says_where_it_stands(h: Harness) -> None:
    token, start = new_token(), h.now()
    await h.publish(h.message())

    (delivery,) = await h.take(token=token)

    assert (delivery.token, delivery.source) == (token, WORK)
    assert (delivery.attempts, delivery.crashes, delivery.releases, delivery.unknown_since) == (0, 0, 0, None)
    assert abs(delivery.created - start) < 60 * SECOND
    assert delivery.created <= delivery.received


async def nobody_else_gets_what_one_has(h: Harness) -> None:
    await h.publish(h.message())
    await h.take_one("one")

    assert await h.take(worker="two") == []


async def fifty_claimers_share_without_overlap(h: Harness) -> None:
    messages = h.messages(400)
    await h.publish(*messages)
    brokers = [await h.broker(f"worker {i}") for i in range(5)]
    got: list[str] = []

    async def claimer(number: int) -> None:
        while taken := await brokers[number % 5].receive([Ask(WORK, new_token(), 3)], wait=0):
            got.extend(ids(taken))

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(claimer(number))

    assert sorted(got) == sorted(message.id for message in messages)


async def no_more_is_taken_than_asked_for(h: Harness) -> None:
    await h.publish(*h.messages(10))

    assert [len(await h.take(3)) for _ in range(5)] == [3, 3, 3, 1, 0]


async def equals_come_in_the_order_they_were_sent(h: Harness) -> None:
    batch = h.messages(30)
    await h.publish(*batch[:20])
    await h.publish(*batch[20:])

    assert ids([*await h.take(7), *await h.take(23)]) == [message.id for message in batch]


async def what_is_handed_back_keeps_its_place(h: Harness) -> None:
    batch = h.messages(3)
    await h.publish(*batch)
    await h.settle(await h.take_one(), v.Release())

    assert ids(await h.take()) == [message.id for message in batch]


async def the_higher_priority_comes_first(h: Harness) -> None:
    batch = [but(h.message(), priority=p) for p in (0, 9, 5, 3, 7, 9)] + [h.message()]
    await h.publish(*batch)

    taken = [*await h.take(2), *await h.take(5)]

    assert [d.message.priority for d in taken] == [9, 9, 7, 5, 4, 3, 0]
    assert [d.message for d in taken[:2]] == [batch[1], batch[5]]


async def a_priority_holds_on_the_next_try(h: Harness) -> None:
    await h.publish(but(h.message(), priority=8))
    await h.settle(await h.take_one(), v.Retry(After(0), FAILURE))
    await h.publish(but(h.message(), priority=7), but(h.message(), priority=9))

    assert [d.message.priority for d in await h.take()] == [9, 8, 7]


# -- tokens


async def the_same_token_gets_the_same_again(h: Harness) -> None:
    await h.publish(*h.messages(5))
    token = new_token()

    first = await h.take(3, token=token)
    again = await h.take(3, token=token)

    assert len(first) == 3
    assert ids(again) == ids(first)
    assert len(await h.take()) == 2


async def the_same_token_gets_only_what_is_still_under_it(h: Harness) -> None:
    await h.publish(*h.messages(3))
    token = new_token()
    done, *left = await h.take(3, token=token)
    await h.settle(done, v.Done())

    assert ids(await h.take(3, token=token)) == ids(left)


# -- several sources


async def _both(h: Harness, number: int) -> None:
    """The same number of messages in two queues."""
    await h.broker(sources=[WORK, OTHER])
    await h.publish(*h.messages(number), *(but(m, queue=OTHER.queue) for m in h.messages(number)))


async def all_sources_are_asked_at_once_and_in_the_order_of_the_asks(h: Harness) -> None:
    await _both(h, 2)
    asks = [Ask(OTHER, new_token(), 5), Ask(WORK, new_token(), 5)]

    taken = await (await h.broker()).receive(asks, wait=h.wait)

    assert [(d.source, d.token) for d in taken] == [(ask.source, ask.token) for ask in asks for _ in "12"]
    assert [d.message.queue for d in taken] == [d.source.queue for d in taken]


async def what_one_ask_takes_the_next_ones_do_not(h: Harness) -> None:
    await _both(h, 5)
    asks = [Ask(OTHER, new_token(), 3), Ask(WORK, new_token(), 5)]

    taken = await (await h.broker()).receive(asks, wait=h.wait, most=4)

    assert [d.source for d in taken] == [OTHER] * 3 + [WORK]


async def what_is_under_a_token_comes_before_anything_new(h: Harness) -> None:
    await _both(h, 5)
    broker, used, fresh = await h.broker(), Ask(OTHER, new_token(), 3), Ask(WORK, new_token(), 5)
    first = await broker.receive([used], wait=h.wait)

    again = await broker.receive([fresh, used], wait=h.wait, most=4)
    over = await broker.receive([used, Ask(WORK, new_token(), 5)], wait=0, most=2)

    assert len(first) == 3
    assert [d.source for d in again] == [WORK, OTHER, OTHER, OTHER]
    assert ids(again[1:]) == ids(first) == ids(over)


async def a_limit_of_zero_takes_nothing_new(h: Harness) -> None:
    await h.publish(*h.messages(2))
    broker, token = await h.broker(), new_token()

    assert list(await broker.receive([Ask(WORK, token, 0)], wait=0)) == []
    (held,) = await h.take(1, token=token)

    assert ids(await broker.receive([Ask(WORK, token, 0)], wait=0)) == [held.id]


# -- names


async def _named(h: Harness, *names: str, limit: int = 100, source: Source = WORK) -> list[Delivery]:
    """What is handed to a worker that says that it knows ``names``."""
    broker = await h.broker("knows", (source,))
    return list(await broker.receive([Ask(source, new_token(), limit, names)], wait=0))


async def _put_off(h: Harness, *messages: Message, due: Micros = LONG) -> None:
    """Messages that somebody has met who did not know their names."""
    await h.publish(*messages)
    for delivery in await h.take():
        assert await h.settle(delivery, v.Snooze(After(due), unknown=True)) is Settled.OK
    assert await h.take() == []


async def names_keep_nothing_else_away(h: Harness) -> None:
    await h.publish(h.message())
    broker = await h.broker()

    taken = await broker.receive([Ask(WORK, new_token(), 5, ("another",))], wait=h.wait)

    assert [d.message.name for d in taken] == ["job"]


async def what_one_does_not_know_is_handed_to_who_names_it_and_to_nobody_else(h: Harness) -> None:
    await _put_off(h, h.message())

    assert await _named(h, "another", "jo", "job2") == []
    assert await _named(h, "job", source=OTHER) == []
    (delivery,) = await _named(h, "another", "job")

    assert (delivery.message.name, delivery.attempts, delivery.releases) == ("job", 0, 0)
    assert await h.settle(delivery, v.Done(), worker="knows") is Settled.OK
    assert await _named(h, "job") == []


async def what_is_put_off_for_another_reason_waits_for_its_time(h: Harness) -> None:
    await h.publish(h.message(), but(h.message(), due=After(LONG)))
    await h.settle(await h.take_one(), v.Snooze(After(LONG)))

    assert await _named(h, "job") == []


async def what_one_does_not_know_wakes_who_waits_and_names_it(h: Harness) -> None:
    await h.publish(h.message())
    delivery, broker = await h.take_one(), await h.broker("knows")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.receive([Ask(WORK, new_token(), 5, ("job",))], wait=LONG))
        await h.asleep()
        await h.settle(delivery, v.Snooze(After(LONG), unknown=True))
        await eventually(task.done, what="receive has returned")

    assert ids(task.result()) == [delivery.id]


async def who_names_something_else_waits_on(h: Harness) -> None:
    await h.publish(h.message())
    delivery, broker = await h.take_one(), await h.broker("knows")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.receive([Ask(WORK, new_token(), 5, ("another",))], wait=LONG))
        await h.asleep()
        await h.settle(delivery, v.Snooze(After(LONG), unknown=True))
        await h.asleep()
        assert not task.done()
        task.cancel()


async def what_was_put_off_comes_in_its_place_and_no_more_than_asked_for(h: Harness) -> None:
    batch = [but(m, priority=p) for m, p in zip(h.messages(6), (4, 4, 9, 4, 4, 5), strict=True)]
    await _put_off(h, batch[0], batch[2], batch[4])
    await h.publish(batch[1], batch[3], batch[5])

    first = await _named(h, "job", limit=3)

    # Places are by the time of arrival: those three came first.
    assert ids(first) == [m.id for m in (batch[2], batch[5], batch[0])]
    assert ids(await h.take()) == [batch[1].id, batch[3].id]
    assert ids(await _named(h, "job")) == [batch[4].id]


async def a_claim_of_what_was_put_off_can_be_repeated(h: Harness) -> None:
    await _put_off(h, *h.messages(3))
    broker, ask = await h.broker("knows"), Ask(WORK, new_token(), 2, ("job",))

    first = await broker.receive([ask], wait=0)
    again = await broker.receive([ask], wait=0)

    assert len(first) == 2
    assert ids(again) == ids(first)
    assert len(await _named(h, "job")) == 1


async def a_claim_of_what_was_put_off_that_is_cancelled_puts_it_back(h: Harness) -> None:
    await _put_off(h, *h.messages(12))
    broker, got = await h.broker("knows"), list[str]()

    for turns in range(12):
        ask = Ask(WORK, new_token(), 1, ("job",))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.receive([ask], wait=0))
            for _ in range(turns):
                await asyncio.wait([task], timeout=0)
            task.cancel()
        assert await h.take() == [], "who does not name it does not get it"
        (delivery,) = await broker.receive([ask], wait=0)
        got.append(delivery.id)
        assert await h.settle(delivery, v.Done(), worker="knows") is Settled.OK

    assert len(set(got)) == 12


async def who_has_no_room_says_what_it_knows_all_the_same(h: Harness) -> None:
    await _put_off(h, h.message(), due=2 * h.tick)
    await h.advance(h.tick)
    assert await _named(h, "job", limit=0) == []
    await h.advance(h.tick)

    assert (await h.take_one()).unknown_since is None


async def a_paused_queue_hands_out_nothing_that_was_put_off(h: Harness) -> None:
    await _put_off(h, h.message())
    store = await h.store()
    await store.steer(Selector(queue=WORK.queue), Pause())

    assert await _named(h, "job") == []
    await store.steer(Selector(queue=WORK.queue), Resume())
    assert len(await _named(h, "job")) == 1


async def what_was_put_off_can_expire_and_be_cancelled(h: Harness) -> None:
    late, other = but(h.message(), expires=After(h.tick)), h.message()
    await _put_off(h, late, other)
    store = await h.store()
    await store.steer(Selector(ids=(EntryId(other.id),)), CancelNow())
    await h.advance(h.tick + 1)

    assert await _named(h, "job") == []


async def a_name_is_unknown_since_when_nobody_asked_for_it(h: Harness) -> None:
    await _put_off(h, *h.messages(2), but(h.message(), name="other"), due=2 * h.tick)
    await h.advance(h.tick)
    (known,) = await _named(h, "job", limit=1)
    await h.advance(h.tick)

    taken = await h.take()

    assert known.unknown_since is not None
    assert [(d.message.name, d.unknown_since is None) for d in taken] == [("job", True), ("other", False)]


async def that_a_name_was_known_long_ago_is_forgotten(h: Harness) -> None:
    await _put_off(h, h.message(), due=2 * NAMES_KEPT)
    assert await _named(h, "job", limit=0) == []
    await h.advance(NAMES_KEPT + 1)
    await (await h.store()).sweep(1_000)
    await h.advance(NAMES_KEPT)

    assert (await h.take_one()).unknown_since is not None


# -- waiting


async def receive_gives_up_when_the_wait_is_over(h: Harness) -> None:
    broker = await h.broker()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.receive([Ask(WORK, new_token(), 5)], wait=h.tick))
        await h.asleep()
        await h.advance(h.tick // 2)
        assert not task.done()
        await h.advance(h.tick // 2 + 1)
        await eventually(task.done, what="receive has returned")

    assert list(task.result()) == []


async def _wakes(h: Harness, sender: str, *sources: Source) -> Sequence[Delivery]:
    """What a receive that waits returns after ``sender`` has published, without any time passing."""
    broker, other = await h.broker(sources=sources), await h.broker(sender)

    async with asyncio.TaskGroup() as group:
        asks = [Ask(source, new_token(), 5) for source in sources]
        task = group.create_task(broker.receive(asks, wait=LONG))
        await h.asleep()
        await other.publish([h.message()])
        await eventually(task.done, what="receive has returned")
    return task.result()


async def a_message_wakes_who_waits(h: Harness) -> None:
    assert len(await _wakes(h, "one", WORK)) == 1


async def a_message_from_another_broker_wakes_who_waits(h: Harness) -> None:
    assert len(await _wakes(h, "two", WORK)) == 1


async def a_message_for_any_of_the_sources_wakes_who_waits(h: Harness) -> None:
    (delivery,) = await _wakes(h, "two", OTHER, WORK)

    assert delivery.source == WORK


async def what_is_handed_back_wakes_who_waits(h: Harness) -> None:
    await h.publish(h.message())
    delivery, other = await h.take_one("one"), await h.broker("two")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(other.receive([Ask(WORK, new_token(), 5)], wait=LONG))
        await h.asleep()
        await h.settle(delivery, v.Release())
        await eventually(task.done, what="receive has returned")

    assert ids(task.result()) == [delivery.id]


async def a_wait_on_one_queue_is_not_ended_by_another(h: Harness) -> None:
    broker = await h.broker()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.receive([Ask(OTHER, new_token(), 5)], wait=h.tick))
        await h.asleep()
        await h.publish(h.message())
        await h.asleep()
        assert not task.done()
        await h.advance(h.tick + 1)
        await eventually(task.done, what="receive has returned")

    assert list(task.result()) == []
    assert len(await h.take()) == 1


# -- cancellation


async def a_receive_cancelled_while_it_waits_takes_nothing(h: Harness) -> None:
    broker = await h.broker()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.receive([Ask(WORK, new_token(), 5)], wait=LONG))
        await h.asleep()
        task.cancel()

    await h.publish(h.message())

    assert len(await h.take()) == 1


async def a_receive_cancelled_anywhere_loses_nothing(h: Harness) -> None:
    broker, messages = await h.broker(), h.messages(12)
    await h.publish(*messages)
    got = []

    for turns in range(len(messages)):
        token = new_token()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.receive([Ask(WORK, token, 1)], wait=0))
            for _ in range(turns):
                await asyncio.wait([task], timeout=0)
            task.cancel()
        (delivery,) = await h.take(1, token=token)
        got.append(delivery.message.id)
        assert await h.settle(delivery, v.Done()) is Settled.OK

    assert sorted(got) == [message.id for message in messages]
    await h.nothing()


async def a_settle_cancelled_anywhere_can_be_repeated(h: Harness) -> None:
    broker = await h.broker()
    for turns in range(12):
        await h.publish(h.message())
        delivery = await h.take_one()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.settle([Settlement(delivery, v.Done())]))
            for _ in range(turns):
                await asyncio.wait([task], timeout=0)
            task.cancel()

        assert await h.settle(delivery, v.Done()) is Settled.OK
        await h.nothing()


CLAIMS: Final = (
    *claims(
        "claim",
        any_engine,
        a_delivery_says_where_it_stands,
        nobody_else_gets_what_one_has,
        fifty_claimers_share_without_overlap,
        the_same_token_gets_the_same_again,
        the_same_token_gets_only_what_is_still_under_it,
        all_sources_are_asked_at_once_and_in_the_order_of_the_asks,
        what_is_under_a_token_comes_before_anything_new,
        a_limit_of_zero_takes_nothing_new,
        names_keep_nothing_else_away,
        receive_gives_up_when_the_wait_is_over,
        a_message_wakes_who_waits,
        a_message_from_another_broker_wakes_who_waits,
        a_message_for_any_of_the_sources_wakes_who_waits,
        what_is_handed_back_wakes_who_waits,
        a_wait_on_one_queue_is_not_ended_by_another,
        a_receive_cancelled_while_it_waits_takes_nothing,
        a_receive_cancelled_anywhere_loses_nothing,
        a_settle_cancelled_anywhere_can_be_repeated,
    ),
    *claims(
        "claim", lambda t: t.exact, no_more_is_taken_than_asked_for, what_one_ask_takes_the_next_ones_do_not
    ),
    *claims(
        "claim",
        lambda t: t.ordering is Ordering.FIFO,
        equals_come_in_the_order_they_were_sent,
        what_is_handed_back_keeps_its_place,
    ),
    *claims(
        "claim",
        lambda t: t.remembers and t.delay,
        what_one_does_not_know_is_handed_to_who_names_it_and_to_nobody_else,
        what_is_put_off_for_another_reason_waits_for_its_time,
        what_one_does_not_know_wakes_who_waits_and_names_it,
        who_names_something_else_waits_on,
        a_claim_of_what_was_put_off_can_be_repeated,
        a_claim_of_what_was_put_off_that_is_cancelled_puts_it_back,
        who_has_no_room_says_what_it_knows_all_the_same,
        a_paused_queue_hands_out_nothing_that_was_put_off,
        a_name_is_unknown_since_when_nobody_asked_for_it,
    ),
    *claims(
        "claim",
        lambda t: t.remembers and t.delay and t.priorities and t.ordering is Ordering.FIFO,
        what_was_put_off_comes_in_its_place_and_no_more_than_asked_for,
    ),
    *claims(
        "claim",
        lambda t: t.remembers and t.delay and t.virtual_clock,
        that_a_name_was_known_long_ago_is_forgotten,
    ),
    *claims(
        "claim", lambda t: t.remembers and t.delay and t.expiry, what_was_put_off_can_expire_and_be_cancelled
    ),
    *claims(
        "priority", lambda t: t.priorities, the_higher_priority_comes_first, a_priority_holds_on_the_next_try
    ),
)
