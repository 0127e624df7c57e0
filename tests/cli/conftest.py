"""A command line without a process of its own, on a store of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from forebay import App
from forebay.cli.program import run
from tests.cli.kit import Answer, Cli, Work, shop


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no project file of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("FOREBAY_") or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store, which commands use."""
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    monkeypatch.setenv("FOREBAY_URL", url)
    with App(url) as app:
        app.sync(app.count())
    return url


@pytest.fixture
def work(store: str) -> Work:
    """Work until so many tries have been judged."""

    async def work_off(tries: int) -> None:
        app = shop(store)
        worker = app.worker()
        seen: list[object] = []

        def judged(delivery: object, verdict: object) -> None:
            seen.append(verdict)
            if len(seen) == tries:
                worker.stop()

        worker.on_verdict.append(judged)
        await worker.run()

    return lambda tries: asyncio.run(work_off(tries))


@pytest.fixture
def subscribed(store: str) -> str:
    """The store, with the shop's queues declared."""

    async def declare() -> None:
        async with shop(store):
            pass

    asyncio.run(declare())
    return store
