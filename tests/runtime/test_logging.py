"""Logging decides nothing: whatever an application's filters raise, each message reaches its state and a stop returns."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import forebay
from forebay import App, Cancel, Context, Dead, Snooze, State, WorkerOptions
from forebay.engine import Timing
from forebay.errors import EngineUnavailable, name_of, text_of
from forebay.model.when import SECOND
from forebay.runtime import worker as room
from forebay.runtime.in_flight import Why
from forebay.stores.memory import MemoryEngine
from forebay.support import logs
from forebay.support.logs import Log
from forebay.testing.clock import eventually
from tests.runtime import pooled
from tests.runtime.kit import Spied, reaches, story, working

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay import Handle

SOURCES = Path(forebay.__file__).parent


class Refusal(BaseException):
    """Not even an Exception."""


@pytest.fixture(
    params=[LookupError, Refusal, SystemExit, asyncio.CancelledError], ids=lambda kind: kind.__name__
)
def seen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The events of Forebay's lines, at each of which the application's own filter raises."""
    events: list[str] = []

    def refuse(record: logging.LogRecord) -> bool:
        if record.name.startswith("forebay"):
            events.append(record.getMessage())
            raise request.param("no such variable")
        return True

    handler = logging.NullHandler()
    handler.addFilter(refuse)
    handler.handle = lambda record: bool(handler.filter(record))  # type: ignore[method-assign]  # a NullHandler asks no filter
    monkeypatch.setattr(room, "CUT_OFF", SECOND // 20)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger("forebay"), "level", logging.DEBUG)
    logging.getLogger("forebay").manager._clear_cache()  # type: ignore[attr-defined]  # of levels
    yield events
    logging.getLogger().removeHandler(handler)
    logging.getLogger("forebay").manager._clear_cache()  # type: ignore[attr-defined]  # as above


@story
async def test_every_end_is_reached_though_a_filter_raises_at_every_line(seen: list[str]) -> None:
    app, entered, ignored = App("memory://"), asyncio.Event(), asyncio.Event()
    waiting: list[str] = []

    @app.task(max_attempts=2, backoff=0)
    async def end(ctx: Context, how: str) -> str:
        ctx.log.warning("begins")
        match how:
            case "fails":
                raise ValueError(how)
            case "snoozes":
                raise Snooze("1h")
            case "gives up":
                raise Dead
            case "calls off":
                return Cancel()  # type: ignore[return-value]  # a word in the place of a result
            case _:
                return how

    @app.task(max_attempts=1, timeout="10ms")
    async def late() -> None:
        await asyncio.Event().wait()

    @app.task
    async def wait(name: str) -> None:
        waiting.append(name)
        if len(waiting) == 3:
            entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            if name == "deaf":
                await ignored.wait()

    async with app, working(app, WorkerOptions(stop_within=0)) as worker:
        worker.on_verdict.append(_refuse)
        ends: list[tuple[Handle[Any], State]] = [
            (await end.send("succeeds"), State.SUCCEEDED),
            (await end.send("fails"), State.DEAD),
            (await end.send("snoozes"), State.SCHEDULED),
            (await end.send("gives up"), State.DEAD),
            (await end.send("calls off"), State.CANCELLED),
            (await late.send(), State.DEAD),
            (await app.send("nobody"), State.SCHEDULED),
        ]
        kept = {name: await wait.send(name) for name in ("lost", "handed back", "deaf")}
        for handle, state in ends:
            await reaches(handle, state)
        await entered.wait()
        (lost,) = [
            run for run in worker._at_work[0].in_flight.snapshot() if run.delivery.id == kept["lost"].id
        ]
        lost.stop(Why.LOST)
        await eventually(lambda: "lease.lost" in seen)
        worker.stop()
        await eventually(lambda: "worker.stopped" in seen, what="the worker has stopped")
        ignored.set()

        assert [(await handle.status()).state for handle in kept.values()] == [
            State.RUNNING,
            State.READY,
            State.READY,
        ]
    assert {
        "worker.started",
        "task.retry",
        "task.dead",
        "task.overdue",
        "task.unknown",
        "task.left",
        "begins",
    } <= set(seen)


@story
async def test_work_goes_on_when_the_engine_is_back_though_a_filter_raises_at_every_line(
    seen: list[str],
) -> None:
    engine, failed = Spied(MemoryEngine()), set[str]()

    def fail(kind: str, _: object) -> None:
        if kind in {"receive", "settle", "sweep", "extend"} - failed:
            failed.add(kind)
            raise EngineUnavailable("away")

    engine.before = fail
    brisk = Timing(lease=3 * SECOND, heartbeat=SECOND // 20, sweep=SECOND // 20)
    app, beaten = App(engine, timing=brisk), asyncio.Event()

    @app.task
    async def job() -> None:
        await beaten.wait()

    async with app, working(app):
        handle = await job.send()
        await eventually(lambda: {"heartbeat.missed", "sweep.failed"} <= set(seen))
        beaten.set()
        await reaches(handle, State.SUCCEEDED)

    assert {"receive.waits", "settle.waits"} <= set(seen)


@story
async def test_a_crash_apart_is_counted_though_a_filter_raises_at_every_line(seen: list[str]) -> None:
    async with working(pooled.app):
        assert (await reaches(await pooled.die.send("exit"), State.DEAD)).crashes == pooled.app.timing.crashes

    assert "task.crashed" in seen


def test_a_lost_line_is_told_on_stderr_ever_more_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: list[str]
) -> None:
    monkeypatch.setattr(logs, "_LOST", iter(range(1, 10)))
    for number in range(1, 10):
        Log("forebay.test").error("line %s", number)

    told = capsys.readouterr().err.splitlines()
    assert [re.findall(r"'line %s' is lost \((\d) so far\)", line) for line in told] == [
        ["1"],
        ["2"],
        ["4"],
        ["8"],
    ]
    assert all("no such variable" in line and "test_logging.py" in line for line in told)
    assert len(seen) == 9


def test_a_line_names_who_logs_and_keeps_the_fields_of_both(caplog: pytest.LogCaptureFixture) -> None:
    Log("forebay.test", {"task": "bill", "attempt": 1}).warning("begins", extra={"attempt": 2})

    (record,) = caplog.records
    assert (record.filename, record.funcName) == (
        "test_logging.py",
        "test_a_line_names_who_logs_and_keeps_the_fields_of_both",
    )
    assert (vars(record)["task"], vars(record)["attempt"]) == ("bill", 2)


def test_nothing_of_forebay_logs_by_a_logger_that_can_raise() -> None:
    by_hand = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(
            r"logging\.(getLogger\([^)]*\)\.\w+\(|(debug|info|warning|error|critical|exception)\()",
            path.read_text(),
        )
        or re.search(r"^\w+(: Final)? = logging\.getLogger", path.read_text(), re.MULTILINE)
    }

    assert by_hand == {"local/telling.py"}


def _refuse(*_: object) -> None:
    raise LookupError("a listener's own mistake")


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # what users write
        raise RuntimeError


class Hidden(Exception, metaclass=Nameless):
    def __str__(self) -> str:
        raise Refusal


def test_an_error_that_hides_is_told_all_the_same() -> None:
    assert name_of(Hidden()) == "Hidden"
    assert text_of(Hidden()) == "(its message cannot be shown: Refusal)"
