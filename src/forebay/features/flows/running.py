"""A flow from inside: what a step that runs may know of it, and add to it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload

import msgspec

from forebay.codec import json
from forebay.features.flows.node import Growing, Node
from forebay.features.flows.plan import Plan
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.verdict import Failure, Reason
from forebay.model.when import At

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.compose import Composer
    from forebay.engine import Delivery
    from forebay.features.flows.node import Said
    from forebay.model.flow import Step
    from forebay.model.message import Message
    from forebay.model.survey import Parent

T = TypeVar("T")
LONGEST_STEM: Final = 60
"""Characters of a step's name with which the names of the steps begin that it adds; a longer one is told apart by a digest."""


class Collect(Protocol):
    """Takes what is to leave with the success of a handler, all of it or nothing."""

    def __call__(self, *messages: Message) -> None:
        """Take it. Raises `SendError` for too many."""
        ...


class ParentResult(msgspec.Struct, frozen=True):
    """A step that another one waited for: its ``state``, and what it returned, as JSON (None: nothing, or it has not succeeded).

    ``reason``, ``error``: why it has not succeeded, and the type and the message of the error of its last try that failed.
    """

    id: EntryId
    name: str
    state: State
    body: bytes | None = None
    reason: Reason | None = None
    error: Failure | None = None

    @overload
    def result(self) -> Any: ...
    @overload
    def result(self, kind: type[T]) -> T | None: ...
    @overload
    def result(self, kind: Any) -> Any: ...
    def result(self, kind: Any = Any) -> Any:  # a type form such as list[int] is no type[T]
        """What it returned, read as ``kind``; None if there is nothing. Raises `msgspec.ValidationError` if it is something else."""
        return None if self.body is None else json.decode(self.body, kind)


def parent_results(parents: Iterable[Parent]) -> tuple[ParentResult, ...]:
    """Parents as a handler is shown them."""
    return tuple(
        ParentResult(one.id, one.name, one.state, one.result, one.reason, one.error) for one in parents
    )


class RunningFlow(Growing):
    """The flow of a step that runs. What is added to it is stored if, and only if, the step's handler succeeds: in the same transaction.
    It comes ``after`` this step, unless other steps are named that this one has added.

    ``id``: of the flow; ``name``: of this step; ``this``: its node, for ``after=``.

    >>> parts = [ctx.flow.add(count.bind(part)) for part in split(text)]          # doctest: +SKIP
    >>> ctx.flow.add(total.bind(), after=parts, gather=True)                      # doctest: +SKIP
    """

    __slots__ = ("_collect", "_plan", "id", "name", "this")

    def __init__(self, delivery: Delivery, step: Step, composer: Composer, collect: Collect) -> None:
        self.id, self.name, self._collect = step.flow, step.name, collect
        # The names of what it adds follow from its own, so that a second try adds the same steps and no others.
        self._plan = Plan(
            step.flow,
            composer,
            deadline=None if delivery.deadline is None else At(delivery.deadline),
            known={step.name: Any},
            stem=step.name if len(step.name) <= LONGEST_STEM else digest(step.name),
        )
        self.this: Node[Any] = Node(self._plan, (step.name,))

    def _lay(self, piece: object, said: Said) -> Node[Any]:
        place = self._plan.place(self.this if said.after is None else said.after, said)
        before = len(self._plan)
        node = self._plan.lay(piece, place, said.name)
        self._collect(*list(self._plan.messages.values())[before:])
        return node

    def __repr__(self) -> str:
        """Which flow, and which step of it."""
        return f"<flow {self.id}, in step {self.name}>"


def digest(name: str) -> str:
    """A short word for a long name."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
