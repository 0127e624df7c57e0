"""Looking at flows: records of their steps, and of the parents of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.model.flow import End
from forebay.model.state import State
from forebay.model.survey import Parent, StepRecord
from forebay.stores.flows import LOOKED_AT

if TYPE_CHECKING:
    from forebay.stores.memory.flows import Node
    from forebay.stores.memory.ledger import Ledger


def step_record(ledger: Ledger, node: Node) -> StepRecord:
    """A step as a value."""
    entry, step, parents = ledger.entries[node.id], node.step, node.parents
    return StepRecord(
        id=entry.id, name=step.name, task=entry.message.name, queue=entry.queue, state=entry.state, when=step.when, role=step.role,
        after=step.after[:LOOKED_AT], open=parents[End.OPEN], failed=parents[End.FAILED], skipped=parents[End.SKIPPED],
        attempts=entry.attempts, reason=entry.reason, error=entry.failure, started=entry.started, finished=entry.finished,
    )  # fmt: skip


def parent(ledger: Ledger, node: Node) -> Parent:
    """A step as its child sees it."""
    entry = ledger.entries[node.id]
    error = None if entry.state is State.SUCCEEDED else entry.failure
    return Parent(
        id=entry.id,
        name=node.step.name,
        state=entry.state,
        result=entry.result,
        reason=entry.reason,
        error=None if error is None else replace(error, traceback=""),
    )
