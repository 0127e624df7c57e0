"""The judge is judged: a clean history passes, and each planted bug is caught, by its own name and no other."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from forebay.testing.clock import VirtualClock
from forebay.testing.history import Event, Log, Op, Outcome, Report, Witness, check, read

SECOND = 1_000_000


class Story:
    """Writes a history that a correct system could have left, to be bent afterwards."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._t = 0

    def note(self, op: Op, id: str, node: str = "w1", **more: object) -> None:
        self._t += 1_000
        self.events.append(msgspec.convert({"t": self._t, "node": node, "op": op, "id": id, **more}, Event))

    def run(self, id: str, attempt: int = 0, *, lease: str = "", end: Op = Op.ACK, node: str = "w1") -> None:
        lease = lease or f"{id}/{attempt}"
        self.note(Op.START, id, node, attempt=attempt, lease=lease)
        if end is Op.ACK:
            self.note(Op.EFFECT, id, node, lease=lease)
        self.note(Op.FINISH, id, node, lease=lease, outcome=Outcome.OK if end is Op.ACK else Outcome.FAIL)
        self.note(end, id, node, lease=lease)


def _clean(messages: int = 1_000) -> list[Event]:
    """Sends, some in doubt, some refused, some late; tries that fail, crash, are handed back, end; two nodes; one redrive."""
    story, dice = Story(), random.Random(7)
    for number in range(messages):
        message = f"m{number}"
        story.note(Op.SEND, message, "sender", outcome=dice.choice([Outcome.OK] * 8 + [Outcome.UNKNOWN]))
        for attempt in range(dice.randrange(3)):
            story.run(message, attempt, end=Op.RETRY, node=dice.choice(["w1", "w2"]))
        last = sum(e.op is Op.RETRY for e in story.events if e.id == message)
        if dice.random() < 0.1:
            story.note(Op.START, message, "w3", attempt=last, lease=f"crashed {message}")
            story.note(Op.LEASE_LOST, message, "sweeper", lease=f"crashed {message}")
        story.run(
            message,
            last,
            lease=f"last {message}",
            end=dice.choice([Op.ACK, Op.ACK, Op.DEAD]),
            node=dice.choice(["w1", "w2"]),
        )
    story.note(Op.SEND, "refused", "sender", outcome=Outcome.FAIL)
    story.note(Op.SEND, "m0", "person")
    story.run("m0")
    return story.events


def _kinds(report: Report) -> set[str]:
    return {kind for kind, found in report.faults().items() if found}


def _without(events: list[Event], *ops: Op, id: str) -> list[Event]:
    return [event for event in events if event.id != id or event.op not in ops]


def test_a_clean_history_passes() -> None:
    report = check(_clean())

    assert report.ok, report
    assert _kinds(report) == set()
    assert report.recovered > 50
    assert report.sent + report.recovered == 1_000
    assert report.ended == 1_000


def test_one_dropped_in_a_thousand_is_lost() -> None:
    sends = [event for event in _clean() if event.op is Op.SEND and event.outcome is Outcome.OK]
    dropped = sends[500].id
    report = check([event for event in _clean() if event.id != dropped or event.op is Op.SEND])

    assert _kinds(report) == {"lost"}
    assert [finding.id for finding in report.lost] == [dropped]
    assert f"lost: {dropped}: accepted" in str(report)


def test_a_send_in_doubt_that_never_ran_is_not_lost() -> None:
    story = Story()
    story.note(Op.SEND, "m", outcome=Outcome.UNKNOWN)

    assert check(story.events).ok


def test_what_the_store_still_holds_is_stuck_and_not_lost() -> None:
    story = Story()
    for message in ("held", "gone"):
        story.note(Op.SEND, message)

    report = check(story.events, waiting={"held"})

    assert [finding.id for finding in report.stuck] == ["held"]
    assert [finding.id for finding in report.lost] == ["gone"]


def test_what_started_and_never_ended_is_stuck() -> None:
    report = check(_without(_clean(), Op.ACK, Op.DEAD, Op.FINISH, id="m999"))

    assert _kinds(report) == {"stuck"}


def test_what_started_and_left_the_store_is_lost() -> None:
    report = check(_without(_clean(), Op.ACK, Op.DEAD, Op.FINISH, id="m999"), waiting=())

    assert _kinds(report) == {"lost"}


def test_an_acknowledgement_in_doubt_is_no_loss() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    for op in (Op.START, Op.FINISH):
        story.note(op, "m", lease="a")
    story.note(Op.ACK, "m", lease="a", outcome=Outcome.UNKNOWN)

    assert check(story.events, waiting=()).ok
    assert _kinds(check(story.events, waiting={"m"})) == {"stuck"}


def test_an_acknowledgement_before_the_run_is_caught() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    for op in (Op.START, Op.ACK, Op.EFFECT, Op.FINISH):
        story.note(op, "m", lease="a")

    assert _kinds(check(story.events)) == {"hasty"}


def test_an_acknowledgement_before_a_run_that_then_crashed_is_caught() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.ACK, "m", lease="a")

    assert _kinds(check(story.events)) == {"hasty"}


def test_an_effect_that_happened_twice_is_caught_unless_allowed() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    for lease in ("a", "b"):
        story.note(Op.START, "m", lease=lease, attempt=0)
        story.note(Op.EFFECT, "m", lease=lease)
        if lease == "a":
            story.note(Op.LEASE_LOST, "m", lease=lease)
    story.note(Op.FINISH, "m", lease="b")
    story.note(Op.ACK, "m", lease="b")

    assert _kinds(check(story.events)) == {"duplicate"}
    assert not check(story.events).ok
    assert check(story.events, duplicates_allowed=1).ok


