"""What rules say: rates as they are read, buckets as they empty and fill, and how many of a line may stand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from forebay.errors import InvalidOption
from forebay.model.rule import (
    FREE,
    WINDOW,
    Line,
    Override,
    Place,
    RateLimit,
    Rule,
    Rules,
    Stand,
    amended,
    check_settings,
    over,
    override_of,
    rate_limit,
    read_override,
    rule_of,
    settings_of,
    spent,
    tokens,
    when,
)
from forebay.model.when import SECOND

NOW = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("text", "count", "seconds", "burst"),
    [
        ("100/s", 100, 1, 100), (" 5 / min ", 5, 60, 1), ("30/h", 30, 3_600, 1), ("1000/day", 1_000, 86_400, 1), ("90/minute", 90, 60, 1),
        ("120/m", 120, 60, 2), ("1/s", 1, 1, 1), ("7200/H", 7_200, 3_600, 2), ("100000/s", 100_000, 1, 100_000),
    ],
)  # fmt: skip
def test_a_rate_is_read_with_what_a_second_brings_as_its_burst(
    text: str, count: int, seconds: int, burst: int
) -> None:
    assert rate_limit(text, "rate") == RateLimit(count, seconds * SECOND, burst)


@pytest.mark.parametrize(
    "bad", ["", "100", "100/", "/s", "1.5/s", "-1/s", "0/s", "100001/s", "5/week", "5 per s", 5, None, True]
)
def test_what_is_no_rate_is_refused_with_a_sentence(bad: object) -> None:
    with pytest.raises(InvalidOption, match=r"^rate must be "):
        rate_limit(bad, "rate")


def test_a_bucket_gives_its_burst_and_then_what_comes() -> None:
    rate, full = rate_limit("10/s", "rate", 3), 0

    assert tokens(rate, full, NOW) == 3
    full = spent(rate, full, NOW, 3)
    assert tokens(rate, full, NOW) == 0
    assert when(rate, full, NOW) == NOW + SECOND // 10
    assert when(rate, full, NOW, 3) == NOW + 3 * SECOND // 10
    assert [tokens(rate, full, NOW + tenth * SECOND // 10) for tenth in range(6)] == [0, 1, 2, 3, 3, 3]


def test_a_clock_that_is_set_back_empties_a_bucket_once_and_no_longer() -> None:
    rate = rate_limit("10/s", "rate", 3)
    full = spent(rate, 0, NOW + 3_600 * SECOND, 3)

    assert tokens(rate, full, NOW) == 0
    assert when(rate, full, NOW) == NOW + SECOND // 10


def test_a_slower_rate_takes_hold_of_what_was_spent_at_a_faster_one() -> None:
    fast, slow = rate_limit("100/s", "rate", 100), rate_limit("1/min", "rate", 1)

    assert when(slow, spent(fast, 0, NOW, 100), NOW) <= NOW + 60 * SECOND


@given(
    rate=st.builds(
        RateLimit, st.integers(1, 100_000), st.sampled_from([SECOND, 60 * SECOND]), st.integers(1, 50)
    ),
    asks=st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 60)), max_size=40),
)
@settings(max_examples=200)
def test_in_no_span_more_is_given_than_burst_and_rate(rate: RateLimit, asks: list[tuple[int, int]]) -> None:
    now, full, given_out = NOW, 0, list[int]()
    for later, wanted in asks:
        now += later
        number = min(wanted, tokens(rate, full, now))
        if number:
            full = spent(rate, full, now, number)
        elif not tokens(rate, full, now):
            moment = when(rate, full, now)
            assert moment > now
            assert tokens(rate, full, moment) >= 1
            assert tokens(rate, full, moment - 1) == 0
        given_out += [now] * number

    for first, start in enumerate(given_out):
        for last in range(first, len(given_out)):
            span = given_out[last] - start
            assert last - first + 1 <= rate.burst + span * rate.count / rate.per + 1e-6
    assert all(a <= b for a, b in pairwise(given_out))


KEY, NAME, NONE = Place("k"), Place(name="slow"), Place()
RATE = rate_limit("1/s", "rate", 2)
EMPTY = spent(RATE, 0, NOW, 2)


@pytest.mark.parametrize(
    ("rules", "place", "line", "stand"),
    [
        (FREE, KEY, Line(), Stand(WINDOW)),
        (Rules(Rule(per_key=3)), KEY, Line(), Stand(3)),
        (Rules(Rule(per_key=3)), KEY, Line(running=2), Stand(1)),
        (Rules(Rule(per_key=3)), KEY, Line(running=5), Stand(0)),
        (Rules(Rule(per_key=3)), KEY, Line(held=True), Stand(3)),
        (Rules(Rule(ordered=True)), KEY, Line(), Stand(1)),
        (Rules(Rule(ordered=True, per_key=5)), KEY, Line(), Stand(1)),
        (Rules(Rule(ordered=True)), KEY, Line(running=1), Stand(0)),
        (Rules(Rule(ordered=True)), KEY, Line(held=True), Stand(0)),
        (Rules(Rule(fair=True, per_key=1)), NONE, Line(running=9), Stand(WINDOW)),
        (Rules(Rule(per_key=1), {"slow": 2}), NAME, Line(running=1), Stand(1)),
        (Rules(Rule(rate_per_key=RATE)), KEY, Line(), Stand(2)),
        (Rules(Rule(rate_per_key=RATE, per_key=1)), KEY, Line(), Stand(1)),
        (Rules(Rule(rate_per_key=RATE)), KEY, Line(full=EMPTY), Stand(0, NOW + SECOND)),
        (Rules(Rule(rate_per_key=RATE)), KEY, Line(full=EMPTY - 10**9), Stand(1, NOW + SECOND)),
        (Rules(Rule(rate_per_key=RATE, ordered=True)), KEY, Line(running=1, full=EMPTY), Stand(0)),
    ],
)
def test_how_many_of_a_line_may_stand(rules: Rules, place: Place, line: Line, stand: Stand) -> None:
    assert rules.stand(place, line, NOW) == stand


@pytest.mark.parametrize(
    ("rules", "key", "name", "place"),
    [
        (FREE, "k", "job", None), (Rules(Rule(rate=RATE, concurrency=1)), "k", "job", None), (Rules(Rule(per_key=1)), "k", "job", KEY),
        (Rules(Rule(per_key=1)), None, "job", None), (Rules(Rule(fair=True)), None, "job", NONE),
        (Rules(Rule(ordered=True)), "k", "job", KEY),
        (Rules(most={"slow": 1}), "k", "slow", NAME), (Rules(most={"slow": 1}), "k", "job", None),
        (Rules(Rule(per_key=1), {"slow": 1}), "k", "slow", KEY), (Rules(Rule(per_key=1), {"slow": 1}), None, "slow", NAME),
    ],
)  # fmt: skip
def test_where_a_message_stands(rules: Rules, key: str | None, name: str, place: Place | None) -> None:
    assert rules.place(key, name) == place


WHOLE = rule_of(
    {"rate": "10/s", "burst": 3, "rate_per_key": "5/min", "concurrency": 4, "per_key": 2, "fair": True, "weights": {"a": 3}}
)  # fmt: skip


def test_a_rule_is_told_as_it_is_said() -> None:
    assert rule_of(settings_of(WHOLE)) == WHOLE  # type: ignore[arg-type]  # the same names
    assert settings_of(Rule()) == {}


@pytest.mark.parametrize(
    ("said", "now"),
    [
        ({}, WHOLE),
        ({"rate": "50/s"}, rule_of({**settings_of(WHOLE), "rate": "50/s", "burst": None})),  # type: ignore[typeddict-item]  # the same names
        ({"burst": 7}, rule_of({**settings_of(WHOLE), "burst": 7})),  # type: ignore[typeddict-item]  # the same names
        ({"fair": False}, rule_of({**settings_of(WHOLE), "fair": False, "weights": None})),  # type: ignore[typeddict-item]  # the same names
        (dict.fromkeys(("rate", "rate_per_key", "concurrency", "per_key")) | {"fair": False, "ordered": True}, Rule(ordered=True)),
    ],
)  # fmt: skip
def test_what_is_said_while_it_runs_goes_before(
    said: dict[str, str | int | bool | dict[str, int] | None], now: Rule
) -> None:
    assert over(WHOLE, Override(said=said)) == now
    assert amended(Rules(WHOLE, {"job": 1}), Override(said=said)) == Rules(now, {"job": 1})


@pytest.mark.parametrize(
    "said",
    [
        {"rat": "5/s"}, {"rate": 5}, {"burst": 0}, {"concurrency": "many"}, {"per_key": 0}, {"ordered": "yes"}, {"weights": {"": 1}},
        {"weights": {"\ud800": 1}}, {"weights": {"k" * 201: 1}}, {"rate": "\uff15/s"},
        {"weights": {"a": 0}}, {"weights": [1]}, {"max_running": 3},
    ],
)  # fmt: skip
def test_what_cannot_hold_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        check_settings(said)


def test_a_note_that_is_no_rule_is_refused() -> None:
    assert override_of(None) is None
    for body in (b"{}", b"[]", b'{"said":{"rate":"5/x"}}'):
        with pytest.raises(InvalidOption):
            override_of(body)
        assert read_override(body) is None
