"""`forebay task tail`: what it shows of what ends, and how it ends itself."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from forebay import App, State
from forebay.cli.exits import Exit
from forebay.cli.tail import Ends
from forebay.model.query import CancelNow, Redrive, Selector
from forebay.model.state import FINISHED
from forebay.support.clock import Clock, SystemClock
from forebay.testing.clock import VirtualClock
from tests.cli.kit import Cli, Work, line_with, process, shop
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

    def burst(number: int) -> None:
        send(store, *[("greet", "Ada")] * number)
        work(number)

    script(monkeypatch, lambda: burst(3), lambda: burst(6))

    assert len(cli("task", "tail").out.splitlines()) == 3 + 6


def test_no_end_is_missed_and_none_shown_twice_while_work_goes_on(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.cli.tail.LONGEST_PAGE", 7)
    monkeypatch.setattr("forebay.cli.tail.REMEMBERED", 10)
    every = 300
    send(store, *[("greet", str(n)) for n in range(every)])
    over = threading.Event()

    def work_off() -> None:
        try:
            asyncio.run(worked(store, every))
        finally:
            over.set()

    with App(store) as app:
        ends = following(app)
        worker = threading.Thread(target=work_off)
        worker.start()
        seen = Counter[str]()
        while not over.is_set():
            seen.update(record.id for record in ends.look())
        worker.join()
        seen.update(record.id for record in ends.look())
    assert len(seen) == every
    assert set(seen.values()) == {1}


@settings(max_examples=30, deadline=None)
@example(["back", "end", "wait"])
@given(st.lists(st.sampled_from(["end", "look", "wait", "back"]), min_size=1, max_size=25))
def test_no_end_is_missed_however_looks_and_clocks_lie(acts: list[str]) -> None:
    clock = Turned()
    app = App("memory://", clock=clock)
    with app:
        ends = following(app, clock)
        sent, seen = set[str](), list[str]()
        for act in [*acts, "look"]:
            match act:
                case "end":
                    handle = app.send_sync("greet", queue="mail")
                    app.sync(app.steer(Selector(ids=(handle.id,)), CancelNow()))
                    sent.add(handle.id)
                case "look":
                    seen += [record.id for record in ends.look()]
                case "wait":
                    app.sync(clock.advance(3_700_000))
                case _:
                    clock.behind += 3_600_000_000
    assert sorted(seen) == sorted(sent)


class Turned(VirtualClock):
    """A clock that can be set back."""

    behind = 0

    def now(self) -> int:
        return super().now() - self.behind


def following(app: App, clock: Clock | None = None) -> Ends:
    """Ends from now on."""
    ends = Ends(app, Selector(states=FINISHED), app.sync(app.count()).now, clock or SystemClock())
    ends.look()
    return ends


async def worked(store: str, tries: int) -> None:
    worker = shop(store).worker()
    left = iter(range(tries - 1))
    worker.on_verdict.append(lambda *_: None if next(left, None) is not None else worker.stop())
    await worker.run()


def test_what_has_not_ended_cannot_be_asked_for(store: str, cli: Cli) -> None:
    assert cli("task", "tail", "--state", "ready").code == Exit.USAGE


def test_an_interrupt_is_the_usual_way_out(store: str) -> None:
    with process("task", "tail", "--interval", "1h") as child:
        line_with(child, "Ctrl-C leaves")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()

    assert (child.returncode, out, err) == (Exit.OK, "", "")
