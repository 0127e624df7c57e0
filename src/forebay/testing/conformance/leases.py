"""Claims about leases: the right to a message lasts while it is renewed, and nobody writes without it."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from forebay.engine import Ask, Losses, Notice, Settled, Settlement
from forebay.errors import Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.state import State
from forebay.model.when import After
from forebay.support.ids import new_token
from forebay.testing.conformance.harness import (
    FAILURE,
    WORK,
    Harness,
    any_engine,
    claims,
    fences,
    ids,
    refused,
    renews,
    tethered,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from forebay.engine import Tethered


async def a_lost_lease_hands_the_message_to_another(h: Harness) -> None:
    await h.publish(h.message())
    first = await h.take_one("one")
    await h.advance(h.lease // 2)
    assert await h.take(worker="two") == []

    await h.advance(h.lease // 2 + 1)
    if h.traits.remembers:
        await (await h.store()).sweep(100)
    second = await h.take_one("two")

    assert second.id == first.id
    assert second.token != first.token
    assert (second.attempts, second.crashes) == (0, 1)


async def a_renewed_lease_keeps_the_message(h: Harness) -> None:
    await h.publish(h.message())
    delivery, broker = await h.take_one(), await h.broker()

    for _ in range(6):
        await h.advance(h.lease // 2)
        assert list(await broker.extend([delivery])) == [Notice.KEPT]
        if h.traits.remembers:
            await (await h.store()).sweep(100)

    await h.nothing()
    assert await h.settle(delivery, v.Done()) is Settled.OK


async def what_a_receive_took_is_renewed_before_its_answer_is_seen(h: Harness) -> None:
    await h.publish(h.message())
    delivery, broker = await h.take_one(), await h.broker()

    for _ in range(6):
        await h.advance(h.lease // 2)
        assert list(await broker.extend([], under_way=[new_token(), delivery.token])) == []
        if h.traits.remembers:
            await (await h.store()).sweep(100)

    await h.nothing()
    assert await h.settle(delivery, v.Done()) is Settled.OK


async def what_is_not_named_goes_back_while_its_sibling_is_kept(h: Harness) -> None:
    await h.publish(*h.messages(3))
    kept, *_ = await h.take(3)
    broker = await h.broker()

    for _ in range(3):
        await h.advance(h.lease // 2)
        assert list(await broker.extend([kept])) == [Notice.KEPT]
        if h.traits.remembers:
            await (await h.store()).sweep(100)

    back = await h.take(worker="two")
    assert kept.id not in ids(back)
    assert [(d.attempts, d.crashes) for d in back] == [(0, 1)] * 2
    assert await h.settle(kept, v.Done()) is Settled.OK


async def what_is_not_named_stays_while_its_receive_is_under_way(h: Harness) -> None:
    await h.publish(*h.messages(3))
    known, *_ = await h.take(3)
    broker = await h.broker()

    for _ in range(6):
        await h.advance(h.lease // 2)
        assert list(await broker.extend([known], under_way=[known.token])) == [Notice.KEPT]
        if h.traits.remembers:
            await (await h.store()).sweep(100)

    await h.nothing()


async def a_late_settle_changes_nothing_and_says_so(h: Harness) -> None:
    await h.publish(h.message())
    first = await h.take_one("one")
    await h.lose()

    assert await h.settle(first, v.Done(b"1")) is Settled.STALE
    second = await h.take_one("two")
    for verdict in (
        v.Done(b"1"),
        v.Retry(After(0), FAILURE),
        v.Dead(v.Reason.ASKED),
        v.Release(),
        v.Cancelled(),
    ):
        assert await h.settle(first, verdict) is Settled.STALE
        await h.nothing()

    assert await h.settle(second, v.Done(b"2"), worker="two") is Settled.OK
    assert await h.settle(first, v.Done(b"1")) is Settled.STALE


async def late_settles_are_counted(h: Harness) -> None:
    await h.publish(h.message())
    first = await h.take_one()
    await h.lose()
    before = (await h.counters())["stale"]

    await h.settle(first, v.Done())
    await h.settle(first, v.Done())

    assert (await h.counters())["stale"] == before + 2
    assert await h.states() == {State.READY: 1}


async def what_follows_a_late_settle_is_not_sent(h: Harness) -> None:
    await h.publish(h.message("first"))
    first = await h.take_one("one")
    await h.lose()

    assert await h.settle(first, v.Done(), h.message("follow-up")) is Settled.STALE

    assert [d.message.name for d in await h.take()] == ["first"]


async def a_renewal_of_a_lost_lease_says_so(h: Harness) -> None:
    await h.publish(*h.messages(2))
    lost = await h.take_one("one")
    await h.lose()
    kept = await h.take_one("two")
    await h.settle(kept, v.Release(), worker="two")
    again = {d.id: d for d in await h.take(worker="one")}
    broker = await h.broker()

    assert list(await broker.extend([lost, again[lost.id], kept])) == [Notice.LOST, Notice.KEPT, Notice.LOST]


async def a_renewal_after_the_settle_says_lost(h: Harness) -> None:
    await h.publish(h.message())
    delivery, broker = await h.take_one(), await h.broker()
    await h.settle(delivery, v.Done())

    assert list(await broker.extend([delivery])) == [Notice.LOST]


async def a_settle_may_be_repeated(h: Harness) -> None:
    await h.publish(h.message("first"))
    delivery = await h.take_one()

    answers = [await h.settle(delivery, v.Done(), h.message("follow-up")) for _ in range(3)]

    assert answers == [Settled.OK] * 3
    if h.traits.dedupes:
        assert [d.message.name for d in await h.take()] == ["follow-up"]


async def a_repeated_settle_does_not_disturb_the_next_try(h: Harness) -> None:
    await h.publish(h.message())
    first = await h.take_one()
    await h.settle(first, v.Retry(After(0), FAILURE))
    second = await h.take_one("two")

    assert await h.settle(first, v.Retry(After(0), FAILURE)) is Settled.OK

    await h.nothing()
    assert second.attempts == 1
    assert await h.settle(second, v.Done(), worker="two") is Settled.OK


async def a_batch_of_settlements_is_answered_item_by_item(h: Harness) -> None:
    await h.publish(*h.messages(3))
    stale = await h.take_one()
    await h.lose()
    fresh = [d for d in await h.take() if d.id != stale.id]
    broker = await h.broker()

    answers = await broker.settle(
        [
            Settlement(fresh[0], v.Done()),
            Settlement(stale, v.Done()),
            Settlement(fresh[1], v.Dead(v.Reason.ASKED)),
        ]
    )

    assert list(answers) == [Settled.OK, Settled.STALE, Settled.OK]


async def handing_back_spends_no_attempt(h: Harness) -> None:
    await h.publish(h.message())
    await h.settle(await h.take_one(), v.Release())
    await h.settle(await h.take_one(), v.Release())

    delivery = await h.take_one()

    assert (delivery.attempts, delivery.crashes, delivery.releases) == (0, 0, 2)


async def a_message_that_kills_its_workers_is_quarantined(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    crashes = h.options.timing.crashes
    store = await h.store()

    for number in range(crashes):
        delivery = await h.take_one()
        assert (delivery.attempts, delivery.crashes) == (0, number)
        await h.advance(h.lease + 1)
        swept = await store.sweep(100)
        assert (swept.lost, swept.quarantined) == (1, int(number == crashes - 1))

    record = await h.record(message.id)
    assert (record.state, record.reason, record.crashes, record.attempts) == (
        State.DEAD,
        v.Reason.CRASHED,
        crashes,
        0,
    )
    assert len(record.tries) == crashes
    assert (await h.counters())["crashed"] == crashes
    await h.nothing()


async def a_crash_that_is_reported_counts_and_spends_no_attempt(h: Harness) -> None:
    await h.publish(h.message())

    first = await h.take_one()
    assert await h.settle(first, v.Crashed(FAILURE)) is Settled.OK

    second = await h.take_one()
    assert (second.id, second.attempts, second.crashes, second.releases) == (first.id, 0, 1, 0)
    await h.settle(second, v.Done())
    await h.nothing()


async def a_message_whose_crashes_are_reported_is_quarantined(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    crashes = h.options.timing.crashes

    for _ in range(crashes):
        delivery = await h.take_one()
        assert await h.settle(delivery, v.Crashed(FAILURE)) is Settled.OK
        assert await h.settle(delivery, v.Crashed(FAILURE)) is Settled.OK, "repeated, it counts once"

    record = await h.record(message.id)
    assert (record.state, record.reason) == (State.DEAD, v.Reason.CRASHED)
    assert (record.crashes, record.attempts, record.releases) == (crashes, 0, 0)
    assert [one.error for one in record.tries] == [FAILURE] * crashes
    assert [one.verdict for one in record.tries] == ["lose"] * (crashes - 1) + ["bury"]
    assert (await h.counters())["crashed"] == crashes
    await h.nothing()


async def a_crash_of_what_was_asked_to_stop_cancels_it(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    delivery = await h.take_one()
    await h.steer(q.CancelNow())

    await h.settle(delivery, v.Crashed(FAILURE))

    assert await h.state(message.id) is State.CANCELLED


async def a_sweep_stops_at_its_budget(h: Harness) -> None:
    await h.publish(*h.messages(10))
    for _ in range(5):
        await h.take(2)
    await h.advance(h.lease + 1)
    store = await h.store()

    first = await store.sweep(4)
    rest = [await store.sweep(4) for _ in range(2)]

    assert (first.lost, first.more) == (4, True)
    assert [swept.lost for swept in rest] == [4, 2]
    assert (await store.sweep(4)).lost == 0
    assert len(await h.take()) == 10


async def a_dead_workers_messages_are_handed_back_at_once(h: Harness) -> None:
    await h.publish(*h.messages(3))
    gone = await h.take(2, worker="gone")
    kept = await h.take_one("alive")

    assert await h.steer(q.HandBack("gone")) == 2

    again = await h.take(worker="one")
    assert sorted(ids(again)) == sorted(ids(gone))
    assert {(d.attempts, d.crashes) for d in again} == {(0, 1)}
    assert await h.settle(gone[0], v.Done(), worker="gone") is Settled.STALE
    assert await h.settle(kept, v.Done(), worker="alive") is Settled.OK
    assert await h.steer(q.HandBack("gone")) == 0


async def a_lease_on_a_connection_has_no_end_while_that_lives(h: Harness) -> None:
    await h.publish(h.message())
    delivery, broker = await h.take_one(), await h.broker()

    await h.advance(3 * h.lease)

    assert list(await broker.extend([delivery])) == [Notice.KEPT]
    await h.nothing()
    assert await h.settle(delivery, v.Done()) is Settled.OK


async def what_goes_with_its_connection_is_with_another_at_once(h: Harness) -> None:
    await h.publish(h.message())
    leaving = h.engine.connect("leaving", h.clock)
    await leaving.declare([WORK])
    (delivery,) = await leaving.receive([Ask(WORK, new_token(), 1)], wait=h.wait)
    await leaving.close()

    again = await h.take_one()

    assert (again.id, again.attempts, again.crashes) == (delivery.id, 0, 1)
    assert await h.settle(delivery, v.Done()) is Settled.STALE
    assert await h.settle(again, v.Done()) is Settled.OK


async def who_is_tethered_may_watch_for_losses(h: Harness) -> None:
    signals = cast("Tethered", await h.broker()).watch(Losses())

    await anext(signals)

    await cast("AsyncGenerator[None]", signals).aclose()


async def leases_that_are_renewed_are_not_lost_with_a_connection(h: Harness) -> None:
    broker = await h.broker()

    if hasattr(broker, "watch"):
        with refused(Unsupported, "watch for losses"):
            await anext(cast("Tethered", broker).watch(Losses()))


async def what_was_received_stays_under_its_lease_when_the_broker_closes(h: Harness) -> None:
    await h.publish(h.message())
    leaving = h.engine.connect("leaving", h.clock)
    await leaving.declare([WORK])
    (delivery,) = await leaving.receive([Ask(WORK, new_token(), 1)], wait=h.wait)
    await leaving.close()

    await h.nothing()
    await h.lose()

    assert (await h.take_one()).id == delivery.id


CLAIMS: Final = (
    *claims(
        "lease",
        renews,
        a_lost_lease_hands_the_message_to_another,
        a_renewed_lease_keeps_the_message,
        what_a_receive_took_is_renewed_before_its_answer_is_seen,
        what_is_not_named_goes_back_while_its_sibling_is_kept,
        what_is_not_named_stays_while_its_receive_is_under_way,
        what_was_received_stays_under_its_lease_when_the_broker_closes,
        leases_that_are_renewed_are_not_lost_with_a_connection,
    ),
    *claims(
        "lease",
        tethered,
        a_lease_on_a_connection_has_no_end_while_that_lives,
        what_goes_with_its_connection_is_with_another_at_once,
        who_is_tethered_may_watch_for_losses,
    ),
    *claims(
        "lease",
        any_engine,
        a_settle_may_be_repeated,
        handing_back_spends_no_attempt,
        a_crash_that_is_reported_counts_and_spends_no_attempt,
    ),
    *claims(
        "lease",
        fences,
        a_late_settle_changes_nothing_and_says_so,
        what_follows_a_late_settle_is_not_sent,
        a_renewal_of_a_lost_lease_says_so,
        a_renewal_after_the_settle_says_lost,
        a_repeated_settle_does_not_disturb_the_next_try,
        a_batch_of_settlements_is_answered_item_by_item,
    ),
    *claims(
        "lease",
        lambda t: t.fences and t.remembers,
        late_settles_are_counted,
        a_message_that_kills_its_workers_is_quarantined,
        a_message_whose_crashes_are_reported_is_quarantined,
        a_crash_of_what_was_asked_to_stop_cancels_it,
        a_sweep_stops_at_its_budget,
        a_dead_workers_messages_are_handed_back_at_once,
    ),
)
