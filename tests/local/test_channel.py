"""Wrong uses are told in one sentence, threads have ends of their own, and a million items lose none."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from bench.local import stress
from forebay.local import (
    Channel,
    ClosedError,
    Group,
    MisuseError,
    Received,
    Semaphore,
    WouldBlock,
    WrongLoop,
    select,
    ticker,
)
from tests.local.kit import LOOPS, settle, start, story


@pytest.mark.parametrize("capacity", [-1, -100])
def test_a_negative_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(MisuseError, match="whole number from 0 on"):
        Channel[int](capacity)


@story
async def test_none_is_an_item() -> None:
    channel = Channel[None](1)
    await channel.send(None)
    assert channel.try_receive() is None
    waiting = start(channel.receive())
    await settle()
    await channel.send(None)
    assert await waiting is None
    with pytest.raises(WouldBlock):
        channel.try_receive()


@story
async def test_a_case_that_is_no_channel_is_named() -> None:
    channel: Any = Channel[int]()
    with pytest.raises(MisuseError, match=r"Case 1 of select is <Channel 0/0>: write channel\.receiving"):
        await select(None, channel)


def test_another_loop_is_refused_while_the_first_lives() -> None:
    channel = Channel[int](1)
    first = asyncio.new_event_loop()
    try:
        first.run_until_complete(channel.send(1))
        for use in (channel.receive(), channel.send(2), select(channel.receiving())):
            with pytest.raises(WrongLoop, match="another event loop"):
                asyncio.run(_awaited(use))
        with pytest.raises(WrongLoop, match="from_thread"):
            channel.try_receive()
    finally:
        first.close()
    assert asyncio.run(channel.receive()) == 1


async def _awaited(work: Any) -> object:
    return await work


def test_a_channel_may_be_filled_before_there_is_a_loop() -> None:
    channel = Channel[int](2)
    channel.try_send(1)
    with pytest.raises(WrongLoop, match="on its event loop"):
        _ = channel.from_thread
    assert asyncio.run(channel.receive()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Group[int](limit=-1),
        lambda: Group[int](on_error="ignore"),  # type: ignore[arg-type]
        lambda: Semaphore(0),
        lambda: Semaphore(1).try_acquire(-1),
    ],
)
def test_wrong_numbers_and_words_are_refused(wrong: Any) -> None:
    with pytest.raises(MisuseError):
        wrong()


@story
async def test_a_ticker_needs_time() -> None:
    with pytest.raises(MisuseError), ticker(0):
        pass


@story
async def test_a_group_that_has_ended_starts_nothing() -> None:
    async with Group[bool]() as group:
        pass
    for _ in range(2):
        with pytest.raises(MisuseError, match="inside its async with block"):
            await group.go(asyncio.Event().wait)


# -- threads


@story
async def test_a_thread_receives_until_the_end_and_gives_up_in_time() -> None:
    channel = Channel[int]()
    end, got = channel.from_thread, list[int]()

    def consume() -> None:
        got.extend(end)
        with pytest.raises(ClosedError):
            end.receive()
        with pytest.raises(ClosedError):
            end.send(1)

    with pytest.raises(WouldBlock):
        await asyncio.to_thread(end.receive, 0.001)
    consumer = start(asyncio.to_thread(consume))
    for n in range(5):
        await channel.send(n)
    channel.close()
    await consumer
    assert got == list(range(5))


@story
async def test_a_thread_that_may_not_wait_longer_has_sent_nothing() -> None:
    channel = Channel[int]()
    with pytest.raises(WouldBlock):
        await asyncio.to_thread(channel.from_thread.send, 1, 0.001)
    assert channel.statistics() == (0, 0, 0, 0, False)


@story
async def test_the_loops_own_thread_is_refused() -> None:
    with pytest.raises(WrongLoop, match="await its own"):
        Channel[int](1).from_thread.send(1)


def test_a_thread_is_told_when_the_loop_ends() -> None:
    told = list[str]()
    ready = threading.Event()

    async def main() -> threading.Thread:
        end = Channel[int]().from_thread

        def produce() -> None:
            ready.set()
            for _ in range(2):
                try:
                    end.send(1)
                except ClosedError as error:
                    told.append(str(error))

        thread = threading.Thread(target=produce)
        thread.start()
        ready.wait()
        await settle()
        return thread

    asyncio.run(main()).join(5)
    assert len(told) == 2
    assert all("loop" in line for line in told)


# -- stress


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("capacity", [0, 64])
def test_many_items_over_many_hands_are_counted_and_in_order(loop: str, capacity: int) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        got = runner.run(stress(25_000, capacity=capacity, producers=8, consumers=5))
    assert got == 25_000


@story
async def test_cancelled_again_and_again_nothing_is_lost_doubled_or_overtaken() -> None:
    """Consumers are cancelled just as items come, thousands of times, through receive and select alike."""
    channel, off, taken = Channel[int](), Channel[int](), list[int]()

    async def consume(*, choosing: bool) -> None:
        if choosing:
            match await select(off.receiving(), channel.receiving()):
                case Received(1, item):
                    taken.append(item)
                case other:
                    pytest.fail(str(other))
        else:
            taken.append(await channel.receive())

    async def produce() -> None:
        for n in range(3_000):
            await channel.send(n)

    producer, rounds = start(produce()), Counter[str]()
    while not producer.done():
        consumers = [start(consume(choosing=bool(n % 2))) for n in range(4)]
        for n in range(rounds["all"] % 4):
            await asyncio.sleep(0)
            consumers[(rounds["all"] + n) % 4].cancel()
        await asyncio.sleep(0)
        for consumer in consumers:
            consumer.cancel()
        ends = await asyncio.gather(*consumers, return_exceptions=True)
        rounds["all"] += 1
        rounds["cancelled"] += sum(isinstance(one, asyncio.CancelledError) for one in ends)
    while len(channel):
        taken.append(channel.try_receive())

    assert taken == list(range(3_000))
    assert rounds["cancelled"] > 1_000
