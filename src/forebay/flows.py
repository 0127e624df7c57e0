"""Flows as their senders write them: `Flow`, and the short forms `chain`, `group` and `chord`. What a step is and may be is said in
`forebay.features.flows.plan`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack, cast, overload

from forebay.client.backpressure import refusal, unrouted
from forebay.compose import check_id, check_options
from forebay.declaring.traits import FLOWS, Need
from forebay.engine import Stored
from forebay.errors import InvalidOption, quoted
from forebay.features.flows.node import Growing, Node, Piece
from forebay.features.flows.plan import Plan
from forebay.flow_handle import FlowHandle
from forebay.model.flow import Role
from forebay.model.message import EntryId
from forebay.model.when import Duration, moment
from forebay.tasks import BoundTask, Partial, R, X, X_contra

if TYPE_CHECKING:
    from datetime import datetime

    from forebay.client.client import Client
    from forebay.compose import Composer
    from forebay.features.flows.node import Said
    from forebay.features.flows.plan import Place
    from forebay.model.message import Message

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
T = TypeVar("T")
S = TypeVar("S")
LONGEST_FLOW_ID: Final = 150
"""What is left of an id's length is for the names of steps."""


class FlowOptions(TypedDict, total=False):
    """What may be said of a flow. ``deadline``: no step is tried, or started, after it; a duration from when it is sent, or an aware
    datetime. ``on_done``: runs once all steps are over and none has failed; ``on_failed``: once all are over and one has.
    """

    deadline: Duration | datetime
    on_done: BoundTask[Any]
    on_failed: BoundTask[Any]


class Flow(Growing):
    """Steps that wait for others, sent as one: all of them are stored, or none. Made by `App.flow`.

    >>> flow = app.flow("order-42", deadline="1d", on_failed=alert.bind())       # doctest: +SKIP
    >>> fetch = flow.add(download.bind(url))                                     # doctest: +SKIP
    >>> thumbs = [flow.add(resize.bind(size=s), after=fetch, gather=True) for s in sizes]  # doctest: +SKIP
    >>> flow.add(publish_page.bind(), after=thumbs, gather=True)                 # doctest: +SKIP
    >>> handle = await flow.send()                                               # doctest: +SKIP
    """

    def __init__(self, client: Client, flow: str | None = None, **options: Unpack[FlowOptions]) -> None:
        composer = client.ground.composer
        check_options(options, FlowOptions.__annotations__, "A flow")
        Need("app.flow()", "a step that waits for others", FLOWS).check(client.ground.engine.traits)
        self.id = composer.ids.message() if flow is None else check_id(flow, "flow id")
        if len(self.id) > LONGEST_FLOW_ID:
            raise InvalidOption(
                f"A flow's id has {LONGEST_FLOW_ID} characters at most: {quoted(flow)} has {len(self.id)}."
            )
        self._client, self._sent = client, False
        self.wide = False
        """Whether its result is a list, however many steps it ends in."""
        deadline = options.get("deadline")
        self._plan = Plan(
            self.id, composer, deadline=None if deadline is None else moment(deadline, "deadline")
        )
        self._ends = [
            (call, role)
            for call, role in (
                (options.get("on_done"), Role.ON_DONE),
                (options.get("on_failed"), Role.ON_FAILED),
            )
            if call is not None
        ]
        for call, role in self._ends:
            if not isinstance(call, BoundTask):
                raise InvalidOption(
                    f"{role.value}= takes a bound task, such as notify.bind(), not {quoted(call)}."
                )

    def _lay(self, piece: object, said: Said) -> Node[Any]:
        if self._sent:
            raise InvalidOption(
                f"Flow {self.id!r} has been sent: steps are added before, or by a step that runs, with ctx.flow.add()."
            )
        return self._plan.lay(
            piece, self._plan.place(() if said.after is None else said.after, said), said.name
        )

    def lay(self, plan: Plan, place: Place, name: str | None) -> Node[Any]:
        """Add its steps to the plan of another flow, under names that begin with ``name``, or with its id."""
        ends = plan.include(self._plan, place, self.id if name is None else name)
        return Node(plan, ends.names, many=self.wide or ends.many)

    async def send(self) -> FlowHandle[Any]:
        """Send it: returns when the engine holds all its steps as durably as it promises to. A flow of this id that is there already is
        this one, whatever its steps are, and nothing is stored: ``handle.duplicate``.

        Raises `QueueFull` (there is no room for some step: none is stored), `InvalidOption` (there can never be: more steps go to a queue
        than its limit lets wait there), `SendError`, `EngineUnavailable` (nothing was stored) or `OutcomeUnknown`. Cancelled, it is either
        sent or not, whole.
        """
        messages = self.messages(self._client.ground.composer)
        answers = await self._client.publish_whole(messages)
        if (full := next((a.refused for a in answers if a.refused is not None), None)) is not None:
            raise refusal(full)
        if lost := [
            m.queue or "" for m, a in zip(messages, answers, strict=True) if a.status is Stored.UNROUTED
        ]:
            raise unrouted(lost)
        returns = {EntryId(m.id): self._plan.returns(name) for name, m in self._plan.messages.items()}
        # One whose unique key another has is a duplicate of that: its flow is new all the same.
        duplicate = all(
            answer.status is Stored.DUPLICATE and answer.id == EntryId(message.id)
            for message, answer in zip(messages, answers, strict=True)
        )
        return FlowHandle(self.id, self._client, returns, wide=self.wide, duplicate=duplicate)

    def send_sync(self) -> FlowHandle[Any]:
        """`send`, for callers without an event loop."""
        return self._client.sync(self.send())

    def messages(self, composer: Composer) -> list[Message]:
        """All its steps, as they are sent: what `Context.send` takes of it. From then on no step is added.

        Raises `InvalidOption` for a flow without steps.
        """
        if not len(self._plan):
            raise InvalidOption(f"Flow {self.id!r} has no steps: flow.add(task.bind(...)).")
        if not self._sent:
            self._sent = True
            for call, role in self._ends:
                self._plan.close_with(call, role)
        return list(self._plan.messages.values())

    def __repr__(self) -> str:
        """Its id, and how many steps it has."""
        return f"<flow {self.id}, {len(self._plan)} steps>"


