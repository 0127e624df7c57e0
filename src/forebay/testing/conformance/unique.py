"""Claims about unique keys that are held in ways of their own: until it starts, for a time; and about what another one does to a holder."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.engine import Retention, Settled, Settlement, Source, Stored
from forebay.errors import InvalidOption, Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.flow import Step
from forebay.model.message import EntryId
from forebay.model.rule import RateLimit, Rule, Rules
from forebay.model.saved import SavedStep
from forebay.model.state import WAITING, State
from forebay.model.unique import UNFINISHED, WORKED_ON, Conflict, Gather, Hold
from forebay.model.when import SECOND, After, At
from forebay.support.ids import new_token
from forebay.testing.conformance.harness import FAILURE, Harness, but, claims, ids, refused, survives

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


def _of(answer: Published) -> tuple[Stored, str]:
    return answer.status, answer.id


async def _sent(h: Harness, message: Message) -> Published:
    (answer,) = await (await h.broker()).publish([message])
    return answer


async def _status(h: Harness, hold: Hold | None = WAITS) -> Stored:
    """What becomes of a new message that wants the key ``k``."""
    return (await _sent(h, held(h, hold) if hold is not None else but(h.message(), unique="k"))).status


# -- how long


async def a_key_held_until_it_starts_is_free_when_it_starts(h: Harness) -> None:
    first = held(h)
    assert (await _sent(h, first)).status is Stored.STORED
    assert (await _status(h)) is Stored.DUPLICATE

    delivery = await h.take_one()

    assert delivery.message == first
    second = await _sent(h, held(h))
    assert second.status is Stored.STORED
    assert await _status(h) is Stored.DUPLICATE, "the second waits"
    await h.settle(delivery, v.Done())
    assert (await _sent(h, held(h))).id == second.id


async def a_key_held_until_it_starts_is_held_while_it_waits_for_another_try(h: Harness) -> None:
    first = await _sent(h, held(h))
    await h.settle(await h.take_one(), v.Retry(After(h.tick), FAILURE))

    assert await _sent(h, held(h)) == but(first, status=Stored.DUPLICATE)


async def another_that_took_the_key_meanwhile_keeps_it(h: Harness) -> None:
    await _sent(h, held(h))
    delivery = await h.take_one()
    second = await _sent(h, held(h))

    await h.settle(delivery, v.Retry(After(0), FAILURE))

    assert (await _sent(h, held(h))).id == second.id
    assert [d.id for d in await h.take(5)] == [delivery.id, second.id]


async def a_key_held_for_a_time_is_held_whatever_its_holder_does(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=3 * h.tick)
    first = await _sent(h, held(h, hold))
    assert await _status(h, hold) is Stored.DUPLICATE
    delivery = await h.take_one()
    assert await _status(h, hold) is Stored.DUPLICATE
    await h.settle(delivery, v.Done())

    await h.advance(2 * h.tick)
    assert (await _sent(h, held(h, hold))).id == first.id
    await h.advance(h.tick)

    assert await _status(h, hold) is Stored.STORED


async def a_key_held_for_a_time_is_free_after_it_though_its_holder_waits(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=h.tick)
    await _sent(h, held(h, hold))
    await h.advance(h.tick)

    assert await _status(h, hold) is Stored.STORED
    assert len(await h.take(5)) == 2


async def a_window_survives_a_holder_that_is_forgotten(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=10 * SHORT)
    first = await _sent(h, held(h, hold))
    await h.settle(await h.take_one(), v.Done())
    await h.advance(2 * SHORT)
    await (await h.store()).sweep(100)
    assert (await (await h.store()).find(q.Query())).records == ()

    assert await _sent(h, held(h, hold)) == but(first, status=Stored.DUPLICATE)
    assert (await _sent(h, held(h, but(hold, conflict=Conflict.REPLACE)))).id == first.id
    assert await _status(h, but(hold, conflict=Conflict.REJECT)) is Stored.TAKEN
    await h.advance(9 * SHORT)
    await (await h.store()).sweep(100)
    assert await _status(h, hold) is Stored.STORED


async def a_window_goes_with_a_holder_that_is_called_off(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=h.tick)
    for command in (q.CancelNow(), q.Delete()):
        first = await _sent(h, held(h, hold))
        assert first.status is Stored.STORED, command
        await h.steer(command, first.id)
    assert await _status(h, hold) is Stored.STORED


async def a_dead_letter_may_hold_its_key_until_somebody_acts(h: Harness) -> None:
    hold = Hold(states=UNFINISHED | {State.DEAD})
    await _sent(h, held(h, hold))
    dead = await h.bury()
    assert (await _sent(h, held(h, hold))).id == dead.id
    assert await _status(h, None) is Stored.DUPLICATE, "for others too"

    await h.steer(q.Delete(), dead.id)

    assert await _status(h, hold) is Stored.STORED


async def there_is_one_space_of_keys_however_they_are_held(h: Harness) -> None:
    plain = await _sent(h, but(h.message(), unique="k"))
    assert (await _sent(h, held(h))).id == plain.id
    running = await h.take_one()
    assert (await _sent(h, held(h))).id == plain.id
    await h.settle(running, v.Done())

    scoped = await _sent(h, held(h))

    assert scoped.status is Stored.STORED
    answers = await (await h.broker()).publish([but(h.message(), unique="k"), h.message(), held(h)])
    assert [a.status for a in answers] == [Stored.DUPLICATE, Stored.STORED, Stored.DUPLICATE]
    assert {answers[0].id, answers[2].id} == {scoped.id}


async def what_was_held_before_does_not_come_between(h: Harness) -> None:
    await _sent(h, held(h))
    running = await h.take_one()
    plain = await _sent(h, but(h.message(), unique="k"))
    assert plain.status is Stored.STORED

    await h.settle(running, v.Retry(After(0), FAILURE))

    assert (await _sent(h, held(h))).id == plain.id
    assert await h.steer(q.CancelNow(), plain.id) == 1
    assert await _status(h) is Stored.STORED


async def keys_of_one_batch_are_met_in_its_order(h: Harness) -> None:
    replace = one_of(Conflict.REPLACE)
    batch = [held(h, replace, body=b"%d" % n) for n in range(3)]

    answers = await (await h.broker()).publish(batch)

    assert list(map(_of, answers)) == [
        (Stored.STORED, batch[0].id),
        (Stored.DUPLICATE, batch[0].id),
        (Stored.DUPLICATE, batch[0].id),
    ]
    assert [d.message.body for d in await h.take(5)] == [b"2"]


async def what_follows_meets_keys_as_what_is_sent_does(h: Harness) -> None:
    await h.publish(h.message())
    waiting = await _sent(h, held(h, due=After(h.tick)))
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
    await _sent(h, first)
    second = held(
        h, one_of(Conflict.REPLACE), body=b"\xff\0", content_type="text/plain", priority=9, deadline=After(h.tick),
        timeout=7, headers={"b": "2"},
    )  # fmt: skip

    answer = await _sent(h, second)

    assert _of(answer) == (Stored.DUPLICATE, first.id)
    assert await h.states() == {State.READY: 1}
    await h.publish(h.message())
    delivery = await h.take_one()
    assert delivery.message == but(second, id=first.id)
    assert (delivery.expires, delivery.deadline) == (None, h.now() + h.tick)


async def one_that_is_replaced_begins_anew_with_its_history(h: Harness) -> None:
    await _sent(h, held(h))
    failed = await h.take_one()
    await h.settle(failed, v.Retry(After(h.tick), FAILURE))

    await _sent(h, held(h, one_of(Conflict.REPLACE)))

    record = await h.record(failed.id)
    assert (record.state, record.attempts, record.due, len(record.tries)) == (State.READY, 0, None, 1)
    assert (await h.take_one()).attempts == 0


async def one_that_runs_is_not_replaced(h: Harness) -> None:
    await _sent(h, held(h, one_of(Conflict.REPLACE, UNFINISHED), body=b"old"))
    running = await h.take_one()

    answer = await _sent(h, held(h, one_of(Conflict.REPLACE, UNFINISHED), body=b"new"))

    assert _of(answer) == (Stored.DUPLICATE, running.id)
    assert (await h.record(running.id)).message.body == b"old"
    assert await h.states() == {State.RUNNING: 1}


async def what_has_begun_counts_as_running_though_it_waits_to_go_on(h: Harness) -> None:
    replace = one_of(Conflict.REPLACE)
    await _sent(h, held(h, replace, body=b"old"))
    running = await h.take_one()
    await (await h.store()).save(running, [SavedStep(name="charge", position=1, body=b"1")])
    await h.settle(running, v.Snooze(After(h.tick)))

    second = await _sent(h, held(h, replace, body=b"new", due=After(2 * h.tick)))

    assert second.status is Stored.STORED
    assert (await h.record(running.id)).message.body == b"old"
    assert await _status(h, replace) is Stored.DUPLICATE, "of the second"


async def what_has_begun_is_not_replaced(h: Harness) -> None:
    replace = one_of(Conflict.REPLACE, UNFINISHED)
    await _sent(h, held(h, replace, body=b"old"))
    running = await h.take_one()
    await (await h.store()).save(running, [SavedStep(name="charge", position=1, body=b"1")])
    await h.settle(running, v.Retry(After(h.tick), FAILURE))

    assert _of(await _sent(h, held(h, replace, body=b"new"))) == (Stored.DUPLICATE, running.id)

    assert (await h.record(running.id)).message.body == b"old"


async def what_belongs_elsewhere_is_not_replaced(h: Harness) -> None:
    first = held(h, key="one")
    await _sent(h, first)
    replace = one_of(Conflict.REPLACE)

    for other in (held(h, replace, key="two"), held(h, replace, name="another", key="one")):
        answer = await _sent(h, other)
        assert _of(answer) == (Stored.TAKEN, first.id)

    assert (await h.take_one()).message == first


async def one_that_waits_is_only_moved(h: Harness) -> None:
    first, move = held(h), one_of(Conflict.RESCHEDULE)
    await _sent(h, first)

    answer = await _sent(h, held(h, move, body=b"new", due=After(h.tick)))

    assert _of(answer) == (Stored.DUPLICATE, first.id)
    record = await h.record(first.id)
    assert (record.state, record.due) == (State.SCHEDULED, h.now() + h.tick)
    await h.nothing()
    await _sent(h, held(h, move, due=After(2 * h.tick)))
    await h.advance(h.tick)
    await h.nothing()
    await _sent(h, held(h, move))
    assert (await h.take_one()).message == first


async def one_that_runs_is_not_moved(h: Harness) -> None:
    await _sent(h, held(h, one_of(Conflict.RESCHEDULE, UNFINISHED)))
    running = await h.take_one()

    assert await _status(h, one_of(Conflict.RESCHEDULE, UNFINISHED)) is Stored.DUPLICATE

    assert (await h.record(running.id)).due is None


async def one_that_asks_for_it_is_rejected(h: Harness) -> None:
    first = await _sent(h, held(h))

    answers = await (await h.broker()).publish([held(h, one_of(Conflict.REJECT)), h.message()])

    assert [a.status for a in answers] == [Stored.TAKEN, Stored.STORED]
    assert answers[0].id == first.id
    assert await h.states() == {State.READY: 2}


async def one_of_a_series_runs_in_time(h: Harness) -> None:
    hold = one_of(Conflict.REPLACE, longest=3 * h.tick)
    began, quiet = h.now(), After(2 * h.tick)
    first = await _sent(h, held(h, hold, due=quiet))
    await h.advance(h.tick)

    await _sent(h, held(h, hold, due=quiet, body=b"2"))
    assert (await h.record(first.id)).due == began + 3 * h.tick
    await h.advance(h.tick)
    await _sent(h, held(h, hold, due=quiet, body=b"3"))
    await h.nothing()

    await h.advance(h.tick)
    assert (await h.take_one()).message.body == b"3"
    assert (await _sent(h, held(h, hold, due=quiet))).status is Stored.STORED
    await h.nothing()


async def a_new_series_begins_with_what_takes_the_place_of_a_failed_try(h: Harness) -> None:
    hold = one_of(Conflict.REPLACE, longest=3 * h.tick)
    first = await _sent(h, held(h, hold, due=After(h.tick)))
    await h.advance(h.tick)
    await h.settle(await h.take_one(), v.Retry(After(10 * h.tick), FAILURE))
    await h.advance(5 * h.tick)

    await _sent(h, held(h, hold, due=After(2 * h.tick)))

    assert (await h.record(first.id)).due == h.now() + 2 * h.tick


async def a_change_that_is_repeated_is_one(h: Harness) -> None:
    await _sent(h, held(h, body=b"1"))
    change = held(h, one_of(Conflict.REPLACE), body=b"2")
    first = await _sent(h, change)
    delivery = await h.take_one()

    assert await _sent(h, change) == first

    await h.settle(delivery, v.Done())
    assert await _sent(h, change) == first
    assert await h.states() == {State.SUCCEEDED: 1}


async def a_move_that_is_repeated_is_one(h: Harness) -> None:
    for hold in (None, WAITS):
        await _sent(h, but(h.message(), unique="k", hold=hold))
        move = held(h, one_of(Conflict.RESCHEDULE))
        first = await _sent(h, move)
        await h.settle(await h.take_one(), v.Done())

        assert await _sent(h, move) == first, hold
        await h.nothing()


async def an_id_that_is_there_is_a_duplicate_whatever_it_asks_for(h: Harness) -> None:
    first = held(h, one_of(Conflict.REJECT))
    await _sent(h, first)

    for again in (first, but(first, hold=one_of(Conflict.REPLACE), body=b"new")):
        answer = await _sent(h, again)
        assert _of(answer) == (Stored.DUPLICATE, first.id)
    assert (await h.take_one()).message == first


async def a_step_of_a_flow_is_not_replaced(h: Harness) -> None:
    step = held(h, step=Step(flow="f", name="a"))
    await _sent(h, step)

    answer = await _sent(h, held(h, one_of(Conflict.REPLACE)))

    assert _of(answer) == (Stored.TAKEN, step.id)


# -- groups


def joins(h: Harness, of: str = "k", most: int = 10, **fields: Any) -> Message:
    """A new message that gathers with others: until none has come for a tick, or the first has waited for three."""
    hold = Gather(longest=3 * h.tick, most=most, quiet=h.tick).of("", b"", None).hold
    return but(h.message(), **{"unique": of, "hold": hold, "due": After(h.tick), **fields})


async def _joined(h: Harness, *messages: Message) -> list[str]:
    answers = await (await h.broker()).publish(messages)
    assert {_of(answer) for answer in answers} == {(Stored.STORED, str(m.id)) for m in messages}
    return [str(message.id) for message in messages]


async def what_has_gathered_is_handed_out_together_once_it_is_quiet(h: Harness) -> None:
    group = await _joined(h, joins(h), joins(h))
    await h.advance(h.tick - 1)
    group += await _joined(h, joins(h))
    await h.advance(h.tick - 1)
    await h.nothing()
    await h.advance(1)

    assert ids(await h.take(1)) == group, "a group counts as one"
    await _joined(h, joins(h))
    await h.nothing()


async def a_group_that_is_full_waits_for_nothing(h: Harness) -> None:
    group = await _joined(h, *(joins(h, most=3) for _ in range(3)))
    later = await _joined(h, joins(h, most=3))

    assert ids(await h.take(1)) == group

    await h.nothing()
    await h.advance(h.tick)
    assert ids(await h.take(5)) == later


async def a_group_waits_no_longer_than_its_first_may(h: Harness) -> None:
    group = await _joined(h, joins(h))
    for _ in range(5):
        await h.advance(h.tick // 2)
        group += await _joined(h, joins(h))
    await h.nothing()

    await h.advance(h.tick // 2)

    assert ids(await h.take(1)) == group


async def groups_of_different_keys_are_handed_out_apart(h: Harness) -> None:
    one, other = [joins(h, "a"), joins(h, "a")], [joins(h, "b"), joins(h, "b")]
    await _joined(h, one[0], other[0], one[1], other[1])
    await h.publish(h.message())
    await h.advance(h.tick)

    found = [ids(await h.take(1)) for _ in range(3)]

    assert found[:2] == [[str(message.id) for message in group] for group in (one, other)]
    assert len(found[2]) == 1


async def a_group_is_one_beside_others_that_are_taken(h: Harness) -> None:
    await h.publish(h.message(), h.message())
    group = await _joined(h, joins(h), joins(h), joins(h))
    await h.advance(h.tick)

    taken = await h.take(3)

    assert len(taken) == 5
    assert set(group) <= set(ids(taken))
    assert len({delivery.token for delivery in taken}) == 1


async def a_receive_that_is_repeated_hands_out_the_group_again(h: Harness) -> None:
    group, token = await _joined(h, joins(h), joins(h), joins(h)), new_token()
    await h.advance(h.tick)
    assert ids(await h.take(1, token=token)) == group

    assert ids(await h.take(1, token=token)) == group


async def a_group_that_is_handed_back_or_lost_comes_again_as_one(h: Harness) -> None:
    group = await _joined(h, joins(h), joins(h), joins(h))
    await h.advance(h.tick)
    for delivery in await h.take(1):
        await h.settle(delivery, v.Release())

    assert ids(await h.take(1)) == group
    await h.lose()
    assert ids(await h.take(1)) == group


async def what_has_failed_comes_by_itself(h: Harness) -> None:
    group = await _joined(h, joins(h), joins(h), joins(h))
    await h.advance(h.tick)
    first, second, third = await h.take(1)
    await h.settle(first, v.Release())
    await h.settle(second, v.Retry(After(0), FAILURE))
    await h.settle(third, v.Done())

    assert ids(await h.take(1)) == group[:1]
    (again,) = await h.take(1)
    assert (again.id, again.attempts) == (group[1], 1)
    assert await h.state(third.id) is State.SUCCEEDED


async def those_whose_first_is_called_off_run_in_time(h: Harness) -> None:
    group = await _joined(h, joins(h), joins(h), joins(h))
    assert await h.steer(q.CancelNow(), EntryId(group[0])) == 1

    await _joined(h, joins(h))

    await h.advance(h.tick)
    assert len(await h.take(5)) == 1, "the new group"
    await h.advance(2 * h.tick)
    assert ids(await h.take(5)) == group[1:]


async def a_redrive_of_its_first_sends_a_group_off(h: Harness) -> None:
    group = await _joined(h, joins(h), joins(h), joins(h))

    assert await h.steer(q.Redrive(), EntryId(group[0])) == 1

    assert ids(await h.take(1)) == group


async def no_more_than_a_thousand_come_with_what_is_taken(h: Harness) -> None:
    for key in ("a", "b"):
        await _joined(h, *(joins(h, key, most=1_000) for _ in range(600)))
    await h.advance(h.tick)

    assert [len(await h.take(5)) for _ in range(2)] == [600, 600]


async def what_follows_gathers_too(h: Harness) -> None:
    await h.publish(h.message())
    group = await _joined(h, joins(h))
    follow = joins(h)
    await h.settle(await h.take_one(), v.Done(), follow)
    await h.advance(h.tick)

    assert ids(await h.take(1)) == [*group, follow.id]


async def what_gathers_counts_in_a_full_queue(h: Harness) -> None:
    broker = await h.broker("one", (Source(queue="work", limit=2),))

    answers = await broker.publish([joins(h) for _ in range(3)])

    assert [a.status for a in answers] == [Stored.STORED, Stored.STORED, Stored.FULL]
    await h.advance(h.tick)
    assert len(await h.take(1, source=Source(queue="work", limit=2))) == 2


async def a_group_goes_on_gathering_when_the_engine_was_opened_again(h: Harness) -> None:
    group = await _joined(h, joins(h), joins(h))
    await h.reopen()
    group += await _joined(h, joins(h))
    await h.advance(h.tick)

    assert ids(await h.take(1)) == group


async def where_one_of_a_key_runs_at_once_a_group_is_one(h: Harness) -> None:
    one = Source(queue="work", rules=Rules(Rule(per_key=1)))
    first = [joins(h, "a", key="a", most=3) for _ in range(3)]
    second = [joins(h, "a", key="a", most=3) for _ in range(3)]
    broker = await h.broker("one", (one,))
    await broker.publish([*first, *second])

    taken = await h.take(10, source=one)

    assert ids(taken) == [str(message.id) for message in first]
    assert await h.take(10, source=one) == [], "its key is busy"
    for delivery in taken:
        await broker.settle([Settlement(delivery, v.Done())])
    assert ids(await h.take(10, source=one)) == [str(message.id) for message in second]


async def where_a_rate_holds_a_group_is_one(h: Harness) -> None:
    slow = Source(queue="work", rules=Rules(Rule(rate=RateLimit(1, h.tick, 1))))
    broker = await h.broker("one", (slow,))
    groups = [[joins(h, key, key=key, most=2) for _ in range(2)] for key in ("a", "b")]
    await broker.publish([message for group in groups for message in group])

    found = [ids(await h.take(10, source=slow))]
    await h.advance(h.tick)
    found.append(ids(await h.take(10, source=slow)))

    assert found == [[str(message.id) for message in group] for group in groups]


async def what_stands_in_line_may_be_replaced(h: Harness) -> None:
    one = Source(queue="work", rules=Rules(Rule(per_key=1)))
    broker = await h.broker("one", (one,))
    ahead, waits = but(h.message(), key="a"), held(h, one_of(Conflict.REPLACE), key="a", body=b"old")
    await broker.publish([ahead, waits])
    running = (await h.take(5, source=one))[0]

    (answer,) = await broker.publish([held(h, one_of(Conflict.REPLACE), key="a", body=b"new")])

    assert _of(answer) == (Stored.DUPLICATE, waits.id)
    assert await h.take(5, source=one) == []
    await broker.settle([Settlement(running, v.Done())])
    assert [d.message.body for d in await h.take(5, source=one)] == [b"new"]


async def a_group_without_bounds_is_refused(h: Harness) -> None:
    hold = Gather(longest=h.tick, most=5, quiet=h.tick).of("", b"", None).hold
    for wrong in (but(hold, most=1), but(hold, most=1_001), but(hold, longest=None)):
        with refused(InvalidOption, "publish with a group of any size"):
            await h.publish(joins(h, hold=wrong))
    await h.nothing()


# -- what becomes of holders


async def a_redrive_takes_the_key_back_that_its_state_held(h: Harness) -> None:
    await _sent(h, held(h))
    dead = await h.bury()
    assert await h.steer(q.Redrive(), dead.id) == 1
    assert await _status(h) is Stored.DUPLICATE

    await h.bury()
    other = await _sent(h, held(h))
    assert other.status is Stored.STORED
    assert await h.steer(q.Redrive(), dead.id) == 0
    plain = but(h.message(), unique="k")
    assert (await _sent(h, plain)).id == other.id


async def a_redrive_of_a_plain_holder_respects_one_that_is_not(h: Harness) -> None:
    await _sent(h, but(h.message(), unique="k"))
    dead = await h.bury()
    await _sent(h, held(h))

    assert await h.steer(q.Redrive(), dead.id) == 0

    running = await h.take_one()
    assert await h.steer(q.Redrive(), dead.id) == 1
    await h.settle(running, v.Retry(After(0), FAILURE))
    assert (await _sent(h, held(h))).id == dead.id


async def a_redrive_of_a_window_takes_nothing(h: Harness) -> None:
    hold = Hold(states=WORKED_ON, window=h.tick)
    await _sent(h, held(h, hold))
    dead = await h.bury()
    await h.advance(h.tick)
    assert await _status(h, hold) is Stored.STORED

    assert await h.steer(q.Redrive(), dead.id) == 1
    assert len(await h.take(5)) == 2


async def of_two_that_are_redriven_one_has_the_key(h: Harness) -> None:
    for _ in range(2):
        await _sent(h, held(h))
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
    first = await _sent(h, held(h, hold))
    await h.settle(await h.take_one(), v.Done())

    await h.reopen()

    assert (await _sent(h, held(h, hold))).id == first.id


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


def _scopes(traits: Traits) -> bool:
    return traits.unique and traits.scopes and traits.remembers and traits.delay


CLAIMS: Final = (
    *claims(
        "scope",
        _scopes,
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
    *claims("scope", lambda t: _scopes(t) and t.flows, a_step_of_a_flow_is_not_replaced),
    *claims(
        "group",
        _scopes,
        what_has_gathered_is_handed_out_together_once_it_is_quiet,
        a_group_that_is_full_waits_for_nothing,
        a_group_waits_no_longer_than_its_first_may,
        groups_of_different_keys_are_handed_out_apart,
        a_group_is_one_beside_others_that_are_taken,
        a_receive_that_is_repeated_hands_out_the_group_again,
        a_group_that_is_handed_back_or_lost_comes_again_as_one,
        what_has_failed_comes_by_itself,
        those_whose_first_is_called_off_run_in_time,
        a_redrive_of_its_first_sends_a_group_off,
        no_more_than_a_thousand_come_with_what_is_taken,
        what_follows_gathers_too,
        a_group_without_bounds_is_refused,
    ),
    *claims("group", lambda t: _scopes(t) and t.limits, what_gathers_counts_in_a_full_queue),
    *claims(
        "group",
        lambda t: _scopes(t) and t.lines,
        where_one_of_a_key_runs_at_once_a_group_is_one,
        where_a_rate_holds_a_group_is_one,
        what_stands_in_line_may_be_replaced,
    ),
    *claims(
        "group",
        lambda t: _scopes(t) and survives(t),
        a_group_goes_on_gathering_when_the_engine_was_opened_again,
    ),
    *claims(
        "scope", lambda t: _scopes(t) and t.priorities and t.expiry, one_that_waits_is_replaced_in_its_place
    ),
    *claims(
        "scope",
        _scopes,
        a_window_survives_a_holder_that_is_forgotten,
        retention=Retention(succeeded=SHORT, cancelled=SHORT, dead=SHORT),
    ),
    *claims(
        "scope",
        lambda t: _scopes(t) and t.limits,
        a_key_that_is_held_is_a_duplicate_however_full_the_queue_is,
    ),
    *claims(
        "scope",
        lambda t: _scopes(t) and survives(t),
        holders_are_held_to_after_the_engine_was_opened_again,
    ),
    *claims(
        "scope",
        lambda t: _scopes(t) and t.fan_out,
        how_a_key_is_held_can_be_said_of_a_task_that_has_one,
    ),
    *claims("refusal", lambda t: not t.scopes, without_scopes_one_is_refused),
)
