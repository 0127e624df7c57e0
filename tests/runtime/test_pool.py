"""Child processes that try one message at a time: what comes back from them, and what happens when they die."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from forebay import App, State, WorkerOptions
from forebay.errors import InvalidOption, TaskDead, Unsupported
from forebay.model import outcome as o
from forebay.model.query import Progress
from forebay.model.verdict import Reason
from forebay.model.when import After
from forebay.processes.address import address_of
from forebay.processes.pool import CLEAN_UP, LATEST, SOONEST, DiedError, Pool, PoolWorker
from forebay.processes.pool_worker import _framed
from forebay.processes.protocol import LENGTH, Address, Job, Tried, frame, read_order, read_report
from forebay.runtime.in_flight import InFlight, Run
from forebay.runtime.worker import CUT_OFF
from forebay.testing.clock import VirtualClock, eventually
from tests.runtime import pooled
from tests.runtime.kit import a_delivery, story, working


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        with suppress(FileNotFoundError):
            return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@story
async def test_a_handler_with_a_process_runs_in_another_process_and_its_result_comes_back() -> None:
    async with working(pooled.app):
        pid, queue, attempt = await (await pooled.where.send()).result("20s")

    assert pid != os.getpid()
    assert (queue, attempt) == ("pooled", 1)
    await eventually(lambda: not alive(pid), what="the child ends with its worker")


@story
async def test_one_process_takes_one_message_after_the_other() -> None:
    async with working(pooled.app, WorkerOptions(pool_processes=1)):
        handles = [await pooled.where.send() for _ in range(5)]
        pids = {(await handle.result("20s"))[0] for handle in handles}

    assert len(pids) == 1


@story
async def test_what_a_handler_raises_in_its_process_is_its_failure_here() -> None:
    async with working(pooled.app):
        with pytest.raises(TaskDead, match="LookupError: as asked"):
            await (await pooled.fail.send()).result("20s")


@pytest.mark.parametrize(("fails", "sent"), [(False, 1), (True, 0)])
@story
async def test_what_a_handler_sends_leaves_with_its_success_alone(fails: bool, sent: int) -> None:
    async with working(pooled.app):
        before = await _count("notes")
        handle = await pooled.follow.send(fails=fails)
        await eventually(lambda: _is_over(handle.id), within=20)

        assert await _count("notes") - before == sent


@story
async def test_a_try_that_keeps_the_interpreter_is_killed_at_its_timeout(tmp_path: Path) -> None:
    async with working(pooled.app):
        handle = await pooled.spin.send(str(tmp_path))
        with pytest.raises(TaskDead, match="Timeout"):
            await handle.result("20s")
        (child,) = [int(name) for name in os.listdir(tmp_path)]  # noqa: PTH208  # names alone

        await eventually(lambda: not alive(child))
        assert (await (await pooled.where.send()).result("20s"))[0] != child


@story
async def test_what_a_coroutine_returns_after_its_timeout_does_not_count_in_a_process_either() -> None:
    async with working(pooled.app):
        with pytest.raises(TaskDead, match="Timeout"):
            await (await pooled.swallow.send()).result("20s")


@pytest.mark.parametrize(("how", "said"), [("exit", "exit code 7"), ("signal", "SIGSEGV")])
@story
async def test_a_message_that_kills_its_process_is_quarantined_and_its_worker_lives(
    how: str, said: str
) -> None:
    async with working(pooled.app) as worker:
        handle = await pooled.die.send(how)
        with pytest.raises(TaskDead, match=f"crashed.*{said}"):
            await handle.result("20s")
        record = await handle.status()

        assert (record.crashes, record.attempts) == (pooled.app.timing.crashes, 0)
        assert worker.condition == "working"


@story
async def test_a_process_that_leaves_a_fork_of_itself_has_died_all_the_same(tmp_path: Path) -> None:
    async with working(pooled.app):
        with pytest.raises(TaskDead, match=r"crashed.*SIGKILL"):
            await (await pooled.die_after_a_fork.send(str(tmp_path))).result("20s")
    copies = [int(name) for name in os.listdir(tmp_path)]  # noqa: PTH208  # names alone

    assert len(copies) == pooled.app.timing.crashes
    await eventually(lambda: not any(map(alive, copies)), what="what it left behind ends too")


@story
async def test_the_programs_that_a_try_runs_end_with_it_at_its_timeout(tmp_path: Path) -> None:
    async with working(pooled.app):
        with pytest.raises(TaskDead, match="Timeout"):
            await (await pooled.run_a_program.send(str(tmp_path))).result("20s")
    (program,) = [int(name) for name in os.listdir(tmp_path)]  # noqa: PTH208  # names alone

    await eventually(lambda: not alive(program))


@story
async def test_a_child_that_says_no_report_is_killed_and_its_worker_lives() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    process = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    child = PoolWorker(process, reader, writer)
    with theirs:
        theirs.sendall(LENGTH.pack(3) + b"abc")
        with pytest.raises(DiedError, match="no report"):
            await child.hear()

    assert await process.wait() < 0
    assert not child.alive


@story
async def test_a_flood_of_progress_does_not_reach_the_worker_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told = 0
    say = InFlight.say

    def count(self: InFlight, run: Run, said: Progress) -> None:
        nonlocal told
        told += 1
        say(self, run, said)

    monkeypatch.setattr(InFlight, "say", count)
    async with working(pooled.app):
        await (await pooled.say_often.send(100_000)).result("20s")

    assert 0 < told < 1_000


def test_more_than_the_line_carries_is_a_result_too_large_and_no_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forebay.processes.protocol.LONGEST", 10_000)
    message = a_delivery(b"x" * 10_000).message

    report = read_report(_framed(Tried(o.Returned(None), (message,)))[LENGTH.size :])

    assert isinstance(report, Tried)
    assert isinstance(report.outcome, o.Buried)
    assert report.outcome.reason is Reason.RESULT
    assert report.then == ()


def test_a_process_is_killed_before_its_worker_gives_up_on_it() -> None:
    assert CLEAN_UP < CUT_OFF


@story
async def test_a_cancelled_try_may_clean_up(tmp_path: Path) -> None:
    async with working(pooled.app, WorkerOptions(stop_within=1_000)):
        handle = await pooled.linger.send(str(tmp_path))
        await eventually((tmp_path / "begun").exists, within=20)
        run = await _in_flight(handle.id)
        assert run
    # The worker's stop cuts it off: it has cleaned up, and the message waits for another worker.
    assert (tmp_path / "cleaned").exists()


@story
async def test_an_engine_inside_one_process_is_not_open_in_another() -> None:
    async with working(pooled.app):
        assert await (await pooled.send_on.send()).result("20s") == "not open"


@story
async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import asyncio, os
from pathlib import Path
from forebay import App

app = App("memory://")

@app.task(pool="process", timeout="1h")
def hold() -> None:
    Path({str(tmp_path / "child")!r}).write_text(str(os.getpid()))
    while True:
        pass

async def main() -> None:
    async with app:
        await hold.send()
        await app.worker().run()

if __name__ == "__main__":
    asyncio.run(main())
"""
    )
    parent = subprocess.Popen([sys.executable, str(program)], cwd=tmp_path)  # noqa: ASYNC220  # a program of its own
    try:
        child = int(await eventually(lambda: _text(tmp_path / "child"), within=20))
    finally:
        parent.kill()
        parent.wait(10)

    await eventually(lambda: not alive(child), what="the child is gone")


