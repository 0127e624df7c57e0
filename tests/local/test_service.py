"""What a service leans on: the background queue, supervision, and reports of what was left running or waits for ever."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from forebay.local import (
    Background,
    Channel,
    ClosedError,
    Crash,
    DeadlockError,
    GaveUp,
    LeakError,
    MisuseError,
    Once,
    QueueFull,
    Restart,
    Semaphore,
    Supervisor,
    WaitGroup,
    no_deadlock,
    no_leaks,
    recover,
    report,
    select,
)
from tests.local.kit import settle, start, story

# -- the background queue


@story
async def test_what_was_sent_is_done_before_the_end() -> None:
    background, done = Background(workers=2), list[object]()

    @background.task
    async def note(line: str) -> None:
        await asyncio.sleep(0)
        done.append(line)

    @background.task
    def note_in_a_thread(line: str) -> None:
        done.append((line, threading.current_thread() is threading.main_thread()))

    with pytest.raises(ClosedError, match="does not run"):
        await note.send("early")
    async with background:
        for n in range(10):
            await note.send(str(n))
        await note_in_a_thread.send("x")
    assert sorted(map(str, done)) == sorted([*map(str, range(10)), "('x', False)"])
    assert background.statistics().done == 11
    with pytest.raises(ClosedError):
        await note.send("late")


@story
async def test_a_failure_is_tried_again_and_then_reported(caplog: pytest.LogCaptureFixture) -> None:
    background, tries = Background(), list[str]()

    @background.task(max_attempts=3, backoff=0.0)
    async def fail() -> None:
        tries.append("fail")
        raise KeyError("no")

    @background.task(max_attempts=1, timeout=0.001)
    async def hang() -> None:
        await asyncio.Event().wait()

    caplog.clear()
    async with background:
        await fail.send()
        await hang.send()
    assert tries == ["fail"] * 3
    assert background.statistics()[3:6] == (0, 2, 2)
    assert [one.message for one in caplog.records if one.levelno == logging.ERROR].count(
        "background.failed"
    ) == 2


@story
async def test_when_full_it_blocks_rejects_or_drops_the_oldest() -> None:
    for full in ("block", "reject", "drop_oldest"):
        gate, done = asyncio.Event(), list[int]()
        background = Background(workers=1, capacity=2, full=full)

        @background.task
        async def note(n: int, gate: asyncio.Event = gate, done: list[int] = done) -> None:
            await gate.wait()
            done.append(n)

        async with background:
            for n in range(3):
                await note.send(n)
                await settle()
            fourth = start(note.send(3))
            await settle()
            assert fourth.done() == (full != "block")
            gate.set()
            if full == "reject":
                with pytest.raises(QueueFull):
                    await fourth
            else:
                await fourth
        assert done == {"block": [0, 1, 2, 3], "reject": [0, 1, 2], "drop_oldest": [0, 2, 3]}[full]
        assert background.statistics()[6:8] == (int(full == "reject"), int(full == "drop_oldest"))


@story
async def test_what_does_not_end_in_time_is_counted_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    background = Background(workers=1, drain=0.01)

    @background.task(timeout=None)
    async def hang() -> None:
        await asyncio.Event().wait()

    async with no_leaks(), background.lifespan():
        await hang.send()
        await hang.send()
    assert background.statistics().lost == 2
    assert "background.lost" in caplog.messages


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"capacity": 0}, {"full": "wait"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MisuseError):
        Background(**wrong)  # type: ignore[arg-type]


# -- supervision


@story
async def test_one_that_crashes_leaves_the_others_alone() -> None:
    crashes, ticks = list[Crash](), Channel[int](100)

    async def crash() -> None:
        raise KeyError("no")

    async def tick() -> None:
        for n in range(3):
            await ticks.send(n)
        await asyncio.Event().wait()

    async with (
        no_leaks(),
        Supervisor(restart=Restart(limit=2, backoff=0.0), report=crashes.append) as supervisor,
    ):
        given_up = supervisor.start(crash, name="crash")
        ticking = supervisor.start(tick, name="tick")
        outcome = await given_up
        assert isinstance(outcome, GaveUp)
        assert [await ticks.receive() for _ in range(3)] == [0, 1, 2]
        await settle()
        assert supervisor.running == [ticking.get_name()] == ["tick"]
    assert [(one.name, one.number, one.restart_in is None) for one in crashes] == [
        ("crash", 1, False),
        ("crash", 2, False),
        ("crash", 3, True),
    ]


@story
async def test_a_report_that_fails_is_itself_reported(caplog: pytest.LogCaptureFixture) -> None:
    def fail(crash: Crash) -> None:
        raise ValueError("no report")

    async def cancelled_by_itself() -> None:
        raise asyncio.CancelledError

    outcome = await recover(cancelled_by_itself, restart=Restart(limit=0), report=fail)
    assert isinstance(outcome, GaveUp)
    assert {"task.given_up", "report.failed"} <= set(caplog.messages)


@story
async def test_a_logging_filter_that_raises_ends_neither_the_queue_nor_supervision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise LookupError(record.getMessage())

    monkeypatch.setattr(logging.getLogger("forebay.local"), "filter", refuse)
    background = Background(drain=0)

    @background.task(max_attempts=2, backoff=0.0)
    async def fail(left: bool) -> None:
        if left:
            await asyncio.Event().wait()
        raise KeyError("no")

    async def crash() -> None:
        raise KeyError("no")

    async with background:
        await fail.send(False)
        await settle()
        await fail.send(True)
        await settle()
    counted = background.statistics()
    assert (counted.failed, counted.retried, counted.lost) == (1, 1, 1)
    assert isinstance(await recover(crash, restart=Restart(limit=0)), GaveUp)
    told = capsys.readouterr().err
    assert [
        event
        for event in ("background.retries", "background.failed", "background.lost", "task.given_up")
        if event not in told
    ] == []


@story
async def test_a_supervised_task_that_is_cancelled_is_not_restarted() -> None:
    task = start(recover(asyncio.Event().wait, report=_never))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _never(crash: Crash) -> None:
    raise AssertionError(crash)


# -- leaks and deadlocks


@story
async def test_a_task_left_behind_is_named_with_what_it_waits_for() -> None:
    jobs = Channel[int](name="jobs")

    async def forgotten() -> None:
        await jobs.receive()

    with pytest.raises(
        LeakError, match=r"waits to receive from <Channel 'jobs' 0/0> at .*test_service\.py:\d"
    ):
        async with no_leaks(grace=0.01):
            task = asyncio.get_running_loop().create_task(forgotten(), name="reader")
            await settle()
    await settle()
    assert task.cancelled()


@story
async def test_a_thread_left_behind_is_named() -> None:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="left-behind")
    with pytest.raises(LeakError, match="thread left-behind"):
        async with no_leaks(grace=0.01):
            thread.start()
    gate.set()
    thread.join()


@story
async def test_a_clean_block_passes() -> None:
    async with no_leaks():
        await asyncio.gather(start(settle(3)), asyncio.to_thread(int))


@story
async def test_a_report_says_who_waits_for_what() -> None:
    channel, full, group, semaphore = (
        Channel[int](name="a"),
        Channel[int](name="b"),
        WaitGroup(),
        Semaphore(1),
    )
    group.add()
    await semaphore.acquire()
    works = [
        channel.receive(),
        full.send(1),
        select(channel.receiving(), full.sending(2)),
        group.wait(),
        semaphore.acquire(),
        Once(asyncio.Event().wait)(),
        asyncio.Event().wait(),
    ]
    tasks = [start(work) for work in works]
    await settle()
    text = report(tasks)
    for task in tasks:
        task.cancel()

    for line in (
        "to receive from <Channel 'a' 0/0>",
        "to send to <Channel 'b' 0/0>",
        "in select on <Channel 'a' 0/0>, <Channel 'b' 0/0>",
        "for a wait group at 1",
        "for 1 of a semaphore with 1 of 1 held",
        "for a call made once",
        "for something else",
    ):
        assert line in text


@story
async def test_two_that_wait_for_each_other_are_told_apart() -> None:
    one, two = Channel[int](name="one"), Channel[int](name="two")

    async def cross(first: Channel[int], second: Channel[int]) -> None:
        await first.receive()
        await second.send(1)

    with pytest.raises(DeadlockError, match=r"(?s)from <Channel 'one' 0/0>.*from <Channel 'two' 0/0>"):
        async with no_deadlock(0.02), asyncio.TaskGroup() as group:
            group.create_task(cross(one, two), name="A")
            group.create_task(cross(two, one), name="B")
    async with no_deadlock(5.0):
        pass
