"""The demo's processes: started, watched, stopped in order, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_WITHIN: Final = 10.0
LAST_LINES: Final = 12


class ChildDied(Exception):
    """A process ended that nobody had asked to."""


@dataclass(slots=True)
class Child:
    """One process. ``floor``: those of a lower floor are stopped first. ``may_end``: its end is no surprise, it was told to."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    floor: int
    may_end: bool = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    def last_lines(self) -> str:
        """The end of its log, to be shown."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-LAST_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


def listener() -> socket.socket:
    """A socket listening on a free port of loopback, for a child to inherit: its port is known before the child runs."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(1_024)
    return bound


def port(bound: socket.socket) -> int:
    """The port a listener was given."""
    return int(bound.getsockname()[1])


class Crew:
    """All children, in one process group led by the leash (see leash.py). Leaving the block stops whoever still runs.

    The group keeps the terminal's Ctrl-C from them, so that they are stopped one after the other.
    """

    __slots__ = ("_environ", "_leash", "_logs", "children")

    def __init__(self, logs: Path, environ: Mapping[str, str]) -> None:
        self._logs = logs
        self._environ = environ
        self._leash: subprocess.Popen[bytes] | None = None
        self.children: dict[str, Child] = {}

    async def __aenter__(self) -> Self:
        leash = [sys.executable, "-S", str(Path(__file__).with_name("leash.py"))]
        self._leash = subprocess.Popen(leash, stdin=subprocess.PIPE, process_group=0)  # noqa: ASYNC220  takes a millisecond
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            assert self._leash is not None  # noqa: S101  for the type checker
            # Takes along whoever would not stop, and the leash itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._leash.pid, signal.SIGKILL)
            self._leash.wait()
            if self._leash.stdin is not None:
                self._leash.stdin.close()

    async def start(
        self, name: str, *module: str, floor: int, listen: socket.socket | None = None, speaks: bool = False
    ) -> Child:
        """Run ``python -m module...``. ``listen`` is handed down; one that ``speaks`` has its output read here, not logged."""
        assert self._leash is not None  # noqa: S101  for the type checker
        log = self._logs / f"{name}.log"
        fds = () if listen is None else (listen.fileno(),)
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *module,
                cwd=ROOT,
                env={**self._environ, "LISTEN_FD": str(fds[0])} if fds else self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if speaks else file,
                stderr=file,
                pass_fds=fds,
                process_group=self._leash.pid,
            )
        self.children[name] = child = Child(name, process, log, floor)
        return child

    async def guard(self, child: Child) -> None:
        """Return when the child has ended as it should; raise `ChildDied` when it has not."""
        code = await child.process.wait()
        if not child.may_end:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise ChildDied(
                f"{child.name} (pid {child.pid}) {how}; nobody had asked it to. Its last words:\n{child.last_lines()}"
            )

    async def stop(self) -> list[Child]:
        """Stop everybody, floor by floor; returns who had to be killed for not stopping in time."""
        slow: list[Child] = []
        for floor in sorted({child.floor for child in self.children.values()}):
            slow += await self._stop(
                [child for child in self.children.values() if child.floor == floor and child.running]
            )
        return slow

    async def _stop(self, children: list[Child]) -> list[Child]:
        for child in children:
            child.may_end = True
            _send(child, signal.SIGTERM)
        slow = [
            child
            for child, ended in zip(children, await asyncio.gather(*map(_ended, children)), strict=True)
            if not ended
        ]
        for child in slow:
            _send(child, signal.SIGKILL)
            await child.process.wait()
        return slow

    def kill(self, child: Child) -> None:
        """SIGKILL: it ends at whatever instruction it has come to."""
        child.may_end = True
        _send(child, signal.SIGKILL)


def _send(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.process.send_signal(number)


async def _ended(child: Child) -> bool:
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await child.process.wait()
    except TimeoutError:
        return False
    return True
