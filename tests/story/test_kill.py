"""Real worker processes on one SQLite file, killed at random: nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from forebay import State
from forebay.app import App
from forebay.model.query import Query, Selector, TaskRecord
from forebay.model.state import FINISHED
from forebay.testing.clock import eventually
from forebay.testing.history import Op, read

ORDERS = 600
KILLS = 6
WORKERS = 3


class Crew:
    """Worker processes, and how to kill one and start the next."""

    def __init__(self, folder: Path, app: str = "shop:app") -> None:
        self._folder, self._app = folder, app
        self._environment = {
            **os.environ,
            "FOREBAY_URL": f"sqlite:///{folder / 'story.db'}",
            "STORY_HISTORY": str(folder / "history.jsonl"),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        self.members: list[subprocess.Popen[bytes]] = []

    def hire(self) -> None:
        """Start a worker."""
        command = [
            sys.executable,
            "-m",
            "forebay",
            "worker",
            self._app,
            "--concurrency",
            "10",
            "--log-level",
            "error",
        ]
        with (self._folder / f"worker-{len(self.members)}.log").open("wb") as log:
            self.members.append(
                subprocess.Popen(command, env=self._environment, stderr=log, cwd=self._folder)
            )

    async def kill_one(self, dice: random.Random) -> None:
        """SIGKILL a worker that is at work, at whatever it is doing, and start another."""
        victim = dice.choice(await eventually(self._at_work, within=30))
        victim.kill()
        victim.wait(30)
        self.hire()

    def _at_work(self) -> list[subprocess.Popen[bytes]]:
        history = self._folder / "history.jsonl"
        seen = {event.node for event in read(history) if event.op is Op.START} if history.exists() else set()
        return [member for member in self.members if member.poll() is None and str(member.pid) in seen]

    def dismiss(self) -> list[int]:
        """Stop all in order; their exit codes."""
        alive = [member for member in self.members if member.poll() is None]
        for member in alive:
            member.send_signal(signal.SIGTERM)
        return [member.wait(30) for member in alive]


async def _story(folder: Path, crew: Crew, seed: int) -> list[TaskRecord]:
    dice = random.Random(seed)
    async with App(f"sqlite:///{folder / 'story.db'}") as app:
        place = app.named("place")
        handles = await app.send_many([place.bind(order) for order in range(ORDERS)])
        for _ in range(WORKERS):
            crew.hire()
        for kill in range(KILLS):
            await eventually(partial(_done, app, kill * ORDERS // KILLS), within=60)
            await crew.kill_one(dice)
        await eventually(partial(_done, app, 2 * ORDERS), within=60)
        page = await app.find(Query(which=Selector(), size=1_000))
        rest = await app.find(Query(which=Selector(), size=1_000, cursor=page.next)) if page.next else None
        assert len(handles) == ORDERS
        return [*page.records, *(rest.records if rest else ())]


async def _done(app: App, wanted: int) -> bool:
    counts = await app.count()
    return sum(queue.states.get(state, 0) for queue in counts.queues for state in FINISHED) >= wanted


@pytest.mark.timeout(120)
def test_workers_killed_at_random_lose_and_strand_nothing(tmp_path: Path) -> None:
    crew = Crew(tmp_path)

    records = asyncio.run(_story(tmp_path, crew, seed=20))
    codes = crew.dismiss()

    assert codes == [0] * len(codes)
    assert Counter(record.state for record in records) == {State.SUCCEEDED: 2 * ORDERS}
    assert Counter(record.message.name for record in records) == {"place": ORDERS, "charge": ORDERS}, (
        "a charge for each order, never two"
    )
    history = read(tmp_path / "history.jsonl")
    finished = {event.lease for event in history if event.op is Op.FINISH}
    cut_off = sum(event.op is Op.START and event.lease not in finished for event in history)
    effects = Counter(event.id for event in history if event.op is Op.EFFECT)
    charges = {record.id for record in records if record.message.name == "charge"}
    assert effects.keys() == charges
    repeated = sum(count - 1 for count in effects.values())
    in_doubt = KILLS * 10
    assert repeated <= in_doubt, f"{repeated} effects were repeated, {cut_off} tries were cut off"
    assert sum(record.crashes for record in records) >= 1, "no kill met any work: the test showed nothing"
