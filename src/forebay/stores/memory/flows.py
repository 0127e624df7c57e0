"""Which steps of a memory store wait for which, and what follows when one is over. Synchronous; the ledger owns the entries and moves them.

A step has been *told* to its children as it last was; what a child counts follows from what it was told and from nothing else. What has
changed since is marked, and the marks are worked off: a bounded number of rows at a time, in whatever order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import dropwhile, islice
from typing import TYPE_CHECKING

from forebay.engine import Finished
from forebay.model import survey as s
from forebay.model.entry import delay_of
from forebay.model.flow import (
    HOOKS,
    End,
    FlowState,
    Move,
    Role,
    Step,
    by_state,
    hook_stands,
    kept_as,
    kind_of,
    seen,
    stands,
    state_of,
    turned,
)
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.waits import ForParents
from forebay.stores.flows import LOOKED_AT, NAMED, ROWS, step_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from forebay.engine import Topic
    from forebay.model.message import Message
    from forebay.model.verdict import Reason
    from forebay.model.when import Instant, Micros


@dataclass(slots=True)
class Node:
    """A step as its flow sees it. ``parents``: how many were last told to be of each `End`. ``target``: what its children are being told,
    those up to ``cursor`` have been. ``delay``: from when it is released until it is due, or for what waits for an event: until it expires.
    ``opened``: it was redriven, and is let go or not once nothing is left to be told, for what it waits for may have been redriven too.
    """

    id: EntryId
    flow: Flow
    step: Step
    delay: Micros | None
    kind: State | Reason = State.BLOCKED
    children: list[Node] = field(default_factory=list)
    parents: list[int] = field(default_factory=lambda: [0] * len(End))
    told: End = End.OPEN
    target: End | None = None
    cursor: int = 0
    released: bool = False
    opened: bool = False

    @property
    def move(self) -> Move:
        """What becomes of it by its parents."""
        return stands(
            self.step.when,
            open_=self.parents[End.OPEN],
            failed=self.parents[End.FAILED],
            skipped=self.parents[End.SKIPPED],
        )


@dataclass(slots=True)
class Flow:
    """Its steps in the order in which they came, how many there are of each kind, and how many are marked. ``going``: it is forgotten."""

    id: str
    number: int
    created: Instant
    nodes: dict[EntryId, Node] = field(default_factory=dict)
    kinds: Counter[State | Reason] = field(default_factory=Counter)
    hooks: dict[Role, Node] = field(default_factory=dict)
    marks: int = 0
    state: FlowState = FlowState.RUNNING
    finished: Instant | None = None
    going: bool = False


class Flows:
    """All flows. ``news``: what is to be told of what was done here; ``over``: flows that have come to an end by it."""

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.nodes: dict[EntryId, Node] = {}
        self.news: set[Topic] = set()
        self.over: list[str] = []
        self._marks: dict[EntryId, None] = {}
        self._opened: dict[EntryId, Node] = {}
        self._going: list[Flow] = []
        self._number = 0

    # -- steps come

    def begin(self, name: str, now: Instant) -> Flow:
        """A flow, begun now if it is not there."""
        if (flow := self.flows.get(name)) is None:
            self._number += 1
            flow = self.flows[name] = Flow(name, self._number, now)
        return flow

    def add(self, message: Message, now: Instant) -> Node:
        """A step, and how it stands by what its parents have last been told to be."""
        step = step_of(message)
        flow = self.begin(step.flow, now)
        key = EntryId(message.id)
        node = Node(key, flow, step, delay_of(message, step))
        for parent in map(self.nodes.__getitem__, map(EntryId, step.after)):
            parent.children.append(node)
            node.parents[parent.told] += 1
        flow.nodes[key] = self.nodes[key] = node
        flow.kinds[node.kind] += 1
        if step.role in HOOKS:
            flow.hooks[step.role] = node
        return node

    # -- steps change

    def note(self, key: EntryId, state: State, reason: Reason | None) -> None:
        """A step stands so now."""
        node, kind = self.nodes[key], kind_of(state, reason)
        if kind is node.kind:
            return
        node.flow.kinds[node.kind] -= 1
        node.flow.kinds[kind] += 1
        if seen(kind) is not seen(node.kind):
            self._mark(node)
        node.kind = kind

    def _mark(self, node: Node) -> None:
        if node.id not in self._marks:
            self._marks[node.id] = None
            node.flow.marks += 1

    @property
    def left(self) -> bool:
        """Whether there is anything to work off."""
        return bool(self._marks or self._opened or self._going)

    def open(self, node: Node) -> None:
        """A step was redriven that was over: its flow runs, though not all may have been told for long."""
        node.flow.state, node.flow.finished = FlowState.RUNNING, None
        node.released = False
        if node.step.role is not Role.EVENT:
            node.delay = None
        if node.step.role not in HOOKS:
            node.opened = True
            self._opened[node.id] = node

    def work(
        self, now: Instant, move: Callable[[Node, Move], None], forget: Callable[[EntryId], None]
    ) -> None:
        """Work off what is marked, as much as one transaction may."""
        room = ROWS
        while room > 0 and (self._marks or self._opened):
            if not self._marks:
                room = self._let_go(room, move)
                continue
            room, flows = self._tell(room, move)
            for flow in flows:
                if not flow.marks:
                    self._look(flow, now, move)
        while room > 0 and self._going:
            flow = self._going[0]
            for key in list(islice(flow.nodes, room)):
                forget(key)
                del flow.nodes[key], self.nodes[key]
                room -= 1
            if not flow.nodes:
                del self._going[0], self.flows[flow.id]

    def _tell(self, room: int, move: Callable[[Node, Move], None]) -> tuple[int, Iterable[Flow]]:
        """Tell children how their parents stand, then move those that this turns; returns the room that leaves, and whose they were."""
        touched: dict[EntryId, Node] = {}
        flows: dict[str, Flow] = {}
        for key in list(islice(self._marks, room)):
            if room <= 0:
                break
            node = self.nodes[key]
            if node.target is None:
                node.target, node.cursor = seen(node.kind), 0
            part = node.children[node.cursor : node.cursor + room] if node.target is not node.told else []
            for child in part:
                child.parents[node.told] -= 1
                child.parents[node.target] += 1
                touched[child.id] = child
            node.cursor += len(part)
            room -= 1 + len(part)
            del self._marks[key]
            if node.target is not node.told and node.cursor < len(node.children):
                self._marks[key] = None
                continue
            node.told, node.target = node.target, None
            if node.told is not seen(node.kind):
                self._marks[key] = None
                continue
            node.flow.marks -= 1
            flows[node.flow.id] = node.flow
        for node in touched.values():
            if turned(node.kind, node.move, released=node.released or node.opened):
                move(node, node.move)
        return room, flows.values()

    def _let_go(self, room: int, move: Callable[[Node, Move], None]) -> int:
        """Move steps that were redriven, now that all is told; returns the room that leaves."""
        nodes = [self._opened.pop(key) for key in list(islice(self._opened, room))]
        for node in nodes:
            node.opened = False
        for node in nodes:
            if turned(node.kind, node.move, released=node.released):
                move(node, node.move)
        return room - len(nodes)

    def _look(self, flow: Flow, now: Instant, move: Callable[[Node, Move], None]) -> None:
        """See whether a flow is over in which nothing is left to be told."""
        rest = flow.kinds - Counter(hook.kind for hook in flow.hooks.values())
        open_, failed = (_number(rest, end) for end in (End.OPEN, End.FAILED))
        for role, hook in flow.hooks.items():
            wanted = hook_stands(role, open_=open_, failed=failed)
            if turned(hook.kind, wanted, released=hook.released):
                move(hook, wanted)
        flow.state = FlowState.RUNNING if flow.marks else state_of(flow.kinds)
        if flow.state is FlowState.RUNNING:
            flow.finished = None
        elif flow.finished is None:
            flow.finished = now
            self.over.append(flow.id)
            self.news.add(Finished(frozenset({EntryId(flow.id)})))

    # -- flows go

    def go(self, flow: Flow) -> int:
        """Begin to forget a flow that is over; returns how many steps it has."""
        flow.going = True
        self._going.append(flow)
        return len(flow.nodes)

    def kept(self) -> Iterable[tuple[State, Instant, int, Flow]]:
        """The flows that are over: as what, since when, how many steps, and which."""
        for flow in self.flows.values():
            if flow.finished is not None and not flow.going:
                yield kept_as(flow.state), flow.finished, len(flow.nodes), flow

    # -- looking

    def waits(self, key: EntryId) -> ForParents | None:
        """What a step waits for, if that is others."""
        node = self.nodes.get(key)
        if node is None or node.kind is not State.BLOCKED or node.released:
            return None
        if node.step.role in HOOKS:
            rest = node.flow.kinds - Counter(hook.kind for hook in node.flow.hooks.values())
            return ForParents(open=_number(rest, End.OPEN))
        parents = map(self.nodes.__getitem__, map(EntryId, node.step.after[:LOOKED_AT]))
        first = islice((one.step.name for one in parents if one.told is End.OPEN), NAMED)
        return ForParents(open=node.parents[End.OPEN], first=tuple(first))

    def records(self, about: s.Flows) -> tuple[s.FlowRecord, ...]:
        """Flows, the newest first."""
        named = set(about.ids)
        found = (
            s.FlowRecord(
                id=flow.id, state=flow.state, created=flow.created, finished=flow.finished, steps=by_state(flow.kinds)
            )
            for flow in reversed(self.flows.values())
            if not flow.going
            and (not named or flow.id in named)
            and about.state in (None, flow.state)
            and (about.before is None or flow.created < about.before)
        )  # fmt: skip
        return tuple(islice(found, about.most))

    def steps(self, about: s.Steps) -> Iterator[Node]:
        """The steps of a flow, from one on."""
        flow = self.flows.get(about.flow)
        nodes = iter(()) if flow is None or flow.going else iter(flow.nodes.values())
        return _beyond(nodes, about.beyond, about.most)

    def parents(self, about: s.Parents) -> Iterator[Node]:
        """The parents of a step, from one on."""
        node = self.nodes.get(about.of)
        after = () if node is None else node.step.after
        return _beyond(map(self.nodes.__getitem__, map(EntryId, after)), about.beyond, about.most)


def _beyond(nodes: Iterator[Node], beyond: EntryId | None, most: int) -> Iterator[Node]:
    if beyond is not None:
        nodes = islice(dropwhile(lambda node: node.id != beyond, nodes), 1, None)
    return islice(nodes, most)


def _number(kinds: Counter[State | Reason], end: End) -> int:
    return sum(number for kind, number in kinds.items() if seen(kind) is end)
