"""A flow as a drawing: its steps level by level, as text or as a Mermaid diagram. Nothing is asked of a store here."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final

from forebay.cli.output import Column, clean, span, table
from forebay.flow_handle import PARENTS_SHOWN
from forebay.model.flow import HOOKS, Condition, Role
from forebay.model.state import FINISHED, State
from forebay.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.model.survey import StepRecord
    from forebay.model.when import Instant

MOST_SHOWN: Final = 12
"""Steps of a level that are shown one by one; of more, these are the ones most worth knowing, and the others are counted."""
FIRST: Final = 5
MOST_NAMED: Final = 3
"""Steps that are named where one waits for many."""
MOST_NODES: Final = 200
"""Steps that a diagram shows one by one; of a larger flow it shows one node for those of a level that run the same task."""
COLUMNS: Final = (
    Column("level", right=True), Column("step"), Column("state"), Column("attempts", right=True), Column("after"),
    Column("note", elastic=True),
)  # fmt: skip
_WORTH: Final = (
    State.DEAD, State.EXPIRED, State.RUNNING, State.RETRYING, State.READY, State.SCHEDULED, State.BLOCKED, State.CANCELLED,
    State.SUCCEEDED,
)  # fmt: skip
"""States, those first that a person asks after."""
_WHEN: Final = {Condition.ANY_FAILED: "any failed", Condition.ALL_DONE: "all done"}


def levels_of(steps: Iterable[StepRecord]) -> dict[str, int]:
    """How far each step is from the beginning: one level behind the farthest of those that it waits for. What waits for the whole flow is
    behind all. Steps come after those that they wait for.
    """
    levels: dict[str, int] = {}
    hooks: list[str] = []
    for step in steps:
        if step.role in HOOKS:
            hooks.append(step.id)
        else:
            levels[step.id] = 1 + max((levels.get(parent, 0) for parent in step.after), default=0)
    last = 1 + max(levels.values(), default=0)
    return levels | dict.fromkeys(hooks, last)


def text(steps: Sequence[StepRecord], levels: Mapping[str, int], now: Instant, *, every: bool) -> None:
    """A table of the steps."""
    names: dict[str, str] = {step.id: step.name for step in steps}
    states: dict[str, State] = {step.id: step.state for step in steps}
    rows: list[list[str]] = []
    for level, found in groupby(
        sorted(steps, key=lambda step: levels[step.id]), key=lambda step: levels[step.id]
    ):
        group = list(found)
        shown = group
        if len(group) > MOST_SHOWN and not every:
            shown = sorted(group, key=lambda step: _WORTH.index(step.state))[:FIRST]
        rows += [
            [
                str(level) if number == 0 else "", step.name, step.state.value, str(step.attempts or ""),
                _after(step, names), _note(step, names, states, now),
            ]
            for number, step in enumerate(shown)
        ]  # fmt: skip
        if len(shown) < len(group):
            rest = Counter(step.state for step in group) - Counter(step.state for step in shown)
            kinds = ", ".join(f"{state.value} {rest[state]:,}" for state in _WORTH if rest[state])
            rows.append(["", f"... and {len(group) - len(shown):,} more", "", "", "", kinds])
    table(COLUMNS, rows)


def _after(step: StepRecord, names: Mapping[str, str]) -> str:
    """Whom it waits for, and for what of them."""
    if step.role in HOOKS:
        return "all" if step.role is Role.ON_DONE else "all, any failed"
    named = [_short(parent, names) for parent in step.after[:MOST_NAMED]]
    more = len(step.after) - len(named)
    said = ", ".join(named) + (f" and {more:,} more" if more > 0 else "")
    return f"{said} ({_WHEN[step.when]})" if step.when in _WHEN and step.after else said


def _short(key: str, names: Mapping[str, str]) -> str:
    return names.get(key, key.rpartition(":")[2])


def _note(step: StepRecord, names: Mapping[str, str], states: Mapping[str, State], now: Instant) -> str:
    """The one thing most worth knowing of a step in its state."""
    error = "" if step.error is None else f"{step.error.type}: {step.error.message}"
    match step.state:
        case State.BLOCKED:
            return _waiting(step, names, states)
        case State.RUNNING:
            return f"for {span(max(0, now - (step.started or now)))}"
        case State.SUCCEEDED if step.started is not None and step.finished is not None:
            return f"took {span(step.finished - step.started)}"
        case State.CANCELLED if step.reason is Reason.PARENT_FAILED:
            failed = [_short(one, names) for one in step.after if states.get(one) in _FAILED]
            return f"needed {', '.join(failed[:MOST_NAMED])}" if failed else "what it needed has failed"
        case State.CANCELLED if step.reason is Reason.SKIPPED:
            return "not needed"
        case State.DEAD | State.EXPIRED | State.CANCELLED:
            return ": ".join(filter(None, (step.reason and step.reason.value, error)))
        case _:
            return error


_FAILED: Final = (State.DEAD, State.EXPIRED, State.CANCELLED)


def _waiting(step: StepRecord, names: Mapping[str, str], states: Mapping[str, State]) -> str:
    """What a step waits for."""
    if step.role in HOOKS:
        return "waits for all others"
    if step.role is Role.EVENT and not step.open:
        return "waits for its event"
    first = [_short(one, names) for one in step.after if states.get(one) not in FINISHED][:MOST_NAMED]
    of = f" of {len(step.after):,}" if len(step.after) < PARENTS_SHOWN else ""
    return f"waits for {step.open:,}{of}: {', '.join(first)}" if step.open else "is released"


# -- Mermaid


def diagram(steps: Sequence[StepRecord], levels: Mapping[str, int]) -> str:
    """The graph in Mermaid's words. Of a large flow, the steps of a level that run the same task are one node."""
    alone = len(steps) <= MOST_NODES
    groups: dict[tuple[int, str], list[StepRecord]] = {}
    for step in steps:
        groups.setdefault((levels[step.id], step.name if alone else step.task), []).append(step)
    node: dict[str, int] = {step.id: number for number, group in enumerate(groups.values()) for step in group}
    lines = ["flowchart LR"]
    lines += [
        f'  n{number}["{_label(name, group)}"]:::{_worst(group).value}'
        for number, ((_, name), group) in enumerate(groups.items())
    ]
    edges: dict[tuple[int, int, Condition], None] = {}
    for step in steps:
        for parent in step.after:
            if parent in node:
                edges[node[parent], node[step.id], step.when] = None
    lines += [
        f"  n{one} -- {_WHEN[when]} --> n{other}" if when in _WHEN else f"  n{one} --> n{other}"
        for one, other, when in edges
    ]
    lines += [
        f"  classDef {state.value} {style}"
        for state, style in _STYLES.items()
        if any(one.state is state for one in steps)
    ]
    return "\n".join(lines)


def _quotable(text: str) -> str:
    """Text that ends no label, whoever wrote it."""
    return clean(text).replace('"', "'")


def _label(name: str, group: Sequence[StepRecord]) -> str:
    numbers = Counter(step.state.value for step in group)
    if len(group) == 1:
        return f"{_quotable(group[0].name)}<br/>{group[0].state.value}"
    return f"{_quotable(name)} x {len(group):,}<br/>{', '.join(f'{state} {n:,}' for state, n in numbers.items())}"


def _worst(group: Sequence[StepRecord]) -> State:
    return min((step.state for step in group), key=_WORTH.index)


_STYLES: Final = {
    State.DEAD: "fill:#fdd,stroke:#c00", State.EXPIRED: "fill:#fdd,stroke:#c00", State.RUNNING: "fill:#def,stroke:#06c",
    State.RETRYING: "fill:#ffd,stroke:#b80", State.READY: "fill:#dff,stroke:#088", State.SCHEDULED: "fill:#fdf,stroke:#808",
    State.BLOCKED: "fill:#fff,stroke:#888", State.CANCELLED: "fill:#eee,stroke:#aaa", State.SUCCEEDED: "fill:#dfd,stroke:#080",
}  # fmt: skip