@story
async def test_a_child_that_cannot_import_the_app_is_no_fault_of_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nowhere = Address("app", "no_such_module", None, tuple(sys.path))
    clock = pooled.app.plant().clock
    in_flight = InFlight(clock)
    pool = Pool(lambda: nowhere, in_flight, clock, 1)
    (handler,) = [h for r in pooled.app.routes() for h in r.handlers.values() if h.name == "where"]

    first, _ = await pool.execute(in_flight.add(a_delivery()), handler)
    second, _ = await pool.execute(in_flight.add(a_delivery()), handler)

    assert isinstance(first, o.Put)
    assert isinstance(first.at, After)
    assert isinstance(second, o.Put)
    assert isinstance(second.at, After)
    assert second.at.micros > first.at.micros > 0, "it waits longer each time"
    assert "no_such_module" in str([record.__dict__ for record in caplog.records])


@story
async def test_a_lifespan_that_fails_in_a_child_is_no_fault_of_the_message_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "unopened.py").write_text(
        """
from contextlib import asynccontextmanager
from forebay import App

@asynccontextmanager
async def lifespan():
    raise LookupError("no pool")
    yield

app = App("memory://", lifespan=lifespan)
"""
    )
    address = Address("app", "unopened", None, (str(tmp_path), *sys.path))
    clock = pooled.app.plant().clock
    in_flight = InFlight(clock)
    (handler,) = [h for r in pooled.app.routes() for h in r.handlers.values() if h.name == "where"]

    outcome, _ = await Pool(lambda: address, in_flight, clock, 1).execute(
        in_flight.add(a_delivery()), handler
    )

    assert isinstance(outcome, o.Put)
    assert "opening the App raised LookupError: no pool" in str([r.__dict__ for r in caplog.records])


