"""What follows a try: backoff, attempts, deadlines, grace."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from forebay.model import verdict as v
from forebay.model.outcome import (
    Buried,
    CalledOff,
    Cancel,
    Dead,
    Failed,
    Interrupted,
    Nameless,
    Put,
    Retry,
    Returned,
    Snooze,
    TooLate,
)
from forebay.model.policy import GRACE_STEP, Facts, RetryPolicy, decide
from forebay.model.when import SECOND, After, At, resolve

NOW = 1_000_000 * SECOND
POLICY = RetryPolicy()
FAILURE = v.Failure("ValueError", "no")
ROLLS = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), ROLLS)
def test_a_backoff_lies_between_nothing_and_its_ceiling(attempt: int, roll: float) -> None:
    wait = POLICY.backoff(attempt, roll)

    assert 0 <= wait <= min(POLICY.cap, POLICY.base * 2 ** (attempt - 1))


@given(st.integers(1, 100), st.integers(0, 10**9), st.integers(0, 10**13))
def test_the_ceiling_never_falls_and_ends_at_the_cap(attempt: int, base: int, cap: int) -> None:
    policy = RetryPolicy(base=base, cap=cap)
    almost = 1 - 1e-12

    assert policy.backoff(attempt, almost) <= policy.backoff(attempt + 1, almost) <= cap


def test_the_ceilings_double_up_to_the_cap() -> None:
    half = [POLICY.backoff(attempt, 0.5) / SECOND for attempt in range(1, 16)]

    assert half == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800, 1800]


@given(st.integers(0, 50), st.integers(1, 50) | st.none(), st.integers(1, 50), ROLLS)
def test_the_last_attempt_is_the_last(attempts: int, own: int | None, limit: int, roll: float) -> None:
    facts = Facts(attempts=attempts, now=NOW, max_attempts=own)

    verdict = decide(Failed(FAILURE), facts, RetryPolicy(max_attempts=limit), roll)

    if attempts + 1 >= (own or limit):
        assert verdict == v.Dead(v.Reason.EXHAUSTED, FAILURE)
    else:
        assert isinstance(verdict, v.Retry)
        assert verdict.error == FAILURE


def test_twenty_attempts_are_twenty_tries() -> None:
    verdicts = [decide(Failed(FAILURE), Facts(attempts=n, now=NOW), POLICY, 0.5) for n in range(20)]

    assert [type(verdict) for verdict in verdicts] == [v.Retry] * 19 + [v.Dead]


def test_what_may_not_be_retried_is_dead_at_once() -> None:
    verdict = decide(Failed(FAILURE, retryable=False), Facts(attempts=0, now=NOW), POLICY, 0.5)

    assert verdict == v.Dead(v.Reason.NOT_RETRYABLE, FAILURE)


def test_a_retry_at_a_wanted_time_is_at_that_time_and_still_counts() -> None:
    for at in (After(0), After(5), At(NOW - 1)):
        assert decide(Failed(FAILURE, at=at), Facts(attempts=0, now=NOW), POLICY, 0.5) == v.Retry(at, FAILURE)
    last = decide(Failed(FAILURE, at=After(5)), Facts(attempts=19, now=NOW), POLICY, 0.5)
    assert last == v.Dead(v.Reason.EXHAUSTED, FAILURE)


@given(st.integers(-10, 10_000 * SECOND), st.integers(0, 12), ROLLS)
def test_no_try_is_waited_for_past_the_deadline(left: int, attempts: int, roll: float) -> None:
    deadline = NOW + left

    verdict = decide(Failed(FAILURE), Facts(attempts=attempts, now=NOW, deadline=deadline), POLICY, roll)

    if isinstance(verdict, v.Retry):
        again = resolve(verdict.at, NOW)
        assert again is not None
        assert again < deadline
    else:
        assert verdict == v.Dead(v.Reason.DEADLINE, FAILURE)
        assert NOW + POLICY.backoff(attempts + 1, roll) >= deadline


def test_a_snooze_past_the_deadline_is_dead_and_spends_nothing() -> None:
    facts = Facts(attempts=0, now=NOW, deadline=NOW + 5)

    assert decide(Put(After(4)), facts, POLICY, 0.5) == v.Snooze(After(4))
    verdict = decide(Put(After(5)), facts, POLICY, 0.5)

    assert isinstance(verdict, v.Dead)
    assert (verdict.reason, verdict.counts) == (v.Reason.DEADLINE, False)
    assert verdict.error is not None


def test_an_unknown_name_that_is_handed_on_is_put_off_once() -> None:
    def put_off(since: int | None) -> v.Verdict:
        facts = Facts(attempts=0, now=NOW, unknown_since=since, grace=300 * SECOND, handed_on=True)
        return decide(Nameless("gone"), facts, POLICY, 0.5)

    assert put_off(None) == v.Snooze(At(NOW + 300 * SECOND), unknown=True)
    assert put_off(NOW - 299 * SECOND) == v.Snooze(At(NOW + SECOND), unknown=True)
    assert isinstance(put_off(NOW - 300 * SECOND), v.Dead)


@given(st.none() | st.integers(0, 400 * SECOND), st.integers(0, 300 * SECOND))
def test_an_unknown_name_is_put_off_for_its_grace_and_no_longer(ago: int | None, grace: int) -> None:
    since = None if ago is None else NOW - ago

    verdict = decide(
        Nameless("gone"), Facts(attempts=0, now=NOW, unknown_since=since, grace=grace), POLICY, 0.5
    )

    if (ago or 0) < grace:
        assert isinstance(verdict, v.Snooze)
        assert verdict.unknown
        again = resolve(verdict.at, NOW)
        assert again is not None
        assert NOW < again <= min(NOW + GRACE_STEP, NOW - (ago or 0) + grace)
    else:
        assert isinstance(verdict, v.Dead)
        assert (verdict.reason, verdict.counts) == (v.Reason.UNKNOWN_NAME, False)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Returned(b"1"), v.Done(b"1")),
        (Returned(None), v.Done()),
        (Interrupted(), v.Release()),
        (CalledOff(), v.Cancelled()),
        (TooLate(), v.Expired()),
        (
            Buried(v.Reason.UNDECODABLE, FAILURE, counts=False),
            v.Dead(v.Reason.UNDECODABLE, FAILURE, counts=False),
        ),
        (Buried(v.Reason.ASKED, FAILURE, counts=True), v.Dead(v.Reason.ASKED, FAILURE)),
    ],
)
def test_the_rest_is_as_it_says(
    outcome: Returned | Interrupted | CalledOff | TooLate | Buried, verdict: v.Verdict
) -> None:
    facts = Facts(attempts=99, now=NOW, deadline=NOW - 1)

    assert decide(outcome, facts, POLICY, 0.5) == verdict


def test_the_words_of_a_handler_carry_their_times() -> None:
    assert Retry("later", after="5m").when == After(300 * SECOND)
    assert Retry().when is None
    assert Snooze(2).when == After(2 * SECOND)
    assert [str(word) for word in (Retry("a"), Snooze(1, "b"), Dead("c"), Cancel("d"))] == [
        "a",
        "b",
        "c",
        "d",
    ]
