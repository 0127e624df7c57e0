"""Claims about steering and looking: pause, cancel, delete, retention, pages, counts, signals."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import Final

from msgspec.structs import replace

from forebay.engine import Ask, Delivery, Finished, Notice, Ready, Retention, Settled, Source, Stored
from forebay.errors import InvalidOption
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.when import SECOND, After
from forebay.support.ids import new_token
from forebay.testing.clock import Probe, eventually
from forebay.testing.conformance.harness import FAILURE, WORK, Harness, but, claims, refused, remembers

QUEUE: Final = q.Selector(queue=WORK.queue)


# -- pause and resume


async def a_paused_queue_hands_out_nothing_and_lets_go_on_what_runs(h: Harness) -> None:
    await h.publish(*h.messages(2))
    running, store = await h.take_one(), await h.store()

    assert (await store.steer(QUEUE, q.Pause())).touched == 1
    assert (await store.steer(QUEUE, q.Pause())).touched == 0

    await h.nothing()
    assert await h.settle(running, v.Done()) is Settled.OK
    await h.publish(but(h.message(), queue="other"))
    assert len(await h.take(source=Source(queue="other"))) == 1
    assert [c.queue for c in (await store.count()).queues if c.paused] == ["work"]


async def a_resumed_queue_goes_on_and_wakes_who_waits(h: Harness) -> None:
    store = await h.store()
    await store.steer(QUEUE, q.Pause())
    await h.publish(h.message())

    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.receive([Ask(WORK, new_token(), 5)], wait=3_600 * SECOND))
        await h.asleep()
        assert not task.done()
        assert (await store.steer(QUEUE, q.Resume())).touched == 1
        await eventually(task.done, what="receive has returned")

    assert len(task.result()) == 1
    assert (await store.steer(QUEUE, q.Resume())).touched == 0


async def pause_takes_a_queue(h: Harness) -> None:
    store = await h.store()

    with refused(InvalidOption, "pause without a queue"):
        await store.steer(q.Selector(), q.Pause())


# -- cancel


async def what_waits_is_cancelled_at_once(h: Harness) -> None:
    message = h.message()
    await h.publish(message)

    assert await h.steer(q.CancelNow(), EntryId(message.id)) == 1
    assert await h.steer(q.CancelNow(), EntryId(message.id)) == 0

    await h.nothing()
    record = await h.record(message.id)
    assert record.state is State.CANCELLED
    assert record.finished is not None


async def what_runs_is_asked_to_stop(h: Harness) -> None:
    await h.publish(*h.messages(2))
    asked, other = await h.take(2)
    broker = await h.broker()

    assert await h.steer(q.CancelNow(), asked.id) == 1

    assert list(await broker.extend([asked, other])) == [Notice.CANCEL, Notice.KEPT]
    assert (await h.record(asked.id)).cancel_requested
    assert await h.settle(asked, v.Cancelled()) is Settled.OK
    assert await h.state(asked.id) is State.CANCELLED


async def what_was_asked_to_stop_may_still_succeed(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    await h.steer(q.CancelNow(), delivery.id)

    assert await h.settle(delivery, v.Done(b"1")) is Settled.OK

    assert await h.state(delivery.id) is State.SUCCEEDED


async def what_was_asked_to_stop_is_not_tried_again(h: Harness) -> None:
    for verdict in (v.Retry(After(0), FAILURE), v.Snooze(After(0)), v.Release(), None):
        await h.publish(h.message())
        delivery = await h.take_one()
        await h.steer(q.CancelNow(), delivery.id)
        if verdict is None:
            await h.lose()
        else:
            assert await h.settle(delivery, verdict) is Settled.OK
        await h.nothing()
        assert await h.state(delivery.id) is State.CANCELLED, verdict


async def what_has_ended_is_not_cancelled(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    await h.settle(delivery, v.Done())

    assert await h.steer(q.CancelNow(), delivery.id) == 0
    assert await h.state(delivery.id) is State.SUCCEEDED


async def what_runs_under_a_lease_that_is_over_is_cancelled_at_once(h: Harness) -> None:
    message = but(h.message(), unique="u")
    await h.publish(message)
    delivery = await h.take_one()
    await h.advance(h.lease + 1)

    assert await (await h.store()).steer(QUEUE, q.CancelNow()) == q.Steered(changed=1)

    record = await h.record(delivery.id)
    assert (record.state, record.crashes, [one.verdict for one in record.tries]) == (
        State.CANCELLED,
        0,
        ["cancel"],
    )
    assert await h.settle(delivery, v.Done()) is Settled.STALE
    (stored,) = await (await h.broker()).publish([but(h.message(), unique="u")])
    assert stored.status is Stored.STORED, "its unique key is free"


async def a_command_tells_apart_what_it_did(h: Harness) -> None:
    await h.publish(*h.messages(5))
    running, asked, done = await h.take(3)
    await h.steer(q.CancelNow(), asked.id)
    await h.settle(done, v.Done())
    store = await h.store()

    ids = tuple(record.id for record in (await store.find(q.Query())).records)
    told = await store.steer(q.Selector(ids=(*ids, EntryId("nobody"))), q.CancelNow())

    skipped = {q.ASKED_BEFORE: 1, State.SUCCEEDED.value: 1, q.NOT_FOUND: 1}
    assert told == q.Steered(changed=2, asked=1, skipped=skipped)
    assert await store.steer(q.Selector(states=frozenset({State.RUNNING})), q.CancelNow()) == q.Steered(
        skipped={q.ASKED_BEFORE: 2}
    )
    assert await store.steer(q.Selector(ids=(running.id,)), q.Delete()) == q.Steered(skipped={"running": 1})
    assert await h.states() == {State.RUNNING: 2, State.CANCELLED: 2, State.SUCCEEDED: 1}


async def the_limit_of_a_command_on_ids_is_what_it_touches(h: Harness) -> None:
    await h.publish(*h.messages(4))
    asked = await h.take_one()
    await h.steer(q.CancelNow(), asked.id)
    store = await h.store()
    ids = tuple(record.id for record in (await store.find(q.Query())).records)

    told = await store.steer(q.Selector(ids=ids, limit=2), q.CancelNow())

    assert told == q.Steered(changed=2, skipped={q.ASKED_BEFORE: 1})
    assert await h.states() == {State.RUNNING: 1, State.CANCELLED: 2, State.READY: 1}


async def what_has_succeeded_is_not_made_ready_again(h: Harness) -> None:
    await h.publish(*h.messages(2))
    done, dead = await h.take(2)
    await h.settle(done, v.Done(b"1"))
    await h.settle(dead, v.Dead(v.Reason.ASKED))
    store = await h.store()

    assert await store.steer(QUEUE, q.Redrive()) == q.Steered(changed=1)
    assert await store.steer(q.Selector(ids=(done.id,)), q.Redrive()) == q.Steered(skipped={"succeeded": 1})

    assert (await h.record(done.id)).result == b"1"
    assert await h.states() == {State.SUCCEEDED: 1, State.READY: 1}


async def what_leaves_the_selected_states_meanwhile_is_not_touched(h: Harness) -> None:
    await h.publish(*h.messages(400))
    store = await h.store()
    ready = q.Selector(queue=WORK.queue, states=frozenset({State.READY}))
    taken: list[Delivery] = []

    async def work() -> None:
        for _ in range(20):
            taken.extend(await h.take(10))

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        steps = [group.create_task(store.steer(but(ready, limit=20), q.CancelNow())) for _ in range(10)]

    told = sum((step.result() for step in steps), q.Steered())
    assert (told.changed, told.asked) == (200, 0)
    assert await h.states() == {State.CANCELLED: 200, State.RUNNING: 200}
    assert not any([(await h.record(one.id)).cancel_requested for one in taken[::20]])


# -- delete, purge, retention


async def a_purge_removes_what_does_not_run_and_counts_it(h: Harness) -> None:
    await h.publish(*h.messages(5), but(h.message(), due=After(h.tick)), but(h.message(), queue="other"))
    running = await h.take_one()
    await h.bury()

    assert await (await h.store()).steer(QUEUE, q.Delete()) == q.Steered(changed=5)

    assert await h.states() == {State.RUNNING: 1}
    assert await h.states("other") == {State.READY: 1}
    assert await h.settle(running, v.Done()) is Settled.OK
    await h.advance(2 * h.tick)
    await h.nothing()


async def what_was_deleted_is_forgotten(h: Harness) -> None:
    message = h.message()
    await h.publish(message)

    assert await h.steer(q.Delete(), EntryId(message.id), EntryId(message.id)) == 1

    assert (await (await h.store()).find(q.Query())).records == ()
    await h.publish(message)
    assert (await h.take_one()).message == message


async def a_command_touches_no_more_than_its_limit(h: Harness) -> None:
    await h.publish(*h.messages(5))
    store = await h.store()

    assert (await store.steer(but(QUEUE, limit=2), q.CancelNow())).touched == 2
    assert (await store.steer(but(QUEUE, limit=2), q.CancelNow())).touched == 2
    assert (await store.steer(but(QUEUE, limit=10**12), q.CancelNow())).touched == 1
    assert (await store.steer(q.Selector(ids=(EntryId("nobody"),)), q.CancelNow())).touched == 0
    assert (await store.steer(q.Selector(), q.Delete())).touched == 5


async def history_is_kept_as_long_as_was_asked(h: Harness) -> None:
    await h.publish(*h.messages(3))
    done, dead, cancelled = await h.take(3)
    await h.settle(done, v.Done())
    await h.settle(dead, v.Dead(v.Reason.ASKED))
    await h.settle(cancelled, v.Cancelled())
    store = await h.store()

    await h.advance(h.tick // 2)
    assert (await store.sweep(100)).deleted == 0
    await h.advance(h.tick // 2 + 1)
    assert (await store.sweep(100)).deleted == 1
    assert await h.states() == {State.DEAD: 1, State.CANCELLED: 1}
    await h.advance(h.tick)
    assert (await store.sweep(100)).deleted == 1
    await h.advance(100 * h.tick)
    assert (await store.sweep(100)).deleted == 0
    assert await h.states() == {State.DEAD: 1}


async def history_has_a_bound_and_the_oldest_goes_first(h: Harness) -> None:
    await h.publish(*h.messages(10))
    order = await h.take(10)
    for delivery in order[:5]:
        await h.settle(delivery, v.Done())
        await h.advance(1)
    for delivery in order[5:]:
        await h.settle(delivery, v.Dead(v.Reason.ASKED))
        await h.advance(1)
    store = await h.store()

    assert (await store.sweep(100)).deleted == 5

    page = await store.find(q.Query(oldest_first=True))
    assert sorted(r.id for r in page.records) == sorted(d.id for d in (*order[2:5], *order[8:]))


# -- find, count, watch


async def pages_follow_each_other_without_gap_or_overlap(h: Harness) -> None:
    messages = h.messages(23)
    await h.publish(*messages)
    store = await h.store()
    for oldest_first in (True, False):
        seen: list[str] = []
        cursor: str | None = None
        for _ in range(4):
            page = await store.find(q.Query(cursor=cursor, size=7, oldest_first=oldest_first))
            assert len(page.records) <= 7
            seen += [record.id for record in page.records]
            cursor = page.next
            if cursor is None:
                break
            if oldest_first:
                await h.publish(h.message("newer"))
        wanted = [message.id for message in messages]
        assert [i for i in seen if i in wanted] == (wanted if oldest_first else wanted[::-1])
        await store.steer(q.Selector(name="newer"), q.Delete())


async def an_exact_page_is_the_last(h: Harness) -> None:
    await h.publish(*h.messages(4))
    store = await h.store()
    first = await store.find(q.Query(size=2))
    last = await store.find(q.Query(size=2, cursor=first.next))

    assert (len(last.records), last.next) == (2, None)


async def no_page_is_longer_than_the_longest(h: Harness) -> None:
    await h.publish(*h.messages(q.LONGEST_PAGE + 5))
    store = await h.store()

    page = await store.find(q.Query(size=10**9))

    assert len(page.records) == q.LONGEST_PAGE
    assert len((await store.find(q.Query(size=10**9, cursor=page.next))).records) == 5
    assert len((await store.find(q.Query(size=0))).records) == 1


async def a_foreign_cursor_is_refused(h: Harness) -> None:
    await h.publish(h.message())
    store = await h.store()

    for cursor in ("page two", "-1; drop table", ""):
        with refused(InvalidOption, f"the cursor {cursor!r}"):
            await store.find(q.Query(cursor=cursor))


async def records_are_found_by_every_condition(h: Harness) -> None:
    await h.publish(h.message("a"), h.message("b"), but(h.message("a"), queue="other"))
    done = await h.take_one()
    await h.settle(done, v.Done())
    finished = (await h.record(done.id)).finished
    assert finished is not None
    store = await h.store()

    async def found(which: q.Selector) -> int:
        return len((await store.find(q.Query(which=which))).records)

    assert await found(q.Selector()) == 3
    assert await found(q.Selector(name="a")) == 2
    assert await found(q.Selector(name="a", queue="work")) == 1
    assert await found(q.Selector(states=frozenset({State.READY}))) == 2
    assert await found(q.Selector(states=frozenset({State.READY, State.SUCCEEDED}), name="a")) == 2
    assert await found(q.Selector(finished_before=finished)) == 0
    assert await found(q.Selector(finished_before=finished + 1)) == 1
    assert await found(q.Selector(ids=(done.id, EntryId("nobody")))) == 1


async def a_record_tells_everything_of_its_message(h: Harness) -> None:
    message = but(
        h.message(body=b"\x00\xff"),
        headers={"a": "ä"},
        due=After(h.tick),
        expires=After(9 * h.tick),
        unique="u",
    )
    await h.publish(message)

    record = await h.record(message.id)

    assert (record.message, record.queue, record.state) == (message, "work", State.SCHEDULED)
    assert (record.due, record.expires) == (record.created + h.tick, record.created + 9 * h.tick)
    assert (record.started, record.finished, record.deadline, record.tries) == (None, None, None, ())


async def the_counts_equal_the_history(h: Harness) -> None:
    await h.publish(*h.messages(8), *[but(h.message(), due=After(h.tick)) for _ in range(3)])
    verdicts: tuple[v.Verdict, ...] = (
        v.Done(),
        v.Done(),
        v.Dead(v.Reason.ASKED),
        v.Cancelled(),
        v.Retry(After(h.tick), FAILURE),
        v.Release(),
    )
    for delivery, verdict in zip(await h.take(6), verdicts, strict=True):
        await h.settle(delivery, verdict)
    await h.take_one()
    store = await h.store()

    states = await h.states()
    page = await store.find(q.Query(size=1_000))

    assert states == {state: n for state in State if (n := sum(r.state is state for r in page.records))}
    assert states == {
        State.SUCCEEDED: 2,
        State.DEAD: 1,
        State.CANCELLED: 1,
        State.RETRYING: 1,
        State.READY: 2,
        State.RUNNING: 1,
        State.SCHEDULED: 3,
    }


async def the_counts_say_since_when_the_oldest_waits(h: Harness) -> None:
    await h.publish(h.message())
    start = h.now()
    await h.advance(h.tick)
    await h.publish(h.message())
    store = await h.store()

    counts = await store.count()

    oldest = next(c.oldest_ready for c in counts.queues if c.queue == "work")
    assert oldest is not None
    assert abs(oldest - start) < h.tick
    assert counts.now >= oldest + h.tick


async def _signalled(h: Harness, topic: Ready | Finished, probe: Probe[None]) -> None:
    async for _ in (await h.store("watcher")).watch(topic):
        probe.hit(None)


async def who_watches_is_told(h: Harness) -> None:
    ready, finished = Probe[None]("Ready signals"), Probe[None]("Finished signals")
    await h.store("watcher")

    async with asyncio.TaskGroup() as group:
        watches = [
            group.create_task(_signalled(h, Ready(WORK.queue), ready)),
            group.create_task(_signalled(h, Finished(), finished)),
        ]
        await asyncio.gather(ready.wait(), finished.wait())
        before = ready.count, finished.count
        await h.publish(h.message())
        await ready.wait(before[0] + 1)
        await h.settle(await h.take_one(), v.Done())
        await finished.wait(before[1] + 1)
        for watch in watches:
            watch.cancel()


async def who_watches_ends_is_told_whose_they_are_or_that_they_may_be_anybodys(h: Harness) -> None:
    watcher, told = await h.store("watcher"), Probe[object]("a signal")
    heard: list[frozenset[EntryId] | None] = []
    await h.publish(h.message(), h.message())
    one, other = await h.take(2)

    async def watch() -> None:
        async for ended in watcher.watch(Finished()):
            heard.append(ended)
            told.hit(ended)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await told.wait()
        assert heard == [None], "whoever begins to watch looks at all"
        for n, delivery in enumerate((one, other), 2):
            await h.settle(delivery, v.Done())
            await told.wait(n)
        watching.cancel()
    assert all(any(ended is None or d.id in ended for ended in heard[1:]) for d in (one, other))


async def a_brief_record_is_the_record_without_what_may_be_large(h: Harness) -> None:
    message = but(h.message(body=b"large"), headers={"k": "v"}, key="k")
    await h.publish(message)
    await h.settle(await h.take_one(), v.Done(b"7"))
    store = await h.store()

    (whole,) = (await store.find(q.Query())).records
    (brief,) = (await store.find(q.Query(brief=True))).records

    assert whole.tries
    assert brief == replace(whole, message=but(message, body=b"", headers={}), tries=())


CLAIMS: Final = (
    *claims(
        "control",
        remembers,
        a_paused_queue_hands_out_nothing_and_lets_go_on_what_runs,
        a_resumed_queue_goes_on_and_wakes_who_waits,
        pause_takes_a_queue,
        what_waits_is_cancelled_at_once,
        what_runs_is_asked_to_stop,
        what_was_asked_to_stop_may_still_succeed,
        what_was_asked_to_stop_is_not_tried_again,
        what_has_ended_is_not_cancelled,
        a_command_tells_apart_what_it_did,
        the_limit_of_a_command_on_ids_is_what_it_touches,
        what_has_succeeded_is_not_made_ready_again,
        what_leaves_the_selected_states_meanwhile_is_not_touched,
        what_was_deleted_is_forgotten,
        a_command_touches_no_more_than_its_limit,
        pages_follow_each_other_without_gap_or_overlap,
        an_exact_page_is_the_last,
        no_page_is_longer_than_the_longest,
        a_foreign_cursor_is_refused,
        records_are_found_by_every_condition,
        the_counts_say_since_when_the_oldest_waits,
        who_watches_is_told,
        who_watches_ends_is_told_whose_they_are_or_that_they_may_be_anybodys,
        a_brief_record_is_the_record_without_what_may_be_large,
    ),
    *claims(
        "control",
        lambda t: t.remembers and t.delay,
        a_purge_removes_what_does_not_run_and_counts_it,
        the_counts_equal_the_history,
    ),
    *claims(
        "control",
        lambda t: t.remembers and t.delay and t.expiry and t.unique,
        a_record_tells_everything_of_its_message,
    ),
    *claims(
        "control",
        lambda t: t.remembers and t.unique,
        what_runs_under_a_lease_that_is_over_is_cancelled_at_once,
    ),
    *claims(
        "control",
        lambda t: t.remembers and t.virtual_clock,
        history_is_kept_as_long_as_was_asked,
        retention=Retention(succeeded=60 * SECOND, cancelled=120 * SECOND),
    ),
    *claims(
        "control",
        remembers,
        history_has_a_bound_and_the_oldest_goes_first,
        retention=Retention(succeeded_cap=3, dead_cap=2),
    ),
)
