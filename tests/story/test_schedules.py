"""Workers that fire a schedule, killed where it matters and anywhere: each tick comes once, and none is missed."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from forebay.testing.clock import eventually

ENOUGH = 4
"""Ticks that are to be seen after the last death."""


def worker(folder: Path, fatal: str = "none", at: int = 1) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.story.tolling",
        f"sqlite:///{folder / 't.db'}",
        str(folder / "book"),
    ]
    return subprocess.Popen(
        [*command, fatal, str(at)], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL
    )


def pages(folder: Path) -> list[tuple[datetime, int]]:
    """The ticks that were handled, in order, and how many workers each had outlived."""
    book = folder / "book"
    lines = book.read_text("ascii").splitlines() if book.exists() else []
    return [
        (datetime.fromisoformat(tick), int(crashes)) for tick, crashes in (line.split() for line in lines)
    ]


def judge(folder: Path) -> None:
    seen = pages(folder)
    again = [crashes for n, (tick, crashes) in enumerate(seen) if tick in [one for one, _ in seen[:n]]]
    assert all(again), "what comes again was cut off by a death, and is not another message"
    # What was handed back at the stop has not been handled, though others were since.
    ticks = sorted({tick for tick, _ in seen})[:-2]
    expected = [ticks[0] + timedelta(seconds=n) for n in range(len(ticks))]
    assert ticks == expected, "none is missed"


async def seen(folder: Path, number: int) -> None:
    await eventually(lambda: len(pages(folder)) >= number, within=30, what=f"{number} ticks")


@pytest.mark.parametrize(
    ("fatal", "at"),
    [
        ("revise before", 1),
        ("revise after", 1),
        *((f"revise {when}", 3) for when in ("before", "worked", "after")),
    ],
)
def test_killed_around_the_transaction_of_a_tick_it_comes_once(fatal: str, at: int, tmp_path: Path) -> None:
    with worker(tmp_path, fatal, at) as doomed:
        assert doomed.wait(30) == -signal.SIGKILL
    before = len(pages(tmp_path))
    with ExitStack() as stack:
        heirs = [stack.enter_context(worker(tmp_path)) for _ in range(2)]
        try:
            asyncio.run(seen(tmp_path, before + ENOUGH))
        finally:
            for heir in heirs:
                heir.terminate()
    judge(tmp_path)


def test_several_workers_killed_at_random_miss_no_tick_and_send_none_twice(tmp_path: Path) -> None:
    dice = random.Random(7)

    async def story(stack: ExitStack) -> None:
        crew = [stack.enter_context(worker(tmp_path)) for _ in range(3)]
        try:
            for death in range(4):
                await seen(tmp_path, 2 * death + 1)
                victim = dice.randrange(len(crew))
                crew[victim].kill()
                crew[victim] = stack.enter_context(worker(tmp_path))
            await seen(tmp_path, len(pages(tmp_path)) + ENOUGH)
        finally:
            for member in crew:
                member.terminate()

    with ExitStack() as stack:
        asyncio.run(story(stack))
    judge(tmp_path)
