"""What is at work here: one timer for all of it, and cut-offs that hit user code and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from forebay.clock import SystemClock
from forebay.runtime.running import Running, Why, stopper
from tests.runtime.kit import a_delivery, story

if TYPE_CHECKING:
    import pytest

    from forebay.runtime.running import Run

SECOND = 1_000_000


class Still:
    """A clock at a fixed moment."""

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.time

    async def wait(self, event: asyncio.Event, timeout: int | None) -> bool:
        raise NotImplementedError

    async def sleep(self, duration: int) -> None:
        raise NotImplementedError


def begun(running: Running, ends: int) -> Run:
    run = running.add(a_delivery())
    run.begin(None, ends)
    running.watch(run)
    return run


@story
async def test_one_timer_serves_all_and_is_set_to_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, delays = asyncio.get_running_loop(), list[float]()
    real = loop.call_later

    def noted(delay: float, *rest: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return real(delay, *rest)

    monkeypatch.setattr(loop, "call_later", noted)
    running = Running(Still())
    for seconds in (600, 600, 30, 600, 40, 10):
        begun(running, seconds * SECOND)
    running.close()

    assert delays == [600, 30, 10]


@story
async def test_only_what_is_due_is_cut_off_and_the_timer_goes_on_to_the_next() -> None:
    clock = Still()
    running = Running(clock)
    early, late, done = begun(running, 1 * SECOND), begun(running, 2 * SECOND), begun(running, 1 * SECOND)
    done.end()
    clock.time = SECOND
    running.ring()

    assert [run.cut for run in (early, late, done)] == [Why.TIMEOUT, None, None]
    assert (early.overdue, late.overdue) == (True, False)
    assert [running._rings] == [2 * SECOND]
    clock.time = 2 * SECOND
    running.ring()
    assert [late.cut] == [Why.TIMEOUT]
    assert [running._rings] == [None], "what is overdue is not rung for again"
    running.close()


@story
async def test_the_first_reason_stands() -> None:
    running = Running(SystemClock())
    run = running.add(a_delivery())
    run.stop(Why.LOST)
    run.stop(Why.TIMEOUT)

    assert run.cut is Why.LOST


@story
async def test_a_stop_after_user_code_has_ended_cancels_nothing() -> None:
    running = Running(SystemClock())
    run = running.add(a_delivery())
    run.begin(asyncio.current_task(), None)
    run.end()
    run.stop(Why.STOP)

    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # we are one


@story
async def test_empty_is_set_exactly_while_there_is_nothing_and_removing_twice_does_no_harm() -> None:
    running = Running(SystemClock())
    assert running.empty.is_set()
    one, two = running.add(a_delivery()), running.add(a_delivery())
    assert not running.empty.is_set()
    running.remove(one)
    running.remove(one)
    assert (len(running), running.empty.is_set()) == (1, False)
    running.remove(two)
    assert running.empty.is_set()


@story
async def test_a_run_can_be_cut_off_from_another_thread() -> None:
    running, cut = Running(SystemClock()), asyncio.Event()
    run = running.add(a_delivery())

    async def user_code() -> None:
        run.begin(asyncio.current_task(), None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(user_code())
        await asyncio.to_thread(stopper(asyncio.get_running_loop(), run, Why.CANCEL))
        await cut.wait()

    assert run.cut is Why.CANCEL


def test_a_cut_off_for_a_loop_that_is_closed_is_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    run = asyncio.run(_run())

    stopper(loop, run, Why.LOST)()

    assert run.cut is None


async def _run() -> Run:
    return Running(SystemClock()).add(a_delivery())
