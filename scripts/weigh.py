"""Weigh what docs/operations.md says of memory and disk: python -m scripts.weigh. Takes about a minute, in a temporary folder."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MESSAGES = 100_000
APP = """
import asyncio, os
from forebay import App, QueueOptions
app = App("sqlite:///weigh.db")
@app.task(name="work", queue="work")
async def work(number: int, text: str) -> int:
    return number
@app.task(name="wait", queue="wait")
async def wait(number: int, text: str) -> None:
    await asyncio.Event().wait()
"""
BODY = "x" * 170
"""Makes a body of about 200 bytes, with its number and the names of its arguments."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("weigher.py").write_text(APP, "utf-8")
        asyncio.run(fill("work"))
        print(f"{MESSAGES:,} waiting, bodies of about 200 bytes: {disk():.1f} MiB")
        drained = memory("work", 100, until_empty=True)
        print(f"a worker that drained them: {drained:.0f} MiB at its most")
        print(f"{MESSAGES:,} succeeded, history and results kept: {disk():.1f} MiB")
        asyncio.run(fill("wait", 20_000))
        for concurrency in (1, 100, 1_000, 10_000):
            print(f"a worker with {concurrency:,} handlers waiting: {memory('wait', concurrency):.1f} MiB")


async def fill(name: str, count: int = MESSAGES) -> None:
    from weigher import app  # type: ignore[import-not-found]  # written above

    task = app.named(name)
    async with app:
        for start in range(0, count, 10_000):
            await app.send_many(
                [task.bind(number, BODY) for number in range(start, min(start + 10_000, count))]
            )


def disk() -> float:
    """Of the file and what SQLite keeps beside it."""
    return sum(path.stat().st_size for path in Path().glob("weigh.db*")) / 2**20


def memory(queue: str, concurrency: int, *, until_empty: bool = False) -> float:
    """The most a worker needed: of its own and resident, once all its slots are busy, or all its work is done."""
    command = [
        sys.executable,
        "-m",
        "forebay",
        "worker",
        "weigher:app",
        f"--queues={queue}",
        f"-c{concurrency}",
        "--stop-within=0.1s",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as worker:
        asyncio.run(reached(queue, concurrency, until_empty=until_empty))
        status = Path(f"/proc/{worker.pid}/status").read_text("utf-8")
        worker.terminate()
    field = "VmHWM:" if until_empty else "VmRSS:"
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024


async def reached(queue: str, busy: int, *, until_empty: bool) -> None:
    from weigher import app

    async with app:
        while True:
            states = next(one.states for one in (await app.count()).queues if one.queue == queue)
            if (
                states.get("running", 0) >= busy
                if not until_empty
                else not states.get("ready", 0) + states.get("running", 0)
            ):
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    main()
