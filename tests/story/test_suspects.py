"""A few messages kill every process that tries them, with a hundred others beside them: only the few are quarantined."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from forebay import State
from forebay.model.verdict import Reason
from forebay.testing.clock import eventually
from tests.story.test_supervisor import done, everything, opened, supervised

if TYPE_CHECKING:
    from pathlib import Path

GOOD, DEADLY = 295, frozenset({50, 120, 121, 200, 280})


def test_only_the_guilty_are_quarantined(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as app:
            await app.send_many(
                app.named("poison").bind(number, deadly=number in DEADLY)
                for number in range(GOOD + len(DEADLY))
            )
            with supervised(tmp_path, "yard:app", "--processes", "2"):
                await eventually(lambda: done(app, GOOD + len(DEADLY)), within=40)

            records = await everything(app)

        dead = [record for record in records if record.state is State.DEAD]
        assert len(dead) == len(DEADLY)
        assert {record.reason for record in dead} == {Reason.CRASHED}
        assert all(record.crashes == app.timing.crashes for record in dead)
        last = [record.tries[-1].error for record in dead]
        assert all(error is not None and "SIGKILL" in error.message for error in last)
        good = [record for record in records if record.state is State.SUCCEEDED]
        assert len(good) == GOOD
        assert max(record.crashes for record in good) < app.timing.crashes
        assert any(record.crashes for record in good), "nobody stood beside a deadly one"

    asyncio.run(story())
