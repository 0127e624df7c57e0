"""What is at work here: one timer for all of it, and cut-offs that hit user code and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from forebay.runtime.in_flight import InFlight, Why, stopper
from forebay.support.clock import SystemClock
from tests.runtime.kit import a_delivery, story

if TYPE_CHECKING:
    import pytest

    from forebay.runtime.in_flight import Run

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


def begun(in_flight: InFlight, ends: int) -> Run:
    run = in_flight.add(a_delivery())
    run.begin(None, ends)
    in_flight.watch(run)
    return run


@story
async def test_one_timer_serves_all_and_is_set_to_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, delays = asyncio.get_running_loop(), list[float]()
    real = loop.call_later

    def noted(delay: float, *rest: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return real(delay, *rest)

    monkeypatch.setattr(loop, "call_later", noted)
    in_flight = InFlight(Still())
    for seconds in (600, 600, 30, 600, 40, 10):
        begun(in_flight, seconds * SECOND)
    in_flight.close()

    assert delays == [600, 30, 10]


@story
async def test_only_what_is_due_is_cut_off_and_the_timer_goes_on_to_the_next() -> None:
    clock = Still()
    in_flight = InFlight(clock)
    early, late, done = (
        begun(in_flight, 1 * SECOND),
        begun(in_flight, 2 * SECOND),
        begun(in_flight, 1 * SECOND),
    )
    done.end()
    clock.time = SECOND
    in_flight.ring()

    assert [run.cut for run in (early, late, done)] == [Why.TIMEOUT, None, None]
    assert (early.overdue, late.overdue) == (True, False)
    assert [in_flight._rings] == [2 * SECOND]
    clock.time = 2 * SECOND
    in_flight.ring()
    assert [late.cut] == [Why.TIMEOUT]
    assert [in_flight._rings] == [None], "what is overdue is not rung for again"
    in_flight.close()


@story
async def test_the_first_reason_stands() -> None:
    in_flight = InFlight(SystemClock())
    run = in_flight.add(a_delivery())
    run.stop(Why.LOST)
    run.stop(Why.TIMEOUT)

    assert run.cut is Why.LOST


@story
async def test_a_stop_after_user_code_has_ended_cancels_nothing() -> None:
    in_flight = InFlight(SystemClock())
    run = in_flight.add(a_delivery())
    run.begin(asyncio.current_task(), None)
    run.end()
    run.stop(Why.STOP)

    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # we are one


@story
async def test_empty_is_set_exactly_while_there_is_nothing_and_removing_twice_does_no_harm() -> None:
    in_flight = InFlight(SystemClock())
    assert in_flight.empty.is_set()
    one, two = in_flight.add(a_delivery()), in_flight.add(a_delivery())
    assert not in_flight.empty.is_set()
    in_flight.remove(one)
    in_flight.remove(one)
    assert (len(in_flight), in_flight.empty.is_set()) == (1, False)
    in_flight.remove(two)
    assert in_flight.empty.is_set()


@story
async def test_a_run_can_be_cut_off_from_another_thread() -> None:
    in_flight, cut = InFlight(SystemClock()), asyncio.Event()
    run = in_flight.add(a_delivery())

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
    return InFlight(SystemClock()).add(a_delivery())
