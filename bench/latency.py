"""From enqueue to the start of the handler on an idle worker in another process. (In the same process: `forebay.testing.measure`.)"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

from forebay import App
from forebay.testing.measure import Delays, send_slowly, summary, timed_app

if TYPE_CHECKING:
    from pathlib import Path


async def across_processes(url: str, folder: Path, count: int = 300) -> Delays:
    """The worker in a process of its own."""
    output = folder / "delays.txt"
    app = App(url)
    async with app:
        child = subprocess.Popen([sys.executable, "-m", "bench.latency", url, str(output)])  # noqa: ASYNC220  # our own module
        await send_slowly(app, count + 20)
        child.terminate()
        child.wait(30)
    return summary([float(line) for line in output.read_text().splitlines()][20:])


async def _work(url: str, output: str) -> None:
    delays: list[float] = []
    await timed_app(url, delays).worker().run(signals=True)
    with open(output, "w", encoding="ascii") as file:  # noqa: ASYNC230, PTH123  # the work is over
        file.writelines(f"{delay}\n" for delay in delays)


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
