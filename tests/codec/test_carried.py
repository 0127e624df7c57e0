"""What a bus keeps in headers comes back as it was written, beside the sender's own, and strangers cannot write it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from forebay.codec.carried import Carried, read_carried, with_carried, without_carried
from forebay.model import verdict as v
from forebay.model.effect import effect
from forebay.model.when import After

COUNTS = st.integers(0, 1 << 40)
HEADERS = st.dictionaries(st.sampled_from(["traceparent", "x", "forebay-attempts", "forebay-x"]), st.text())


CARRIED = st.builds(
    lambda *counts: Carried(attempts=counts[0], crashes=counts[1], releases=counts[2], created=counts[3]),
    *[COUNTS] * 3,
    COUNTS.filter(bool) | st.none(),
)


@given(HEADERS, CARRIED)
def test_what_is_carried_comes_back_and_leaves_the_senders_headers_alone(
    headers: dict[str, str], carried: Carried
) -> None:
    wire = with_carried(headers, carried)

    read = read_carried(wire)

    assert read == carried
    assert without_carried(wire) == without_carried(headers)
    assert not any(name.startswith("forebay-") for name in without_carried(wire))


@pytest.mark.parametrize(
    ("verdict", "left"),
    [
        (v.Retry(After(5), v.Failure("E", "")), Carried(attempts=2, created=1)),
        (v.Snooze(After(5)), Carried(attempts=1, created=1)),
        (v.Snooze(After(5), unknown=True), Carried(attempts=1, created=1, unknown_since=3)),
        (v.Release(), Carried(attempts=1, releases=1, created=1, unknown_since=3)),
        (v.Crashed(v.Failure("E", "")), Carried(attempts=1, crashes=1, created=1, unknown_since=3)),
    ],
)
def test_the_next_copy_counts_what_became_of_this_one(verdict: v.Verdict, left: Carried) -> None:
    carried = Carried(attempts=1, created=1, unknown_since=3)

    assert carried.after(effect(verdict, crashes=0, most_crashes=3, now=9), now=9) == left


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "٣", "9" * 19, " 1"])
def test_what_is_no_number_counts_for_nothing(value: str) -> None:
    assert read_carried({"forebay-attempts": value}) == Carried()
