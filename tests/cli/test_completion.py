"""What a shell is told when somebody presses Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.cli.exits import Exit
from tests.cli.kit import Cli


def completed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What bash would be offered for the last of the words."""
    return subprocess.run(
        [sys.executable, "-m", "forebay"],
        env={
            **os.environ, "_FOREBAY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("forebay", *words)),
            "COMP_CWORD": str(len(words)), **environment,
        },
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def offered(*words: str, **environment: str) -> list[str]:
    return [line.partition(",")[2] for line in completed(*words, **environment).stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str, cli: Cli) -> None:
    answer = cli("completion", shell)

    assert (answer.code, answer.err) == (Exit.OK, "")
    assert f"_FOREBAY_COMPLETE={shell}_complete" in answer.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_itself_can_read_its_script(shell: str, cli: Cli, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(cli("completion", shell).out)

    assert subprocess.run([shell, "-n", script], check=False).returncode == 0


def test_another_shell_is_refused(cli: Cli) -> None:
    assert cli("completion", "cmd").code == Exit.USAGE


def test_commands_options_and_values_are_offered() -> None:
    assert "task" in offered("ta")
    assert set(offered("task", "re")) == {"retry"}
    assert "--dry-run" in offered("task", "retry", "--dr")
    assert offered("task", "list", "--state", "de") == ["dead"]


@pytest.mark.parametrize(
    "url", ["sqlite:///missing.db", "nonsense", "memory://", "sqlite:////proc/none/x.db"]
)
def test_whatever_the_engine_is_nothing_is_made_and_nothing_raised(url: str, tmp_path: Path) -> None:
    answer = completed("queue", "show", "", FOREBAY_URL=url)

    assert answer.stderr == ""
    assert list(tmp_path.iterdir()) == []
