"""``--watch``: a list that is looked at again and again, and how it ends."""

from __future__ import annotations

import signal

import msgspec
import pytest

from forebay import App
from forebay.cli.exits import Exit
from tests.cli.kit import Cli, at_terminal, process
from tests.cli.test_top import Script

LISTS = [("task", "list"), ("dead", "list"), ("queue", "list")]
lists = pytest.mark.parametrize("words", LISTS, ids=" ".join)


@pytest.mark.parametrize("words", [("task", "list"), ("queue", "list")], ids=" ".join)
def test_each_look_is_a_line_of_json_and_shows_what_has_come(
    words: tuple[str, ...], store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        with App(store) as app:
            app.send_sync("greet", "Ada", queue="mail")

    monkeypatch.setattr("forebay.cli.following.Plain", lambda: Script(send))

    looks = [msgspec.json.decode(line) for line in cli(*words, "--watch", "--json").out.splitlines()]

    assert [len(look) for look in looks] == [0, 1]


@lists
def test_an_interrupt_is_the_usual_way_out(words: tuple[str, ...], store: str) -> None:
    with process(*words, "--watch", "1h", "--json") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "[]\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()

    assert (child.returncode, err) == (Exit.OK, "")


@lists
def test_at_a_terminal_q_gives_the_screen_back(
    words: tuple[str, ...], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")

    code, seen = at_terminal(*words, "--watch", "1h", types="q")

    assert code == Exit.OK
    assert "\x1b[?1049h" in seen
    assert seen.endswith("\x1b[?1049l")


@pytest.mark.parametrize("span", ["often", "soon", ""])
@lists
def test_a_wrong_time_is_told(words: tuple[str, ...], span: str, store: str, cli: Cli) -> None:
    answer = cli(*words, f"--watch={span}")

    assert answer.code == Exit.USAGE
    assert answer.out == ""
    assert "--watch" in answer.err
