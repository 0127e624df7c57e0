"""The App of the tests of pools: importable, as a child process must import it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from forebay import App, Context
from forebay.errors import NotOpen

app = App("memory://")


@app.task(pool="process", queue="pooled", timeout="5s", max_attempts=1)
def where(ctx: Context) -> tuple[int, str, int]:
    """Which process, which queue and which try."""
    return os.getpid(), ctx.queue, ctx.attempt


@app.task(pool="process", queue="pooled", max_attempts=1)
def fail() -> None:
    """Raises."""
    raise LookupError("as asked")


@app.task(pool="process", queue="pooled", max_attempts=1)
def follow(ctx: Context, *, fails: bool) -> None:
    """Sends what may only leave with its success."""
    ctx.send(note.bind("sent"))
    if fails:
        raise LookupError("as asked")


@app.task(queue="notes")
async def note(text: str) -> str:
    """Runs where the worker is."""
    return text


@app.task(pool="process", queue="pooled", timeout="300ms", max_attempts=1)
def spin(folder: str) -> None:
    """Never lets the process's own loop do anything about it."""
    Path(folder, str(os.getpid())).touch()
    sys.setswitchinterval(1_000)
    while True:
        pass


@app.task(pool="process", queue="pooled", max_attempts=1)
def die(how: str) -> None:
    """Takes its process with it."""
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGSEGV)


@app.task(pool="process", queue="pooled", max_attempts=1)
async def linger(folder: str) -> str:
    """Waits to be cancelled, and says so."""
    os.mkdir(f"{folder}/begun")  # noqa: PTH102  # as short as work can be
    try:
        await asyncio.Event().wait()
    finally:
        os.mkdir(f"{folder}/cleaned")  # noqa: PTH102  # as above
    return "never"


@app.task(pool="process", queue="pooled", timeout="100ms", max_attempts=1)
async def swallow() -> str:
    """Will not be told that its time is up."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "too late"
    return "never"


@app.task(pool="process", queue="pooled", max_attempts=1)
def die_after_a_fork(folder: str) -> None:
    """Dies, and leaves behind a copy of itself."""
    if copy := os.fork():
        Path(folder, str(copy)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


@app.task(pool="process", queue="pooled", timeout="500ms", max_attempts=1)
def run_a_program(folder: str) -> None:
    """Waits for a program for longer than it may."""
    program = subprocess.Popen(["sleep", "60"])  # wherever it is
    Path(folder, str(program.pid)).touch()
    program.wait()


@app.task(pool="process", queue="pooled", max_attempts=1)
def say_often(ctx: Context, times: int) -> None:
    """Says how far it is, as often as it can."""
    for n in range(times):
        ctx.progress(n, times, str(n))


@app.task(pool="process", queue="pooled", max_attempts=1)
async def send_on() -> str:
    """An engine inside one process is not open in another."""
    try:
        await note.send("lost")
    except NotOpen:
        return "not open"
    return "sent"


if __name__ == "__main__":
    # The worker that a test kills: its child must go with it.
    asyncio.run(app.worker().run())


@app.task(pool="process", queue="pooled", max_attempts=1)
def shout(words: list[str], end: str = "!") -> str:
    """Takes what the steps before it returned."""
    return " ".join(words).upper() + end


@app.task(pool="process", queue="pooled", max_attempts=1)
def grow(ctx: Context) -> None:
    """Adds steps to its flow."""
    words = [ctx.flow.add(note.bind(word)) for word in ("how", "now")]
    ctx.flow.add(shout.bind(), after=words, gather=True)


@app.task(pool="process", queue="pooled", max_attempts=1)
def look_back(ctx: Context) -> None:
    """Asks for what is out of reach of another process."""
    ctx.parents_sync()
