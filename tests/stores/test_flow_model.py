"""Whatever becomes of the steps of a flow, in whatever order: each runs if and only if its condition holds, and every flow ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from forebay.engine import Ask, EngineOptions, Retention, Settled, Settlement, Source
from forebay.model import query as q, verdict as v
from forebay.model.flow import (
    HOOKS,
    Condition,
    End,
    FlowState,
    Move,
    Role,
    Step,
    end_of,
    hook_stands,
    kind_of,
    stands,
    state_of,
)
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.state import FINISHED, State
from forebay.model.survey import Flows, Parents, Steps
from forebay.model.when import SECOND, After
from forebay.stores.memory import MemoryEngine, flows as memory_flows
from forebay.stores.memory.store import MemoryStore
from forebay.stores.sqlite import SqliteEngine, flows as sqlite_flows
from forebay.stores.sqlite.store import SqliteStore
from forebay.support.ids import new_token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from forebay.engine import Delivery, Engine, Store
    from forebay.model.survey import StepRecord

WORK = Source(queue="work")
OPTIONS = EngineOptions(retention=Retention(succeeded=None, cancelled=None, dead=None))
FAILURE = v.Failure("Boom", "no")
FLOW = "f"
TOPICS = ("paid", "seen")
MOST = 12
"""Steps that a flow begins with."""
OVER = frozenset({State.DEAD, State.EXPIRED, State.CANCELLED})
COMMANDS: dict[str, q.Command] = {"cancel": q.CancelNow(), "redrive": q.Redrive(), "delete one": q.Delete()}
LIVE = frozenset({State.READY, State.SCHEDULED, State.RETRYING, State.RUNNING})
VERDICTS: tuple[v.Verdict, ...] = (
    v.Done(), v.Done(), v.Done(), v.Dead(v.Reason.ASKED, FAILURE), v.Dead(v.Reason.ASKED, FAILURE), v.Retry(After(0), FAILURE),
    v.Retry(After(20 * SECOND), FAILURE), v.Cancelled(), v.Expired(), v.Release(), v.Crashed(FAILURE), v.Snooze(After(5 * SECOND)),
)  # fmt: skip
ACTIONS = (
    "take", "take", "settle", "settle", "settle", "add", "crash", "cancel", "redrive", "cancel all", "retry", "wait", "happen", "send",
    "delete", "delete one",
)  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> list[Message]:
    """The steps of a flow, parents first."""
    steps: list[Message] = []
    for n in range(draw(st.integers(1, MOST))):
        parents = draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set()
        role = draw(st.sampled_from((Role.WORK, Role.WORK, Role.WORK, Role.EVENT)))
        steps.append(
            made(
                str(n), *(f"{FLOW}:{parent}" for parent in sorted(parents)), when=draw(st.sampled_from(Condition)), role=role,
                due=draw(st.sampled_from((None, None, None, After(7 * SECOND)))),
                expires=draw(st.sampled_from((None, None, After(40 * SECOND)))) if role is Role.WORK else After(30 * SECOND),
                unique=draw(st.sampled_from((None, None, None, None, "u"))),
            )
        )  # fmt: skip
    hooks = draw(st.sets(st.sampled_from(sorted(HOOKS))))
    return [*steps, *(made(role.value, role=role) for role in sorted(hooks))]


def made(
    name: str, *after: str, when: Condition = Condition.ALL_SUCCEEDED, role: Role = Role.WORK, **fields: Any
) -> Message:
    place = Step(flow=FLOW, name=name, after=after, when=when, role=role)
    task = TOPICS[len(after) % 2] if role is Role.EVENT else "job"
    return Message(id=MessageId(f"{FLOW}:{name}"), name=task, queue="work", body=b"{}", step=place, **fields)


@dataclass
class Player:
    """One store, and what its worker has in hand."""

    store: Store
    clock: VirtualClock
    held: dict[EntryId, Delivery] = field(default_factory=dict)
    added: int = 0

    async def play(self, action: str, number: int, steps: list[Message]) -> object:
        """One thing that happens; the answer of the store, which all stores give."""
        there = await self.store.survey(Steps(flow=FLOW))
        keys = [step.id for step in there] or [EntryId("f:0")]
        parents = [step.id for step in there if step.role not in HOOKS]
        key = keys[number % len(keys)]
        match action:
            case "take":
                taken = await self.store.receive([Ask(WORK, new_token(), 1 + number % 3)], wait=0)
                self.held |= {d.id: d for d in taken}
                return [d.id for d in taken]
            case "settle" if self.held:
                return await self.settle(number, VERDICTS[number % len(VERDICTS)])
            case "add" if self.held and parents:
                self.added += 1
                whens = tuple(Condition)
                more = made(
                    f"more {self.added}",
                    parents[number % len(parents)],
                    when=whens[number % 3],
                    unique=("u", None, None)[number % 3],
                )
                last = made(f"last {self.added}", more.id, parents[-1])
                return await self.settle(number, v.Done(b"1"), more, last)
            case "crash":
                self.held.clear()
                await self.clock.advance(OPTIONS.timing.lease + 1)
                return (await self.store.sweep(1_000)).lost
            case "cancel" | "redrive" | "delete one":
                return await self.store.steer(q.Selector(ids=(key,)), COMMANDS[action])
            case "cancel all":
                return await self.store.steer(q.Selector(flow=FLOW), q.CancelNow())
            case "retry":
                return await self.store.steer(q.Selector(flow=FLOW, states=OVER), q.Redrive())
            case "delete":
                return await self.store.steer(q.Selector(flow=FLOW), q.Delete())
            case "wait":
                await self.clock.advance((1 + number % 25) * SECOND)
                return None
            case "happen":
                topic = TOPICS[number % 2]
                event = Message(
                    id=MessageId(f"event {self.clock.now()} {number}"), name=topic, topic=topic, body=b"1"
                )
                return (await self.store.publish([event]))[0].status
            case "send":
                return await self.store.publish(steps)
            case _:
                return None

    async def settle(self, number: int, verdict: v.Verdict, *then: Message) -> object:
        key = sorted(self.held)[number % len(self.held)]
        result = verdict if verdict != v.Done() else v.Done(key.encode().join((b'"', b'"')))
        return await self.store.settle([Settlement(self.held.pop(key), result, then)])

    async def rest(self) -> None:
        """Let all happen that follows of itself."""
        for _ in range(200):
            before = await self.seen()
            await self.store.sweep(1_000)
            if await self.seen() == before and not await left(self.store):
                return
        pytest.fail("it never comes to rest")

    async def seen(self) -> object:
        return await self.store.survey(Flows()), await self.store.survey(Steps(flow=FLOW))

    async def finish(self) -> None:
        """Work until nothing is left to do: the flow is over then."""
        for _ in range(500):
            await self.rest()
            taken = await self.store.receive([Ask(WORK, new_token(), 100)], wait=0)
            answers = await self.store.settle([Settlement(d, v.Done(b'"%s"' % d.id.encode())) for d in taken])
            assert set(answers) <= {Settled.OK}
            if not taken:
                flows = await self.store.survey(Flows())
                if all(flow.state is not FlowState.RUNNING for flow in flows):
                    return
                await self.clock.advance(10 * SECOND)
        pytest.fail(f"the flow never ends: {await self.store.survey(Steps(flow=FLOW))}")


async def left(store: Store) -> bool:
    """Whether anything is marked that nobody has worked off."""
    if isinstance(store, MemoryStore):
        return store._engine.ledger.flows.left
    look = cast("SqliteStore", store)._thread().submit(look=lambda session: session.row("flow_left"))
    return bool((await look)[0])


class Reference:
    """What must be true of a flow at rest, from its steps alone."""

    def __init__(self) -> None:
        self.live: set[EntryId] = set()
        self.handed: Counter[str] = Counter()

    async def check(self, store: Store) -> None:
        steps = {step.id: step for step in await store.survey(Steps(flow=FLOW))}
        flows = await store.survey(Flows())
        assert len(flows) == bool(steps)
        if not steps:
            self.live.clear()
            return
        kinds = Counter(kind_of(step.state, step.reason) for step in steps.values())
        (flow,) = flows
        assert flow.steps == dict(Counter(step.state for step in steps.values())), "counted as they are"
        assert flow.state is state_of(kinds)
        assert (flow.finished is None) is (flow.state is FlowState.RUNNING)
        ordinary = [step for step in steps.values() if step.role not in HOOKS]
        for step in ordinary:
            self.check_step(step, [steps[EntryId(key)] for key in step.after])
        for step in steps.values():
            if step.role in HOOKS:
                self.check_hook(step, Counter(end_of(one.state, one.reason) for one in ordinary))
        self.live = {step.id for step in steps.values() if step.state in LIVE | {State.SUCCEEDED, State.DEAD}}

    def check_step(self, step: StepRecord, parents: list[StepRecord]) -> None:
        ends = Counter(end_of(parent.state, parent.reason) for parent in parents)
        assert (step.open, step.failed, step.skipped) == (
            ends[End.OPEN],
            ends[End.FAILED],
            ends[End.SKIPPED],
        ), f"{step.id} knows of its parents"
        move = stands(step.when, open_=step.open, failed=step.failed, skipped=step.skipped)
        self.check_standing(step, move)

    def check_hook(self, hook: StepRecord, ends: Counter[End]) -> None:
        self.check_standing(hook, hook_stands(hook.role, open_=ends[End.OPEN], failed=ends[End.FAILED]))

    def check_standing(self, step: StepRecord, move: Move) -> None:
        if step.state in LIVE and step.id not in self.live:
            assert move is Move.RUN, f"{step.id} was let go"
        match kind_of(step.state, step.reason):
            case State.BLOCKED if step.role is not Role.EVENT:
                assert move is Move.WAIT, f"{step.id} waits"
            case v.Reason.PARENT_FAILED:
                assert move is Move.FAIL, f"{step.id} was cancelled"
            case v.Reason.SKIPPED:
                assert move is Move.SKIP, f"{step.id} was skipped"
            case _:
                pass

    async def check_end(self, store: Store) -> None:
        """All is over, and each result is handed on once."""
        steps = {step.id: step for step in await store.survey(Steps(flow=FLOW))}
        for step in steps.values():
            assert step.state in FINISHED
            parents = await store.survey(Parents(of=step.id))
            assert [parent.id for parent in parents] == list(step.after)
            for parent in parents:
                succeeded = steps[parent.id].state is State.SUCCEEDED
                assert (parent.state is State.SUCCEEDED) is succeeded
                assert parent.result is None or succeeded


PLAYS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 200)), max_size=40)


def run(story: Coroutine[object, object, None]) -> None:
    asyncio.run(story)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), PLAYS)
def test_both_stores_play_a_flow_alike_and_as_its_conditions_say(
    steps: list[Message], plays: list[tuple[str, int]]
) -> None:
    async def story() -> None:
        clocks = VirtualClock(), VirtualClock()
        with TemporaryDirectory() as folder:
            engines: tuple[Engine, ...] = (
                MemoryEngine(OPTIONS),
                SqliteEngine(Path(folder) / "f.db", OPTIONS),
            )
            players = [
                Player(cast("Store", engine.connect("one", clock)), clock)
                for engine, clock in zip(engines, clocks, strict=True)
            ]
            for player in players:
                await player.store.declare([WORK])
            try:
                await _together(players, steps, plays)
            finally:
                for player in players:
                    await player.store.close()

    run(story())


async def _together(players: list[Player], steps: list[Message], plays: list[tuple[str, int]]) -> None:
    reference = Reference()
    for action, number in [("send", 0), *plays]:
        answers = [await player.play(action, number, steps) for player in players]
        assert answers[1] == answers[0], action
        for player in players:
            await player.rest()
        shapes = [await player.seen() for player in players]
        assert shapes[1] == shapes[0], action
        await reference.check(players[0].store)
    for player in players:
        await player.finish()
        await reference.check_end(player.store)
    assert await players[1].seen() == await players[0].seen()


async def _alone(
    open_: Callable[[], Awaitable[Player]], steps: list[Message], plays: list[tuple[str, int]]
) -> None:
    """Play without a rest in between, but for the looks; where a play is odd the process dies, with whatever it has left undone."""
    player = await open_()
    await player.play("send", 0, steps)
    try:
        for action, number in plays:
            await player.play(action, number, steps)
            if number % 7 == 0:
                await player.store.close()
                fresh = await open_()
                player.store = fresh.store
        await player.rest()
        reference = Reference()
        reference.live = {step.id for step in await player.store.survey(Steps(flow=FLOW))}
        await reference.check(player.store)
        await player.finish()
        await reference.check_end(player.store)
    finally:
        await player.store.close()


@pytest.mark.parametrize("rows", [1, 2, 3])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=graphs(), plays=PLAYS)
def test_it_ends_as_it_should_wherever_a_transaction_breaks_off_its_work_in_memory(
    rows: int, steps: list[Message], plays: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_flows, "ROWS", rows)

    async def story() -> None:
        clock, engine = VirtualClock(), MemoryEngine(OPTIONS)

        async def player() -> Player:
            store = engine.connect("one", clock)
            await store.declare([WORK])
            return Player(store, clock)

        await _alone(player, steps, plays)

    run(story())


@pytest.mark.parametrize("rows", [1, 2, 3])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=graphs(), plays=PLAYS)
def test_it_ends_as_it_should_wherever_a_transaction_breaks_off_its_work_in_sqlite(
    rows: int, steps: list[Message], plays: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to do is left to later transactions and to sweeps alone, as after the death of whoever left it."""
    monkeypatch.setattr(sqlite_flows, "ROWS", rows)
    monkeypatch.setattr("forebay.stores.sqlite.upkeep.go_on", lambda _: None)

    async def story() -> None:
        clock = VirtualClock()
        with TemporaryDirectory() as folder:

            async def player() -> Player:
                store = SqliteEngine(Path(folder) / "f.db", OPTIONS).connect("one", clock)
                await store.declare([WORK])
                return Player(store, clock)

            await _alone(player, steps, plays)

    run(story())
