"""What all stores ask of steps before they store any, and how they take a batch apart. The same in every store."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from forebay.errors import InvalidOption
from forebay.model.flow import HOOKS, LONGEST_FLOW, MOST_EDGES, MOST_PARENTS, OVER
from forebay.model.message import Message, MessageId
from forebay.model.query import CancelNow, Selector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.model.flow import Role, Step
    from forebay.model.query import Change

_STEP: Final = attrgetter("step")
ROWS: Final = 1_000
"""Steps that are told of an end, opened, ended or forgotten by one transaction, beyond those it is about: the rest is done by others."""
NAMED: Final = 3
"""Parents that are named to whoever asks what a step waits for."""
LOOKED_AT: Final = 1_000
"""Parents that are looked at to find these, and that a step is shown with."""


def step_of(message: Message) -> Step:
    """The place of what has one."""
    if message.step is None:
        raise AssertionError(message)
    return message.step


def over(flow: str) -> Message:
    """The end of a flow, as an event for handlers that wait for it."""
    return Message(id=MessageId(flow), name=OVER, topic=OVER, key=flow, body=b"null")


def has_steps(batch: Sequence[Message]) -> bool:
    """Whether any of a batch belongs to a flow. Of most batches none does."""
    return any(map(_STEP, batch))


def by_flow(batch: Sequence[Message]) -> tuple[list[int], dict[str, list[int]]]:
    """The places in a batch of what belongs to no flow, and of the steps of each."""
    plain: list[int] = []
    flows: dict[str, list[int]] = {}
    for n, message in enumerate(batch):
        (plain if message.step is None else flows.setdefault(message.step.flow, [])).append(n)
    return plain, flows


def check_steps(steps: Sequence[Message], known: Mapping[str, Role] | None = None) -> None:
    """Raise `InvalidOption` for steps of one flow that could never all be stored or never run: so nothing is stored.

    ``known``: of a flow that is there, what those of it that these name are for.
    """
    flow = step_of(steps[0]).flow
    if len(steps) > LONGEST_FLOW:
        raise InvalidOption(
            f"Flow {flow!r} has {len(steps):,} steps: {LONGEST_FLOW:,} are the most that are sent at once. Let its steps add the others."
        )
    if (edges := sum(len(step_of(message).after) for message in steps)) > MOST_EDGES:
        raise InvalidOption(
            f"The steps of flow {flow!r} have {edges:,} parents together: {MOST_EDGES:,} are the most. Gather them in between."
        )
    seen = dict(known or {})
    for message in steps:
        _check(message, step_of(message), seen)
    hooks = Counter(role for role in map(_role, steps) if role in HOOKS)
    if twice := next((role for role, number in hooks.items() if number > 1), None):
        raise InvalidOption(f"Flow {flow!r} has {hooks[twice]} steps for {twice.value}: it can have one.")
    if known is not None and hooks:
        raise InvalidOption(
            f"Flow {flow!r} runs: what is for {next(iter(hooks)).value} is said before it begins."
        )


def _check(message: Message, step: Step, seen: dict[str, Role]) -> None:
    named = f"Step {step.name!r} of flow {step.flow!r}"
    if message.queue is None or message.topic is not None:
        raise InvalidOption(f"{named} is an event: a step is a task, with a queue of its own.")
    if message.id in seen:
        raise InvalidOption(f"{named} has the id {message.id!r}, as another step of it: give each its own.")
    if len(step.after) > MOST_PARENTS:
        raise InvalidOption(f"{named} has {len(step.after):,} parents: {MOST_PARENTS:,} are the most.")
    if len(set(step.after)) < len(step.after):
        raise InvalidOption(f"{named} names a parent twice: name each once.")
    if step.role in HOOKS and step.after:
        raise InvalidOption(
            f"{named} is for {step.role.value}: it waits for the whole flow, and has no parents."
        )
    for parent in step.after:
        if parent not in seen:
            raise InvalidOption(
                f"{named} comes after {parent!r}, which is no step of it, or comes later: parents are sent first, or with it and before it."
            )
        if seen[parent] in HOOKS:
            raise InvalidOption(f"{named} comes after {parent!r}, which waits for the whole flow.")
    seen[message.id] = step.role


def check_free(message: Message, *, taken: bool) -> None:
    """Raise `InvalidOption` for a step whose id is that of a message which is no step of its flow."""
    if taken:
        step = step_of(message)
        raise InvalidOption(
            f"Step {step.name!r} of flow {step.flow!r} has the id {message.id!r}, which another message has: give the flow another id."
        )


def check_fits(steps: Sequence[Message], limits: Mapping[str, int]) -> Counter[str]:
    """How many of the steps of a flow go into each queue. Raises `InvalidOption` where that is more than ever wait there at once."""
    wanted = Counter(message.queue or "" for message in steps)
    for queue, number in wanted.items():
        if number > (limit := limits.get(queue, number)):
            raise InvalidOption(
                f"Flow {step_of(steps[0]).flow!r} has {number:,} steps in queue {queue!r}, whose limit is {limit:,}: it would never be"
                " let in. Raise the limit, or let steps add the others."
            )
    return wanted


def is_whole(which: Selector) -> str | None:
    """The flow that a selector means, and means as a whole."""
    return which.flow if which.flow is not None and which == Selector(flow=which.flow) else None


def newest_first(which: Selector, command: Change) -> bool:
    """Whether children are changed before their parents: what is cancelled with the whole flow is not released by it."""
    return which.flow is not None and isinstance(command, CancelNow)


def _role(message: Message) -> Role:
    return step_of(message).role
