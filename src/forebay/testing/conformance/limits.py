"""Limits: what waits in a queue is bounded for senders from outside, and for nobody else."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.engine import Published, Settled, Source, Stored
from forebay.errors import Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.when import After
from forebay.testing.conformance.harness import FAILURE, WORK, Harness, but, claims, ids, refused, survives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Traits
    from forebay.model.message import Message

LIMIT: Final = 3
LIMITED: Final = but(WORK, limit=LIMIT)
DROPPING: Final = but(LIMITED, drops_expired=True)


async def _sent(h: Harness, *messages: Message, source: Source = LIMITED) -> list[Published]:
    return list(await (await h.broker("one", (source,))).publish(messages))


def _statuses(answers: Sequence[Published]) -> list[Stored]:
    return [answer.status for answer in answers]


async def _filled(h: Harness, source: Source = LIMITED) -> list[Message]:
    messages = h.messages(LIMIT)
    assert _statuses(await _sent(h, *messages, source=source)) == [Stored.STORED] * LIMIT
    return messages


async def _is_full(h: Harness, source: Source = LIMITED) -> bool:
    (answer,) = await _sent(h, h.message(), source=source)
    return answer.status is Stored.FULL


async def _states(h: Harness, queue: str = WORK.queue, source: Source = LIMITED) -> dict[State, int]:
    """As `Harness.states`, which would declare the queue without its limit."""
    await h.broker("one", (source,))
    counts = await (await h.store("one", ())).count()
    found = next(c for c in counts.queues if c.queue == queue)
    return {state: n for state, n in found.states.items() if n}


async def a_full_queue_refuses_and_keeps_nothing_of_it(h: Harness) -> None:
    await _filled(h)
    late = h.message()

    (answer,) = await _sent(h, late)

    assert answer.status is Stored.FULL
    assert ids([answer]) == [late.id]
    assert await _states(h) == {State.READY: LIMIT}
    page = await (await h.store("one", (LIMITED,))).find(q.Query(which=q.Selector(ids=(answer.id,))))
    assert page.records == (), "what was refused was stored"


async def a_refusal_says_which_queue_and_when_to_return(h: Harness) -> None:
    await _filled(h)

    (answer,) = await _sent(h, h.message())

    assert answer.full is not None, "a refusal without its reason"
    assert (answer.full.queue, answer.full.limit) == (WORK.queue, LIMIT)
    assert 1 <= answer.full.retry_after <= 60


async def the_hint_follows_how_fast_the_queue_is_emptied(h: Harness) -> None:
    for _ in range(4):
        await _filled(h)
        for delivery in await h.take(source=LIMITED):
            await h.settle(delivery, v.Done())
        await h.advance(5 * h.tick // 60)
    await _filled(h)

    (answer,) = await _sent(h, h.message())

    assert answer.full is not None
    # Twelve in twenty seconds: one place is free in less than two.
    assert 1 <= answer.full.retry_after <= 2, answer.full.retry_after


async def of_a_batch_that_is_too_large_the_first_are_stored(h: Harness) -> None:
    messages = h.messages(LIMIT + 2)

    answers = await _sent(h, *messages)

    assert _statuses(answers) == [Stored.STORED] * LIMIT + [Stored.FULL] * 2
    assert ids(await h.take(source=LIMITED)) == [m.id for m in messages[:LIMIT]]


async def a_full_queue_is_no_other_queues_business(h: Harness) -> None:
    await _filled(h)
    elsewhere = but(h.message(), queue="elsewhere")

    answers = await _sent(h, h.message(), elsewhere, h.message())

    assert _statuses(answers) == [Stored.FULL, Stored.STORED, Stored.FULL]


async def room_is_taken_again_at_once(h: Harness) -> None:
    await _filled(h)
    assert await _is_full(h)

    assert len(await h.take(1, source=LIMITED)) == 1

    assert _statuses(await _sent(h, *h.messages(2))) == [Stored.STORED, Stored.FULL]


async def what_runs_does_not_count(h: Harness) -> None:
    await _filled(h)
    await h.take(source=LIMITED)

    await _filled(h)

    assert await _states(h) == {State.RUNNING: LIMIT, State.READY: LIMIT}
    assert await _is_full(h)


async def what_waits_for_its_time_counts(h: Harness) -> None:
    later = [but(message, due=After(h.tick)) for message in h.messages(LIMIT)]
    assert _statuses(await _sent(h, *later)) == [Stored.STORED] * LIMIT

    assert await _is_full(h)


async def what_is_cancelled_or_deleted_makes_room(h: Harness) -> None:
    first, second, _ = await _filled(h)
    store = await h.store("one", (LIMITED,))

    for command, message in ((q.CancelNow(), first), (q.Delete(), second)):
        assert await _is_full(h)
        assert (await store.steer(q.Selector(ids=(EntryId(message.id),)), command)).touched == 1
        assert _statuses(await _sent(h, h.message())) == [Stored.STORED], command


async def a_repeat_is_a_duplicate_however_full_the_queue_is(h: Harness) -> None:
    messages = await _filled(h)

    answers = await _sent(h, h.message(), *messages)

    assert _statuses(answers) == [Stored.FULL] + [Stored.DUPLICATE] * LIMIT
    assert ids(answers[1:]) == [m.id for m in messages]


async def a_repeat_within_a_batch_takes_no_second_place(h: Harness) -> None:
    first, *others = h.messages(LIMIT)

    answers = await _sent(h, first, first, first, *others, h.message())

    assert _statuses(answers) == [
        Stored.STORED, Stored.DUPLICATE, Stored.DUPLICATE, Stored.STORED, Stored.STORED, Stored.FULL
    ]  # fmt: skip


async def a_repeat_of_what_was_refused_is_refused_again_and_later_stored(h: Harness) -> None:
    await _filled(h)
    late = h.message()
    assert _statuses(await _sent(h, late, late)) == [Stored.FULL, Stored.FULL]

    await h.take(1, source=LIMITED)

    assert _statuses(await _sent(h, late, late)) == [Stored.STORED, Stored.DUPLICATE]


async def a_repeat_of_what_is_done_is_a_duplicate_too(h: Harness) -> None:
    done = h.message()
    await _sent(h, done)
    (delivery,) = await h.take(source=LIMITED)
    await h.settle(delivery, v.Done())
    await _filled(h)

    assert _statuses(await _sent(h, done)) == [Stored.DUPLICATE]


async def a_unique_key_in_use_is_a_duplicate_however_full_the_queue_is(h: Harness) -> None:
    holder, *others = h.messages(LIMIT)
    await _sent(h, but(holder, unique="k"), *others)

    answers = await _sent(h, but(h.message(), unique="k"), but(h.message(), unique="free"))

    assert _statuses(answers) == [Stored.DUPLICATE, Stored.FULL]
    assert ids(answers[:1]) == [holder.id]


async def what_follows_from_a_success_is_let_in(h: Harness) -> None:
    await _filled(h)
    (delivery,) = await h.take(1, source=LIMITED)
    await _sent(h, h.message())
    then = h.messages(2)

    assert await h.settle(delivery, v.Done(), *then) is Settled.OK

    assert (await _states(h))[State.READY] == LIMIT + 2
    assert await _is_full(h)


async def what_comes_back_is_let_in_and_counts(h: Harness) -> None:
    await _filled(h)
    taken = await h.take(source=LIMITED)
    await _filled(h)

    back: tuple[v.Verdict, ...] = (v.Retry(After(h.tick), FAILURE), v.Snooze(After(h.tick)), v.Release())
    for delivery, verdict in zip(taken, back, strict=True):
        assert await h.settle(delivery, verdict) is Settled.OK

    found = await _states(h)
    assert sum(found.values()) == 2 * LIMIT
    assert State.RUNNING not in found
    for _ in range(LIMIT):
        assert len(await h.take(1, source=LIMITED)) == 1
        assert await _is_full(h), "more waits than the limit allows"


async def what_is_lost_is_let_in_and_counts(h: Harness) -> None:
    await _filled(h)
    await h.take(source=LIMITED)
    await _filled(h)

    await h.advance(h.lease + 1)
    await (await h.store("one", (LIMITED,))).sweep(100)

    assert await _states(h) == {State.READY: 2 * LIMIT}
    assert await _is_full(h)


async def a_redrive_is_let_in_and_counts(h: Harness) -> None:
    await _filled(h)
    for delivery in await h.take(source=LIMITED):
        await h.settle(delivery, v.Dead(v.Reason.ASKED))
    await _filled(h)

    store = await h.store("one", (LIMITED,))
    assert (await store.steer(q.Selector(states=frozenset({State.DEAD})), q.Redrive())).touched == LIMIT

    assert await _states(h) == {State.READY: 2 * LIMIT}
    assert await _is_full(h)


async def an_event_is_refused_as_a_whole(h: Harness) -> None:
    tight = but(Source.subscription("orders.placed", "billing"), limit=LIMIT)
    roomy = Source.subscription("orders.placed", "stock")
    broker = await h.broker("one", (tight, roomy))
    events = [h.event("orders.placed") for _ in range(LIMIT + 1)]

    answers = list(await broker.publish(events))

    assert _statuses(answers) == [Stored.STORED] * LIMIT + [Stored.FULL]
    assert answers[-1].full is not None
    assert answers[-1].full.queue == tight.queue
    counts = {c.queue: sum(c.states.values()) for c in (await (await h.store("one", ())).count()).queues}
    assert counts[tight.queue] == counts[roomy.queue] == LIMIT
    assert _statuses(await broker.publish(events[:LIMIT])) == [Stored.DUPLICATE] * LIMIT


async def an_event_repeated_after_somebody_full_has_subscribed_is_a_duplicate(h: Harness) -> None:
    old = Source.subscription("orders.placed", "stock")
    new = but(Source.subscription("orders.placed", "billing"), limit=1)
    event = h.event("orders.placed")
    await (await h.broker("one", (old,))).publish([event])
    broker = await h.broker("one", (old, new))
    await broker.publish([h.event("orders.placed")])

    assert _statuses(await broker.publish([event])) == [Stored.DUPLICATE]

    assert await _states(h, new.queue, new) == {State.READY: 1}


async def the_last_word_on_a_limit_holds(h: Harness) -> None:
    await _filled(h)
    assert await _is_full(h)

    assert not await _is_full(h, but(LIMITED, limit=LIMIT + 1)), "a higher limit"
    assert await _is_full(h, but(LIMITED, limit=LIMIT + 1))
    assert await _is_full(h, but(LIMITED, limit=1)), "a lower limit"
    assert not await _is_full(h, WORK), "no limit"
    assert await _is_full(h), "a limit again"


async def a_limit_holds_for_senders_who_do_not_know_of_it(h: Harness) -> None:
    await h.broker("owner", (LIMITED,))
    sender = await h.broker("sender", ())

    answers = list(await sender.publish(h.messages(LIMIT + 1)))

    assert _statuses(answers)[-1] is Stored.FULL


async def senders_share_one_limit(h: Harness) -> None:
    await h.broker("one", (LIMITED,))
    both = [await h.broker(name, ()) for name in ("one", "two")]

    answers = [(await both[n % 2].publish([h.message()]))[0].status for n in range(LIMIT + 2)]

    assert answers == [Stored.STORED] * LIMIT + [Stored.FULL] * 2


async def a_sender_may_limit_a_subscription_and_leaves_it_bound(h: Harness) -> None:
    subscription = Source.subscription("orders.placed", "billing")
    await h.broker("owner", (subscription,))
    sender = await h.broker("sender", (Source(queue=subscription.queue, limit=1, loose=True),))

    answers = list(await sender.publish([h.event("orders.placed"), h.event("orders.placed")]))

    assert _statuses(answers) == [Stored.STORED, Stored.FULL]
    assert answers[0].groups == 1


async def a_limit_is_shown(h: Harness) -> None:
    store = await h.store("one", (LIMITED, Source(queue="free")))

    shown = {one.queue: one.limit for one in (await store.count()).queues}

    assert shown == {WORK.queue: LIMIT, "free": None}


async def what_has_expired_is_dropped_where_that_is_asked_for(h: Harness) -> None:
    stale, other = (but(message, expires=After(h.tick)) for message in h.messages(2))
    later = but(h.message(), due=After(10 * h.tick), expires=After(h.tick))
    await _sent(h, stale, other, later, source=DROPPING)
    assert await _is_full(h, DROPPING)

    await h.advance(h.tick + 1)

    assert _statuses(await _sent(h, *h.messages(LIMIT + 1), source=DROPPING)) == [
        *[Stored.STORED] * LIMIT,
        Stored.FULL,
    ]
    assert await _states(h, source=DROPPING) == {State.EXPIRED: LIMIT, State.READY: LIMIT}


async def what_has_expired_is_in_the_way_where_it_is_not(h: Harness) -> None:
    await _sent(h, *(but(message, expires=After(h.tick)) for message in h.messages(LIMIT)))

    await h.advance(h.tick + 1)

    assert await _is_full(h)
    await (await h.store("one", (LIMITED,))).sweep(100)
    assert not await _is_full(h)


async def what_expires_elsewhere_is_not_dropped(h: Harness) -> None:
    await _filled(h, DROPPING)
    other = but(h.message(), queue="elsewhere", expires=After(h.tick))
    await _sent(h, other, source=DROPPING)
    await h.advance(h.tick + 1)

    assert await _is_full(h, DROPPING)

    assert await _states(h, "elsewhere", DROPPING) == {State.READY: 1}


async def a_limit_is_still_there_when_it_is_opened_again(h: Harness) -> None:
    await _filled(h)
    await h.reopen()

    answers = list(await (await h.broker("sender", ())).publish([h.message()]))

    assert _statuses(answers) == [Stored.FULL]


async def a_limit_is_refused(h: Harness) -> None:
    with refused(Unsupported, "a source with a limit"):
        await h.broker("one", (LIMITED,))


def _limits(traits: Traits) -> bool:
    return traits.limits and traits.remembers


CLAIMS: Final = (
    *claims(
        "limits",
        _limits,
        a_full_queue_refuses_and_keeps_nothing_of_it,
        a_refusal_says_which_queue_and_when_to_return,
        of_a_batch_that_is_too_large_the_first_are_stored,
        a_full_queue_is_no_other_queues_business,
        room_is_taken_again_at_once,
        what_runs_does_not_count,
        what_is_cancelled_or_deleted_makes_room,
        what_follows_from_a_success_is_let_in,
        what_comes_back_is_let_in_and_counts,
        what_is_lost_is_let_in_and_counts,
        a_redrive_is_let_in_and_counts,
        the_last_word_on_a_limit_holds,
        a_limit_holds_for_senders_who_do_not_know_of_it,
        senders_share_one_limit,
        a_limit_is_shown,
    ),
    *claims(
        "limits", lambda t: _limits(t) and t.virtual_clock, the_hint_follows_how_fast_the_queue_is_emptied
    ),
    *claims("limits", lambda t: _limits(t) and t.delay, what_waits_for_its_time_counts),
    *claims(
        "limits",
        lambda t: _limits(t) and t.dedupes,
        a_repeat_is_a_duplicate_however_full_the_queue_is,
        a_repeat_within_a_batch_takes_no_second_place,
        a_repeat_of_what_was_refused_is_refused_again_and_later_stored,
        a_repeat_of_what_is_done_is_a_duplicate_too,
    ),
    *claims(
        "limits",
        lambda t: _limits(t) and t.unique,
        a_unique_key_in_use_is_a_duplicate_however_full_the_queue_is,
    ),
    *claims(
        "limits",
        lambda t: _limits(t) and t.fan_out,
        an_event_is_refused_as_a_whole,
        a_sender_may_limit_a_subscription_and_leaves_it_bound,
    ),
    *claims(
        "limits",
        lambda t: _limits(t) and t.fan_out and t.dedupes,
        an_event_repeated_after_somebody_full_has_subscribed_is_a_duplicate,
    ),
    *claims(
        "limits",
        lambda t: _limits(t) and t.expiry,
        what_has_expired_is_dropped_where_that_is_asked_for,
        what_has_expired_is_in_the_way_where_it_is_not,
        what_expires_elsewhere_is_not_dropped,
    ),
    *claims(
        "limits",
        lambda t: _limits(t) and survives(t),
        a_limit_is_still_there_when_it_is_opened_again,
    ),
    *claims("limits", lambda t: not t.limits, a_limit_is_refused),
)
