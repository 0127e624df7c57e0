"""The memory engine: any number of brokers, on any loops of this process, over one `Ledger`."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from msgspec.structs import replace

from forebay.engine import (
    NOTHING,
    Cancels,
    Durability,
    EngineOptions,
    Finished,
    Noted,
    Notice,
    Ordering,
    Published,
    R,
    Ready,
    Settled,
    Traits,
    check_sources,
)
from forebay.errors import NotOpen
from forebay.model.note import audited, check_revisions
from forebay.model.query import UNKNOWN, Page, Selector, Steered
from forebay.model.rule import AHEAD, RULE, read_override
from forebay.model.survey import Flows, Groups, Parents, Steps
from forebay.stores.asked import check_walk, groups, page_size, read_cursor
from forebay.stores.face import Claimed, Face, Told, refuse_transaction
from forebay.stores.memory import claim, extend, flow_moves, publish, queries, rules, settle, steer, upkeep
from forebay.stores.memory.flow_sight import parent, step_record
from forebay.stores.memory.ledger import Ledger
from forebay.stores.signals import Signals, Wake

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from forebay.engine import Ask, Delivery, Settlement, Source, Spent, Swept, Topic
    from forebay.model.message import EntryId, Message
    from forebay.model.note import Revised, Revision
    from forebay.model.query import Actor, Change, Counts, Progress, Query
    from forebay.model.rule import RateLimit
    from forebay.model.saved import SavedStep
    from forebay.model.survey import Group, Presence, Survey
    from forebay.model.when import Instant, Micros
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

TRAITS: Final = Traits(
    engine="memory",
    durability=Durability.NOTHING,
    ordering=Ordering.FIFO,
    settles_atomically=True,
    priorities=True,
    delay=True,
    expiry=True,
    unique=True,
    scopes=True,
    fan_out=True,
    fences=True,
    dedupes=True,
    remembers=True,
    exact=True,
    virtual_clock=True,
    limits=True,
    flows=True,
    lines=True,
    max_body=64 << 20,
)


class MemoryEngine:
    """Messages that live as long as this object.

    >>> engine = MemoryEngine()
    >>> engine.traits.durability
    <Durability.NOTHING: 'nothing'>
    """

    def __init__(self, options: EngineOptions = EngineOptions()) -> None:  # noqa: B008  # frozen value
        self.ledger = Ledger(options)
        self.lock = threading.Lock()
        self.signals = Signals()

    @property
    def traits(self) -> Traits:
        """What a memory store can do."""
        return TRAITS

    @property
    def url(self) -> str:
        """Always ``memory://``."""
        return "memory://"

    def connect(self, worker: str, clock: Clock) -> MemoryStore:
        """A store face for the running loop."""
        return MemoryStore(self, worker, clock)


