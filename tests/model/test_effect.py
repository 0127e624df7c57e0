"""What the end of a try changes: one row for each kind of end."""

from __future__ import annotations

import pytest

from forebay.model import verdict as v
from forebay.model.effect import Effect, Unknown, effect, lost
from forebay.model.state import FINISHED, RUNS_TO, Event, State, after, origins
from forebay.model.when import After, At

ERROR = v.Failure("E", "m")
NOW = 1_000
ROWS: list[tuple[v.Verdict, State, dict[str, object]]] = [
    (v.Done(b"1"), State.SUCCEEDED, {"attempts": 1}),
    (
        v.Retry(After(5), ERROR),
        State.RETRYING,
        {"attempts": 1, "due": 1_005, "unknown": Unknown.CLEAR, "error": ERROR},
    ),
    (v.Snooze(At(7)), State.SCHEDULED, {"due": 7, "unknown": Unknown.CLEAR}),
    (v.Snooze(After(0), unknown=True), State.SCHEDULED, {"due": NOW, "unknown": Unknown.BEGIN}),
    (v.Release(), State.READY, {"releases": 1}),
    (
        v.Dead(v.Reason.EXHAUSTED, ERROR),
        State.DEAD,
        {"attempts": 1, "reason": v.Reason.EXHAUSTED, "error": ERROR},
    ),
    (v.Dead(v.Reason.UNKNOWN_NAME, counts=False), State.DEAD, {"reason": v.Reason.UNKNOWN_NAME}),
    (v.Cancelled(), State.CANCELLED, {}),
    (v.Expired(), State.EXPIRED, {}),
    (v.Crashed(ERROR), State.READY, {"crashes": 1, "error": ERROR}),
]


@pytest.mark.parametrize(("verdict", "state", "changes"), ROWS)
def test_each_verdict_has_one_effect(verdict: v.Verdict, state: State, changes: dict[str, object]) -> None:
    found = effect(verdict, crashes=0, most_crashes=3, now=NOW)

    asked = state if state in FINISHED else State.CANCELLED
    expected = Effect(event=v.event_of(verdict), state=state, if_asked=asked)
    for name, value in changes.items():
        assert getattr(found, name) == value
    rest = {name for name in Effect.__struct_fields__ if name not in changes}
    assert {name: getattr(found, name) for name in rest} == {name: getattr(expected, name) for name in rest}
    assert found.attempts == v.spends_attempt(verdict)


@pytest.mark.parametrize("error", [None, ERROR])
def test_the_last_lease_lost_is_a_dead_letter_even_if_a_stop_was_asked_for(error: v.Failure | None) -> None:
    found = [lost(crashes=crashes, most_crashes=3, error=error) for crashes in range(3)]

    assert [one.state for one in found] == [State.READY, State.READY, State.DEAD]
    assert [one.if_asked for one in found] == [State.CANCELLED, State.CANCELLED, State.DEAD]
    assert [one.event for one in found] == [Event.LOSE, Event.LOSE, Event.BURY]
    assert [one.reason for one in found] == [None, None, v.Reason.CRASHED]
    assert [one.error for one in found][:2] == [error, error]
    assert found[2].error is not None
    assert found[2].error == (error or found[2].error)
    assert "lost 3 times" in found[2].error.message or error is not None


def test_origins_and_ends_are_read_out_of_the_table() -> None:
    for event in Event:
        assert origins(event) == {state for state in State if after(state, event) is not None}
    assert {event: then for event in Event if (then := after(State.RUNNING, event)) is not None} == RUNS_TO
