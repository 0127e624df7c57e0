"""`forebay audit`."""

from __future__ import annotations

import getpass

import pytest

from forebay.cli.actor import actor
from forebay.model.query import UNKNOWN
from tests.cli.kit import Cli


def test_commands_are_listed_with_who_gave_them(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ana\x1b[31m")
    key = cli("send", "greet", "Ada", "--queue", "mail").out.strip()
    assert cli("queue", "pause", "mail").code == 0
    assert cli("task", "cancel", key, "--yes").code == 0

    head, cancelled, paused = cli("audit").out.splitlines()
    document = cli("audit", "--json").document

    assert head.split() == ["when", "who", "via", "command", "changed", "asked", "skipped", "which"]
    assert "CancelNow" in cancelled
    assert cancelled.endswith("1 by id")
    assert "Pause" in paused
    assert paused.endswith("queue=mail")
    assert "\x1b" not in paused
    assert [one["command"]["type"] for one in document] == ["CancelNow", "Pause"]
    assert document[0]["which"] == {"ids": [key]}
    assert document[0]["by"] == {"name": "ana\x1b[31m", "via": "command line", "why": ""}
    assert document[0]["done"] == {"changed": 1, "asked": 0, "skipped": {}}
    assert len(cli("audit", "--limit", "1", "--json").document) == 1


def test_who_has_no_name_gives_commands_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)

    assert actor().name == UNKNOWN.name
