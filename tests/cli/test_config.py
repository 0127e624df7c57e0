"""`forebay config show`, and what may be seen of a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.cli.exits import Exit
from forebay.support.masking import without_secrets
from forebay.support.settings import SETTINGS
from tests.cli.kit import Cli


def test_every_setting_is_shown_with_its_origin(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.forebay]\nlease = "60s"\nlog_level = "debug"\n')
    monkeypatch.setenv("FOREBAY_LOG_LEVEL", "error")

    shown = {one["name"]: one for one in cli("config", "show", "--json").document}

    assert set(shown) == {setting.name for setting in SETTINGS}
    assert (shown["lease"]["value"], shown["lease"]["origin"]) == (
        "60s",
        f"[tool.forebay] in {tmp_path / 'pyproject.toml'}",
    )
    assert (shown["log_level"]["value"], shown["log_level"]["origin"]) == (
        "error",
        "environment FOREBAY_LOG_LEVEL",
    )
    assert (shown["concurrency"]["value"], shown["concurrency"]["origin"]) == ("100", "default")


def test_people_get_a_table(cli: Cli) -> None:
    lines = cli("config", "show").out.splitlines()

    assert lines[0].split() == ["setting", "value", "origin", "meaning"]
    assert any(line.startswith("url ") and "sqlite:///forebay.db" in line for line in lines)


def test_passwords_are_never_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_URL", "postgresql://ada:lovelace@db/jobs")

    for words in (["config", "show"], ["config", "show", "--json"], ["task", "list"]):
        answer = cli(*words)

        assert "lovelace" not in answer.out + answer.err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////data/me@here/jobs.db?network=allow", "sqlite:////data/me@here/jobs.db?network=allow"),
        ("postgresql://ada:lovelace@db/jobs", "postgresql://ada:***@db/jobs"),
        ("postgresql://ada:love@ace://x@db/jobs", "postgresql://ada:***@db/jobs"),
        ("redis://:lovelace@db:6379/0", "redis://:***@db:6379/0"),
        ("amqp://db/?auth_token=abc&heartbeat=5", "amqp://db/?auth_token=***&heartbeat=5"),
        ("ada:lovelace@db", "ada:***@db"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_a_setting_that_does_not_exist_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.forebay]\nleese = 1\n")

    answer = cli("config", "show")

    assert answer.code == Exit.USAGE
    assert "has no setting 'leese'" in answer.err
