"""Why a message waits: a sentence for each kind of wait."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from forebay.model.message import EntryId, Message, MessageId
from forebay.model.query import TaskRecord
from forebay.model.state import WAITING, State
from forebay.model.unique import Conflict, Hold
from forebay.model.waits import ForEvent, ForLine, ForParents, ForRoom, ForSleep, ForTokens, Waits
from forebay.model.why import why

NOON = 1_767_268_800_000_000
WAITS: list[tuple[Waits, str]] = [
    (ForParents(open=3, first=("fetch", "resize")), "waits for 3 steps before it: fetch, resize, ..."),
    (ForParents(open=1, first=("fetch",)), "waits for 1 step before it: fetch"),
    (ForLine(key="k", ahead=4), "waits for its turn in the line of key 'k': 4 before it"),
    (ForRoom(of="queue 'mail'", most=50), "waits for one that runs to end: queue 'mail' may run 50 at once"),
    (
        ForTokens(of="queue 'mail'", rate="5/s", until=NOON),
        "waits for the rate of queue 'mail', 5/s: the next may run 2026-01-01 12:00:00Z",
    ),
    (ForEvent(topic="paid", key="7", until=NOON), "waits for an event on 'paid' with key '7' until 2026-01-01 12:00:00Z"),
    (ForEvent(topic="_flows.over", key="f", until=NOON), "waits for the end of flow 'f' until 2026-01-01 12:00:00Z"),
    (ForEvent(topic="paid"), "waits for an event on 'paid'"),
    (ForSleep(step="sleep", until=NOON), "sleeps in step 'sleep' until 2026-01-01 12:00:00Z"),
]  # fmt: skip


def _record(state: State, due: int | None = None, waits: Waits | None = None) -> TaskRecord:
    message = Message(id=MessageId("1"), name="greet", queue="mail")
    return TaskRecord(
        id=EntryId("1"), message=message, queue="mail", state=state, created=0, due=due, waits=waits
    )


@pytest.mark.parametrize(("waits", "sentence"), WAITS)
def test_what_waits_says_what_for(waits: Waits, sentence: str) -> None:
    assert why(_record(State.BLOCKED, waits=waits)) == sentence


def test_what_waits_for_its_time_or_a_worker_says_so() -> None:
    assert why(_record(State.READY)) == "waits for a worker of queue 'mail'"
    assert why(_record(State.SCHEDULED, NOON)) == "waits for its time, 2026-01-01 12:00:00Z"
    assert why(_record(State.RETRYING, NOON)) == "waits for its next try, 2026-01-01 12:00:00Z"


@pytest.mark.parametrize(("due", "until"), [(NOON - 7, "12:00:00"), (NOON + 5_000_000, "12:00:05")])
def test_what_gathers_may_be_put_off_until_its_first_has_waited(due: int, until: str) -> None:
    hold = Hold(states=WAITING, conflict=Conflict.JOIN, longest=NOON, most=5)
    record = _record(State.SCHEDULED, due)
    record = replace(record, message=replace(record.message, hold=hold))

    assert why(record) == f"gathers with others, until 2026-01-01 {until}Z at the latest"


@pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED, State.DEAD])
def test_what_does_not_wait_has_no_reason(state: State) -> None:
    assert why(_record(state)) is None
