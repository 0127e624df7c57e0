"""The durable steps of a message, as rows for people and as documents for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

from forebay.cli.output import Column, moment, span, timestamp
from forebay.model.flow import OVER
from forebay.model.message import JSON
from forebay.model.saved import Kind
from forebay.model.state import State

if TYPE_CHECKING:
    from forebay.model.query import TaskRecord
    from forebay.model.saved import SavedStep
    from forebay.model.when import Instant

COLUMNS: Final = (
    Column("step"), Column("kind"), Column("saved"), Column("took", right=True), Column("bytes", right=True), Column("try", right=True),
    Column("replays", right=True), Column("note", elastic=True),
)  # fmt: skip
SHOWN: Final = 50
"""Steps of a message that people are shown, the last ones."""


def rows(record: TaskRecord, steps: tuple[SavedStep, ...]) -> list[list[str]]:
    """A line for each step."""
    return [
        [
            step.name, step.kind.value, moment(step.at), "" if (took := _took(step)) is None else span(took),
            "" if step.body is None else f"{len(step.body):,}", str(step.number), str(replays(record, step)), _note(step),
        ]
        for step in steps
    ]  # fmt: skip


def documents(record: TaskRecord, steps: tuple[SavedStep, ...]) -> list[dict[str, Any]]:  # any JSON
    """Each step as a JSON document, without what it came to: that may be much."""
    return [
        {
            "name": step.name, "kind": step.kind.value, "position": step.position, "saved": timestamp(step.at),
            "took_us": _took(step), "bytes": None if step.body is None else len(step.body), "try": step.number,
            "replays": replays(record, step), "until": timestamp(step.due), "topic": step.topic, "key": step.key,
            "met": timestamp(step.met),
        }
        for step in steps
    ]  # fmt: skip


def results(steps: tuple[SavedStep, ...]) -> dict[str, Any]:  # any JSON
    """What steps came to, by their names; what is no JSON is left out."""
    return {
        step.name: msgspec.Raw(step.body)
        for step in steps
        if step.body is not None and step.content_type == JSON
    }


def replays(record: TaskRecord, step: SavedStep) -> int:
    """How many tries have begun since it was saved, of those that are told of: they had no need to run it."""
    begun: list[Instant] = [one.started for one in record.tries]
    if record.state is State.RUNNING and record.started is not None:
        begun.append(record.started)
    return sum(started > step.at for started in begun)


def _took(step: SavedStep) -> int | None:
    match step.kind:
        case Kind.STEP:
            return step.took
        case Kind.SLEEP:
            return None if step.due is None else max(step.due - step.at, 0)
        case Kind.WAIT:
            return None if step.met is None else step.met - step.at
        case Kind.VERSION:
            return None
        case _:
            assert_never(step.kind)


def _note(step: SavedStep) -> str:
    if step.topic is None:
        return f"until {moment(step.due)}" if step.kind is Kind.SLEEP else ""
    event = f"an event on {step.topic}" + ("" if step.key is None else f" with key {step.key}")
    if step.topic == OVER:
        event = f"the end of flow {step.key}"
    return (
        f"{event}, came {moment(step.met)}" if step.met is not None else f"{event}, until {moment(step.due)}"
    )
