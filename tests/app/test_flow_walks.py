"""Random flows, written and worked off, against what their conditions say by themselves: who runs, how often, and what it is given."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple

from hypothesis import given, settings, strategies as st

from forebay import App
from forebay.model.flow import Condition, Role
from forebay.model.state import State
from forebay.model.verdict import Reason

walks = settings(max_examples=60, deadline=None)
S, F, K = "succeeded", "failed", "skipped"


class Drawn(NamedTuple):
    """A step: the numbers of those it waits for, and what becomes of it if it runs."""

    after: tuple[int, ...]
    when: Condition
    gathers: bool
    fails: bool


@st.composite
def graphs(draw: st.DrawFn) -> list[Drawn]:
    steps: list[Drawn] = []
    for number in range(draw(st.integers(1, 9))):
        after = tuple(sorted(draw(st.sets(st.integers(0, number - 1), max_size=4)))) if number else ()
        when = draw(st.sampled_from(Condition)) if after else Condition.ALL_SUCCEEDED
        steps.append(Drawn(after, when, bool(after) and draw(st.booleans()), draw(st.integers(0, 3)) == 0))
    return steps


def ends(steps: list[Drawn]) -> tuple[list[str], list[bool]]:
    """How each step is seen in the end, and whether it ran."""
    seen: list[str] = []
    ran: list[bool] = []
    for step in steps:
        before = [seen[parent] for parent in step.after]
        runs, else_ = True, ""
        match step.when:
            case Condition.ALL_SUCCEEDED if F in before:
                runs, else_ = False, F
            case Condition.ALL_SUCCEEDED if K in before:
                runs, else_ = False, K
            case Condition.ANY_FAILED if F not in before:
                runs, else_ = False, K
            case _:
                pass
        ran.append(runs)
        seen.append((F if step.fails else S) if runs else else_)
    return seen, ran


def kind(state: State, reason: Reason | None) -> str:
    if state is State.SUCCEEDED:
        return S
    return K if reason is Reason.SKIPPED else F


@walks
@given(graphs())
def test_every_step_runs_once_if_and_only_if_its_condition_holds_and_sees_each_result(
    steps: list[Drawn],
) -> None:
    asyncio.run(walk(steps))


async def walk(steps: list[Drawn]) -> None:
    app = App("memory://")
    calls: list[int] = []
    given_: dict[int, list[Any]] = {}

    def ran(number: int, fails: bool) -> int:
        calls.append(number)
        if fails:
            raise ValueError(number)
        return number

    @app.task(max_attempts=1)
    async def plain(number: int, fails: bool) -> int:
        return ran(number, fails)

    @app.task(max_attempts=1)
    async def gathers(results: list[int | None], number: int, fails: bool) -> int:
        given_[number] = results
        return ran(number, fails)

    @app.task
    async def hook(what: str) -> None:
        calls.append(-1 if what == "done" else -2)

    async with app.testing() as t:
        flow = app.flow("x", on_done=hook.bind("done"), on_failed=hook.bind("failed"))
        nodes: list[Any] = []
        add: Any = flow.add
        for number, step in enumerate(steps):
            call: Any = gathers if step.gathers else plain
            bound = call.bind(number=number, fails=step.fails)
            after = [nodes[parent] for parent in step.after]
            nodes.append(add(bound, after=after, when=step.when, gather=step.gathers, name=f"s{number}"))
        handle = await flow.send()
        await t.run_all()
        found = {one.name: one for one in await handle.steps()}
        record = await handle.status()

    seen, did = ends(steps)
    failed = F in seen
    assert Counter(calls) == Counter([n for n, runs in enumerate(did) if runs] + [-2 if failed else -1])
    assert [kind(found[f"s{n}"].state, found[f"s{n}"].reason) for n in range(len(steps))] == seen
    assert record.finished is not None
    assert record.state.value == ("failed" if failed else "succeeded")
    assert sum(record.steps.values()) == len(steps) + 2
    assert all(one.open == 0 for one in found.values() if one.role is Role.WORK)
    for number, results in given_.items():
        step = steps[number]
        whole = [parent if seen[parent] == S else None for parent in step.after]
        # What runs at the first failure does not wait for the others.
        early = step.when is Condition.ANY_FAILED
        assert len(results) == len(whole)
        assert all(one == other or (early and one is None) for one, other in zip(results, whole, strict=True))
