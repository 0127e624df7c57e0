"""Whatever is done to it, the SQLite store answers and remembers as the memory store does, which is the specification."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace as but

from forebay.engine import Ask, Delivery, EngineOptions, Retention, Settlement, Source, Store, Timing
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.note import Note, Notes, Revision
from forebay.model.rule import RULE, Override, Rule, Rules, rate_limit
from forebay.model.saved import Kind, SavedStep
from forebay.model.state import WAITING, State
from forebay.model.survey import Audit, Groups, Presence, Rate, Rates, Survey, Workers
from forebay.model.unique import UNFINISHED, WORKED_ON, Conflict, Gather, Hold
from forebay.model.when import SECOND, After, At, When
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.support.ids import Token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

QUEUES = ("a", "b")
SOURCES = (
    Source(queue="a"),
    Source(queue="b"),
    Source.subscription("orders.*", "x"),
    Source.subscription("orders.**", "y"),
)
BOOM = v.Failure("Boom", 'it went "boom"\0', "line 1\nline 2")
OPTIONS = EngineOptions(
    timing=Timing(lease=9 * SECOND, heartbeat=3 * SECOND, sweep=SECOND, crashes=2),
    retention=Retention(succeeded=60 * SECOND, cancelled=40 * SECOND, dead=None, succeeded_cap=9, dead_cap=5),
)


@dataclass
class World:
    """Both stores, and what a random walk needs to know of them."""

    memory: Store
    sqlite: Store
    clock: VirtualClock
    chance: random.Random
    keys: tuple[str | None, ...] = (None, "k")
    ids: list[str] = field(default_factory=list)
    held: list[Delivery] = field(default_factory=list)

    async def both(self, call: Any) -> Any:
        expected, given = await call(self.memory), await call(self.sqlite)
        if plain(given) != plain(expected):
            pytest.fail(difference(plain(given), plain(expected)))
        return given

    def moment(self, chance: float) -> When | None:
        if self.chance.random() > chance:
            return None
        seconds = self.chance.randint(-5, 40) * SECOND
        return After(max(seconds, 0)) if self.chance.random() < 0.5 else At(self.clock.now() + seconds)

    def message(self) -> Message:
        fresh = not self.ids or self.chance.random() < 0.85
        key = f"m{len(self.ids)}" if fresh else self.chance.choice(self.ids)
        self.ids.append(key)
        task = self.chance.random() < 0.7
        unique = self.chance.choice((None, None, None, "u1", "u2", "u\0x"))
        return Message(
            id=MessageId(key), name=self.chance.choice(("red", "blue")), queue=self.chance.choice(QUEUES) if task else None,
            topic=None if task else self.chance.choice(("orders.new", "orders.eu.new", "elsewhere")),
            body=self.chance.choice((b"{}", b"\xff\0\x01", "\u00e4 \U0001f600".encode(), b"")),
            content_type=self.chance.choice(("application/json", "text/plain")),
            headers=self.chance.choice(({}, {"k": 'v "q" \n \\'})), key=self.chance.choice(self.keys),
            priority=self.chance.choice((4, 4, 4, 0, 9)), due=self.moment(0.3), expires=self.moment(0.2), deadline=self.moment(0.1),
            unique=unique, max_attempts=self.chance.choice((None, 3)), hold=self.hold() if task and unique is not None else None,
        )  # fmt: skip

    def hold(self) -> Hold | None:
        pick = self.chance.choice
        if pick((True, False, False)):
            return None
        if pick((True, False, False)):
            return Gather(pick((5, 30)) * SECOND, pick((2, 3, 5)), 3 * SECOND).of("", b"", None).hold
        alone = [conflict for conflict in Conflict if conflict is not Conflict.JOIN]
        return Hold(
            states=pick((WAITING, UNFINISHED, WORKED_ON, UNFINISHED | {State.DEAD})), conflict=pick(alone),
            window=pick((None, None, 5 * SECOND, 100 * SECOND)), longest=pick((None, 10 * SECOND)),
        )  # fmt: skip

    def rules(self) -> Rules:
        pick = self.chance.choice
        rule = Rule(
            rate=pick((None, None, rate_limit("1/s", "rate", 3))), rate_per_key=pick((None, rate_limit("6/min", "rate", 2))),
            concurrency=pick((None, None, 3)), per_key=pick((None, 1, 2)), ordered=pick((False, True)), fair=pick((False, True)),
            weights=pick(({}, {"k": 3})),
        )  # fmt: skip
        return pick((Rules(), Rules(rule), Rules(rule), Rules(rule, {"red": 2})))

    async def override(self) -> Revision:
        queue = self.chance.choice(QUEUES)
        found = await self.memory.survey(Notes(kind=RULE, names=(queue,), gone=True))
        said: Any = {
            "concurrency": self.chance.choice((None, 2)),
            "per_key": 1,
            "fair": self.chance.random() < 0.5,
        }
        body = None if found and found[0].body else msgspec.json.encode(Override(said=said))
        return Revision(Note(kind=RULE, name=queue, body=body, version=found[0].version if found else 0))

    def some_time(self) -> int | None:
        return self.clock.now() - self.chance.randint(0, 300) * SECOND if self.chance.random() < 0.1 else None

    def verdict(self) -> v.Verdict:
        at = self.moment(1) or After(0)
        return self.chance.choice(
            (
                v.Done(), v.Done(b'{"ok":true}'), v.Retry(at, BOOM), v.Snooze(at), v.Snooze(at, awaits=True), v.Snooze(at, unknown=True),
                v.Release(),
                v.Dead(v.Reason.ASKED, BOOM), v.Dead(v.Reason.UNKNOWN_NAME, None, counts=False), v.Cancelled(), v.Expired(),
            )
        )  # fmt: skip

    def saved(self) -> SavedStep:
        name, due = f"s{self.chance.randrange(6)}", self.clock.now() + self.chance.randint(-2, 60) * SECOND
        return self.chance.choice(
            (
                SavedStep(name=name, position=self.chance.randrange(4), body=b"{}", took=7),
                SavedStep(name=name, kind=Kind.SLEEP, due=due),
                SavedStep(
                    name=name,
                    kind=Kind.WAIT,
                    due=due,
                    topic="orders.new",
                    key=self.chance.choice((None, "k")),
                ),
                SavedStep(name=name, kind=Kind.WAIT, due=due, topic="elsewhere", key="k"),
            )
        )

    def selector(self) -> q.Selector:
        pick = self.chance.choice
        some: tuple[EntryId, ...] = tuple(EntryId(pick(self.ids)) for _ in range(2)) if self.ids else ()
        states = frozenset(pick(tuple(State)) for _ in range(self.chance.randint(0, 3)))
        return q.Selector(
            ids=pick(((), (), tuple(dict.fromkeys(some)))), queue=pick((None, None, "a", "x.orders._any")),
            name=pick((None, None, "red")), states=states, limit=pick((None, 1, 3)),
            worker=pick((*[None] * 6, "worker", "nobody")), error=pick((*[None] * 4, "Boom", "Crashed")), key=pick((None, None, "k")),
            fingerprint=pick((*[None] * 6, BOOM.fingerprint)), created_since=self.some_time(), created_before=self.some_time(),
            finished_since=self.some_time(), finished_before=self.some_time(),
        )  # fmt: skip


def plain(answer: Any) -> Any:
    """What must be equal: everything but the driver's own mark."""
    if isinstance(answer, list | tuple):
        return [plain(one) for one in answer]
    if isinstance(answer, Rate):
        # How long a try took is told by its delivery, and some here are older than the lease they are settled under.
        return msgspec.structs.replace(answer, ran=0)
    return msgspec.structs.replace(answer, native=None) if isinstance(answer, Delivery) else answer


