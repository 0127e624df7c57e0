"""A flow while it is made: names, parents and conditions, checked as they are said, and the messages they become. Nothing is sent here."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Protocol,
)

from msgspec import structs

from forebay.codec.fits import misfit
from forebay.codec.signature import Signature, Unseen
from forebay.errors import InvalidArguments, InvalidOption, NameTaken, quoted
from forebay.features.flows.node import Node
from forebay.model import unique
from forebay.model.flow import HOOKS, LONGEST_FLOW, MOST_EDGES, MOST_PARENTS, Condition, Gather, Role, Step
from forebay.model.message import Message, MessageId
from forebay.model.names import LONGEST_ID, LONGEST_NAME, check_new_name
from forebay.model.when import After, At

if TYPE_CHECKING:
    from forebay.compose import Composer, Draft
    from forebay.features.flows.node import Event, Parents, Said
    from forebay.model.when import When

EVENTS: Final = "_events"
"""The queue of steps that wait for events. Nothing in it is ever handed out."""
MOST_LIKE: Final = 1_000
"""Names among which the one is looked for that was meant."""
ON_DONE: Final = "_on_done"
ON_FAILED: Final = "_on_failed"


class Named(Protocol):
    """A task, as far as a plan knows it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def signature(self) -> Signature | Unseen:
        """What it takes and returns."""
        ...


class Call(Protocol):
    """A task with its arguments, or with all of them but the one that it ``lacks``."""

    @property
    def task(self) -> Named:
        """What is called."""
        ...

    @property
    def draft(self) -> Draft:
        """The options of the call."""
        ...

    @property
    def body(self) -> bytes:
        """The arguments that are given."""
        ...

    @property
    def lacks(self) -> str | None:
        """The parameter that is not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a step is to stand: behind the steps ``after``, which are ``several`` or one; whether it is given their results."""

    after: tuple[str, ...] = ()
    several: bool = False
    when: Condition = Condition.ALL_SUCCEEDED
    gathers: bool = False
    stem: str = ""

    @property
    def gather(self) -> Gather:
        """What it is given of their results."""
        return Gather.NONE if not self.gathers else Gather.ALL if self.several else Gather.ONE

    def within(self, name: str | None) -> Place:
        """The same place, for the first steps of a part that was given a name, or none."""
        return self if name is None else replace(self, stem=check_new_name(name, "step"))

    def behind(self, node: Node[Any], *, gathers: bool) -> Place:
        """The place behind a step of the same part."""
        return Place(after=node.names, several=node.many, gathers=gathers, stem=self.stem)


