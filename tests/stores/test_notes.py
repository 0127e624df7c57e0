"""Notes: a bounded number of them, and other processes hear of a change at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.engine import Noted
from forebay.errors import InvalidOption
from forebay.model.note import Note, Notes, Revision
from forebay.stores import notes
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.testing.clock import Probe, VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Engine, Store


def new(*names: str) -> list[Revision]:
    return [Revision(Note(kind="thing", name=name, body=b"1")) for name in names]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_there_are_no_more_notes_of_a_kind_than_a_store_keeps(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "MOST_NOTES", 5)
    engine: Engine = MemoryEngine() if kind == "memory" else SqliteEngine(tmp_path / "n.db")

    async def story() -> None:
        store: Store = engine.connect("one", VirtualClock())  # type: ignore[assignment]  # both are stores
        await store.declare([])
        await store.note(new("a", "b", "c"))
        with pytest.raises(InvalidOption, match="no more are kept"):
            await store.note(new("d", "e", "f"))
        assert len(await store.survey(Notes(kind="thing"))) == 3, "all of a batch, or nothing"
        assert all(answer.changed for answer in await store.note(new("d", "e")))
        await store.note([Revision(Note(kind="other", name="f", body=b"1"))])
        await store.close()

    asyncio.run(story())


def test_another_process_hears_of_a_change_without_a_poll(tmp_path: Path) -> None:
    told, clock = Probe[None]("told"), VirtualClock()

    async def story() -> None:
        # Two engines know nothing of each other, as in two processes; and on this clock nobody polls.
        here, there = (SqliteEngine(tmp_path / "n.db").connect(name, clock) for name in ("here", "there"))
        await here.declare([])
        await there.declare([])

        async def watch() -> None:
            async for _ in there.watch(Noted("thing")):
                told.hit(None)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            await told.wait(1)
            await here.note([Revision(Note(kind="other", name="a", body=b"1"))])
            await here.note(new("a"))
            await told.wait(2)
            watching.cancel()
        await here.close()
        await there.close()

    asyncio.run(story())
