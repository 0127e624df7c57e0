"""`forebay task tail`: what it shows of what ends, and how it ends itself."""

from __future__ import annotations

import signal

import msgspec
import pytest

from forebay import App, State
from forebay.cli.exits import Exit
from forebay.model.query import Redrive, Selector
from tests.cli.kit import Cli, Work, line_with, process
from tests.cli.test_top import Script


def send(store: str, *calls: tuple[str, ...]) -> None:
    with App(store) as app:
        for name, *words in calls:
            app.send_sync(name, *words, queue="mail")


def script(monkeypatch: pytest.MonkeyPatch, *acts: object) -> None:
    monkeypatch.setattr("forebay.cli.tail.Plain", lambda: Script(*acts))  # type: ignore[arg-type]


def test_what_ends_is_shown_once_and_what_had_ended_is_not(
    store: str, cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(store, ("greet", "before"))
    work(1)

    def end(*call: str) -> None:
        send(store, call)
        work(1)

    script(monkeypatch, lambda: end("stumble", "bread"), lambda: None, lambda: end("greet", "Ada"))
    lines = cli("task", "tail").out.splitlines()

    assert [line.split()[2:5] for line in lines] == [
        ["dead", "mail", "stumble"],
        ["succeeded", "mail", "greet"],
    ]
    assert lines[0].endswith(r"exhausted: ValueError: no bread today\x1b[31m")


def test_what_is_run_again_ends_again(
    store: str, cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once() -> None:
        send(store, ("give_up",))
        work(1)

    def again() -> None:
        with App(store) as app:
            app.sync(app.steer(Selector(states=frozenset({State.DEAD})), Redrive()))
        work(1)

    script(monkeypatch, once, again)

    assert [line.split()[2] for line in cli("task", "tail").out.splitlines()] == ["dead", "dead"]


def test_it_keeps_to_its_filters_and_its_limit(
    store: str, cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mixed() -> None:
        send(store, ("greet", "Ada"), ("stumble", "bread"), ("give_up",), ("give_up",))
        work(4)

    script(monkeypatch, mixed, lambda: pytest.fail("it was enough"))
    out = cli("task", "tail", "--state", "dead", "--name", "give_up", "--limit", "1", "--json").out

    (only,) = [msgspec.json.decode(line) for line in out.splitlines()]
    assert (only["name"], only["state"], only["body"]) == ("give_up", "dead", {})


def test_more_than_a_page_is_followed_page_by_page(
    store: str, cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.cli.tail.LONGEST_PAGE", 2)
    monkeypatch.setattr("forebay.cli.tail.MOST_PAGES", 2)

    def burst(number: int) -> None:
        send(store, *[("greet", "Ada")] * number)
        work(number)

    script(monkeypatch, lambda: burst(3), lambda: burst(6))
    answer = cli("task", "tail")

    assert len(answer.out.splitlines()) == 3 + 4
    assert "only the newest 4 are shown" in answer.err


def test_what_has_not_ended_cannot_be_asked_for(store: str, cli: Cli) -> None:
    assert cli("task", "tail", "--state", "ready").code == Exit.USAGE


def test_an_interrupt_is_the_usual_way_out(store: str) -> None:
    with process("task", "tail", "--interval", "1h") as child:
        line_with(child, "Ctrl-C leaves")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()

    assert (child.returncode, out, err) == (Exit.OK, "", "")