@dataclass(frozen=True, slots=True)
class Subflow(Piece[X_contra, R]):
    """A part of a flow that is made of several: what `chain`, `group` and `chord` return. May be sent by itself, or be added to a flow.

    A part whose first steps lack an argument takes the result of what it is added behind; it cannot be sent by itself.
    """

    pieces: tuple[Piece[Any, Any], ...]
    side_by_side: bool
    needs: bool = field(init=False)

    def __post_init__(self) -> None:
        for piece in self.pieces:
            if not isinstance(piece, BoundTask | Partial | Subflow):
                raise InvalidOption(
                    f"A chain, a group or a chord is made of bound tasks, task.bind(...), and of others like it, not of {quoted(piece)}."
                )
        if not self.pieces:
            raise InvalidOption("A chain, a group or a chord has at least one step.")
        if (
            self.side_by_side
            and (wide := next((piece for piece in self.pieces if is_wide(piece)), None)) is not None
        ):
            raise InvalidOption(
                f"A group is made of what ends in one step each, and {quoted(wide)} ends in several: put them into one group, or a step "
                "behind them, chord(...)."
            )
        first = self.pieces if self.side_by_side else self.pieces[:1]
        object.__setattr__(self, "needs", any(map(needs, first)))

    @property
    def client(self) -> Client:
        """The App's way out, which all its tasks have."""
        first = self.pieces[0]
        return first.client if isinstance(first, Subflow) else cast("BoundTask[Any]", first).task.client

    def lay(self, plan: Plan, place: Place, name: str | None) -> Node[Any]:
        """Add its steps to a plan; returns its ends."""
        first = place.within(name)
        if self.side_by_side:
            spared = replace(first, gathers=False) if self.needs else first
            ends = [plan.lay(piece, first if needs(piece) else spared) for piece in self.pieces]
            return Node(plan, tuple(name for end in ends for name in end.names), many=True)
        node = plan.lay(self.pieces[0], first)
        for piece in self.pieces[1:]:
            node = plan.lay(piece, first.behind(node, gathers=needs(piece)))
        return node

    def flow(self: Subflow[object, R], flow: str | None = None, **options: Unpack[FlowOptions]) -> Flow:
        """A flow of its own, which may be added to before it is sent. As `App.flow`."""
        made = Flow(self.client, flow, **options)
        made.add(self)
        made.wide = is_wide(self)
        return made

    async def send(
        self: Subflow[object, R], flow: str | None = None, **options: Unpack[FlowOptions]
    ) -> FlowHandle[R]:
        """Send it as a flow, of this id if one is given. As `Flow.send`; for options see `FlowOptions`.

        >>> handle = await chain(download.bind(url), resize.bind(size=64)).send()    # doctest: +SKIP
        >>> await handle.result(timeout="1m")                                        # doctest: +SKIP
        """
        return cast("FlowHandle[R]", await self.flow(flow, **options).send())

    def send_sync(
        self: Subflow[object, R], flow: str | None = None, **options: Unpack[FlowOptions]
    ) -> FlowHandle[R]:
        """`send`, for callers without an event loop."""
        return cast("FlowHandle[R]", self.flow(flow, **options).send_sync())

    def messages(self: Subflow[object, R], composer: Composer) -> list[Message]:
        """All its steps, as a flow of its own: what `Context.send` takes of it."""
        return self.flow().messages(composer)

    def __repr__(self) -> str:
        """What it is made of."""
        return f"<{'group' if self.side_by_side else 'chain'} of {len(self.pieces)}>"


