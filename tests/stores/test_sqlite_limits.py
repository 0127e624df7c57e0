"""Limits on a SQLite file: one process is exact, several nearly so; who has none pays nothing, and nobody counts more than he must."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, cast

import apsw
import pytest

from forebay.engine import Ask, Settlement, Source, Stored
from forebay.model.message import Message
from forebay.model.query import HandBack, Redrive, Selector, Steered
from forebay.model.rule import Rule, Rules
from forebay.model.state import State
from forebay.model.verdict import Dead, Done, Failure, Reason, Release, Retry
from forebay.model.when import SECOND, After
from forebay.stores.sqlite import SqliteEngine
from forebay.stores.sqlite.claim import put_back
from forebay.stores.sqlite.connection import APPLICATION, migrations
from forebay.stores.sqlite.publish import admit
from forebay.stores.sqlite.session import Session
from forebay.stores.sqlite.tally import FEW, SHARE, Cap, Tally
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids, new_token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from forebay.engine import Published
    from forebay.stores.sqlite.session import Row, Value

IDS = Ids()
LARGE = 2_000
FLOOD = """
import asyncio, json, sys
from forebay.support.clock import SystemClock
from forebay.engine import Source
from forebay.support.ids import Ids
from forebay.model.message import Message
from forebay.stores.sqlite import SqliteEngine

