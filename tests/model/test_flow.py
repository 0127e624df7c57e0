"""When a step of a flow runs: a row for each kind of standing, and what must hold of all."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, strategies as st

from forebay.model.flow import Condition, End, Move, end_of, stands
from forebay.model.state import FINISHED, State
from forebay.model.verdict import Reason

ROWS = [
    (Condition.ALL_SUCCEEDED, (0, 0, 0), Move.RUN),
    (Condition.ALL_SUCCEEDED, (2, 0, 0), Move.WAIT),
    (Condition.ALL_SUCCEEDED, (2, 1, 0), Move.FAIL),
    (Condition.ALL_SUCCEEDED, (2, 0, 1), Move.WAIT),
    (Condition.ALL_SUCCEEDED, (0, 0, 1), Move.SKIP),
    (Condition.ALL_SUCCEEDED, (0, 1, 1), Move.FAIL),
    (Condition.ANY_FAILED, (2, 0, 0), Move.WAIT),
    (Condition.ANY_FAILED, (2, 1, 0), Move.RUN),
    (Condition.ANY_FAILED, (0, 0, 1), Move.SKIP),
    (Condition.ALL_DONE, (1, 3, 1), Move.WAIT),
    (Condition.ALL_DONE, (0, 3, 1), Move.RUN),
]


@pytest.mark.parametrize(("when", "parents", "move"), ROWS)
def test_a_step_stands_by_its_parents(when: Condition, parents: tuple[int, int, int], move: Move) -> None:
    open_, failed, skipped = parents

    assert stands(when, open_=open_, failed=failed, skipped=skipped) is move


@given(st.sampled_from(Condition), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_step_with_no_open_parent_waits_no_more(
    when: Condition, open_: int, failed: int, skipped: int
) -> None:
    move = stands(when, open_=open_, failed=failed, skipped=skipped)

    assert move is not Move.WAIT or open_ > 0
    if move is not Move.WAIT:
        for worse, unneeded in product(range(open_ + 1), repeat=2):
            if (over := worse + unneeded) <= open_:
                later = stands(when, open_=open_ - over, failed=failed + worse, skipped=skipped + unneeded)
                assert later is move, "what is decided stays so, whatever becomes of the others"


@pytest.mark.parametrize("state", State)
def test_what_is_over_has_an_end_and_nothing_else(state: State) -> None:
    assert (end_of(state, None) is not End.OPEN) == (state in FINISHED)


def test_what_is_not_needed_has_not_failed() -> None:
    assert end_of(State.CANCELLED, Reason.SKIPPED) is End.SKIPPED
    assert end_of(State.CANCELLED, Reason.PARENT_FAILED) is End.FAILED
