"""Events that more wait for than one transaction wakes: what is left survives its process, and goes on in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forebay.engine import Ask, Settlement, Source
from forebay.model import verdict as v
from forebay.model.message import Message, MessageId
from forebay.model.saved import Kind, SavedStep
from forebay.model.when import SECOND, At
from forebay.stores.sqlite import SqliteEngine
from forebay.stores.sqlite.thread import DatabaseThread
from forebay.support.ids import new_token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.stores.sqlite.store import SqliteStore

NUMBER = 2_500
DAY = 86_400 * SECOND


async def waiters(store: SqliteStore, clock: VirtualClock, name: str, number: int) -> list[str]:
    """Messages whose handlers have left their tries to wait for news."""
    messages = [Message(id=MessageId(f"{name}{n}"), name="job", queue=name) for n in range(number)]
    await store.publish(messages)
    deliveries = await store.receive([Ask(Source(queue=name), new_token(), number)], wait=0)
    due = clock.now() + DAY
    wait = SavedStep(name="news", kind=Kind.WAIT, due=due, topic="news")
    await asyncio.gather(*(store.save(delivery, [wait]) for delivery in deliveries))
    await store.settle([Settlement(delivery, v.Snooze(At(due), awaits=True)) for delivery in deliveries])
    return [delivery.id for delivery in deliveries]


def news(body: bytes) -> Message:
    return Message(id=MessageId(f"e{body.decode()}"), name="news", topic="news", body=body)


async def bodies(store: SqliteStore, keys: list[str]) -> Counter[bytes | None]:
    return Counter([(await store.saved(key))[0].body for key in keys])  # type: ignore[arg-type]  # ids as words


def test_what_is_left_of_an_event_survives_its_process_and_goes_on_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DatabaseThread, "_follow_up", lambda _: None)  # as if it had died after each commit

    async def story() -> None:
        clock = VirtualClock()
        store = SqliteEngine(tmp_path / "news.db").connect("one", clock)
        await store.declare([])
        first = await waiters(store, clock, "a", NUMBER)
        await store.publish([news(b"1")])
        late = await waiters(store, clock, "b", 3)
        await store.publish([news(b"2")])
        assert await bodies(store, first) == {b"1": 1_000, None: NUMBER - 1_000}
        await store.close()

        store = SqliteEngine(tmp_path / "news.db").connect("two", clock)
        await store.declare([])
        try:
            sweeps = 0
            while (await store.sweep(1_000)).more:
                sweeps += 1
            assert sweeps >= 1, "no more than a thousand at a time"
            assert await bodies(store, first) == {b"1": NUMBER}, (
                "the first event, for all who waited when it came"
            )
            assert await bodies(store, late) == {b"2": 3}, "who came later has not seen the one before"
        finally:
            await store.close()

    asyncio.run(story())


def test_what_is_left_of_an_event_goes_on_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        clock = VirtualClock()
        store = SqliteEngine(tmp_path / "news.db").connect("one", clock)
        await store.declare([])
        try:
            keys = await waiters(store, clock, "a", NUMBER)
            await store.publish([news(b"1")])
            for _ in range(5):
                await store.count()  # whatever stands in line before it has been done after this
                await store.saved(keys[0])  # type: ignore[arg-type]  # ids as words
            assert await bodies(store, keys) == {b"1": NUMBER}
        finally:
            await store.close()

    asyncio.run(story())
