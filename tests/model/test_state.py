"""The table of transitions is whole, and says what the words say."""

from __future__ import annotations

from itertools import product

import pytest

from forebay.model import verdict as v
from forebay.model.state import BORN, FINISHED, TIMED, TRANSITIONS, WAITING, Event, State, after, mermaid
from forebay.model.when import After

FAILURE = v.Failure("ValueError", "no")
VERDICTS: list[v.Verdict] = [
    v.Done(), v.Retry(After(0), FAILURE), v.Snooze(After(0)), v.Release(), v.Dead(v.Reason.ASKED), v.Cancelled(), v.Expired()
]  # fmt: skip
WANTED = {
    State.SCHEDULED: {
        Event.DUE: State.READY, Event.POSTPONE: State.SCHEDULED, Event.CANCEL: State.CANCELLED, Event.EXPIRE: State.EXPIRED,
        Event.REDRIVE: State.READY,
    },
    State.RETRYING: {
        Event.DUE: State.READY, Event.POSTPONE: State.SCHEDULED, Event.CANCEL: State.CANCELLED, Event.EXPIRE: State.EXPIRED,
        Event.REDRIVE: State.READY,
    },
    State.BLOCKED: {
        Event.UNBLOCK: State.READY, Event.SCHEDULE: State.SCHEDULED, Event.DONE: State.SUCCEEDED, Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.READY: {
        Event.CLAIM: State.RUNNING, Event.BLOCK: State.BLOCKED, Event.POSTPONE: State.SCHEDULED, Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.RUNNING: {
        Event.DONE: State.SUCCEEDED, Event.RETRY: State.RETRYING, Event.SNOOZE: State.SCHEDULED, Event.RELEASE: State.READY,
        Event.LOSE: State.READY, Event.BURY: State.DEAD, Event.CANCEL: State.CANCELLED, Event.EXPIRE: State.EXPIRED,
    },
    State.SUCCEEDED: {},
    State.DEAD: {Event.REDRIVE: State.READY, Event.BLOCK: State.BLOCKED},
    State.CANCELLED: {Event.REDRIVE: State.READY, Event.BLOCK: State.BLOCKED},
    State.EXPIRED: {Event.REDRIVE: State.READY, Event.BLOCK: State.BLOCKED},
}  # fmt: skip


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_event_in_every_state_is_decided(state: State, event: Event) -> None:
    assert after(state, event) is WANTED[state].get(event)


def test_every_state_is_in_one_part() -> None:
    assert sorted([*WAITING, State.RUNNING, *FINISHED]) == sorted(State)
    assert TIMED < WAITING


def test_what_is_finished_leaves_by_redrive_alone_and_as_a_step_that_waits_again() -> None:
    assert {event for state, event in TRANSITIONS if state in FINISHED} == {Event.REDRIVE, Event.BLOCK}


def test_every_state_but_the_first_is_reached() -> None:
    assert {*BORN.values(), *TRANSITIONS.values()} == set(State)


def test_every_event_happens_somewhere() -> None:
    assert {*BORN, *(event for _, event in TRANSITIONS)} == set(Event)


def test_every_verdict_ends_a_run() -> None:
    for verdict in VERDICTS:
        assert after(State.RUNNING, v.event_of(verdict)) is not None
    assert len({v.event_of(verdict) for verdict in VERDICTS}) == len(VERDICTS)


def test_only_a_run_to_an_end_spends_an_attempt() -> None:
    spending = [
        verdict
        for verdict in (*VERDICTS, v.Dead(v.Reason.UNKNOWN_NAME, counts=False))
        if v.spends_attempt(verdict)
    ]

    assert spending == [v.Done(), v.Retry(After(0), FAILURE), v.Dead(v.Reason.ASKED)]


def test_only_failures_carry_one() -> None:
    assert [v.failure_of(verdict) for verdict in VERDICTS] == [None, FAILURE, None, None, None, None, None]
    assert v.failure_of(v.Dead(v.Reason.RESULT, FAILURE)) is FAILURE


def test_the_diagram_shows_every_transition() -> None:
    lines = mermaid().splitlines()

    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == 1 + len(BORN) + len(TRANSITIONS)
    for (state, event), then in TRANSITIONS.items():
        assert f"    {state} --> {then}: {event}" in lines
    for event, then in BORN.items():
        assert f"    [*] --> {then}: {event}" in lines
