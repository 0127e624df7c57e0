"""A program killed at every point where it matters: what it had been told is true, and all of it is done after the next start."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path

import apsw
import pytest

from forebay import App, State
from forebay.model.query import Query, Selector, TaskRecord
from forebay.model.state import FINISHED
from forebay.runtime.worker import WorkerOptions
from forebay.stores.sqlite.connection import APPLICATION, migrations
from forebay.support.clock import SystemClock
from forebay.testing.clock import eventually
from forebay.testing.history import Event, Log, Op, Witness, read
from tests.story import mortal

WHENS = ("before", "worked", "after")
TRANSACTIONS = ("send", "claim", "promote", "sweep", "follow", "retry", "dead", "release")
ABANDONED = 2
POINTS = [
    ("follow between", 1),
    ("follow between", 3),
    *((f"{kind} {when}", 1) for kind in TRANSACTIONS for when in WHENS),
    *((f"{kind} {when}", 3) for kind in ("send", "claim", "follow", "retry") for when in WHENS),
    *((f"migrate {when}", 1) for when in WHENS),
    *((f"{place} {when}", 1) for place in ("checkpoint", "close") for when in ("before", "after")),
    *((f"{place} before", 1) for place in ("drain", "last settle")),
    *((f"{place}", at) for place in ("start after", "handler inside", "submit before") for at in (1, 5)),
]


async def go_on(folder: Path) -> list[TaskRecord]:
    """Start again where the program ended, until nothing is left to do; what is stored then."""
    witness = Witness(Log(folder / "h"), "heir", SystemClock())
    app = mortal.shop(f"sqlite:///{folder / 'm.db'}", witness, mortal.LONG)
    async with app:
        await app.named("later").send()
        worker = app.worker(WorkerOptions(concurrency=mortal.SLOTS, stop_within=50_000))
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(partial(is_done, app), within=15)
            worker.stop()
        page = await app.find(Query(which=Selector(), size=1_000))
    witness.log.close()
    return [record for record in page.records if record.message.name != "linger"]


async def is_done(app: App) -> bool:
    """Whether nothing is left but what was to outlast the stop."""
    page = await app.find(Query(which=Selector(), size=1_000))
    return all(r.state in FINISHED for r in page.records if r.message.name != "linger")


def judge(records: list[TaskRecord], history: list[Event]) -> None:
    """Nothing that was accepted is lost, stuck or doubled; whatever ran twice, the store knows why."""
    known = {record.id: record for record in records}
    sent = {e.id for e in history if e.op is Op.SEND}
    assert sent <= known.keys(), f"{sent - known.keys()} are gone"
    for record in records:
        assert record.state is (State.DEAD if record.message.name == "refuse" else State.SUCCEEDED)
    placed = sorted(record.message.body for record in records if record.message.name == "place")
    charged = sorted(record.message.body for record in records if record.message.name == "charge")
    assert placed == charged, "one charge for each order"
    assert len(set(placed)) == len(placed)
    starts = Counter(event.id for event in history if event.op is Op.START)
    effects = Counter(event.id for event in history if event.op is Op.EFFECT)
    for record in records:
        explained = record.attempts + record.crashes + record.releases
        assert 1 <= starts[record.id] <= explained, f"{record} was started {starts[record.id]} times"
        assert record.state is State.DEAD or effects[record.id] >= 1
    crashes = sum(record.crashes for record in records)
    repeated = sum(count - 1 for count in effects.values())
    assert repeated <= crashes <= 3 * mortal.SLOTS + ABANDONED, "more than was held and not settled"


@pytest.mark.parametrize(("point", "at"), POINTS, ids=lambda value: str(value).replace(" ", "-"))
def test_a_program_killed_at_a_point_leaves_nothing_lost_stuck_or_doubled(
    point: str, at: int, tmp_path: Path
) -> None:
    mortal.let_die("tests.story.mortal", tmp_path / "m.db", point, at)

    records = asyncio.run(go_on(tmp_path))

    judge(records, read(tmp_path / "h"))


@pytest.mark.parametrize("when", WHENS)
def test_a_file_of_an_older_version_survives_a_death_while_it_is_brought_up_to_date(
    when: str, tmp_path: Path
) -> None:
    with apsw.Connection(str(tmp_path / "m.db")) as old:
        old.execute(migrations()[0])
        old.pragma("application_id", APPLICATION)
        old.pragma("user_version", 1)
    old.close()

    mortal.let_die("tests.story.mortal", tmp_path / "m.db", f"migrate {when}", 1)

    judge(asyncio.run(go_on(tmp_path)), read(tmp_path / "h"))
