"""`forebay workers`."""

from __future__ import annotations

import asyncio

from forebay import App
from forebay.model.survey import Presence
from tests.cli.kit import Cli

HERE = Presence(host="h1", pid=7, version="1.0", queues=("mail", "x\x1b[31m"), slots=10, running=2)


async def say(url: str) -> None:
    """Say that a worker is there."""
    async with App(url) as app:
        await (await app._client.link()).store.attend(HERE)


def test_workers_shows_who_is_there(store: str, cli: Cli) -> None:
    assert cli("workers").out.split() == ["worker", "host", "pid", "busy", "up", "heard", "version", "queues"]

    asyncio.run(say(store))
    _, line = cli("workers").out.splitlines()
    (one,) = cli("workers", "--json").document

    assert line.split()[0] == one["worker"]
    assert line.split()[1:4] == ["h1", "7", "2/10"]
    assert "\x1b" not in line
    assert (one["host"], one["pid"], one["version"], one["queues"]) == ("h1", 7, "1.0", list(HERE.queues))
    assert (one["slots"], one["running"]) == (10, 2)
    assert one["started"] == one["seen"]
