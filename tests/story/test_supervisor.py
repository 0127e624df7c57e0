"""A supervisor and its processes, as real processes: killed one and all, blocked, replaced, broken at import."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from forebay import App, State
from forebay.cli.exits import Exit
from forebay.model.query import Query, Selector, TaskRecord
from forebay.model.state import FINISHED
from forebay.model.when import SECOND
from forebay.support.clock import SystemClock
from forebay.testing.clock import eventually
from forebay.testing.history import Op, read

ORDERS = 2_500
KILLS = 20
HERE = Path(__file__).parent


class Supervised:
    """A supervisor, and what its log tells of its processes."""

    def __init__(
        self, folder: Path, *words: str, log: str = "supervisor.log", file: str = "story.db"
    ) -> None:
        self.log = folder / log
        environment = {
            **os.environ,
            "FOREBAY_URL": f"sqlite:///{folder / file}",
            "STORY_HISTORY": str(folder / "history.jsonl"),
            "PYTHONPATH": str(HERE),
        }
        with self.log.open("wb") as log_file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forebay", "worker", *words],
                env=environment,
                stderr=log_file,
                cwd=folder,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def pids(self, event: str = "process.ready") -> list[int]:
        return [int(pid) for pid in re.findall(rf"{re.escape(event)} pid=(\d+)", self.said)]

    def alive(self, event: str = "process.ready") -> list[int]:
        return [pid for pid in self.pids(event) if is_alive(pid)]

    async def ready(self, processes: int) -> list[int]:
        await eventually(lambda: len(self.alive()) >= processes, within=15)
        return self.alive()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def is_alive(pid: int) -> bool:
    """Not a zombie either: an orphan's may stay for a while."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        with suppress(FileNotFoundError):
            return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        return not Path("/proc/self").exists()
    return False


