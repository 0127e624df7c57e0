"""On a stage schedules tick by the clock that a test turns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from forebay import App, Context
from forebay.testing import stage as stages
from tests.runtime.kit import story

if TYPE_CHECKING:
    from forebay.testing.stage import Stage

START = datetime(2030, 1, 1, tzinfo=UTC)


class Shop:
    """An App with schedules, and the ticks that its handlers saw."""

    def __init__(self, overlap: str = "allow") -> None:
        self.ticks: list[str] = []
        self.app = app = App("memory://")

        @app.schedule("*/5 * * * *", overlap=overlap)  # type: ignore[arg-type]  # one of those it takes
        @app.task
        async def refresh(ctx: Context) -> None:
            self.ticks.append(ctx.headers["forebay-tick"][11:16])


async def handled(t: Stage) -> list[str]:
    return [step.id.rsplit("T", 1)[1] for step in await t.run_all()]


@story
async def test_turning_the_clock_fires_each_tick_at_its_time() -> None:
    shop = Shop()
    async with shop.app.testing() as t:
        await t.advance("4m")
        assert await t.run_all() == []
        await t.advance("12m")
        steps = await t.run_all()
        assert [step.record.created for step in steps] == [
            int((START.timestamp() + 300 * n) * 1_000_000) for n in (1, 2, 3)
        ]
        assert shop.ticks == ["00:05", "00:10", "00:15"]
        assert await t.run_until_idle() == [], "a tick is nothing that waits"
        assert t.now == datetime(2030, 1, 1, 0, 16, tzinfo=UTC)


@story
async def test_ticks_that_are_passed_while_a_retry_is_waited_for_are_fired() -> None:
    shop = Shop()

    @shop.app.task(backoff="20m")
    async def fails(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("no")

    async with shop.app.testing() as t:
        await fails.send()
        await t.run_until_idle()

    assert shop.ticks == ["00:05", "00:10", "00:15", "00:20"]


@story
async def test_overlapping_is_as_it_is_at_work() -> None:
    skips, queues = Shop("skip"), Shop("queue")
    async with skips.app.testing() as t:
        await t.advance("16m")
        await t.run_all()
    async with queues.app.testing() as t:
        await t.advance("16m")
        await t.run_all()

    assert skips.ticks == ["00:05"]
    assert queues.ticks == ["00:05", "00:10", "00:15"]


@story
async def test_a_year_is_no_end_of_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MOST_TICKS", 10)
    shop = Shop()
    async with shop.app.testing() as t:
        await t.advance("365d")
        await t.run_all()

    assert len(shop.ticks) == 11, "ten at their time, and the last one made up for"
    assert shop.ticks[-1] == "00:00"


@story
async def test_what_a_test_puts_ticks_and_what_it_pauses_does_not() -> None:
    shop = Shop()
    async with shop.app.testing() as t:
        await shop.app.schedules.put("mine", every="2m", task=shop.app.named("refresh").bind())
        await shop.app.schedules.pause("refresh")
        await t.advance("5m")
        assert await handled(t) == ["00:02:00Z", "00:04:00Z"]
        t.assert_sent("refresh")


def test_without_a_loop_it_is_the_same() -> None:
    shop = Shop()
    with shop.app.testing() as t:
        t.advance("6m")
        t.run_all()

    assert shop.ticks == ["00:05"]


@story
async def test_each_stage_begins_anew() -> None:
    shop = Shop()
    for _ in range(2):
        async with shop.app.testing() as t:
            await t.advance("5m")
            assert len(await t.run_all()) == 1


@story
async def test_eager_ticks_are_worked_off_when_it_is_said() -> None:
    shop = Shop()
    async with shop.app.testing(eager=True) as t:
        await t.advance("5m")
        assert shop.ticks == []
        await t.run_all()
        assert shop.ticks == ["00:05"]
