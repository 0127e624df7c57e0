"""Cron expressions by the clocks of a zone: ten years of clock changes in three zones, held against a walk over every minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings, strategies as st

from forebay.errors import InvalidOption
from forebay.model.cron import cron, stamp, zone_of
from forebay.model.when import SECOND, as_datetime, instant

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
YEARS = range(2024, 2034)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def at(text: str, zone: str = "UTC") -> int:
    return instant(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)), "moment")


def there(tick: int, zone: str) -> str:
    return as_datetime(tick).astimezone(ZoneInfo(zone)).isoformat()


def ticks(text: str, zone: str, after: str, number: int) -> list[str]:
    return [there(tick, zone) for tick in islice(cron(text).after(at(after, zone), zone_of(zone)), number)]


def days_of_change(zone: str) -> list[date]:
    """The days on which clocks are set."""
    found, zoned = [], ZoneInfo(zone)
    for year in YEARS:
        day = datetime(year, 1, 1, tzinfo=zoned)
        while day.year == year:
            if day.utcoffset() != (day + DAY).utcoffset():
                found.append(day.date())
            day += DAY
    return found


def shown(day: date, wall: time, zone: str) -> datetime:
    """When clocks first show a time on a day, or, if they never do, first show a later one: found by looking at every minute of it."""
    minute = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)
    while True:
        local = minute.astimezone(ZoneInfo(zone))
        if local.date() > day or local.time() >= wall:
            return minute
        minute += MINUTE


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_of_day_comes_once_a_day_for_ten_years_whatever_the_clocks_do(zone: str) -> None:
    changes = days_of_change(zone)
    assert len(changes) == 2 * len(YEARS)
    begin = at(f"{YEARS[0]}-01-01T00:00", zone)
    end = at(f"{YEARS[-1] + 1}-01-01T00:00", zone)
    for wall in (time(1, 30), time(1, 45), time(2, 0), time(2, 15), time(2, 30), time(3, 0)):
        text = f"{wall.minute} {wall.hour} * * *"
        found = list(takewhile(lambda tick: tick < end, cron(text).after(begin, zone_of(zone))))
        days = (datetime(YEARS[-1] + 1, 1, 1, tzinfo=UTC) - datetime(YEARS[0], 1, 1, tzinfo=UTC)).days
        assert len(found) == days, "once a day"
        by_day = {as_datetime(tick).astimezone(ZoneInfo(zone)).date(): as_datetime(tick) for tick in found}
        assert len(by_day) == days
        for day in changes:
            assert by_day[day] == shown(day, wall, zone), (zone, wall, day)
        ordinary = {as_datetime(t).astimezone(ZoneInfo(zone)).time() for t in found} - {wall}
        assert len(ordinary) <= 1, "only where clocks skip it does it come at another time"


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ["*/15 * * * *", "0 * * * *", "*/20 2 * * *", "30 */2 * * *"])
def test_what_goes_by_the_hands_ticks_whenever_they_show_it(text: str, zone: str) -> None:
    minutes, hours = (set(cron(text)._sim.minutes), set(cron(text)._sim.hours))
    for day in days_of_change(zone):
        minute = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC) - MINUTE
        begin, expected = minute, []
        for _ in range(27 * 60):
            minute += MINUTE
            local = minute.astimezone(ZoneInfo(zone))
            if local.minute in minutes and local.hour in hours:
                expected.append(minute)
        found = cron(text).after(instant(begin, ""), zone_of(zone))
        assert [as_datetime(t) for t in islice(found, len(expected))] == expected


def test_what_clocks_skip_comes_when_they_go_on_and_what_they_show_twice_comes_the_first_time() -> None:
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    assert ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", 1) == ["2026-10-04T02:30:00+11:00"]
    assert ticks("*/20 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ], "with seconds as without"


def test_between_the_two_times_that_clocks_show_a_time_it_is_not_still_to_come() -> None:
    second_time = at("2026-10-25T02:10", "Europe/Berlin") + 3600 * SECOND
    assert there(second_time, "Europe/Berlin") == "2026-10-25T02:10:00+01:00"

    first = next(cron("30 2 * * *").after(second_time, zone_of("Europe/Berlin")))
    last = next(cron("30 2 * * *").before(second_time, zone_of("Europe/Berlin")))

    assert there(first, "Europe/Berlin") == "2026-10-26T02:30:00+01:00"
    assert there(last, "Europe/Berlin") == "2026-10-25T02:30:00+02:00"


@settings(deadline=None)
@given(
    text=st.sampled_from(
        ["30 2 * * *", "*/7 * * * *", "0 0 1 * *", "15 10 * * 1-5", "*/30 59 23 L * *", "0 9 * 2 mon#1"]
    ),
    zone=st.sampled_from([*ZONES, "UTC", "America/Havana", "Pacific/Apia"]),
    moment=st.integers(at("2024-01-01T00:00"), at("2033-01-01T00:00")),
)
@example(text="30 0 * * *", zone="America/Havana", moment=at("2026-03-08T06:00"))
@example(text="0 12 * * *", zone="Pacific/Apia", moment=at("2011-12-31T12:00"))
def test_back_and_forth_meet(text: str, zone: str, moment: int) -> None:
    read, zoned = cron(text), zone_of(zone)
    ahead = list(islice(read.after(moment, zoned), 3))
    behind = list(islice(read.before(moment, zoned), 3))

    assert moment < ahead[0] < ahead[1] < ahead[2]
    assert moment >= behind[0] > behind[1] > behind[2]
    assert next(read.after(behind[0], zoned)) == ahead[0], "none between"
    assert next(read.after(ahead[0] - 1, zoned)) == ahead[0]
    assert next(read.before(ahead[0], zoned)) == ahead[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*/5 * * * *", "every 5 minutes"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("0 */2 * * *", "every 2 hours"),
        ("0 6 * * mon", "at 06:00 on Monday"),
        ("@daily", "at 00:00 every day"),
        ("@HOURLY", "at the start of every hour"),
    ],
)
def test_an_expression_is_told_in_plain_words(text: str, words: str) -> None:
    assert cron(text).words() == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("61 * * * *", r"minute '61' is not possible: write 0 to 59"),
        ("0 24 * * *", r"hour '24'"),
        ("*/0 * * * *", r"minute '\*/0'"),
        ("60 * * * * *", r"second '60'"),
        ("* * * * MON#6", r"day of week 'MON#6'"),
        ("0 0 30 2 *", r"day of month '30'"),
        ("MON#1/2 * * * *", r"minute"),
        ("* * * *", r"4 fields: it takes five"),
        ("", r"0 fields"),
        ("* " * 200, r"fields"),
        ("@reboot", r"none of @yearly.*every='90s'"),
        ("@every 5m", r"none of @yearly.*every='90s'"),
        ("* * */20 * 1L", r"never comes"),
        ("0 0 ² * *", r"day of month"),
    ],
)
def test_what_is_wrong_in_an_expression_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        cron(text)


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.from_regex(r"[0-9*/,\-#LWMON ]{5,40}", fullmatch=True))
def test_whatever_is_written_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        read = cron(text)
    except InvalidOption:
        return
    assert read.words()
    assert next(read.after(0, UTC)) > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Europe/Belin", "did you mean 'Europe/Berlin'"),
        ("berlin", "did you mean 'Europe/Berlin'"),
        ("../etc/passwd", "write one such as"),
        ("", "write one such as"),
        ("x\0y", "write one such as"),
    ],
)
def test_a_zone_that_is_not_known_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        zone_of(name)


def test_a_moment_is_part_of_an_id() -> None:
    assert stamp(at("2030-01-01T06:00")) == "2030-01-01T06:00:00Z"
