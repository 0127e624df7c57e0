"""`forebay dev` as real processes: code that changes, breaks and is mended; its worker ends with it, however it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec

import pytest

from forebay import App, State
from forebay.cli.exits import Exit
from forebay.testing.clock import eventually
from tests.story.test_supervisor import everything, is_alive

P = ParamSpec("P")
CODE = """
from forebay import App
app = App()
@app.task
async def greet(name: str) -> str:
    return f"WORD {name}"
"""


class Dev:
    """A `forebay dev` in a folder, and what it says."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / "dev.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forebay", "dev", *words],
                env={**os.environ, "FOREBAY_URL": f"sqlite:///{folder / 'dev.db'}"}, stderr=log, cwd=folder,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def workers(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"works for shop:app \(pid (\d+)\)", self.said)]

    async def ready(self, workers: int = 1) -> int:
        await eventually(lambda: self.said.count("worker.started") >= workers, within=15)
        return self.workers[-1]

    async def says(self, text: str) -> None:
        await eventually(lambda: text in self.said, within=15)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def dev(folder: Path, *words: str) -> Iterator[Dev]:
    """Ended at the end, with its worker."""
    running = Dev(folder, *words)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait(20)
        for pid in running.workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def story(told: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """A test in a loop of its own."""

    @wraps(told)
    def run(*args: P.args, **options: P.kwargs) -> None:
        asyncio.run(told(*args, **options))

    return run


def write(folder: Path, word: str) -> None:
    (folder / "shop.py").write_text(CODE.replace("WORD", word))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def results(app: App) -> list[str]:
    return sorted(
        str(record.result, "utf-8") for record in await everything(app) if record.result is not None
    )


async def ran(app: App, number: int) -> bool:
    return len(await results(app)) == number


def opened(folder: Path) -> App:
    return App(f"sqlite:///{folder / 'dev.db'}")


@pytest.mark.timeout(90)
@story
async def test_a_change_is_worked_with_and_broken_code_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "Hello")
    with dev(tmp_path, "shop:app") as running:
        await running.ready()
        async with opened(tmp_path) as app:
            await app.send("greet", "Ada")
            await eventually(partial(ran, app, 1), within=15)

            (tmp_path / "shop.py").write_text("this is no Python")
            await running.says("it cannot work like this; waiting for a change")
            for number in range(20):
                await app.send("greet", f"{number:02}")
            assert running.said.count("SyntaxError:") == running.said.count("raised SyntaxError:") * 2

            write(tmp_path, "Hi again,")
            await running.ready(2)
            await eventually(partial(ran, app, 21), within=15)

            assert await results(app) == [
                '"Hello Ada"',
                *(f'"Hi again, {number:02}"' for number in range(20)),
            ]
            assert {record.state for record in await everything(app)} == {State.SUCCEEDED}
        assert "shop.py changed" in running.said


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@story
async def test_a_signal_ends_both_in_order(number: signal.Signals, tmp_path: Path) -> None:
    write(tmp_path, "Hello")
    with dev(tmp_path, "shop:app") as running:
        worker = await running.ready()

        assert running.end(number) == Exit.OK
        assert not is_alive(worker)
        assert "worker.stopped" in running.said
        assert "Traceback" not in running.said


@pytest.mark.timeout(60)
@story
async def test_when_it_is_killed_its_worker_ends(tmp_path: Path) -> None:
    write(tmp_path, "Hello")
    with dev(tmp_path, "shop:app") as running:
        worker = await running.ready()

        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        await eventually(lambda: not is_alive(worker), within=15)


@pytest.mark.timeout(60)
@story
async def test_an_app_that_cannot_be_found_is_waited_for(tmp_path: Path) -> None:
    with dev(tmp_path, "shop:app") as running:
        await running.says("There is no module 'shop'")
        await running.says("waiting for a change")
        assert names(tmp_path) == ["dev.log"]

        write(tmp_path, "Hello")
        await running.ready()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "words", [("shop",), ("shop:app", "-c", "0"), ("shop:app", "--log-level", "loud")], ids=str
)
@story
async def test_what_no_change_can_mend_is_told_at_once(words: tuple[str, ...], tmp_path: Path) -> None:
    with dev(tmp_path, *words) as running:
        assert running.process.wait(20) == Exit.USAGE


@pytest.mark.timeout(60)
@story
async def test_a_worker_that_dies_at_once_is_not_begun_again_and_again_in_haste(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import os, pathlib, time\n"
        "with open('begun', 'a') as begun:\n    begun.write(f'{time.monotonic()}\\n')\nos._exit(9)\n"
    )

    def begun() -> list[float]:
        file = tmp_path / "begun"
        return [float(line) for line in file.read_text().split()] if file.exists() else []

    with dev(tmp_path, "shop:app") as running:
        await eventually(lambda: len(begun()) >= 3, within=20)
        first, second, third, *_ = begun()

        assert min(second - first, third - second) > 0.4
        assert "the worker ended with exit code 9; another one begins" in running.said