@pytest.mark.parametrize("outcome", [None, Outcome.FAIL])
def test_what_nobody_sent_is_unexpected(outcome: Outcome | None) -> None:
    story = Story()
    if outcome is not None:
        story.note(Op.SEND, "ghost", outcome=outcome)
    story.run("ghost")

    assert _kinds(check(story.events)) == {"unexpected"}


def test_a_start_noted_before_its_sends_answer_is_expected() -> None:
    story = Story()
    story.run("m")
    story.note(Op.SEND, "m", due=0)

    assert check(story.events).ok


@pytest.mark.parametrize("early", [1, 3_600 * SECOND])
def test_a_start_before_a_delay_is_over_is_early(early: int) -> None:
    story = Story()
    story.note(Op.SEND, "m", due=2_000 + early)
    story.run("m")

    assert _kinds(check(story.events)) == {"early"}


def test_a_retry_before_its_time_is_early() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.run("m", 0, end=Op.RETRY)
    due = story.events[-1].t + 5_000
    story.events[-1] = msgspec.structs.replace(story.events[-1], due=due)
    story.run("m", 1)

    assert _kinds(check(story.events)) == {"early"}
    late = [msgspec.structs.replace(event, t=event.t + 5_000) for event in story.events[4:]]
    assert check([*story.events[:4], *late]).ok


def test_two_live_leases_overlap() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.START, "m", "w1", lease="a")
    story.note(Op.START, "m", "w2", lease="b")
    story.note(Op.EFFECT, "m", "w2", lease="b")
    story.note(Op.FINISH, "m", "w2", lease="b")
    story.note(Op.ACK, "m", "w2", lease="b")

    assert _kinds(check(story.events)) == {"overlap"}


def test_a_killed_nodes_leases_end_with_it() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.START, "m", "w1", lease="a")
    story.note(Op.LEASE_LOST, "", "w1")
    story.run("m", node="w2", lease="b")

    assert check(story.events).ok


def test_a_late_settle_that_was_refused_ends_nothing() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.START, "m", "w1", lease="a")
    story.note(Op.LEASE_LOST, "m", "sweeper", lease="a")
    story.note(Op.START, "m", "w2", lease="b")
    story.note(Op.FINISH, "m", "w1", lease="a")
    story.note(Op.ACK, "m", "w1", lease="a", outcome=Outcome.FAIL)
    story.note(Op.FINISH, "m", "w2", lease="b")
    story.note(Op.ACK, "m", "w2", lease="b")

    assert check(story.events).ok


def test_an_answer_noted_late_is_no_overlap_within_the_slack() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.START, "m", "w1", lease="a", attempt=0)
    story.note(Op.FINISH, "m", "w1", lease="a", outcome=Outcome.FAIL)
    story.note(Op.START, "m", "w2", lease="b", attempt=1)
    story.note(Op.RETRY, "m", "w1", lease="a")
    story.note(Op.FINISH, "m", "w2", lease="b")
    story.note(Op.ACK, "m", "w2", lease="b")

    assert _kinds(check(story.events)) == {"overlap", "miscounted"}
    assert check(story.events, slack=2_000).ok


@pytest.mark.parametrize("end", [Op.ACK, Op.DEAD, Op.CANCEL])
def test_what_ended_and_starts_again_is_resurrected(end: Op) -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.START, "m", lease="a", attempt=0)
    story.note(Op.FINISH, "m", lease="a")
    story.note(end, "m", lease="a")
    story.note(Op.START, "m", lease="b", attempt=0)

    assert _kinds(check(story.events)) == {"resurrected"}


@pytest.mark.parametrize("second", [0, 2])
def test_attempts_that_skip_or_stand_still_are_caught(second: int) -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.run("m", 0, end=Op.RETRY)
    story.run("m", second, lease="b")

    assert _kinds(check(story.events)) == {"miscounted"}


def test_a_crash_spends_no_attempt() -> None:
    story = Story()
    story.note(Op.SEND, "m")
    story.note(Op.START, "m", lease="a", attempt=0)
    story.note(Op.LEASE_LOST, "m", lease="a")
    story.run("m", 1, lease="b")

    assert _kinds(check(story.events)) == {"miscounted"}


def test_a_report_is_readable() -> None:
    story = Story()
    for number in range(8):
        story.note(Op.SEND, f"m{number}")

    lines = str(check(story.events)).splitlines()

    assert lines[0].startswith("8 sent, 0 ended, 0 recovered: 8 lost, 0 duplicate")
    assert lines[1] == "  lost: m0: accepted, started 0 times, and gone"
    assert lines[-1] == "  lost: and 3 more"


def test_what_witnesses_note_is_read_again(tmp_path: Path) -> None:
    clock, path = VirtualClock(), tmp_path / "history.jsonl"
    one, two = Log(path), Log(path)
    Witness(one, "sender", clock).saw(Op.SEND, "ä", due=clock.now() + 5)
    Witness(two, "w1", clock).saw(Op.START, "ä", attempt=0, lease="l")
    for log in (one, two):
        log.close()
    with path.open("ab") as torn:
        torn.write(b'{"t":3,"no')

    assert read(path) == [
        Event(t=clock.now(), node="sender", op=Op.SEND, id="ä", due=clock.now() + 5),
        Event(t=clock.now(), node="w1", op=Op.START, id="ä", attempt=0, lease="l"),
    ]
