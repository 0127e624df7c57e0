"""Whatever commit a process dies at, before it or after it, whoever comes next brings every flow to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from forebay.engine import Ask, EngineOptions, Retention, Settlement, Source
from forebay.errors import EngineError, InvalidOption
from forebay.model import query as q, verdict as v
from forebay.model.checkup import Grade
from forebay.model.flow import Condition, FlowState, Role, Step
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.state import State
from forebay.model.survey import Flows, Parents, Steps
from forebay.stores.flows import ROWS
from forebay.stores.sqlite import SqliteEngine, flows
from forebay.stores.sqlite.connection import Connection
from forebay.support.ids import Token, new_token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.engine import Store
    from forebay.model.checkup import Finding

WORK = Source(queue="work")
OPTIONS = EngineOptions(retention=Retention(succeeded=None, cancelled=None, dead=None))
COUNTS = {
    "flow": "SELECT count(*) FROM flow",
    "flow_step": "SELECT count(*) FROM flow_step",
    "flow_edge": "SELECT count(*) FROM flow_edge",
    "flow_count": "SELECT count(*) FROM flow_count",
    "flow_mark": "SELECT count(*) FROM flow_mark",
    "flow_kept": "SELECT count(*) FROM flow_kept WHERE n <> 0",
    "kept_steps": "SELECT count(*) FROM kept_steps",
    "entry": "SELECT count(*) FROM entry",
    "message": "SELECT count(*) FROM message",
}
WIDE = 7


def step(
    name: str, *after: str, when: Condition = Condition.ALL_SUCCEEDED, role: Role = Role.WORK
) -> Message:
    place = Step(flow="f", name=name, after=tuple(f"f:{one}" for one in after), when=when, role=role)
    return Message(id=MessageId(f"f:{name}"), name="job", queue="work", body=b"{}", step=place)


NAMES = [f"wide {n}" for n in range(WIDE)]
STEPS = [
    step("well", role=Role.ON_DONE), step("badly", role=Role.ON_FAILED), step("top"), *(step(name, "top") for name in NAMES),
    step("all", *NAMES), step("any", *NAMES, when=Condition.ANY_FAILED), step("done", *NAMES, when=Condition.ALL_DONE),
    step("next", "all"), step("last", "next", "any", when=Condition.ALL_DONE),
]  # fmt: skip


class Commits:
    """Dies at one commit, before or after it."""

    def __init__(self, fatal: int, *, after: bool) -> None:
        self.fatal, self.after, self.number = fatal, after, 0

    def bound(self) -> Callable[..., Any]:
        """What a class makes a method of."""

        def execute(conn: Connection, statement: str, *rest: Any, **named: Any) -> Any:
            return self.execute(conn, statement, *rest, **named)

        return execute

    def execute(self, conn: Connection, statement: str, *rest: Any, **named: Any) -> Any:
        if statement != "COMMIT":
            return apsw.Connection.execute(conn, statement, *rest, **named)
        self.number += 1
        if self.number == self.fatal and not self.after:
            raise apsw.IOError("gone")
        answer = apsw.Connection.execute(conn, statement, *rest, **named)
        if self.number == self.fatal:
            raise apsw.IOError("gone")
        return answer


async def opened(path: Path, clock: VirtualClock) -> Store:
    store = SqliteEngine(path, OPTIONS).connect("one", clock)
    await store.declare([WORK])
    return store


async def work(store: Store, *, bad: str | None) -> bool:
    """Take what there is and settle it; one of the wide ones fails. Whether there was any."""
    taken = await store.receive([Ask(WORK, Token(new_token()), 3)], wait=0)
    ends: list[Settlement] = []
    for one in taken:
        failed = bad is not None and one.id == f"f:{bad}"
        more = [step("more", "top"), step("more still", "more")] if one.id == "f:top" else []
        ends.append(
            Settlement(one, v.Dead(v.Reason.ASKED), ())
            if failed
            else Settlement(one, v.Done(b"1"), tuple(more))
        )
    await store.settle(ends)
    return bool(taken)


async def life(store: Store) -> None:
    """A flow fails, is retried, and ends well."""
    await store.publish(STEPS)
    while await work(store, bad=NAMES[3]):
        pass
    await store.steer(q.Selector(flow="f", states=frozenset({State.DEAD})), q.Redrive())
    while await work(store, bad=None):
        pass


async def after_life(store: Store, clock: VirtualClock) -> None:
    """What somebody else does who comes then: sweeps, and works off what there is."""
    await store.publish(STEPS)
    await clock.advance(OPTIONS.timing.lease + 1)
    for _ in range(300):
        await store.sweep(1_000)
        if not await work(store, bad=None):
            (flow,) = await store.survey(Flows())
            if flow.state is not FlowState.RUNNING:
                return
    pytest.fail(f"the flow hangs: {await store.survey(Steps(flow='f'))}")


async def check(store: Store) -> None:
    """Each step is over as it should be, and its parents' results are each there once."""
    steps = {one.id: one for one in await store.survey(Steps(flow="f"))}
    (flow,) = await store.survey(Flows())
    assert flow.steps == Counter(one.state for one in steps.values())
    assert {f"f:{name}" for name in ("more", "more still")} <= steps.keys()
    failed = steps[EntryId(f"f:{NAMES[3]}")].state is State.DEAD
    assert flow.state is (FlowState.FAILED if failed else FlowState.SUCCEEDED)
    expected = {"all": not failed, "next": not failed, "done": True, "last": True}
    assert {name: steps[EntryId(f"f:{name}")].state is State.SUCCEEDED for name in expected} == expected
    assert not any(one.open for one in steps.values())
    parents = await store.survey(Parents(of=EntryId("f:done")))
    assert [(one.name, one.result) for one in parents] == [
        (name, None if failed and name == NAMES[3] else b"1") for name in NAMES
    ]


