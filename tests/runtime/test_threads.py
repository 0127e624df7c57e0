"""Threads for handlers: they carry the task's context, stay within their limit, and never keep anybody waiting at the end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import NoReturn

import pytest

from forebay.runtime.threads import Threads
from tests.runtime.kit import story

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO")


def alive() -> int:
    return sum(thread.name.startswith("forebay-handler") for thread in threading.enumerate())


@story
async def test_the_context_variables_of_the_task_are_those_of_its_thread() -> None:
    threads = Threads(2)

    async def ask(who: str) -> str:
        WHO.set(who)
        return await threads.run(WHO.get)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(who)) for who in ("Ada", "Grace", "Barbara")]
    threads.close()

    assert [one.result() for one in asked] == ["Ada", "Grace", "Barbara"]


@story
async def test_no_more_threads_than_the_limit_however_much_there_is_to_do() -> None:
    threads, gate, seen = Threads(3), threading.Event(), set[str]()

    def work() -> None:
        seen.add(threading.current_thread().name)
        assert gate.wait(5)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(threads.run(work))
        group.create_task(asyncio.to_thread(gate.set))
    threads.close()

    assert len(seen) <= 3


@story
async def test_an_idle_thread_is_used_again() -> None:
    threads = Threads(50)
    names = {await threads.run(lambda: threading.current_thread().name) for _ in range(20)}
    threads.close()

    assert len(names) <= 3, "one at a time needs one, or one more while it says that it is idle"


@story
async def test_the_value_and_the_error_come_back_with_their_identity() -> None:
    threads, error = Threads(1), ValueError("mine")

    def fail() -> NoReturn:
        raise error

    assert await threads.run(max, 3, 7) == 7
    with pytest.raises(ValueError, match="mine") as caught:
        await threads.run(fail)
    threads.close()

    assert caught.value is error


@story
async def test_arguments_may_have_any_name() -> None:
    threads = Threads(1)

    def plain(function: int, self: int) -> int:
        return function + self

    assert await threads.run(plain, function=3, self=4) == 7
    threads.close()


@story
async def test_cancelled_it_waits_for_its_thread_however_often() -> None:
    threads, gate, entered = Threads(1), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        loop.call_soon_threadsafe(entered.set)
        assert gate.wait(5)
        return "done all the same"

    waiting = loop.create_task(threads.run(work))
    await entered.wait()
    for _ in range(3):
        waiting.cancel()
        done, _ = await asyncio.wait([waiting], timeout=0.01)
        assert not done
    gate.set()

    assert await waiting == "done all the same"
    threads.close()


@story
async def test_close_does_not_wait_for_a_stuck_thread_and_frees_whoever_does() -> None:
    threads, gate, entered = Threads(1), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck() -> None:
        loop.call_soon_threadsafe(entered.set)
        gate.wait(5)

    waiting = loop.create_task(threads.run(stuck))
    await entered.wait()
    waiting.cancel()
    await asyncio.wait([waiting], timeout=0.01)
    threads.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()


def test_a_thread_that_outlives_its_loop_ends_in_silence() -> None:
    gate, left = threading.Event(), list[int]()

    async def leave_it() -> None:
        threads, entered = Threads(1), asyncio.Event()
        loop = asyncio.get_running_loop()

        def stuck() -> None:
            loop.call_soon_threadsafe(entered.set)
            gate.wait(5)

        waiting = loop.create_task(threads.run(stuck))
        await entered.wait()
        threads.close()
        waiting.cancel()
        await asyncio.wait([waiting])
        left.append(alive())

    asyncio.run(leave_it())
    before = [thread for thread in threading.enumerate() if thread.name.startswith("forebay-handler")]
    gate.set()
    for thread in before:
        thread.join(5)

    assert left[0] >= 1
    assert not any(thread.is_alive() for thread in before)