class MemoryStore(Face):
    """One loop's face of a `MemoryEngine`. Every call takes the lock once and never awaits while it has it."""

    def __init__(self, engine: MemoryEngine, worker: str, clock: Clock) -> None:
        self._engine, self._worker, self._clock = engine, worker, clock
        self._ledger, self._lock, self._signals = engine.ledger, engine.lock, engine.signals
        self._open = False

    @property
    def traits(self) -> Traits:
        """What a memory store can do."""
        return TRAITS

    async def declare(self, sources: Sequence[Source]) -> None:
        """Open, and bind the queues of ``sources``."""
        check_sources(sources, self.traits)
        self._open = True
        with self._lock:
            for source in sources:
                rules.bind(self._ledger, source)
            moved = self._ledger.lines.balance(self._now())
        if moved:
            self._signals.notify(map(Ready, moved))

    async def publish(self, batch: Sequence[Message], *, tx: object | None = None) -> Sequence[Published]:
        """Store a batch."""
        refuse_transaction(tx, "The memory engine")
        with self._lock:
            now = self._now()
            dropped = self._ledger.dropped
            answers = publish.admit(self._ledger, batch, now)
            dropped = self._ledger.dropped - dropped
            left = flow_moves.work(self._ledger, now)
            moved = self._ledger.lines.balance(now)
        if dropped or moved:
            self._signals.notify([Finished(), *map(Ready, moved)])
        self._tell(batch)
        await self._go_on(left=left)
        return answers

    async def _claim(self, asks: Sequence[Ask], most: int | None) -> Claimed:
        with self._lock:
            now = self._now()
            taken = claim.receive(self._ledger, asks, most, self._worker, now)
            flow_moves.work(self._ledger, now)
            moved = self._ledger.lines.balance(now)
            dues = [claim.next_due(self._ledger, ask.source.queue, now) for ask in asks]
        if moved:
            self._signals.notify(map(Ready, moved))
        self._tell_of_flows()
        return Claimed(taken, min((due for due in dues if due is not None), default=None))

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Settled]:
        """End deliveries."""
        with self._lock:
            now = self._now()
            answers = settle.settle(self._ledger, batch, now)
            left = flow_moves.work(self._ledger, now)
            moved = upkeep.ended(self._ledger, now)
        ended = Finished(frozenset(s.delivery.id for s in batch))
        self._signals.notify({ended, *(Ready(s.delivery.source.queue) for s in batch), *map(Ready, moved)})
        self._tell([message for settlement in batch for message in settlement.then])
        await self._go_on(left=left)
        return answers

    async def extend(
        self,
        batch: Sequence[Delivery],
        *,
        under_way: Sequence[Token] = (),
        progress: Mapping[EntryId, Progress] = NOTHING,
    ) -> Sequence[Notice]:
        """Renew leases."""
        with self._lock:
            now = self._now()
            for token in under_way:
                extend.extend_lease(self._ledger, token, now)
            notices = [
                extend.extend(self._ledger, delivery, now, progress.get(delivery.id)) for delivery in batch
            ]
            back = extend.take_back(self._ledger, batch, under_way, now)
            left = flow_moves.work(self._ledger, now)
            moved = upkeep.ended(self._ledger, now)
        if back:
            self._signals.notify([Finished(), *map(Ready, back | moved)])
        await self._go_on(left=left)
        return notices

    async def sweep(self, budget: int) -> Swept:
        """Bounded upkeep."""
        with self._lock:
            now = self._now()
            swept = upkeep.sweep(self._ledger, budget, now)
            queues = list(self._ledger.bindings)
            left = flow_moves.work(self._ledger, now)
            moved = self._ledger.lines.balance(now)
        if swept.lost or swept.expired or moved:
            self._signals.notify([Finished(), *map(Ready, queues)])
        await self._go_on(left=left)
        return swept

    async def _change(self, which: Selector, command: Change, told: Told) -> Steered:
        with self._lock:
            now = self._now()
            queues = {entry.queue for entry in queries.selected(self._ledger, which)}
            done = steer.steer(self._ledger, which, command, now)
            self._ledger.sight.note(now, told, done)
            left = flow_moves.work(self._ledger, now)
            queues |= upkeep.ended(self._ledger, now)
        self._signals.notify([Finished(), Cancels(), *map(Ready, queues)])
        await self._go_on(left=left)
        return done

    async def _hand_back(self, worker: str, told: Told) -> int:
        with self._lock:
            now = self._now()
            lost = upkeep.hand_back(self._ledger, worker, now)
            self._ledger.sight.note(now, told, Steered(changed=lost))
            queues = list(self._ledger.bindings)
            left = flow_moves.work(self._ledger, now)
            self._ledger.lines.balance(now)
        self._signals.notify([Finished(), *map(Ready, queues)])
        await self._go_on(left=left)
        return lost

    async def _switch(self, queue: str, told: Told, *, paused: bool) -> int:
        with self._lock:
            now, known = self._now(), self._ledger.paused
            changed = (queue in known) is not paused
            (known.add if paused else known.discard)(queue)
            self._ledger.sight.note(now, told, Steered(changed=int(changed)))
        self._signals.notify([Ready(queue)])
        return int(changed)

    async def save(self, delivery: Delivery, steps: Sequence[SavedStep]) -> Settled:
        """Keep steps of a running handler."""
        with self._lock:
            return extend.save(self._ledger, delivery, steps, self._now())

    async def saved(self, key: EntryId) -> Sequence[SavedStep]:
        """The steps of a message."""
        with self._lock:
            self._now()
            return self._ledger.steps.saved(key)

    async def spend(self, bucket: str, rate: RateLimit, *, patience: Micros) -> Spent:
        """Take the next token of a shared bucket, if it comes in time."""
        with self._lock:
            return self._ledger.lines.spend(bucket, rate, min(patience, AHEAD), self._now())

    async def find(self, query: Query) -> Page:
        """One page of records."""
        size, after = page_size(query), read_cursor(query.cursor)
        with self._lock:
            now = self._now()
            found = sorted(
                queries.selected(self._ledger, query.which),
                key=lambda e: e.seq,
                reverse=not query.oldest_first,
            )
            if after is not None:
                found = [e for e in found if (e.seq > after if query.oldest_first else e.seq < after)]
            records = tuple(queries.record(self._ledger, entry, now) for entry in found[:size])
        if query.brief:
            records = tuple(
                replace(r, message=replace(r.message, body=b"", headers={}), tries=(), waits=None)
                for r in records
            )
        return Page(records, str(found[size - 1].seq) if len(found) > size else None)

    async def count(self) -> Counts:
        """All queues by state."""
        with self._lock:
            return queries.count(self._ledger, self._now())

    async def survey(self, about: Survey[R]) -> tuple[R, ...]:
        """What is known besides messages."""
        now = self._now()
        with self._lock:
            match about:
                case Groups():
                    return cast("tuple[R, ...]", self._groups(about))
                case Flows():
                    return cast("tuple[R, ...]", self._ledger.flows.records(about))
                case Steps():
                    nodes = self._ledger.flows.steps(about)
                    return cast("tuple[R, ...]", tuple(step_record(self._ledger, node) for node in nodes))
                case Parents():
                    nodes = self._ledger.flows.parents(about)
                    return cast("tuple[R, ...]", tuple(parent(self._ledger, node) for node in nodes))
                case _:
                    return self._ledger.sight.survey(about, now)

    def _groups(self, about: Groups) -> tuple[Group, ...]:
        selected = list(queries.selected(self._ledger, about.which))
        check_walk(len(selected))
        return groups(
            about, Counter(v for e in selected if (v := queries.value(self._ledger, e, about.by)) is not None)
        )

    async def note(self, batch: Sequence[Revision], *, by: Actor = UNKNOWN) -> Sequence[Revised]:
        """Change notes, and store what goes with them."""
        check_revisions(batch)
        with self._lock:
            now = self._now()
            answers, then = self._ledger.sight.notes.revise(batch, now)
            for message in then:
                publish.publish(self._ledger, message, now)
            for note in (answer.note for answer in answers if answer.changed and answer.note.kind == RULE):
                rules.rule(self._ledger, note.name, read_override(note.body))
            moved = upkeep.ended(self._ledger, now)
            for edit in audited(batch, answers):
                self._ledger.sight.note(now, Told(by, edit, Selector()), Steered(changed=1))
        self._signals.notify(
            {Noted(answer.note.kind) for answer in answers if answer.changed} | set(map(Ready, moved))
        )
        self._tell(then)
        return answers

    async def attend(self, presence: Presence | None) -> None:
        """Say that this worker is there, or gone."""
        now = self._now()
        with self._lock:
            self._ledger.sight.attend(self._worker, presence, now)

    async def close(self) -> None:
        """Let go. The engine, and what it holds, stays."""
        self._open = False

    def _listening(self, *topics: Topic) -> AbstractContextManager[Wake]:
        return self._signals.listening(*topics)

    def _now(self) -> Instant:
        if not self._open:
            raise NotOpen("The store is not open: call declare() first, or use 'async with app:'.")
        return self._clock.now()

    def _tell_of_flows(self) -> None:
        """Tell what has come of flows."""
        with self._lock:
            news, self._ledger.flows.news = self._ledger.flows.news, set()
        if news:
            self._signals.notify(news)

    async def _go_on(self, *, left: bool) -> None:
        """Do what is ``left`` to do in flows, a bounded part at a time. Cancelled, the next call does the rest."""
        self._tell_of_flows()
        while left:
            await asyncio.sleep(0)  # noqa: TID251  # one round of the loop, so that others get to the store in between
            with self._lock:
                now = self._clock.now()
                left = flow_moves.work(self._ledger, now)
                moved = upkeep.ended(self._ledger, now)
            if moved:
                self._signals.notify(map(Ready, moved))
            self._tell_of_flows()

    def _tell(self, batch: Sequence[Message]) -> None:
        """Wake whoever waits on the queues that ``batch`` went to."""
        queues = {message.queue for message in batch if message.queue is not None}
        if any(message.topic is not None for message in batch):
            with self._lock:
                bound = list(self._ledger.bindings.values())
                queues |= self._ledger.woken
                self._ledger.woken.clear()
            queues |= {source.queue for source in bound if source.pattern is not None}
        if queues:
            self._signals.notify(map(Ready, queues))
