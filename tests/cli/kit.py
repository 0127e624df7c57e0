"""An App with one handler of every fate, what a command answered, and commands in processes of their own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from forebay import App, Context, Dead


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.out)


Cli = Callable[..., Answer]
Work = Callable[[int], None]


def shop(url: str) -> App:
    """An App with one handler of every fate."""
    app = App(url, name="shop")

    @app.task(queue="mail", max_attempts=1)
    async def greet(name: str) -> str:
        return f"Hello {name}"

    @app.task(queue="mail", max_attempts=1)
    async def stumble(ctx: Context, word: str) -> None:
        raise ValueError(f"no {word} today\x1b[31m")

    @app.task(queue="mail")
    async def give_up(ctx: Context) -> None:
        raise Dead("it is hopeless")

    @app.subscribe("orders.*", group="billing")
    async def bill(order: dict[str, int]) -> None: ...

    @app.subscribe("orders.placed", group="stock")
    async def take(order: dict[str, int]) -> None: ...

    return app


@contextmanager
def process(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A ``forebay`` process of its own, ended at the end."""
    command = [sys.executable, "-m", "forebay", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def line_with(child: subprocess.Popen[str], word: str) -> str:
    """Read what a process logs until a line holds ``word``."""
    assert child.stderr is not None
    heard: list[str] = []
    for line in child.stderr:
        heard.append(line)
        if word in line:
            return line
    raise AssertionError(f"{word!r} was never logged, but:\n{''.join(heard)}")


def at_terminal(*arguments: str, types: str = "", size: tuple[int, int] = (24, 80)) -> tuple[int, str]:
    """Run a command whose stdin, stdout and stderr are a terminal at which somebody types; its code and all that was seen."""
    here, there = pty.openpty()
    termios.tcsetwinsize(there, size)
    command = [sys.executable, "-m", "forebay", *arguments]
    # Without LINES and COLUMNS, which readline puts where a child, and so a test that runs in one, inherits them.
    environ = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environ) as child:
        os.close(there)
        os.write(here, types.encode())
        seen = b""
        while True:
            try:
                part = os.read(here, 4096)
            except OSError:  # Linux says EIO when the other side is closed
                break
            if not part:
                break
            seen += part
    os.close(here)
    return child.returncode, seen.decode()
