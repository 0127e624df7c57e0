"""A program whose tasks gather, are debounced and throttled, killed around its commits: nothing is lost, and one stays one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from forebay import State
from forebay.model.query import Query, TaskRecord
from forebay.support.clock import SystemClock
from forebay.testing.history import Event, Log, Op, Witness, read
from tests.story import gleaning, mortal

POINTS = [
    (f"{kind} {when}", at)
    for kind, ats in (("send", (2, 9, 24)), ("claim", (1, 3)), ("promote", (1, 2)), ("settle", (1, 3)))
    for when in ("before", "worked", "after")
    for at in ats
]


async def go_on(folder: Path) -> tuple[TaskRecord, ...]:
    """Start again where the program ended, until all is done; what is stored then."""
    witness = Witness(Log(folder / "h"), "heir", SystemClock())
    app = gleaning.shop(f"sqlite:///{folder / 'g.db'}", witness, mortal.LONG)
    async with app:
        await gleaning.work(app)
        page = await app.find(Query(size=1_000))
    witness.log.close()
    return page.records


def judge(records: tuple[TaskRecord, ...], history: list[Event]) -> None:
    """All is done, no more than once at a time, and the last version last."""
    assert {record.state for record in records} <= {State.SUCCEEDED}
    sent = [event.id for event in history if event.op is Op.SEND]
    done = [event.id for event in history if event.op is Op.EFFECT]
    assert sum(record.message.name == "greet" for record in records) <= 1, "one an hour"
    added = defaultdict[str, list[list[str]]](list)
    for _, number, key, company in [one.split("/") for one in done if "/k" in one]:
        added[number].append([key, company])
        assert key == f"k{int(number) % 2}"
        assert int(company) <= 4, "no more than gather_max"
    gleaned = {record.id for record in records if record.message.name == "add"}
    assert {one for one in sent if not one.startswith("page")} <= gleaned
    assert len(added) == len(gleaned)
    for page in ("page0", "page1"):
        versions = [int(one.split("/")[1]) for one in sent if one.startswith(page)]
        drawn = [int(one.split("/")[1]) for one in done if one.startswith(page)]
        assert not versions or drawn[-1] >= versions[-1], "the last one that was accepted was drawn last"


@pytest.mark.parametrize(("point", "at"), POINTS, ids=lambda value: str(value).replace(" ", "-"))
def test_nothing_is_lost_and_one_stays_one(point: str, at: int, tmp_path: Path) -> None:
    mortal.let_die("tests.story.gleaning", tmp_path / "g.db", point, at)

    records = asyncio.run(go_on(tmp_path))

    judge(records, read(tmp_path / "h"))
