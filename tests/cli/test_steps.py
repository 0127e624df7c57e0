"""`forebay task show` and the durable steps of a message."""

from __future__ import annotations

import asyncio

from forebay import App, Context, State
from tests.cli.kit import Cli
from tests.runtime.kit import reaches, working


def begun(url: str) -> str:
    """A message whose handler has done one thing, slept, and waits for an event; its id."""
    app = App(url)

    @app.task(backoff="1ms")
    async def order(ctx: Context) -> None:
        await ctx.step("charge", lambda: "receipt \x1b[31m")
        await ctx.sleep("1ms")
        if await ctx.version("v2"):
            await ctx.wait_event("paid", key="7", timeout="2d")

    async def story() -> str:
        async with working(app):
            handle = await order.send()
            await reaches(handle, State.SCHEDULED)
            return handle.id

    return asyncio.run(story())


def test_show_lists_the_steps_of_a_message(store: str, cli: Cli) -> None:
    key = begun(store)

    told = cli("task", "show", key).out

    rows = [line.split() for line in told[told.index("step  ") :].splitlines()]
    assert rows[0] == ["step", "kind", "saved", "took", "bytes", "try", "replays", "note"]
    assert [row[:2] for row in rows[1:5]] == [
        ["charge", "step"],
        ["sleep", "sleep"],
        ["version:v2", "version"],
        ["paid", "wait"],
    ]
    assert "why       waits for an event on 'paid' with key '7' until " in told
    assert "an event on paid with key 7, until " in told
    assert "\x1b" not in told


def test_show_lists_the_last_of_many_steps(store: str, cli: Cli) -> None:
    app = App(store)

    @app.task
    async def many(ctx: Context) -> int:
        return len([n async for n in ctx.step_map("n", abs, range(60))])

    async def story() -> str:
        async with working(app):
            handle = await many.send()
            assert await handle.result(timeout=10) == 60
            return handle.id

    told = cli("task", "show", asyncio.run(story()))

    assert "n[59]" in told.out
    assert "n[0]" not in told.out
    assert "10 more steps were saved before these" in told.err


def test_the_steps_of_a_message_are_in_its_document(store: str, cli: Cli) -> None:
    key = begun(store)

    document = cli("task", "show", key, "--json").document

    charge, _, _, paid = document["steps"]
    assert (charge["name"], charge["kind"], charge["try"], charge["replays"], charge["bytes"]) == (
        "charge",
        "step",
        1,
        0,
        len(b'"receipt \\u001b[31m"'),
    )
    assert (paid["topic"], paid["key"], paid["met"]) == ("paid", "7", None)
    assert document["step_results"] == {"charge": "receipt \x1b[31m"}
    assert "step_results" not in cli("task", "show", key, "--json", "--no-body").document


def test_what_waits_for_an_event_does_not_wait_for_a_worker(store: str, cli: Cli) -> None:
    async def send() -> None:
        async with App(store) as app:
            flow = app.flow("order-42")
            flow.wait_for("paid", timeout="2d")
            await flow.send()

    asyncio.run(send())

    listed = cli("queue", "list")

    assert "_events" in listed.out
    assert listed.err == ""
    assert "waits for an event on 'paid' until " in cli("task", "show", "order-42:paid").out
