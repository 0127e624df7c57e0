"""The twenty things Go promises about channels, select and what goes with them, one by one. The numbers order the file."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from forebay.local import (
    Cancelled,
    Channel,
    ClosedError,
    DeadlineExceeded,
    Default,
    Ended,
    GaveUp,
    Group,
    MisuseError,
    Once,
    Received,
    Restart,
    Semaphore,
    Sent,
    Singleflight,
    TimedOut,
    Token,
    WaitGroup,
    WouldBlock,
    recover,
    select,
    ticker,
)
from tests.local.kit import settle, start, story

# -- channels


@story
async def test_01_an_unbuffered_send_returns_when_a_receiver_has_the_item() -> None:
    channel = Channel[int]()
    sends = [start(channel.send(n)) for n in range(3)]
    await settle()
    assert not any(send.done() for send in sends)

    assert await channel.receive() == 0
    await settle()
    assert [send.done() for send in sends] == [True, False, False]
    assert [await channel.receive(), await channel.receive()] == [1, 2]


@story
async def test_01_a_buffered_send_waits_only_while_the_buffer_is_full() -> None:
    channel = Channel[int](2)
    await channel.send(0)
    await channel.send(1)
    third = start(channel.send(2))
    await settle()
    assert not third.done()

    assert [await channel.receive() for _ in range(3)] == [0, 1, 2]
    await third


@story
async def test_01_waiting_receivers_are_served_in_order() -> None:
    channel = Channel[int]()
    receives = [start(channel.receive()) for _ in range(3)]
    await settle()
    for n in range(3):
        await channel.send(n)

    assert [await receive for receive in receives] == [0, 1, 2]


@story
async def test_02_send_on_a_closed_channel_raises_also_in_those_who_wait() -> None:
    channel = Channel[int]()
    waiting = start(channel.send(1))
    await settle()
    channel.close()

    with pytest.raises(ClosedError):
        await waiting
    with pytest.raises(ClosedError):
        await channel.send(2)
    with pytest.raises(ClosedError):
        channel.try_send(2)
    with pytest.raises(ClosedError, match="closed already"):
        channel.close()


@story
async def test_03_receive_drains_and_then_ends_for_ever() -> None:
    channel = Channel[int](2)
    await channel.send(1)
    await channel.send(2)
    channel.close()

    assert [item async for item in channel] == [1, 2]
    for _ in range(2):
        with pytest.raises(ClosedError):
            await channel.receive()
        assert await select(channel.receiving()) == Ended(0)


@story
async def test_03_close_wakes_all_waiting_receivers() -> None:
    channel = Channel[int]()
    receives = [start(channel.receive()) for _ in range(3)]
    await settle()
    channel.close()

    answers = await asyncio.gather(*receives, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ClosedError] * 3


@story
async def test_04_a_case_that_is_none_is_switched_off() -> None:
    channel = Channel[int](1)
    assert await select(None, channel.receiving(), default=True) == Default()
    await channel.send(1)
    assert await select(None, channel.receiving()) == Received(1, 1)
    assert await select(None, timeout=0) == TimedOut()


@story
async def test_05_length_and_capacity_are_snapshots_and_ends_have_a_direction() -> None:
    channel = Channel[int](2)
    await channel.send_only.send(1)
    assert (len(channel), channel.capacity, bool(Channel[int]())) == (1, 2, True)
    assert channel.statistics() == (1, 2, 0, 0, False)
    assert not hasattr(channel.send_only, "receive")
    assert not hasattr(channel.receive_only, "send")
    assert await channel.receive_only.receive() == 1


# -- select


@story
async def test_06_among_the_ready_each_is_as_likely() -> None:
    channels = [Channel[int](1) for _ in range(3)]
    for channel in channels:
        await channel.send(0)
    chosen: Counter[int] = Counter()
    for _ in range(3_000):
        match await select(*(channel.receiving() for channel in channels)):
            case Received(number, _):
                chosen[number] += 1
                await channels[number].send(0)
            case other:
                pytest.fail(str(other))

    assert min(chosen.values()) > 800  # 1,000 each; less than 800 is more than seven standard deviations off


@story
async def test_06_with_none_ready_the_default_or_to_wait() -> None:
    channel = Channel[int]()
    assert await select(channel.receiving(), channel.sending(1), default=True) == Default()
    empty = start(select())
    waiting = start(select(channel.receiving()))
    await settle()
    assert not waiting.done()
    await channel.send(7)
    assert await waiting == Received(0, 7)
    assert not empty.done()
    empty.cancel()


@story
async def test_07_exactly_one_case_takes_effect_and_losers_leave_no_trace() -> None:
    one, two, out = Channel[int](), Channel[int](), Channel[str]()
    choice = start(select(one.receiving(), two.receiving(), out.sending("x")))
    await settle()
    await two.send(2)
    with pytest.raises(WouldBlock):
        one.try_send(1)
    with pytest.raises(WouldBlock):
        out.try_receive()

    assert await choice == Received(1, 2)
    for channel in (one, two, out):
        assert channel.statistics() == (0, 0, 0, 0, False)


@story
async def test_07_cancelled_as_the_item_comes_it_goes_to_the_next() -> None:
    channel = Channel[int]()
    for work in (channel.receive(), select(channel.receiving())):
        first, second = start(work), start(channel.receive())
        await settle()
        await channel.send(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == 1
    assert channel.statistics() == (0, 0, 0, 0, False)


@story
async def test_07_cancelled_as_the_item_comes_nothing_overtakes_it() -> None:
    channel = Channel[int]()
    receives = [start(channel.receive()) for _ in range(3)]
    await settle()
    await channel.send(1)
    await channel.send(2)
    receives[0].cancel()

    assert await asyncio.gather(*receives[1:]) == [1, 2]


@story
async def test_07_who_comes_before_the_one_that_was_woken_takes_the_older_item() -> None:
    channel = Channel[int]()
    woken = start(channel.receive())
    await settle()
    later, quick = start(channel.send(2)), start(channel.receive())
    channel.try_send(1)  # promised to the first receiver, which runs only after the two

    assert [await quick, await woken, await later] == [1, 2, None]


@story
async def test_07_a_send_cancelled_while_it_waits_sent_nothing() -> None:
    channel = Channel[int]()
    sends = [start(channel.send(1)), start(select(channel.sending(2))), start(channel.send(3))]
    await settle()
    for send in sends[:2]:
        send.cancel()
    assert await channel.receive() == 3
    assert await select(channel.receiving(), timeout=0) == TimedOut()


@story
async def test_07_a_send_within_a_time_knows_whether_it_sent() -> None:
    channel = Channel[int]()
    assert await select(channel.sending(1), timeout=0.001) == TimedOut()
    receive = start(channel.receive())
    await settle()
    assert await select(channel.sending(2), timeout=0.001) == Sent(0)
    assert await receive == 2


@story
async def test_08_a_cancel_case_has_no_precedence() -> None:
    jobs = Channel[int](200)
    for n in range(200):
        await jobs.send(n)
    token = Token()
    token.cancel()
    chosen = Counter([type(await select(jobs.receiving(), token.done.receiving())) for _ in range(200)])

    assert chosen[Received] > 0
    assert chosen[Ended] > 0


@story
async def test_a_select_never_meets_itself() -> None:
    channel = Channel[int]()
    both = start(select(channel.sending(1), channel.receiving()))
    await settle()
    assert not both.done()
    assert await channel.receive() == 1
    assert await both == Sent(0)


@story
async def test_a_select_that_sends_to_a_closed_channel_raises() -> None:
    channel = Channel[int]()
    waiting = start(select(channel.sending(1)))
    await settle()
    channel.close()
    for send in (waiting, start(select(channel.sending(1), default=True))):
        with pytest.raises(ClosedError):
            await send


# -- wait groups and groups


@story
async def test_09_a_wait_group_counts_wakes_all_and_is_used_again() -> None:
    group = WaitGroup()
    with pytest.raises(MisuseError):
        group.done()
    for _ in range(2):
        group.add(2)
        waiting = [start(group.wait()) for _ in range(3)]
        group.done()
        await settle()
        assert not any(wait.done() for wait in waiting)
        group.done()
        await asyncio.gather(*waiting)
    done: list[int] = []

    async def note(n: int) -> None:
        done.append(n)

    group.go(note, 1)
    assert len(group) == 1
    await group.wait()
    assert done == [1]


@story
async def test_09_what_fails_in_a_wait_group_is_raised_by_wait() -> None:
    group = WaitGroup()
    group.go(_fail, "no")
    with pytest.raises(ExceptionGroup) as caught:
        await group.wait()
    assert str(caught.value.exceptions[0]) == "no"


@story
async def test_10_the_first_error_cancels_the_rest() -> None:
    forever = asyncio.Event()
    with pytest.raises(ExceptionGroup, match="1 of 2 in shop failed") as caught:
        async with Group[object](name="shop") as group:
            await group.go(forever.wait)
            await group.go(_fail, "no")
    assert [str(error) for error in caught.value.exceptions] == ["no"]
    assert caught.value.exceptions[0].__notes__ == ["in _fail, number 1 of shop"]


@story
async def test_10_who_waits_for_a_place_is_let_go_with_the_rest() -> None:
    forever = asyncio.Event()
    with pytest.raises(ExceptionGroup) as caught:
        async with Group[object](limit=1) as group:
            await group.go(_fail, "no")
            await group.go(forever.wait)
            await group.go(forever.wait)
    assert [str(error) for error in caught.value.exceptions] == ["no"]
    group.limit = 2


@story
async def test_11_collecting_waits_for_all_and_the_first_error_comes_first() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with Group[object](on_error="collect") as group:
            await group.go(_fail, "one")
            await group.go(_double, 4)
            await group.go(_fail, "two")
            await settle()
            await group.go(_double, 5)
    assert [str(error) for error in caught.value.exceptions] == ["one", "two"]
    assert group.results == [8, 10]


@story
async def test_12_a_limit_holds_go_waits_and_try_go_does_not() -> None:
    gate = asyncio.Event()
    async with Group[object](limit=2) as group:
        await group.go(gate.wait)
        await group.go(gate.wait)
        assert not group.try_go(gate.wait)
        third = start(group.go(_double, 1))
        await settle()
        assert not third.done()
        with pytest.raises(MisuseError, match="before anything runs"):
            group.limit = 5
        gate.set()
        await third
    assert group.results == [True, True, 2]
    group.limit = 0
    assert group.limit == 0


@story
async def test_12_nothing_starts_at_limit_zero() -> None:
    async with Group[int](limit=0) as group:
        assert not group.try_go(_double, 1)
        assert await select(timeout=0) == TimedOut()
    assert group.results == []


@story
async def test_12_a_go_cancelled_as_its_turn_comes_passes_it_on() -> None:
    gate, waiting = asyncio.Event(), list[asyncio.Task[None]]()

    async def holder() -> int:
        await gate.wait()
        # Runs after this has ended and handed its place on, and before the one who got it.
        asyncio.get_running_loop().call_soon(waiting[0].cancel)
        return 0

    async with Group[int](limit=1) as group:
        await group.go(holder)
        waiting += [start(group.go(_double, n)) for n in (1, 2)]
        await settle()
        gate.set()
        await waiting[1]
        assert waiting[0].cancelled()
    assert group.results == [0, 4]


@story
async def test_13_a_failure_outside_is_an_exception_group_with_traces() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with Group[object]() as group:
            await group.go(_fail, "no")
    assert caught.value.exceptions[0].__traceback__ is not None


@story
async def test_14_recover_reports_restarts_and_gives_up_without_raising() -> None:
    reports: list[tuple[str, bool]] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    outcome = await recover(
        _fail,
        "no",
        restart=Restart(limit=3, backoff=1.0, cap=2.0),
        report=lambda crash: reports.append((str(crash.error), crash.restart_in is None)),
        sleep=sleep,
    )

    assert isinstance(outcome, GaveUp)
    assert reports == [("no", False)] * 3 + [("no", True)]
    assert [0.5 <= slept[0] <= 1.0, *(1.0 <= wait <= 2.0 for wait in slept[1:])] == [True] * 3


@story
async def test_15_tokens_cancel_downward_the_first_cause_wins_and_deadlines_shrink() -> None:
    root = Token(timeout=10.0)
    child = root.child(timeout=20.0)
    grandchild, sibling = child.child(), root.child(timeout=0.001)
    assert child.deadline == root.deadline
    assert sibling.deadline is not None
    assert root.deadline is not None
    assert sibling.deadline < root.deadline

    cause = KeyError("first")
    child.cancel(cause)
    child.cancel(ValueError("second"))
    assert (grandchild.cause, type(grandchild.error), root.error) == (cause, Cancelled, None)
    assert await select(sibling.done.receiving()) == Ended(0)
    with pytest.raises(DeadlineExceeded):
        sibling.check()
    assert child.child().cause is cause
    root.cancel()


@story
async def test_15_after_runs_once_cancelled_and_stop_says_whether_it_prevented_that() -> None:
    token, ran = Token(), Channel[str](2)
    stop = token.after(lambda: ran.try_send("first"))
    token.after(lambda: ran.try_send("second"))
    assert stop()
    assert not stop()
    token.cancel()
    assert await ran.receive() == "second"
    assert len(ran) == 0


# -- the others


@story
async def test_16_a_weighted_semaphore_is_first_come_first_served() -> None:
    semaphore = Semaphore(3)
    await semaphore.acquire(2)
    big, small = start(semaphore.acquire(3)), start(semaphore.acquire(1))
    await settle()
    assert (big.done(), small.done(), semaphore.try_acquire(1)) == (False, False, False)
    big.cancel()
    await small
    assert semaphore.held == 3
    never = start(semaphore.acquire(4))
    semaphore.release(3)
    async with semaphore.hold(3):
        assert not never.done()
    never.cancel()
    with pytest.raises(MisuseError):
        semaphore.release()


@story
async def test_16_an_acquire_cancelled_as_it_is_granted_gives_back() -> None:
    semaphore = Semaphore(1)
    await semaphore.acquire()
    first, second = start(semaphore.acquire()), start(semaphore.acquire())
    await settle()
    semaphore.release()
    first.cancel()
    await second
    assert semaphore.held == 1


@story
async def test_17_callers_for_one_key_share_a_call_and_its_error() -> None:
    flights, gate, calls = Singleflight[int](), asyncio.Event(), Counter[str]()

    async def load(key: str) -> int:
        calls[key] += 1
        await gate.wait()
        if key == "bad":
            raise KeyError(key)
        return 7

    good = [start(flights.do("good", load, "good")) for _ in range(3)]
    bad = [start(flights.do("bad", load, "bad")) for _ in range(2)]
    await settle()
    good[0].cancel()
    flights.forget("bad")
    late = start(flights.do("bad", load, "bad"))
    await settle()
    gate.set()

    assert await asyncio.gather(*good[1:]) == [(7, True)] * 2
    for one in (*bad, late):
        with pytest.raises(KeyError):
            await one
    assert calls == {"good": 1, "bad": 2}
    assert await flights.do("good", load, "good") == (7, False)


@story
async def test_17_a_call_nobody_waits_for_any_more_is_cancelled() -> None:
    flights, stopped = Singleflight[None](), asyncio.Event()

    async def load() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    only = start(flights.do(1, load))
    await settle()
    only.cancel()
    await stopped.wait()


@story
async def test_18_once_means_once_for_errors_too() -> None:
    gate, calls = asyncio.Event(), Counter[str]()

    async def connect() -> int:
        calls["connect"] += 1
        await gate.wait()
        raise KeyError("down")

    once = Once(connect)
    first, second = start(once()), start(once())
    await settle()
    assert not second.done()
    first.cancel()
    gate.set()
    for _ in range(2):
        with pytest.raises(KeyError):
            await once()
    with pytest.raises(KeyError):
        await second
    assert calls["connect"] == 1


@story
async def test_19_a_ticker_drops_ticks_and_leaves_none_behind() -> None:
    with ticker(0.001) as ticks:
        first = await ticks.receive()
        assert await select(timeout=0.02) == TimedOut()
        assert await ticks.receive() > first
    with pytest.raises(ClosedError):
        await ticks.receive()


@story
async def test_20_a_busy_thread_feeds_the_loop_which_stays_awake() -> None:
    lines = Channel[int](2)
    end, awake = lines.from_thread, Counter[str]()

    def produce() -> None:
        for n in range(200):
            sum(range(2_000))
            end.send(n)
        end.close()

    thread = threading.Thread(target=produce)
    thread.start()
    got = []
    async for n in lines:
        got.append(n)
        awake["loop"] += 1
    await asyncio.to_thread(thread.join)
    assert got == list(range(200))


async def _fail(why: str) -> int:
    raise RuntimeError(why)


async def _double(number: int) -> int:
    return 2 * number
