"""The command itself: help, exit codes, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from forebay import __version__, errors
from forebay.cli import program as room
from forebay.cli.exits import MEANINGS, Exit, code_of
from forebay.cli.program import HOMES, program
from tests.cli.kit import Cli


def commands(group: click.Group = program, *above: str) -> Iterator[tuple[str, ...]]:
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None, name
            if isinstance(command, click.Group):
                yield from commands(command, *above, name)
            else:
                yield (*above, name)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from forebay.cli.program import run; run(['--help']);"
        "print([m for m in ('asyncio', 'msgspec', 'rich', 'apsw', 'logging', 'forebay.cli.task') if m in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"


def test_help_names_every_command_and_every_exit_code(cli: Cli) -> None:
    answer = cli("--help")

    assert answer.code == Exit.OK
    for name in HOMES:
        assert f"  {name} " in answer.out
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>3}  {meaning}" in answer.out
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: tuple[str, ...], cli: Cli) -> None:
    answer = cli(*words, "--help")

    assert answer.code == Exit.OK
    assert "Example" in answer.out
    assert f"forebay {' '.join(words)}" in answer.out.partition("Example")[2]
    assert max(map(len, answer.out.splitlines())) <= 100


@pytest.mark.parametrize("words", [("--version",), ("version",)], ids=str)
def test_it_knows_its_version(words: tuple[str, ...], cli: Cli) -> None:
    assert cli(*words).out == f"forebay {__version__}\n"


def test_the_version_is_a_document_too(cli: Cli) -> None:
    assert cli("version", "--json").document["forebay"] == __version__


@pytest.mark.parametrize(
    ("words", "meant"), [(("taks",), "task"), (("dead", "lsit"), "list"), (("xyz",), "")]
)
def test_a_misspelt_command_is_answered_with_the_nearest(
    words: tuple[str, ...], meant: str, cli: Cli
) -> None:
    answer = cli(*words)

    assert answer.code == Exit.USAGE
    assert answer.err.endswith(f" Did you mean {meant!r}?\n" if meant else f"No such command {words[0]!r}.\n")


def test_an_unknown_command_is_wrong_usage(cli: Cli) -> None:
    answer = cli("tsak")

    assert answer.code == Exit.USAGE
    assert answer.out == ""
    assert "tsak" in answer.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.OutcomeUnknown("?"), Exit.UNKNOWN),
        (errors.EngineRefused("?"), Exit.ENGINE),
        (errors.EngineUnavailable("?"), Exit.ENGINE),
        (errors.StorageFull("?"), Exit.ENGINE),
        (errors.InvalidName("?"), Exit.USAGE),
        (errors.Unsupported("?"), Exit.USAGE),
        (errors.MessageTooLarge("?"), Exit.USAGE),
        (errors.QueueFull("?", retry_after=1), Exit.FULL),
        (errors.TaskNotFound("?", task_id="x"), Exit.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_of_ours_has_its_code(error: errors.ForebayError, code: Exit) -> None:
    assert code_of(error) is code


def test_an_error_is_one_sentence_and_no_traceback(cli: Cli) -> None:
    answer = cli("task", "list", "--url", "nonsense")

    assert answer.code == Exit.USAGE
    assert answer.out == ""
    assert answer.err.startswith("forebay: 'nonsense' is not an engine URL")
    assert answer.err.count("\n") == 1


def test_debugging_lets_errors_through(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_DEBUG", "1")

    with pytest.raises(errors.ConfigError):
        cli("task", "list", "--url", "nonsense")


def test_an_interrupt_has_a_code_of_its_own(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(room.program, "main", interrupted)

    answer = cli("task", "list")

    assert answer.code == Exit.INTERRUPTED
    assert answer.err == "forebay: interrupted.\n"


def test_a_reader_that_goes_away_is_no_error(store: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    with subprocess.Popen(
        [sys.executable, "-m", "forebay", "config", "show"], stdout=writer, stderr=subprocess.PIPE, text=True
    ) as child:
        os.close(writer)
        _out, err = child.communicate()

    assert (child.returncode, err) == (Exit.PIPE, "")


def test_commands_do_not_make_a_database(tmp_path: Path, cli: Cli) -> None:
    for words in (
        ["task", "list"],
        ["queue", "list"],
        ["dead", "list"],
        ["send", "greet"],
        ["publish", "a.b", "1"],
    ):
        answer = cli(*words)

        assert answer.code == Exit.ENGINE
        assert answer.err.startswith(f"forebay: There is no database file {tmp_path / 'forebay.db'}")
    assert list(tmp_path.iterdir()) == []


def test_commands_say_that_there_was_a_database(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "forebay.db.lock").write_text("It was made.")

    answer = cli("task", "list")

    assert answer.code == Exit.ENGINE
    assert "but there was one" in answer.err
    assert not (tmp_path / "forebay.db").exists()


def test_a_store_in_memory_is_of_no_use_to_commands(cli: Cli) -> None:
    answer = cli("task", "list", "--url", "memory://")

    assert answer.code == Exit.USAGE
    assert "lives inside one process" in answer.err


@pytest.mark.parametrize("noun", sorted({path[0] for path in commands() if len(path) > 1}))
def test_the_list_of_commands_names_every_verb_of_a_group(noun: str) -> None:
    group = program.get_command(click.Context(program), noun)

    assert isinstance(group, click.Group)
    told = HOMES[noun][1].partition(":")[0].rstrip(".").split(", ")
    assert sorted(told) == sorted(group.commands)
