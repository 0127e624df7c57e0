"""A flow as a drawing: levels, what is shown of large ones, what each step waits for."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.cli.flow_graph import diagram, levels_of, text
from forebay.model.flow import Condition, Role
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.survey import StepRecord
from forebay.model.verdict import Failure, Reason

NOW = 10_000_000


def step(name: str, state: State = State.SUCCEEDED, *after: str, **fields: Any) -> StepRecord:
    options: dict[str, Any] = {
        "when": Condition.ALL_SUCCEEDED,
        "role": Role.WORK,
        "task": name.rpartition("-")[0] or name,
        **fields,
    }
    parents = tuple(f"x:{one}" for one in after)
    return StepRecord(
        id=EntryId(f"x:{name}"), name=name, queue="default", state=state, after=parents, **options
    )


def drawn(steps: list[StepRecord], capsys: pytest.CaptureFixture[str], *, every: bool = False) -> list[str]:
    text(steps, levels_of(steps), NOW, every=every)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_steps_stand_one_level_behind_the_farthest_they_wait_for() -> None:
    steps = [
        step("a"), step("b", State.READY, "a"), step("c", State.BLOCKED, "a", "b"), step("d"),
        step("_on_done", State.BLOCKED, role=Role.ON_DONE),
    ]  # fmt: skip

    levels = {key.removeprefix("x:"): level for key, level in levels_of(steps).items()}

    assert levels == {"a": 1, "b": 2, "c": 3, "d": 1, "_on_done": 4}


def test_each_step_is_shown_with_what_is_worth_knowing(capsys: pytest.CaptureFixture[str]) -> None:
    error = Failure("OSError", "away")
    steps = [
        step("fetch", attempts=1, started=1_000_000, finished=3_500_000),
        step("resize-1", State.RUNNING, "fetch", started=8_000_000),
        step("resize-2", State.DEAD, "fetch", attempts=3, reason=Reason.EXHAUSTED, error=error),
        step("publish", State.CANCELLED, "resize-1", "resize-2", reason=Reason.PARENT_FAILED),
        step("cry", State.READY, "resize-2", when=Condition.ANY_FAILED),
        step("count", State.BLOCKED, "resize-1", "resize-2", open=1, when=Condition.ALL_DONE),
        step("spare", State.CANCELLED, "fetch", reason=Reason.SKIPPED, when=Condition.ANY_FAILED),
        step("_on_failed", State.BLOCKED, role=Role.ON_FAILED),
    ]  # fmt: skip

    assert drawn(steps, capsys) == [
        "level step state attempts after note",
        "1 fetch succeeded 1 took 2.5s",
        "2 resize-1 running fetch for 2s",
        "resize-2 dead 3 fetch exhausted: OSError: away",
        "spare cancelled fetch (any failed) not needed",
        "3 publish cancelled resize-1, resize-2 needed resize-2",
        "cry ready resize-2 (any failed)",
        "count blocked resize-1, resize-2 (all done) waits for 1 of 2: resize-1",
        "4 _on_failed blocked all, any failed waits for all others",
    ]


def test_of_a_wide_level_the_most_interesting_are_shown_and_the_rest_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = [step(f"resize-{n}") for n in range(10_000)]
    wide[77] = step("resize-77", State.DEAD)
    wide[78] = step("resize-78", State.RUNNING)
    last = step("publish", State.BLOCKED, *(f"resize-{n}" for n in range(1_000)), open=1_234)

    lines = drawn([*wide, last], capsys)

    assert len(lines) == 8
    assert lines[1].startswith("1 resize-77 dead")
    assert lines[2].startswith("resize-78 running")
    assert lines[6] == "... and 9,995 more succeeded 9,995"
    assert (
        lines[7] == "2 publish blocked resize-0, resize-1, resize-2 and 997 more waits for 1,234: resize-78"
    )
    assert len(drawn([*wide, last], capsys, every=True)) == 10_002


def test_a_diagram_names_steps_states_and_conditions() -> None:
    steps = [step("a"), step("b", State.DEAD, "a"), step("c", State.READY, "b", when=Condition.ANY_FAILED)]

    assert diagram(steps, levels_of(steps)).splitlines() == [
        "flowchart LR",
        '  n0["a<br/>succeeded"]:::succeeded',
        '  n1["b<br/>dead"]:::dead',
        '  n2["c<br/>ready"]:::ready',
        "  n0 --> n1",
        "  n1 -- any failed --> n2",
        "  classDef dead fill:#fdd,stroke:#c00",
        "  classDef ready fill:#dff,stroke:#088",
        "  classDef succeeded fill:#dfd,stroke:#080",
    ]


def test_a_diagram_of_a_large_flow_has_a_node_for_those_of_a_level_that_run_the_same_task() -> None:
    steps = [
        step("a"),
        *(step(f"resize-{n}", State.SUCCEEDED, "a") for n in range(500)),
        step("z", State.DEAD, "resize-3"),
    ]

    lines = diagram(steps, levels_of(steps)).splitlines()

    assert lines[2] == '  n1["resize x 500<br/>succeeded 500"]:::succeeded'
    assert [line for line in lines if "-->" in line] == ["  n0 --> n1", "  n1 --> n2"]
