"""One grammar for every name, and what topic patterns match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from forebay.errors import InvalidName
from forebay.model.names import (
    LONGEST_NAME,
    check_name,
    check_new_name,
    check_pattern,
    is_pattern,
    matches,
    subscription_queue,
)

SEGMENTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=6).map(".".join)
GOOD = ["a", "A9", "orders.placed", "send-mail", "_any", "a.b.c-d_e", "0", "x" * LONGEST_NAME]
BAD = [
    *[
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a.-b",
        "a b",
        "a/b",
        "a*",
        "ä",
        "a\n",
        "a\x00",
        "日本",
        "a,b",
        "a:b",
        "$a",
        "x" * (LONGEST_NAME + 1),
    ],
    *[None, 7, b"a", ["a"]],
]


@pytest.mark.parametrize("name", GOOD)
def test_what_fits_the_grammar_is_a_name(name: str) -> None:
    assert check_name(name, "queue") == name


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_what_does_not_fit_is_refused_with_the_grammar(name: object) -> None:
    with pytest.raises(InvalidName, match=r"queue .* is not a valid name\. Use letters, digits"):
        check_name(name, "queue")


@pytest.mark.parametrize("name", [*BAD, "**.a", "a.**.b", "a.b*", "***", "a.**.**", "*.**.*"], ids=repr)
def test_what_is_no_pattern_is_refused(name: object) -> None:
    if name != "a*":
        with pytest.raises(InvalidName, match="not a valid topic pattern"):
            check_pattern(name, "topic")


def test_a_refusal_of_something_long_stays_short() -> None:
    with pytest.raises(InvalidName) as refusal:
        check_name("x" * 10_000, "queue")

    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("name", ["_any", "a._b", "_"])
def test_segments_that_begin_with_an_underscore_are_reserved(name: str) -> None:
    with pytest.raises(InvalidName, match="reserved"):
        check_new_name(name, "task")


def test_an_underscore_inside_a_segment_is_free() -> None:
    assert check_new_name("send_mail.to_all", "task") == "send_mail.to_all"


@pytest.mark.parametrize(
    ("pattern", "topic", "is_match"),
    [
        ("orders.placed", "orders.placed", True),
        ("orders.placed", "orders.placed.eu", False),
        ("orders.placed", "ordersxplaced", False),
        ("orders.*", "orders.placed", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.eu.placed", False),
        ("*.placed", "orders.placed", True),
        ("*.*", "orders.placed", True),
        ("*", "orders", True),
        ("*", "orders.placed", False),
        ("orders.**", "orders.eu.placed", True),
        ("orders.**", "orders.placed", True),
        ("orders.**", "orders", False),
        ("*.eu.**", "orders.eu.placed", True),
        ("*.eu.**", "orders.us.placed", False),
        ("**", "a", True),
        ("**", "a.b.c", True),
    ],
)
def test_a_star_is_one_segment_and_two_are_the_rest(pattern: str, topic: str, is_match: bool) -> None:
    assert check_pattern(pattern, "topic") == pattern
    assert matches(pattern, topic) is is_match


@given(NAMES)
def test_every_name_is_a_pattern_that_matches_itself_alone(name: str) -> None:
    assert check_pattern(check_name(name, "topic"), "topic") == name
    assert not is_pattern(name)
    assert matches(name, name)
    assert not matches(name, f"{name}.more")
    assert matches("**", name)


@given(NAMES, st.data())
def test_stars_match_as_the_regular_expression_they_stand_for(topic: str, data: st.DataObject) -> None:
    segments = [data.draw(st.sampled_from([s, "*", "x"])) for s in topic.split(".")]
    segments += data.draw(st.sampled_from([[], ["**"], ["*"]]))
    segments = segments[data.draw(st.integers(0, 1)) :] or ["*"]
    pattern = ".".join(segments)

    expression = ".".join(segments).replace(".", r"\.").replace("**", ".+").replace("*", "[^.]+")

    assert matches(pattern, topic) is bool(re.fullmatch(expression, topic))


def test_a_subscriptions_queue_is_a_name_of_its_own() -> None:
    assert subscription_queue("orders.placed", "billing") == "billing.orders.placed"
    assert subscription_queue("orders.*", "billing") == "billing.orders._any"
    assert subscription_queue("orders.**", "billing") == "billing.orders._rest"
    with pytest.raises(InvalidName):
        subscription_queue("x" * 100, "y" * 100)
