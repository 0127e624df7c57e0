"""Whatever comes with a unique key, one has it, as a dictionary says that knows the rules. What gathers is handed out whole, and nothing is
left behind. The same machine is held against both stores.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar, cast

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from forebay.engine import Ask, EngineOptions, Published, Retention, Settlement, Source, Stored
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.state import FINISHED, WAITING, State
from forebay.model.unique import MOVABLE, UNFINISHED, WORKED_ON, Conflict, Gather, Hold
from forebay.model.when import SECOND, After
from forebay.stores.memory import MemoryEngine
from forebay.stores.sqlite import SqliteEngine
from forebay.support.ids import Token
from forebay.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from forebay.engine import Delivery, Engine, Store

T = TypeVar("T")
WORK = Source(queue="work")
OPTIONS = EngineOptions(retention=Retention(succeeded=None, cancelled=None))
LONGEST = 60 * SECOND
ALONE = [conflict for conflict in Conflict if conflict is not Conflict.JOIN]
HOLDS = st.builds(
    Hold,
    states=st.sampled_from([WAITING, UNFINISHED, WORKED_ON, UNFINISHED | {State.DEAD}]),
    window=st.sampled_from([None, None, 5 * SECOND, LONGEST]),
    conflict=st.sampled_from(ALONE),
    longest=st.sampled_from([None, 10 * SECOND]),
)
GROUPS = st.builds(
    lambda most: Gather(LONGEST, most, 10 * SECOND).of("", b"", None).hold, st.sampled_from([2, 3, 9])
)
VERDICTS = st.sampled_from(
    [v.Done(), v.Retry(After(20 * SECOND), v.Failure("E", "no")), v.Release(), v.Dead(v.Reason.ASKED), v.Snooze(After(SECOND))]
)  # fmt: skip


@dataclass
class Holder:
    """Who took a key last: as what, since when its series runs, and who has joined it (None: it is no group, or one that is closed)."""

    id: str
    hold: Hold
    since: int
    joined: list[str] | None = None


@dataclass
class Known:
    """What the dictionary knows of both: who has which key, and who belongs to whom."""

    keys: dict[str, Holder] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)


class KeyMachine(RuleBasedStateMachine):
    """Sends with keys, works, calls off, and compares with a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.clock, self.known, self.numbers = asyncio.Runner(), VirtualClock(), Known(), 0

    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError

    def on_loop(self, coroutine: Coroutine[object, object, T]) -> T:
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        self.store = cast("Store", self.engine().connect("one", self.clock))
        self.on_loop(self.store.declare([WORK]))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.nothing_is_left_behind()
            self.on_loop(self.store.close())
        self.runner.close()

    # -- what can be done

    @rule(
        key=st.sampled_from(["a", "b"]), hold=st.none() | HOLDS | GROUPS, delay=st.sampled_from([None, 4, 10])
    )
    def send(self, key: str, hold: Hold | None, delay: int | None) -> None:
        self.numbers += 1
        name = f"m{self.numbers:04}"
        due = None if delay is None else After(delay * SECOND)
        message = Message(
            id=MessageId(name), name="job", queue="work", body=name.encode(), unique=key, hold=hold, due=due
        )
        before, holder = self.records(), self.holder(key)

        (answer,) = self.on_loop(self.store.publish([message]))

        if holder is None:
            self.known.keys[key] = Holder(name, hold or Hold(states=UNFINISHED), self.clock.now())
            if hold is not None and hold.conflict is Conflict.JOIN:
                self.known.keys[key].joined = self.known.groups[name] = []
            assert answer == Published(Stored.STORED, EntryId(name))
            return
        self.meets(message, holder, before, answer)

    def meets(
        self, message: Message, holder: Holder, before: dict[str, q.TaskRecord], answer: Published
    ) -> None:
        hold, record, now = message.hold or Hold(states=UNFINISHED), before[holder.id], self.clock.now()
        due = None if message.due is None else now + cast("After", message.due).micros
        then = self.records()
        match hold.conflict:
            case Conflict.JOIN if holder.joined is not None:
                assert answer == Published(Stored.STORED, EntryId(message.id))
                self.joins(message, hold, holder, due)
                return
            case Conflict.REPLACE if record.state in MOVABLE:
                assert answer == Published(Stored.DUPLICATE, record.id)
                holder.since = now if record.state is State.RETRYING else holder.since
                holder.hold, holder.joined = hold, None
                changed = then[holder.id]
                assert (changed.message.body, changed.attempts) == (message.body, 0)
                assert changed.due == self.bounded(due, hold, holder.since)
            case Conflict.RESCHEDULE if record.state in MOVABLE:
                assert answer == Published(Stored.DUPLICATE, record.id)
                assert then[holder.id].due == self.bounded(due, hold, holder.since)
                assert then[holder.id].message == record.message
            case Conflict.REJECT:
                assert answer == Published(Stored.TAKEN, record.id)
                assert then == before
            case _:
                assert answer == Published(Stored.DUPLICATE, record.id)
                assert then == before
        assert then.keys() == before.keys()

    def joins(self, message: Message, hold: Hold, holder: Holder, due: int | None) -> None:
        then, latest = self.records(), holder.since + LONGEST
        group = self.known.groups[holder.id]
        group.append(str(message.id))
        assert then[message.id].due == latest
        full = len(group) + 1 >= hold.most
        if full:
            holder.joined = None
            self.known.keys = {key: held for key, held in self.known.keys.items() if held is not holder}
            assert then[holder.id].state is State.READY
        elif due is not None and then[holder.id].state is State.SCHEDULED:
            assert then[holder.id].due == min(due, latest)

    @rule(limit=st.integers(1, 3), verdict=VERDICTS)
    def work(self, limit: int, verdict: v.Verdict) -> None:
        before, taken = self.records(), self.claim(limit)
        ids = {delivery.id for delivery in taken}
        company = set[str]()
        for head, members in self.known.groups.items():
            together = before.get(head)
            if head in ids and together is not None and self.gathers(together):
                there = [before[m] for m in members if m in before]
                fresh = {r.id for r in there if r.state in (State.SCHEDULED, State.READY) and not r.attempts}
                assert fresh <= ids, "a group is handed out whole"
                company |= fresh
        assert len(ids - company) <= limit
        for n, delivery in enumerate(taken):
            if n % 3 < 2:
                self.on_loop(self.store.settle([Settlement(delivery, verdict)]))

    @rule(data=st.data(), command=st.sampled_from([q.CancelNow(), q.Delete()]))
    def call_off(self, data: st.DataObject, command: q.Command) -> None:
        if records := self.records():
            chosen = data.draw(st.sampled_from(sorted(records)))
            self.on_loop(self.store.steer(q.Selector(ids=(EntryId(chosen),)), command))
            if isinstance(command, q.Delete) and chosen not in self.records():
                self.known.keys = {key: h for key, h in self.known.keys.items() if h.id != chosen}

    @rule(seconds=st.sampled_from([1, 4, 9, 31]))
    def wait(self, seconds: int) -> None:
        self.on_loop(self.clock.advance(seconds * SECOND))
        self.on_loop(self.store.sweep(1_000))

    # -- what the dictionary says

    def holder(self, key: str) -> Holder | None:
        """Who has the key, from how it stands."""
        holder = self.known.keys.get(key)
        if holder is None:
            return None
        record = self.records()[holder.id]
        over = holder.hold.window is not None and record.created + holder.hold.window <= self.clock.now()
        return holder if not over and record.state in holder.hold.states else None

    def gathers(self, record: q.TaskRecord) -> bool:
        return record.message.hold is not None and record.message.hold.conflict is Conflict.JOIN

    def bounded(self, due: int | None, hold: Hold, since: int) -> int | None:
        return due if due is None or hold.longest is None else min(due, since + hold.longest)

    def records(self) -> dict[str, q.TaskRecord]:
        page = self.on_loop(self.store.find(q.Query(size=1_000, oldest_first=True)))
        return {str(record.id): record for record in page.records}

    def claim(self, limit: int) -> list[Delivery]:
        self.numbers += 1
        ask = Ask(WORK, Token(f"t{self.numbers:04}"), limit)
        return list(self.on_loop(self.store.receive([ask], wait=0)))

    def nothing_is_left_behind(self) -> None:
        """When all times are over, everything that waits is handed out."""
        for _ in range(2):
            self.on_loop(self.clock.advance(LONGEST + OPTIONS.timing.lease))
            self.on_loop(self.store.sweep(1_000))
            while taken := self.claim(100):
                self.on_loop(self.store.settle([Settlement(delivery, v.Done()) for delivery in taken]))
        assert {r.id: r.state for r in self.records().values() if r.state not in FINISHED} == {}


class MemoryKeys(KeyMachine):
    """Held against the memory store."""

    def engine(self) -> Engine:
        return MemoryEngine(OPTIONS)


class SqliteKeys(KeyMachine):
    """Held against the SQLite store."""

    def engine(self) -> Engine:
        self.folder = TemporaryDirectory()
        return SqliteEngine(Path(self.folder.name) / "store.db", OPTIONS)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestMemory = MemoryKeys.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSqlite = SqliteKeys.TestCase
TestSqlite.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
