"""Flows on real worker processes that are killed at random: each ends, with what it would have come to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, FlowHandle, chain, group
from forebay.model.flow import FlowState
from forebay.model.state import State
from forebay.model.survey import Flows
from forebay.testing.clock import eventually
from tests.story.weaver import loom

if TYPE_CHECKING:
    from pathlib import Path

FLOWS = 40
KILLS = 6
WORKERS = 2


class Crew:
    """Worker processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "FOREBAY_URL": f"sqlite:///{folder / 'story.db'}"}
        self.members: list[subprocess.Popen[bytes]] = []

    def hire(self) -> None:
        """Start one."""
        command = [
            sys.executable,
            "-m",
            "forebay",
            "worker",
            "tests.story.weaver:app",
            "--log-level",
            "error",
        ]
        with (self._folder / f"worker-{len(self.members)}.log").open("wb") as log:
            self.members.append(subprocess.Popen(command, env=self._environment, stderr=log))

    def kill_one(self, dice: random.Random) -> None:
        """SIGKILL one, at whatever it is doing, and start another."""
        victim = dice.choice([member for member in self.members if member.poll() is None])
        victim.kill()
        victim.wait(30)
        self.hire()

    def dismiss(self) -> None:
        """Stop all in order."""
        alive = [member for member in self.members if member.poll() is None]
        for member in alive:
            member.send_signal(signal.SIGTERM)
        # One that has only just been started does not listen yet.
        assert {member.wait(30) for member in alive} <= {0, -signal.SIGTERM}

    def end(self) -> None:
        """Whatever happened, nobody stays."""
        for member in self.members:
            if member.poll() is None:
                member.kill()
                member.wait(30)


async def _story(folder: Path, crew: Crew, dice: random.Random) -> list[object]:
    app = App(f"sqlite:///{folder / 'story.db'}")
    tasks = loom(app)
    async with app:
        handles: list[FlowHandle[Any]] = []
        for number in range(FLOWS // 2):
            several = group([tasks.times.bind(by=by) for by in range(5)])
            handles.append(
                await chain(tasks.fetch.bind(number), several, tasks.total.bind()).send(f"wide-{number}")
            )
            handles.append(await chain(tasks.split.bind(number)).send(f"grown-{number}"))
        for _ in range(WORKERS):
            crew.hire()
        for kill in range(KILLS):
            await eventually(partial(_over, app, 1 + kill * FLOWS // KILLS), within=40)
            crew.kill_one(dice)
        results: list[object] = [await handle.result("60s") for handle in handles]
        assert [(await handle.status()).steps for handle in handles] == [{State.SUCCEEDED: 7}] * FLOWS
        return results


async def _over(app: App, wanted: int) -> bool:
    found = await app.survey(Flows(limit=1_000))
    return sum(one.state is not FlowState.RUNNING for one in found) >= wanted


@pytest.mark.timeout(120)
def test_flows_end_with_the_same_results_whoever_is_killed(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    try:
        results = asyncio.run(_story(tmp_path, crew, random.Random(7)))
        crew.dismiss()
    finally:
        crew.end()

    assert results == [10 * number for number in range(FLOWS // 2) for _ in range(2)]
