"""Commands on many messages: shown first, bounded, done in portions, and interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from forebay import App, State
from forebay.cli.exits import Exit
from forebay.cli.touch import PORTION
from forebay.model.query import Steered
from tests.cli.kit import Cli, Work, at_terminal

MANY = 2 * PORTION + 501
VERBS = {
    "task retry": ("task", "retry", "--queue", "mail", "--state", "dead"),
    "task cancel": ("task", "cancel", "--queue", "mail"),
    "task delete": ("task", "delete", "--queue", "mail", "--state", "ready"),
    "dead retry": ("dead", "retry", "--all"),
    "dead discard": ("dead", "discard", "--queue", "mail"),
    "queue purge": ("queue", "purge", "mail"),
}
verbs = pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)


def send(store: str, number: int, name: str = "greet", *words: object) -> None:
    async def at_once() -> None:
        async with App(store) as app:
            for start in range(0, number, 500):
                some = range(start, min(start + 500, number))
                await asyncio.gather(*(app.send(name, *words, queue="mail") for _ in some))

    asyncio.run(at_once())


def states(store: str) -> dict[State, int]:
    with App(store) as app:
        queues = app.sync(app.count()).queues
    return {state: n for queue in queues for state, n in queue.states.items() if n}


@pytest.fixture
def mixed(store: str, work: Work) -> str:
    """Three dead letters and three that wait."""
    send(store, 3, "give_up")
    work(3)
    send(store, 3, "greet", "Ada")
    return store


BEFORE = {State.DEAD: 3, State.READY: 3}


@verbs
def test_a_dry_run_says_how_many_and_changes_nothing(words: tuple[str, ...], mixed: str, cli: Cli) -> None:
    shown = cli(*words, "--dry-run")

    assert shown.code == Exit.OK
    assert shown.out.startswith(f"would {'delete' if words[1] == 'purge' else words[1]} 3 tasks (")
    assert states(mixed) == BEFORE

    done = cli(*words, "--yes")

    assert done.code == Exit.OK
    assert done.out.endswith(" 3 tasks\n")
    assert states(mixed) != BEFORE


@verbs
def test_a_dry_run_in_json_names_the_same_messages(words: tuple[str, ...], mixed: str, cli: Cli) -> None:
    shown = cli(*words, "--dry-run", "--json").document
    listed = cli("task", "list", "--json").document
    wanted = "dead" if "dead" in words else "ready"

    assert shown["tasks"] == 3
    assert set(shown["examples"]) == {one["id"] for one in listed if one["state"] == wanted}
    assert states(mixed) == BEFORE
    done = cli(*words, "--yes", "--json").document
    assert sum(n for n in done.values() if isinstance(n, int)) == 3


@verbs
def test_more_than_the_maximum_is_refused_and_nothing_is_touched(
    words: tuple[str, ...], mixed: str, cli: Cli
) -> None:
    refused = cli(*words, "--yes", "--max", "2")

    assert refused.code == Exit.FAILED
    assert "that would be 3 tasks, and --max allows 2" in refused.err
    assert states(mixed) == BEFORE
    assert cli(*words, "--yes", "--max", "3").code == Exit.OK
    assert states(mixed) != BEFORE


def test_the_maximum_holds_for_ids_and_for_dry_runs(mixed: str, cli: Cli) -> None:
    ids = [one["id"] for one in cli("dead", "list", "--json").document]

    assert cli("dead", "retry", *ids, "--max", "2").code == Exit.FAILED
    assert cli("dead", "retry", "--all", "--dry-run", "--max", "2").code == Exit.FAILED
    assert states(mixed) == BEFORE


def test_a_dry_run_by_id_tells_what_would_not_be_touched(mixed: str, cli: Cli) -> None:
    dead, *_ = [one["id"] for one in cli("dead", "list", "--json").document]
    waiting, *_ = [one["id"] for one in cli("task", "list", "--state", "ready", "--json").document]

    shown = cli("dead", "retry", dead, waiting, "--dry-run")

    assert shown.code == Exit.FAILED
    assert shown.out.splitlines()[0] == "would retry 1 task"
    assert f"{waiting} would not be retried: it is ready." in shown.err


@pytest.mark.parametrize("most", ["0", "-1", "many"])
def test_a_maximum_is_a_number_of_messages(most: str, mixed: str, cli: Cli) -> None:
    assert cli("queue", "purge", "mail", "--max", most).code == Exit.USAGE


def before_each_step(monkeypatch: pytest.MonkeyPatch, then: Callable[[list[int]], None]) -> list[int]:
    """How many each step has changed; ``then`` is called as the next one begins, where an interrupt would arrive."""
    real: Any = App.sync
    steps: list[int] = []

    def sync(app: App, awaited: Any) -> Any:
        if steps:
            try:
                then(steps)
            except BaseException:
                awaited.close()
                raise
        answer = real(app, awaited)
        if isinstance(answer, Steered):
            steps.append(answer.touched)
        return answer

    monkeypatch.setattr(App, "sync", sync)
    return steps


def test_many_are_touched_in_portions(store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    send(store, MANY, "greet", "Ada")
    steps = before_each_step(monkeypatch, lambda _: None)

    assert cli("queue", "purge", "mail", "--yes").out == f"deleted {MANY:,} tasks\n"
    assert steps == [PORTION, PORTION, 501]
    assert states(store) == {}


def test_an_interrupt_says_how_far_it_came_and_the_same_command_does_the_rest(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(steps: list[int]) -> None:
        if len(steps) == 2:
            raise KeyboardInterrupt

    send(store, MANY, "greet", "Ada")
    with monkeypatch.context() as patched:
        before_each_step(patched, interrupt)
        stopped = cli("task", "cancel", "--queue", "mail", "--yes")

    assert stopped.code == Exit.INTERRUPTED
    assert (
        f"cancelled 2,000 of {MANY:,} when it was interrupted; the same command does the rest." in stopped.err
    )
    assert cli("task", "cancel", "--queue", "mail", "--yes").code == Exit.OK
    assert states(store) == {State.CANCELLED: MANY}


def test_at_a_terminal_a_bar_shows_how_far_it_is(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    send(store, PORTION + 1, "greet", "Ada")

    code, seen = at_terminal("queue", "purge", "mail", "--yes")

    assert code == Exit.OK
    assert "100%" in seen
    assert f"deleted {PORTION + 1:,} tasks" in seen
