"""What ``forebay demo`` does: two real worker processes on one SQLite file, one of them killed on the way, and the books afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forebay.app import App
from forebay.cli.exits import Exit
from forebay.cli.output import counted, note, say, span
from forebay.cli.screen import screen
from forebay.model.query import Query, Selector
from forebay.model.state import FINISHED, State
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from forebay.model.message import EntryId
    from forebay.model.when import Micros

NOTEBOOK: Final = "FOREBAY_DEMO_NOTEBOOK"
"""The environment variable that tells the demo's workers where their notebook is."""
WORKERS: Final = 2
CONCURRENCY: Final = 6
LOOK: Final = 250_000
"""Between two looks, in microseconds."""
PATIENCE: Final = 60_000_000
"""The demo gives up when nothing has come to an end for so long, in microseconds."""
LEASE: Final = {"FOREBAY_LEASE": "3s", "FOREBAY_HEARTBEAT": "1s", "FOREBAY_SWEEP": "500ms"}
"""Shorter than in life, where a worker may be silent for half a minute: nobody likes to wait in a demo."""


@dataclass(slots=True)
class Demonstration:
    """One run of the demo."""

    tasks: int
    keep: bool
    folder: Path
    clock: SystemClock = field(default_factory=SystemClock)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    began: Micros = 0

    @classmethod
    def prepare(cls, tasks: int, *, keep: bool) -> Demonstration:
        """A demo of so many tasks, in a new folder."""
        return cls(tasks, keep, Path(tempfile.mkdtemp(prefix="forebay-demo-")))

    @property
    def url(self) -> str:
        """Its engine."""
        return f"sqlite:///{self.folder / 'demo.db'}"

    @property
    def notebook(self) -> Path:
        """Where each run of a task leaves a line."""
        return self.folder / "notebook"

    def run(self) -> Exit:
        """From the first task to the proof. Leaves nothing behind, unless asked to or unless something is wrong."""
        right = False
        try:
            right = asyncio.run(self._tell())
        except KeyboardInterrupt:
            right = not self.keep
            raise
        finally:
            for worker in self.workers:
                worker.kill()
                worker.wait()
            if right and not self.keep:
                shutil.rmtree(self.folder)
        if self.keep or not right:
            note(f"The files are in {self.folder}. Look with: forebay task list --url {self.url}")
        else:
            say(
                "Next: write an app of your own; README.md shows how. forebay --help lists what else there is."
            )
        return Exit.OK if right else Exit.FAILED

    async def _tell(self) -> bool:
        self.notebook.touch()
        async with App(self.url, name="demo") as app:
            self.began = self.clock.monotonic()
            step = app.named("step", "demo")
            handles = await app.send_many([step.bind(number) for number in range(self.tasks)])
            took = self.clock.monotonic() - self.began
            say(f"Sent {counted(self.tasks, 'task')} to {self.url} in {span(took)}.")
            self.workers = [self._start(place) for place in range(WORKERS)]
            who = " and ".join(str(worker.pid) for worker in self.workers)
            say(f"Two worker processes take them on: {who}. One task in twenty fails at its first try.")
            await self._watch(app)
            return self._settle_books(await _ended(app), [handle.id for handle in handles])

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "forebay",
            "worker",
            "forebay.cli.demo_app:app",
            "--concurrency",
            str(CONCURRENCY),
        ]
        environment = {**os.environ, **LEASE, "FOREBAY_URL": self.url, NOTEBOOK: str(self.notebook)}
        environment.pop("FOREBAY_QUEUES", None)
        with (self.folder / f"worker-{place + 1}.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603  # our own program
                command, stdin=subprocess.DEVNULL, stderr=log, env=environment, cwd=self.folder
            )

    async def _watch(self, app: App) -> None:
        """Show the counts until all have ended; kill a worker on the way."""
        killed, best, since = False, -1, self.clock.monotonic()
        with screen(self.tasks) as shown:
            while True:
                states = await _states(app)
                done = sum(states[state] for state in FINISHED)
                shown.show(done, self._counts(states))
                if done >= self.tasks:
                    return
                if done > best:
                    best, since = done, self.clock.monotonic()
                if not killed and done >= self.tasks * 2 // 5:
                    shown.line(self._kill())
                    killed = True
                self._look_after(self.workers[1:] if killed else self.workers, since)
                await self.clock.sleep(LOOK)

    def _counts(self, states: Counter[State]) -> str:
        waiting = states[State.READY] + states[State.SCHEDULED]
        counts = f"{waiting:>6,} wait {states[State.RUNNING]:>3} run {states[State.RETRYING]:>3} retry"
        return f"{counts} {span(self.clock.monotonic() - self.began):>8}"

    def _kill(self) -> str:
        victim = self.workers[0]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        return f"Worker {victim.pid} is killed (SIGKILL), with up to {CONCURRENCY} tasks in its hands."

    def _look_after(self, alive: list[subprocess.Popen[bytes]], since: Micros) -> None:
        ended = [worker for worker in alive if worker.poll() is not None]
        stalled = self.clock.monotonic() - since > PATIENCE
        if ended or stalled:
            what = (
                f"worker {ended[0].pid} ended by itself"
                if ended
                else f"nothing has ended for {span(PATIENCE)}"
            )
            raise click.ClickException(f"{what}. Its log is in {self.folder}.")

    def _settle_books(self, ended: Ended, ids: list[EntryId]) -> bool:
        """The proof. Delivery is at least once: what the killed worker had in hand may run twice, and nothing else."""
        runs = Counter(int(line) for line in self.notebook.read_text().splitlines())
        absent = self.tasks - len(runs)
        kept = sum(key in ended.succeeded for key in ids)
        say(f"All came to an end after {span(self.clock.monotonic() - self.began)}. The books:")
        say(
            f"  {kept:>6,} of {len(ids):,} tasks have succeeded, {ended.retried:,} of them after a failed try"
        )
        say(
            f"  {len(runs):>6,} of {self.tasks:,} numbers stand in the workers' notebook, {absent:,} are missing"
        )
        say(f"  {ended.taken_back:>6,} tasks were taken back from the killed worker and run by the other")
        say(
            f"  {runs.total() - len(runs):>6,} ran twice, having been killed between their work and its settlement"
        )
        right = absent == 0 and kept == len(ids)
        say("Nothing was lost." if right else "This is wrong: please report it, with the files.")
        return right


@dataclass(slots=True)
class Ended:
    """What the store says of the tasks."""

    succeeded: set[EntryId] = field(default_factory=set)
    retried: int = 0
    taken_back: int = 0


async def _states(app: App) -> Counter[State]:
    states: Counter[State] = Counter()
    for queue in (await app.count()).queues:
        states.update(queue.states)
    return states


async def _ended(app: App) -> Ended:
    """Read every record, page by page."""
    ended = Ended()
    cursor: str | None = None
    while True:
        page = await app.find(Query(which=Selector(queue="demo"), cursor=cursor, size=500))
        for record in page.records:
            if record.state is State.SUCCEEDED:
                ended.succeeded.add(record.id)
            ended.retried += any(one.error is not None for one in record.tries)
            ended.taken_back += record.crashes > 0
        cursor = page.next
        if cursor is None:
            return ended
