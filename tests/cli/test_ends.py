"""A worker ends when it is told to, whatever its handlers have done to its process: forked it, filled its table of files, left threads."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.cli.exits import Exit
from tests.cli.kit import process

if TYPE_CHECKING:
    from tests.cli.kit import Cli

APP = """
import asyncio, multiprocessing, os, resource, signal, sys, threading

from forebay import App

app = App()
kept = []


def forked(code):
    child = os.fork()
    if child == 0:
        return False
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    return True


@app.task(max_attempts=1)
async def returns() -> None:
    forked(0)


@app.task(max_attempts=1)
async def exits() -> None:
    if not forked(3):
        sys.exit(3)


@app.task(max_attempts=1)
async def raises() -> None:
    if not forked(1):
        raise ValueError("in the fork")


@app.task(max_attempts=1)
async def awaits() -> None:
    if not forked(1):
        await asyncio.sleep(60)


@app.task(max_attempts=1)
def in_a_thread() -> None:
    forked(0)


@app.task(max_attempts=1, batch=2, within="10ms")
async def in_a_batch(items: list[int]) -> None:
    forked(0)


def wait() -> None:
    threading.Event().wait()


@app.task(max_attempts=1)
async def leaves_a_fork() -> None:
    fork = multiprocessing.get_context("fork").Process(target=wait, daemon=True)
    fork.start()


@app.task(max_attempts=1)
async def ends_a_fork() -> None:
    fork = multiprocessing.get_context("fork").Process(target=wait)
    fork.start()
    fork.terminate()
    fork.join()
    assert fork.exitcode == -signal.SIGTERM


@app.task(max_attempts=1)
async def takes_all_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass


@app.task(max_attempts=1)
async def leaves_a_thread() -> None:
    threading.Thread(target=wait).start()
"""


@pytest.mark.parametrize("more", [(), ("--processes", "1")], ids=["one", "supervised"])
@pytest.mark.parametrize("name", re.findall(r"\ntask.*\n.*def (\w+)", APP.replace("@app.", "")))
def test_a_worker_stops_whatever_its_handlers_have_done_to_its_process(
    name: str, more: tuple[str, ...], store: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    words = ["1"] if name == "in_a_batch" else []
    key = cli("send", name, *words, "--create").out.strip()

    with process("worker", "shop:app", *more) as child:
        waited = cli("task", "wait", key, "--timeout", "20s")
        child.send_signal(signal.SIGTERM)
        _out, err = child.communicate(timeout=20)

    assert (waited.code, waited.err) == (Exit.OK, ""), err
    assert child.returncode == (Exit.STUCK if name == "leaves_a_thread" else Exit.OK), err


EMBEDDED = """
import asyncio, sys
from shop import app, takes_all_files


async def main():
    async with app:
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await worker.ready.wait()
        await (await takes_all_files.send()).result(10)
        known = set(sys.modules)
        worker.stop()
        await running
    print(sorted(set(sys.modules) - known))


asyncio.run(main())
"""


def test_a_stop_needs_no_file_and_no_module_that_is_not_there(store: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)

    answer = subprocess.run(
        [sys.executable, "-c", EMBEDDED], capture_output=True, text=True, check=False, timeout=30
    )

    assert (answer.stdout, answer.stderr) == ("[]\n", "")