@pytest.mark.parametrize("rows", [2, 1_000])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_flow_survives_a_death_at_every_commit(
    after: bool, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "ROWS", rows)

    async def dies(fatal: int) -> bool:
        """Whether it came so far."""
        clock, path = VirtualClock(), tmp_path / f"{fatal}.db"
        store = await opened(path, clock)
        commits = Commits(fatal, after=after)
        died = False
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "execute", commits.bound(), raising=False)
            try:
                await life(store)
            except EngineError:
                died = True
            patched.setattr("forebay.stores.sqlite.thread.DatabaseThread._follow_up", lambda _: None)
            await store.close()
        store = await opened(path, clock)
        try:
            await after_life(store, clock)
            await check(store)
        finally:
            await store.close()
        return died or commits.number >= fatal

    async def story() -> None:
        fatal = 1
        while await dies(fatal):
            fatal += 1
        assert fatal > 10, "there were commits to die at"

    asyncio.run(story())


def test_a_flow_that_is_refused_has_left_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        store = await opened(tmp_path / "f.db", VirtualClock())
        try:
            with pytest.raises(InvalidOption, match="comes after 'f:nobody'"):
                await store.publish([*STEPS, step("x", "nobody")])
            assert await store.survey(Flows()) == ()
            assert (await store.find(q.Query())).records == ()
            await store.publish(STEPS)
            assert len(await store.survey(Steps(flow="f"))) == len(STEPS)
        finally:
            await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("shape", ["wide", "chain"])
def test_no_transaction_touches_more_than_it_may(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one end sets off in thousands is done in parts, each by a transaction or a sweep of its own."""
    monkeypatch.setattr("forebay.stores.sqlite.thread.DatabaseThread._follow_up", lambda _: None)
    names = [str(n) for n in range(3_000)]
    wide = [step("top"), *(step(name, "top") for name in names)]
    chain = [step("top"), *(step(name, f"{n - 1}" if n else "top") for n, name in enumerate(names))]

    async def story() -> None:
        store = await opened(tmp_path / "f.db", VirtualClock())

        async def moved() -> int:
            (flow,) = await store.survey(Flows())
            return sum(flow.steps.values()) - flow.steps.get(State.BLOCKED, 0)

        try:
            await store.publish(wide if shape == "wide" else chain)
            (top,) = await store.receive([Ask(WORK, Token(new_token()), 1)], wait=0)
            before, parts = await moved(), 0
            await store.settle([Settlement(top, v.Done() if shape == "wide" else v.Dead(v.Reason.ASKED))])
            while (now := await moved()) > before:
                assert now - before <= ROWS
                before, parts = now, parts + 1
                await store.sweep(1_000)
            assert parts >= len(names) // ROWS
            assert before == 1 + len(names)
        finally:
            await store.close()

    asyncio.run(story())


def test_a_flow_is_deleted_in_parts_with_all_its_edges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "ROWS", 50)
    names = [str(n) for n in range(120)]

    async def story() -> None:
        store = await opened(tmp_path / "f.db", VirtualClock())
        try:
            await store.publish([*(step(name) for name in names), step("all", *names), step("too", *names)])
            await store.steer(q.Selector(flow="f"), q.CancelNow())
            for _ in range(20):
                await store.sweep(1_000)
            assert await store.steer(q.Selector(flow="f"), q.Delete()) == q.Steered(changed=122)
            for _ in range(20):
                await store.sweep(1_000)
            assert (await store.find(q.Query())).records == ()
            assert all(not queue.states for queue in (await store.count()).queues)
        finally:
            await store.close()
        with apsw.Connection(str(tmp_path / "f.db")) as conn:
            rows = {table: conn.execute(count).get for table, count in COUNTS.items()}
        assert rows == dict.fromkeys(COUNTS, 0)
        conn.close()

    asyncio.run(story())


def test_the_doctor_finds_a_flow_that_runs_though_its_steps_are_over(tmp_path: Path) -> None:
    path = tmp_path / "f.db"

    async def story() -> None:
        store = await opened(path, VirtualClock())
        await store.publish(STEPS)
        await store.steer(q.Selector(flow="f"), q.CancelNow())
        await store.close()

    def found() -> list[Finding]:
        return [one for one in SqliteEngine(path).checkup(0) if one.name == "flows"]

    asyncio.run(story())
    assert found() == []
    with apsw.Connection(str(path)) as conn:
        conn.execute("UPDATE flow SET state = 'running', finished = NULL")
    conn.close()

    (finding,) = found()

    assert finding.grade is Grade.FAIL
    assert "1 run" in finding.text
