"""`forebay flow`: what is shown of graphs of steps, and what is done to them."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, chain, group
from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.kit import Cli


class Graph:
    """An App with a task that succeeds and one that fails until it is mended."""

    def __init__(self, url: str) -> None:
        self.url, self.broken = url, True

    def app(self) -> tuple[App, Any, Any]:
        app = App(self.url)

        @app.task
        async def fetch(url: str = "cat") -> str:
            return url

        @app.task(max_attempts=1)
        async def resize(size: int = 1) -> str:
            if self.broken:
                raise OSError("the disk is away")
            return f"@{size}"

        return app, fetch, resize

    def send(self, make: Callable[[Any, Any], Any], flow: str, **options: Any) -> None:
        app, fetch, resize = self.app()
        with app:
            make(fetch, resize).send_sync(flow, **options)

    def work(self, *flows: str) -> None:
        """Work until these are over."""

        async def work_off() -> None:
            app, _, _ = self.app()
            async with app, asyncio.TaskGroup() as tasks:
                worker = app.worker()
                tasks.create_task(worker.run())
                for flow in flows:
                    with pytest.raises(Exception, match="has failed") if self.broken else nullcontext():
                        await app.flow_handle(flow).result("10s")
                worker.stop()

        asyncio.run(work_off())


@pytest.fixture
def graph(store: str) -> Graph:
    return Graph(store)


def test_flows_are_listed_newest_first(graph: Graph, cli: Cli) -> None:
    graph.send(lambda fetch, resize: chain(fetch.bind(), resize.bind()), "one")
    graph.send(lambda fetch, _: group([fetch.bind()] * 3), "two")

    lines = [line.split() for line in cli("flow", "list").out.splitlines()]

    assert lines[0] == ["id", "state", "steps", "done", "running", "failed", "age", "took"]
    assert [line[:6] for line in lines[1:]] == [
        ["two", "running", "3", "0", "0", "0"],
        ["one", "running", "2", "0", "0", "0"],
    ]
    (two, one) = cli("flow", "list", "--json").document
    assert (two["id"], one["states"]["blocked"], one["finished"]) == ("two", 1, None)
    assert cli("flow", "list", "--state", "failed", "--json").document == []
    assert [flow["id"] for flow in cli("flow", "list", "--limit", "1", "--json").document] == ["two"]


def test_a_flow_is_drawn_level_by_level(graph: Graph, cli: Cli) -> None:
    graph.send(
        lambda fetch, resize: chain(fetch.bind(), group([resize.bind(1), resize.bind(2)]), fetch.bind("end")),
        "order-42",
    )
    graph.work("order-42")

    lines = [" ".join(line.split()) for line in cli("flow", "show", "order-42").out.splitlines()]

    assert lines[:2] == ["order-42 failed", "steps 4: succeeded 1, dead 2, cancelled 1"]
    assert lines[-5] == "level step state attempts after note"
    assert lines[-4].startswith("1 fetch succeeded 1 took")
    assert lines[-3] == "2 resize dead 1 fetch exhausted: OSError: the disk is away"
    assert lines[-1] == "3 fetch-2 cancelled resize, resize-2 needed resize, resize-2"
    assert cli("flow", "show", "order-4").code == Exit.FAILED
    assert cli("flow", "show", "order-42", "--mermaid").out.startswith(
        'flowchart LR\n  n0["fetch<br/>succeeded"]:::succeeded\n'
    )
    document = cli("flow", "show", "order-42", "--json").document
    assert [(step["name"], step["level"], step["after"]) for step in document["steps"]][1] == (
        "resize",
        2,
        ["order-42:fetch"],
    )


def test_a_step_tells_its_flow_and_what_it_waits_for(graph: Graph, cli: Cli) -> None:
    graph.send(lambda fetch, resize: chain(fetch.bind(), resize.bind()), "order-42")

    out = [" ".join(line.split()) for line in cli("task", "show", "order-42:resize").out.splitlines()]

    assert "flow order-42" in out
    assert "step resize" in out
    assert "why waits for 1 step before it: fetch" in out
    document = cli("task", "show", "order-42:resize", "--json").document
    assert (document["flow"], document["step"], document["why"]) == (
        "order-42",
        "resize",
        "waits for 1 step before it: fetch",
    )
    found = cli("task", "list", "--flow", "order-42", "--state", "blocked", "--json").document
    assert [record["id"] for record in found] == ["order-42:resize"]
    assert cli("task", "list", "--flow", "other", "--json").document == []


def test_a_failed_flow_is_retried_from_where_it_failed(graph: Graph, cli: Cli) -> None:
    graph.send(lambda fetch, resize: chain(fetch.bind(), resize.bind(), fetch.bind("end")), "order-42")
    graph.work("order-42")
    graph.broken = False

    assert (
        cli("flow", "retry", "order-42", "--dry-run").out
        == "would retry 1 flow\n  order-42  failed  2 steps\n"
    )
    assert cli("flow", "retry", "order-42").out == "retried order-42: 1 step\n"
    graph.work("order-42")
    assert cli("flow", "list", "--json").document[0]["state"] == "succeeded"
    again = cli("flow", "retry", "order-42")
    assert (again.code, again.err) == (Exit.FAILED, "forebay: order-42 was not retried: it is succeeded.\n")
    assert cli("audit", "--json").document[0]["which"]["flow"] == "order-42"


def test_a_flow_is_cancelled_and_then_deleted_as_a_whole(graph: Graph, cli: Cli) -> None:
    graph.send(lambda fetch, resize: chain(fetch.bind(), resize.bind()), "order-42")

    early = cli("flow", "delete", "order-42", "--yes")
    assert (early.code, early.err) == (
        Exit.FAILED,
        "forebay: order-42 was not deleted: it runs: cancel it first.\n",
    )
    assert cli("flow", "cancel", "order-42", "--json").document["cancelled"] == 2
    assert cli("flow", "list", "--json").document[0]["state"] == "cancelled"
    unasked = cli("flow", "delete", "order-42")
    assert unasked.code == Exit.USAGE
    assert "order-42  cancelled  2 steps" in unasked.err
    assert cli("flow", "delete", "order-42", "--yes").out == "deleted order-42: 2 steps\n"
    assert cli("flow", "list", "--json").document == []


def test_a_single_step_is_not_deleted(graph: Graph, cli: Cli) -> None:
    graph.send(lambda fetch, resize: chain(fetch.bind(), resize.bind()), "order-42")
    cli("flow", "cancel", "order-42")

    answer = cli("task", "delete", "order-42:fetch", "--yes")

    assert answer.code == Exit.FAILED
    assert "it is a step of a flow, which is deleted as a whole: forebay flow delete" in answer.err


def test_the_beginning_of_an_id_is_enough_if_it_is_the_only_one(graph: Graph, cli: Cli) -> None:
    for name in ("invoices-1", "invoices-2", "invoice"):
        graph.send(lambda fetch, _: chain(fetch.bind()), name)

    assert cli("flow", "show", "invoices").code == Exit.USAGE
    assert (
        "is the beginning of several ids, such as invoices-2, invoices-1"
        in cli("flow", "show", "invoices-").err
    )
    assert cli("flow", "show", "invoice", "--json").document["id"] == "invoice"
    assert cli("flow", "cancel", "invoices-1", "nothing-of-it", "--json").document["unchanged"] == [
        {"id": "nothing-of-it", "why": "no such flow is known here"}
    ]


def test_more_steps_than_are_allowed_are_not_touched(graph: Graph, cli: Cli) -> None:
    graph.send(lambda fetch, _: group([fetch.bind()] * 3), "order-42")

    answer = cli("flow", "cancel", "order-42", "--max", "2")

    assert answer.code == Exit.FAILED
    assert "that would be 3 steps" in answer.err
    assert cli("flow", "list", "--json").document[0]["state"] == "running"
