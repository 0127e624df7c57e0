"""Worker processes killed at random: rules of queues hold in every instant all the same, and all is done in the end."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

import pytest

from forebay.app import App
from forebay.model.rule import Rule, Rules, rate_limit
from forebay.model.state import FINISHED, State
from forebay.testing.bounds import check_rules
from forebay.testing.clock import eventually
from forebay.testing.history import Event, Op, read
from tests.story.test_kill import Crew

if TYPE_CHECKING:
    from pathlib import Path

EACH, KEYS, KILLS, WORKERS = 90, 4, 4, 3
CROWD = Rules(Rule(per_key=2, concurrency=5, rate_per_key=rate_limit("30/s", "rate", 3)))
ORDER = Rules(Rule(ordered=True, fair=True, rate=rate_limit("200/s", "rate", 10)))
CAPPED = Rules(Rule(concurrency=2))
"""As the judge sees it: of the one task."""


async def _story(folder: Path, crew: Crew, seed: int) -> dict[str, list[str]]:
    """The ids of what was sent, by task, in the order in which it was."""
    dice, sent = random.Random(seed), dict[str, list[str]]()
    async with App(f"sqlite:///{folder / 'story.db'}") as app:
        crew.hire()
        await eventually(partial(_declared, app), within=30)
        for name, queue in (("crowd", "crowd"), ("order", "order"), ("capped", "crowd")):
            task = app.named(name, queue)
            calls = [task.options(key=f"k{number % KEYS}").bind(number) for number in range(EACH)]
            sent[name] = [handle.id for handle in await app.send_many(calls)]
        for _ in range(WORKERS - 1):
            crew.hire()
        for kill in range(KILLS):
            await eventually(partial(_done, app, (kill * 2 + 1) * EACH // KILLS), within=60)
            await crew.kill_one(dice)
        await eventually(partial(_done, app, 3 * EACH), within=60)
        states = {state for one in (await app.count()).queues for state, n in one.states.items() if n}
        assert states == {State.SUCCEEDED}
    return sent


async def _declared(app: App) -> bool:
    return {one.queue for one in (await app.count()).queues if one.rules.rule != Rule()} == {"crowd", "order"}


async def _done(app: App, wanted: int) -> bool:
    counts = await app.count()
    return sum(queue.states.get(state, 0) for queue in counts.queues for state in FINISHED) >= wanted


@pytest.mark.timeout(180)
def test_rules_hold_while_workers_are_killed(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "lined:app")

    sent = asyncio.run(_story(tmp_path, crew, seed=7))
    codes = crew.dismiss()

    assert codes == [0] * len(codes)
    history = read(tmp_path / "history.jsonl")
    order = [Event(t=n, node="sender", op=Op.SEND, id=key) for n, key in enumerate(sent["order"])]

    def among(*names: str) -> list[Event]:
        ids = {key for name in names for key in sent[name]}
        return [event for event in history if event.id in ids]

    assert check_rules(among("crowd", "capped"), CROWD).ok
    assert check_rules([*order, *among("order")], ORDER).ok
    assert check_rules(among("capped"), CAPPED).ok
    finished = {(event.id, event.lease) for event in history if event.op is Op.FINISH}
    assert [e for e in history if e.op is Op.START and (e.id, e.lease) not in finished], (
        "no kill met any work"
    )
