"""Flows: steps that wait for others. What a step is, and the one decision of when it runs; pure.

A step's parents are told to it one by one as they come to an end, and it keeps three numbers: how many are open, have failed, were skipped.
What becomes of it follows from those (`stands`), in whatever order they came, and again if a parent is opened once more by a retry.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.model.state import State
from forebay.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_FLOW: Final = 100_000
"""Steps that are sent at once; a flow grows further from its steps."""
MOST_PARENTS: Final = 100_000
"""Parents of one step."""
MOST_EDGES: Final = 1_000_000
"""Parents of all the steps that are sent at once, together."""
BY_FLOW: Final = frozenset({Reason.PARENT_FAILED, Reason.SKIPPED, Reason.DUPLICATE})
"""Why a step is cancelled that nobody has cancelled: it opens again with what it waits for, and not by itself."""


class Condition(StrEnum):
    """When a step runs: once all its parents have succeeded, as soon as one has failed, or once all are over, however."""

    ALL_SUCCEEDED = "all_succeeded"
    ANY_FAILED = "any_failed"
    ALL_DONE = "all_done"


class Gather(StrEnum):
    """What a step is handed besides its own arguments: nothing, the result of its one parent, or a list of the results of all, in the
    order in which it names them (None for one that has none).
    """

    NONE = "none"
    ONE = "one"
    ALL = "all"


class Role(StrEnum):
    """What a step is for: work; to wait for an event; or what runs once the rest of its flow is over, well or not."""

    WORK = "work"
    EVENT = "event"
    ON_DONE = "on_done"
    ON_FAILED = "on_failed"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message's place in a flow. ``name``: unlike any other of the flow. ``after``: the ids of its parents, in the same flow.

    Parents come before their children wherever steps are published together, so that no step can wait for itself. A store keeps ``after``
    apart, and hands it out by `Steps` only: a delivery's step has none.
    """

    flow: str
    name: str
    after: tuple[str, ...] = ()
    when: Condition = Condition.ALL_SUCCEEDED
    gather: Gather = Gather.NONE
    role: Role = Role.WORK


class FlowState(StrEnum):
    """Where a flow stands: as long as a step is open it runs; then it has failed if a step failed for its own sake, was cancelled if one
    was, and has succeeded else.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class End(IntEnum):
    """How a step has ended, as those that wait for it see it; OPEN: it has not."""

    OPEN = 0
    SUCCEEDED = 1
    FAILED = 2
    SKIPPED = 3


class Move(StrEnum):
    """What becomes of a waiting step: it waits on, runs, or is cancelled, since a parent failed or since it is not needed."""

    WAIT = "wait"
    RUN = "run"
    FAIL = "fail"
    SKIP = "skip"


OVER: Final = "_flows.over"
"""The topic on which the end of a flow is an event, with the flow's id as its key, for handlers that wait for it."""
HOOKS: Final = frozenset({Role.ON_DONE, Role.ON_FAILED})
"""What waits for its whole flow, and for no step of it."""


def kind_of(state: State, reason: Reason | None) -> State | Reason:
    """As what a step is counted: its state or, if its flow has cancelled it, why."""
    return reason if state is State.CANCELLED and reason in BY_FLOW and reason is not None else state


def end_of(state: State, reason: Reason | None) -> End:
    """How those that wait for it see a step in ``state``."""
    return seen(kind_of(state, reason))


def seen(kind: State | Reason) -> End:
    """How those that wait for it see a step of one kind."""
    match kind:
        case State.SUCCEEDED:
            return End.SUCCEEDED
        case Reason.SKIPPED | Reason.DUPLICATE:
            return End.SKIPPED
        case State.DEAD | State.CANCELLED | State.EXPIRED | Reason.PARENT_FAILED:
            return End.FAILED
        case _:
            return End.OPEN


def stands(when: Condition, *, open_: int, failed: int, skipped: int) -> Move:
    """What becomes of a step that waits, with so many parents open, failed and skipped (the others have succeeded).

    Other than to wait, nothing that it says is changed by what becomes of the parents that are open: so a step that is not needed, as a
    parent was skipped, waits until they are over, for one of them may fail.

    >>> stands(Condition.ALL_SUCCEEDED, open_=3, failed=1, skipped=0)
    <Move.FAIL: 'fail'>
    """
    match when:
        case Condition.ALL_SUCCEEDED if failed:
            return Move.FAIL
        case Condition.ALL_SUCCEEDED if skipped and not open_:
            return Move.SKIP
        case Condition.ANY_FAILED if failed:
            return Move.RUN
        case Condition.ANY_FAILED if not open_:
            return Move.SKIP
        case _:
            return Move.WAIT if open_ else Move.RUN


def hook_stands(role: Role, *, open_: int, failed: int) -> Move:
    """The same of what waits for its flow, with so many of the other steps open and failed."""
    if open_:
        return Move.WAIT
    return Move.RUN if (role is Role.ON_FAILED) is bool(failed) else Move.SKIP


def turned(kind: State | Reason, move: Move, *, released: bool) -> bool:
    """Whether ``move`` changes how a step stands. What was ``released``, to run or to wait for an event, goes its own way from there.

    >>> turned(Reason.PARENT_FAILED, Move.WAIT, released=False), turned(State.CANCELLED, Move.WAIT, released=False)
    (True, False)
    """
    match kind:
        case State.BLOCKED:
            return not released and move is not Move.WAIT
        case Reason.PARENT_FAILED:
            return move is not Move.FAIL
        case Reason.SKIPPED:
            return move is not Move.SKIP
        case _:
            return False


def state_of(numbers: Mapping[State | Reason, int]) -> FlowState:
    """Where a flow stands, by how many of its steps are of which kind.

    >>> state_of({State.SUCCEEDED: 2, Reason.SKIPPED: 1})
    <FlowState.SUCCEEDED: 'succeeded'>
    """
    there = {kind for kind, number in numbers.items() if number}
    if any(seen(kind) is End.OPEN for kind in there):
        return FlowState.RUNNING
    if there & {State.DEAD, State.EXPIRED}:
        return FlowState.FAILED
    return FlowState.CANCELLED if State.CANCELLED in there else FlowState.SUCCEEDED


def by_state(numbers: Mapping[State | Reason, int]) -> dict[State, int]:
    """The same numbers by state alone."""
    found: dict[State, int] = {}
    for kind, number in numbers.items():
        state = kind if isinstance(kind, State) else State.CANCELLED
        if number:
            found[state] = found.get(state, 0) + number
    return found


def kept_as(state: FlowState) -> State:
    """The state whose retention is that of a flow that is over."""
    match state:
        case FlowState.SUCCEEDED:
            return State.SUCCEEDED
        case FlowState.FAILED:
            return State.DEAD
        case _:
            return State.CANCELLED
