"""Every verdict reaches the engine once it can, each is answered for itself, and what the engine refuses cannot loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from forebay.engine import Ask, Settlement, Source
from forebay.errors import EngineUnavailable, OutcomeUnknown
from forebay.model import verdict as v
from forebay.model.message import Message, MessageId
from forebay.model.query import Query
from forebay.model.state import State
from forebay.model.when import SECOND
from forebay.runtime.in_flight import InFlight
from forebay.runtime.settler import BATCH, LONGEST_PAUSE, Settler
from forebay.stores.memory import MemoryEngine
from forebay.support.ids import new_token
from forebay.testing.clock import Probe, VirtualClock
from tests.runtime.kit import Spied, SpiedStore, a_delivery, story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Delivery

WORK = Source(queue="work")


class Bench:
    """A settler on a memory store that can be broken into, with deliveries to settle."""

    def __init__(self) -> None:
        self.engine, self.clock = Spied(MemoryEngine()), VirtualClock()
        self.store: SpiedStore = self.engine.connect("one", self.clock)
        self.in_flight = InFlight(self.clock)
        self.settler = Settler(self.store, self.in_flight, self.clock)

    async def deliveries(self, count: int) -> Sequence[Delivery]:
        await self.store.declare([WORK])
        await self.store.publish(
            [Message(id=MessageId(f"m{n}"), name="job", queue="work") for n in range(count)]
        )
        return await self.store.receive([Ask(WORK, new_token(), count)], wait=0)

    def submit(self, delivery: Delivery, verdict: v.Verdict) -> None:
        self.settler.submit(self.in_flight.add(delivery), Settlement(delivery, verdict))

    async def finish(self) -> None:
        """Close, and let the clock run until all is settled."""
        self.settler.close()
        async with asyncio.TaskGroup() as group:
            in_flight = group.create_task(self.settler.run())
            while not in_flight.done():
                await self.clock.advance(SECOND)

    async def states(self) -> dict[str, State]:
        page = await self.store.find(Query(size=1000))
        return {record.id: record.state for record in page.records}


def refuse(settlement: Settlement) -> bool:
    return isinstance(settlement.verdict, v.Done) and settlement.verdict.result == b'"poison"'


@story
async def test_verdicts_go_in_order_and_in_few_batches() -> None:
    bench, seen = Bench(), list[str]()
    bench.engine.before = lambda kind, batch: (
        seen.extend(one.delivery.id for one in batch) if kind == "settle" else None
    )
    for delivery in await bench.deliveries(BATCH + 20):
        bench.submit(delivery, v.Done())
    await bench.finish()

    assert seen == [f"m{n}" for n in range(BATCH + 20)]
    assert bench.engine.calls["settle"] == 2
    assert len(bench.in_flight) == 0
    assert bench.in_flight.empty.is_set()
    assert set((await bench.states()).values()) == {State.SUCCEEDED}


@pytest.mark.parametrize(
    "error", [EngineUnavailable("away"), OutcomeUnknown("cut")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@story
async def test_while_the_engine_is_away_nothing_is_lost_and_leases_are_held(
    error: Exception, after: bool
) -> None:
    bench, broken = Bench(), Probe[int]("broken")

    def fail(kind: str, _: Any) -> None:
        if kind == "settle" and broken.count < 5:
            broken.hit(len(bench.in_flight))
            raise error

    if after:
        bench.engine.after = fail
    else:
        bench.engine.before = fail
    for delivery in await bench.deliveries(3):
        bench.submit(delivery, v.Done())
    await bench.finish()

    assert broken.hits == [3] * 5, "their leases are kept meanwhile"
    assert set((await bench.states()).values()) == {State.SUCCEEDED}
    assert bench.settler.stale == 0, "a repeated settle that took effect is answered OK again"


@story
async def test_pauses_grow_to_their_limit() -> None:
    bench, times = Bench(), list[int]()

    def fail(kind: str, _: Any) -> None:
        if kind == "settle":
            times.append(bench.clock.monotonic())
            if len(times) < 10:
                raise EngineUnavailable("away")

    bench.engine.before = fail
    (delivery,) = await bench.deliveries(1)
    bench.submit(delivery, v.Done())
    await bench.finish()

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] <= SECOND // 20
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_PAUSE


@story
async def test_a_settlement_the_engine_refuses_is_buried_and_the_rest_of_its_batch_is_not() -> None:
    bench = Bench()

    def fail(kind: str, batch: Any) -> None:
        if kind == "settle" and any(refuse(one) for one in batch):
            raise ValueError("cannot write that")

    bench.engine.before = fail
    for n, delivery in enumerate(await bench.deliveries(9)):
        bench.submit(delivery, v.Done(b'"poison"' if n == 4 else None))
    await bench.finish()

    states = await bench.states()
    assert states.pop("m4") is State.DEAD
    assert set(states.values()) == {State.SUCCEEDED}
    (record,) = (await bench.store.find(Query())).records[4:5]
    assert record.tries[0].error is not None
    assert "cannot write that" in record.tries[0].error.message


@story
async def test_what_cannot_even_be_buried_does_not_end_the_settler() -> None:
    bench = Bench()

    def fail(kind: str, batch: Any) -> None:
        if kind == "settle" and any(one.delivery.id == "m0" for one in batch):
            raise ValueError("nothing about this one")

    bench.engine.before = fail
    for delivery in await bench.deliveries(2):
        bench.submit(delivery, v.Done())
    await bench.finish()

    assert await bench.states() == {"m0": State.RUNNING, "m1": State.SUCCEEDED}
    assert len(bench.in_flight) == 0, "its lease runs out"


@story
async def test_a_burial_waits_for_the_engine_too() -> None:
    bench, away = Bench(), Probe[None]("away")

    def fail(kind: str, batch: Any) -> None:
        if kind != "settle":
            return
        if any(refuse(one) for one in batch):
            raise ValueError("cannot write that")
        if away.count < 3:
            away.hit(None)
            raise EngineUnavailable("away")

    bench.engine.before = fail
    (delivery,) = await bench.deliveries(1)
    bench.submit(delivery, v.Done(b'"poison"'))
    await bench.finish()

    assert await bench.states() == {"m0": State.DEAD}


@story
async def test_a_stale_settlement_is_counted() -> None:
    bench = Bench()
    await bench.deliveries(1)
    bench.submit(a_delivery(), v.Done())
    await bench.finish()

    assert bench.settler.stale == 1
    assert len(bench.in_flight) == 0


@story
async def test_with_two_batches_waiting_there_is_no_room_until_one_is_settled() -> None:
    bench = Bench()
    for delivery in await bench.deliveries(2 * BATCH):
        assert bench.settler.room.is_set()
        bench.submit(delivery, v.Done())
    assert not bench.settler.room.is_set()
    assert len(bench.settler) == 2 * BATCH

    await bench.finish()
    assert bench.settler.room.is_set()


@story
async def test_cut_off_what_is_not_settled_stays_under_its_lease() -> None:
    bench, begun = Bench(), Probe[None]("begun")

    def fail(kind: str, _: Any) -> None:
        if kind == "settle":
            begun.hit(None)
            raise EngineUnavailable("away")

    bench.engine.before = fail
    (delivery,) = await bench.deliveries(1)
    bench.submit(delivery, v.Done())
    settling = asyncio.get_running_loop().create_task(bench.settler.run())
    await begun.wait()
    settling.cancel()
    await asyncio.wait([settling])

    assert await bench.states() == {"m0": State.RUNNING}
    assert len(bench.in_flight) == 1
