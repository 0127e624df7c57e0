"""Schedules over both stores: each tick is fired once, by however many, wherever they break off; and what is changed holds at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec.structs import replace

from forebay.engine import Ask, EngineOptions, Retention, Settlement, Source
from forebay.errors import EngineUnavailable, InvalidOption, OutcomeUnknown, ScheduleBusy, ScheduleNotFound
from forebay.features.schedules import book, clockwork, keeping
from forebay.features.schedules.book import Entry, read
from forebay.features.schedules.clockwork import Clockwork
from forebay.features.schedules.keeping import Declaration, declare
from forebay.model import verdict as v
from forebay.model.cron import stamp
from forebay.model.message import Message, MessageId
from forebay.model.note import Note, Revision
from forebay.model.query import Query
from forebay.model.schedule import CatchUp, How, Overlap, Schedule
from forebay.model.when import SECOND
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.support.ids import new_token
from forebay.testing.clock import START, VirtualClock
from tests.runtime.kit import Spied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from forebay.engine import Delivery, Engine, Store

WORK = Source(queue="work")
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
TASK = Message(id=MessageId(""), name="report", queue="work", body=b"{}")
BRIEF = EngineOptions(retention=Retention(succeeded="1s"))


def plan(**given: object) -> Schedule:
    return replace(Schedule(task=TASK, every=MINUTE), **given)


def by_code(app: str = "app", /, **plans: Schedule) -> Declaration:
    return Declaration(
        app=app, plans={name: ("shop", one) for name, one in plans.items()}, homes=frozenset({"shop"})
    )


async def put(store: Store, name: str, made: Schedule, now: int) -> None:
    await keeping.put(store, name, lambda _: made, "app", now)


def held(work: Clockwork) -> bool:
    """Whether ticks wait."""
    return work.holds


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return MemoryEngine(BRIEF) if request.param == "memory" else SqliteEngine(tmp_path / "s.db", BRIEF)


@asynccontextmanager
async def opened(engine: Engine, clock: VirtualClock, name: str = "one") -> AsyncIterator[Store]:
    store = cast("Store", engine.connect(name, clock))
    await store.declare([WORK])
    try:
        yield store
    finally:
        await store.close()


async def take(store: Store, limit: int = 1_000) -> list[Delivery]:
    return list(await store.receive([Ask(WORK, new_token(), limit)], wait=0))


async def work_off(store: Store) -> list[str]:
    """Handle all there is; returns which."""
    taken = await take(store)
    await store.settle([Settlement(delivery, v.Done()) for delivery in taken])
    return [delivery.id for delivery in taken]


def test_a_tick_is_fired_when_it_is_due_and_once_by_any_number(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as one, opened(engine, clock, "two") as two:
            await declare(one, by_code(tidy=plan()), clock.now())
            works = [Clockwork(one, clock), Clockwork(two, clock)]
            assert [await work.turn() for work in works] == [0, 0]
            assert {work.next() for work in works} == {START + MINUTE}
            for n in range(1, 4):
                await clock.advance(MINUTE)
                assert sum(await asyncio.gather(*(work.turn() for work in works))) == 1
                assert {work.next() for work in works} == {START + (n + 1) * MINUTE}

            assert await work_off(one) == [f"cron:tidy:2030-01-01T00:0{n}:00Z" for n in (1, 2, 3)]

    asyncio.run(story())


def test_a_tick_whose_message_is_long_forgotten_does_not_come_again(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as one, opened(engine, clock, "two") as two:
            await declare(one, by_code(tidy=plan()), clock.now())
            quick, slow = Clockwork(one, clock), Clockwork(two, clock)
            await quick.turn()
            await slow.turn()
            await clock.advance(MINUTE)
            assert await quick.turn() == 1
            assert len(await work_off(one)) == 1
            await clock.advance(30 * SECOND)
            await one.sweep(100)
            assert (await one.find(Query())).records == ()

            assert await slow.turn() == 0
            assert (await one.find(Query())).records == ()

    asyncio.run(story())


class Breaking:
    """A store that breaks off at some calls of ``note``: before it has happened, or after."""

    def __init__(self, store: Store, breaks: list[str | None]) -> None:
        self._store, self._breaks = store, iter(breaks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def note(self, batch: list[Revision], **given: Any) -> Any:
        fault = next(self._breaks, None)
        if fault == "refused":
            raise EngineUnavailable("no")
        if fault == "killed before":
            raise KeyboardInterrupt
        answers = await self._store.note(batch, **given)
        if fault == "unknown":
            raise OutcomeUnknown("who knows")
        if fault == "killed after":
            raise KeyboardInterrupt
        return answers


FAULTS = st.sampled_from([None, None, "refused", "unknown", "killed before", "killed after"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0, 1]), st.integers(0, 20 * MINUTE), st.booleans(), FAULTS, st.booleans()),
        max_size=25,
    ),
    jitter=st.sampled_from([0, 30 * SECOND]),
    data=st.data(),
)
def test_never_twice_and_never_missed_whoever_is_killed_when(
    steps: list[tuple[int, int, bool, str | None, bool]], jitter: int, data: st.DataObject
) -> None:
    every = plan(every=7 * MINUTE, catch_up=CatchUp.ALL, jitter=jitter)
    engine = MemoryEngine(BRIEF)

    async def story() -> None:
        clock, came = VirtualClock(), list[str]()
        async with opened(engine, clock) as store:
            await declare(store, by_code(tidy=every), clock.now())
            works: list[Clockwork | None] = [None, None]
            for who, ahead, restart, fault, tidies in steps:
                await clock.advance(ahead)
                work = works[who]
                if restart or work is None:
                    work = works[who] = Clockwork(store, clock)
                work.store = work.book.store = cast("Store", Breaking(store, [fault]))
                try:
                    await work.turn()
                except (EngineUnavailable, OutcomeUnknown):
                    pass
                except KeyboardInterrupt:
                    works[who] = None
                if tidies:
                    came += await work_off(store)
                    await store.sweep(1_000)
            await Clockwork(store, clock).turn()
            came += await work_off(store)
            expected = [t for t in every.next(START, 1_000) if every.moment("tidy", t) <= clock.now()]
            assert len(came) == len(set(came))
            assert came == [f"cron:tidy:{stamp(tick)}" for tick in expected]

    asyncio.run(story())


class Deaf(book.Book):
    """Hears of no change."""

    async def follow(self, now: int) -> set[str]:
        return set()


def test_what_is_changed_holds_at_once_for_who_has_read_it_before(engine: Engine) -> None:
    """A pause that has returned lets nothing through, though whoever fires has not heard of it and is at its work."""

    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as one, opened(engine, clock, "two") as two:
            acts: dict[str, Callable[[str], Coroutine[Any, Any, object]]] = {
                "paused": lambda name: keeping.pause(two, name, None),
                "skipped": lambda name: keeping.skip(two, name, clock.now()),
                "put": lambda name: put(two, name, plan(every=HOUR), clock.now()),
            }
            for name, act in acts.items():
                await put(one, name, plan(), clock.now())
                work = Clockwork(one, clock)
                await work.turn()
                work.book = Deaf(one, work.book.entries)
                await act(name)
                await clock.advance(MINUTE)
                assert await work.turn() == 0, name
                await keeping.pause(two, name, None)

    asyncio.run(story())


def test_a_removed_schedule_leaves_nothing_and_begins_anew(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await put(store, "tenant-7", plan(), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance(MINUTE)
            assert await work.turn() == 1
            await keeping.remove(store, "tenant-7")
            assert await read(store, ()) == {}
            await clock.advance(MINUTE)
            assert await work.turn() == 0
            assert work.next() is None
            with pytest.raises(ScheduleNotFound, match="no schedule 'tenant-7'"):
                await keeping.remove(store, "tenant-7")

            await put(store, "tenant-7", plan(), clock.now())
            assert (await read(store, ()))["tenant-7"].course.runs == ()
            await clock.advance(MINUTE)
            assert await work.turn() == 1

    asyncio.run(story())


def test_more_than_fit_in_one_call_are_fired_and_all_are_made_up_for(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            many = {f"n{n:04}": plan() for n in range(1_200)}
            many["all"] = plan(every=SECOND, catch_up=CatchUp.ALL)
            await declare(store, by_code(**many), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance(10 * MINUTE)

            assert await work.turn() == 1_200 + 600
            assert await work.turn() == 0

    asyncio.run(story())


def test_code_is_declared_anew_without_a_change_and_taken_over_with_one(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await declare(store, by_code(a=plan(), b=plan()), clock.now())
            first = await read(store, ())
            await clock.advance(HOUR)
            await declare(store, by_code(a=plan(), b=plan()), clock.now())
            assert await read(store, ()) == first, "nothing is written"

            await declare(store, by_code(a=plan(every=HOUR), b=plan()), clock.now())
            changed = await read(store, ())
            assert changed["a"].standing.plan.every == HOUR
            assert changed["a"].standing.since == clock.now(), (
                "what the old times missed is not owed by the new"
            )
            assert changed["b"] == first["b"]

    asyncio.run(story())


def test_what_is_gone_from_code_is_disabled_and_comes_back_with_it(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await declare(store, by_code(a=plan(), b=plan()), clock.now())
            await put(store, "put", plan(), clock.now())
            await declare(store, by_code("other", c=plan()), clock.now())
            elsewhere = Declaration(app="app", plans={"d": ("bank", plan())}, homes=frozenset({"bank"}))
            await declare(store, elsewhere, clock.now())
            await declare(store, by_code(b=plan()), clock.now())

            gone = {name for name, entry in (await read(store, ())).items() if entry.standing.gone}
            assert gone == {"a"}, "not those of other Apps, of other code, or from programs"
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance(MINUTE)
            await work.turn()
            assert {key.split(":")[1] for key in await work_off(store)} == {"b", "c", "d", "put"}

            await declare(store, by_code(a=plan(), b=plan()), clock.now())
            assert not (await read(store, ()))["a"].standing.gone
            await work.turn()
            assert await work_off(store) == [], "what it missed meanwhile is not owed"
            await declare(store, by_code(b=plan()), clock.now())
            await keeping.remove(store, "a")
            with pytest.raises(InvalidOption, match="take it out of the code"):
                await keeping.remove(store, "b")

    asyncio.run(story())


def test_an_override_outlives_the_code_s_changes_until_it_is_reset(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await declare(store, by_code(a=plan()), clock.now())
            await put(store, "a", plan(every=2 * HOUR), clock.now())
            assert (await read(store, ()))["a"].standing.overridden
            await declare(store, by_code(a=plan(every=HOUR)), clock.now())
            standing = (await read(store, ()))["a"].standing
            assert (standing.plan.every, standing.code and standing.code.every) == (2 * HOUR, HOUR)

            await keeping.reset(store, "a", clock.now())

            standing = (await read(store, ()))["a"].standing
            assert (standing.plan.every, standing.overridden) == (HOUR, False)
            await put(store, "mine", plan(), clock.now())
            with pytest.raises(InvalidOption, match="has no code to go back to"):
                await keeping.reset(store, "mine", clock.now())

    asyncio.run(story())


def test_a_pause_ends_by_itself_or_by_a_word_and_owes_nothing(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            for name in ("until", "resumed"):
                await put(store, name, plan(catch_up=CatchUp.ALL), clock.now())
            work = Clockwork(store, clock)
            await keeping.pause(store, "until", clock.now() + 5 * MINUTE)
            await keeping.pause(store, "resumed", None)
            assert await work.turn() == 0
            assert work.next() == clock.now() + 5 * MINUTE
            await clock.advance(5 * MINUTE)
            assert await work.turn() == 0
            await keeping.resume(store, "resumed", clock.now())
            await keeping.resume(store, "until", clock.now())
            await work.turn()
            await clock.advance(MINUTE)

            assert await work.turn() == 2
            with pytest.raises(ScheduleNotFound, match="no schedule 'nobody'"):
                await keeping.pause(store, "nobody", None)

    asyncio.run(story())


def test_the_tick_that_is_left_out_is_one_after_the_pause(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await put(store, "a", plan(), clock.now())
            end = clock.now() + 3 * 86_400 * SECOND
            await keeping.pause(store, "a", end)

            assert await keeping.skip(store, "a", clock.now()) == end + MINUTE
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance_to(end + MINUTE)
            assert await work.turn() == 0
            await clock.advance(MINUTE)
            assert await work.turn() == 1

    asyncio.run(story())


def test_with_overlap_skip_nothing_is_sent_while_the_one_before_is_not_over(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await put(store, "a", plan(overlap=Overlap.SKIP), clock.now())
            work, sent = Clockwork(store, clock), []
            await work.turn()
            for step in range(4):
                await clock.advance(MINUTE)
                sent.append(await work.turn())
                if step == 1:
                    assert len(await work_off(store)) == 1
            assert sent == [1, 0, 1, 0]
            runs = (await read(store, ()))["a"].course.runs
            assert [run.how for run in runs] == [How.FIRED, How.OVERLAPPED, How.FIRED, How.OVERLAPPED]
            with pytest.raises(ScheduleBusy, match="is ready: wait for its end"):
                await keeping.run(store, "a", "by-hand", clock.now())
            await work_off(store)
            assert await keeping.run(store, "a", "by-hand", clock.now()) == "cron:a:by-hand"

    asyncio.run(story())


def test_with_overlap_queue_ticks_wait_and_come_one_after_another(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await put(store, "a", plan(overlap=Overlap.QUEUE), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            for _ in range(3):
                await clock.advance(MINUTE)
                await work.turn()
            assert held(work)
            (first,) = await take(store)
            assert not work.released(frozenset())
            await store.settle([Settlement(first, v.Done())])
            assert work.released(frozenset({first.id}))
            assert await work.turn() == 1
            restarted = Clockwork(store, clock)
            await restarted.turn()
            assert held(restarted), "what waits is known after a restart"
            (second,) = await take(store)
            await store.settle([Settlement(second, v.Done())])
            assert restarted.released(None)
            assert await restarted.turn() == 1
            (third,) = await take(store)
            came = [one.id[-9:] for one in (first, second, third)]
            assert came == ["00:01:00Z", "00:02:00Z", "00:03:00Z"]
            assert not held(restarted)
            await clock.advance(2 * MINUTE)
            await restarted.turn()
            assert held(restarted)
            await keeping.pause(store, "a", None)
            await restarted.turn()
            assert not held(restarted), "nobody hears of ends for what is paused"

    asyncio.run(story())


def test_run_now_counts_as_a_run_and_moves_no_tick(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await put(store, "a", plan(), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance(MINUTE // 2)
            assert await keeping.run(store, "a", "m1", clock.now()) == "cron:a:m1"
            await clock.advance(MINUTE // 2)
            assert await work.turn() == 1, "though what it knew of the schedule was old"
            assert await work_off(store) == ["cron:a:m1", "cron:a:2030-01-01T00:01:00Z"]
            runs = (await read(store, ()))["a"].course.runs
            assert [run.how for run in runs] == [How.BY_HAND, How.FIRED]

    asyncio.run(story())


def test_changes_at_the_same_time_are_all_made(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as one, opened(engine, clock, "two") as two:
            await put(one, "a", plan(), clock.now())
            await asyncio.gather(
                *(keeping.run(store, "a", f"m{n}", clock.now()) for n in range(5) for store in (one, two)),
                keeping.pause(one, "a", None),
                keeping.skip(two, "a", clock.now()),
            )
            entry = (await read(one, ()))["a"]
            assert (entry.standing.paused, entry.standing.skip) == (True, START + MINUTE)
            assert len(entry.course.runs) == 5, "the same id is the same run"

    asyncio.run(story())


@pytest.mark.parametrize(
    "body", [b"{", b'{"plan":{"task":{"id":"","name":"x"},"cron":"what","zone":"UTC"}}', b'{"plan":7}']
)
def test_a_schedule_that_cannot_be_read_here_is_left_to_others(
    body: bytes, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await store.note([Revision(Note(kind=book.KIND, name="new", body=body))])
            await put(store, "a", plan(), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance(MINUTE)
            assert await work.turn() == 1

    asyncio.run(story())
    assert "schedule.unreadable" in caplog.text


def test_all_is_read_anew_now_and_then(engine: Engine) -> None:
    """What was deleted longer ago than is told is not fired for ever."""

    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await put(store, "a", plan(), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            entries = work.book.entries
            assert list(entries) == ["a"]
            work.book.entries["ghost"] = Entry("ghost", entries["a"].standing, 7)
            await clock.advance(book.WHOLE)
            await work.turn()
            assert list(work.book.entries) == ["a"]

    asyncio.run(story())


def test_partial_changes_at_the_same_time_are_all_made(engine: Engine) -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as one, opened(engine, clock, "two") as two:
            await put(one, "a", plan(), clock.now())

            def with_(**given: object) -> Callable[[Schedule | None], Schedule]:
                return lambda stands: replace(stands or plan(), **given)

            await asyncio.gather(
                keeping.put(one, "a", with_(jitter=SECOND), "app", clock.now()),
                keeping.put(two, "a", with_(catch_up=CatchUp.ALL), "app", clock.now()),
                keeping.put(one, "a", with_(every=HOUR), "app", clock.now()),
            )
            stands = (await read(one, ()))["a"].standing.plan
            assert (stands.jitter, stands.catch_up, stands.every) == (SECOND, CatchUp.ALL, HOUR)

    asyncio.run(story())


def test_places_that_were_given_up_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockwork, "CHUNK", 10)

    async def story() -> None:
        clock = VirtualClock()
        async with opened(MemoryEngine(), clock) as store:
            work = Clockwork(store, clock)
            for n in range(100):
                await put(store, "a", plan(every=HOUR, jitter=n * SECOND), clock.now())
                await work.turn()
            assert len(work._heap) <= 14
            assert work.next() is not None

    asyncio.run(story())


def test_who_comes_late_leaves_to_others_what_they_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockwork, "CHUNK", 5)
    engine = Spied(MemoryEngine())

    async def story() -> None:
        clock, tried = VirtualClock(), list[int]()
        async with opened(engine, clock) as one, opened(engine, clock, "two") as two:
            await declare(one, by_code(**{f"n{n}": plan() for n in range(20)}), clock.now())
            quick, slow = Clockwork(one, clock), Clockwork(two, clock)
            await quick.turn()
            await slow.turn()
            await clock.advance(MINUTE)
            assert await quick.turn() == 20
            engine.before = lambda kind, given: tried.append(len(given)) if kind == "note" else None
            assert await slow.turn() == 0
            assert tried == [5], "of the first part it is told, of the others it looks"

    asyncio.run(story())


def test_many_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockwork, "CHUNK", 3)
    engine = MemoryEngine()

    async def story() -> None:
        clock = VirtualClock()
        async with opened(engine, clock) as store:
            await declare(store, by_code(**{f"n{n}": plan() for n in range(10)}), clock.now())
            work = Clockwork(store, clock)
            await work.turn()
            await clock.advance(MINUTE)
            assert await work.turn() == 10

    asyncio.run(story())
