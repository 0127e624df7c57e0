"""What a message waits for, as its saved steps tell."""

from __future__ import annotations

from forebay.model.message import Message, MessageId
from forebay.model.saved import LARGEST_STEP, NEVER, Kind, SavedStep, event_result, wait_of, waited_for
from forebay.model.waits import ForEvent, ForSleep

NAP = SavedStep(name="nap", kind=Kind.SLEEP, due=100)
NEWS = SavedStep(name="news", kind=Kind.WAIT, due=200, topic="news", key="7")
DONE = SavedStep(name="charge", body=b"1")


def test_the_next_of_sleeps_and_waits_is_what_is_waited_for() -> None:
    assert waited_for([DONE, NEWS, NAP], 99) == ForSleep(step="nap", until=100)
    assert waited_for([DONE, NEWS, NAP], 100) == ForEvent(topic="news", key="7", until=200)
    assert waited_for([DONE], 100) is None
    assert waited_for([NEWS, NAP], 201) is None


def test_an_event_that_has_come_is_not_waited_for() -> None:
    met = SavedStep(name="news", kind=Kind.WAIT, due=200, topic="news", met=50, body=b"1")

    assert waited_for([met], 60) is None
    assert (met.size, NEWS.size, NAP.size, DONE.size) == (1, LARGEST_STEP, 0, 1)


def test_a_step_of_a_flow_waits_for_its_name_for_ever() -> None:
    message = Message(id=MessageId("f:paid"), name="paid", queue="_events", key="7")

    assert waited_for([wait_of(message)], 7) == ForEvent(topic="paid", key="7", until=None)
    assert wait_of(message).due == NEVER


def test_an_event_is_json_to_a_flow() -> None:
    assert event_result(b'{"a":1}', "application/json") == b'{"a":1}'
    assert event_result(b"\xff", "text/plain") == b'"/w=="'
    assert event_result(None, "text/plain") is None


def test_a_step_is_due_when_it_says_or_so_long_after_it_is_saved() -> None:
    assert NAP.due_from(7) == 100
    assert SavedStep(name="nap", kind=Kind.SLEEP, lasts=5).due_from(7) == 12
