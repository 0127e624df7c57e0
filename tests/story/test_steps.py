"""A program with durable steps, killed around each of them: a step is run again only if its save was not committed."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from forebay import State
from forebay.model.query import Query, Selector, TaskRecord
from forebay.model.saved import SavedStep
from forebay.support.clock import SystemClock
from forebay.testing.history import Event, Log, Op, Witness, read
from tests.story import mortal, stepping

WHENS = ("before", "worked", "after")
POINTS = [
    *((f"save {when}", at) for when in WHENS for at in (1, 2, 5)),
    *((f"snooze {when}", at) for when in WHENS for at in (1, 2)),
    *(
        (f"{place} {when}", at)
        for place in ("function", "step", "load")
        for when in ("before", "after")
        for at in (1, 7)
    ),
    ("met inside", 1),
    ("met inside", 4),
]


async def go_on(folder: Path) -> list[tuple[TaskRecord, list[SavedStep]]]:
    """Start again where the program ended, until all is done; what is stored then."""
    witness = Witness(Log(folder / "h"), "heir", SystemClock())
    app = stepping.shop(f"sqlite:///{folder / 's.db'}", witness, mortal.LONG)
    async with app:
        found = (await app.find(Query(which=Selector(name="order"), size=100))).records
        await stepping.work(app, {record.id: int(record.message.body[10:-1]) for record in found})
        page = await app.find(Query(which=Selector(name="order"), size=100))
        told = [(record, list(await app.saved_steps(record.id))) for record in page.records]
    witness.log.close()
    return told


def judge(told: list[tuple[TaskRecord, list[SavedStep]]], history: list[Event]) -> None:
    """All is done once, and what was done again had not been saved."""
    sent = {event.id for event in history if event.op is Op.SEND}
    assert sent <= {record.id for record, _ in told}
    effects = defaultdict[str, list[int]](list)
    for event in history:
        if event.op is Op.EFFECT:
            effects[event.id].append(event.t)
    for record, steps in told:
        assert record.state is State.SUCCEEDED
        names = [step.name for step in steps]
        assert Counter(names) == Counter(
            ["charge", "sleep", "paid", *(f"parts[{n}]" for n in range(3)), "ship"]
        ), "each was saved once"
        for step in steps:
            if step.topic is None and step.due is None:
                times = effects[f"{record.id}/{step.name}"]
                assert times, f"{step.name} was done"
                assert max(times) <= step.at, f"{step.name} was done again after it was saved"
    again = sum(len(times) - 1 for times in effects.values())
    crashes = sum(record.crashes for record, _ in told)
    assert again <= 2 * crashes, "what was done again was cut off by the death"


@pytest.mark.parametrize(("point", "at"), POINTS, ids=lambda value: str(value).replace(" ", "-"))
def test_a_step_is_run_again_only_if_its_save_was_not_committed(
    point: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mortal.let_die("tests.story.stepping", tmp_path / "s.db", point, at)

    monkeypatch.setattr("forebay.runtime.worker.desk_of", stepping.in_no_place)
    told = asyncio.run(go_on(tmp_path))

    judge(told, read(tmp_path / "h"))
