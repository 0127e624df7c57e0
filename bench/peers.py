"""Forebay beside the fastest peer that works on a SQLite file, on the same disk and taken in turn: ``python -m bench peers``.

huey (measured with 3.5.4) is compared where it is installed: ``.venv/bin/pip install huey``.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bench import raw, work

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 5_000
ROUNDS = 3


def main(folder: Path) -> None:
    """Print a Markdown table of enqueue and drain, each with `synchronous=FULL`."""
    if find_spec("huey") is None:
        print("huey is not installed: .venv/bin/pip install huey")
        return
    print("| what | Forebay | huey | ratio | of raw one-row commits (Forebay, huey) |\n|---|---|---|---|---|")
    rows: dict[str, list[tuple[float, float, float]]] = {"enqueue, one by one": [], "drain, no-op tasks": []}
    for n in range(ROUNDS):
        place = folder / f"peers{n}"
        place.mkdir()
        one = raw.one_row_commits(place)
        theirs = _huey(place)
        ours = (
            asyncio.run(work.single_sends(work.on_disk(place, "ours"))),
            asyncio.run(work.drain(work.on_disk(place, "ours-drain"), COUNT)),
        )
        for what, mine, other in zip(rows, ours, theirs, strict=True):
            rows[what].append((mine, other, one))
    for what, rounds in rows.items():
        mine, other, one = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b, _ in rounds)
        print(
            f"| {what} | {mine:,.0f}/s | {other:,.0f}/s | {ratio:.1f} | {mine / one:.2f}, {other / one:.2f} |"
        )


def _huey(place: Path) -> tuple[float, float]:
    """Tasks a second: enqueued one after the other, and worked off by the ten threads of one consumer."""
    module: Any = import_module("huey")  # not installed where it is not compared
    queue = module.SqliteHuey("bench", filename=str(place / "huey.db"), fsync=True, results=False)
    left, over = COUNT, threading.Event()
    lock = threading.Lock()

    def noop(_: int) -> None:
        nonlocal left
        with lock:
            left -= 1
        if left == 0:
            over.set()

    task = queue.task()(noop)
    began = time.perf_counter()
    for n in range(COUNT):
        task(n)
    sent = COUNT / (time.perf_counter() - began)
    consumer = queue.create_consumer(workers=10, periodic=False, check_worker_health=False)
    began = time.perf_counter()
    consumer.start()
    if not over.wait(120):
        raise AssertionError(f"huey has {left} of {COUNT} left after two minutes")
    drained = COUNT / (time.perf_counter() - began)
    consumer.stop(graceful=True)
    return sent, drained
