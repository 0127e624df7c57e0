"""What was sent on a stage can be asked for in the words of the send, and a failure says what there was instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import ANY

import pytest

from forebay import App
from forebay.errors import InvalidArguments, InvalidOption
from forebay.testing.stage import SyncStage

app = App("memory://", name="shop")


@dataclass
class Order:
    id: int
    email: str = ""


@app.task(queue="mail", priority=6)
async def receipt(order_id: int, email: str, urgent: bool = False) -> None: ...


@app.task
async def ship(order: Order, key: str = "", *boxes: int) -> None: ...


@app.task
async def anything(**rest: Any) -> None: ...


@pytest.fixture
def t() -> Iterator[SyncStage]:
    with app.testing() as stage:
        yield stage


def test_arguments_are_bound_by_the_signature(t: SyncStage) -> None:
    receipt.send_sync(7, email="ada@example.org")

    for found in (
        t.assert_sent(receipt),
        t.assert_sent(receipt, 7),
        t.assert_sent(receipt, order_id=7),
        t.assert_sent(receipt, 7, "ada@example.org", False),
        t.assert_sent(receipt, ANY, email=ANY),
        t.assert_sent("receipt", 7, "ada@example.org", times=1),
    ):
        assert found == t.sent(receipt)
    (sent,) = t.sent("receipt")
    assert sent.arguments == {"order_id": 7, "email": "ada@example.org", "urgent": False}
    assert (sent.name, sent.queue, sent.at) == ("receipt", "mail", t.now)
    t.assert_not_sent(receipt, 8)
    t.assert_not_sent(receipt, 7, urgent=True)


def test_arguments_are_read_with_their_types(t: SyncStage) -> None:
    ship.send_sync(Order(1, "x"), "a", 1, 2)

    assert t.sent(ship)[0].arguments == {"order": Order(1, "x"), "key": "a", "boxes": (1, 2)}
    t.assert_sent(ship, Order(1, "x"), "a", 1, 2)
    t.assert_sent(ship, {"id": 1, "email": "x"})
    t.assert_not_sent(ship, Order(1, "x"), "a", 1)


def test_options_are_asked_for_as_they_are_sent(t: SyncStage) -> None:
    options = {
        "delay": "5m",
        "key": "seven",
        "headers": {"who": "me", "trace": "1"},
        "queue": "bulk",
        "id": "one",
    }
    receipt.options(**options).send_sync(7, "x")  # type: ignore[arg-type]  # as a user writes them

    t.assert_sent(
        receipt, 7, delay="5m", key="seven", queue="bulk", id="one", headers={"who": "me"}, priority=6
    )
    t.assert_sent(receipt, 7, delay=300)
    t.assert_sent(receipt.options(delay="5m", key="seven"), 7)
    t.assert_not_sent(receipt, 7, delay="6m")
    t.assert_not_sent(receipt.options(key="eight"), 7)
    t.assert_not_sent(receipt, headers={"who": "you"})
    t.assert_not_sent(receipt, delay=datetime(2031, 1, 1, tzinfo=UTC))


def test_a_parameter_goes_before_an_option_of_the_same_name(t: SyncStage) -> None:
    ship.options(key="option").send_sync(Order(1), key="argument")

    t.assert_sent(ship, key="argument")
    t.assert_sent(ship.options(key="option"))
    t.assert_not_sent(ship, key="option")


def test_tasks_that_are_not_declared_here_are_plain_json(t: SyncStage) -> None:
    app.send_sync("stranger", 1, [2], queue="far", who="me")
    app.send_sync("positional", 1, 2)
    anything.send_sync(key=1, more=[2])

    t.assert_sent("stranger", 1, [2], who="me", queue="far")
    t.assert_sent("positional", 1, 2)
    t.assert_sent(anything, key=1, more=[2])
    t.assert_not_sent("positional", 1)
    assert t.sent("stranger")[0].arguments == {"*": [1, [2]], "who": "me"}


def test_a_duplicate_was_not_sent(t: SyncStage) -> None:
    for _ in range(2):
        receipt.options(unique="7").send_sync(7, "x")
    t.assert_sent(receipt, times=1, unique="7")


def test_events_are_read_as_what_is_wanted(t: SyncStage) -> None:
    app.publish_sync("orders.placed", Order(7, "x"), headers={"who": "me"})
    app.publish_sync("blobs", b"\x00")

    t.assert_published("orders.placed")
    t.assert_published("orders.placed", {"id": 7, "email": "x"}, headers={"who": "me"}, times=1)
    t.assert_published("orders.placed", Order(7, "x"))
    t.assert_not_published("orders.placed", {"id": 8})
    t.assert_not_published("orders.lost")
    assert [e.event for e in t.published("orders.*", Order)] == [Order(7, "x")]
    assert [(e.topic, e.event, e.groups) for e in t.published()][1] == ("blobs", b"\x00", 0)
    assert t.sent() == []


# -- failures


def test_a_failure_shows_what_was_sent_instead_nearest_first(t: SyncStage) -> None:
    receipt.send_sync(1, "bob@example.org")
    receipt.options(delay="5m").send_sync(7, "bob@example.org")
    ship.send_sync(Order(1))

    with pytest.raises(AssertionError) as failed:
        t.assert_sent(receipt, 7, "ada@example.org", delay="5m")

    assert str(failed.value).splitlines() == [
        "receipt(order_id=7, email='ada@example.org') [delay=5m] was not sent.",
        "Of receipt, nearest first:",
        (
            "  receipt(order_id=7, email='bob@example.org', urgent=False) [delay=5m, priority=6]   "
            "email='bob@example.org', not 'ada@example.org'"
        ),
        (
            "  receipt(order_id=1, email='bob@example.org', urgent=False) [priority=6]   "
            "order_id=1, not 7; email='bob@example.org', not 'ada@example.org'; delay=None, not 5m"
        ),
        "Other tasks: ship (once)",
    ]


def test_a_failure_says_how_often(t: SyncStage) -> None:
    receipt.send_sync(1, "x")
    receipt.send_sync(1, "x")

    with pytest.raises(AssertionError, match=r"^receipt\(order_id=1\) was sent twice, not once\.\n"):
        t.assert_sent(receipt, 1, times=1)
    with pytest.raises(AssertionError, match=r"^receipt was sent, and should not have been"):
        t.assert_not_sent(receipt)
    with pytest.raises(AssertionError, match=r"^ship was not sent\.\nOther tasks: receipt \(twice\)$"):
        t.assert_sent(ship)


def test_a_failure_says_that_there_was_nothing(t: SyncStage) -> None:
    with pytest.raises(AssertionError, match=r"^receipt was not sent\.\nNo task was sent\.$"):
        t.assert_sent(receipt)
    with pytest.raises(AssertionError, match=r"^orders\.placed\(event=7\) was not published\.\nNo event was"):
        t.assert_published("orders.placed", 7)


def test_a_failure_stays_readable(t: SyncStage) -> None:
    for n in range(100):
        receipt.send_sync(n, "x" * 10_000)
    for n in range(100):
        app.send_sync(f"other{n}")

    with pytest.raises(AssertionError) as failed:
        t.assert_sent(receipt, 1_000)
    assert "  and 92 more" in str(failed.value)
    assert "and 92 more" in str(failed.value).splitlines()[-1]
    assert len(str(failed.value)) < 4_000


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (
            lambda t: t.assert_sent(receipt, 1, "x", True, 4),
            InvalidArguments,
            "does not take these arguments",
        ),
        (
            lambda t: t.assert_sent(receipt, mail="x"),
            InvalidArguments,
            "no parameter 'mail'.*order_id, email, urgent",
        ),
        (lambda t: t.assert_sent(receipt, delay="soon"), InvalidOption, "delay is not a duration"),
        (lambda t: t.assert_sent(print), InvalidOption, "decorated with @app.task"),
        (lambda t: t.assert_published("a", 1, 2), InvalidOption, "at most one event"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    t: SyncStage, ask: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(t)  # type: ignore[operator]  # a lambda
