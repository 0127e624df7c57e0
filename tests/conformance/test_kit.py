"""The clock turns as it says, the probe and the poll wait as they say, and a claim that does not hold fails."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from itertools import count

import pytest

from forebay.engine import EngineOptions, Published, Stored
from forebay.model.message import Message
from forebay.model.when import SECOND
from forebay.stores.memory import MemoryEngine
from forebay.stores.memory.store import MemoryStore
from forebay.support.clock import Clock
from forebay.testing import conformance
from forebay.testing.clock import START, Probe, VirtualClock, eventually


def test_the_clock_starts_at_one_instant_and_stands_still() -> None:
    clock = VirtualClock()

    assert (clock.now(), clock.monotonic()) == (START, 0)
    assert clock.now() == START


def test_sleepers_wake_in_the_order_of_their_time_and_see_it() -> None:
    async def story() -> list[tuple[str, int]]:
        clock, woken = VirtualClock(), []

        async def sleeper(name: str, naps: list[int]) -> None:
            for nap in naps:
                await clock.sleep(nap)
                woken.append((name, clock.monotonic()))

        async with asyncio.TaskGroup() as group:
            for name, naps in {"a": [5, 5, 5], "b": [7, 1], "c": [5]}.items():
                group.create_task(sleeper(name, naps))
            await clock.advance(9)
            assert clock.waiting == 1
            await clock.advance(6)
        assert clock.waiting == 0
        return woken

    assert asyncio.run(story()) == [("a", 5), ("c", 5), ("b", 7), ("b", 8), ("a", 10), ("a", 15)]


def test_a_wait_ends_with_its_event_or_its_time() -> None:
    async def story() -> None:
        clock, event = VirtualClock(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            timed = group.create_task(clock.wait(event, 10))
            endless = group.create_task(clock.wait(event, None))
            await clock.advance(10)
            assert timed.done()
            assert not timed.result()
            assert not endless.done()
            event.set()
        assert endless.result()
        assert await clock.wait(event, 0)
        assert not await clock.wait(asyncio.Event(), 0)
        assert not await clock.wait(asyncio.Event(), -1)

    asyncio.run(story())


def test_a_cancelled_sleep_leaves_nothing_behind() -> None:
    async def story() -> None:
        clock = VirtualClock()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(clock.sleep(10))
            await eventually(lambda: clock.waiting == 1)
            task.cancel()
        assert task.cancelled()
        assert clock.waiting == 0
        await clock.advance(20)

    asyncio.run(story())


def test_the_clock_is_not_turned_back() -> None:
    with pytest.raises(ValueError, match="not turned back"):
        asyncio.run(VirtualClock().advance(-1))


def test_sleepers_on_other_loops_are_woken_there() -> None:
    clock, woken = VirtualClock(), Probe[tuple[int, int]]("woken")

    async def sleeper() -> None:
        await clock.sleep(5)
        woken.hit((threading.get_ident(), clock.monotonic()))

    async def story() -> None:
        await eventually(lambda: clock.waiting == 3)
        await clock.advance(5)
        hits = await woken.wait(3)
        assert {time for _, time in hits} == {5}
        assert threading.get_ident() not in {thread for thread, _ in hits}

    threads = [threading.Thread(target=asyncio.run, args=(sleeper(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    asyncio.run(story())
    for thread in threads:
        thread.join()


def test_a_probe_is_awaited_from_another_thread() -> None:
    async def story() -> None:
        probe = Probe[int]("ticks")
        thread = threading.Thread(target=lambda: deque(map(probe.hit, range(100))))
        thread.start()
        assert len(await probe.wait(100)) == 100
        assert probe.count == 100
        thread.join()

    asyncio.run(story())


def test_a_probe_that_is_not_hit_says_so() -> None:
    async def story() -> None:
        probe = Probe[int]("mailed")
        probe.hit(1)
        await probe.wait(2, within=0.01)

    with pytest.raises(AssertionError, match=r"mailed: hit 1 times within 0.01 s, not 2 times"):
        asyncio.run(story())


def test_eventually_returns_the_first_answer_that_is_one() -> None:
    numbers = count()

    async def check() -> int:
        number = next(numbers)
        assert number >= 2, "too few"
        return number if number >= 4 else 0

    assert asyncio.run(eventually(check)) == 4


def test_eventually_gives_up_with_what_it_saw() -> None:
    numbers = 1
    with pytest.raises(
        AssertionError, match=r"the moon: not so within 0.01 s. The last look gave AssertionError\('cheese'\)"
    ):
        asyncio.run(eventually(lambda: _no("cheese"), within=0.01, what="the moon"))
    with pytest.raises(AssertionError, match=r"numbers > 2"):
        asyncio.run(eventually(lambda: numbers > 2, within=0.01))


def _no(word: str) -> str:
    raise AssertionError(word)


class _Liar(MemoryStore):
    """Says that it stored a duplicate."""

    async def publish(self, batch: Sequence[Message], *, tx: object | None = None) -> Sequence[Published]:
        return [Published(Stored.STORED, answer.id) for answer in await super().publish(batch, tx=tx)]


class _Forgetful(MemoryEngine):
    """An engine of liars."""

    def connect(self, worker: str, clock: Clock) -> MemoryStore:
        return _Liar(self, worker, clock)


def _forgetful(place: str, options: EngineOptions) -> MemoryEngine:
    return _Forgetful(options)


def _memory(place: str, options: EngineOptions) -> MemoryEngine:
    return MemoryEngine(options)


def test_a_claim_that_does_not_hold_fails() -> None:
    (claim,) = [c for c in conformance.CLAIMS if c.name == "send-the_same_id_is_stored_once"]

    with pytest.raises(AssertionError):
        asyncio.run(conformance.run(claim, _forgetful))


def test_a_claim_that_leaves_a_task_behind_fails() -> None:
    async def leaves(h: conformance.Harness) -> None:
        tasks.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))

    tasks: list[asyncio.Task[bool]] = []
    claim = conformance.Claim(group="planted", check=leaves, needs=lambda _: True)

    with pytest.raises(AssertionError, match="every task has ended"):
        asyncio.run(conformance.run(claim, _memory))


def test_every_claim_has_a_name_of_its_own_and_an_engine_that_needs_it() -> None:
    names = [claim.name for claim in conformance.CLAIMS]

    assert len(names) == len(set(names))
    groups = {claim.group for claim in conformance.CLAIMS}
    assert groups >= {
        "send",
        "claim",
        "lease",
        "retry",
        "dead",
        "delay",
        "priority",
        "events",
        "control",
        "life",
        "resource",
    }
    assert EngineOptions().timing.lease == 30 * SECOND
