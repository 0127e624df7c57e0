"""Work inside one process beside what else does it: ``python -m bench local``; with ``million``, only the stress run."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio

from forebay.local import Channel, Group, Received, select

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REPEATS = 5


async def stress(count: int, *, capacity: int, producers: int, consumers: int) -> int:
    """Send ``count`` items from many to many; check that each comes once, and each producer's in order. Return how many came."""
    channel, off = Channel[tuple[int, int]](capacity), Channel[None]()
    seen = [0] * producers
    got: Counter[int] = Counter()

    async def produce(who: int) -> None:
        for number in range(who, count, producers):
            await channel.send((who, number // producers))

    async def consume() -> None:
        while True:
            match await select(channel.receiving(), off.receiving()):
                case Received(_, (who, number)):
                    if seen[who] != number:
                        raise AssertionError(f"producer {who}: {number} came, {seen[who]} was next")
                    seen[who] += 1
                    got[who] += 1
                case _:
                    return

    async with asyncio.TaskGroup() as all_of_them:
        for _ in range(consumers):
            all_of_them.create_task(consume())
        async with Group[None]() as group:
            for who in range(producers):
                await group.go(produce, who)
        channel.close()
    return got.total()


async def hop(
    put: Callable[[int], Awaitable[object]], get: Callable[[], Awaitable[object]], count: int
) -> float:
    """Items a second from one task to another."""

    async def produce() -> None:
        for number in range(count):
            await put(number)

    async def consume() -> None:
        for _ in range(count):
            await get()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(consume())
    return count / (time.perf_counter() - start)


async def queue_hop() -> float:
    queue = asyncio.Queue[int](100)
    return await hop(queue.put, queue.get, 200_000)


async def channel_hop() -> float:
    channel = Channel[int](100)
    return await hop(channel.send, channel.receive, 200_000)


async def rendezvous() -> float:
    channel = Channel[int]()
    return await hop(channel.send, channel.receive, 50_000)


async def memory_stream() -> float:
    send, receive = anyio.create_memory_object_stream[int](0)
    async with send, receive:
        return await hop(send.send, receive.receive, 20_000)


async def culsans_hop() -> float:
    queue = import_module("culsans").Queue(100)
    return await hop(queue.async_q.put, queue.async_q.get, 50_000)


async def aiochan_hop() -> float:
    channel = import_module("aiochan").Chan(100)
    return await hop(channel.put, channel.get, 50_000)


async def select_of_two(capacity: int) -> float:
    """Items a second through a select over two channels, each with a producer."""
    one, two, count = Channel[int](capacity), Channel[int](capacity), 50_000

    async def produce(channel: Channel[int]) -> None:
        for number in range(count // 2):
            await channel.send(number)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(produce(one))
        group.create_task(produce(two))
        for _ in range(count):
            await select(one.receiving(), two.receiving())
    return count / (time.perf_counter() - start)


async def _work() -> None:
    await asyncio.sleep(0)


async def group_with_limit() -> float:
    count, start = 20_000, time.perf_counter()
    async with Group[None](limit=50) as group:
        for _ in range(count):
            await group.go(_work)
    return count / (time.perf_counter() - start)


async def semaphore_by_hand() -> float:
    """What one writes without `Group`: the place is taken before the task is made, so that tasks are bounded too."""
    count, start = 20_000, time.perf_counter()
    semaphore = asyncio.Semaphore(50)

    async def run() -> None:
        try:
            await _work()
        finally:
            semaphore.release()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            await semaphore.acquire()
            group.create_task(run())
    return count / (time.perf_counter() - start)


PAIRS: list[tuple[str, Callable[[], Awaitable[float]], str, Callable[[], Awaitable[float]]]] = [
    ("channel of 100, one hop", channel_hop, "asyncio.Queue(100)", queue_hop),
    ("channel of 0, one hop", rendezvous, "anyio memory stream of 0", memory_stream),
    ("select over two of 0", lambda: select_of_two(0), "plain receive from one of 0", rendezvous),
    ("select over two of 100", lambda: select_of_two(100), "plain receive from one of 100", channel_hop),
    ("Group with a limit of 50", group_with_limit, "semaphore and TaskGroup by hand", semaphore_by_hand),
]


PEERS: list[tuple[str, Callable[[], Awaitable[float]]]] = [("culsans", culsans_hop), ("aiochan", aiochan_hop)]
"""Compared where they are installed; nothing here needs them."""


def main(arguments: list[str]) -> None:
    """Print a Markdown table, or the stress run's figures."""
    if arguments == ["million"]:
        million()
        return
    print("| what | figure | beside | figure | ratio |\n|---|---|---|---|---|")
    peers = [("channel of 100, one hop", channel_hop, name, peer) for name, peer in PEERS if find_spec(name)]
    for what, ours, beside, theirs in [*PAIRS, *peers]:
        # Taken in turn, so that a machine that drifts drifts for both; the ratio is the median of the rounds' own.
        rounds = [(asyncio.run(_taken(ours)), asyncio.run(_taken(theirs))) for _ in range(REPEATS)]
        mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(one / two for one, two in rounds)
        print(f"| {what} | {mine:,.0f}/s | {beside} | {other:,.0f}/s | {ratio:.2f} |", flush=True)


def million() -> None:
    for capacity in (0, 100):
        start = time.perf_counter()
        got = asyncio.run(stress(1_000_000, capacity=capacity, producers=20, consumers=10))
        print(
            f"capacity {capacity}: {got:,} items, each once and in order, {time.perf_counter() - start:.1f} s"
        )


async def _taken(measure: Callable[[], Awaitable[float]]) -> float:
    return await measure()


if __name__ == "__main__":
    main(sys.argv[1:])
