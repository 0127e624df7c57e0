"""An application hears of its dead letters, and nothing that its hooks do changes what becomes of a message."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from forebay import App, Context, Dead, DeadLetter, State
from forebay.cli.serving import _hand_back
from forebay.engine import Ask, EngineOptions, Source, Timing
from forebay.errors import InvalidOption
from forebay.model import verdict as v
from forebay.model.policy import RetryPolicy
from forebay.model.verdict import Failure, Reason
from forebay.model.when import SECOND
from forebay.runtime import dead_hooks
from forebay.runtime.dead_hooks import DeadHooks
from forebay.runtime.threads import Threads
from forebay.stores.memory import MemoryEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token
from forebay.testing.clock import VirtualClock, eventually
from tests.runtime.kit import a_delivery, a_handler, one_try, reaches, story, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.query import TaskRecord

GONE = v.Dead(Reason.ASKED, Failure("Dead", "no"))


def an_app(*hooks: Callable[[DeadLetter], Any]) -> App:
    """With a task that is dead after two tries."""
    app = App("memory://")

    @app.task(queue="mail", max_attempts=2, backoff=0)
    async def charge(n: int) -> None:
        raise ConnectionError(f"no gateway for {n}")

    for hook in hooks:
        app.on_dead(hook)
    return app


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@story
async def test_a_hook_hears_once_of_the_last_try_after_it_is_settled(threaded: bool) -> None:
    told, states, threads = list[DeadLetter](), list[State](), list[int]()

    async def hears(letter: DeadLetter) -> None:
        states.append((await app.handle(letter.id).status()).state)
        told.append(letter)

    def hears_in_a_thread(letter: DeadLetter) -> None:
        threads.append(threading.get_ident())
        told.append(letter)

    app = an_app(hears_in_a_thread if threaded else hears)
    async with working(app):
        handle = await app.send("charge", 7)
        await eventually(lambda: bool(told), what="the hook was called")

    (letter,) = told
    assert (letter.id, letter.name, letter.queue, letter.reason) == (
        handle.id,
        "charge",
        "mail",
        Reason.EXHAUSTED,
    )
    assert (letter.attempts, letter.crashes, letter.message.body) == (2, 0, b'{"n":7}')
    assert letter.error is not None
    assert (letter.error.type, letter.error.message) == ("ConnectionError", "no gateway for 7")
    assert states == [State.DEAD] * (not threaded)
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("verdict", "crashes", "heard"),
    [
        (GONE, 0, (Reason.ASKED, 1, 0)),
        (v.Dead(Reason.UNKNOWN_NAME, counts=False), 1, (Reason.UNKNOWN_NAME, 0, 1)),
        (v.Crashed(Failure("Crashed", "")), 2, (Reason.CRASHED, 0, 3)),
        (v.Crashed(Failure("Crashed", "")), 1, None),
        (v.Release(), 0, None),
        (v.Cancelled(), 0, None),
        (v.Expired(), 0, None),
    ],
)
@story
async def test_only_a_last_try_is_told_of(
    verdict: v.Verdict, crashes: int, heard: tuple[Reason, int, int] | None
) -> None:
    told = list[DeadLetter]()
    hooks = DeadHooks([told.append], Timing().crashes)

    hooks.hear(a_delivery(crashes=crashes), verdict)
    await hooks.tell()
    hooks.close()

    assert [(one.reason, one.attempts, one.crashes) for one in told] == ([] if heard is None else [heard])


@pytest.mark.parametrize("error", [ValueError("pager away"), SystemExit(3), KeyboardInterrupt()])
@story
async def test_what_a_hook_raises_is_logged_and_the_others_and_the_worker_go_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    told = list[str]()

    async def breaks(_: DeadLetter) -> None:
        raise error

    app = an_app(breaks, lambda letter: told.append(letter.id))
    async with working(app):
        handles = [await app.send("charge", n) for n in (1, 2)]
        await eventually(lambda: len(told) == 2, what="both were told")
        for handle in handles:
            await reaches(handle, State.DEAD)

    failed = [record for record in caplog.records if record.msg == "dead.hook_failed"]
    assert len(failed) == 2
    assert failed[0].exc_info is not None
    assert failed[0].exc_info[1] is error


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@story
async def test_a_hook_that_takes_for_ever_holds_up_neither_the_others_nor_the_stop(
    threaded: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dead_hooks, "PATIENCE", 0.05)
    told, never = list[str](), threading.Event()

    async def hangs(_: DeadLetter) -> None:
        await asyncio.Event().wait()

    def blocks(_: DeadLetter) -> None:
        never.wait()

    async def hears(letter: DeadLetter) -> None:
        told.append(letter.id)

    app = an_app(blocks if threaded else hangs, hears)
    async with working(app):
        handle = await app.send("charge", 1)
        await eventually(lambda: told == [handle.id], what="the next hook was called")
    never.set()

    assert [r.msg for r in caplog.records if r.levelno >= logging.ERROR and "hook" in r.msg] == [
        "dead.hook_overdue"
    ]


@story
async def test_what_waits_to_be_told_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dead_hooks, "MOST", 2)
    told = list[str]()
    hooks = DeadHooks([lambda letter: told.append(letter.id)], 3)

    for n in range(4):
        hooks.hear(a_delivery(name=f"job{n}"), GONE)
    await hooks.tell()
    hooks.close()

    assert told == ["id-job0", "id-job1"]
    assert [r.msg for r in caplog.records] == ["dead.untold"] * 2


@story
async def test_a_stop_still_tells_of_what_died_last() -> None:
    told = list[str]()

    async def hears(letter: DeadLetter) -> None:
        await app.count()  # the App is still open
        told.append(letter.id)

    app = App("memory://")
    entered = asyncio.Event()
    app.on_dead(hears)

    @app.task
    async def job(_: Context) -> None:
        entered.set()
        raise Dead

    async with working(app) as worker:
        handle = await app.send("job")
        await entered.wait()
        worker.stop()

    assert told == [handle.id]


@story
async def test_a_sweep_tells_of_what_died_with_its_worker() -> None:
    told = list[DeadLetter]()
    timing = Timing(lease="1m", heartbeat="5s", sweep="20ms", crashes=1)
    clock = VirtualClock()
    engine = MemoryEngine(EngineOptions(timing=timing))
    app = App(engine, timing=timing, clock=clock)
    app.on_dead(told.append)

    @app.task(queue="mail")
    async def charge(n: int) -> None: ...

    async with app:
        handle = await charge.send(7)
        gone = engine.connect("gone", clock)
        await gone.declare([])
        assert await gone.receive([Ask(Source(queue="mail"), new_token(), 1)], wait=0)
        async with working(app):
            await clock.advance(61 * SECOND)
            await eventually(lambda: bool(told), what="the hook was called")

    (letter,) = told
    assert (letter.id, letter.reason, letter.attempts, letter.crashes) == (handle.id, Reason.CRASHED, 0, 1)
    assert letter.error is not None
    assert "lost 1 times" in letter.error.message


@pytest.mark.parametrize("crashes", [1, 2])
@story
async def test_who_takes_back_what_a_dead_process_had_tells_of_what_is_dead_of_it(crashes: int) -> None:
    engine = MemoryEngine(EngineOptions(timing=Timing(crashes=crashes)))
    app, told = App(engine), list[str]()

    class Told:
        def on_dead(self, record: TaskRecord) -> None:
            told.append(record.id)

    async with app:
        gone = engine.connect("gone", SystemClock())
        await gone.declare([])
        handle = await app.send("charge", 7, queue="mail")
        await app.send("charge", 8, queue="other")
        assert await gone.receive([Ask(Source(queue="mail"), new_token(), 1)], wait=0)

        assert await _hand_back(app, cast("Any", Told()), "gone") == 1

    assert told == [handle.id] * (crashes == 1)


@story
async def test_a_stage_tells_too() -> None:
    told = list[str]()
    app = an_app(lambda letter: told.append(letter.id))

    async with app.testing(propagate=False) as stage:
        handle = await app.send("charge", 1)
        await stage.run_all()

    assert told == [handle.id]


@pytest.mark.parametrize("hook", [None, "page", lambda: None, lambda _a, _b: None])
def test_what_cannot_be_called_with_a_letter_is_no_hook(hook: Any) -> None:
    with pytest.raises(InvalidOption, match="one parameter, the dead letter"):
        App("memory://").on_dead(hook)


@pytest.mark.parametrize(
    ("asked", "attempts", "last"), [(None, 1, False), (None, 2, True), (5, 2, False), (1, 0, True)]
)
@story
async def test_a_try_knows_whether_it_is_the_last(asked: int | None, attempts: int, last: bool) -> None:
    said = list[bool]()

    async def job(ctx: Context) -> None:
        said.append(ctx.is_last)

    handler = a_handler(job, policy=RetryPolicy(max_attempts=3))
    await one_try(handler.call(Threads(1)), handler, a_delivery(attempts=attempts, max_attempts=asked))

    assert said == [last]
