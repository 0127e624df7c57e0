"""Claims about messages that gather: who is handed out together, when, and what comes between."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.engine import Settlement, Source, Stored
from forebay.errors import InvalidOption
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.rule import RateLimit, Rule, Rules
from forebay.model.state import State
from forebay.model.unique import Gather
from forebay.model.when import After
from forebay.support.ids import new_token
from forebay.testing.conformance.harness import FAILURE, Harness, but, claims, ids, refused, survives
from forebay.testing.conformance.unique import scopes, told

if TYPE_CHECKING:
    from forebay.model.message import Message


def joins(h: Harness, of: str = "k", most: int = 10, **fields: Any) -> Message:
    """A new message that gathers with others: until none has come for a tick, or the first has waited for three."""
    hold = Gather(longest=3 * h.tick, most=most, quiet=h.tick).of("", b"", None).hold
    return but(h.message(), **{"unique": of, "hold": hold, "due": After(h.tick), **fields})


async def _joined(h: Harness, *messages: Message) -> list[str]:
    answers = await (await h.broker()).publish(messages)
    assert {told(answer) for answer in answers} == {(Stored.STORED, str(m.id)) for m in messages}
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


async def a_group_without_bounds_is_refused(h: Harness) -> None:
    hold = Gather(longest=h.tick, most=5, quiet=h.tick).of("", b"", None).hold
    for wrong in (but(hold, most=1), but(hold, most=1_001), but(hold, longest=None)):
        with refused(InvalidOption, "publish with a group of any size"):
            await h.publish(joins(h, hold=wrong))
    await h.nothing()


CLAIMS: Final = (
    *claims(
        "group",
        scopes,
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
    *claims("group", lambda t: scopes(t) and t.limits, what_gathers_counts_in_a_full_queue),
    *claims(
        "group",
        lambda t: scopes(t) and t.lines,
        where_one_of_a_key_runs_at_once_a_group_is_one,
        where_a_rate_holds_a_group_is_one,
    ),
    *claims(
        "group",
        lambda t: scopes(t) and survives(t),
        a_group_goes_on_gathering_when_the_engine_was_opened_again,
    ),
)
