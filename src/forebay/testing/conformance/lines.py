"""Lines: how much of a queue, a key and a name begins and runs at once, in order and in turn, over all workers."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from forebay.engine import Ask, Settled, Settlement, Source, Stored
from forebay.errors import InvalidOption, Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.flow import Step
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.note import Note, Revision
from forebay.model.rule import RULE, Rule, Rules, rate_limit
from forebay.model.state import WAITING, State
from forebay.model.unique import Conflict, Gather, Hold
from forebay.model.waits import ForLine, ForRoom, ForTokens
from forebay.model.when import SECOND, After
from forebay.support.ids import new_token
from forebay.testing.conformance.harness import FAILURE, Harness, but, claims, ids, refused, survives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Delivery, Store, Traits
    from forebay.model.waits import Waits

LINED: Final = Source(queue="lined")
MANY: Final = 10_000
"""Messages of a key that is hot."""


def _with(**rule: object) -> Source:
    return but(LINED, rules=Rules(but(Rule(), **rule)))


def _capped(**most: int) -> Source:
    return but(LINED, rules=Rules(most=most))


async def _sent(h: Harness, source: Source, *keys: str | None, name: str = "job") -> list[EntryId]:
    """Send one message of each key; their ids."""
    batch = [but(h.message(name), queue=source.queue, key=key) for key in keys]
    await (await h.broker("one", (source,))).publish(batch)
    return [EntryId(message.id) for message in batch]


async def _done(h: Harness, *deliveries: Delivery) -> None:
    broker = await h.broker("one", (deliveries[0].source,))
    assert set(await broker.settle([Settlement(one, v.Done()) for one in deliveries])) == {Settled.OK}


async def _keys(h: Harness, source: Source, limit: int = 100, worker: str = "one") -> list[str | None]:
    return [one.message.key for one in await h.take(limit, worker=worker, source=source)]


# -- how many run


async def a_queue_runs_no_more_at_once_than_it_may(h: Harness) -> None:
    source = _with(concurrency=3)
    await _sent(h, source, *[None] * 5)

    first = await h.take(2, source=source)
    second = await h.take(5, worker="two", source=source)

    assert [len(first), len(second)] == [2, 1], "over all workers together"
    await h.nothing(source)

    await _done(h, *first)

    assert len(await h.take(source=source)) == 2, "those that have ended have made room"


async def a_key_runs_no_more_at_once_than_it_may_and_the_others_do_not_wait(h: Harness) -> None:
    source = _with(per_key=2)
    sent = await _sent(h, source, "a", "a", "a", "b", None, "a")

    first = await h.take(source=source)

    assert ids(first) == [sent[0], sent[1], sent[3], sent[4]]
    assert await h.state(sent[2]) is State.BLOCKED
    assert await h.states(LINED.queue) == {State.RUNNING: 4, State.BLOCKED: 2}

    await _done(h, first[1])

    assert ids(await h.take(source=source)) == [sent[2]], "the next in line, and one only"


async def a_task_runs_no_more_at_once_than_it_may(h: Harness) -> None:
    source = _capped(slow=2)
    slow = await _sent(h, source, None, None, "k", name="slow")
    other = await _sent(h, source, None, None)

    first = await h.take(3, source=source)
    second = await h.take(worker="two", source=source)

    assert ids([*first, *second]) == [slow[0], slow[1], *other], "those behind are not held up"
    await h.nothing(source)

    await _done(h, first[0])

    assert ids(await h.take(source=source)) == [slow[2]]


async def a_task_in_two_queues_runs_no_more_at_once_than_it_may(h: Harness) -> None:
    here, there = _capped(slow=1), Source(queue="elsewhere", rules=Rules(most={"slow": 1}))
    await _sent(h, here, None, name="slow")
    await (await h.broker("one", (there,))).publish([but(h.message("slow"), queue=there.queue)])

    (first,) = await h.take(source=here)

    await h.nothing(there)
    await _done(h, first)
    assert len(await h.take(source=there)) == 1


async def a_name_and_a_key_both_hold(h: Harness) -> None:
    source = but(LINED, rules=Rules(Rule(per_key=1), {"slow": 2}))
    slow = await _sent(h, source, "a", "b", "c", "a", name="slow")
    (other,) = await _sent(h, source, "d")

    first = await h.take(source=source)

    assert ids(first) == [*slow[:2], other]
    await _done(h, first[0])
    assert ids(await h.take(source=source)) == [slow[2]], "a key that is free, and first come"
    await _done(h, first[1])
    assert ids(await h.take(source=source)) == [slow[3]]


async def a_lease_that_is_lost_makes_room_when_it_is_lost(h: Harness) -> None:
    source = but(LINED, rules=Rules(Rule(concurrency=2, per_key=1)))
    sent = await _sent(h, source, "a", "b", "a", "c")
    assert ids(await h.take(source=source)) == sent[:2]
    await h.advance(h.lease - 1)
    await h.nothing(source)

    await h.lose()

    assert set(await _keys(h, source, worker="two")) == {"a", "b"}, "they run again, before those behind them"
    await h.nothing(source)


async def what_a_dead_worker_had_makes_room_at_once(h: Harness) -> None:
    source = but(LINED, rules=Rules(Rule(concurrency=1), {"job": 1}))
    sent = await _sent(h, source, None, None)
    assert ids(await h.take(worker="dead", source=source)) == sent[:1]

    await (await h.store()).steer(q.Selector(), q.HandBack("dead"))

    assert ids(await h.take(source=source)) == sent[:1]
    await h.nothing(source)


async def every_way_to_an_end_makes_room(h: Harness) -> None:
    source = but(LINED, rules=Rules(Rule(concurrency=1, per_key=1), {"job": 1}))
    ends: list[v.Verdict] = [
        v.Done(), v.Retry(After(h.tick * 10), FAILURE), v.Snooze(After(h.tick * 10)), v.Dead(v.Reason.ASKED), v.Cancelled(), v.Expired(),
    ]  # fmt: skip
    sent = await _sent(h, source, *["a"] * len(ends))

    for key, end in zip(sent, ends, strict=True):
        (one,) = await h.take(source=source)
        assert one.id == key
        await h.nothing(source)
        await h.settle(one, end)


async def what_nobody_waits_for_any_more_makes_room(h: Harness) -> None:
    source = but(LINED, rules=Rules(Rule(concurrency=2, per_key=1, ordered=True, fair=True), {"job": 2}))
    sent = await _sent(h, source, *["a", "b", "c"] * 4)
    broker, got = await h.broker("one", (source,)), list[str]()

    for turns in range(12):
        ask = Ask(source, new_token(), 2)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.receive([ask], wait=0))
            for _ in range(turns):
                await asyncio.wait([task], timeout=0)
            task.cancel()
        # What it has taken before it was cancelled is its own; else it is back, with the room it took.
        taken = await broker.receive([ask], wait=0)
        assert taken, turns
        assert len({one.message.key for one in taken}) == len(taken) <= 2
        await h.nothing(source)
        got += ids(taken)
        await _done(h, *taken)
        if len(got) == len(sent):
            break

    assert sorted(got) == sorted(sent)
    for key in range(3):
        own = [one for one in got if one in sent[key::3]]
        assert own == sent[key::3], "in their order, whatever was put back"


async def who_waits_in_front_may_go_and_the_next_comes_up(h: Harness) -> None:
    source = _with(per_key=1)
    first, second, third, fourth = await _sent(h, source, *["a"] * 4)

    assert await h.steer(q.CancelNow(), first) == 1
    assert await h.states(LINED.queue) == {State.CANCELLED: 1, State.READY: 1, State.BLOCKED: 2}
    assert await h.steer(q.Delete(), second) == 1
    assert await h.steer(q.CancelNow(), fourth) == 1, "from the midst of a line, too"

    assert ids(await h.take(source=source)) == [third]


async def what_expires_in_line_is_over_and_the_next_comes_up(h: Harness) -> None:
    source = _with(per_key=1)
    broker = await h.broker("one", (source,))
    late = [but(h.message(), queue=LINED.queue, key="a", expires=After(h.tick)) for _ in range(3)]
    last = but(h.message(), queue=LINED.queue, key="a")
    await broker.publish([*late, last])

    await h.advance(h.tick + 1)

    assert ids(await h.take(source=source)) == [last.id]
    await (await h.store()).sweep(1_000)
    assert [await h.state(one.id) for one in late] == [State.EXPIRED] * 3


# -- how many begin in a time


async def a_queue_begins_no_more_in_a_time_than_it_may(h: Harness) -> None:
    rate = rate_limit("60/min", "rate", 3)
    source = _with(rate=rate)
    await _sent(h, source, *[None] * 6)

    assert len(await h.take(source=source)) == 3, "the burst"
    await h.nothing(source)
    await h.advance(SECOND)
    assert len(await h.take(worker="two", source=source)) == 1
    await h.advance(2 * SECOND)
    assert len(await h.take(source=source)) == 2


async def a_key_begins_no_more_in_a_time_than_it_may(h: Harness) -> None:
    source = _with(rate_per_key=rate_limit("60/min", "rate", 2))
    await _sent(h, source, "a", "a", "a", "a", "b", None)

    taken = await h.take(source=source)

    assert [one.message.key for one in taken] == ["a", "a", "b", None]
    await _done(h, *taken)
    await h.nothing(source)
    await h.advance(SECOND)
    assert await _keys(h, source) == ["a"]
    await h.advance(10 * SECOND)
    assert await _keys(h, source) == ["a"]


async def a_try_that_is_repeated_begins_anew(h: Harness) -> None:
    source = _with(rate_per_key=rate_limit("60/min", "rate", 1))
    await _sent(h, source, "a")
    (one,) = await h.take(source=source)

    await h.settle(one, v.Retry(After(0), FAILURE))

    await h.nothing(source)
    await h.advance(SECOND)
    assert len(await h.take(source=source)) == 1


async def a_receive_waits_until_there_is_a_token(h: Harness) -> None:
    for rule in (
        {"rate": rate_limit("60/min", "rate", 1)},
        {"rate_per_key": rate_limit("60/min", "rate", 1)},
    ):
        source = but(_with(**rule), queue=f"work-{next(iter(rule))}")
        broker = await h.broker("one", (source,))
        await broker.publish([but(h.message(), queue=source.queue, key="a") for _ in range(2)])
        assert len(await broker.receive([Ask(source, new_token(), 5)], wait=0)) == 1
        before = h.now()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.receive([Ask(source, new_token(), 5)], wait=h.tick * 60))
            await h.asleep()
            await h.advance(SECOND)

        assert len(task.result()) == 1, f"by {rule}"
        assert h.now() - before < 2 * SECOND


async def handlers_share_a_bucket_by_its_name(h: Harness) -> None:
    store, rate = await h.store(), rate_limit("60/min", "rate", 2)

    first = [await store.spend("stripe", rate, patience=0) for _ in range(3)]

    assert [(one.wait, one.taken) for one in first] == [(0, True), (0, True), (SECOND, False)]
    other = await store.spend("other", rate, patience=0)
    assert other.taken
    kept = [await (await h.store("two")).spend("stripe", rate, patience=3 * SECOND) for _ in range(4)]
    assert [one.wait // SECOND for one in kept] == [1, 2, 3, 4], "each has a token of its own, and its moment"
    assert [one.taken for one in kept] == [True, True, True, False]
    await h.advance(h.tick)
    await store.sweep(1_000)
    assert (await store.spend("stripe", rate, patience=0)).taken


# -- order and turns


async def an_ordered_key_runs_one_at_a_time_and_in_order(h: Harness) -> None:
    source = _with(ordered=True)
    sent = await _sent(h, source, "a", "b", "a", "a", "b")

    order = []
    while taken := await h.take(source=source):
        assert len({one.message.key for one in taken}) == len(taken)
        order += ids(taken)
        await _done(h, *taken)

    assert [key for key in order if key in (sent[0], sent[2], sent[3])] == [sent[0], sent[2], sent[3]]
    assert len(order) == len(sent)


async def what_is_tried_again_keeps_its_place(h: Harness) -> None:
    source = _with(ordered=True)
    for again in (v.Retry(After(h.tick), FAILURE), v.Snooze(After(h.tick)), v.Release()):
        first, second = await _sent(h, source, "a", "a")
        (other,) = await _sent(h, source, "b")
        (one, free) = await h.take(source=source)
        assert ids([one, free]) == [first, other]

        await h.settle(one, again)

        assert await h.state(second) is State.BLOCKED, again
        await h.advance(h.tick)
        (one,) = await h.take(source=source)
        assert one.id == first, again
        await _done(h, one, free)
        (one,) = await h.take(source=source)
        assert one.id == second
        await _done(h, one)


async def one_that_is_dead_gives_way_and_has_its_old_place_when_it_comes_back(h: Harness) -> None:
    source = _with(ordered=True)
    sent = await _sent(h, source, *["a"] * 3)
    (one,) = await h.take(source=source)
    await h.settle(one, v.Dead(v.Reason.ASKED))
    (two,) = await h.take(source=source)
    assert two.id == sent[1]

    assert await h.steer(q.Redrive(), one.id) == 1

    await h.nothing(source)
    await _done(h, two)
    (one,) = await h.take(source=source)
    assert one.id == sent[0]
    await h.nothing(source)
    await _done(h, one)
    assert ids(await h.take(source=source)) == [sent[2]]


async def what_is_delayed_stands_in_line_from_when_it_is_due(h: Harness) -> None:
    source = _with(ordered=True)
    broker = await h.broker("one", (source,))
    later, now, last = (but(h.message(), queue=LINED.queue, key="a") for _ in range(3))
    await broker.publish([but(later, due=After(h.tick)), now, last])

    (one,) = await h.take(source=source)
    await h.advance(h.tick)
    await h.nothing(source)
    await _done(h, one)

    assert ids([one]) == [now.id]
    assert ids(await h.take(source=source)) == [later.id], "it was sent before the last"


async def a_higher_priority_goes_first_in_its_line(h: Harness) -> None:
    source = _with(per_key=1)
    broker = await h.broker("one", (source,))
    low, middle, high = (but(h.message(), queue=LINED.queue, key="a", priority=n) for n in (0, 4, 9))
    await broker.publish([low])
    await broker.publish([middle])
    await broker.publish([high])

    order = []
    while taken := await h.take(source=source):
        order += ids(taken)
        await _done(h, *taken)

    assert order == [high.id, middle.id, low.id]


async def keys_take_turns_whatever_their_backlog(h: Harness) -> None:
    source = _with(fair=True)
    await _sent(h, source, *["a"] * 50)
    await _sent(h, source, *["b"] * 5, *["c"] * 5)

    order = [key for _ in range(6) for key in await _keys(h, source, 5)]

    assert {key: order[:15].count(key) for key in "abc"} == {"a": 5, "b": 5, "c": 5}
    assert order[15:] == ["a"] * 15, "who is alone has all turns"


async def who_comes_later_has_his_turn_at_once(h: Harness) -> None:
    source = _with(fair=True)
    await _sent(h, source, *["a"] * 300)
    assert await _keys(h, source, 90) == ["a"] * 90

    await _sent(h, source, *["b"] * 90)

    order = await _keys(h, source, 20)
    assert 9 <= order.count("b") <= 11, "and no more than that"


async def a_key_has_as_many_turns_as_it_weighs(h: Harness) -> None:
    source = _with(fair=True, weights={"a": 3})
    await _sent(h, source, *["b"] * 40, *["a"] * 40)

    order = [key for _ in range(10) for key in await _keys(h, source, 4)]

    assert 28 <= order.count("a") <= 32


async def one_that_comes_alone_does_not_starve_a_crowd(h: Harness) -> None:
    source = _with(fair=True)
    await _sent(h, source, *["a"] * 20)
    served: list[str | None] = []

    for _ in range(20):
        await _sent(h, source, "b")
        served += await _keys(h, source, 1)

    assert served.count("a") >= 9


# -- crowds, changes, crashes


async def a_line_may_be_long(h: Harness) -> None:
    source = _with(per_key=1)
    broker = await h.broker("one", (source,))
    for start in range(0, MANY, 1_000):
        batch = [
            Message(id=MessageId(f"h{start + n}"), name="job", queue=LINED.queue, key="hot")
            for n in range(1_000)
        ]
        assert {one.status for one in await broker.publish(batch)} == {Stored.STORED}
    (cold,) = await _sent(h, source, "cold")

    taken = await h.take(source=source)

    assert ids(taken) == ["h0", cold]
    assert (await h.states(LINED.queue))[State.BLOCKED] == MANY - 1
    for n in range(1, 4):
        await _done(h, *taken)
        taken = await h.take(source=source)
        assert ids(taken) == [f"h{n}"]
    while (await (await h.store()).steer(q.Selector(limit=4_000), q.CancelNow())).changed:
        pass
    await _done(h, *taken)
    await h.nothing(source)


async def a_rule_holds_for_what_waits_and_runs_already(h: Harness) -> None:
    await _sent(h, LINED, *["a"] * 3, *["b"] * 3)
    running = await h.take(2, source=LINED)
    source = _with(per_key=1, concurrency=4)

    taken = await _all(h, source)

    assert [one.message.key for one in taken] == ["b"], "two of key a run already"
    await _done(h, *running)
    assert [one.message.key for one in await _all(h, source)] == ["a"]


async def a_rule_that_is_gone_holds_nobody(h: Harness) -> None:
    source = _with(per_key=1)
    sent = await _sent(h, source, *["a"] * 1_200)
    assert len(await h.take(source=source)) == 1

    taken = await _all(h, LINED, limit=2_000)

    assert sorted(ids(taken)) == sorted(sent[1:])
    await _sent(h, LINED, "a", "a")
    assert len(await h.take(source=LINED)) == 2


async def a_rule_is_changed_for_all_workers(h: Harness) -> None:
    await _sent(h, _with(concurrency=1), *[None] * 5)
    one, two = await h.store("one", (_with(concurrency=1),)), await h.store("two")
    assert len(await h.take(source=_with(concurrency=1))) == 1
    assert not await two.receive([Ask(LINED, new_token(), 5)], wait=0)

    await one.declare([_with(concurrency=3)])

    assert len(await _received(two)) == 2


async def _received(store: Store) -> Sequence[Delivery]:
    """What a worker is handed that has been told of no rules itself."""
    for _ in range(5):
        if taken := await store.receive([Ask(LINED, new_token(), 5)], wait=0):
            return taken
    return ()


async def _all(h: Harness, source: Source, limit: int = 100) -> list[Delivery]:
    """What can be taken, once what waits has been looked through for a rule that has changed."""
    taken: list[Delivery] = []
    idle = 0
    while idle < 3:
        got = await h.take(limit, source=source)
        taken += got
        idle = 0 if got else idle + 1
    return taken


async def rules_and_what_they_count_are_there_when_it_is_opened_again(h: Harness) -> None:
    source = but(
        LINED, rules=Rules(Rule(concurrency=2, per_key=1, rate_per_key=rate_limit("1/h", "rate", 1)))
    )
    sent = await _sent(h, source, "a", "a", "b", "c")
    assert ids(await h.take(source=source)) == [sent[0], sent[2]]

    await h.reopen()

    await h.nothing(source)
    await h.lose()
    assert ids(await h.take(source=source)) == [sent[3]], "a and b have had what an hour brings them"


async def in_any_window_no_more_begin_than_burst_and_rate(h: Harness) -> None:
    rate = rate_limit("120/min", "rate", 4)
    source = but(LINED, rules=Rules(Rule(rate=rate, rate_per_key=rate_limit("60/min", "rate", 2))))
    await _sent(h, source, *["a", "b"] * 40)
    began: dict[str | None, list[int]] = {None: [], "a": [], "b": []}

    for step in range(40):
        await h.advance((step * 7 % 5) * SECOND // 7)
        for one in await h.take(step % 6 + 1, source=source):
            began[None].append(one.received)
            began[one.message.key].append(one.received)
            await h.settle(one, v.Release() if step % 3 == 0 else v.Done())

    for key, times in began.items():
        each, burst = (SECOND // 2, 4) if key is None else (SECOND, 2)
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                allowed = burst + (times[last] - start) // each
                assert last - first + 1 <= allowed, f"{key}: {last - first + 1} in {times[last] - start} us"
    assert len(began[None]) > 20
    assert all(a <= b for a, b in pairwise(began[None]))


# -- what is said of it


async def why_a_message_waits_is_told(h: Harness) -> None:
    rate = rate_limit("60/min", "rate", 1)
    source = but(LINED, rules=Rules(Rule(per_key=1, rate_per_key=rate), {"slow": 1}))
    first, *rest = await _sent(h, source, "a", "a", "a")
    slow = await _sent(h, source, None, None, name="slow")
    assert len(await h.take(source=source)) == 2

    async def waits(key: EntryId) -> Waits | None:
        return (await h.record(key)).waits

    assert await waits(first) is None
    assert [await waits(key) for key in rest] == [ForRoom(of="key 'a'", most=1), ForLine(key="a", ahead=1)]
    assert await waits(slow[1]) == ForRoom(of="task 'slow'", most=1)
    await (await h.store()).steer(q.Selector(ids=(first,)), q.HandBack("one"))
    await h.steer(q.CancelNow(), first)
    soon = h.now() + SECOND
    assert await waits(rest[0]) == ForTokens(of="key 'a'", rate="60/min", until=soon)


async def why_a_queue_holds_back_is_told(h: Harness) -> None:
    source = _with(concurrency=1, rate=rate_limit("1/min", "rate", 2))
    first, second = await _sent(h, source, None, None)
    (one,) = await h.take(source=source)

    assert (await h.record(second)).waits == ForRoom(of="queue 'lined'", most=1)
    await _done(h, one)
    assert (await h.record(second)).waits is None
    (two,) = await h.take(source=source)
    await h.settle(two, v.Release())
    assert (await h.record(second)).waits == ForTokens(
        of="queue 'lined'", rate="1/min", until=one.received + 60 * SECOND
    )
    assert first == one.id


async def what_is_said_while_it_runs_goes_before_the_code(h: Harness) -> None:
    source = _with(concurrency=2, per_key=1)
    await _sent(h, source, "a", "a", "b", "c", "d")
    store = await h.store("one", (source,))

    async def rules() -> Rules:
        return next(one.rules for one in (await store.count()).queues if one.queue == LINED.queue)

    async def said(body: bytes | None, version: int) -> int:
        (answer,) = await store.note(
            [Revision(Note(kind=RULE, name=LINED.queue, body=body, version=version))]
        )
        assert answer.taken
        return answer.note.version

    assert await rules() == source.rules
    version = await said(b'{"said":{"concurrency":3,"per_key":null}}', 0)
    assert await rules() == Rules(Rule(concurrency=3))
    assert [one.message.key for one in await _all(h, source)] == ["a", "a", "b"], (
        "declared again, it holds still"
    )
    await said(None, version)
    assert await rules() == source.rules
    with refused(InvalidOption, "a note that no rule could be made of"):
        await store.note([Revision(Note(kind=RULE, name=LINED.queue, body=b'{"said":{"speed":3}}'))])


async def one_that_replaces_another_has_its_place_in_line(h: Harness) -> None:
    source = _with(per_key=1)
    broker = await h.broker("one", (source,))
    hold = Hold(states=WAITING, conflict=Conflict.REPLACE)
    first, last = (
        but(h.message(body=b"%d" % n), queue=LINED.queue, key="a", unique="u", hold=hold) for n in range(2)
    )
    await _sent(h, source, "a")
    await broker.publish([first])
    await _sent(h, source, "a")

    (answer,) = await broker.publish([last])

    assert answer.status is Stored.DUPLICATE
    assert ids([answer]) == [first.id]
    bodies = []
    while taken := await h.take(source=source):
        bodies += [one.message.body for one in taken]
        await _done(h, *taken)
    assert bodies == [b"{}", b"1", b"{}"]


async def what_has_gathered_is_handed_out_together_when_its_first_has_its_turn(h: Harness) -> None:
    source = _with(per_key=1, rate_per_key=rate_limit("1/s", "rate", 2))
    broker = await h.broker("one", (source,))
    hold = Gather(longest=3 * h.tick, most=10, quiet=h.tick).of("", b"", None).hold
    (other,) = await _sent(h, source, "a")
    group = [
        but(h.message(), queue=LINED.queue, key="a", unique="u", hold=hold, due=After(h.tick))
        for _ in range(3)
    ]
    await broker.publish(group)
    (first,) = await h.take(source=source)
    await h.advance(min(h.tick, h.lease - 1))
    await h.nothing(source)
    assert first.id == other
    await h.advance(h.tick)
    await h.lose()
    assert await h.steer(q.CancelNow(), other) == 1

    taken = await h.take(1, source=source)

    assert ids(taken) == [one.id for one in group], "one turn, and one token"
    await h.nothing(source)


async def steps_of_flows_stand_in_line_once_they_are_released(h: Harness) -> None:
    source = _with(per_key=1)
    broker = await h.broker("one", (source,))
    first, second, child = (
        but(h.message(), queue=LINED.queue, key="a", step=Step(flow="f", name=f"s{n}")) for n in range(3)
    )
    child = but(child, step=Step(flow="f", name="s2", after=(first.id,)))
    (other,) = await _sent(h, source, "a")
    await broker.publish([first, second, child])

    order = []
    while taken := await h.take(source=source):
        assert len(taken) == 1
        order += ids(taken)
        await _done(h, *taken)

    assert order == [other, first.id, second.id, child.id]


# -- engines without


async def asking_for_rules_is_refused(h: Harness) -> None:
    for source in (_with(per_key=1), _capped(job=1)):
        with refused(Unsupported, "rules of a queue"):
            await (await h.broker()).declare([source])


def _keeps(traits: Traits) -> bool:
    return traits.lines and traits.virtual_clock


def _keeps_none(traits: Traits) -> bool:
    return not traits.lines


CLAIMS: Final = (
    *claims(
        "lines",
        _keeps,
        a_queue_runs_no_more_at_once_than_it_may,
        a_key_runs_no_more_at_once_than_it_may_and_the_others_do_not_wait,
        a_task_runs_no_more_at_once_than_it_may,
        a_task_in_two_queues_runs_no_more_at_once_than_it_may,
        a_name_and_a_key_both_hold,
        a_lease_that_is_lost_makes_room_when_it_is_lost,
        what_a_dead_worker_had_makes_room_at_once,
        every_way_to_an_end_makes_room,
        what_nobody_waits_for_any_more_makes_room,
        who_waits_in_front_may_go_and_the_next_comes_up,
        what_expires_in_line_is_over_and_the_next_comes_up,
        a_queue_begins_no_more_in_a_time_than_it_may,
        a_key_begins_no_more_in_a_time_than_it_may,
        a_try_that_is_repeated_begins_anew,
        a_receive_waits_until_there_is_a_token,
        handlers_share_a_bucket_by_its_name,
        an_ordered_key_runs_one_at_a_time_and_in_order,
        what_is_tried_again_keeps_its_place,
        one_that_is_dead_gives_way_and_has_its_old_place_when_it_comes_back,
        what_is_delayed_stands_in_line_from_when_it_is_due,
        a_higher_priority_goes_first_in_its_line,
        keys_take_turns_whatever_their_backlog,
        who_comes_later_has_his_turn_at_once,
        a_key_has_as_many_turns_as_it_weighs,
        one_that_comes_alone_does_not_starve_a_crowd,
        a_line_may_be_long,
        a_rule_holds_for_what_waits_and_runs_already,
        a_rule_that_is_gone_holds_nobody,
        a_rule_is_changed_for_all_workers,
        in_any_window_no_more_begin_than_burst_and_rate,
        why_a_message_waits_is_told,
        why_a_queue_holds_back_is_told,
        what_is_said_while_it_runs_goes_before_the_code,
    ),
    *claims(
        "lines",
        lambda t: _keeps(t) and t.scopes,
        one_that_replaces_another_has_its_place_in_line,
        what_has_gathered_is_handed_out_together_when_its_first_has_its_turn,
    ),
    *claims("lines", lambda t: _keeps(t) and t.flows, steps_of_flows_stand_in_line_once_they_are_released),
    *claims(
        "lines",
        lambda t: _keeps(t) and survives(t),
        rules_and_what_they_count_are_there_when_it_is_opened_again,
    ),
    *claims("lines", _keeps_none, asking_for_rules_is_refused),
)