async def main(path, number, size):
    store, ids, told = SqliteEngine(path).connect("sender", SystemClock()), Ids(), []
    await store.declare([])
    print("here", flush=True)
    sys.stdin.readline()
    for _ in range(int(number) // int(size)):
        batch = [Message(id=ids.message(), name="t", queue="mail") for _ in range(int(size))]
        told += [answer.status.value for answer in await store.publish(batch)]
    await store.close()
    print(json.dumps({status: told.count(status) for status in set(told)}))

asyncio.run(main(*sys.argv[1:]))
"""


def mail(limit: int | None) -> Source:
    return Source(queue="mail", limit=limit)


def messages(number: int, queue: str = "mail") -> list[Message]:
    return [Message(id=IDS.message(), name="t", queue=queue) for _ in range(number)]


def stored(answers: Sequence[Published]) -> int:
    return sum(answer.status is Stored.STORED for answer in answers)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Which statements were carried out, and how often."""
    found: Counter[str] = Counter()
    for name in ("rows", "row", "change", "each"):
        inner = cast("Callable[..., object]", vars(Session)[name])

        def counted(
            session: Session, statement: str, *given: object, _inner: Callable[..., object] = inner
        ) -> object:
            found[statement] += 1
            return _inner(session, statement, *given)

        monkeypatch.setattr(Session, name, counted)
    return found


# -- exact


def test_one_process_stores_as_many_as_the_limit_says(tmp_path: Path) -> None:
    async def story() -> list[int]:
        engine = SqliteEngine(tmp_path / "f.db")
        one, two = (engine.connect(name, SystemClock()) for name in ("one", "two"))
        await one.declare([mail(LARGE)])
        await two.declare([])
        sizes = [1, 700, 3, 700, 700, 1, 1]
        return [stored(await (one, two)[n % 2].publish(messages(size))) for n, size in enumerate(sizes)]

    assert asyncio.run(story()) == [1, 700, 3, 700, 596, 0, 0]


def test_what_no_limit_holds_back_is_added_to_a_count_that_is_still_good(
    tmp_path: Path, asked: Counter[str]
) -> None:
    async def story() -> list[int]:
        # On a clock that stands still a large count does not grow old.
        engine, clock = SqliteEngine(tmp_path / "f.db"), VirtualClock()
        sender, worker = (engine.connect(name, clock) for name in ("sender", "worker"))
        for store in (sender, worker):
            await store.declare([mail(LARGE)])
        await sender.publish(messages(LARGE - 100))
        taken = await worker.receive([Ask(mail(LARGE), new_token(), 30)], wait=0)
        await sender.publish(messages(1))
        asked.clear()
        # 129 more may wait; 20 and 29 of them are let in without being asked.
        await worker.settle([Settlement(taken[0], Done(), tuple(messages(20)))])
        await worker.settle(
            [Settlement(one, Retry(After(SECOND), Failure("E", "no"))) for one in taken[1:15]]
        )
        await worker.settle([Settlement(one, Release()) for one in taken[15:]])
        return [stored(await sender.publish(messages(number))) for number in (100, 1)]

    assert asyncio.run(story()) == [129 - 20 - 29, 0]
    assert asked["limit_count"] == 0


@pytest.mark.parametrize("how", ["handed back", "redriven", "put back"])
def test_what_comes_back_by_itself_or_by_hand_is_added_too(
    tmp_path: Path, asked: Counter[str], how: str
) -> None:
    async def story() -> int:
        engine, clock, token = SqliteEngine(tmp_path / "f.db"), VirtualClock(), new_token()
        sender, worker = (engine.connect(name, clock) for name in ("sender", "worker"))
        for store in (sender, worker):
            await store.declare([mail(LARGE)])
        await sender.publish(messages(LARGE - 70))
        taken = await worker.receive([Ask(mail(LARGE), token, 30)], wait=0)
        if how == "redriven":
            await worker.settle([Settlement(one, Dead(Reason.ASKED)) for one in taken])
        await sender.publish(messages(1))
        asked.clear()
        match how:
            case "handed back":
                assert await worker.steer(Selector(), HandBack("worker")) == Steered(changed=30)
            case "redriven":
                assert await worker.steer(Selector(states=frozenset({State.DEAD})), Redrive()) == Steered(
                    changed=30
                )
            case _:
                asks = [Ask(mail(LARGE), token, 30)]
                await worker._thread().submit(work=partial(put_back, asks=asks))
        return stored(await sender.publish(messages(100)))

    # Without the thirty there would be room for 99.
    assert asyncio.run(story()) == 69
    assert asked["limit_count"] == 0


def test_a_full_queue_has_room_again_once_its_count_is_old(tmp_path: Path) -> None:
    async def story() -> tuple[int, int]:
        engine, clock = SqliteEngine(tmp_path / "f.db"), VirtualClock()
        store = engine.connect("one", clock)
        await store.declare([mail(LARGE)])
        await store.publish(messages(LARGE))
        assert stored(await store.publish(messages(1))) == 0
        await store.receive([Ask(mail(LARGE), new_token(), 100)], wait=0)
        soon = stored(await store.publish(messages(1)))
        await clock.advance(LARGE)
        return soon, stored(await store.publish(messages(1)))

    # Two thousandths of a second it may still be called full, and not longer.
    assert asyncio.run(story()) == (0, 1)


# -- several processes


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("limit", "excess"), [(400, 0), (LARGE, LARGE // SHARE)])
def test_two_processes_exceed_a_limit_by_a_share_at_most(tmp_path: Path, limit: int, excess: int) -> None:
    path = tmp_path / "f.db"

    async def open_it() -> None:
        store = SqliteEngine(path).connect("owner", SystemClock())
        await store.declare([mail(limit)])
        await store.close()

    asyncio.run(open_it())
    command = [sys.executable, "-c", FLOOD, str(path), str(limit), "10"]
    senders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "here\n"
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
    told: Counter[str] = Counter()
    for sender in senders:
        told.update(json.loads(sender.communicate(timeout=50)[0]))

    assert limit <= told["stored"] <= limit + excess, told
    assert told["stored"] + told["full"] == 2 * limit


# -- what it costs


def test_who_has_no_limit_pays_nothing(tmp_path: Path, asked: Counter[str]) -> None:
    async def story() -> None:
        store = SqliteEngine(tmp_path / "f.db").connect("one", SystemClock())
        await store.declare([mail(LARGE), Source(queue="free")])
        await store.publish(messages(1, "free"))
        asked.clear()
        await store.publish(messages(1, "free"))
        await store.close()

    asyncio.run(story())

    for always in ("flow_left", "line_marked"):
        del asked[always]  # asked by each transaction that gathers others, and there may be none or two
    assert asked == {"publish_next": 1, "publish_messages": 1, "publish_plain": 1, "rate_add": 1}


def test_a_queue_that_is_far_from_full_is_counted_seldom(tmp_path: Path, asked: Counter[str]) -> None:
    async def story() -> None:
        store = SqliteEngine(tmp_path / "f.db").connect("one", VirtualClock())
        await store.declare([mail(100_000)])
        await store.publish(messages(FEW + 1))
        await store.publish(messages(1))
        asked.clear()
        for _ in range(100):
            await store.publish(messages(2))
        await store.close()

    asyncio.run(story())

    assert asked["limit_count"] == 0
    assert asked["limits"] == 0


@pytest.mark.parametrize(
    ("counted", "age", "let_in", "old"),
    [
        (FEW, 0, 0, True),
        (FEW + 1, 0, 0, False),
        (10_000, 9_999, 0, False),
        (10_000, 10_000, 0, True),
        (10_000, -1, 0, True),
        (10_000, 0, 100_000 // SHARE - 1, False),
        (10_000, 0, 100_000 // SHARE, True),
    ],
)
def test_a_count_is_good_for_a_time_and_for_a_number(
    counted: int, age: int, let_in: int, *, old: bool
) -> None:
    tally = Tally(Cap(100_000, drops_expired=False), counted, counted, at=1_000_000, let_in=let_in)

    assert tally.is_old(1_000_000 + age) is old


# -- files that are older


def test_a_file_of_version_one_learns_of_limits(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    with apsw.Connection(str(path)) as old:
        old.execute(migrations()[0])
        old.execute("INSERT INTO binding (queue, pattern, grp) VALUES ('billing.a', 'a', 'billing')")
        old.pragma("application_id", APPLICATION)
        old.pragma("user_version", 1)
    old.close()

    async def story() -> list[Published]:
        store = SqliteEngine(path).connect("one", SystemClock())
        await store.declare([Source(queue="billing.a", limit=1, loose=True)])
        events = [Message(id=IDS.message(), name="a", topic="a") for _ in range(2)]
        answers = list(await store.publish(events))
        await store.close()
        return answers

    first, second = asyncio.run(story())
    assert (first.status, first.groups) == (Stored.STORED, 1)
    assert second.status is Stored.FULL


# -- limits that change


def test_another_process_hears_of_a_new_limit_at_once(tmp_path: Path) -> None:
    async def story() -> list[int]:
        # Two engines on one file know of each other what two processes do.
        one, two = (SqliteEngine(tmp_path / "f.db").connect(name, SystemClock()) for name in ("one", "two"))
        await one.declare([mail(5)])
        await two.declare([])
        answers = [stored(await two.publish(messages(6)))]
        for limit in (7, None, 1):
            await one.declare([mail(limit)])
            answers.append(stored(await two.publish(messages(6))))
        await one.close()
        await two.close()
        return answers

    assert asyncio.run(story()) == [5, 2, 6, 0]


def test_a_declaration_that_was_rolled_back_is_not_believed(tmp_path: Path) -> None:
    async def story() -> int:
        store = SqliteEngine(tmp_path / "f.db").connect("one", SystemClock())
        await store.declare([mail(None)])

        def broken(session: Session) -> None:
            session.change("bind", {"batch": '[["mail", null, null, 1, false, false]]'})
            session.change("limits_changed")
            assert stored(admit(session, messages(2))) == 1
            raise ValueError("broken off")

        with pytest.raises(ValueError, match="broken off"):
            await store._thread().submit(work=broken)
        answer = stored(await store.publish(messages(3)))
        await store.close()
        return answer

    assert asyncio.run(story()) == 3


def let_in(session: Session) -> None:
    assert stored(admit(session, messages(50))) == 50


def came_back(session: Session) -> None:
    session.tallies.grow(["mail"], 50)


@pytest.mark.parametrize("work", [let_in, came_back])
@pytest.mark.parametrize("alone", [True, False])
def test_what_was_rolled_back_takes_no_place(
    tmp_path: Path, work: Callable[[Session], None], *, alone: bool
) -> None:
    def broken(session: Session) -> None:
        work(session)
        raise ValueError("broken off")

    async def story() -> list[int]:
        # On a clock that stands still a large count does not grow old.
        store = SqliteEngine(tmp_path / "f.db").connect("one", VirtualClock())
        await store.declare([mail(LARGE)])
        answers = [
            stored(await store.publish(messages(LARGE - 100))),
            stored(await store.publish(messages(1))),
        ]
        beside = [] if alone else [store._thread().submit(work=partial(admit, messages=messages(1)))]
        with pytest.raises(ValueError, match="broken off"):
            await store._thread().submit(work=broken)
        answers += [stored(await one) for one in beside]
        answers.append(stored(await store.publish(messages(LARGE))))
        await store.close()
        return answers

    assert asyncio.run(story()) == [LARGE - 100, 1, *([] if alone else [1]), 99 if alone else 98]


@pytest.mark.parametrize("rule", [Rule(fair=True), Rule(per_key=2)])
def test_a_claim_reads_nothing_of_a_name_that_may_not_run_however_many_keys_it_has(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(queue="mail", rules=Rules(rule, {"slow": 2, "slower": 1}))
    names = ["slow", "slower"] * (LARGE // 2) + ["quick"]
    batch = [Message(id=IDS.message(), name=name, queue="mail", key=str(n)) for n, name in enumerate(names)]
    read: list[object] = []
    stream = Session.stream

    def counted(session: Session, name: str, bindings: Mapping[str, Value]) -> Iterator[Row]:
        for row in stream(session, name, bindings):
            read.append(row)
            yield row

    monkeypatch.setattr(Session, "stream", counted)

    async def story() -> list[str]:
        store = SqliteEngine(tmp_path / "f.db").connect("one", SystemClock())
        await store.declare([source])
        await store.publish(batch)
        taken = await store.receive([Ask(source, new_token(), 100)], wait=0)
        await store.close()
        return [one.message.name for one in taken]

    assert asyncio.run(story()) == ["slow", "slower", "slow", "quick"]
    assert len(read) < 20
