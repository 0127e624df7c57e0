"""What a running handler says of its progress, how it hears that it is to stop, and what is seen of one that does not."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Context, State
from forebay.errors import EngineUnavailable, InvalidOption, TaskDead
from forebay.model.when import SECOND
from forebay.runtime import worker as at_work
from forebay.testing.clock import eventually
from tests.runtime.kit import reaches, story, working

if TYPE_CHECKING:
    from pathlib import Path

    from forebay import Handle
    from forebay.model.query import Progress


async def said(handle: Handle[Any]) -> Progress:
    """What the store shows, once it shows something."""

    async def shown() -> Progress:
        progress = (await handle.status()).progress
        assert progress is not None
        return progress

    return await eventually(shown)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/progress.db"])
@story
async def test_the_latest_word_of_a_handler_is_shown(url: str, tmp_path: Path) -> None:
    app, go = App(url.format(tmp_path)), asyncio.Event()

    @app.task
    async def count(ctx: Context) -> None:
        for done in range(41):
            ctx.progress(done, 100, f"{done} of 100")
        await go.wait()

    async with working(app):
        handle = await count.send()

        async def latest() -> bool:
            return (await said(handle)).share == 0.4

        await eventually(latest)
        shown = await said(handle)
        go.set()
        await handle.result()

    assert (shown.share, shown.note, shown.overdue) == (0.4, "40 of 100", False)


@story
async def test_a_thread_may_say_how_far_it_is() -> None:
    app, go = App("memory://"), threading.Event()

    @app.task
    def count(ctx: Context) -> None:
        ctx.progress(0.25, note="x" * 500)
        go.wait(5)

    async with working(app):
        handle = await count.send()
        shown = await said(handle)
        go.set()
        await handle.result()

    assert (shown.share, len(shown.note)) == (0.25, 200)


@pytest.mark.parametrize(("done", "total"), [(1.1, None), (-0.1, None), (5, 4), (float("nan"), None)])
@story
async def test_a_share_that_cannot_be_is_refused(done: float, total: float | None) -> None:
    app = App("memory://")

    @app.task(no_retry_on=InvalidOption)
    async def count(ctx: Context) -> None:
        ctx.progress(done, total)

    async with working(app):
        with pytest.raises(TaskDead, match="between 0 and 1"):
            await (await count.send()).result()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/cancel.db"])
@story
async def test_a_cancel_is_heard_long_before_the_next_beat(url: str, tmp_path: Path) -> None:
    app = App(url.format(tmp_path))
    assert app.timing.heartbeat >= 10 * SECOND, "the story ends long before"

    @app.task
    async def wait() -> None:
        await asyncio.Event().wait()

    async with working(app):
        handle = await wait.send()
        await reaches(handle, State.RUNNING)
        await eventually(lambda: _listens(app))
        assert await handle.cancel()
        await reaches(handle, State.CANCELLED)


@story
async def test_a_thread_can_ask_whether_it_is_to_stop() -> None:
    app, begun = App("memory://"), threading.Event()

    @app.task(timeout="50ms", max_attempts=1)
    def work(ctx: Context) -> None:
        begun.set()
        while True:
            ctx.check_cancelled()
            threading.Event().wait(0.001)

    async with working(app):
        handle = await work.send()
        with pytest.raises(TaskDead, match="Timeout: work ran out of time"):
            await handle.result()


@story
async def test_a_thread_whose_time_is_up_shows_as_overdue() -> None:
    app, go = App("memory://"), threading.Event()

    @app.task(timeout="30ms")
    def work(ctx: Context) -> str:
        go.wait(5)
        return f"{ctx.cancelled}"

    async with working(app) as worker:
        handle = await work.send()
        shown = await said(handle)
        load = worker.load
        go.set()
        assert await handle.result() == "True"

    assert shown.overdue
    assert load == {"running": 1, "overdue": 1}


@story
async def test_a_worker_that_cannot_reach_its_engine_says_that_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, away = App("memory://"), asyncio.Event()
    monkeypatch.setattr(at_work, "AWAY", 0)

    @app.task
    async def work() -> None: ...

    async with working(app) as worker:
        assert worker.condition == "working"
        broker = (await app._client.link()).broker
        receive = broker.receive

        async def refused(*_: object, **__: object) -> object:
            away.set()
            raise EngineUnavailable("away, as asked")

        monkeypatch.setattr(broker, "receive", refused)
        await work.send()
        await away.wait()
        await eventually(lambda: worker.condition == "waiting")

        monkeypatch.setattr(broker, "receive", receive)
        await work.send()
        await eventually(lambda: worker.condition == "working")


def _listens(app: App) -> bool:
    """Whether the heartbeat listens for cancels by now."""
    from forebay.engine import Cancels

    return app.engine.signals.awaited(Cancels())  # type: ignore[attr-defined,no-any-return]  # of both engines
