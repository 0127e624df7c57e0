"""What stands in a flow that is made, and what it is added to: pieces, nodes, and the one way to add them, typed through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, overload

from forebay.model.flow import Condition
from forebay.model.names import check_new_name, check_text
from forebay.model.when import When, moment

if TYPE_CHECKING:
    from datetime import datetime

    from forebay.model.when import Duration

R = TypeVar("R")
X = TypeVar("X")
R_co = TypeVar("R_co", covariant=True)
X_contra = TypeVar("X_contra", contravariant=True)
ConditionWord: TypeAlias = Literal["all_succeeded", "any_failed", "all_done"] | Condition
"""How a condition is written."""


class Piece(Generic[X_contra, R_co]):
    """What a flow is made of. ``X_contra``: what it has to be given, the result of what is before it (``object``: nothing); ``R_co``: its
    own result.
    """

    __slots__ = ()


class Node(Generic[R_co]):
    """A step of a flow, or the last steps of a part of it: what others wait for, ``after=node``. ``names``: of the steps that are meant.

    ``R_co`` is what it returns; of several (``many``), the list of it.
    """

    __slots__ = ("_plan", "many", "names")

    def __init__(self, plan: object, names: tuple[str, ...], *, many: bool = False) -> None:
        self._plan, self.names, self.many = plan, names, many

    def is_of(self, plan: object) -> bool:
        """Whether it belongs to ``plan``."""
        return self._plan is plan

    def __repr__(self) -> str:
        """Which steps."""
        return f"<node {', '.join(self.names[:3])}{', ...' if len(self.names) > 3 else ''}>"


Parents: TypeAlias = Node[Any] | str | Iterable[Node[Any] | str]
"""Whom a step waits for: nodes, or names of steps that were added before."""


class Said(NamedTuple):
    """What is said of a step when it is added, as it is said."""

    after: Parents | None
    when: object
    gather: object
    name: str | None


class Event(NamedTuple):
    """What a step waits for: an event on ``topic``, with ``key`` if one is named, for so long from its release on. ``kind``: its type."""

    topic: str
    key: str | None
    timeout: When
    kind: Any

    def lay(self, plan: Any, place: object, name: str | None) -> Node[Any]:
        """Add it to a plan."""
        return Node(plan, (plan.wait(self, place, name),))


class Growing:
    """What steps are added to: a flow that is made, or one that runs."""

    @overload
    def add(
        self, piece: Piece[object, R], *, after: Parents | None = ..., when: ConditionWord = ..., gather: Literal[False] = ...,
        name: str | None = ...,
    ) -> Node[R]: ...  # fmt: skip
    @overload
    def add(
        self,
        piece: Piece[X, R],
        *,
        after: Node[X],
        when: ConditionWord = ...,
        gather: Literal[True],
        name: str | None = ...,
    ) -> Node[R]: ...
    @overload
    def add(
        self, piece: Piece[list[X], R], *, after: Sequence[Node[X]], when: Literal["all_succeeded"] = ..., gather: Literal[True],
        name: str | None = ...,
    ) -> Node[R]: ...  # fmt: skip
    @overload
    def add(
        self, piece: Piece[list[X | None], R], *, after: Sequence[Node[X]], when: Literal["any_failed", "all_done"],
        gather: Literal[True], name: str | None = ...,
    ) -> Node[R]: ...  # fmt: skip
    @overload
    def add(
        self, piece: Piece[Any, R], *, after: str | Sequence[str], when: ConditionWord = ..., gather: Literal[True],
        name: str | None = ...,
    ) -> Node[R]: ...  # fmt: skip
    @overload
    def add(
        self,
        piece: Growing,
        *,
        after: Parents | None = ...,
        when: ConditionWord = ...,
        name: str | None = ...,
    ) -> Node[Any]: ...
    def add(  # what is said of a step
        self, piece: Piece[Any, Any] | Growing, *, after: Parents | None = None, when: ConditionWord = "all_succeeded",
        gather: bool = False, name: str | None = None,
    ) -> Node[Any]:  # fmt: skip
        """One more step: a bound task; or a part that is made of several: a chain, a group, a chord, or another flow.

        ``after``: the steps that it waits for. ``when`` it runs: once all of those have succeeded, as soon as one of them has failed
        (``"any_failed"``), or once all are over, however they ended (``"all_done"``). ``gather``: it is given their results, as the
        argument that its bound task leaves out: the result of one step, or the list of the results of several, in the order in which
        ``after`` names them, None for one that has none. ``name``: unlike any other of the flow; the task's, with a number, if none is
        given; of a part, what the names of its steps begin with.

        Raises `InvalidOption`, `InvalidName`, `NameTaken` or `InvalidArguments`, with nothing added.
        """
        return self._lay(piece, Said(after, when, gather, name))

    @overload
    def wait_for(
        self, topic: str, *, key: str | None = ..., timeout: Duration | datetime, after: Parents | None = ...,
        when: ConditionWord = ..., name: str | None = ...,
    ) -> Node[Any]: ...  # fmt: skip
    @overload
    def wait_for(
        self, topic: str, *, type: type[R], key: str | None = ..., timeout: Duration | datetime, after: Parents | None = ...,
        when: ConditionWord = ..., name: str | None = ...,
    ) -> Node[R]: ...  # fmt: skip
    def wait_for(  # noqa: PLR0913  # what is said of a step
        self, topic: str, *, key: str | None = None, timeout: Duration | datetime, type: Any = Any, after: Parents | None = None,
        when: ConditionWord = "all_succeeded", name: str | None = None,
    ) -> Node[Any]:  # fmt: skip
        """A step that is there for an event on ``topic`` (with ``key``, if one is given): once it comes, the step has succeeded, and the
        event, as ``type``, is its result.

        >>> paid = flow.wait_for("payment.settled", key="42", timeout="2d", after=order)     # doctest: +SKIP
        >>> flow.add(ship.bind(42), after=paid)                                              # doctest: +SKIP

        Events count from the moment the flow is stored, even while this step waits for others; ``timeout`` counts from when it waits for
        none (or is an aware datetime): then it expires, and what needs it does not run. For the rest, and what is raised, see `add`.
        """
        check_new_name(topic, "topic")
        if key is not None:
            check_text(key, "key")
        event = Event(topic, key, moment(timeout, "timeout"), type)
        return self._lay(event, Said(after, when, gather=False, name=name))

    def _lay(self, piece: object, said: Said) -> Node[Any]:
        raise NotImplementedError
