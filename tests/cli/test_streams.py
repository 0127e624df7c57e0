"""Standard streams that are closed, full, or read by nobody any more: no traceback, and the exit code that the table says."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from forebay.cli.exits import Exit
from forebay.testing.clock import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.kit import Cli

APP = """
from forebay import App

app = App()


@app.task(name="print")
def say(path: str) -> None:
    print("printed")
    open(path, "x").close()
"""
DATA = [
    "task list",
    "queue list",
    "dead list",
    "config show",
    "version",
    "send greet Ada --queue yard",
    "--help",
    "task list --help",
]


@contextmanager
def unread(how: str) -> Iterator[IO[bytes] | None]:
    """What is in the place of a stream. None: it is closed."""
    if how == "closed":
        yield None
    elif how == "full":
        with Path("/dev/full").open("wb") as full:
            yield full
    else:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as left:
            yield left


def forebay(words: str, *, out: IO[bytes] | None, err: IO[bytes] | int | None) -> subprocess.Popen[bytes]:
    """A command of its own; a stream that is None is closed."""
    closed = [f"{number}>&-" for number, stream in ((1, out), (2, err)) if stream is None]
    script = f'exec "$0" -m forebay {words} {" ".join(closed)} <&-'
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # else what handlers print would raise in them
    return subprocess.Popen(["/bin/sh", "-c", script, sys.executable], stdout=out, stderr=err, env=buffered)


@pytest.mark.parametrize("words", DATA)
@pytest.mark.parametrize(("how", "code"), [("closed", Exit.PIPE), ("left", Exit.PIPE), ("full", Exit.FAILED)])
def test_a_command_whose_output_nobody_takes_ends_as_the_table_says(
    words: str, how: str, code: Exit, subscribed: str, cli: Cli
) -> None:
    assert cli("send", "greet", "Ada", "--queue", "yard", "--create").code == Exit.OK

    with unread(how) as out, forebay(words, out=out, err=subprocess.PIPE) as child:
        _, err = child.communicate()

    assert child.returncode == code
    assert err.decode() == (
        "" if how != "full" else "forebay: the output could not be written: No space left on device.\n"
    )


@pytest.mark.parametrize("how", ["closed", "left", "full"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("task show nothing", Exit.FAILED),
        ("worker nowhere:app", Exit.USAGE),
        ("task list --limit x --json", Exit.USAGE),
    ],
)
def test_an_error_that_nobody_reads_keeps_its_code(words: str, code: Exit, how: str, subscribed: str) -> None:
    with unread(how) as err, forebay(words, out=subprocess.DEVNULL, err=err) as child:  # type: ignore[arg-type]  # as Popen takes it
        child.communicate()

    assert child.returncode == code


@pytest.mark.parametrize("more", ["", "--log-format json", "--processes 1"])
@pytest.mark.parametrize("how", ["closed", "left", "full"])
def test_a_worker_that_nobody_hears_works_and_stops_in_order(
    how: str, more: str, store: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    done = tmp_path / "done"
    cli("send", "print", str(done), "--create")

    with (
        unread(how) as stream,
        forebay(f"worker shop:app {more}", out=stream, err=stream) as child,
    ):
        try:
            asyncio.run(eventually(done.exists, within=20, what="the worker works"))
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=20)
        finally:
            child.kill()

    assert child.returncode == Exit.OK
    assert [record["state"] for record in cli("task", "list", "--json").document] == ["succeeded"]
