"""Workers with different code on one queue: each task comes to one that knows its name, soon, and however many do not."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from forebay import App, QueueOptions, State, WorkerOptions
from forebay.model.query import Query
from forebay.model.verdict import Reason
from forebay.model.when import SECOND
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.testing.clock import VirtualClock, eventually
from tests.runtime.kit import Spied, story, working

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Engine
    from forebay.model.query import TaskRecord
    from forebay.support.clock import Clock

SWEEP = 5 * SECOND
GRACE = 300 * SECOND


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return MemoryEngine() if request.param == "memory" else SqliteEngine(tmp_path / "store.db")


def old_and_new(engine: Engine, clock: Clock) -> tuple[App, App]:
    """Two Apps on one queue: the one knows ``red``, the other ``blue``."""
    old, new = App(engine, clock=clock), App(engine, clock=clock)

    @old.task
    async def red() -> str:
        return "old"

    @new.task
    async def blue() -> str:
        return "new"

    return old, new


async def records(app: App) -> list[TaskRecord]:
    """All there are."""
    return list((await app.find(Query(size=1_000))).records)


async def all_are(app: App, *states: State) -> None:
    """Wait until all are in one of some states."""

    async def so() -> bool:
        return all(record.state in states for record in await records(app))

    await eventually(so, what=f"all are {states}")


@story
async def test_every_task_comes_to_a_worker_that_knows_it_within_a_sweep(engine: Engine) -> None:
    clock = VirtualClock()
    _, new = old_and_new(engine, clock)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(working(old_and_new(engine, clock)[0]))
        await stack.enter_async_context(working(new))
        for _ in range(3):
            for name in ("blue", "red") * 10:
                await new.send(name)
        await all_are(new, State.SUCCEEDED, State.SCHEDULED)
        await clock.advance(SWEEP)
        await all_are(new, State.SUCCEEDED)
        ended = await records(new)

    assert {(r.message.name, r.result) for r in ended} == {("blue", b'"new"'), ("red", b'"old"')}
    assert [r for r in ended if r.finished is None or r.finished - r.created > SWEEP] == []
    assert {r.attempts for r in ended} == {1}


@story
async def test_a_worker_that_comes_later_takes_all_that_the_others_did_not_know_at_once(
    engine: Engine,
) -> None:
    clock = VirtualClock()
    old, new = old_and_new(engine, clock)
    async with working(old):
        for _ in range(250):
            await old.send("blue")
        await all_are(old, State.SCHEDULED)
        async with working(new):
            await all_are(new, State.SUCCEEDED)

    assert clock.monotonic() == 0


@story
async def test_what_nobody_knows_is_taken_twice_and_costs_nothing_in_between(engine: Engine) -> None:
    clock, spied = VirtualClock(), Spied(engine)
    old, _ = old_and_new(spied, clock)
    async with working(old):
        for _ in range(150):
            await old.send("blue")
        await all_are(old, State.SCHEDULED)
        before = spied.calls.copy()
        await clock.advance(GRACE - SWEEP)
        spent = spied.calls - before
        await all_are(old, State.SCHEDULED)
        await clock.advance(2 * SWEEP)
        await all_are(old, State.DEAD)
        ended = await records(old)

    assert spent["settle"] == 0
    assert spent["receive"] <= GRACE // SWEEP
    assert {(r.reason, r.attempts, len(r.tries)) for r in ended} == {(Reason.UNKNOWN_NAME, 0, 2)}


@pytest.mark.parametrize("full", ["altogether", "in that queue"])
@story
async def test_what_somebody_knows_is_not_dead_of_its_name_however_long_he_is_full(full: str) -> None:
    clock, engine = VirtualClock(), MemoryEngine()
    one, slots = QueueOptions(concurrency=1), 1 if full == "altogether" else 10
    old, new = App(engine, clock=clock), App(engine, clock=clock, queues={"default": one})

    @new.task(timeout="1h")
    async def blue() -> None:
        await clock.sleep(2 * GRACE)

    @new.task(queue="other")
    async def green() -> None: ...

    @old.task
    async def red() -> None: ...

    async with working(old), working(new, WorkerOptions(concurrency=slots)):
        for _ in range(3):
            await old.send("blue")
        await clock.advance(3 * 2 * GRACE + 3 * SWEEP)
        await all_are(new, State.SUCCEEDED)
