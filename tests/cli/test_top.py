"""`forebay top`: snapshots, rates, and how it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from forebay import App
from forebay.cli.exits import Exit
from tests.cli.kit import Cli, Work, at_terminal, process


class Script:
    """Pauses in which something happens, until nothing more does."""

    def __init__(self, *acts: Callable[[], None]) -> None:
        self._acts: Iterator[Callable[[], None]] = iter(acts)

    def wait(self, span: int) -> bool:
        act = next(self._acts, None)
        if act is not None:
            act()
        return act is not None

    def draw(self, look: Callable[[], None]) -> None:
        look()


def test_once_is_one_snapshot(store: str, cli: Cli) -> None:
    cli("send", "greet", "Ada", "--queue", "mail")

    lines = cli("top", "--once").out.splitlines()

    assert lines[0].endswith("1 ready, 0 running, 0 dead")
    assert lines[1].split() == ["queue", "ready", "running", "scheduled", "retrying", "dead", "in/s", "out/s", "oldest", "tap"]  # fmt: skip
    assert lines[2].split()[:6] == ["mail", "1", "0", "0", "0", "0"]
    assert len(lines) == 3


def test_an_empty_store_says_so(store: str, cli: Cli) -> None:
    assert "No queue is known here yet." in cli("top", "--once").out


def test_each_look_after_the_first_has_rates(
    store: str, cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        with App(store) as app:
            app.send_sync("greet", "Ada", queue="mail")
            app.send_sync("greet", "Bob", queue="mail")

    monkeypatch.setattr("forebay.cli.following.Plain", lambda: Script(send, lambda: work(2)))

    looks = [msgspec.json.decode(line) for line in cli("top", "--json").out.splitlines()]
    mail: list[dict[str, Any]] = [
        next((queue for queue in look["queues"] if queue["queue"] == "mail"), {}) for look in looks
    ]

    assert mail[0] == {}
    assert mail[1]["in_per_second"] > 0 == mail[1]["out_per_second"]
    assert mail[2]["in_per_second"] == 0 < mail[2]["out_per_second"]
    assert mail[2]["states"]["succeeded"] == 2


def test_a_wrong_interval_is_told(store: str, cli: Cli) -> None:
    answer = cli("top", "--interval", "often")

    assert answer.code == Exit.USAGE
    assert "--interval is not a duration" in answer.err


def test_an_interrupt_is_the_usual_way_out(store: str) -> None:
    with process("top", "--interval", "1h") as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()

    assert (child.returncode, err) == (Exit.OK, "")


def test_at_a_terminal_q_gives_the_screen_back(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    code, seen = at_terminal("top", "--interval", "1h", types="q")

    assert code == Exit.OK
    assert "\x1b[?1049h" in seen
    assert seen.endswith("\x1b[?1049l")
    assert "0 ready, 0 running, 0 dead" in seen


@pytest.mark.parametrize("size", [(24, 80), (5, 20), (2, 9), (1, 1)])
@pytest.mark.parametrize("words", [("top", "--interval", "1h"), ("queue", "list", "--watch", "1h")])
def test_no_terminal_is_too_small(
    subscribed: str, words: tuple[str, ...], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")

    code, seen = at_terminal(*words, types="q", size=size)

    assert code == Exit.OK
    _, _, picture = seen.partition("\x1b[H\x1b[J")
    picture, left, _ = picture.partition("\x1b[?7h")
    assert left, "the screen is given back, with lines that wrap"
    assert picture.count("\n") < size[0], "the first line is still to be seen"
    assert "\x1b[?7l" in seen, "a long line takes one line"
