"""The pages hold what they say: their programs run, their command lines can be given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.docs.reading import PAGES, ROOT, blocks, files_of, mentions, parse, program_of, sessions

ALONE = Path(__file__).parent / "alone"
TEXTS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}
PROGRAMS = [name for name, text in TEXTS.items() if program_of(text)]


def run(code: str, folder: Path, *, seconds: int = 30) -> subprocess.CompletedProcess[str]:
    """Run a program as a reader would, in an empty folder and without a network."""
    (folder / "page.py").write_text(code, "utf-8")
    settings = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    return subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env={
            **settings,
            "PYTHONPATH": str(ALONE),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_blocks_of_a_page_are_one_program_that_runs(name: str, tmp_path: Path) -> None:
    for path, text in files_of(TEXTS[name]).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    done = run(program_of(TEXTS[name]), tmp_path)

    assert done.returncode == 0, done.stderr


def test_a_program_that_fails_is_noticed(tmp_path: Path) -> None:
    assert run("print(greet)\n", tmp_path).returncode == 1


def test_a_page_cannot_call_another_machine(tmp_path: Path) -> None:
    done = run("import socket\nsocket.create_connection(('192.0.2.1', 9), timeout=1)\n", tmp_path)

    assert "a page" in done.stderr


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_line_of_a_page_can_be_given(name: str) -> None:
    for words in sessions(TEXTS[name]):
        try:
            parse(words, whole=True)
        except click.ClickException as error:
            pytest.fail(f"{name}: forebay {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_in_the_text_of_a_page_exists(name: str) -> None:
    for words in mentions(TEXTS[name]):
        try:
            parse(words, whole=False)
        except click.ClickException as error:
            pytest.fail(f"{name}: forebay {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(
    "line",
    [
        "forebay tsak list",
        "forebay task lsit",
        "forebay worker shop:app --procesess 4",
        "forebay worker",
        "forebay task list --state gone",
        "FOREBAY_URL=x forebay task list --nope | jq .",
    ],
)
def test_a_command_line_that_cannot_be_given_is_noticed(line: str) -> None:
    ((words),) = sessions(f"```console\n$ {line}\n```")

    with pytest.raises(click.ClickException):
        parse(words, whole=True)


def test_shell_sessions_are_read_as_a_shell_reads_them() -> None:
    page = "```console\n$ A=1 forebay task list --json | jq '.[] | .id'  # all\nforebay nonsense\n$ make demo; forebay top > x\n```"

    assert list(sessions(page)) == [["task", "list", "--json"], ["top"]]


def test_every_python_block_of_a_page_is_found() -> None:
    for name, text in TEXTS.items():
        assert len(blocks(text, "python")) == text.count("\n```python\n"), name


EVENT = re.compile(
    r'\blog\.\w+\(\s*(?:[^"()]*,\s*)?"([a-z]+\.[a-z_]+)"|logging\.[A-Z]+, "([a-z]+\.[a-z_]+)"|args=\("([a-z]+\.[a-z_]+)",\)'
)


def test_every_event_of_the_log_is_explained() -> None:
    told = TEXTS["docs/operations.md"]
    files = [path for path in (ROOT / "src" / "forebay").rglob("*.py") if "testing" not in path.parts]
    events = {"".join(found) for path in files for found in EVENT.findall(path.read_text("utf-8"))}

    assert {"task.dead", "loop.blocked", "settle.stale", "process.ended"} <= events
    assert sorted(event for event in events if f"`{event}`" not in told) == []


STEP = re.compile(r"^\| `([a-z_/]+\.py)` \| `(\w+)` \|", re.MULTILINE)


def test_the_path_of_a_message_leads_through_names_that_exist() -> None:
    steps = STEP.findall(TEXTS["docs/a-message.md"])

    assert len(steps) > 15
    for file, name in steps:
        code = (ROOT / "src" / "forebay" / file).read_text("utf-8")
        assert re.search(rf"^(?:class|def|async def) {name}\b", code, re.MULTILINE), f"{file} has no {name}"