@story
async def test_a_program_that_begins_its_work_at_its_top_level_does_not_do_it_again_in_a_child(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import asyncio
from pathlib import Path
from forebay import App

app = App("memory://")

async def main() -> None:
    Path({str(tmp_path / "worked")!r}).touch()

asyncio.run(main())
"""
    )
    address = Address("app", "__main__", str(program), tuple(sys.path))
    clock = pooled.app.plant().clock
    in_flight = InFlight(clock)
    (handler,) = [h for r in pooled.app.routes() for h in r.handlers.values() if h.name == "where"]

    outcome, _ = await Pool(lambda: address, in_flight, clock, 1).execute(
        in_flight.add(a_delivery()), handler
    )

    assert isinstance(outcome, o.Put)
    assert not (tmp_path / "worked").exists()
    assert "belongs under 'if __name__" in caplog.records[-1].__dict__["error"]


@story
async def test_suspects_that_find_no_cell_come_again_one_after_the_other() -> None:
    clock = VirtualClock()
    pool = Pool(lambda: None, InFlight(clock), clock, 2)

    waits = [_wait(pool.later()) for _ in range(10_000)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (SOONEST, LATEST)

    await clock.advance(LATEST)
    assert _wait(pool.later()) == SOONEST, "all turns that were given are over"


def test_an_app_that_no_other_process_could_find_may_have_no_handler_with_a_process() -> None:
    hidden = App("memory://")

    @hidden.task(pool="process")
    def work() -> None: ...

    assert address_of(hidden) is None
    with pytest.raises(Unsupported, match="at the top of a module"):
        asyncio.run(hidden.worker().run())


def test_an_app_is_found_where_it_was_assigned() -> None:
    found = address_of(pooled.app)

    assert found is not None
    assert (found.module, found.name, found.file) == ("tests.runtime.pooled", "app", None)


def test_a_handler_of_another_module_is_found_in_a_process_of_its_own(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "app.py").write_text(
        "from forebay import App\napp = App('sqlite:///shop.db', include=['shop.tasks'])\n"
    )
    (shop / "tasks.py").write_text(
        "import os\nfrom shop.app import app\nfrom shop.made import make\n"
        "@app.task(pool='process')\ndef where() -> int:\n    return os.getpid()\n"
        "app.task(pool='process')(make())\n"
    )
    (shop / "made.py").write_text("def make():\n    def made() -> int: return 1\n    return made\n")
    (tmp_path / "program.py").write_text(
        """
import asyncio, os
from shop.app import app

async def main():
    async with app:
        worker = app.worker()
        working = asyncio.create_task(worker.run())
        where = await app.send("where")
        made = await app.send("made")
        assert await where.result(20) != os.getpid()
        assert await made.result(20) == 1
        worker.stop()
        await working

if __name__ == "__main__":
    asyncio.run(main())
"""
    )
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pool", ["procces", 1, ""])
def test_a_pool_that_is_none_is_refused(pool: object) -> None:
    app = App("memory://")
    with pytest.raises(InvalidOption, match="'thread' or 'process'"):
        app.task(pool=pool)(pooled.note.function)  # type: ignore[call-overload]  # the mistake under test


def test_a_coroutine_function_does_not_run_in_threads() -> None:
    app = App("memory://")
    with pytest.raises(InvalidOption, match="event loop"):

        @app.task(pool="thread")
        async def work() -> None: ...


def test_orders_and_reports_come_back_as_they_were() -> None:
    job = Job(a_delivery())

    assert read_order(frame(job)[4:]) == job


def _wait(put: o.Put) -> int:
    assert isinstance(put.at, After)
    return put.at.micros


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def _count(queue: str) -> int:
    counts = await pooled.app.count()
    return sum(sum(one.states.values()) for one in counts.queues if one.queue == queue)


async def _is_over(key: str) -> bool:
    return (await pooled.app.handle(key).status()).state in {State.SUCCEEDED, State.DEAD}


async def _in_flight(key: str) -> bool:
    return (await pooled.app.handle(key).status()).state is State.RUNNING
