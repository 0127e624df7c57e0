"""Looking for few among many is done in bounded steps, and is right wherever a step ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import apsw
import msgspec
import pytest

from forebay.engine import Ask, Settlement, Source
from forebay.errors import InvalidOption
from forebay.model import query as q, verdict as v
from forebay.model.message import Message, MessageId
from forebay.model.state import State
from forebay.model.survey import Group, Groups
from forebay.model.when import SECOND
from forebay.stores import asked
from forebay.stores.sqlite import SqliteEngine, queries
from forebay.stores.sqlite.connection import APPLICATION, migrations
from forebay.support.ids import Token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Store

MANY = 500


async def filled(path: Path, clock: VirtualClock) -> Store:
    """Many messages, a second apart by fives; every hundredth is rare; the first ten are dead, the next hundred have succeeded."""
    store = SqliteEngine(path).connect("one", clock)
    await store.declare([Source(queue="a")])
    for start in range(0, MANY, 5):
        numbers = range(start, start + 5)
        await store.publish(
            [
                Message(
                    id=MessageId(f"m{n:04}"),
                    name="often" if n % 100 else "rare",
                    queue="a",
                    key=None if n % 50 else "k",
                )
                for n in numbers
            ]
        )
        await clock.advance(SECOND)
    taken = await store.receive([Ask(Source(queue="a"), Token("t"), 110)], wait=0)
    dead, done = v.Dead(v.Reason.ASKED, v.Failure("Boom", "")), v.Done()
    ends: list[v.Verdict] = [*[dead] * 10, *[done] * 100]
    await store.settle([Settlement(d, end) for d, end in zip(taken, ends, strict=True)])
    return store


async def found(store: Store, which: q.Selector, *, oldest_first: bool, size: int = 3) -> list[str]:
    ids, query = list[str](), q.Query(which=which, size=size, oldest_first=oldest_first)
    while True:
        page = await store.find(query)
        ids += [record.id for record in page.records]
        if page.next is None:
            return ids
        assert len(page.records) == size
        query = q.Query(which=which, size=size, oldest_first=oldest_first, cursor=page.next)


@pytest.mark.parametrize("walk", [2, 7, 100, 50_000])
@pytest.mark.parametrize("few", [1, 20_000])
def test_pages_groups_and_commands_are_whole_wherever_a_step_ends(
    walk: int, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "WALK", walk)
    monkeypatch.setattr(queries, "FEW", few)
    dead, ready = frozenset({State.DEAD}), frozenset({State.READY, State.RUNNING})

    async def story() -> None:
        clock = VirtualClock()
        began = clock.now()
        store = await filled(tmp_path / "w.db", clock)
        expected = {
            q.Selector(name="rare"): [f"m{n:04}" for n in range(0, MANY, 100)],
            q.Selector(key="k", states=ready): [f"m{n:04}" for n in range(150, MANY, 50)],
            q.Selector(states=dead): [f"m{n:04}" for n in range(10)],
            q.Selector(error="Boom", name="often"): [f"m{n:04}" for n in range(1, 10)],
            q.Selector(states=ready, name="rare"): ["m0200", "m0300", "m0400"],
            q.Selector(created_since=began + 3 * SECOND, created_before=began + 5 * SECOND): [
                f"m{n:04}" for n in range(15, 25)
            ],
            q.Selector(created_since=began + 3 * SECOND, name="rare"): ["m0100", "m0200", "m0300", "m0400"],
            q.Selector(name="nobody"): [],
        }
        for which, ids in expected.items():
            assert await found(store, which, oldest_first=True) == ids, which
            assert await found(store, which, oldest_first=False) == ids[::-1], which
        assert await store.survey(Groups(by=q.By.NAME)) == (Group("often", 495), Group("rare", 5))
        told = await store.steer(q.Selector(name="rare", limit=3), q.Delete())
        assert told.changed == 3
        assert await found(store, q.Selector(name="rare"), oldest_first=True) == ["m0300", "m0400"]
        assert (await store.steer(q.Selector(name="rare"), q.CancelNow())).changed == 2
        await store.close()

    asyncio.run(story())


def test_a_count_of_groups_that_would_look_at_too_many_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "MOST_WALKED", 100)
    monkeypatch.setattr(queries, "WALK", 30)

    async def story() -> None:
        store = await filled(tmp_path / "w.db", VirtualClock())
        with pytest.raises(InvalidOption, match="narrow it by"):
            await store.survey(Groups(by=q.By.NAME))
        assert len(await store.survey(Groups(by=q.By.NAME, which=q.Selector(error="Boom")))) == 2
        assert sum(group.number for group in await store.survey(Groups(by=q.By.STATE))) == MANY
        await store.close()

    asyncio.run(story())


def test_what_an_older_version_has_stored_is_found_by_name_key_and_error(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with apsw.Connection(str(path)) as old:
        for step in migrations()[:4]:
            old.execute(step)
        old.pragma("application_id", APPLICATION)
        old.pragma("user_version", 4)
        for seq, state in ((1, "dead"), (2, "ready")):
            old.execute(
                "INSERT INTO message (seq, id, name, queue, body, key, priority, copies) VALUES (?, ?, 'red', 'a', x'', 'k', 4, 1)",
                (seq, f"m{seq}"),
            )
            old.execute(
                "INSERT INTO entry (seq, message, id, queue, state, priority, created, tries) VALUES (?, ?, ?, 'a', ?, 4, 0, 2)",
                (seq, seq, f"m{seq}", state),
            )
        for number, error in ((1, "Boom"), (2, "Bang")):
            told = msgspec.json.encode({"type": error, "message": "", "fingerprint": error.lower()}).decode()
            old.execute("INSERT INTO try VALUES (1, ?, 'w', 0, 0, 'retry', ?)", (number, told))
    old.close()

    async def story() -> None:
        store = SqliteEngine(path).connect("one", VirtualClock())
        await store.declare([Source(queue="a")])
        assert await found(store, q.Selector(name="red"), oldest_first=True) == ["m1", "m2"]
        assert await found(store, q.Selector(key="k"), oldest_first=True) == ["m1", "m2"]
        assert await found(store, q.Selector(error="Bang", fingerprint="bang"), oldest_first=True) == ["m1"]
        assert await found(store, q.Selector(error="Boom"), oldest_first=True) == []
        await store.close()

    asyncio.run(story())