@overload
def chain(a: Piece[X, A], /) -> Subflow[X, A]: ...
@overload
def chain(a: Piece[X, A], b: Piece[A, B], /) -> Subflow[X, B]: ...
@overload
def chain(a: Piece[X, A], b: Piece[A, B], c: Piece[B, C], /) -> Subflow[X, C]: ...
@overload
def chain(a: Piece[X, A], b: Piece[A, B], c: Piece[B, C], d: Piece[C, D], /) -> Subflow[X, D]: ...
@overload
def chain(
    a: Piece[X, A], b: Piece[A, B], c: Piece[B, C], d: Piece[C, D], e: Piece[D, T], /
) -> Subflow[X, T]: ...
@overload
def chain(
    a: Piece[X, A],
    b: Piece[A, B],
    c: Piece[B, C],
    d: Piece[C, D],
    e: Piece[D, T],
    f: Piece[T, S],
    /,
    *more: Piece[Any, Any],
) -> Subflow[X, Any]: ...
@overload
def chain(*pieces: Piece[object, R]) -> Subflow[object, R]: ...
@overload
def chain(*pieces: Piece[X, X]) -> Subflow[X, X]: ...
def chain(*pieces: Piece[Any, Any]) -> Subflow[Any, Any]:
    """One after the other, each once the one before it has succeeded. One that lacks an argument is given the result of the one before.

    >>> await chain(download.bind(url), resize.bind(size=64), publish.bind()).send()  # doctest: +SKIP

    Raises `InvalidOption` for what is neither a bound task nor a chain, a group or a chord.
    """
    flat: list[Piece[Any, Any]] = []
    for piece in pieces:
        flat += piece.pieces if isinstance(piece, Subflow) and not piece.side_by_side else (piece,)
    return Subflow(tuple(flat), side_by_side=False)


def group(pieces: Iterable[Piece[X, R]]) -> Subflow[X, list[R]]:
    """Side by side. Its result is the list of theirs, in their order; each that lacks an argument is given the result of what the group
    stands behind.

    >>> handle = await group(resize.bind(image, size=s) for s in sizes).send()    # doctest: +SKIP

    Raises `InvalidOption` as `chain`, and for parts that end in several steps.
    """
    if isinstance(pieces, Piece):
        raise InvalidOption(
            f"group() takes a list of bound tasks and of others like it, not one alone: {quoted(pieces)}."
        )
    return Subflow(tuple(pieces), side_by_side=True)


def chord(pieces: Iterable[Piece[X, R]], done: Piece[list[R], T]) -> Subflow[X, T]:
    """A group, and a step behind it, which is given the list of its results if it lacks an argument: ``chain(group(pieces), done)``.

    >>> await chord([resize.bind(image, size=s) for s in sizes], publish.bind()).send()  # doctest: +SKIP
    """
    return chain(group(pieces), done)


def needs(piece: Piece[Any, Any]) -> bool:
    """Whether it takes the result of what is before it."""
    return piece.needs if isinstance(piece, Subflow) else isinstance(piece, Partial)


def is_wide(piece: Piece[Any, Any]) -> bool:
    """Whether it ends in several steps."""
    return isinstance(piece, Subflow) and (piece.side_by_side or is_wide(piece.pieces[-1]))
