"""What a worker costs that has nothing to do: processor time and memory of a real worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from forebay.testing.measure import timed_app

SETTLE = 3.0
WATCH = 10.0


class Cost(NamedTuple):
    """``core``: share of one core in percent; ``memory``: resident mebibytes; ``start``: seconds from exec to ready."""

    core: float
    memory: float
    start: float


def idle_worker(url: str) -> Cost:
    """Start a worker, leave it alone, look."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.idle", url], stdout=subprocess.PIPE
    )  # our own module
    if child.stdout is None:
        raise AssertionError(child)
    child.stdout.readline()
    start = time.perf_counter() - began
    time.sleep(SETTLE)
    before = _cpu(child.pid)
    time.sleep(WATCH)
    core = 100 * (_cpu(child.pid) - before) / WATCH
    memory = _resident(child.pid)
    child.send_signal(signal.SIGTERM)
    child.wait(30)
    return Cost(core, memory, start)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def _work(url: str) -> None:
    worker = timed_app(url, []).worker()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(signals=True))
        await worker.ready.wait()
        print("ready", flush=True)


if __name__ == "__main__":
    import asyncio

    asyncio.run(_work(sys.argv[1]))