class Plan:
    """The steps of one flow, in the order in which they were added. ``known``: steps that are there already, and what they return.

    ``deadline``: of all steps, a moment. ``stem``: what the names begin with of those that are given none.
    """

    def __init__(
        self,
        flow: str,
        composer: Composer,
        *,
        deadline: When | None = None,
        known: Mapping[str, Any] | None = None,
        stem: str = "",
    ) -> None:
        self.flow, self._composer, self._deadline, self._stem = flow, composer, deadline, stem
        self.messages: dict[str, Message] = {}
        self._returns: dict[str, Any] = dict(known or {})
        self._used: Counter[str] = Counter()
        self._edges = 0
        self._ids: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __len__(self) -> int:
        return len(self.messages)

    def lay(self, piece: object, place: Place, name: str | None = None) -> Node[Any]:
        """Add what a flow can be made of, all of it or nothing; returns what others wait for who wait for it."""
        lays: Callable[[Plan, Place, str | None], Node[Any]] | None = getattr(piece, "lay", None)
        if lays is None:
            raise InvalidOption(
                f"A flow is made of bound tasks, chains, groups, chords and flows, as in flow.add(task.bind(...)), not of {quoted(piece)}."
            )
        before = len(self.messages)
        try:
            return lays(self, place, name)
        except BaseException:
            for added in list(self.messages)[before:]:
                step = self.messages.pop(added).step
                self._edges -= 0 if step is None else len(step.after)
                del self._returns[added]
            raise

    # -- what is said

    def place(self, after: Parents, said: Said) -> Place:
        """Where a step is to stand. Raises `InvalidOption` for parents that are not steps of this flow, and unknown words."""
        nodes: list[Node[Any] | str] = [after] if isinstance(after, Node | str) else list(after)
        gathers = _flag(said.gather)
        names: list[str] = []
        for node in nodes:
            names += self._names_of(node)
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise InvalidOption(f"after= names step {twice!r} twice.")
        if len(names) > MOST_PARENTS:
            raise InvalidOption(
                f"A step may wait for {MOST_PARENTS:,} others, and not for {len(names):,}: put steps between that gather some each."
            )
        if gathers and not names:
            raise InvalidOption(
                "gather=True gives a step the results of those before it: say them with after=."
            )
        bundles = [node for node in nodes if isinstance(node, Node) and node.many]
        if gathers and bundles and len(nodes) > 1:
            raise InvalidOption(
                "gather=True takes one group, or a list of steps, and not groups in a list: give each group a step that gathers it."
            )
        several = bool(bundles) or not isinstance(after, Node | str)
        return Place(
            after=tuple(names), several=several, when=condition(said.when), gathers=gathers, stem=self._stem
        )

    def _names_of(self, node: object) -> tuple[str, ...]:
        match node:
            case Node() if node.is_of(self):
                return node.names
            case Node():
                raise InvalidOption(
                    f"{node!r} is a step of another flow: a step waits for steps of its own. Add that flow to this one, flow.add(other)."
                )
            case str() if node in self._returns:
                return (node,)
            case str():
                near = difflib.get_close_matches(node, islice(self._returns, MOST_LIKE), n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise InvalidOption(
                    f"Flow {self.flow!r} has no step {quoted(node)} yet: a step is added after those that it waits for.{hint}"
                )
            case _:
                raise InvalidOption(
                    f"after= takes what flow.add() returned, or names of steps, not {quoted(node)}."
                )

    # -- steps

    def add(self, call: Call, place: Place, name: str | None = None) -> str:
        """One more step; returns its name. Raises `InvalidOption`, `NameTaken`, `InvalidName`, or `MessageTooLarge`."""
        self._check_room(place)
        self._check_call(call, place)
        chosen = self._chosen(call.task.name, place.stem, name)
        step = Step(
            flow=self.flow,
            name=chosen,
            after=self._ids_of(place.after),
            when=place.when,
            gather=place.gather,
        )
        self._put(call, step)
        return chosen

    def wait(self, event: Event, place: Place, name: str | None = None) -> str:
        """A step that is there for an event; returns its name. As `add`."""
        self._check_room(place)
        if place.gathers:
            raise InvalidOption(
                f"A step that waits for an event on {event.topic!r} takes no results: leave out gather=."
            )
        chosen = self._chosen(event.topic, place.stem, name)
        after = tuple(self.id_of(parent) for parent in place.after)
        step = Step(flow=self.flow, name=chosen, after=after, when=place.when, role=Role.EVENT)
        message = Message(
            id=MessageId(self.id_of(chosen)), name=event.topic, queue=EVENTS, key=event.key, step=step, expires=event.timeout,
        )  # fmt: skip
        self._store(self._in_time(message, step), event.kind)
        return chosen

    def close_with(self, call: Call, role: Role) -> None:
        """What runs once all the others are over, well or not. It has no deadline: it may be the deadline that it tells of."""
        self._check_call(call, Place())
        self._put(call, Step(flow=self.flow, name=ON_DONE if role is Role.ON_DONE else ON_FAILED, role=role))

    def include(self, other: Plan, place: Place, stem: str) -> Node[Any]:
        """All steps of another plan, under names that begin with ``stem``: its first steps wait as ``place`` says. Returns its ends."""
        if other is self:
            raise InvalidOption(f"Flow {self.flow!r} cannot be a part of itself.")
        check_new_name(stem, "The name of a part")
        if place.gathers:
            raise InvalidOption(
                f"Flow {other.flow!r} takes no results: its steps are whole. Use gather=True with a task, a chain or a group."
            )
        ends = dict.fromkeys(other.messages)
        for name, message in list(other.messages.items()):
            step = message.step
            if step is None or step.role not in (Role.WORK, Role.EVENT):
                raise InvalidOption(
                    f"Flow {other.flow!r} has an on_done= or on_failed=, which a part of another flow cannot have: leave it out, or add a "
                    "step behind it."
                )
            self._check_room(place)
            before = [other.name_of(parent) for parent in step.after]
            for parent in before:
                ends.pop(parent, None)
            chosen = self._chosen(message.name, "", f"{stem}.{name}")
            within = tuple(self.id_of(f"{stem}.{parent}") for parent in before)
            moved = structs.replace(
                step,
                flow=self.flow,
                name=chosen,
                after=within or self._ids_of(place.after),
                when=step.when if within else place.when,
            )
            own = structs.replace(message, id=MessageId(self.id_of(chosen)), step=moved)
            self._store(self._in_time(own, moved), other.returns(name))
        return Node(self, tuple(f"{stem}.{name}" for name in ends), many=len(ends) > 1)

    def returns(self, name: str) -> Any:
        """What a step is annotated to return."""
        return self._returns[name]

    def id_of(self, name: str) -> str:
        """The id of the step of a name."""
        return f"{self.flow}:{name}"

    def _ids_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The ids of steps: the same ones for all who stand behind the same."""
        if self._ids[0] is not names:
            self._ids = (names, tuple(map(self.id_of, names)))
        return self._ids[1]

    def name_of(self, key: str) -> str:
        """The name of the step of an id."""
        return key.removeprefix(f"{self.flow}:")

    def _check_room(self, place: Place) -> None:
        if len(self.messages) >= LONGEST_FLOW:
            raise InvalidOption(
                f"A flow is sent with {LONGEST_FLOW:,} steps at most: let steps add the others while it runs, ctx.flow.add()."
            )
        if self._edges + len(place.after) > MOST_EDGES:
            raise InvalidOption(
                f"The steps of a flow wait for {MOST_EDGES:,} others at most, all together: between two wide groups put a step that waits "
                "for the first, and that the second waits for."
            )

    def _check_call(self, call: Call, place: Place) -> None:
        name, signature = call.task.name, call.task.signature
        if call.draft.id is not None:
            raise InvalidOption(
                f"{name}: a step's id is made from its flow and its name; leave out options(id=...), and say name= if you need to know it."
            )
        match call.draft.rule:
            case None | unique.Unique(on_conflict="keep") | unique.Gather():
                pass
            case rule:
                raise InvalidOption(
                    f"{name}: {type(rule).__name__} lets one message take the place of another, or be dropped for it, and a step runs "
                    "once in its flow. Send such a task from a step, with ctx.send()."
                )
        if not place.gathers:
            if call.lacks is not None:
                raise InvalidArguments(
                    f"{name}() lacks {call.lacks!r}: give it in bind(), or the results of the steps before it, with after= and gather=True."
                )
            return
        if isinstance(signature, Unseen):
            return
        free = call.lacks or signature.free(signature.given(call.body))
        wrong = misfit(
            signature.parameters[free].annotation,
            place.gather,
            [self._returns[parent] for parent in place.after],
        )
        if wrong is not None:
            raise InvalidArguments(
                f"{name}() cannot gather here: its parameter {free!r} is left for the results, and {wrong}."
            )

    def _chosen(self, task: str, stem: str, name: str | None) -> str:
        base = f"{stem}.{task}" if stem else task
        chosen = self._free_name(base) if name is None else check_new_name(name, "step")
        if chosen in self._returns:
            raise NameTaken(
                f"Flow {self.flow!r} has a step {chosen!r}: give this one another name (name=...)."
            )
        if len(self.id_of(chosen)) > LONGEST_ID:
            raise InvalidOption(
                f"The id of a step is <flow>:<name>, {LONGEST_ID} characters at most: flow {quoted(self.flow)} and step {quoted(chosen)} "
                "together have more. Give one of them a shorter name."
            )
        return chosen

    def _free_name(self, base: str) -> str:
        base = base[: LONGEST_NAME - len("-100000")].rstrip(".")
        while True:
            self._used[base] += 1
            number = self._used[base]
            name = base if number == 1 else f"{base}-{number}"
            if name not in self._returns:
                return name

    def _put(self, call: Call, step: Step) -> None:
        # A step does not wait for others of its task to gather: it has waited for those before it.
        draft = replace(call.draft, rule=None) if isinstance(call.draft.rule, unique.Gather) else call.draft
        message = structs.replace(
            self._composer.message(call.task.name, draft, call.body),
            id=MessageId(self.id_of(step.name)),
            step=step,
        )
        self._store(self._in_time(message, step), call.task.signature.returns)

    def _in_time(self, message: Message, step: Step) -> Message:
        """With the flow's deadline, which what runs at its end has not."""
        if self._deadline is None or step.role in HOOKS:
            return message
        deadline = _earlier(message.deadline, self._deadline, step.name)
        # What waits for an event expires at its deadline too.
        expires = (
            message.expires
            if step.role is Role.EVENT
            else _earlier(message.expires, self._deadline, step.name)
        )
        return structs.replace(message, deadline=deadline, expires=expires)

    def _store(self, message: Message, returns: Any) -> None:
        if message.step is None:
            raise AssertionError(message)
        self.messages[message.step.name] = message
        self._edges += len(message.step.after)
        self._returns[message.step.name] = returns


def condition(value: object) -> Condition:
    """A condition, from the word for it. Raises `InvalidOption`."""
    try:
        return Condition(value)  # type: ignore[arg-type]  # it refuses what it does not know
    except ValueError:
        words = ", ".join(repr(one.value) for one in Condition)
        near = difflib.get_close_matches(str(value), [one.value for one in Condition], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InvalidOption(f"when must be one of {words}, not {quoted(value)}.{hint}") from None


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidOption(f"gather must be True or False, not {quoted(value)}.")


def _earlier(own: When | None, flow: When, step: str) -> When:
    """The first of two moments."""
    match own, flow:
        case None, _:
            return flow
        case At(a), At(b):
            return At(min(a, b))
        case After(a), After(b):
            return After(min(a, b))
        case _:
            raise InvalidOption(
                f"Step {step!r} has a deadline or an expiry of its own, and nobody can say which is earlier, that or its flow's: say it "
                f"as {'a datetime' if isinstance(flow, At) else 'a duration'}, as that of the flow is."
            )
