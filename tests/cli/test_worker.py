"""`forebay worker` as a process: what it says, how it stops, what it leaves behind."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

import msgspec
import pytest

from forebay import App, State, __version__
from forebay.cli.exits import Exit
from tests.cli.kit import Cli, line_with, process

YARD = '''
import asyncio
import time
from contextlib import asynccontextmanager

from forebay import App, Context

app = App()
broken = App(lifespan=lambda: nowhere())


@asynccontextmanager
async def nowhere():
    raise OSError("the harbour is frozen")
    yield


@app.task(queue="yard")
async def quick(name: str) -> str:
    return f"Hello {name}"


@app.task(queue="yard", max_attempts=1)
async def sink(ctx: Context, cargo: str) -> None:
    raise ValueError("it sank")


@app.task(queue="yard", max_attempts=1, name="quit")
async def leave() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaving())


async def leaving() -> None:
    raise SystemExit(7)


@app.task(queue="yard")
async def wait(ctx: Context, file: str) -> None:
    """Until a file is there."""
    ctx.log.info("begun")
    import pathlib

    while not pathlib.Path(file).exists():
        await asyncio.sleep(0.01)


@app.task(queue="yard")
async def ignore(ctx: Context) -> None:
    """Whoever says stop."""
    ctx.log.info("begun")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@app.task(queue="express")
async def express() -> None: ...


@broken.task
async def nothing() -> None: ...
'''


@pytest.fixture(autouse=True)
def yard(tmp_path: Path) -> None:
    (tmp_path / "yard.py").write_text(YARD)


def state(cli: Cli, key: str) -> str:
    shown = cli("task", "show", key, "--json").document
    return str(shown["state"])


def test_it_says_what_it_does_and_stops_in_order(store: str, cli: Cli, tmp_path: Path) -> None:
    with process(
        "worker", "yard:app", "--concurrency", "7", "--queues", "yard=6,express", "--strict"
    ) as child:
        line_with(child, "worker.started")
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate()

    assert (child.returncode, out) == (Exit.OK, "")
    assert "INFO worker.stopped" in err


def test_its_banner_names_engine_queues_concurrency_and_lease(store: str, tmp_path: Path) -> None:
    with process(
        "worker", "yard:app", "--concurrency", "7", "--queues", "yard=6,express", "--strict"
    ) as child:
        banner = [
            line_with(child, word) for word in ("works for", "engine", "queues", "concurrency", "lease")
        ]
        line_with(child, "worker.started")

    assert banner[0] == f"forebay {__version__} works for yard:app (pid {child.pid})\n"
    assert banner[1].split() == ["engine", f"sqlite:///{tmp_path / 'jobs.db'}"]
    assert banner[2].strip() == "queues       yard=6, express=1, strictly in this order"
    assert banner[3].split() in (["concurrency", "7,", "on", loop] for loop in ("uvloop", "asyncio"))
    assert banner[4].split()[:2] == ["lease", "30s;"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_handlers_finish(number: signal.Signals, store: str, cli: Cli, tmp_path: Path) -> None:
    key = cli("send", "wait", str(tmp_path / "go"), "--queue", "yard").out.strip()

    with process("worker", "yard:app") as child:
        line_with(child, "begun")
        child.send_signal(number)
        line_with(child, "worker.stopping")
        (tmp_path / "go").touch()
        child.communicate()

    assert (child.returncode, state(cli, key)) == (Exit.OK, State.SUCCEEDED)


def test_a_second_signal_hands_back_at_once(store: str, cli: Cli, tmp_path: Path) -> None:
    key = cli("send", "wait", str(tmp_path / "never"), "--queue", "yard").out.strip()

    with process("worker", "yard:app", "--stop-within", "1h") as child:
        line_with(child, "begun")
        child.send_signal(signal.SIGINT)
        line_with(child, "worker.stopping")
        child.send_signal(signal.SIGINT)
        _out, err = child.communicate()

    assert child.returncode == Exit.OK
    assert "task.released" in err
    shown = cli("task", "show", key, "--json").document
    assert (shown["state"], shown["attempts"], shown["releases"]) == (State.READY, 0, 1)


def test_a_stop_ends_at_its_deadline(store: str, cli: Cli, tmp_path: Path) -> None:
    key = cli("send", "wait", str(tmp_path / "never"), "--queue", "yard").out.strip()

    with process("worker", "yard:app", "--stop-within", "0.1") as child:
        line_with(child, "begun")
        child.send_signal(signal.SIGTERM)
        child.communicate()

    assert (child.returncode, state(cli, key)) == (Exit.OK, State.READY)


def test_handlers_that_will_not_stop_are_left_behind(store: str, cli: Cli) -> None:
    key = cli("send", "ignore", "--queue", "yard").out.strip()

    with process("worker", "yard:app", "--stop-within", "0") as child:
        line_with(child, "begun")
        child.send_signal(signal.SIGTERM)
        _out, err = child.communicate()

    assert child.returncode == Exit.STUCK
    assert "ERROR worker.stuck handlers=1" in err
    assert state(cli, key) == State.READY


def test_a_task_of_a_handlers_own_that_calls_exit_ends_no_worker(store: str, cli: Cli) -> None:
    key = cli("send", "quit", "--queue", "yard").out.strip()

    with process("worker", "yard:app") as child:
        line_with(child, "worker.exit_refused")
        line_with(child, "task.dead")
        child.send_signal(signal.SIGTERM)
        child.communicate()

    assert (child.returncode, state(cli, key)) == (Exit.OK, State.DEAD)


def test_its_log_is_lines_for_people(store: str, cli: Cli) -> None:
    key = cli("send", "sink", "SECRET CARGO", "--queue", "yard").out.strip()

    with process("worker", "yard:app") as child:
        line = line_with(child, "task.dead")
        trace = line_with(child, "ValueError: it sank")
        child.send_signal(signal.SIGTERM)
        _out, err = child.communicate()

    assert f"ERROR task.dead task=sink id={key} queue=yard attempt=1" in line
    assert 'error="ValueError: it sank"' in line
    assert "reason=exhausted" in line
    assert trace.startswith("    ")
    assert "SECRET CARGO" not in line + trace + err


def test_its_log_is_objects_for_programs(store: str, cli: Cli) -> None:
    key = cli("send", "sink", "cargo", "--queue", "yard").out.strip()

    with process("worker", "yard:app", "--log-format", "json") as child:
        plan, started, dead = (
            msgspec.json.decode(line_with(child, word))
            for word in ("worker.plan", "worker.started", "task.dead")
        )
        child.send_signal(signal.SIGTERM)
        _out, err = child.communicate()

    assert (plan["app"], plan["queues"], plan["lease_seconds"]) == ("yard:app", {"yard": 1, "express": 1}, 30)
    assert started["level"] == "info"
    assert (dead["event"], dead["level"], dead["id"], dead["reason"]) == (
        "task.dead",
        "error",
        key,
        "exhausted",
    )
    assert "it sank" in dead["traceback"]
    assert [msgspec.json.decode(line)["event"] for line in err.splitlines()][-1] == "worker.stopped"


def test_a_quiet_worker_logs_only_what_is_wrong(store: str, cli: Cli) -> None:
    cli("send", "quick", "Ada", "--queue", "yard")
    cli("send", "sink", "cargo", "--queue", "yard")

    with process("worker", "yard:app", "--log-level", "error") as child:
        line_with(child, "task.dead")
        child.send_signal(signal.SIGTERM)
        _out, err = child.communicate()

    assert "INFO" not in err


def test_settings_stand_in_for_options(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_CONCURRENCY", "3")
    monkeypatch.setenv("FOREBAY_QUEUES", "express=2")

    with process("worker", "yard:app") as child:
        assert line_with(child, "queues").split() == ["queues", "express=2"]
        assert line_with(child, "concurrency").split()[:2] == ["concurrency", "3,"]


def test_an_engine_that_refuses_has_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_URL", f"sqlite:///{tmp_path}/nowhere/jobs.db")

    with process("worker", "yard:app") as child:
        _out, err = child.communicate()

    assert child.returncode == Exit.ENGINE
    assert "forebay: The directory" in err
    assert "Traceback" not in err


def test_a_lifespan_that_fails_ends_the_worker(store: str) -> None:
    with process("worker", "yard:broken") as child:
        _out, err = child.communicate()

    assert child.returncode == Exit.FAILED
    assert "the harbour is frozen" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--max-tasks", "3"], "add --processes 1, or more"),
        (["--processes", "many"], "processes must be a whole number from 0 to 1000000000, not 'many'"),
        (["--processes", "2", "--max-memory", "lots"], "max_memory must be a number of bytes"),
        (["--health", "here"], "health must be HOST:PORT"),
    ],
)
def test_what_a_supervisor_cannot_do_is_a_sentence(
    words: list[str], sentence: str, store: str, cli: Cli
) -> None:
    answer = cli("worker", "yard:app", *words)

    assert answer.code == Exit.USAGE
    assert sentence in answer.err


def test_a_line_that_leads_to_no_supervisor_is_refused(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_LEASH", "nowhere")

    answer = cli("worker", "yard:app")

    assert answer.code == Exit.USAGE
    assert "FOREBAY_LEASH='nowhere' leads to no supervisor" in answer.err


def test_a_worker_alone_shows_its_health(store: str, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    with process("worker", "yard:app", "--health", "0", "--health-file", str(beat)) as child:
        port = line_with(child, "health.served").rpartition("port=")[2].strip()
        line_with(child, "worker.started")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            shown = msgspec.json.decode(answer.read())
        child.send_signal(signal.SIGTERM)
        child.communicate()

    assert (shown["ready"], shown["condition"], shown["pid"]) == (True, "working", child.pid)
    assert (child.returncode, beat.exists()) == (Exit.OK, False)


def test_modules_that_are_included_reach_the_processes_of_a_supervisor(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "app.py").write_text("from forebay import App\napp = App('sqlite:///shop.db')\n")
    (shop / "tasks.py").write_text(
        "from shop.app import app\n@app.task\nasync def double(n: int) -> int:\n    return 2 * n\n"
    )
    words = ("worker", "shop.app:app", "--include", "shop.*", "--processes", "1")
    with process(*words, cwd=tmp_path) as child:
        line_with(child, "process.ready")
        with App(f"sqlite:///{tmp_path / 'shop.db'}") as app:
            assert app.send_sync("double", 21).result_sync(20) == 42
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert child.returncode == Exit.OK
