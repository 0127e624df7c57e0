"""Claims about looking: what each minute did, which workers are there, what is selected and how it is grouped."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.engine import Settlement, Source
from forebay.errors import InvalidOption
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.survey import MINUTE, RATES_KEPT, Audit, Groups, Presence, Rate, Rates, Survey, Workers
from forebay.model.when import SECOND, After
from forebay.testing.conformance.harness import FAILURE, but, claims, ids, refused, remembers

if TYPE_CHECKING:
    from forebay.testing.conformance.harness import Claim, Harness

ALL: Final = q.Selector()
HERE: Final = Presence(host="here", pid=7, version="1.0", queues=("work",), slots=10, running=2)


def figures(rate: Rate) -> tuple[int, int, int, int]:
    """Of one minute, without its run time."""
    return rate.arrived, rate.succeeded, rate.failed, rate.dead


async def rates(h: Harness, about: Rates = Rates()) -> dict[tuple[str, str], tuple[int, int, int, int]]:  # noqa: B008  # frozen value
    """The figures of all minutes together, by queue and name."""
    found: dict[tuple[str, str], tuple[int, int, int, int]] = {}
    for rate in await (await h.store()).survey(about):
        a, b, c, d = found.get((rate.queue, rate.name), (0, 0, 0, 0))
        found[rate.queue, rate.name] = (a + rate.arrived, b + rate.succeeded, c + rate.failed, d + rate.dead)
    return found


async def rates_count_what_arrives_and_how_tries_end(h: Harness) -> None:
    red, blue = [h.message("red") for _ in range(4)], h.message("blue")
    await h.publish(*red, blue)
    await h.publish(*red, h.message("red"))  # four repeats
    ends: list[v.Verdict] = [
        v.Done(),
        v.Retry(After(0), FAILURE),
        v.Dead(v.Reason.ASKED, FAILURE),
        v.Release(),
        v.Snooze(After(0)),
    ]
    for delivery, end in zip(await h.take(5), ends, strict=True):
        await h.settle(delivery, end, h.message("green"))

    assert await rates(h) == {
        ("work", "red"): (5, 1, 1, 1),
        ("work", "blue"): (1, 0, 0, 0),
        ("work", "green"): (1, 0, 0, 0),
    }


async def a_stale_or_repeated_settle_is_not_counted(h: Harness) -> None:
    await h.publish(h.message())
    lost = await h.take_one()
    await h.lose()
    await h.settle(lost, v.Done())
    held = await h.take_one()
    broker = await h.broker()
    await broker.settle([Settlement(held, v.Done())] * 2)
    await broker.settle([Settlement(held, v.Done())])

    assert await rates(h) == {("work", "job"): (1, 1, 1, 0)}, "a lost lease is a try that failed"


async def an_event_arrives_once_in_each_queue(h: Harness) -> None:
    sources = (Source.subscription("orders.*", "a"), Source.subscription("orders.*", "b"))
    await h.broker(sources=sources)
    await h.publish(h.event("orders.new"))

    assert await rates(h) == {(source.queue, "orders.new"): (1, 0, 0, 0) for source in sources}


async def rates_are_told_by_minute_the_newest_first(h: Harness) -> None:
    began = h.now()
    for _ in range(3):
        await h.publish(h.message())
        (delivery,) = await h.take()
        await h.advance(2 * SECOND)
        await h.settle(delivery, v.Done())
        await h.advance(MINUTE)
    await h.publish(h.message("other"))
    store = await h.store()

    told = await store.survey(Rates(name="job"))
    assert [figures(rate) for rate in told] == [(1, 1, 0, 0)] * 3
    assert [rate.ran for rate in told] == [2 * SECOND] * 3
    assert [rate.minute for rate in told] == sorted((rate.minute for rate in told), reverse=True)
    assert all(rate.minute % MINUTE == 0 for rate in told)
    assert await store.survey(Rates(name="job", limit=1)) == told[:1]
    assert await store.survey(Rates(name="job", since=told[1].minute)) == told[:2]
    assert await store.survey(Rates(name="job", until=told[1].minute)) == told[2:]
    assert await store.survey(Rates(queue="nowhere")) == ()
    assert await store.survey(Rates(until=began - MINUTE)) == ()


async def rates_are_kept_for_a_day(h: Harness) -> None:
    await h.publish(h.message())
    await h.advance(RATES_KEPT - MINUTE)
    store = await h.store()
    await store.sweep(100)
    assert len(await store.survey(Rates())) == 1

    await h.advance(2 * MINUTE)
    await store.sweep(100)

    assert await store.survey(Rates()) == ()


async def who_says_that_it_is_there_is_seen_until_it_is_silent_for_a_lease(h: Harness) -> None:
    one, two = await h.store("one"), await h.store("two")
    began = h.now()
    await one.attend(HERE)
    await two.attend(but(HERE, running=0))
    await h.advance(h.lease // 2)
    later = h.now()
    await one.attend(but(HERE, running=3))

    first, second = await two.survey(Workers())
    assert (first.worker, first.running, second.worker, second.running) == ("one", 3, "two", 0)
    assert (first.host, first.pid, first.version, first.queues, first.slots) == (
        "here",
        7,
        "1.0",
        ("work",),
        10,
    )
    assert began <= first.started < later <= first.seen
    assert began <= second.started == second.seen < later

    await h.advance(h.lease // 2 + 1)
    assert [there.worker for there in await one.survey(Workers())] == ["one"]
    await h.advance(h.lease)
    await two.sweep(100)
    assert await one.survey(Workers()) == ()


async def who_leaves_or_is_dead_is_not_seen_any_more(h: Harness) -> None:
    stores = [await h.store(name) for name in ("one", "two", "three")]
    for store in stores:
        await store.attend(HERE)

    await stores[0].attend(None)
    await stores[2].steer(q.Selector(), q.HandBack("two"))

    assert [there.worker for there in await stores[0].survey(Workers())] == ["three"]


async def who_told_the_store_what_is_kept(h: Harness) -> None:
    store = await h.store()
    ana, began = q.Actor(name="ana", via="cli", why="too many"), h.now()
    await h.publish(*h.messages(4))
    first = await h.take_one()
    gone = q.Selector(ids=(EntryId("m00002"), EntryId("nobody")))
    done = [
        await store.steer(gone, q.CancelNow(), by=ana),
        await store.steer(q.Selector(queue="work"), q.Pause(), by=q.Actor(name="bob")),
        await store.steer(q.Selector(), q.CancelNow()),
        await store.steer(q.Selector(), q.HandBack("one")),
    ]
    assert [(one.changed, one.asked) for one in done] == [(1, 0), (1, 0), (2, 1), (1, 0)]
    assert (await store.steer(q.Selector(), q.CancelNow(), by=ana)).touched == 0
    assert (await h.state(first.id)) is State.CANCELLED

    told = await store.survey(Audit())
    assert [one.done for one in told] == done[::-1], "what had no effect is not noted"
    assert [one.command for one in told[:2]] == [q.HandBack("one"), q.CancelNow()]
    assert [one.by.name for one in told] == ["unknown", "unknown", "bob", "ana"]
    assert (told[3].by, told[3].which, told[3].command) == (ana, gone, q.CancelNow())
    assert all(began <= one.at <= h.now() for one in told)
    assert await store.survey(Audit(limit=2)) == told[:2]
    assert await store.survey(Audit(before=told[1].number)) == told[2:]


async def a_command_on_many_is_one_line_in_the_audit(h: Harness) -> None:
    await h.publish(*h.messages(2_300))
    store = await h.store()
    many = tuple(EntryId(f"m{n:05}") for n in range(1, 2_201))

    named = await store.steer(q.Selector(ids=many), q.CancelNow())
    rest = await store.steer(q.Selector(name="job"), q.Delete())

    deleted, cancelled = await store.survey(Audit())
    assert (named.changed, rest.changed) == (2_200, 2_300)
    assert (cancelled.done, deleted.done) == (named, rest)
    assert cancelled.which.ids == many[:100]


async def an_actor_has_few_words(h: Harness) -> None:
    assert h.traits.remembers
    with refused(InvalidOption, "a very long reason"):
        q.Actor(why="x" * 201)


async def no_survey_is_longer_than_asked(h: Harness) -> None:
    await h.publish(*(h.message(f"job{n}") for n in range(5)))
    store = await h.store()
    for name in ("one", "two"):
        await (await h.store(name)).attend(HERE)

    assert len(await store.survey(Rates(limit=3))) == 3
    assert len(await store.survey(Workers(limit=1))) == 1


async def what_no_store_knows_is_refused(h: Harness) -> None:
    with refused(InvalidOption, "a question that no store knows"):
        await (await h.store()).survey(Survey[int]())


async def messages_are_selected_by_what_they_are_and_what_became_of_them(h: Harness) -> None:
    store = await h.store()
    dead, retried, done, keyed = (h.message(name) for name in ("red", "red", "blue", "blue"))
    keyed = but(keyed, key="k")
    boom = v.Failure("Boom", "it went boom")
    began = h.now()
    await h.publish(dead, retried, done)
    await h.advance(h.tick)
    later = h.now()
    await h.publish(keyed)
    first, second, third = await h.take(3)
    await h.settle(first, v.Dead(v.Reason.ASKED, boom))
    await h.settle(second, v.Retry(After(0), but(FAILURE, message="no 7", fingerprint="")))
    await h.settle(third, v.Done())
    await h.take(1, worker="two")

    async def chosen(**asked: Any) -> list[str]:
        page = await store.find(q.Query(which=q.Selector(**asked), oldest_first=True))
        return ids(page.records)

    like_it = but(FAILURE, message="no 8", fingerprint="").fingerprint
    for asked, expected in (
        ({"error": "Boom"}, [dead]),
        ({"error": "Boom", "name": "blue"}, []),
        ({"fingerprint": boom.fingerprint}, [dead]),
        ({"fingerprint": like_it}, [retried]),
        ({"key": "k"}, [keyed]),
        ({"key": "other"}, []),
        ({"created_since": later}, [keyed]),
        ({"created_since": began, "created_before": later, "name": "red"}, [dead, retried]),
        ({"finished_since": later}, [dead, done]),
        ({"finished_before": later}, []),
        ({"worker": "one"}, []),
        ({"states": frozenset({State.DEAD, State.SUCCEEDED})}, [dead, done]),
    ):
        assert await chosen(**asked) == [message.id for message in expected], asked
    (held,) = await chosen(worker="two")
    assert held in {retried.id, keyed.id}
    assert await chosen(worker="two", states=frozenset({State.DEAD})) == []


async def an_error_is_forgotten_when_its_message_is_redriven(h: Harness) -> None:
    await h.publish(h.message())
    await h.bury()
    failed = q.Selector(error=FAILURE.type, fingerprint=FAILURE.fingerprint)
    store = await h.store()
    assert len((await store.find(q.Query(which=failed))).records) == 1

    assert (await store.steer(failed, q.Redrive())).changed == 1

    assert (await store.find(q.Query(which=failed))).records == ()


async def what_is_selected_may_be_pages_long(h: Harness) -> None:
    messages = [h.message(("red", "blue")[n % 2]) for n in range(230)]
    await h.publish(*messages)
    store = await h.store()
    for name in ("red", "blue"):
        found, query = list[str](), q.Query(which=q.Selector(name=name), size=50, oldest_first=True)
        while True:
            page = await store.find(query)
            found += ids(page.records)
            if page.next is None:
                break
            assert len(page.records) == 50, "only the last page is shorter"
            query = but(query, cursor=page.next)
        assert found == [message.id for message in messages if message.name == name]


async def groups_are_counted_by_every_word(h: Harness) -> None:
    store = await h.store()
    boom = v.Failure("Boom", "it went boom")
    await h.publish(*(h.message(name) for name in ("red", "red", "red", "blue")))
    first, second, third = await h.take(3)
    await h.settle(first, v.Dead(v.Reason.ASKED, boom))
    await h.settle(second, v.Dead(v.Reason.ASKED, boom))
    ended = h.now()
    assert third.message.name == "red"

    async def counted(by: q.By, which: q.Selector = ALL) -> dict[str | int, int]:
        return {group.value: group.number for group in await store.survey(Groups(by=by, which=which))}

    assert await counted(q.By.QUEUE) == {"work": 4}
    assert await counted(q.By.NAME) == {"red": 3, "blue": 1}
    assert await counted(q.By.STATE) == {"dead": 2, "running": 1, "ready": 1}
    assert await counted(q.By.STATE, q.Selector(queue="work")) == {"dead": 2, "running": 1, "ready": 1}
    assert await counted(q.By.STATE, q.Selector(queue="nowhere")) == {}
    assert await counted(q.By.STATE, q.Selector(name="red")) == {"dead": 2, "running": 1}
    assert await counted(q.By.WORKER) == {"one": 1}
    assert await counted(q.By.ERROR) == {"Boom": 2}
    assert await counted(q.By.FINGERPRINT, q.Selector(states=frozenset({State.DEAD}))) == {
        boom.fingerprint: 2
    }
    assert sum((await counted(q.By.MINUTE)).values()) == 2
    assert all(ended - 2 * MINUTE < int(minute) <= ended for minute in await counted(q.By.MINUTE))


async def the_largest_groups_come_first_and_no_more_than_asked(h: Harness) -> None:
    await h.publish(*(h.message(name) for name in ("c", "a", "a", "b", "b", "b", "d")))
    store = await h.store()

    told = await store.survey(Groups(by=q.By.NAME))

    assert [(group.value, group.number) for group in told] == [("b", 3), ("a", 2), ("c", 1), ("d", 1)]
    assert await store.survey(Groups(by=q.By.NAME, limit=2)) == told[:2]
    assert Groups(by=q.By.NAME, limit=1 << 30).most == q.LONGEST_PAGE


async def rates_and_workers_of_one_place_are_not_anothers(h: Harness) -> None:
    other = h.elsewhere()
    try:
        await h.publish(h.message())
        await (await h.store()).attend(HERE)
        store = await other.store()
        assert (await store.survey(Rates()), await store.survey(Workers())) == ((), ())
    finally:
        await other.close()


CLAIMS: Final[tuple[Claim, ...]] = (
    *claims(
        "sight",
        remembers,
        rates_count_what_arrives_and_how_tries_end,
        a_stale_or_repeated_settle_is_not_counted,
        an_event_arrives_once_in_each_queue,
        who_says_that_it_is_there_is_seen_until_it_is_silent_for_a_lease,
        who_leaves_or_is_dead_is_not_seen_any_more,
        who_told_the_store_what_is_kept,
        a_command_on_many_is_one_line_in_the_audit,
        an_actor_has_few_words,
        no_survey_is_longer_than_asked,
        messages_are_selected_by_what_they_are_and_what_became_of_them,
        an_error_is_forgotten_when_its_message_is_redriven,
        what_is_selected_may_be_pages_long,
        groups_are_counted_by_every_word,
        the_largest_groups_come_first_and_no_more_than_asked,
        what_no_store_knows_is_refused,
        rates_and_workers_of_one_place_are_not_anothers,
    ),
    *claims(
        "sight",
        lambda t: t.remembers and t.virtual_clock,
        rates_are_told_by_minute_the_newest_first,
        rates_are_kept_for_a_day,
    ),
)
