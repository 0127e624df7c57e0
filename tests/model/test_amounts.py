"""Counts, sizes and durations: read in every form there is, and refused by name wherever they are taken."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, QueueOptions, Retention, Retry, Snooze, Timing, WorkerOptions
from forebay.compose import Draft
from forebay.context import Context
from forebay.engine import timing_from
from forebay.errors import InvalidOption, quoted
from forebay.model.amounts import byte_size, whole_number
from forebay.model.names import check_name
from forebay.model.when import LONGEST, SECOND, span

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE: list[Any] = [
    10**400, 10**5_000, -(10**400), 2**63, 1e300, math.inf, -math.inf, math.nan, timedelta.max, timedelta.min,
    "9" * 400 + "s", "9" * 5_000, "1e999", "nan", "-1s", -1, True, False, None, b"1", "", "soon", Decimal(3), [1],
]  # fmt: skip
EDGES = [
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
]


async def take(items: list[int]) -> None: ...


def task(**options: Any) -> object:
    return App("memory://").task(**options)(take)


def draft(**options: Any) -> Draft:
    return Draft().with_options(options, "job.options()")  # type: ignore[arg-type]  # bad input is the point


DURATIONS: dict[str, Callable[[Any], object]] = {
    "delay": lambda bad: draft(delay=bad),
    "expires": lambda bad: draft(expires=bad),
    "deadline": lambda bad: draft(deadline=bad),
    "timeout": lambda bad: draft(timeout=bad),
    "timeout of a task": lambda bad: task(timeout=bad),
    "backoff": lambda bad: task(backoff=bad),
    "backoff_cap": lambda bad: task(backoff_cap=bad),
    "within": lambda bad: task(batch=2, within=bad),
    "block_for": lambda bad: QueueOptions(limit=1, when_full="block", block_for=bad),
    "Retry": lambda bad: Retry("busy", after=bad),
    "Snooze": Snooze,
    "Timing.lease": lambda bad: Timing(lease=bad),
    "Timing.heartbeat": lambda bad: Timing(heartbeat=bad),
    "Timing.sweep": lambda bad: Timing(sweep=bad),
    "Retention.succeeded": lambda bad: Retention(succeeded=bad),
    "Retention.dead": lambda bad: Retention(dead=bad),
    "stop_within": lambda bad: WorkerOptions(stop_within=bad),
    "grace": lambda bad: WorkerOptions(grace=bad),
    "settings": lambda bad: timing_from({"lease": bad if isinstance(bad, str) else "?", "heartbeat": "1s", "sweep": "1s"}),
    "patience": lambda bad: App("memory://").testing(patience=bad),
}  # fmt: skip
COUNTS: dict[str, Callable[[Any], object]] = {
    "priority": lambda bad: draft(priority=bad),
    "max_attempts": lambda bad: draft(max_attempts=bad),
    "priority of a task": lambda bad: task(priority=bad),
    "max_attempts of a task": lambda bad: task(max_attempts=bad),
    "batch": lambda bad: App("memory://").task(batch=bad),
    "limit": lambda bad: QueueOptions(limit=bad),
    "concurrency of a queue": lambda bad: QueueOptions(per_process=bad),
    "weight": lambda bad: QueueOptions(weight=bad),
    "crashes": lambda bad: Timing(crashes=bad),
    "succeeded_cap": lambda bad: Retention(succeeded_cap=bad),
    "dead_cap": lambda bad: Retention(dead_cap=bad),
    "concurrency": lambda bad: WorkerOptions(concurrency=bad),
    "weight of a queue": lambda bad: WorkerOptions(queues={"a": bad}),
    "pool_processes": lambda bad: WorkerOptions(pool_processes=bad),
}  # fmt: skip
SIZES: dict[str, Callable[[Any], object]] = {
    "max_body": lambda bad: App("memory://", max_body=bad),
    "byte_size": lambda bad: byte_size(bad, "max_memory"),
}


TAKEN: dict[str, Callable[[Any], object]] = DURATIONS | COUNTS
MAY_BE_NONE = {
    "within", "block_for", "Retry", "Retention.succeeded", "Retention.dead", "batch", "limit", "concurrency of a queue",
}  # fmt: skip
REFUSED = [
    pytest.param(where, bad, id=f"{where}-{quoted(bad)[:20]}")
    for where in TAKEN
    for bad in HUGE
    if bad is not None or where not in MAY_BE_NONE
]


@pytest.mark.parametrize(("where", "bad"), REFUSED)
def test_what_no_duration_and_no_count_can_be_is_one_sentence(where: str, bad: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        TAKEN[where](bad)

    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bad", [10**400, 10**5_000, -1, True, math.nan, math.inf, 1.5, "", "-1", "1.5G", "2T", "much", "9" * 5_000],
                         ids=lambda bad: quoted(bad)[:20])  # fmt: skip
@pytest.mark.parametrize("where", SIZES)
def test_what_no_size_can_be_is_one_sentence(where: str, bad: Any) -> None:
    with pytest.raises(InvalidOption, match="must be a number of bytes") as refused:
        SIZES[where](bad)

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("bad", EDGES, ids=str)
@pytest.mark.parametrize("where", ["delay", "expires", "deadline", "Retry", "Snooze"])
def test_a_moment_beyond_the_years_of_utc_is_refused(where: str, bad: datetime) -> None:
    with pytest.raises(InvalidOption, match=r"lies outside the years 1 to 9999 of UTC"):
        DURATIONS[where](bad)


def test_the_first_and_the_last_moment_of_utc_are_moments() -> None:
    for edge in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert draft(delay=edge).fixed


@pytest.mark.parametrize(
    ("value", "size"),
    [("0", 0), (0, 0), ("512M", 512 << 20), ("2g", 2 << 30), ("1 KiB", 1024), ("7B", 7), (1_048_576, 1 << 20), (" 4 MB ", 4 << 20)],
)  # fmt: skip
def test_a_size_is_a_number_with_a_unit(value: int | str, size: int) -> None:
    assert byte_size(value, "max_memory") == size


@pytest.mark.parametrize("value", ["30s", " 0.5m ", "30", timedelta(seconds=30), 30 * SECOND], ids=str)
def test_a_duration_of_an_engine_or_a_worker_is_written_in_any_form(value: Any) -> None:
    assert span(value, "lease") == 30 * SECOND
    assert Timing(lease=value) == Timing(lease=30 * SECOND)
    assert Retention(succeeded=value, dead=None) == Retention(succeeded=30 * SECOND)
    assert WorkerOptions(stop_within=value) == WorkerOptions(stop_within=30 * SECOND)


@pytest.mark.parametrize(
    ("say", "sentence"),
    [
        (lambda: Timing(lease=30, heartbeat=10), "lease must be at least 0.001 s, not 30; a bare number counts microseconds"),
        (lambda: Timing(sweep="0s"), "sweep must be at least 0.001 s, not '0s'"),
        (lambda: Timing(lease="20s"), "a lease must last at least three heartbeats"),
        (lambda: Retention(succeeded=86_400), r"Retention\(succeeded=...\) must be at least 1 s, not 86400; a bare number counts"),
        (lambda: Timing(lease=1.5), "lease must be text such as '30s', a timedelta, or whole microseconds"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_number_that_was_meant_as_seconds_is_refused(say: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        say()


def test_nothing_may_be_kept_at_all() -> None:
    assert Retention(succeeded=0, succeeded_cap=0).succeeded == 0


@pytest.mark.parametrize("text", ["", "-1", "1.5", "٣", "9" * 5_000, "many", "1_000", "0"])
def test_a_count_in_text_is_digits(text: str) -> None:
    with pytest.raises(InvalidOption, match="processes must be a whole number from 1 to"):
        whole_number(text, "processes")


def test_members_of_an_enum_are_the_plain_values_they_stand_for() -> None:
    class Level(IntEnum):
        HIGH = 9

    class Name(StrEnum):
        MAIL = "mail"

    fixed = draft(priority=Level.HIGH, key=Name.MAIL, headers={Name.MAIL: Name.MAIL}).fixed

    assert fixed == {"priority": 9, "key": "mail", "headers": {"mail": "mail"}}
    kinds = [type(fixed["priority"]), type(fixed["key"]), *map(type, *fixed["headers"].items())]
    assert kinds == [int, str, str, str]
    assert type(check_name(Name.MAIL, "queue")) is str


@pytest.mark.parametrize("done", [10**400, math.nan, math.inf, 10**5_000], ids=lambda done: quoted(done)[:20])
def test_a_progress_that_no_share_can_be_is_refused(done: Any) -> None:
    ctx = Context.__new__(Context)
    with pytest.raises(InvalidOption, match="progress must lie between 0 and 1"):
        ctx.progress(done, 3)


def test_a_wait_that_nobody_can_wait_is_refused() -> None:
    with (
        App("memory://") as app,
        pytest.raises(InvalidOption, match="timeout must be between 0 and 100 years"),
    ):
        app.handle("x").result_sync(10**400)


class Broken:
    def __repr__(self) -> str:
        raise ZeroDivisionError


def test_a_value_can_be_said_whatever_it_is() -> None:
    assert quoted(10**5_000) == "<int>"
    assert quoted(Broken()) == "<Broken>"
    assert quoted("x" * 99) == "'" + "x" * 56 + "..."
    assert LONGEST < 2**63
