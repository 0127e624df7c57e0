"""Claims about durable steps, saved under a lease and read back by the next try, and about the events they wait for."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from forebay.engine import Settled, Settlement, Source
from forebay.model import query as q, verdict as v
from forebay.model.message import JSON, EntryId
from forebay.model.saved import LARGEST_STEP, Kind, SavedStep
from forebay.model.state import State
from forebay.model.waits import ForEvent, ForSleep
from forebay.model.when import SECOND, After, At
from forebay.testing.conformance.harness import FAILURE, Harness, but, claims, fences, remembers

if TYPE_CHECKING:
    from forebay.engine import Delivery
    from forebay.model.message import Message
    from forebay.model.when import Micros

CHARGE: Final = SavedStep(name="charge", position=1, body=b'{"paid":7}', took=1_500)
SHIP: Final = SavedStep(name="ship#2", position=2, body=b"\xff\0raw", content_type="text/plain")


async def what_was_saved_is_read_back(h: Harness) -> None:
    message, other = h.message(), h.message()
    await h.publish(message, other)
    delivery = await h.take_one()
    store = await h.store()
    before = h.now()

    assert await store.save(delivery, [CHARGE]) is Settled.OK
    assert await store.save(delivery, [SHIP]) is Settled.OK

    found = await store.saved(delivery.id)
    assert [but(step, at=0, number=0) for step in found] == [CHARGE, SHIP], (
        "in the order in which they were saved"
    )
    assert all(step.number == 1 and before <= step.at <= h.now() for step in found)
    assert not await store.saved(EntryId(other.id))
    assert not await store.saved(EntryId("nobody"))


async def the_next_try_finds_what_was_saved(h: Harness) -> None:
    await h.publish(h.message())
    first = await h.take_one()
    store = await h.store()
    await store.save(first, [CHARGE])
    await h.settle(first, v.Retry(After(0), FAILURE))

    await h.advance(1)
    second = await h.take_one()
    await store.save(second, [SHIP])

    assert [(step.name, step.number) for step in await store.saved(second.id)] == [
        ("charge", 1),
        ("ship#2", 2),
    ]


async def a_step_that_is_there_stays_as_it_is(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store = await h.store()
    await store.save(delivery, [CHARGE])
    (first,) = await store.saved(delivery.id)

    await h.advance(h.tick)
    assert await store.save(delivery, [but(CHARGE, body=b"2"), SHIP]) is Settled.OK

    found = await store.saved(delivery.id)
    assert found[0] == first
    assert [step.name for step in found] == ["charge", "ship#2"]


async def a_step_under_a_lost_lease_is_not_saved(h: Harness) -> None:
    await h.publish(h.message())
    late = await h.take_one("late")
    await h.lose()
    store = await h.store()

    assert await store.save(late, [CHARGE]) is Settled.STALE
    again = await h.take_one()
    assert await store.save(late, [CHARGE]) is Settled.STALE

    assert not await store.saved(again.id)


async def a_step_of_a_try_that_is_over_is_not_saved(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store = await h.store()
    await h.settle(delivery, v.Done())

    assert await store.save(delivery, [CHARGE]) is Settled.STALE
    assert not await store.saved(delivery.id)


async def a_message_that_is_retried_goes_on_where_it_was(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store = await h.store()
    await store.save(delivery, [CHARGE])
    await h.settle(delivery, v.Dead(v.Reason.ASKED, FAILURE))

    await h.steer(q.Redrive())

    assert [step.name for step in await store.saved((await h.take_one()).id)] == ["charge"]


async def steps_are_deleted_with_their_message(h: Harness) -> None:
    messages = h.messages(20)
    await h.publish(*messages)
    store = await h.store()
    deliveries = await h.take()
    for delivery in deliveries:
        await store.save(delivery, [CHARGE])
    await store.settle([Settlement(delivery, v.Done()) for delivery in deliveries])

    await h.steer(q.Delete())
    await h.publish(*messages)

    for message in messages:
        assert not await store.saved(EntryId(message.id))


async def a_copy_of_an_event_has_steps_of_its_own(h: Harness) -> None:
    sources = [Source.subscription("orders.placed", group) for group in ("billing", "stock")]
    store = await h.store("one", sources)
    await h.publish(h.event("orders.placed"))
    first, second = [(await h.take(1, source=source))[0] for source in sources]

    await store.save(first, [CHARGE])

    assert len(await store.saved(first.id)) == 1
    assert not await store.saved(second.id)


async def a_thousand_steps_are_kept(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store = await h.store()
    steps = [SavedStep(name=f"thumbs[{n}]", position=1, body=b"%d" % n) for n in range(1_000)]

    assert await store.save(delivery, steps) is Settled.OK

    assert [step.body for step in await store.saved(delivery.id)] == [step.body for step in steps]


async def a_sleep_and_what_waits_are_kept_with_their_time(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store = await h.store()
    sleep = SavedStep(name="sleep", kind=Kind.SLEEP, position=1, due=h.now() + 90 * SECOND)
    wait = SavedStep(
        name="paid", kind=Kind.WAIT, position=2, due=h.now() + 90 * SECOND, topic="paid", key="7"
    )
    mark = SavedStep(name="version:v2", kind=Kind.VERSION)

    await store.save(delivery, [sleep, wait, mark])

    assert [but(step, at=0, number=0) for step in await store.saved(delivery.id)] == [sleep, wait, mark]


WAIT: Final = SavedStep(name="approval", kind=Kind.WAIT, position=1, topic="approvals", key="7")


async def waiting(h: Harness, *steps: SavedStep, after: Micros = 90 * SECOND) -> Delivery:
    """A message whose handler has left its try to wait."""
    await h.publish(h.message())
    delivery = await h.take_one()
    due = h.now() + after
    await (await h.store()).save(delivery, [but(step, due=due) for step in steps])
    await h.settle(delivery, v.Snooze(At(due), awaits=True))
    return delivery


def approval(h: Harness, key: str | None = "7", body: bytes = b'{"by":"ana"}') -> Message:
    return but(h.event("approvals"), key=key, body=body)


async def a_time_that_counts_from_the_save_is_the_stores(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    await h.advance(h.tick)
    before = h.now()

    await (await h.store()).save(delivery, [SavedStep(name="nap", kind=Kind.SLEEP, lasts=h.tick)])

    (step,) = await (await h.store()).saved(delivery.id)
    assert step.lasts is None
    assert step.due == step.at + h.tick
    assert step.at >= before


async def an_event_wakes_who_waits_for_it(h: Harness) -> None:
    waiter = await waiting(h, WAIT)
    await h.nothing()
    await h.advance(h.tick // 2)

    await h.publish(approval(h))

    again = await h.take_one()
    assert again.id == waiter.id
    assert (again.attempts, again.crashes, again.releases) == (0, 0, 0)
    (step,) = await (await h.store()).saved(waiter.id)
    assert (step.body, step.content_type) == (b'{"by":"ana"}', JSON)
    assert step.met is not None
    assert step.at < step.met <= h.now()


async def who_publishes_learns_whether_the_event_was_awaited(h: Harness) -> None:
    await waiting(h, WAIT)
    store = await h.store()

    answers = await store.publish([approval(h), approval(h, key="8"), approval(h)])
    answers = [*answers, *await store.publish([approval(h)])]

    assert [(answer.groups, answer.awaited) for answer in answers] == [
        (0, True), (0, False), (0, False), (0, False),
    ]  # fmt: skip


async def only_the_event_that_is_waited_for_wakes(h: Harness) -> None:
    waiter = await waiting(h, WAIT)

    await h.publish(approval(h, key="8"), approval(h, key=None), but(h.event("approvals.other"), key="7"))

    await h.nothing()
    assert all(step.met is None for step in await (await h.store()).saved(waiter.id))


async def without_a_key_any_event_of_the_topic_will_do(h: Harness) -> None:
    waiter = await waiting(h, but(WAIT, key=None))

    await h.publish(approval(h, key="8"))

    assert (await h.take_one()).id == waiter.id


async def the_first_event_is_the_one_that_is_kept(h: Harness) -> None:
    waiter = await waiting(h, WAIT)

    await h.publish(approval(h, body=b"1"), approval(h, body=b"2"))
    await h.publish(approval(h, body=b"3"))

    (step,) = await (await h.store()).saved(waiter.id)
    assert step.body == b"1"


async def an_event_that_came_before_is_not_seen(h: Harness) -> None:
    await h.publish(approval(h))

    waiter = await waiting(h, WAIT)

    await h.nothing()
    assert (await (await h.store()).saved(waiter.id))[0].met is None


async def an_event_that_comes_before_the_try_has_ended_is_not_lost(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store, due = await h.store(), h.now() + 90 * SECOND
    await store.save(delivery, [but(WAIT, due=due)])

    await h.publish(approval(h))
    await h.settle(delivery, v.Snooze(At(due), awaits=True))

    assert (await h.take_one()).id == delivery.id
    assert (await store.saved(delivery.id))[0].body == b'{"by":"ana"}'


async def an_event_that_was_seen_wakes_no_later_try(h: Harness) -> None:
    second = but(WAIT, name="second", position=2, key="8")
    waiter = await waiting(h, WAIT)
    await h.publish(approval(h))
    again = await h.take_one()
    due = h.now() + 90 * SECOND
    await (await h.store()).save(again, [but(second, due=due)])

    await h.settle(again, v.Snooze(At(due), awaits=True))

    await h.nothing()
    await h.publish(approval(h, key="8"))
    assert (await h.take_one()).id == waiter.id


async def another_end_of_a_try_keeps_its_time(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    store = await h.store()
    await store.save(delivery, [but(WAIT, due=h.now() + 90 * SECOND)])

    await h.publish(approval(h))
    await h.settle(delivery, v.Retry(After(h.tick), FAILURE))

    await h.nothing()
    await h.advance(h.tick)
    await h.take_one()
    assert (await store.saved(delivery.id))[0].met is not None


async def after_its_time_an_event_is_not_seen(h: Harness) -> None:
    waiter = await waiting(h, WAIT, after=h.tick)

    await h.advance(h.tick)
    await h.publish(approval(h))

    assert (await h.take_one()).received >= waiter.received + h.tick
    assert (await (await h.store()).saved(waiter.id))[0].met is None


async def an_event_that_follows_from_a_success_wakes_too(h: Harness) -> None:
    waiter = await waiting(h, WAIT)
    await h.publish(h.message())
    delivery = await h.take_one()

    await h.settle(delivery, v.Done(), approval(h))

    assert (await h.take_one()).id == waiter.id


async def an_event_that_did_not_take_effect_wakes_nobody(h: Harness) -> None:
    waiter = await waiting(h, WAIT)
    await h.publish(h.message())
    late = await h.take_one("late")
    await h.steer(q.HandBack("late"))

    assert await h.settle(late, v.Done(), approval(h)) is Settled.STALE

    assert (await (await h.store()).saved(waiter.id))[0].met is None


async def an_event_wakes_with_the_copies_of_its_groups(h: Harness) -> None:
    source = Source.subscription("approvals", "audit")
    await h.store("one", (source,))
    waiter = await waiting(h, WAIT)
    event = approval(h)

    await h.publish(event)
    assert (await h.take_one(source=source)).message.body == event.body
    again = await h.take_one()
    assert again.id == waiter.id

    # The same once more is a duplicate, and no event.
    due = h.now() + 90 * SECOND
    await (await h.store()).save(again, [but(WAIT, name="again", due=due)])
    await h.publish(event)
    assert (await (await h.store()).saved(waiter.id))[1].met is None


async def an_event_too_large_to_keep_is_known_to_have_come(h: Harness) -> None:
    waiter = await waiting(h, WAIT)

    await h.publish(approval(h, body=b"1" * (LARGEST_STEP + 1)))

    await h.take_one()
    (step,) = await (await h.store()).saved(waiter.id)
    assert step.met is not None
    assert step.body is None


async def raw_events_keep_their_content_type(h: Harness) -> None:
    waiter = await waiting(h, WAIT)

    await h.publish(but(approval(h, body=b"\xff"), content_type="text/plain"))

    (step,) = await (await h.store()).saved(waiter.id)
    assert (step.body, step.content_type) == (b"\xff", "text/plain")


async def an_event_wakes_all_who_wait_for_it(h: Harness) -> None:
    number = 2_500
    messages = h.messages(number)
    await h.publish(*messages)
    store, due = await h.store(), h.now() + 90 * SECOND
    deliveries = await h.take(number)
    await asyncio.gather(*(store.save(delivery, [but(WAIT, due=due)]) for delivery in deliveries))
    await store.settle([Settlement(delivery, v.Snooze(At(due), awaits=True)) for delivery in deliveries])

    answers = await store.publish([approval(h, body=b"1"), approval(h, body=b"2"), approval(h, key="8")])
    assert [answer.awaited for answer in (answers[0], answers[2])] == [True, False]
    while (await store.sweep(1_000)).more:
        pass

    woken = 0
    while taken := await h.take(number):
        woken += len(taken)
    assert woken == number
    for delivery in deliveries[::100]:
        assert (await store.saved(delivery.id))[0].body == b"1", "the first, for each of them"


async def what_is_waited_for_is_told(h: Harness) -> None:
    await h.publish(h.message())
    sleeper = await h.take_one()
    until = h.now() + h.tick
    await (await h.store()).save(sleeper, [SavedStep(name="nap", kind=Kind.SLEEP, due=until)])
    await h.settle(
        sleeper, v.Snooze(At(until + 5_000))
    )  # what is put off after the save is due a little after it
    assert (await h.record(sleeper.id)).waits == ForSleep(step="nap", until=until)

    other = await waiting(h, WAIT)
    record = await h.record(other.id)
    assert record.waits == ForEvent(topic="approvals", key="7", until=record.due)

    await h.publish(approval(h))
    assert (await h.record(other.id)).waits is None


async def one_that_waits_can_be_cancelled_and_deleted(h: Harness) -> None:
    waiter = await waiting(h, WAIT)
    await h.steer(q.CancelNow())
    assert await h.state(waiter.id) is State.CANCELLED
    await h.publish(approval(h))
    assert await h.state(waiter.id) is State.CANCELLED

    other = await waiting(h, WAIT)
    await h.steer(q.Delete())
    await h.publish(approval(h))
    await h.nothing()
    assert not await (await h.store()).saved(other.id)


CLAIMS: Final = (
    *claims(
        "steps",
        remembers,
        what_was_saved_is_read_back,
        the_next_try_finds_what_was_saved,
        a_step_that_is_there_stays_as_it_is,
        a_step_of_a_try_that_is_over_is_not_saved,
        a_message_that_is_retried_goes_on_where_it_was,
        steps_are_deleted_with_their_message,
        a_copy_of_an_event_has_steps_of_its_own,
        a_thousand_steps_are_kept,
        a_sleep_and_what_waits_are_kept_with_their_time,
        a_time_that_counts_from_the_save_is_the_stores,
        what_is_waited_for_is_told,
        one_that_waits_can_be_cancelled_and_deleted,
    ),
    *claims(
        "events-awaited",
        remembers,
        an_event_wakes_who_waits_for_it,
        who_publishes_learns_whether_the_event_was_awaited,
        only_the_event_that_is_waited_for_wakes,
        without_a_key_any_event_of_the_topic_will_do,
        the_first_event_is_the_one_that_is_kept,
        an_event_that_came_before_is_not_seen,
        an_event_that_comes_before_the_try_has_ended_is_not_lost,
        an_event_that_was_seen_wakes_no_later_try,
        another_end_of_a_try_keeps_its_time,
        after_its_time_an_event_is_not_seen,
        an_event_that_follows_from_a_success_wakes_too,
        an_event_that_did_not_take_effect_wakes_nobody,
        an_event_wakes_with_the_copies_of_its_groups,
        an_event_too_large_to_keep_is_known_to_have_come,
        raw_events_keep_their_content_type,
        an_event_wakes_all_who_wait_for_it,
    ),
    *claims("steps", lambda t: remembers(t) and fences(t), a_step_under_a_lost_lease_is_not_saved),
)