@contextmanager
def supervised(
    folder: Path, *words: str, log: str = "supervisor.log", file: str = "story.db"
) -> Iterator[Supervised]:
    """Ended at the end, with all its processes."""
    crew = Supervised(folder, *words, log=log, file=file)
    try:
        yield crew
    finally:
        crew.process.kill()
        crew.process.wait(30)
        for pid in crew.alive("process.started"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def opened(folder: Path) -> App:
    return App(f"sqlite:///{folder / 'story.db'}")


async def done(app: App, wanted: int) -> bool:
    counts = await app.count()
    return sum(queue.states.get(state, 0) for queue in counts.queues for state in FINISHED) >= wanted


async def everything(app: App) -> list[TaskRecord]:
    page = await app.find(Query(which=Selector(), size=1_000))
    records = list(page.records)
    while page.next is not None:
        page = await app.find(Query(which=Selector(), size=1_000, cursor=page.next))
        records += page.records
    return records


def notes(folder: Path) -> list[int]:
    notebook = folder / "notebook"
    return [int(line) for line in notebook.read_text().splitlines()] if notebook.exists() else []


@pytest.mark.timeout(90)
def test_twenty_kills_among_five_thousand_tasks_lose_and_strand_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    words = ("shop:app", "--processes", "2", "--concurrency", "8")

    async def tell(crews: list[Supervised]) -> list[TaskRecord]:
        async with opened(tmp_path) as app:
            place = app.named("place")
            await app.send_many([place.bind(order) for order in range(ORDERS)])
            for kill in range(KILLS):
                await eventually(partial(done, app, kill * 2 * ORDERS // (KILLS + 2)), within=30)
                victims = await eventually(lambda: [pid for crew in crews for pid in crew.alive()], within=15)
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(victims), signal.SIGKILL)
            await eventually(partial(done, app, 2 * ORDERS), within=30)
            return await everything(app)

    with supervised(tmp_path, *words) as one, supervised(tmp_path, *words, log="other.log") as other:
        records = asyncio.run(tell([one, other]))
        codes = [one.stop(), other.stop()]
        left = [*one.alive("process.started"), *other.alive("process.started")]

    assert (codes, left) == ([Exit.OK, Exit.OK], [])
    assert Counter(record.state for record in records) == {State.SUCCEEDED: 2 * ORDERS}
    assert Counter(record.message.name for record in records) == {"place": ORDERS, "charge": ORDERS}
    history = read(tmp_path / "history.jsonl")
    effects = Counter(event.id for event in history if event.op is Op.EFFECT)
    starts = Counter(event.id for event in history if event.op is Op.START)
    assert len(effects) == ORDERS
    crashes = {str(record.id): record.crashes for record in records}
    assert all(count - 1 <= crashes[id_] for id_, count in effects.items()), "started and unsettled at a kill"
    assert all(starts[r.id] <= r.attempts + r.crashes + r.releases for r in records)
    assert sum(crashes.values()) <= KILLS * 2 * 8, "more than was held, or waited to be settled"
    assert sum(record.crashes for record in records) >= 1, "no kill met any work: the test showed nothing"


@pytest.mark.parametrize(
    ("processes", "seconds"),
    [(2, 2), (1, 5)],  # one alone waits for its successor to start, which takes a while on a busy machine
)
def test_what_a_killed_process_held_runs_again_within_two_seconds(
    processes: int, seconds: float, tmp_path: Path
) -> None:
    clock = SystemClock()

    async def tell(crew: Supervised) -> tuple[float, TaskRecord]:
        async with opened(tmp_path) as app:
            await crew.ready(processes)
            handle = await app.named("wait").send(str(tmp_path))
            (victim,) = await eventually(lambda: notes(tmp_path), within=10)
            os.kill(victim, signal.SIGKILL)
            killed = clock.monotonic()
            await eventually(lambda: len(notes(tmp_path)) == 2, within=10)
            took = (clock.monotonic() - killed) / SECOND
            (tmp_path / "go").touch()
            await handle.result(10)
            return took, await handle.status()

    with supervised(tmp_path, "yard:app", "--processes", str(processes)) as crew:
        took, record = asyncio.run(tell(crew))
        code = crew.stop()

    assert took < seconds
    assert (record.state, record.attempts, record.crashes, code) == (State.SUCCEEDED, 1, 1, Exit.OK)


def test_a_process_that_a_handler_left_behind_does_not_hide_the_death(tmp_path: Path) -> None:
    async def tell(crew: Supervised) -> None:
        async with opened(tmp_path) as app:
            (victim,) = await crew.ready(1)
            handle = await app.named("fork").send()
            left_behind = await handle.result(10)
            try:
                os.kill(victim, signal.SIGKILL)
                await eventually(lambda: len(crew.pids()) == 2, within=15)
            finally:
                os.kill(int(str(left_behind)), signal.SIGKILL)

    with supervised(tmp_path, "yard:app", "--processes", "1") as crew:
        asyncio.run(tell(crew))
        assert crew.stop() == Exit.OK


def test_processes_whose_supervisor_is_killed_end_in_order(tmp_path: Path) -> None:
    async def tell(crew: Supervised) -> TaskRecord:
        async with opened(tmp_path) as app:
            await crew.ready(2)
            handle = await app.named("wait").send(str(tmp_path))
            await eventually(lambda: notes(tmp_path), within=10)
            crew.process.kill()
            crew.process.wait(10)
            await eventually(lambda: not crew.alive(), within=5)
            return await handle.status()

    with supervised(tmp_path, "yard:app", "--processes", "2", "--stop-within", "500ms") as crew:
        record = asyncio.run(tell(crew))
        said = crew.said

    assert said.count("supervisor.gone") == said.count("worker.stopped") == 2
    assert (record.state, record.crashes, record.releases) == (State.READY, 0, 1), "handed back in order"


def test_a_second_signal_hands_back_at_once(tmp_path: Path) -> None:
    async def tell(crew: Supervised) -> TaskRecord:
        async with opened(tmp_path) as app:
            await crew.ready(2)
            handle = await app.named("wait").send(str(tmp_path))
            await eventually(lambda: notes(tmp_path), within=10)
            crew.process.send_signal(signal.SIGINT)
            await eventually(lambda: "worker.stopping" in crew.said and len(crew.alive()) == 1, within=10)
            assert crew.stop(signal.SIGINT) == Exit.OK, crew.said
            return await handle.status()

    with supervised(tmp_path, "yard:app", "--processes", "2", "--stop-within", "1h") as crew:
        record = asyncio.run(tell(crew))

    assert (record.state, record.attempts, record.releases) == (State.READY, 0, 1)


def test_a_process_that_is_blocked_past_the_timeout_ends_itself_and_its_work_runs_again(
    tmp_path: Path,
) -> None:
    async def tell(crew: Supervised) -> tuple[object, TaskRecord]:
        async with opened(tmp_path) as app:
            await crew.ready(1)
            handle = await app.named("block").send(str(tmp_path))
            return await handle.result(15), await handle.status()

    with supervised(tmp_path, "yard:app", "--processes", "1") as crew:
        result, record = asyncio.run(tell(crew))
        said = crew.said

    assert (result, record.crashes) == ("second", 1)
    assert f"exit={Exit.BLOCKED.value} " in said
    assert "CRITICAL loop.blocked task=block" in said
    assert "threading.Event().wait()" in said, "the stacks show where"


def test_full_processes_are_replaced_one_at_a_time_and_nothing_is_lost(tmp_path: Path) -> None:
    async def tell(crew: Supervised) -> list[TaskRecord]:
        async with opened(tmp_path) as app:
            await crew.ready(2)
            quick = app.named("quick")
            for _ in range(8):
                await app.send_many([quick.bind() for _ in range(50)])
                await asyncio.sleep(0.1)  # noqa: TID251  # a steady stream, so that both get their share
            await eventually(partial(done, app, 400), within=15)
            await eventually(lambda: crew.said.count("process.full") >= 2, within=10)
            await eventually(lambda: len(crew.pids()) >= 4, within=10)
            return await everything(app)

    with supervised(tmp_path, "yard:app", "--processes", "2", "--max-tasks", "50") as crew:
        records = asyncio.run(tell(crew))
        said = crew.said
        code = crew.stop()

    assert code == Exit.OK
    assert {(record.state, record.attempts, record.crashes) for record in records} == {
        (State.SUCCEEDED, 1, 0)
    }
    events = re.findall(r"process\.(ready|ended)", said)
    assert events[:2] == ["ready", "ready"]
    assert all(pair == ("ended", "ready") for pair in zip(events[2::2], events[3::2], strict=False)), events


def test_a_process_that_is_too_big_is_replaced(tmp_path: Path) -> None:
    async def tell(crew: Supervised) -> None:
        await eventually(lambda: len(crew.pids()) >= 2, within=15)

    with supervised(tmp_path, "yard:app", "--processes", "1", "--max-memory", "1M") as crew:
        asyncio.run(tell(crew))

        assert "process.full pid=" in crew.said
        assert "why=memory" in crew.said
        assert crew.stop() == Exit.OK


def test_an_app_that_cannot_be_imported_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    with supervised(tmp_path, "broken:app", "--processes", "4", "--log-level", "error") as crew:
        code = crew.process.wait(20)
        said = crew.said

    assert code == Exit.USAGE
    assert said.count("No module named 'nowhere_at_all'") == 1
    assert said.splitlines()[-1].startswith(
        "forebay: the supervisor gave up: a process for broken:app ended before being ready"
    )


def test_processes_that_die_at_their_start_again_and_again_end_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    with supervised(tmp_path, "deadly:app", "--processes", "2") as crew:
        code = crew.process.wait(20)
        said = crew.said

    assert code == Exit.FAILED
    assert len(crew.pids("process.started")) == 5
    assert "5 processes in a row for deadly:app ended before being ready" in said
    assert "killed by signal 9" in said


def test_code_that_breaks_later_does_not_end_the_processes_that_work(tmp_path: Path) -> None:
    module = tmp_path / "later.py"
    module.write_text("from yard import app\n")

    async def tell(crew: Supervised) -> None:
        first, second = await crew.ready(2)
        module.write_text("import nowhere_at_all\n")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: crew.said.count("No module named") >= 2, within=10)
        assert is_alive(second)
        module.write_text("from yard import app  # mended\n")
        await eventually(lambda: len(crew.alive()) == 2, within=10)

    with supervised(tmp_path, "later:app", "--processes", "2") as crew:
        asyncio.run(tell(crew))
        assert crew.stop() == Exit.OK


def test_an_engine_inside_one_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(
        "from forebay import App\napp = App('memory://')\n\n@app.task\nasync def job(): ...\n"
    )
    with supervised(tmp_path, "alone:app", "--processes", "2") as crew:
        assert crew.process.wait(20) == Exit.USAGE
        assert "lives inside one process" in crew.said


def test_health_counts_the_processes(tmp_path: Path) -> None:
    beat = tmp_path / "beat"

    async def tell(crew: Supervised) -> int:
        await crew.ready(2)
        await eventually(beat.exists, within=5)
        (port,) = re.findall(r"health.served host=127.0.0.1 port=(\d+)", crew.said)
        return int(port)

    words = ("yard:app", "--processes", "2", "--health", "0", "--health-file", str(beat))
    with supervised(tmp_path, *words) as crew:
        port = asyncio.run(tell(crew))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            shown = json.load(answer)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/else", timeout=5)
        again = supervised(tmp_path, "yard:app", "--health", str(port), log="second.log")
        with again as second:
            assert second.process.wait(20) == Exit.USAGE
            assert (
                f"Health cannot be served on 127.0.0.1:{port}: another process listens there" in second.said
            )
        code = crew.stop()

    assert (shown["ready"], shown["working"], shown["processes"], code) == (True, 2, 2, Exit.OK)
    assert not beat.exists()


@pytest.mark.parametrize(
    ("lost", "words"), [("story.db", "story.db is gone"), (".", "of the database does not exist: create it")]
)
def test_when_the_database_is_gone_no_process_begins_a_new_one(lost: str, words: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    async def story() -> None:
        async with App(f"sqlite:///{home / 'story.db'}"):
            with supervised(tmp_path, "shop:app", "--processes", "2", file="home/story.db") as crew:
                await crew.ready(2)
                shutil.rmtree(home) if lost == "." else (home / lost).unlink()
                await eventually(lambda: crew.process.poll() is not None, within=40)

        assert crew.process.returncode == Exit.ENGINE
        assert words in crew.said
        assert "never awaited" not in crew.said
        assert not (home / "story.db").exists()

    asyncio.run(story())