def difference(given: Any, expected: Any) -> str:
    """The parts that are not alike."""
    if isinstance(given, list | tuple) and isinstance(expected, list | tuple) and len(given) == len(expected):
        return "\n".join(difference(g, e) for g, e in zip(given, expected, strict=True) if g != e)
    if isinstance(given, q.TaskRecord) and isinstance(expected, q.TaskRecord):
        parts = [(f, getattr(given, f), getattr(expected, f)) for f in given.__struct_fields__]
        return f"{given.id}: " + "; ".join(f"{f}: {g!r}, not {e!r}" for f, g, e in parts if g != e)
    return f"{given!r}\nis not\n{expected!r}"


async def step(world: World, n: int) -> None:
    chance = world.chance
    if len(world.keys) > 2 and chance.random() < 0.05:
        source = but(chance.choice(SOURCES[:3]), rules=world.rules())
        await world.both(lambda store: store.declare([source]))
        return
    if len(world.keys) > 2 and chance.random() < 0.03:
        revision = await world.override()
        await world.both(lambda store: store.note([revision]))
        return
    match chance.randrange(11):
        case 0 | 1 | 2:
            batch = [world.message() for _ in range(chance.randint(1, 6))]
            await world.both(lambda store: store.publish(batch))
        case 3 | 4:
            tokens = {held.source.queue: held.token for held in world.held}
            asks = [
                Ask(
                    source,
                    tokens[source.queue]
                    if source.queue in tokens and chance.random() < 0.2
                    else Token(f"{source.queue}{n}"),
                    chance.randint(0, 5),
                    chance.choice(((), (), ("red",), ("red", "blue"), ("red", "orders.new"))),
                )
                for source in chance.sample(SOURCES, chance.randint(1, 3))
            ]
            most = chance.choice((None, None, 1, 4, 8))
            taken = await world.both(lambda store: store.receive(asks, wait=0, most=most))
            # A delivery may also have been made up from its id and token.
            taken = plain(taken) if chance.random() < 0.2 else taken
            world.held.extend(taken)
        case 5 | 6 if world.held:
            chosen = [chance.choice(world.held) for _ in range(chance.randint(1, 5))]
            # Two leases of one entry in one batch: only one of them can be in earnest, and the stores may look in either order.
            tokens = {d.id: d.token for d in chosen}
            chosen = [d for d in chosen if d.token == tokens[d.id]]
            batch_of = [
                Settlement(d, world.verdict(), (world.message(),) if chance.random() < 0.2 else ())
                for d in chosen
            ]
            await world.both(lambda store: store.settle(batch_of))
        case 7 if world.held:
            some = [chance.choice(world.held) for _ in range(chance.randint(1, 3))]
            under_way = [chance.choice(world.held).token] if chance.random() < 0.3 else []
            await world.both(lambda store: store.extend(some, under_way=under_way))
        case 8:
            which = world.selector()
            command = chance.choice(
                (q.Redrive(), q.CancelNow(), q.Delete(), q.HandBack("worker"), q.Pause(), q.Resume())
            )
            if isinstance(command, q.Pause | q.Resume):
                which = q.Selector(queue=chance.choice(QUEUES))
            by = q.Actor(name=chance.choice(("ana", "bob")), why=f"step {n}")
            await world.both(lambda store: store.steer(which, command, by=by))
        case 9 if chance.random() < 0.5:
            presence = Presence(host="h", pid=n, version="1", queues=("a",), slots=5, running=n)
            await world.both(lambda store: store.attend(chance_of(n, presence)))
        case 10 if world.held:
            held, steps = chance.choice(world.held), [world.saved() for _ in range(chance.randint(1, 3))]
            await world.both(lambda store: store.save(held, steps))
        case _:
            await world.clock.advance(chance.randint(0, 12) * SECOND)


