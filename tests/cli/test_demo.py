"""`forebay demo` is the real thing: two processes, one of them killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from forebay.cli.exits import Exit
from tests.cli.kit import Cli


def test_it_kills_a_worker_and_proves_that_nothing_was_lost(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    answer = cli("demo", "--tasks", "300")

    assert answer.code == Exit.OK, answer
    assert "is killed (SIGKILL)" in answer.out
    assert "300 of 300 tasks have succeeded" in answer.out
    assert "300 of 300 numbers stand in the workers' notebook, 0 are missing" in answer.out
    assert "Nothing was lost." in answer.out
    assert list(tmp_path.iterdir()) == []


def test_it_leaves_the_files_when_asked(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    answer = cli("demo", "--tasks", "100", "--keep")

    (folder,) = tmp_path.iterdir()
    assert str(folder) in answer.err
    assert (
        len(cli("task", "list", "--limit", "200", "--json", "--url", f"sqlite:///{folder}/demo.db").document)
        == 100
    )
