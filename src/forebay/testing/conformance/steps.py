"""Claims about durable steps: saved under a lease, read back by the next try, gone with their message."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import Final

from forebay.engine import Settled, Settlement, Source
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.saved import Kind, SavedStep
from forebay.model.when import SECOND, After
from forebay.testing.conformance.harness import FAILURE, Harness, but, claims, fences, remembers

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
    ),
    *claims("steps", lambda t: remembers(t) and fences(t), a_step_under_a_lost_lease_is_not_saved),
)
