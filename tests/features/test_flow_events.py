"""Flows that wait for events, as their senders write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from forebay import App, Context, State
from forebay.errors import FlowFailed, InvalidName, InvalidOption, NameTaken
from forebay.model.why import why
from tests.runtime.kit import story, working

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Paid:
    cents: int


def shop(url: str = "memory://") -> App:
    app = App(url)

    @app.task
    async def place(number: int) -> int:
        return number

    @app.task
    async def ship(paid: Paid) -> str:
        return f"shipped for {paid.cents}"

    @app.task
    async def extend(ctx: Context) -> None:
        event = ctx.flow.wait_for("paid", key="9", timeout="1d", type=Paid)
        ctx.flow.add(app.named("ship").bind(), after=event, gather=True)

    return app


@story
async def test_a_flow_goes_on_with_the_event_that_it_waits_for() -> None:
    app = shop()
    async with app.testing() as t:
        flow = app.flow("order-42")
        order = flow.add(app.named("place").bind(42))
        paid = flow.wait_for("paid", key="42", timeout="2d", type=Paid, after=order)
        flow.add(app.named("ship").bind(), after=paid, gather=True)
        handle = await flow.send()
        assert [step.name for step in await t.run_all()] == ["place"]

        await app.publish("paid", Paid(990), key="42")

        assert [step.result for step in await t.run_all()] == ["shipped for 990"]
        assert await handle.result() == "shipped for 990"


@story
async def test_a_wait_of_a_flow_expires() -> None:
    app = shop()
    async with app.testing() as t:
        flow = app.flow("order-42")
        paid = flow.wait_for("paid", key="42", timeout="2d")
        flow.add(app.named("ship").bind(), after=paid, gather=True)
        handle = await flow.send()
        await t.advance("2d")
        with pytest.raises(FlowFailed, match="paid is expired"):
            await handle.result()


@story
async def test_a_step_adds_a_wait_to_its_flow(tmp_path: Path) -> None:
    app = shop(f"sqlite:///{tmp_path / 'flow.db'}")
    async with working(app):
        flow = app.flow("order-9")
        flow.add(app.named("extend").bind())
        handle = await flow.send()
        await app.handle("order-9:extend").result(timeout=5)
        record = await app.handle("order-9:extend.paid").status()
        assert record.state is State.BLOCKED
        assert (why(record) or "").startswith("waits for an event on 'paid' with key '9' until ")

        await app.publish("paid", Paid(5), key="9")

        assert await handle.result(timeout=5) == "shipped for 5"


def test_what_cannot_be_waited_for_is_refused() -> None:
    app = shop()
    flow = app.flow("order-42")
    first = flow.wait_for("paid", timeout="2d")

    with pytest.raises(InvalidName, match="topic"):
        flow.wait_for("paid.*", timeout="2d")
    with pytest.raises(InvalidOption, match="timeout"):
        flow.wait_for("paid", timeout="soon")
    with pytest.raises(NameTaken):
        flow.wait_for("paid", timeout="2d", name="paid")
    for key in (42, "", "\ud800", b"42"):
        with pytest.raises(InvalidOption, match="key must be Unicode text"):
            flow.wait_for("paid", timeout="2d", key=key)  # type: ignore[arg-type]  # refused
    assert flow.wait_for("paid", timeout="2d", after=first).names == ("paid-2",)
