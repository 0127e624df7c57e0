"""Durations and moments: read strictly, never shortened, never without a time zone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from forebay.errors import InvalidOption
from forebay.model.when import (
    LONGEST,
    SECOND,
    After,
    At,
    as_datetime,
    instant,
    micros,
    moment,
    resolve,
    seconds,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (3, 3 * SECOND),
        (0.5, SECOND // 2),
        (0.1, 100_000),
        (1e-7, 1),
        ("250ms", 250_000),
        ("30", 30 * SECOND),
        ("30s", 30 * SECOND),
        ("1.5m", 90 * SECOND),
        ("1h30m", 5_400 * SECOND),
        (" 1h 30m ", 5_400 * SECOND),
        ("2d", 172_800 * SECOND),
        ("1w", 604_800 * SECOND),
        (timedelta(minutes=2, microseconds=3), 120 * SECOND + 3),
        (LONGEST // SECOND, LONGEST),
    ],
)
def test_a_duration_is_read(value: float | str | timedelta, expected: int) -> None:
    assert micros(value, "delay") == expected


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        "-5s",
        "",
        "  ",
        "5 parsecs",
        "1h-30m",
        "s",
        "1e3s",
        math.nan,
        math.inf,
        -math.inf,
        True,
        None,
        b"5s",
        [5],
        timedelta(seconds=-1),
        LONGEST // SECOND + 1,
        1e300,
        "99999w",
    ],
    ids=repr,
)
def test_what_is_no_duration_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidOption, match=r"^delay "):
        micros(value, "delay")  # type: ignore[arg-type]  # bad input is the point


@given(st.floats(0, LONGEST / SECOND))
def test_a_duration_is_never_shortened_and_at_most_a_microsecond_longer(value: float) -> None:
    exact = value * SECOND

    assert math.floor(exact) <= micros(value, "delay") <= math.ceil(exact) + 1


@given(st.integers(0, 10**12))
def test_a_duration_goes_to_seconds_and_back(value: int) -> None:
    assert micros(seconds(value), "delay") == value
    assert micros(timedelta(microseconds=value), "delay") == value


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis wants bounds without a zone
def test_an_instant_is_the_moment_itself(value: datetime) -> None:
    assert as_datetime(instant(value, "due")) == value
    assert instant(value.astimezone(timezone(timedelta(hours=5, minutes=45))), "due") == instant(value, "due")


@pytest.mark.parametrize("value", [10**18, -(10**18), 2**63, -(2**63), 10**40])
def test_an_instant_beyond_the_calendar_is_shown_as_its_first_or_last_moment(value: int) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    assert as_datetime(value) == (last if value > 0 else first)


@pytest.mark.parametrize("value", [datetime(2030, 1, 1), "2030-01-01", 5, None], ids=repr)  # noqa: DTZ001  # that it has no zone is the point
def test_a_time_without_a_zone_is_refused(value: object) -> None:
    with pytest.raises(InvalidOption, match=r"^due .*time zone"):
        instant(value, "due")  # type: ignore[arg-type]  # bad input is the point


def test_a_moment_is_absolute_or_relative() -> None:
    assert moment("5m", "due") == After(300 * SECOND)
    assert moment(datetime(1970, 1, 1, 0, 1, tzinfo=UTC), "due") == At(60 * SECOND)
    assert resolve(After(5), 100) == 105
    assert resolve(At(5), 100) == 5
    assert resolve(None, 100) is None
