"""What ``forebay dev`` does: a worker in a process of its own, replaced when a file changes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Final, Self

from forebay.cli.exits import Exit
from forebay.cli.following import interruptible
from forebay.cli.loading import parted
from forebay.cli.orders import looks
from forebay.cli.output import note
from forebay.errors import ConfigError
from forebay.model.amounts import whole_number
from forebay.model.when import SECOND
from forebay.processes.link import VARIABLE
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOOK: Final = 0.3
"""Seconds between two looks at the files."""
QUIET: Final = 0.1
"""Seconds without a further change after which a change is complete: editors write in several steps."""
STOP_WITHIN: Final = "3s"
PATIENCE: Final = 15 * SECOND
"""How long a worker may take to end before it is killed."""
AGAIN: Final = SECOND
MOST_FILES: Final = 20_000
SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"})


def develop(
    spec: str, include: Sequence[str], *, url: str | None, concurrency: str | None, log_level: str | None
) -> Exit:
    """Keep one worker at work for the App that ``spec`` names, anew after each change, until interrupted. Raises `ConfigError`."""
    # What no change of a file can mend is told at once.
    parted(spec)
    if concurrency is not None:
        whole_number(concurrency, "concurrency")
    looks(log_level, None)
    said = {"concurrency": concurrency, "log-level": log_level}
    words = [f"--include={module}" for module in include]
    words += [f"--{name}={value}" for name, value in said.items() if value is not None]
    folder = Path.cwd()
    environment = dict(os.environ)
    if url is not None:
        environment["FOREBAY_URL"] = url
    command = [sys.executable, "-m", "forebay", "worker", spec, f"--stop-within={STOP_WITHIN}", *words]
    note(f"forebay dev: {spec}, anew whenever a .py file below {folder} changes; Ctrl-C ends it")
    try:
        with _ended_by_signals():
            return _replace(command, environment, folder)
    except KeyboardInterrupt:
        return Exit.OK


def _replace(command: Sequence[str], environment: dict[str, str], folder: Path) -> Exit:
    """One worker after the other."""
    clock = SystemClock()
    seen = files(folder)
    while True:
        began = clock.monotonic()
        with _Child(command, environment) as child:
            now = _changed(folder, seen, child)
        if now == seen:
            seen = _after_its_end(folder, seen, child.code, clock.monotonic() - began)
            continue
        names = sorted(
            str(path.relative_to(folder)) for path in now.keys() ^ seen.keys() or _differing(now, seen)
        )
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        note(f"forebay dev: {', '.join(names[:3])}{more} changed: anew")
        seen = now


def _after_its_end(folder: Path, seen: Files, code: int, lived: int) -> Files:
    """The worker has ended by itself. Broken code is waited for; anything else is tried again after a moment."""
    if code == Exit.USAGE:
        note("forebay dev: it cannot work like this; waiting for a change")
        return _changed(folder, seen, None)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    note(f"forebay dev: the worker {how}; another one begins")
    _nap(max(0, AGAIN - lived) / SECOND)
    return seen


Files = dict[Path, tuple[int, int]]
"""What is watched: each file's time of change and size."""


def files(folder: Path) -> Files:
    """The .py files and pyproject.toml below ``folder``. Raises `ConfigError` if that is no folder of a program."""
    found: Files = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
        for name in names:
            if name.endswith(".py") or name == "pyproject.toml":
                path = Path(place, name)
                with suppress(OSError):
                    kept = path.stat()
                    found[path] = kept.st_mtime_ns, kept.st_size
        if len(found) > MOST_FILES:
            raise ConfigError(
                f"{folder} has more than {MOST_FILES:,} Python files below it: run in the folder of your program."
            )
    return found


def _differing(now: Files, seen: Files) -> set[Path]:
    return {path for path, kept in now.items() if seen.get(path) != kept}


def _changed(folder: Path, seen: Files, child: _Child | None) -> Files:
    """The files once they have changed and are quiet again; as they were if ``child`` ends first."""
    while (now := files(folder)) == seen:
        if child is not None and child.has_ended:
            return seen
        _nap(LOOK)
    while True:
        _nap(QUIET)
        if (again := files(folder)) == now:
            return now
        now = again


def _nap(seconds: float) -> None:
    with interruptible() as bell:
        select([bell], [], [], seconds)


class _Child:
    """A worker process, at the end of a line as under a supervisor: when this process dies, however it dies, it ends in order."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**environment, VARIABLE: f"{theirs.fileno()} first"},
                start_new_session=True,
            )
        self.code = 0

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it in order, if it has not ended by itself."""
        if not self.has_ended:
            self._process.send_signal(signal.SIGTERM)
        try:
            self.code = self._process.wait(PATIENCE / SECOND)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self.code = self._process.wait()
        self._line.close()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
