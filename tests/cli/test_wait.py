"""`forebay task wait`: until a message has come to its end, and `forebay bench`: what this machine does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay import App
from forebay.cli import benchmark
from forebay.cli.exits import Exit
from tests.cli.kit import at_terminal
from tests.cli.test_top import Script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.kit import Cli, Work


def sent(store: str, name: str, *words: str) -> str:
    with App(store) as app:
        return app.send_sync(name, *words, queue="mail").id


def test_the_result_is_printed_when_it_has_come(
    store: str, cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = sent(store, "greet", "Ada")
    script = Script(lambda: work(1))
    monkeypatch.setattr("forebay.cli.waiting.Plain", lambda: script)

    answer = cli("task", "wait", key)

    assert (answer.code, answer.out, answer.err) == (Exit.OK, '"Hello Ada"\n', "")


def test_what_did_not_succeed_is_said_and_fails(store: str, cli: Cli, work: Work) -> None:
    key = sent(store, "stumble", "bread")
    work(1)

    answer = cli("task", "wait", key)

    assert (answer.code, answer.out) == (Exit.FAILED, "")
    assert f"{key} is dead: ValueError: no bread today" in answer.err
    assert "\x1b" not in answer.err


def test_a_wait_may_be_bounded(store: str, cli: Cli) -> None:
    key = sent(store, "greet", "Ada")

    answer = cli("task", "wait", key, "--timeout", "10ms", "--json")

    assert answer.code == Exit.FAILED
    assert answer.document["state"] == "ready"
    assert "has not ended within 10ms: it is ready" in answer.err


@pytest.mark.parametrize("timeout", ["soon", "-1"])
def test_a_time_that_is_none_is_refused(store: str, cli: Cli, timeout: str) -> None:
    answer = cli("task", "wait", sent(store, "greet", "Ada"), f"--timeout={timeout}")

    assert answer.code == Exit.USAGE
    assert "--timeout" in answer.err


def test_somebody_at_a_terminal_sees_a_bar(store: str, work: Work) -> None:
    key = sent(store, "greet", "Ada")
    work(1)

    code, seen = at_terminal("task", "wait", key, "--url", store)

    assert code == Exit.OK
    assert "[" in seen
    assert "Hello Ada" in seen


def test_the_bench_says_what_it_measured_and_leaves_nothing_behind(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "SINGLE", 10)
    monkeypatch.setattr(benchmark, "CROWD", 100)
    monkeypatch.setattr(benchmark, "DELAYS", 3)

    table = cli("bench", "--dir", str(tmp_path), "--count", "1000")
    figures = cli("bench", "--memory", "--count", "1000", "--json").document

    assert table.code == Exit.OK
    for word in ("send ", "send concurrently", "send many", "drain", "start p50", "start p99"):
        assert word in table.out
    assert figures["engine"] == "memory"
    assert figures["drain"]["unit"] == "/s"
    assert figures["drain"]["value"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--count", "5"), ("--dir", "/nowhere/at/all"), ("--count", "many")])
def test_a_bench_that_cannot_be_is_refused(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("bench", *words).code == Exit.USAGE