def chance_of(n: int, presence: Presence) -> Presence | None:
    """There, most of the time."""
    return presence if n % 4 else None


async def asked(store: Store, about: Survey[Any]) -> tuple[Any, ...]:
    return await store.survey(about)


async def pages(store: Store, query: q.Query) -> list[tuple[q.TaskRecord, ...]]:
    """All pages; cursors are each store's own."""
    found = []
    while True:
        page = await store.find(query)
        found.append(page.records)
        if page.next is None:
            return found
        query = msgspec.structs.replace(query, cursor=page.next)


async def steps_of(store: Store, keys: Sequence[EntryId]) -> list[Sequence[SavedStep]]:
    return [await store.saved(key) for key in keys]


async def compare(world: World) -> None:
    (all_there,) = await world.both(lambda store: pages(store, q.Query(size=1_000)))
    await world.both(lambda store: steps_of(store, [record.id for record in all_there]))
    await world.both(lambda store: store.count())
    for about in (
        Rates(),
        Rates(since=world.clock.now() - 90 * SECOND, queue="a", limit=2),
        Workers(),
        Audit(),
        Audit(before=3),
    ):
        await world.both(partial(asked, about=about))
    size, oldest_first = world.chance.choice((7, 500)), world.chance.random() < 0.5
    which = world.selector()
    for by in q.By:
        await world.both(partial(asked, about=Groups(by=by, which=which)))
    query = q.Query(which=which, size=size, oldest_first=oldest_first)
    await world.both(lambda store: pages(store, query))


@pytest.mark.parametrize("seed", [*range(10), 101, 135])
def test_a_random_walk_ends_where_the_memory_store_ends(seed: int, tmp_path: Path) -> None:
    walk(seed, tmp_path, (None, "k"))


@pytest.mark.parametrize("seed", range(20, 60))
def test_a_random_walk_with_rules_ends_where_the_memory_store_ends(seed: int, tmp_path: Path) -> None:
    walk(seed, tmp_path, (None, "k", "l", "m"))


def walk(seed: int, tmp_path: Path, keys: tuple[str | None, ...]) -> None:
    async def story() -> None:
        clock = VirtualClock()
        world = World(
            MemoryEngine(OPTIONS).connect("worker", clock),
            SqliteEngine(tmp_path / "walk.db", OPTIONS).connect("worker", clock),
            clock,
            random.Random(seed),
            keys=keys,
        )
        await world.both(lambda store: store.declare(SOURCES))
        try:
            for n in range(150):
                await step(world, n)
                # What expired while it waited is noticed here at the latest; what of it earlier is each store's own affair.
                await world.both(lambda store: store.sweep(1_000))
                if n % 5 == 0:
                    await compare(world)
        finally:
            await world.sqlite.close()

    asyncio.run(story())
