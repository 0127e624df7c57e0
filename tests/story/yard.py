"""The App whose worker processes a supervisor keeps, in stories: its leases are long, so that what is run again soon was handed back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

from forebay import App, Context

app = App()


def noted(folder: str, line: str) -> None:
    """One more line in the notebook."""
    with (Path(folder) / "notebook").open("a") as notebook:
        notebook.write(f"{line}\n")


@app.task(timeout="1h")
async def wait(folder: str) -> int:
    """Until a file is there."""
    noted(folder, f"{os.getpid()}")
    while not (Path(folder) / "go").exists():  # noqa: ASYNC110  # another process says so
        await asyncio.sleep(0.01)  # noqa: TID251  # stands for work
    return os.getpid()


@app.task(timeout="500ms")
async def block(ctx: Context, folder: str) -> str:
    """Blocks the loop for ever, the first time."""
    noted(folder, f"{os.getpid()}")
    if ctx.delivery.crashes == 0:
        threading.Event().wait()
    return "second"


@app.task
async def fork() -> int:
    """Leaves a process behind that has everything open this one had."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    return child


@app.task
async def quick() -> None:
    """Nothing."""


@app.task
async def poison(number: int, *, deadly: bool) -> int:
    """Takes its process with it, or has a little to do."""
    if deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.01)  # noqa: TID251  # stands for work
    return number
