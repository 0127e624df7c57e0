"""What ``forebay bench`` does: measures, one thing after the other, and says how."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forebay.cli.exits import Exit
from forebay.cli.output import Column, document, say, table
from forebay.testing import measure as m

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SINGLE: Final = 1_000
CROWD: Final = 10_000
DELAYS: Final = 300


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured. ``how`` says what it is, for people."""

    name: str
    value: float
    unit: str
    how: str


def measure(folder: str, *, memory: bool, count: int, as_json: bool) -> Exit:
    """Measure, and print a table or a document."""
    with tempfile.TemporaryDirectory(prefix=".forebay-bench-", dir=folder) as place:
        figures = _figures(Path(place), memory=memory, count=count)
    where = "memory" if memory else f"SQLite in {Path(folder).absolute()}"
    machine = f"{os.cpu_count()} processors, {platform.python_implementation()} {platform.python_version()}, {platform.system()}"
    if as_json:
        numbers = {figure.name: {"value": round(figure.value, 3), "unit": figure.unit} for figure in figures}
        document({"engine": "memory" if memory else "sqlite", "machine": machine, "count": count, **numbers})
        return Exit.OK
    say(f"{where}; {machine}")
    columns = [Column("what"), Column("figure", right=True), Column("how", elastic=True)]
    table(columns, [[figure.name.replace("_", " "), _shown(figure), figure.how] for figure in figures])
    return Exit.OK


def _figures(place: Path, *, memory: bool, count: int) -> list[Figure]:
    def url(name: str) -> str:
        return "memory://" if memory else f"sqlite:///{place / name}.db"

    length = SINGLE + CROWD + count + 2 * count + DELAYS + 20
    with click.progressbar(
        length=length, label="measuring", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def run(steps: int, work: Awaitable[float]) -> float:
            value = asyncio.run(_awaited(work))
            bar.update(steps)
            return value

        return [
            Figure("send", run(SINGLE, m.single_sends(url("single"), SINGLE)), "/s",
                   f"{SINGLE:,} sends, each awaited before the next"),
            Figure("send_concurrently", run(CROWD, m.concurrent_sends(url("crowd"), CROWD)), "/s",
                   f"{CROWD:,} sends by 100 callers at once"),
            Figure("send_many", run(count, m.send_many(url("many"), count)), "/s", f"{count:,} tasks in one call"),
            Figure("drain", run(2 * count, m.drain(url("drain"), count)), "/s",
                   f"one worker, concurrency 100, {count:,} tasks that do nothing, history kept"),
            *_delays(url("delays"), bar.update),
        ]  # fmt: skip


def _delays(url: str, progress: Callable[[int], None]) -> list[Figure]:
    delays = asyncio.run(m.delays_in_process(url, DELAYS, progress))
    how = f"{DELAYS} sends to an idle worker of this process, until the handler begins"
    return [
        Figure("start_p50", delays.p50, "ms", how),
        Figure("start_p99", delays.p99, "ms", "one in a hundred took longer"),
    ]


async def _awaited(work: Awaitable[float]) -> float:
    return await work


def _shown(figure: Figure) -> str:
    return f"{figure.value:,.0f}/s" if figure.unit == "/s" else f"{figure.value:.1f} ms"
