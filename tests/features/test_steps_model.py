"""Handlers made up at random, which fail at random: each of their steps takes effect once, and all end as if nothing had failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hypothesis import given, settings, strategies as st

from forebay import App, Context, Retry, Snooze, State
from forebay.model.query import Redrive, Selector
from forebay.testing.stage import Stage

Program: TypeAlias = "list[tuple[str, Any]]"
"""What a handler does one after the other; ``group``: programs that run beside each other."""

SIMPLE = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 2)),  # how often it fails
    st.tuples(st.just("map"), st.integers(0, 4)),
    st.tuples(st.just("sleep"), st.integers(0, 90)),
    st.tuples(
        st.just("wait"), st.booleans()
    ),  # whether its event comes before that is seen to be waited for, too
)
PROGRAMS: st.SearchStrategy[Program] = st.lists(
    st.one_of(
        SIMPLE,
        st.tuples(st.just("version"), st.none()),
        st.tuples(st.just("group"), st.lists(st.lists(SIMPLE, max_size=3), min_size=1, max_size=3)),
    ),
    max_size=6,
)


@dataclass
class World:
    """What functions have done, and what they are still to fail of."""

    effects: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    async def act(self, name: str, fails: int) -> str:
        await asyncio.sleep(0)  # noqa: TID251  # others get their turn
        if self.failed[name] < fails:
            self.failed[name] += 1
            raise ConnectionError(name)
        self.effects[name] += 1
        return name

    async def run(self, ctx: Context, program: Program, path: str) -> list[Any]:
        return [await self.one(ctx, op, what, f"{path}{n}") for n, (op, what) in enumerate(program)]

    async def one(self, ctx: Context, op: str, what: Any, name: str) -> Any:
        match op:
            case "step":
                return await ctx.step(name, self.act, name, what)
            case "map":
                items = [f"{name}[{n}]" for n in range(what)]
                return [
                    one
                    async for one in ctx.step_map(name, lambda item: self.act(item, 1), items, concurrency=2)
                ]
            case "sleep":
                await ctx.sleep(what, name=name)
                return name
            case "wait":
                return await ctx.wait_event("news", key=name, timeout="300d", name=name)
            case "version":
                return await ctx.version(name)
            case _:
                async with asyncio.TaskGroup() as group:
                    parts = [
                        group.create_task(self.run(ctx, part, f"{name}-{n}-")) for n, part in enumerate(what)
                    ]
                return [part.result() for part in parts]


def expected(program: Program, path: str = "s") -> list[Any]:
    """What a program comes to if nothing fails."""
    return [_expected(op, what, f"{path}{n}") for n, (op, what) in enumerate(program)]


def _expected(op: str, what: Any, name: str) -> Any:
    match op:
        case "map":
            return [f"{name}[{n}]" for n in range(what)]
        case "group":
            return [expected(part, f"{name}-{n}-") for n, part in enumerate(what)]
        case "version":
            return True
        case _:
            return name


def named(program: Program, op: str, path: str = "s") -> list[str]:
    """The names of the steps of one kind."""
    found = list[str]()
    for n, (kind, what) in enumerate(program):
        name = f"{path}{n}"
        if kind == "group":
            found += [one for m, part in enumerate(what) for one in named(part, op, f"{name}-{m}-")]
        elif kind == op:
            found += [f"{name}[{m}]" for m in range(what)] if op == "map" else [name]
    return found


async def see_through(app: App, t: Stage, key: Any, early: list[str], redrives: set[int]) -> State:
    """Run a message to its end: publish what it waits for, turn the clock, make it ready before its time now and then."""
    for name in early:
        await app.publish("news", name, key=name)
    for turn in range(400):
        steps = await t.run_all()
        if steps and steps[-1].state in (State.SUCCEEDED, State.DEAD):
            return steps[-1].state
        if turn in redrives:
            await app.steer(Selector(), Redrive())
            continue
        for step in await app.saved_steps(key):
            if step.waits:
                await app.publish("news", step.name, key=step.name)
        if not t.hand.is_due():
            await t.advance("45s")
    raise AssertionError("it does not end")


@settings(max_examples=100, deadline=None)
@given(PROGRAMS, st.sets(st.integers(1, 12)), st.sets(st.integers(1, 6)), st.sets(st.integers(0, 12)))
def test_every_step_takes_effect_once_and_the_handler_ends(
    program: Program, bad_tries: set[int], put_off: set[int], redrives: set[int]
) -> None:
    app, world, tries = App("memory://"), World(), Counter[str]()

    @app.task(max_attempts=200, backoff="1s", backoff_cap="1s")
    async def job(ctx: Context) -> list[Any]:
        tries["all"] += 1
        found = await world.run(ctx, program, "s")
        tries["whole"] += 1
        if tries["whole"] in put_off:
            raise Snooze("1s")
        if tries["whole"] in bad_tries:
            raise Retry
        return found

    async def story() -> None:
        async with app.testing() as t:
            handle = await job.send()
            early = named(program, "wait") if any(what for op, what in program if op == "wait") else []
            assert await see_through(app, t, handle.id, early, redrives) is State.SUCCEEDED
            assert await handle.result() == expected(program)

    asyncio.run(story())

    acted = [*named(program, "step"), *named(program, "map")]
    assert world.effects == dict.fromkeys(acted, 1), "each once"
