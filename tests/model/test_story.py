"""A try that spends no attempt has no number, whoever tells of it."""

from __future__ import annotations

import pytest

from forebay.handle import story
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.query import TaskRecord, Try
from forebay.model.state import Event, State
from forebay.model.story import attempts, numbered
from forebay.model.verdict import Failure, Reason

LATE = Failure("Deadline", "too late")
ERROR = Failure("ValueError", "no")


def record(
    *events: Event,
    spent: int,
    reason: Reason | None = None,
    error: Failure = ERROR,
    crashes: int = 0,
    releases: int = 0,
) -> TaskRecord:
    tries = tuple(
        Try(number=n, worker="w", started=0, ended=1, verdict=event, error=error)
        for n, event in enumerate(events, 1)
    )
    message = Message(id=MessageId("1"), name="bill", queue="mail", body=b"{}")
    return TaskRecord(
        id=EntryId("1"), message=message, queue="mail", state=State.DEAD, created=0, attempts=spent, reason=reason, tries=tries,
        crashes=crashes, releases=releases,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "numbers"),
    [
        (record(Event.RETRY, Event.RETRY, Event.BURY, spent=3, reason=Reason.EXHAUSTED), [1, 2, 3]),
        (record(Event.SNOOZE, Event.RELEASE, Event.RETRY, Event.DONE, spent=2), [None, None, 1, 2]),
        (record(Event.SNOOZE, Event.SNOOZE, Event.BURY, spent=0, reason=Reason.UNKNOWN_NAME), [None, None, None]),
        (record(Event.RETRY, Event.LOSE, Event.LOSE, Event.BURY, spent=1, reason=Reason.CRASHED), [1, None, None, None]),
        (record(Event.BURY, spent=0, reason=Reason.UNDECODABLE), [None]),
        (record(Event.RETRY, Event.BURY, spent=2, reason=Reason.DEADLINE), [1, 2]),
        (record(Event.RETRY, Event.BURY, spent=1, reason=Reason.DEADLINE, error=LATE), [1, None]),
        # Redriven after two attempts.
        (record(Event.RETRY, Event.BURY, Event.RETRY, Event.BURY, spent=2, reason=Reason.EXHAUSTED), [None, None, 1, 2]),
    ],
)  # fmt: skip
def test_attempts_are_numbered_and_nothing_else(told: TaskRecord, numbers: list[int | None]) -> None:
    assert [number for number, _ in numbered(told)] == numbers
    assert [": attempt " in line for line in story(told).splitlines()] == [
        number is not None for number in numbers
    ]


def test_what_was_lost_or_handed_back_is_told_apart() -> None:
    assert attempts(record(spent=2, crashes=1, releases=3)) == "2, 1 lost with its worker, 3 handed back"
