"""What a supervising process does around its `Supervisor`: settings, banner, health, and what its end means."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from forebay import __version__
from forebay.cli.exits import Exit
from forebay.cli.orders import SLACK, patience
from forebay.cli.output import note
from forebay.errors import InvalidOption
from forebay.model.amounts import byte_size, whole_number
from forebay.processes.health import Address, Health, marked, served
from forebay.processes.link import Fill
from forebay.processes.supervisor import STARTS, Ended, Supervisor, Watch
from forebay.runtime.worker import CUT_OFF, LAST_SETTLE
from forebay.support.clock import SystemClock
from forebay.support.settings import read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.cli.orders import Orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """How many processes work, when one is replaced, and where their health is seen. ``processes`` 0: no supervisor."""

    processes: int = 0
    fill: Fill
    health: Address | None = None
    health_file: Path | None = None

    @classmethod
    def read(
        cls,
        *,
        processes: str | None,
        max_tasks: str | None,
        max_memory: str | None,
        health: str | None,
        health_file: str | None,
    ) -> Self:
        """From arguments, and for what they do not say from the settings. Raises `InvalidOption`."""
        many = whole_number(read("processes", processes), "processes", lowest=0)
        fill = Fill(
            tasks=whole_number(read("max_tasks", max_tasks), "max_tasks", lowest=0),
            memory=byte_size(read("max_memory", max_memory), "max_memory"),
        )
        if not many and (fill.tasks or fill.memory):
            raise InvalidOption(
                "max_tasks and max_memory are for processes that a supervisor replaces: add --processes 1, or more."
            )
        where, path = read("health", health), read("health_file", health_file)
        return cls(
            processes=many,
            fill=fill,
            health=Address.parse(where) if where else None,
            health_file=Path(path) if path else None,
        )

    def words(self) -> list[str]:
        """What of it a worker process has to know."""
        fill = [f"--max-tasks={self.fill.tasks}", f"--max-memory={self.fill.memory}"]
        return [f"--processes={self.processes}", *fill]

    async def show(self, stack: AsyncExitStack, look: Callable[[], Health]) -> None:
        """Show health as was asked for, until ``stack`` closes. Raises `ConfigError` where that cannot be."""
        if self.health is not None:
            await stack.enter_async_context(served(self.health, look))
        if self.health_file is not None:
            await stack.enter_async_context(marked(self.health_file, look, SystemClock()))


def supervise(spec: str, words: Sequence[str], orders: Orders, supervision: Supervision) -> Exit:
    """Keep processes at work for the App that ``spec`` names, each with the command line ``words``, until told to stop."""
    orders.looks.set_up()
    if not orders.looks.as_objects:
        many = f"{supervision.processes} process{'' if supervision.processes == 1 else 'es'}"
        note(f"forebay {__version__} supervises {many} for {spec} (pid {os.getpid()})")
    watch = Watch(
        command=[sys.executable, "-m", "forebay", "worker", *words],
        processes=supervision.processes,
        patience=patience(orders),
        hurry=CUT_OFF + LAST_SETTLE + SLACK,
        hopeless=frozenset({Exit.USAGE}),
    )
    ended = asyncio.run(_watch(Supervisor(watch, SystemClock()), supervision))
    return _told(ended, spec)


async def _watch(supervisor: Supervisor, supervision: Supervision) -> Ended:
    async with AsyncExitStack() as stack:
        await supervision.show(stack, partial(_health, supervisor, supervision.processes))
        return await supervisor.run()


def _health(supervisor: Supervisor, processes: int) -> Health:
    """Ready while at least one process works: one that is being replaced must not take the others out of service."""
    ready = supervisor.ready
    return Health(
        ready > 0 and not supervisor.stopping,
        {"working": ready, "processes": processes, "stopping": supervisor.stopping, "pid": os.getpid()},
    )


def _told(ended: Ended, spec: str) -> Exit:
    """The exit code; a sentence if it gave up."""
    known = {code.value for code in Exit}
    code = Exit.STUCK if ended.code < 0 else Exit(ended.code) if ended.code in known else Exit.FAILED
    if not ended.gave_up:
        return code
    how = f"was killed by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
    starts = "a process" if code is Exit.USAGE else f"{STARTS} processes in a row"
    note(
        f"forebay: the supervisor gave up: {starts} for {spec} ended before being ready, the last one {how}. What it said stands above."
    )
    return Exit.FAILED if ended.code < 0 else code or Exit.FAILED
