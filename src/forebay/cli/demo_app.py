"""The App of ``forebay demo``: a little work, a mishap now and then, and a notebook in which every run leaves a line."""

from __future__ import annotations

import os
from typing import Final

from forebay import App, Context
from forebay.cli.demonstration import NOTEBOOK
from forebay.support.clock import SystemClock

WORK: Final = 25_000
"""How long one task takes, in microseconds."""
MISHAPS: Final = 20
"""One in so many tasks fails at its first try."""

app = App(name="demo")


class Mishap(Exception):
    """What goes wrong now and then. The next try succeeds."""


@app.task(queue="demo", backoff="200ms", backoff_cap="1s")
async def step(ctx: Context, number: int) -> int:
    """Work for a moment, then write the number into the notebook."""
    await SystemClock().sleep(WORK)
    if ctx.attempt == 1 and number % MISHAPS == 0:
        raise Mishap(f"step {number} slipped at its first try")
    write(os.environ[NOTEBOOK], number)
    return number


def write(path: str, number: int) -> None:
    """One line in one write: lines of several processes do not mix."""
    book = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(book, f"{number}\n".encode())
    finally:
        os.close(book)
