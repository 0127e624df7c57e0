"""``make bench``: every figure of README.md, in one run. ``python -m bench threads`` measures the thread layouts instead,
``python -m bench local`` work inside one process, ``python -m bench peers`` another library beside this one,
``python -m bench retention 300`` five minutes of retention at full rate.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import (
    flows,
    idle,
    late,
    latency,
    lines,
    local,
    peers,
    raw,
    retention,
    schedules,
    steps,
    threads,
    work,
)
from forebay.engine import Retention
from forebay.testing import measure

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 20_000
REPEATS = 3
DEEP = 1_000_000
LATE = 300_000
FLOW = 60.0
"""Seconds at full rate of the line on retention; ``python -m bench retention 300`` takes longer."""


def main() -> None:
    """Print a Markdown table."""
    print(
        f"{os.cpu_count()} cores, CPython {platform.python_version()}, {platform.system()} {platform.release()}; median of {REPEATS}\n"
    )
    if sys.argv[1:2] == ["local"]:
        local.main(sys.argv[2:])
        return
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        if sys.argv[1:] == ["threads"]:
            _threads(Path(folder))
        elif sys.argv[1:2] == ["retention"]:
            print("| what | figure | beside |\n|---|---|---|")
            _retention(Path(folder), float(sys.argv[2]) if sys.argv[2:] else FLOW)
        elif sys.argv[1:] == ["peers"]:
            peers.main(Path(folder))
        else:
            _table(Path(folder))


def _table(folder: Path) -> None:
    print("| what | figure | beside the driver |\n|---|---|---|")
    one = _median(lambda n: raw.one_row_commits(_fresh(folder, f"one{n}")))
    rates = [raw.batches(_fresh(folder, f"raw{n}")) for n in range(REPEATS)]
    ceiling = {key: statistics.median(rate[key] for rate in rates) for key in rates[0]}
    handed = _median(lambda n: raw.one_row_commits_from_a_loop(_fresh(folder, f"handed{n}")))
    _row("raw: one-row commits", f"{one:,.0f}/s", "1.00")
    _row(
        "raw: the same from an event loop, through a thread",
        f"{handed:,.0f}/s",
        f"{handed / one:.2f} of one-row commits",
    )
    for key, rate in ceiling.items():
        _row(f"raw: {key} in batches of 100", f"{rate:,.0f}/s", "1.00")
    single = _median(lambda n: asyncio.run(work.single_sends(work.on_disk(folder, f"single{n}"))))
    _row(
        "send, awaited one by one",
        f"{single:,.0f}/s",
        f"{single / one:.2f} of one-row commits, {single / handed:.2f} of those from a loop",
    )
    crowd = _median(lambda n: asyncio.run(work.concurrent_sends(work.on_disk(folder, f"crowd{n}"))))
    _row("send, 100 callers at once", f"{crowd:,.0f}/s", f"{crowd / ceiling['insert']:.2f} of raw insert")
    many = _median(lambda n: asyncio.run(work.send_many(work.on_disk(folder, f"many{n}"), COUNT)))
    _row("send_many", f"{many:,.0f}/s", f"{many / ceiling['insert']:.2f} of raw insert")
    both = 1 / (1 / ceiling["claim"] + 1 / ceiling["finish"])
    drained = _median(lambda n: asyncio.run(work.drain(work.on_disk(folder, f"drain{n}"), COUNT)))
    _row(
        f"drain {COUNT:,} no-op tasks, concurrency 100",
        f"{drained:,.0f}/s",
        f"{drained / both:.2f} of raw claim + finish",
    )
    deep = asyncio.run(work.drain(work.on_disk(folder, "deep"), COUNT, waiting=DEEP))
    _row(f"the same, with {DEEP:,} more waiting", f"{deep:,.0f}/s", f"{deep / drained:.2f} of the row above")
    batched = _median(
        lambda n: asyncio.run(work.drain(work.on_disk(folder, f"batched{n}"), COUNT, 1_000, batch=100))
    )
    _row(
        f"drain {COUNT:,} in batches of 100, concurrency 1,000",
        f"{batched:,.0f}/s",
        f"{batched / drained:.2f} of one at a time",
    )
    saved = _median(lambda n: asyncio.run(steps.saved(work.on_disk(folder, f"saved{n}"), COUNT // 10)))
    _row(
        f"durable steps, {steps.STEPS} a task, concurrency 100",
        f"{saved:,.0f}/s",
        f"{saved / drained:.2f} of no-op tasks",
    )
    woken = _median(lambda n: asyncio.run(steps.woken(work.on_disk(folder, f"woken{n}"), COUNT // 4)))
    _row(
        f"tasks woken by an event each, {COUNT // 4:,} waiting",
        f"{woken:,.0f}/s",
        f"{woken / drained:.2f} of no-op tasks",
    )
    for name, shape in (("beside each other, gathered", flows.wide), ("in a chain", flows.long)):
        told = asyncio.run(flows.drain(work.on_disk(folder, f"flow {shape.__name__}"), shape))
        _row(
            f"a flow of {flows.COUNT:,} steps {name}, concurrency 100",
            f"{told:,.0f}/s",
            f"{told / drained:.2f} of no-op tasks",
        )
    lined = _median(lambda n: asyncio.run(lines.drained(work.on_disk(folder, f"lined{n}"), COUNT)))
    _row(
        f"drain {COUNT:,} in lines of their keys, two of each at once",
        f"{lined:,.0f}/s",
        f"{lined / drained:.2f} of no-op tasks",
    )
    cold = asyncio.run(lines.claimed(folder / "cold.db", 0))
    hot = asyncio.run(lines.claimed(folder / "hot.db", lines.HOT))
    _row(
        f"claim of 10 beside a key with {lines.HOT:,} waiting",
        f"{hot / 1_000:.2f} ms",
        f"{hot / cold:.2f} of one without it",
    )
    memory = _median(lambda _: asyncio.run(work.drain("memory://", COUNT)))
    _row("drain in memory", f"{memory:,.0f}/s", "")
    _retention(folder, FLOW)
    alone = asyncio.run(late.claims_beside(folder / "alone.db", 0))
    beside = asyncio.run(late.claims_beside(folder / "late.db", LATE))
    _row(
        f"claim of {late.BATCH} beside {LATE:,} expired",
        f"{beside:.2f} ms",
        f"{beside / alone:.2f} of one alone",
    )
    near = asyncio.run(measure.delays_in_process(work.on_disk(folder, "near")))
    _row("enqueue to start, same process", f"p50 {near.p50:.1f} ms, p99 {near.p99:.1f} ms", "")
    far = asyncio.run(latency.across_processes(work.on_disk(folder, "far"), folder))
    _row("enqueue to start, another process", f"p50 {far.p50:.1f} ms, p99 {far.p99:.1f} ms", "")
    for spread in (False, True):
        late_by = asyncio.run(schedules.tick_to_ready(folder / f"ticks{spread}.db", spread=spread))
        _row(
            f"schedules: {schedules.COUNT:,}, tick to ready, {'spread over' if spread else 'all at once, every'} 10 s",
            f"p50 {late_by.p50:.1f} ms, p99 {late_by.p99:.1f} ms",
            "",
        )
    cost = idle.idle_worker(work.on_disk(folder, "idle"))
    _row(
        "idle worker",
        f"{cost.core:.2f} % of a core, {cost.memory:.0f} MiB, ready after {cost.start:.2f} s",
        "",
    )


def _retention(folder: Path, seconds: float) -> None:
    kept = asyncio.run(retention.flow(folder / "kept.db", seconds, Retention()))
    capped = asyncio.run(
        retention.flow(folder / "capped.db", seconds, Retention(succeeded_cap=retention.CAP))
    )
    _row(
        f"sent and worked off for {seconds:g} s, {retention.CAP:,} kept",
        f"{capped.rate:,.0f}/s, {capped.sizes[-1] / (1 << 20):,.0f} MiB, {capped.growth(1 / 5):+.1%} since a fifth of the time",
        f"{capped.rate / kept.rate:.2f} of all kept, {kept.sizes[-1] / (1 << 20):,.0f} MiB",
    )


def _threads(folder: Path) -> None:
    print("| handlers | layout | tasks/s | longest gap between renewals |\n|---|---|---|---|")
    for burn, count in ((0.0, 20_000), (0.000_2, 10_000), (0.005, 800)):
        for shared in (False, True):
            runs = [
                asyncio.run(
                    threads.measure(
                        work.on_disk(folder, f"t{burn}{shared}{n}"), shared=shared, count=count, burn=burn
                    )
                )
                for n in range(REPEATS)
            ]
            rate, gap = statistics.median(r.rate for r in runs), statistics.median(r.gap for r in runs)
            kind = f"burn {1_000 * burn:g} ms" if burn else "no-op"
            print(
                f"| {kind} | {'one I/O thread' if shared else 'own connections'} | {rate:,.0f} | {gap:.2f} s |",
                flush=True,
            )


def _median(measure: Callable[[int], float]) -> float:
    return statistics.median(measure(n) for n in range(REPEATS))


def _fresh(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    return place


def _row(what: str, figure: str, beside: str) -> None:
    print(f"| {what} | {figure} | {beside} |", flush=True)


if __name__ == "__main__":
    main()
