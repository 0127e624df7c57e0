"""Every error has a code, a place in the printed tree, and a section on the page."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay import errors
from forebay.errors import ForebayError, told
from forebay.support.logs import Objects
from forebay.support.settings import SETTINGS
from scripts import check_docs, pages
from tests.cli.kit import Cli
from tests.cli.test_program import commands
from tests.docs.reading import ROOT

KINDS = pages.kinds()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    from forebay.cli.program import run
    from tests.cli.kit import Answer

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call


def test_every_error_has_a_code_of_its_own() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code) for kind in KINDS)
    assert max(Counter(kind.code for kind in KINDS).values()) == 1
    assert errors.QueueFull.code == "queue-full"


def test_an_error_of_somebody_elses_has_the_code_it_says_or_that_of_its_name() -> None:
    class HTTPGone(ForebayError):
        code = "http-gone"

    class NoLuck(ForebayError):
        pass

    assert (HTTPGone.code, NoLuck.code) == ("http-gone", "no-luck")


def test_codes_that_are_out_in_the_world_stay() -> None:
    known = {
        "config-error", "engine-error", "engine-refused", "engine-unavailable", "forebay-error", "invalid-arguments", "invalid-name",
        "invalid-option", "message-too-large", "missing-extra", "name-taken", "not-open", "not-serialisable", "outcome-unknown",
        "queue-full", "result-timeout", "send-error", "storage-full", "task-cancelled", "task-dead", "task-error", "task-expired",
        "task-not-found", "unsupported",
    }  # fmt: skip

    assert known <= {kind.code for kind in KINDS}


def test_the_tree_in_the_module_is_the_tree_of_the_classes() -> None:
    def drawn() -> Iterator[tuple[int, str]]:
        for line in (errors.__doc__ or "").splitlines():
            if found := re.match(r"([│├└─ ]*)([A-Z]\w+Error|(?<=─ )[A-Z]\w+|[A-Z]\w+)(?:  |$)", line):
                yield len(found[1]) // 4, found[2]

    def real(kind: type[ForebayError], depth: int) -> Iterator[tuple[int, str]]:
        yield depth, kind.__name__
        for below in kind.__subclasses__():
            if below.__module__ == errors.__name__:
                yield from real(below, depth + 1)

    assert list(drawn()) == list(real(ForebayError, 0))


def test_the_page_of_errors_explains_every_code() -> None:
    assert check_docs.unexplained_errors() == []


def test_every_page_that_is_drawn_is_as_the_code_says() -> None:
    assert check_docs.stale_blocks(write=False) == []


def test_the_pages_of_commands_and_settings_leave_nothing_out() -> None:
    lines = (ROOT / "docs" / "cli.md").read_text("utf-8").splitlines()
    shown = (ROOT / "docs" / "settings.md").read_text("utf-8")

    assert {" ".join(("forebay", *words)) for words in commands()} <= {line.lstrip("# ") for line in lines}
    assert all(f"`{setting.variable}`" in shown for setting in SETTINGS)


def test_no_terminal_has_a_say_in_the_page_of_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wide = pages.commands()
    monkeypatch.setenv("COLUMNS", "20")

    assert pages.commands() == wide


def test_a_page_that_is_stale_is_noticed_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- x:begin -->\nold\n<!-- x:end -->\nrest\n")
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    monkeypatch.setattr(
        check_docs, "GENERATED", {"page.md": {"x": lambda: "new"}, "gone.md": {"y": lambda: "z"}}
    )

    stale, missing = check_docs.stale_blocks(write=False)
    check_docs.stale_blocks(write=True)

    assert "page.md: the block x" in stale
    assert "gone.md: is missing" in missing
    assert page.read_text() == "# Page\n<!-- x:begin -->\nnew\n<!-- x:end -->\nrest\n"


def test_the_command_line_shows_the_code_behind_the_sentence(cli: Cli) -> None:
    answer = cli("task", "list", "--url", "nonsense")

    assert answer.err.startswith("forebay: 'nonsense' is not an engine URL")
    assert answer.err.endswith("  [config-error]\n")


def test_a_command_told_json_says_its_error_as_an_object(cli: Cli) -> None:
    answer = cli("task", "list", "--url", "nonsense", "--json")
    said = json.loads(answer.err)

    assert answer.out == ""
    assert (said["error"], said["exit"], answer.code) == ("config-error", 2, 2)
    assert said["message"].startswith("'nonsense' is not an engine URL")


def test_a_command_line_that_cannot_be_is_an_object_too_if_json_was_asked_for(cli: Cli) -> None:
    answer = cli("task", "list", "--nope", "--json")

    said = json.loads(answer.err)

    assert (said["error"], said["exit"], answer.code) == ("usage", 2, 2)
    assert said["message"].startswith("No such option '--nope'")


def test_an_argument_that_looks_like_the_option_asks_for_no_json(cli: Cli) -> None:
    answer = cli("send", "greet", "--url", "nonsense", "--", "--json")

    assert answer.err.startswith("forebay: 'nonsense'")


def test_a_log_carries_the_code_of_an_error_of_ours() -> None:
    record = logging.makeLogRecord({"msg": "settle.waits", **told(errors.StorageFull("no room"))})

    line = json.loads(Objects().format(record))

    assert (line["error"], line["code"]) == ("no room", "storage-full")
    assert told(OSError("gone")) == {"error": "gone"}
