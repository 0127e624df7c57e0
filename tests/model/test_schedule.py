"""Schedules: which ticks are owed, and that none comes twice and none is missed however often and by whomever it is looked at."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from forebay.model.message import Message, MessageId
from forebay.model.schedule import (
    AHEAD,
    LATE,
    MOST_OWED,
    MOST_WAITING,
    RUNS_KEPT,
    SCHEDULE,
    TICK,
    CatchUp,
    Course,
    How,
    Overlap,
    Owed,
    Run,
    Schedule,
    Standing,
    floor_of,
    owed,
    spelled,
    went,
)
from forebay.model.when import SECOND, instant

HOUR = 3_600 * SECOND
DAY = 24 * HOUR
TASK = Message(id=MessageId(""), name="report", queue="work", body=b"{}")
NOON = instant(datetime.fromisoformat("2030-01-01T12:00Z"), "noon")

few = settings(deadline=None, max_examples=40)
plans = st.builds(
    Schedule,
    task=st.just(TASK),
    cron=st.sampled_from(["*/5 * * * *", "30 2 * * *", "0 9 * * 1-5", "*/20 * * * * *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    jitter=st.sampled_from([0, 7 * SECOND, HOUR]),
    catch_up=st.just(CatchUp.ALL),
) | st.builds(
    Schedule,
    task=st.just(TASK),
    every=st.integers(1, 10_000).map(lambda n: n * SECOND),
    start=st.none() | st.integers(-DAY, DAY).map(lambda n: NOON + n),
    jitter=st.sampled_from([0, 7 * SECOND, HOUR]),
    catch_up=st.just(CatchUp.ALL),
)


def plan(**given: object) -> Schedule:
    return replace(Schedule(task=TASK, every=60 * SECOND), **given)


def look(
    standing: Standing, course: Course, now: int, *, busy: bool = False
) -> tuple[Course, list[int], Owed]:
    due = owed("x", standing, course, now)
    then, messages = went("x", standing, course, due, now, busy=busy)
    sent = [run.tick for run in then.runs[len(then.runs) - len(messages) :]] if messages else []
    if len(due.ticks) > RUNS_KEPT:
        sent = list(due.ticks)
    return then, sent, due


@few
@given(plan=plans, steps=st.lists(st.integers(-HOUR, DAY), min_size=1, max_size=12))
def test_with_all_made_up_each_tick_comes_once_however_the_clock_steps(
    plan: Schedule, steps: list[int]
) -> None:
    standing, course, now, highest = Standing(plan=plan, since=NOON), Course(), NOON, NOON
    came: list[int] = []
    lost = False
    for step in steps:
        now = max(now + step, 0)
        course, sent, due = look(standing, course, now)
        lost = lost or due.missed
        came += sent
        highest = max(highest, now)
        assert due.wake is None or due.wake > now
        assert all(plan.moment("x", tick) <= now for tick in sent), "never early"

    assert came == sorted(set(came)), "in order, and none twice"
    if not lost:
        expected = [t for t in plan.last(NOON, highest, 100_000) if plan.moment("x", t) <= highest]
        assert came == expected, "and none is missed"


@few
@given(plan=plans, moment=st.integers(NOON - 400 * DAY, NOON + 400 * DAY))
def test_jitter_is_the_same_for_all_who_fire_and_never_reaches_the_next_tick(
    plan: Schedule, moment: int
) -> None:
    ticks = plan.next(moment, 4)

    assert all(one < other for one, other in pairwise(ticks))
    for tick, following in pairwise(ticks):
        late = plan.moment("x", tick) - tick
        assert 0 <= late < following - tick
        assert late == 0 or late < plan.jitter
        assert plan.moment("x", tick) == replace(plan, catch_up=CatchUp.ONE).moment("x", tick)


@few
@given(plan=plans, back=st.integers(1, 500), moment=st.integers(NOON, NOON + DAY))
def test_the_last_ticks_are_the_end_of_all_of_them(plan: Schedule, back: int, moment: int) -> None:
    after = NOON - HOUR
    every = plan.next(after, 1_000)
    every = [tick for tick in every if tick <= moment]
    if len(every) < 1_000:
        assert plan.last(after, moment, back) == every[-back:]


def test_jitter_spreads() -> None:
    jittered = plan(jitter=30 * SECOND)

    late = {jittered.moment(f"name-{n}", NOON) - NOON for n in range(100)}

    assert len(late) > 90
    assert max(late) > 20 * SECOND


@pytest.mark.parametrize(
    ("catch_up", "late", "sent", "missed"),
    [
        (CatchUp.SKIP, 0, 1, True),
        (CatchUp.SKIP, LATE + 1, 0, True),
        (CatchUp.ONE, LATE + 1, 1, True),
        (CatchUp.ALL, LATE + 1, 10, False),
    ],
)
def test_missed_ticks_are_made_up_for_as_it_is_said(
    catch_up: CatchUp, late: int, sent: int, *, missed: bool
) -> None:
    standing = Standing(plan=plan(every=HOUR, catch_up=catch_up), since=NOON)

    due = owed("x", standing, Course(), NOON + 10 * HOUR + late)

    assert due.ticks == tuple(NOON + n * HOUR for n in range(1, 11))[10 - sent :]
    assert due.missed is missed
    assert due.fired == NOON + 10 * HOUR
    assert due.wake == NOON + 11 * HOUR


def test_one_tick_that_is_a_little_late_is_not_missed() -> None:
    standing = Standing(plan=plan(every=HOUR, catch_up=CatchUp.SKIP), since=NOON)

    due = owed("x", standing, Course(), NOON + HOUR + LATE)

    assert (due.ticks, due.missed) == ((NOON + HOUR,), False)


def test_no_more_is_made_up_for_than_a_thousand_the_last_ones() -> None:
    standing = Standing(plan=plan(every=SECOND, catch_up=CatchUp.ALL), since=NOON)

    due = owed("x", standing, Course(), NOON + DAY)

    assert len(due.ticks) == MOST_OWED
    assert (due.ticks[-1], due.missed) == (NOON + DAY, True)


def test_nothing_is_owed_from_before_it_was_declared_or_while_it_was_paused() -> None:
    hourly = plan(every=HOUR, catch_up=CatchUp.ALL)
    until = NOON + 5 * HOUR
    paused = Standing(plan=hourly, since=NOON, paused=True, until=until)

    assert owed("x", Standing(plan=hourly, since=NOON), Course(), NOON).ticks == ()
    assert owed("x", paused, Course(), until - 1) == Owed(wake=until)
    assert owed("x", paused, Course(), until + HOUR).ticks == (until + HOUR,)
    assert owed("x", replace(paused, until=None), Course(), until + HOUR) == Owed()
    assert owed("x", Standing(plan=hourly, gone=True), Course(), until) == Owed()


def test_start_and_until_are_the_first_and_the_last_that_may_be() -> None:
    bounded = plan(every=HOUR, start=NOON + HOUR // 2, until=NOON + 3 * HOUR // 2)

    assert bounded.next(0, 5) == [NOON + HOUR // 2, NOON + 3 * HOUR // 2]
    by_clock = Schedule(task=TASK, cron="0 * * * *", start=NOON, until=NOON + HOUR)
    assert by_clock.next(0, 5) == [NOON, NOON + HOUR]
    over = owed("x", Standing(plan=by_clock), Course(fired=NOON + HOUR), NOON + DAY)
    assert (over.ticks, over.wake) == ((), None)


def test_an_interval_is_counted_from_its_start_or_from_the_epoch() -> None:
    assert plan(every=90 * SECOND).next(NOON, 1) == [NOON + 90 * SECOND - NOON % (90 * SECOND)]
    assert plan(every=90 * SECOND, start=NOON + 1).next(NOON + 1, 2) == [
        NOON + 1 + 90 * SECOND,
        NOON + 1 + 180 * SECOND,
    ]


def test_the_tick_that_is_to_be_skipped_is_left_out_and_the_next_one_comes() -> None:
    standing = Standing(plan=plan(every=HOUR), since=NOON, skip=NOON + HOUR)

    course, sent, _ = look(standing, Course(), NOON + HOUR)
    after, then, _ = look(standing, course, NOON + 2 * HOUR)

    assert (sent, then) == ([], [NOON + 2 * HOUR])
    assert [run.how for run in after.runs] == [How.SKIPPED, How.FIRED]


def test_after_a_clock_was_wrong_by_years_it_begins_anew() -> None:
    standing = Standing(plan=plan(every=HOUR), since=NOON)
    ahead = Course(fired=NOON + AHEAD + 2 * HOUR)

    course, sent, due = look(standing, ahead, NOON + HOUR)
    _, then, _ = look(standing, course, NOON + 2 * HOUR)

    assert (sent, course.fired, due.wake) == ([], NOON + HOUR, NOON + 2 * HOUR)
    assert then == [NOON + 2 * HOUR]


def test_a_clock_that_was_set_back_a_little_fires_nothing_twice() -> None:
    standing = Standing(plan=plan(every=HOUR), since=NOON)
    fired = Course(fired=NOON + 3 * HOUR)

    assert look(standing, fired, NOON + 2 * HOUR)[1] == []
    assert look(standing, fired, NOON + 4 * HOUR)[1] == [NOON + 4 * HOUR]
    assert floor_of(standing, fired, NOON) == NOON + 3 * HOUR


def due_now(*ticks: int) -> Owed:
    return Owed(ticks=ticks, fired=ticks[-1] if ticks else 0)


@pytest.mark.parametrize(
    ("overlap", "busy", "sent", "waits", "hows"),
    [
        (Overlap.ALLOW, True, [1, 2], [], [How.FIRED, How.FIRED]),
        (Overlap.SKIP, True, [], [], [How.OVERLAPPED, How.OVERLAPPED]),
        (Overlap.SKIP, False, [1], [], [How.FIRED, How.OVERLAPPED]),
        (Overlap.QUEUE, True, [], [1, 2], []),
        (Overlap.QUEUE, False, [1], [2], [How.FIRED]),
    ],
)
def test_overlap(overlap: Overlap, busy: bool, sent: list[int], waits: list[int], hows: list[How]) -> None:
    standing = Standing(plan=plan(overlap=overlap))

    course, messages = went("x", standing, Course(), due_now(1, 2), 2, busy=busy)

    assert [Run(tick, 2).id("x") for tick in sent] == [message.id for message in messages]
    assert list(course.waiting) == waits
    assert [run.how for run in course.runs] == hows
    assert course.fired == 2


def test_what_waited_is_sent_or_left_out_when_it_is_not_to_wait_any_more() -> None:
    course = Course(waiting=(1, 2))
    allow, skip = (Standing(plan=plan(overlap=overlap)) for overlap in (Overlap.ALLOW, Overlap.SKIP))

    now_allowed, messages = went("x", allow, course, due_now(3), 3, busy=True)
    now_skipped, none = went("x", skip, course, due_now(3), 3, busy=True)

    assert ([m.headers[TICK][-2:] for m in messages], now_allowed.waiting) == (["1Z", "2Z", "3Z"], ())
    assert (none, now_skipped.waiting) == ((), ())
    assert [run.how for run in now_skipped.runs] == [How.OVERLAPPED] * 3


def test_what_waits_goes_first_and_no_more_waits_than_a_hundred() -> None:
    standing = Standing(plan=plan(overlap=Overlap.QUEUE))
    course = Course(waiting=tuple(range(1, MOST_WAITING + 1)))

    full, none = went("x", standing, course, due_now(1_000), 1_000, busy=True)
    on, messages = went("x", standing, course, due_now(1_000), 1_000, busy=False)

    assert (none, full.waiting, full.runs[-1].how) == ((), course.waiting, How.OVERLAPPED)
    assert messages[0].headers[TICK] == "1970-01-01T00:00:00.000001Z"
    assert on.waiting == (*range(2, MOST_WAITING + 1), 1_000)


def test_a_message_says_which_tick_of_which_schedule_it_is_for() -> None:
    tick = NOON + HOUR
    _, (message,) = went("tidy", Standing(plan=plan()), Course(), due_now(tick), tick, busy=False)
    _, (alone,) = went(
        "tidy", Standing(plan=plan(overlap=Overlap.SKIP)), Course(), due_now(tick), tick, busy=False
    )

    assert message.id == "cron:tidy:2030-01-01T13:00:00Z"
    assert (message.headers[SCHEDULE], message.headers[TICK]) == ("tidy", "2030-01-01T13:00:00Z")
    assert (message.name, message.queue, message.body, message.unique) == ("report", "work", b"{}", None)
    assert alone.unique == "cron:tidy"


def test_the_last_twenty_runs_are_kept() -> None:
    course = Course()
    for n in range(30):
        course = course.went(Run(n, n))

    assert [run.tick for run in course.runs] == list(range(10, 30))
    assert course.latest == Run(29, 29)
    assert course.went(Run(40, 40, How.SKIPPED)).latest == Run(29, 29)


def test_it_is_told_in_plain_words() -> None:
    assert plan(every=90 * SECOND).words() == "every 1m30s"
    assert (
        Schedule(task=TASK, cron="0 6 * * mon", zone="Europe/Berlin").words()
        == "at 06:00 on Monday, Europe/Berlin"
    )
    assert [spelled(n * SECOND) for n in (1, 60, 3_600, 90_061)] == ["1s", "1m", "1h", "1d1h1m1s"]


def test_another_plan_than_the_code_has_is_an_override() -> None:
    assert not Standing(plan=plan()).overridden
    assert not Standing(plan=plan(), code=plan()).overridden
    assert Standing(plan=plan(), code=plan(every=HOUR)).overridden
