"""An App whose handlers have durable steps and die: importable, as a child process must import it."""

from __future__ import annotations

import os
from pathlib import Path

from forebay import App, Context

app = App(os.environ.get("STEPPED_URL", "memory://"))


def note(folder: str, what: str) -> str:
    """Leaves a line, and says what it did."""
    with Path(folder, what).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return what


def die_once(folder: str) -> str:
    """Takes its process with it, the first time."""
    note(folder, "die")
    if len(Path(folder, "die").read_text().splitlines()) == 1:
        os._exit(7)
    return "alive"


@app.task(pool="process", queue="stepped", max_attempts=1)
def plain(ctx: Context, folder: str) -> list[str]:
    """In a process of its own."""
    return [ctx.step_sync("charge", note, folder, "charge"), ctx.step_sync("die", die_once, folder)]


@app.task(queue="stepped", max_attempts=1)
async def later(ctx: Context, folder: str) -> str:
    """In the worker, and once its message is a suspect, in a process of its own."""
    return await ctx.step("charge", note, folder, "charge")
