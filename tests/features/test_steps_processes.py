"""Durable steps of handlers that run in processes of their own."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from forebay.engine import Ask, Source
from forebay.errors import TaskDead
from forebay.model.query import HandBack, Selector
from forebay.support.ids import new_token
from tests.runtime.kit import story, working

if TYPE_CHECKING:
    from pathlib import Path


def stepped(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the App, as a program that is started anew would have it."""
    monkeypatch.setenv("STEPPED_URL", url)
    monkeypatch.delitem(sys.modules, "tests.features.stepped", raising=False)
    return import_module("tests.features.stepped")


def lines(folder: Path, what: str) -> list[str]:
    return (folder / what).read_text().splitlines()


@story
async def test_a_process_that_dies_leaves_the_steps_that_it_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stepped(f"sqlite:///{tmp_path / 'pool.db'}", monkeypatch)
    async with working(module.app):
        handle = await module.plain.send(str(tmp_path))
        assert await handle.result("20s") == ["charge", "alive"]
        record = await handle.status()

    assert record.crashes == 1
    assert len(lines(tmp_path, "charge")) == 1
    assert len(lines(tmp_path, "die")) == 2
    assert str(os.getpid()) not in lines(tmp_path, "charge")


@story
async def test_a_suspect_goes_on_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stepped(f"sqlite:///{tmp_path / 'suspect.db'}", monkeypatch)
    async with module.app as app:
        handle = await module.later.send(str(tmp_path))
        store = app.plant().engine.connect("gone", app.plant().clock)
        try:
            await store.declare([])
            await store.receive([Ask(Source(queue="stepped"), new_token(), 1)], wait=0)
        finally:
            await store.close()
        await app.steer(Selector(), HandBack("gone"))
    async with working(module.app):
        assert await handle.result("20s") == "charge"

    (pid,) = lines(tmp_path, "charge")
    assert pid != str(os.getpid())


@story
async def test_a_memory_store_is_out_of_reach_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stepped("memory://", monkeypatch)
    async with working(module.app):
        handle = await module.plain.send(str(tmp_path))
        with pytest.raises(
            TaskDead, match="Unsupported: plain: steps are kept in a store, and there is none here"
        ):
            await handle.result("20s")
