"""Rules of being one of few: what they make of a message, what they refuse, and what becomes of whom they meet."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from forebay.codec import json
from forebay.errors import InvalidArguments, InvalidOption
from forebay.model.state import WAITING, State
from forebay.model.unique import (
    MOVABLE,
    UNFINISHED,
    WORKED_ON,
    Conflict,
    Debounce,
    Gather,
    Hold,
    Place,
    Throttle,
    Unique,
    bounded,
    digest,
    held_until,
    meet,
)
from forebay.model.when import SECOND, After

HERE = Place("a", "k")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("unique", "hold"),
    [
        (Unique("k"), Hold(states=UNFINISHED)),
        (Unique("k", until="started"), Hold(states=WAITING)),
        (Unique("k", until="1h"), Hold(states=WORKED_ON, window=3_600 * SECOND)),
        (Unique("k", on_conflict="replace"), Hold(states=WAITING, conflict=Conflict.REPLACE)),
        (Unique("k", on_conflict="reschedule"), Hold(states=WAITING, conflict=Conflict.RESCHEDULE)),
        (Unique("k", on_conflict="reject"), Hold(states=UNFINISHED, conflict=Conflict.REJECT)),
        (
            Unique("k", until="done", on_conflict="replace"),
            Hold(states=UNFINISHED, conflict=Conflict.REPLACE),
        ),
        (Unique("k", states=["dead"]), Hold(states=UNFINISHED | {State.DEAD})),
        (Unique("k", states=[]), Hold(states=WAITING)),
        (Unique("k", states=["running"]), Hold(states=UNFINISHED)),
        (Unique("k", states=UNFINISHED, until=60), Hold(states=UNFINISHED, window=60 * SECOND)),
    ],
)
def test_a_unique_says_how_its_key_is_held(unique: Unique, hold: Hold) -> None:
    assert unique.of("job", b"", None) == ("k", hold, None)


def test_a_debounce_replaces_what_waits_and_moves_it() -> None:
    asked = Debounce("2s", longest="1m").of("job", b"", "k")

    assert asked.hold == Hold(states=WAITING, conflict=Conflict.REPLACE, longest=60 * SECOND)
    assert asked.due == After(2 * SECOND)
    assert asked.unique == Debounce(7).of("job", b"other", "k").unique
    others = {
        Debounce(1).of(name, b"", key).unique for name, key in (("job", "l"), ("job", None), ("other", "k"))
    }
    assert len({*others, asked.unique, Throttle(1).of("job", b"", "k").unique}) == 5


def test_a_throttle_holds_for_its_time_whatever_becomes_of_the_first() -> None:
    asked = Throttle("1m").of("job", b"", "k")

    assert (asked.hold, asked.due) == (Hold(states=WORKED_ON, window=60 * SECOND), None)


def test_what_gathers_is_one_group_for_a_task_and_a_key() -> None:
    asked = Gather(longest=60, most=5, quiet=10).of("job", b"1", "k")

    assert asked.due == After(10)
    assert (asked.hold.conflict, asked.hold.longest, asked.hold.most) == (Conflict.JOIN, 60, 5)
    assert not asked.hold.keeps
    assert asked.unique == Gather(1, 2, 1).of("job", b"2", "k").unique
    assert asked.unique != Gather(60, 5, 10).of("job", b"1", None).unique


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.randoms(use_true_random=False))
def test_arguments_are_the_same_in_whatever_order_they_stand(given: dict[str, Any], random: Any) -> None:
    names = list(given)
    random.shuffle(names)

    key = digest("job", json.encode(given))

    assert key == digest("job", json.encode({name: given[name] for name in names}))
    assert re.fullmatch("[0-9a-f]{32}", key)
    assert key != digest("other", json.encode(given))


def test_arguments_that_differ_are_not_the_same() -> None:
    bodies = [
        b"",
        b"null",
        b"{}",
        b"[]",
        b'{"a":1}',
        b'{"a":"1"}',
        b'{"a":1.0}',
        b'{"a":1,"b":1}',
        b'{"b":1}',
    ]

    assert len({digest("job", body) for body in bodies}) == len(bodies) - 1, "no body is a null"


def test_only_the_arguments_that_are_named_count() -> None:
    one = digest("job", b'{"a":1,"b":2}', ("a",))

    assert one == digest("job", b'{"a":1,"b":3}', ("a",))
    assert one != digest("job", b'{"a":2,"b":2}', ("a",))
    assert one != digest("job", b'{"b":2}', ("a",))
    with pytest.raises(InvalidArguments, match="name its arguments when you send it by its name"):
        digest("job", b"[1,2]", ("a",))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Unique(on_conflict="drop"), "it is one of keep, replace, reschedule, reject"),  # type: ignore[arg-type]  # that is the test
        (lambda: Unique("k", args=["a"]), "takes a key or args=, not both"),
        (lambda: Unique(args="tenant"), "names arguments, as in"),
        (lambda: Unique(args=[""]), "names arguments, as in"),
        (lambda: Unique(until="later"), "is not a duration: 'later'"),
        (lambda: Unique(until=0), "must be longer than 0"),
        (lambda: Unique(states=["asleep"]), "takes a list of states: scheduled, blocked"),
        (lambda: Unique(states="dead"), "takes a list of states: scheduled, blocked"),
        (lambda: Debounce(0), "debounce must be longer than 0"),
        (lambda: Debounce("x"), "debounce is not a duration"),
        (lambda: Debounce("10s", longest="5s"), "is shorter than quiet='10s'"),
        (lambda: Throttle("0s"), "throttle must be longer than 0"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(sentence)):
        make()


@pytest.mark.parametrize("state", [None, *State])
@pytest.mark.parametrize("conflict", Conflict)
def test_what_is_met_is_changed_only_while_it_waits_for_its_time_or_a_worker(
    conflict: Conflict, state: State | None
) -> None:
    met = meet(Hold(states=WAITING, conflict=conflict), HERE, HERE, state)

    changes = conflict in (Conflict.REPLACE, Conflict.RESCHEDULE)
    if conflict is Conflict.JOIN:
        joins = meet(Hold(states=WAITING, conflict=conflict), HERE, HERE, state, gathers=True)
        assert (met, joins) == (Conflict.KEEP, Conflict.JOIN)
        return
    assert met is (Conflict.KEEP if changes and state not in MOVABLE else conflict)


@pytest.mark.parametrize("other", [Place("b", "k"), Place("a", "l"), Place("a", "k", "flow")])
def test_what_belongs_elsewhere_is_not_replaced(other: Place) -> None:
    for state in MOVABLE:
        assert meet(Hold(states=WAITING, conflict=Conflict.REPLACE), HERE, other, state) is Conflict.REJECT
        assert (
            meet(Hold(states=WAITING, conflict=Conflict.RESCHEDULE), HERE, other, state)
            is Conflict.RESCHEDULE
        )


@given(st.integers(0, 10**15), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_series_is_bounded_by_its_first(since: int, wait: int, longest: int) -> None:
    hold = Hold(states=WAITING, longest=longest)

    assert bounded(since + wait, hold, since) == since + min(wait, longest)
    assert bounded(None, hold, since) is None
    assert bounded(since + wait, Hold(states=WAITING), since) == since + wait


def test_until_when_a_key_is_held_is_said() -> None:
    assert held_until(None, 5) == "it has ended"
    assert held_until(Hold(states=UNFINISHED | {State.DEAD}), 5) == "it has ended, and while it is dead"
    assert held_until(Hold(states=WAITING), 5) == "it starts"
    assert held_until(Hold(states=WORKED_ON, window=10), 5) == 15
