"""Claims about unique keys that are held in ways of their own: until it starts, for a time; and about what another one does to a holder."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.engine import Retention, Settled, Settlement, Source, Stored
from forebay.errors import InvalidOption, Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.flow import Step
from forebay.model.rule import Rule, Rules
from forebay.model.saved import SavedStep
from forebay.model.state import WAITING, State
from forebay.model.unique import UNFINISHED, WORKED_ON, Conflict, Hold
from forebay.model.when import SECOND, After, At
from forebay.testing.conformance.harness import FAILURE, Harness, but, claims, refused, survives

if TYPE_CHECKING:
    from forebay.engine import Published, Traits
    from forebay.model.message import Message

WAITS: Final = Hold(states=WAITING)
SHORT: Final = 60 * SECOND
"""Within it nothing of these claims is forgotten."""


def held(h: Harness, hold: Hold = WAITS, **fields: Any) -> Message:
    """A new message that wants the key ``k``, and holds it in a way of its own."""
    return but(h.message(), unique="k", hold=hold, **fields)


def one_of(conflict: Conflict, states: frozenset[State] = WAITING, **fields: Any) -> Hold:
    return Hold(states=states, conflict=conflict, **fields)


def told(answer: Published) -> tuple[Stored, str]:
    """What became of a message, and whose id is the answer."""
    return answer.status, answer.id


async def sent(h: Harness, message: Message) -> Published:
    """The answer to one message."""
    (answer,) = await (await h.broker()).publish([message])
    return answer


async def _status(h: Harness, hold: Hold | None = WAITS) -> Stored:
    """What becomes of a new message that wants the key ``k``."""
    return (await sent(h, held(h, hold) if hold is not None else but(h.message(), unique="k"))).status


# -- how long


async def a_key_held_until_it_starts_is_free_when_it_starts(h: Harness) -> None:
    first = held(h)
    assert (await sent(h, first)).status is Stored.STORED
    assert (await _status(h)) is Stored.DUPLICATE

    delivery = await h.take_one()

    assert delivery.message == first
    second = await sent(h, held(h))
    assert second.status is Stored.STORED
    assert await _status(h) is Stored.DUPLICATE, "the second waits"
    await h.settle(delivery, v.Done())
    assert (await sent(h, held(h))).id == second.id


async def a_key_held_until_it_starts_is_held_while_it_waits_for_another_try(h: Harness) -> None:
    first = await sent(h, held(h))
    await h.settle(await h.take_one(), v.Retry(After(h.tick), FAILURE))

    assert await sent(h, held(h)) == but(first, status=Stored.DUPLICATE)


async def another_that_took_the_key_meanwhile_keeps_it(h: Harness) -> None:
    await sent(h, held(h))
    delivery = await h.take_one()
    second = await sent(h, held(h))

    await h.settle(delivery, v.Retry(After(0), FAILURE))

    assert (await sent(h, held(h))).id == second.id
    assert [d.id for d in await h.take(5)] == [delivery.id, second.id]


async def a_key_held_for_a_time_is_held_whatever_its_holder_does(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=3 * h.tick)
    first = await sent(h, held(h, hold))
    assert await _status(h, hold) is Stored.DUPLICATE
    delivery = await h.take_one()
    assert await _status(h, hold) is Stored.DUPLICATE
    await h.settle(delivery, v.Done())

    await h.advance(2 * h.tick)
    assert (await sent(h, held(h, hold))).id == first.id
    await h.advance(h.tick)

    assert await _status(h, hold) is Stored.STORED


async def a_key_held_for_a_time_is_free_after_it_though_its_holder_waits(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=h.tick)
    await sent(h, held(h, hold))
    await h.advance(h.tick)

    assert await _status(h, hold) is Stored.STORED
    assert len(await h.take(5)) == 2


async def a_window_survives_a_holder_that_is_forgotten(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=10 * SHORT)
    first = await sent(h, held(h, hold))
    await h.settle(await h.take_one(), v.Done())
    await h.advance(2 * SHORT)
    await (await h.store()).sweep(100)
    assert (await (await h.store()).find(q.Query())).records == ()

    assert await sent(h, held(h, hold)) == but(first, status=Stored.DUPLICATE)
    assert (await sent(h, held(h, but(hold, conflict=Conflict.REPLACE)))).id == first.id
    assert await _status(h, but(hold, conflict=Conflict.REJECT)) is Stored.TAKEN
    await h.advance(9 * SHORT)
    await (await h.store()).sweep(100)
    assert await _status(h, hold) is Stored.STORED


async def a_window_goes_with_a_holder_that_is_called_off(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=h.tick)
    for command in (q.CancelNow(), q.Delete()):
        first = await sent(h, held(h, hold))
        assert first.status is Stored.STORED, command
        await h.steer(command, first.id)
    assert await _status(h, hold) is Stored.STORED


async def a_dead_letter_may_hold_its_key_until_somebody_acts(h: Harness) -> None:
    hold = Hold(states=UNFINISHED | {State.DEAD})
    await sent(h, held(h, hold))
    dead = await h.bury()
    assert (await sent(h, held(h, hold))).id == dead.id
    assert await _status(h, None) is Stored.DUPLICATE, "for others too"

    await h.steer(q.Delete(), dead.id)

    assert await _status(h, hold) is Stored.STORED


async def there_is_one_space_of_keys_however_they_are_held(h: Harness) -> None:
    plain = await sent(h, but(h.message(), unique="k"))
    assert (await sent(h, held(h))).id == plain.id
    running = await h.take_one()
    assert (await sent(h, held(h))).id == plain.id
    await h.settle(running, v.Done())

    scoped = await sent(h, held(h))

    assert scoped.status is Stored.STORED
    answers = await (await h.broker()).publish([but(h.message(), unique="k"), h.message(), held(h)])
    assert [a.status for a in answers] == [Stored.DUPLICATE, Stored.STORED, Stored.DUPLICATE]
    assert {answers[0].id, answers[2].id} == {scoped.id}


async def what_was_held_before_does_not_come_between(h: Harness) -> None:
    await sent(h, held(h))
    running = await h.take_one()
    plain = await sent(h, but(h.message(), unique="k"))
    assert plain.status is Stored.STORED

    await h.settle(running, v.Retry(After(0), FAILURE))

    assert (await sent(h, held(h))).id == plain.id
    assert await h.steer(q.CancelNow(), plain.id) == 1
    assert await _status(h) is Stored.STORED


async def keys_of_one_batch_are_met_in_its_order(h: Harness) -> None:
    replace = one_of(Conflict.REPLACE)
    batch = [held(h, replace, body=b"%d" % n) for n in range(3)]

    answers = await (await h.broker()).publish(batch)

    assert list(map(told, answers)) == [
        (Stored.STORED, batch[0].id),
        (Stored.DUPLICATE, batch[0].id),
        (Stored.DUPLICATE, batch[0].id),
    ]
    assert [d.message.body for d in await h.take(5)] == [b"2"]


async def what_follows_meets_keys_as_what_is_sent_does(h: Harness) -> None:
    await h.publish(h.message())
    waiting = await sent(h, held(h, due=After(h.tick)))
    delivery = await h.take_one()
    follow = held(h, one_of(Conflict.REPLACE), body=b"new", due=After(h.tick))

    answers = await (await h.broker()).settle(
        [Settlement(delivery, v.Done(), (follow, held(h, one_of(Conflict.REJECT))))]
    )

    assert list(answers) == [Settled.OK]
    assert (await h.record(waiting.id)).message.body == b"new"
    assert await h.states() == {State.SUCCEEDED: 1, State.SCHEDULED: 1}


# -- what another does


async def one_that_waits_is_replaced_in_its_place(h: Harness) -> None:
    first = held(h, priority=1, expires=After(h.tick), max_attempts=3, headers={"a": "1"})
    await sent(h, first)
    second = held(
        h, one_of(Conflict.REPLACE), body=b"\xff\0", content_type="text/plain", priority=9, deadline=After(h.tick),
        timeout=7, headers={"b": "2"},
    )  # fmt: skip

    answer = await sent(h, second)

    assert told(answer) == (Stored.DUPLICATE, first.id)
    assert await h.states() == {State.READY: 1}
    await h.publish(h.message())
    delivery = await h.take_one()
    assert delivery.message == but(second, id=first.id)
    assert (delivery.expires, delivery.deadline) == (None, h.now() + h.tick)


async def one_that_is_replaced_begins_anew_with_its_history(h: Harness) -> None:
    await sent(h, held(h))
    failed = await h.take_one()
    await h.settle(failed, v.Retry(After(h.tick), FAILURE))

    await sent(h, held(h, one_of(Conflict.REPLACE)))

    record = await h.record(failed.id)
    assert (record.state, record.attempts, record.due, len(record.tries)) == (State.READY, 0, None, 1)
    assert (await h.take_one()).attempts == 0


async def one_that_runs_is_not_replaced(h: Harness) -> None:
    await sent(h, held(h, one_of(Conflict.REPLACE, UNFINISHED), body=b"old"))
    running = await h.take_one()

    answer = await sent(h, held(h, one_of(Conflict.REPLACE, UNFINISHED), body=b"new"))

    assert told(answer) == (Stored.DUPLICATE, running.id)
    assert (await h.record(running.id)).message.body == b"old"
    assert await h.states() == {State.RUNNING: 1}


async def what_has_begun_counts_as_running_though_it_waits_to_go_on(h: Harness) -> None:
    replace = one_of(Conflict.REPLACE)
    await sent(h, held(h, replace, body=b"old"))
    running = await h.take_one()
    await (await h.store()).save(running, [SavedStep(name="charge", position=1, body=b"1")])
    await h.settle(running, v.Snooze(After(h.tick)))

    second = await sent(h, held(h, replace, body=b"new", due=After(2 * h.tick)))

    assert second.status is Stored.STORED
    assert (await h.record(running.id)).message.body == b"old"
    assert await _status(h, replace) is Stored.DUPLICATE, "of the second"


async def what_has_begun_is_not_replaced(h: Harness) -> None:
    replace = one_of(Conflict.REPLACE, UNFINISHED)
    await sent(h, held(h, replace, body=b"old"))
    running = await h.take_one()
    await (await h.store()).save(running, [SavedStep(name="charge", position=1, body=b"1")])
    await h.settle(running, v.Retry(After(h.tick), FAILURE))

    assert told(await sent(h, held(h, replace, body=b"new"))) == (Stored.DUPLICATE, running.id)

    assert (await h.record(running.id)).message.body == b"old"


async def what_belongs_elsewhere_is_not_replaced(h: Harness) -> None:
    first = held(h, key="one")
    await sent(h, first)
    replace = one_of(Conflict.REPLACE)

    for other in (held(h, replace, key="two"), held(h, replace, name="another", key="one")):
        answer = await sent(h, other)
        assert told(answer) == (Stored.TAKEN, first.id)

    assert (await h.take_one()).message == first


async def one_that_waits_is_only_moved(h: Harness) -> None:
    first, move = held(h), one_of(Conflict.RESCHEDULE)
    await sent(h, first)

    answer = await sent(h, held(h, move, body=b"new", due=After(h.tick)))

    assert told(answer) == (Stored.DUPLICATE, first.id)
    record = await h.record(first.id)
    assert (record.state, record.due) == (State.SCHEDULED, h.now() + h.tick)
    await h.nothing()
    await sent(h, held(h, move, due=After(2 * h.tick)))
    await h.advance(h.tick)
    await h.nothing()
    await sent(h, held(h, move))
    assert (await h.take_one()).message == first


async def one_that_runs_is_not_moved(h: Harness) -> None:
    await sent(h, held(h, one_of(Conflict.RESCHEDULE, UNFINISHED)))
    running = await h.take_one()

    assert await _status(h, one_of(Conflict.RESCHEDULE, UNFINISHED)) is Stored.DUPLICATE

    assert (await h.record(running.id)).due is None


async def one_that_asks_for_it_is_rejected(h: Harness) -> None:
    first = await sent(h, held(h))

    answers = await (await h.broker()).publish([held(h, one_of(Conflict.REJECT)), h.message()])

    assert [a.status for a in answers] == [Stored.TAKEN, Stored.STORED]
    assert answers[0].id == first.id
    assert await h.states() == {State.READY: 2}


async def one_of_a_series_runs_in_time(h: Harness) -> None:
    hold = one_of(Conflict.REPLACE, longest=3 * h.tick)
    began, quiet = h.now(), After(2 * h.tick)
    first = await sent(h, held(h, hold, due=quiet))
    await h.advance(h.tick)

    await sent(h, held(h, hold, due=quiet, body=b"2"))
    assert (await h.record(first.id)).due == began + 3 * h.tick
    await h.advance(h.tick)
    await sent(h, held(h, hold, due=quiet, body=b"3"))
    await h.nothing()

    await h.advance(h.tick)
    assert (await h.take_one()).message.body == b"3"
    assert (await sent(h, held(h, hold, due=quiet))).status is Stored.STORED
    await h.nothing()


async def a_new_series_begins_with_what_takes_the_place_of_a_failed_try(h: Harness) -> None:
    hold = one_of(Conflict.REPLACE, longest=3 * h.tick)
    first = await sent(h, held(h, hold, due=After(h.tick)))
    await h.advance(h.tick)
    await h.settle(await h.take_one(), v.Retry(After(10 * h.tick), FAILURE))
    await h.advance(5 * h.tick)

    await sent(h, held(h, hold, due=After(2 * h.tick)))

    assert (await h.record(first.id)).due == h.now() + 2 * h.tick


async def a_change_that_is_repeated_is_one(h: Harness) -> None:
    await sent(h, held(h, body=b"1"))
    change = held(h, one_of(Conflict.REPLACE), body=b"2")
    first = await sent(h, change)
    delivery = await h.take_one()

    assert await sent(h, change) == first

    await h.settle(delivery, v.Done())
    assert await sent(h, change) == first
    assert await h.states() == {State.SUCCEEDED: 1}


async def a_move_that_is_repeated_is_one(h: Harness) -> None:
    for hold in (None, WAITS):
        await sent(h, but(h.message(), unique="k", hold=hold))
        move = held(h, one_of(Conflict.RESCHEDULE))
        first = await sent(h, move)
        await h.settle(await h.take_one(), v.Done())

        assert await sent(h, move) == first, hold
        await h.nothing()


async def an_id_that_is_there_is_a_duplicate_whatever_it_asks_for(h: Harness) -> None:
    first = held(h, one_of(Conflict.REJECT))
    await sent(h, first)

    for again in (first, but(first, hold=one_of(Conflict.REPLACE), body=b"new")):
        answer = await sent(h, again)
        assert told(answer) == (Stored.DUPLICATE, first.id)
    assert (await h.take_one()).message == first


async def a_step_of_a_flow_is_not_replaced(h: Harness) -> None:
    step = held(h, step=Step(flow="f", name="a"))
    await sent(h, step)

    answer = await sent(h, held(h, one_of(Conflict.REPLACE)))

    assert told(answer) == (Stored.TAKEN, step.id)


async def what_stands_in_line_may_be_replaced(h: Harness) -> None:
    one = Source(queue="work", rules=Rules(Rule(per_key=1)))
    broker = await h.broker("one", (one,))
    ahead, waits = but(h.message(), key="a"), held(h, one_of(Conflict.REPLACE), key="a", body=b"old")
    await broker.publish([ahead, waits])
    running = (await h.take(5, source=one))[0]

    (answer,) = await broker.publish([held(h, one_of(Conflict.REPLACE), key="a", body=b"new")])

    assert told(answer) == (Stored.DUPLICATE, waits.id)
    assert await h.take(5, source=one) == []
    await broker.settle([Settlement(running, v.Done())])
    assert [d.message.body for d in await h.take(5, source=one)] == [b"new"]


# -- what becomes of holders


async def a_redrive_takes_the_key_back_that_its_state_held(h: Harness) -> None:
    await sent(h, held(h))
    dead = await h.bury()
    assert await h.steer(q.Redrive(), dead.id) == 1
    assert await _status(h) is Stored.DUPLICATE

    await h.bury()
    other = await sent(h, held(h))
    assert other.status is Stored.STORED
    assert await h.steer(q.Redrive(), dead.id) == 0
    plain = but(h.message(), unique="k")
    assert (await sent(h, plain)).id == other.id


async def a_redrive_of_a_plain_holder_respects_one_that_is_not(h: Harness) -> None:
    await sent(h, but(h.message(), unique="k"))
    dead = await h.bury()
    await sent(h, held(h))

    assert await h.steer(q.Redrive(), dead.id) == 0

    running = await h.take_one()
    assert await h.steer(q.Redrive(), dead.id) == 1
    await h.settle(running, v.Retry(After(0), FAILURE))
    assert (await sent(h, held(h))).id == dead.id


async def a_redrive_of_a_window_takes_nothing(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=h.tick)
    await sent(h, held(h, hold))
    dead = await h.bury()
    await h.advance(h.tick)
    assert await _status(h, hold) is Stored.STORED

    assert await h.steer(q.Redrive(), dead.id) == 1
    assert len(await h.take(5)) == 2


async def of_two_that_are_redriven_one_has_the_key(h: Harness) -> None:
    for _ in range(2):
        await sent(h, held(h))
        await h.bury()

    assert await h.steer(q.Redrive()) == 1
    assert await h.states() == {State.READY: 1, State.DEAD: 1}


async def a_key_that_is_held_is_a_duplicate_however_full_the_queue_is(h: Harness) -> None:
    full = Source(queue="work", limit=1)
    first = held(h, body=b"1", due=At(h.now() + h.tick))
    broker = await h.broker("one", (full,))
    await broker.publish([first])

    answers = await broker.publish([held(h, one_of(Conflict.REPLACE), body=b"2"), h.message()])

    assert [a.status for a in answers] == [Stored.DUPLICATE, Stored.FULL]
    assert (await h.record(first.id)).message.body == b"2"


async def holders_are_held_to_after_the_engine_was_opened_again(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=100 * h.tick)
    first = await sent(h, held(h, hold))
    await h.settle(await h.take_one(), v.Done())

    await h.reopen()

    assert (await sent(h, held(h, hold))).id == first.id


async def how_a_key_is_held_can_be_said_of_a_task_that_has_one(h: Harness) -> None:
    for wrong in (
        but(h.message(), hold=WAITS),
        but(h.event("orders.new"), unique="k", hold=WAITS),
        but(h.message(), topic="orders.new", unique="k", hold=WAITS),
    ):
        broker = await h.broker("one", (Source.subscription("orders.*", "x"),))
        with refused(InvalidOption, "publish with hold"):
            await broker.publish([wrong])
    assert (await (await h.store()).find(q.Query())).records == ()


async def without_scopes_one_is_refused(h: Harness) -> None:
    with refused(Unsupported, "publish with hold"):
        await h.publish(held(h))
    await h.nothing()


def scopes(traits: Traits) -> bool:
    return traits.unique and traits.scopes and traits.remembers and traits.delay


CLAIMS: Final = (
    *claims(
        "scope",
        scopes,
        a_key_held_until_it_starts_is_free_when_it_starts,
        a_key_held_until_it_starts_is_held_while_it_waits_for_another_try,
        another_that_took_the_key_meanwhile_keeps_it,
        a_key_held_for_a_time_is_held_whatever_its_holder_does,
        a_key_held_for_a_time_is_free_after_it_though_its_holder_waits,
        a_window_goes_with_a_holder_that_is_called_off,
        a_dead_letter_may_hold_its_key_until_somebody_acts,
        there_is_one_space_of_keys_however_they_are_held,
        what_was_held_before_does_not_come_between,
        keys_of_one_batch_are_met_in_its_order,
        what_follows_meets_keys_as_what_is_sent_does,
        one_that_is_replaced_begins_anew_with_its_history,
        one_that_runs_is_not_replaced,
        what_has_begun_counts_as_running_though_it_waits_to_go_on,
        what_has_begun_is_not_replaced,
        what_belongs_elsewhere_is_not_replaced,
        one_that_waits_is_only_moved,
        one_that_runs_is_not_moved,
        one_that_asks_for_it_is_rejected,
        one_of_a_series_runs_in_time,
        a_new_series_begins_with_what_takes_the_place_of_a_failed_try,
        a_change_that_is_repeated_is_one,
        a_move_that_is_repeated_is_one,
        an_id_that_is_there_is_a_duplicate_whatever_it_asks_for,
        a_redrive_takes_the_key_back_that_its_state_held,
        a_redrive_of_a_plain_holder_respects_one_that_is_not,
        a_redrive_of_a_window_takes_nothing,
        of_two_that_are_redriven_one_has_the_key,
    ),
    *claims("scope", lambda t: scopes(t) and t.flows, a_step_of_a_flow_is_not_replaced),
    *claims(
        "scope", lambda t: scopes(t) and t.priorities and t.expiry, one_that_waits_is_replaced_in_its_place
    ),
    *claims(
        "scope",
        scopes,
        a_window_survives_a_holder_that_is_forgotten,
        retention=Retention(succeeded=SHORT, cancelled=SHORT, dead=SHORT),
    ),
    *claims(
        "scope",
        lambda t: scopes(t) and t.limits,
        a_key_that_is_held_is_a_duplicate_however_full_the_queue_is,
    ),
    *claims(
        "scope",
        lambda t: scopes(t) and survives(t),
        holders_are_held_to_after_the_engine_was_opened_again,
    ),
    *claims(
        "scope",
        lambda t: scopes(t) and t.fan_out,
        how_a_key_is_held_can_be_said_of_a_task_that_has_one,
    ),
    *claims("scope", lambda t: scopes(t) and t.lines, what_stands_in_line_may_be_replaced),
    *claims("refusal", lambda t: not t.scopes, without_scopes_one_is_refused),
)
