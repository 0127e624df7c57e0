"""Durable steps: kept under the lease of the entry that runs, and read back. Runs inside a write transaction, but for what only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Settled
from forebay.model.message import JSON
from forebay.model.saved import Kind, SavedStep, waited_for
from forebay.stores.sqlite.rows import step_row
from forebay.stores.sqlite.session import numbers
from forebay.stores.sqlite.settle import seqs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.engine import Delivery
    from forebay.model.message import EntryId
    from forebay.model.waits import Waits
    from forebay.stores.sqlite.session import Session, Value


def save(session: Session, delivery: Delivery, steps: Sequence[SavedStep]) -> Settled:
    """Keep steps of a try that is still under its lease."""
    (seq,) = seqs_of(session, [delivery])
    held = session.rows("steps_fence", {"entry": seq, "token": delivery.token})
    if not held:
        return Settled.STALE
    number: int = held[0][0]
    session.each("steps_save", [step_row(seq, number, session.now, step) for step in steps])
    return Settled.OK


def saved(session: Session, key: EntryId) -> tuple[SavedStep, ...]:
    """The steps of an entry."""
    return tuple(
        SavedStep(
            name=name, position=position, kind=Kind(kind), number=number, at=at, took=took, due=due, topic=topic, key=of, met=met,
            body=body, content_type=content_type or JSON,
        )
        for name, position, kind, number, at, took, due, topic, of, met, body, content_type in session.rows("steps_of", {"id": key})
    )  # fmt: skip


def waits(session: Session, seqs: Iterable[int]) -> dict[int, Waits]:
    """What those of some entries wait for that wait for the end of a sleep, or for an event."""
    found: dict[int, list[SavedStep]] = {}
    asked: dict[str, Value] = {"entries": numbers(seqs), "now": session.now}
    for seq, name, kind, due, topic, key in session.rows("steps_waits", asked):
        step = SavedStep(name=name, kind=Kind(kind), due=due, topic=topic, key=key)
        found.setdefault(seq, []).append(step)
    told = {seq: waited_for(steps, session.now) for seq, steps in found.items()}
    return {seq: one for seq, one in told.items() if one is not None}
