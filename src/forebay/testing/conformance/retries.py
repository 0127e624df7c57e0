"""Claims about tries that failed, about time, and about dead letters."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import Final

from forebay.engine import Ask, Notice, Settled
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.when import SECOND, After, At
from forebay.support.ids import new_token
from forebay.testing.clock import eventually
from forebay.testing.conformance.harness import (
    FAILURE,
    WORK,
    Harness,
    any_engine,
    but,
    claims,
    ids,
    remembers,
)

LATER: Final = 86_400 * SECOND


async def a_retry_is_the_same_message_with_one_attempt_more(h: Harness) -> None:
    message = but(
        h.message(body=b"\x00\x01"), headers={"a": "ä"}, key="7", content_type="application/octet-stream"
    )
    await h.publish(message)

    for attempts in range(4):
        delivery = await h.take_one()
        assert (delivery.id, delivery.message, delivery.attempts) == (str(message.id), message, attempts)
        assert await h.settle(delivery, v.Retry(After(0), FAILURE)) is Settled.OK

    assert len(await h.take()) == 1


async def a_snooze_spends_no_attempt(h: Harness) -> None:
    await h.publish(h.message())
    await h.settle(await h.take_one(), v.Snooze(After(0)))

    assert (await h.take_one()).attempts == 0


async def a_name_nobody_knows_is_dated_from_the_first_time(h: Harness) -> None:
    await h.publish(h.message())
    start = h.now()
    await h.settle(await h.take_one(), v.Snooze(After(0), unknown=True))
    await h.advance(h.tick)

    second = await h.take_one()
    await h.settle(second, v.Snooze(After(0), unknown=True))
    third = await h.take_one()
    await h.settle(third, v.Snooze(After(0)))

    assert second.unknown_since is not None
    assert abs(second.unknown_since - start) < h.tick
    assert third.unknown_since == second.unknown_since
    assert (await h.take_one()).unknown_since is None


async def what_is_done_does_not_come_back(h: Harness) -> None:
    await h.publish(*h.messages(5))
    for verdict in (v.Done(), v.Done(b"1"), v.Dead(v.Reason.ASKED, FAILURE), v.Cancelled(), v.Expired()):
        assert await h.settle(await h.take_one(), verdict) is Settled.OK

    await h.lose()
    await h.nothing()


async def _never_early(h: Harness, verdict: v.Verdict, due: int) -> None:
    """After ``verdict`` the message of the queue comes back at ``due`` and not before."""
    await h.settle(await h.take_one(), verdict)
    await h.nothing()
    await h.advance(due - h.now() - (1 if h.traits.virtual_clock else h.tick // 4))
    await h.nothing()

    await h.advance(max(due - h.now(), 0))

    delivery = await h.take_one()
    assert delivery.received >= due
    await h.settle(delivery, v.Release())


async def a_retry_is_never_early(h: Harness) -> None:
    await h.publish(h.message())

    await _never_early(h, v.Retry(After(h.tick), FAILURE), h.now() + h.tick)
    at = h.now() + h.tick
    await _never_early(h, v.Retry(At(at), FAILURE), at)
    await _never_early(h, v.Snooze(After(h.tick)), h.now() + h.tick)


async def a_retry_at_a_moment_gone_by_comes_at_once(h: Harness) -> None:
    await h.publish(h.message())
    await h.settle(await h.take_one(), v.Retry(At(h.now() - 5 * SECOND), FAILURE))

    assert (await h.take_one()).attempts == 1


async def a_retry_comes_back_once(h: Harness) -> None:
    await h.publish(h.message())
    await h.settle(await h.take_one(), v.Retry(After(h.tick), FAILURE))
    await h.advance(3 * h.tick)

    assert len(await h.take()) == 1


async def what_waits_does_not_hold_up_what_is_behind_it(h: Harness) -> None:
    first, second = h.message(), h.message()
    await h.publish(but(h.message(), due=After(LATER)), first)
    await h.settle(await h.take_one(), v.Retry(After(LATER), FAILURE))
    await h.publish(but(h.message(), due=After(h.tick)), second)

    assert ids(await h.take()) == [second.id]
    await h.advance(h.tick)
    assert len(await h.take()) == 1


# -- delays


async def a_delayed_message_is_never_early(h: Harness) -> None:
    by_length, by_moment = but(h.message(), due=After(h.tick)), but(h.message(), due=At(h.now() + 3 * h.tick))
    await h.publish(by_length, by_moment)
    await h.nothing()
    await h.advance(h.tick - (1 if h.traits.virtual_clock else h.tick // 2))
    await h.nothing()

    await h.advance(h.tick)
    assert ids(await h.take()) == [by_length.id]
    await h.advance(2 * h.tick)
    assert ids(await h.take()) == [by_moment.id]


async def a_short_delay_is_a_delay(h: Harness) -> None:
    message = but(h.message(), due=At(h.now() + 1_000))
    await h.publish(message)
    await h.nothing()
    await h.advance(1_000)

    assert ids(await h.take()) == [message.id]


async def a_delay_gone_by_is_none(h: Harness) -> None:
    await h.publish(but(h.message(), due=At(h.now() - SECOND)), but(h.message(), due=After(0)))

    assert len(await h.take()) == 2


async def many_due_at_one_moment_all_come(h: Harness) -> None:
    due = At(h.now() + h.tick)
    batch = [but(message, due=due) for message in h.messages(300)]
    await h.publish(*batch)
    await h.nothing()
    await h.advance(h.tick)

    got = [i for _ in range(6) for i in ids(await h.take(60))]

    assert sorted(got) == [message.id for message in batch]


async def ten_thousand_scheduled_do_not_come_early_nor_stand_in_the_way(h: Harness) -> None:
    batch = [but(message, due=After(LATER + i)) for i, message in enumerate(h.messages(10_000))]
    for start in range(0, len(batch), 1_000):
        await h.publish(*batch[start : start + 1_000])
    ready = h.message()
    await h.publish(ready)

    assert ids(await h.take()) == [ready.id]
    assert (await h.states())[State.SCHEDULED] == 10_000
    if h.traits.virtual_clock:
        await h.advance(LATER + 99)
        assert sorted(ids(await h.take(1_000))) == [message.id for message in batch[: len(batch) // 100]]


async def who_waits_is_woken_when_something_is_due(h: Harness) -> None:
    message, broker = but(h.message(), due=After(h.tick)), await h.broker()
    await h.publish(message)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(broker.receive([Ask(WORK, new_token(), 5)], wait=LATER))
        await h.asleep()
        await h.advance(h.tick)
        await eventually(task.done, what="receive has returned")

    assert ids(task.result()) == [message.id]


async def a_delayed_message_can_be_cancelled(h: Harness) -> None:
    message = but(h.message(), due=After(h.tick))
    await h.publish(message)

    assert await h.steer(q.CancelNow(), (await h.record(message.id)).id) == 1

    await h.advance(2 * h.tick)
    await h.nothing()
    assert await h.state(message.id) is State.CANCELLED


async def a_delayed_message_can_be_run_now(h: Harness) -> None:
    message = but(h.message(), due=After(h.tick))
    await h.publish(message)

    assert await h.steer(q.Redrive(), (await h.record(message.id)).id) == 1

    delivery = await h.take_one()
    await h.settle(delivery, v.Done())
    await h.advance(2 * h.tick)
    await h.nothing()


# -- expiry


async def what_has_expired_is_not_handed_out(h: Harness) -> None:
    expired, good = but(h.message(), expires=After(h.tick)), h.message()
    await h.publish(expired, good)
    await h.advance(h.tick + 1)

    assert ids(await h.take()) == [good.id]


async def what_has_started_does_not_expire(h: Harness) -> None:
    await h.publish(but(h.message(), expires=After(h.tick), deadline=After(2 * h.tick)))
    delivery, broker = await h.take_one(), await h.broker()
    assert delivery.expires == delivery.created + h.tick
    assert delivery.deadline == delivery.created + 2 * h.tick

    for _ in range(6):
        await h.advance(h.tick // 4)
        await broker.extend([delivery])

    assert await h.settle(delivery, v.Done()) is Settled.OK


async def a_sweep_ends_what_has_expired(h: Harness) -> None:
    expired = [but(m, expires=After(h.tick)) for m in h.messages(2)] + [
        but(h.message(), expires=After(h.tick), due=After(LATER))
    ]
    await h.publish(*expired, h.message())
    await h.advance(h.tick + 1)

    assert (await (await h.store()).sweep(100)).expired == 3

    assert await h.states() == {State.EXPIRED: 3, State.READY: 1}
    assert (await h.record(expired[0].id)).finished is not None


# -- history and dead letters


async def every_try_is_told(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    start = h.now()
    for worker, verdict in (
        ("one", v.Retry(After(0), FAILURE)),
        ("two", v.Release()),
        ("three", v.Snooze(After(0))),
    ):
        await h.settle(await h.take_one(worker), verdict, worker=worker)
    await h.take_one("four")
    await h.lose()
    await h.settle(await h.take_one("five"), v.Done(b'{"ok":true}'), worker="five")

    record = await h.record(message.id)

    assert [(t.number, t.worker, t.verdict) for t in record.tries] == [
        (1, "one", "retry"),
        (2, "two", "release"),
        (3, "three", "snooze"),
        (4, "four", "lose"),
        (5, "five", "done"),
    ]
    assert [t.error for t in record.tries] == [FAILURE, None, None, None, None]
    assert all(start <= t.started <= t.ended for t in record.tries)
    assert (record.state, record.result) == (State.SUCCEEDED, b'{"ok":true}')
    assert (record.attempts, record.crashes, record.releases) == (2, 1, 1)
    assert record.finished == record.tries[-1].ended


async def a_dead_letter_keeps_message_reason_and_history(h: Harness) -> None:
    message = but(h.message(body=b"\xff\x00"), headers={"a": "b"})
    await h.publish(message)
    await h.settle(await h.take_one(), v.Retry(After(0), FAILURE))
    await h.bury(v.Reason.EXHAUSTED)

    record = await h.record(message.id)

    assert (record.state, record.reason, record.message) == (State.DEAD, v.Reason.EXHAUSTED, message)
    assert [t.verdict for t in record.tries] == ["retry", "bury"]
    assert [t.error for t in record.tries] == [FAILURE, FAILURE]
    await h.nothing()


async def a_try_that_never_ran_spends_no_attempt(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    await h.settle(await h.take_one(), v.Dead(v.Reason.UNKNOWN_NAME, counts=False))

    assert (await h.record(message.id)).attempts == 0


async def a_redriven_dead_letter_runs_once_and_afresh(h: Harness) -> None:
    await h.publish(but(h.message(), expires=After(h.tick), deadline=After(h.tick)))
    await h.settle(await h.take_one(), v.Retry(After(0), FAILURE))
    dead = await h.bury()
    await h.advance(2 * h.tick)

    assert await h.steer(q.Redrive(), dead.id) == 1
    assert await h.steer(q.Redrive(), dead.id) == 0

    delivery = await h.take_one()
    assert (delivery.message, delivery.attempts, delivery.crashes) == (dead.message, 0, 0)
    assert (delivery.expires, delivery.deadline) == (None, None)
    await h.nothing()
    await h.settle(delivery, v.Done())
    record = await h.record(dead.id)
    assert (record.state, record.reason) == (State.SUCCEEDED, None)
    assert [t.verdict for t in record.tries] == ["retry", "bury", "done"]


async def a_redriven_message_is_no_longer_near_quarantine(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    for _ in range(h.options.timing.crashes):
        await h.take_one()
        await h.lose()
    assert await h.state(message.id) is State.DEAD

    assert await h.steer(q.Redrive(), EntryId(message.id)) == 1

    assert (await h.take_one()).crashes == 0
    await h.lose()
    assert await h.state(message.id) is State.READY


async def a_redriven_message_is_no_longer_asked_to_stop(h: Harness) -> None:
    await h.publish(h.message())
    asked, broker = await h.take_one(), await h.broker()
    await h.steer(q.CancelNow(), asked.id)
    await h.settle(asked, v.Cancelled())

    assert await h.steer(q.Redrive(), asked.id) == 1

    assert list(await broker.extend([await h.take_one()])) == [Notice.KEPT]


async def dead_letters_can_be_redriven_together(h: Harness) -> None:
    await h.publish(*[h.message(name) for name in ("a", "a", "a", "b")], h.message("running"))
    for _ in range(4):
        await h.bury()
    await h.take_one()
    store = await h.store()
    dead = frozenset({State.DEAD})

    assert (await store.steer(q.Selector(name="a", states=dead, limit=2), q.Redrive())).touched == 2
    assert (await store.steer(q.Selector(queue="other", states=dead), q.Redrive())).touched == 0
    assert (await store.steer(q.Selector(queue="work"), q.Redrive())).touched == 2

    assert sorted(d.message.name for d in await h.take()) == ["a", "a", "a", "b"]


async def without_timers_a_retry_comes_back_at_once(h: Harness) -> None:
    await h.publish(h.message())
    await h.settle(await h.take_one(), v.Retry(After(LATER), FAILURE))

    assert (await h.take_one()).attempts == 1


CLAIMS: Final = (
    *claims(
        "retry",
        any_engine,
        a_retry_is_the_same_message_with_one_attempt_more,
        a_snooze_spends_no_attempt,
        a_name_nobody_knows_is_dated_from_the_first_time,
        what_is_done_does_not_come_back,
        a_retry_at_a_moment_gone_by_comes_at_once,
    ),
    *claims("retry", lambda t: t.delay, a_retry_is_never_early, a_retry_comes_back_once),
    *claims("retry", lambda t: not t.delay, without_timers_a_retry_comes_back_at_once),
    *claims(
        "delay",
        lambda t: t.delay,
        a_delayed_message_is_never_early,
        a_delay_gone_by_is_none,
        many_due_at_one_moment_all_come,
        what_waits_does_not_hold_up_what_is_behind_it,
        who_waits_is_woken_when_something_is_due,
    ),
    *claims(
        "delay",
        lambda t: t.delay and t.remembers,
        ten_thousand_scheduled_do_not_come_early_nor_stand_in_the_way,
        a_delayed_message_can_be_cancelled,
        a_delayed_message_can_be_run_now,
    ),
    *claims("delay", lambda t: t.delay and t.virtual_clock, a_short_delay_is_a_delay),
    *claims(
        "expiry", lambda t: t.expiry, what_has_expired_is_not_handed_out, what_has_started_does_not_expire
    ),
    *claims("expiry", lambda t: t.expiry and t.remembers, a_sweep_ends_what_has_expired),
    *claims("retry", remembers, every_try_is_told, a_try_that_never_ran_spends_no_attempt),
    *claims(
        "dead",
        remembers,
        a_dead_letter_keeps_message_reason_and_history,
        a_redriven_dead_letter_runs_once_and_afresh,
        a_redriven_message_is_no_longer_near_quarantine,
        a_redriven_message_is_no_longer_asked_to_stop,
        dead_letters_can_be_redriven_together,
    ),
)
