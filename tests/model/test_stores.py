"""Whatever is done to a store, in whatever order, it answers as a dictionary would that knows the rules.

The same machine is held against each store that runs on a clock turned by hand, so that they are held against each other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar, cast

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from forebay.engine import Ask, EngineOptions, Notice, Retention, Settled, Settlement, Source, Stored
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.saved import Kind, SavedStep
from forebay.model.state import FINISHED, TIMED, WAITING, Event, State, after
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
FAILURE = v.Failure("ValueError", "no")
WORKERS = ("one", "two")
DELAYS = st.sampled_from([1, SECOND, 30 * SECOND, 90 * SECOND]).map(After)
VERDICTS = st.one_of(
    st.builds(v.Done, st.none() | st.just(b"1")),
    st.builds(v.Retry, DELAYS | st.just(After(0)), st.just(FAILURE)),
    st.builds(v.Snooze, DELAYS | st.just(After(0)), unknown=st.booleans(), awaits=st.booleans()),
    st.builds(v.Release),
    st.builds(v.Dead, st.sampled_from(v.Reason), st.none(), st.booleans()),
    st.builds(v.Cancelled),
)


NEWS = st.sampled_from([None, "k", "l"])
"""Keys of events, and of what is waited for."""
STEPS = st.one_of(
    st.builds(SavedStep, name=st.sampled_from("ab"), position=st.integers(0, 2), body=st.just(b"1")),
    st.builds(
        SavedStep, name=st.sampled_from("abcd"), kind=st.just(Kind.WAIT), topic=st.just("news"), key=NEWS,
        lasts=DELAYS.map(lambda delay: delay.micros),
    ),
)  # fmt: skip


@dataclass
class Row:
    """What the dictionary knows of one message."""

    message: Message
    seq: int
    state: State
    due: int = 0
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    token: Token | None = None
    worker: str = ""
    until: int = 0
    asked: bool = False
    since: int | None = None
    settled: list[Token] = field(default_factory=list)
    steps: dict[str, SavedStep] = field(default_factory=dict)
    heard: bool = False
    """Whether an event has come for it while it ran."""

    def move(self, event: Event) -> None:
        """Follow the table."""
        then = after(self.state, event)
        assert then is not None, f"{event} in {self.state}"
        self.state = then


class StoreMachine(RuleBasedStateMachine):
    """Does anything to a store and to a dictionary, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = VirtualClock()
        self.rows: dict[str, Row] = {}
        self.deliveries: list[Delivery] = []
        self.paused = False
        self.numbers = 0
        self.known: dict[str, int] = {}

    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError

    def run_on_loop(self, coroutine: Coroutine[object, object, T]) -> T:
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        engine = self.engine()
        self.stores = {worker: cast("Store", engine.connect(worker, self.clock)) for worker in WORKERS}
        for store in self.stores.values():
            self.run_on_loop(store.declare([WORK]))
        for priority, unique in ((4, None), (5, "a"), (3, None), (4, "b")):
            self.publish(priority, None, unique)
        self.claim(2, "one")

    @property
    def store(self) -> Store:
        return self.stores["one"]

    def teardown(self) -> None:
        for store in self.stores.values():
            self.run_on_loop(store.close())
        self.runner.close()

    # -- what can be done: few rules, each of many parts, for Hypothesis switches whole rules off to try the rest

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "redrive", "delete", "publish again"]))
    def touch(self, data: st.DataObject, what: str) -> None:
        row = self.rows[data.draw(st.sampled_from(sorted(self.rows)))]
        match what:
            case "cancel":
                self.cancel(row)
            case "redrive":
                self.redrive(row)
            case "delete":
                self.delete(row)
            case _:
                self.publish_again(row)

    @rule(duration=st.integers(1, 40), then=st.sampled_from(["sweep", "sweep", "hand back", "nothing"]))
    def wait(self, duration: int, then: str) -> None:
        if duration % 3 == 0 and self.deliveries:
            self.renew(self.deliveries[-1].token)
        self.run_on_loop(self.clock.advance(duration * SECOND))
        if then == "sweep":
            self.sweep()
        elif then == "hand back":
            self.hand_back(WORKERS[duration % 2])

    @rule(
        verdicts=st.lists(VERDICTS, min_size=1, max_size=4),
        limit=st.integers(1, 4),
        worker=st.sampled_from(WORKERS),
    )
    def work(self, verdicts: list[v.Verdict], limit: int, worker: str) -> None:
        self.claim(limit, worker)
        live = [
            d for d in self.deliveries if (row := self.rows.get(d.id)) is not None and row.token == d.token
        ]
        for delivery, verdict in zip(live, verdicts, strict=False):
            self.end(delivery, verdict)

    @rule(
        priority=st.integers(3, 5),
        due=st.none() | DELAYS,
        unique=st.sampled_from([None, None, "a", "b"]),
        called=st.sampled_from(["job", "other"]),
    )
    def publish(self, priority: int, due: After | None, unique: str | None, called: str = "job") -> None:
        self.numbers += 1
        name = f"m{self.numbers:04}"
        message = Message(
            id=MessageId(name), name=called, queue="work", priority=priority, due=due, unique=unique
        )

        (answer,) = self.run_on_loop(self.store.publish([message]))

        holder = self.holder(unique)
        if holder is not None:
            assert (answer.status, answer.id) == (Stored.DUPLICATE, holder)
            return
        assert (answer.status, answer.id) == (Stored.STORED, name)
        born = State.SCHEDULED if due else State.READY
        self.rows[name] = Row(message, self.numbers, born, self.clock.now() + (due.micros if due else 0))

    def publish_again(self, row: Row) -> None:
        (answer,) = self.run_on_loop(self.store.publish([row.message]))

        assert (answer.status, answer.id) == (Stored.DUPLICATE, str(row.message.id))

    @rule(
        limit=st.integers(0, 4),
        worker=st.sampled_from(WORKERS),
        names=st.sampled_from([(), ("job",), ("other", "job")]),
    )
    def claim(self, limit: int, worker: str, names: tuple[str, ...] = ()) -> None:
        self.promote()
        put_off = [
            row
            for row in self.rows.values()
            if row.state is State.SCHEDULED and row.since is not None and row.message.name in names
        ]
        self.known |= {row.message.name: self.clock.now() for row in put_off}
        ready = sorted(
            (row for row in self.rows.values() if row.state is State.READY or row in put_off),
            key=lambda row: (-row.message.priority, row.seq),
        )
        expected = [] if self.paused else ready[:limit]
        self.numbers += 1
        token = Token(f"t{self.numbers:04}")

        taken = self.receive(worker, token, limit, names)

        assert [d.message for d in taken] == [row.message for row in expected]
        for delivery, row in zip(taken, expected, strict=True):
            if row in put_off:
                row.move(Event.DUE)
                row.due = self.clock.now()
            else:
                assert row.due <= self.clock.now(), "handed out before it was due"
            if row.since is not None and row.message.name not in names:
                row.since = None if self.known.get(row.message.name, -1) >= row.since else row.since
            assert delivery.unknown_since == row.since
            assert (delivery.attempts, delivery.crashes, delivery.releases) == (
                row.attempts,
                row.crashes,
                row.releases,
            )
            row.move(Event.CLAIM)
            row.token, row.worker, row.until = token, worker, self.clock.now() + OPTIONS.timing.lease
        self.deliveries += taken

    @precondition(lambda self: any(row.token for row in self.rows.values()))
    @rule(data=st.data())
    def claim_again(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted({row.token for row in self.rows.values() if row.token})))
        held = {str(row.message.id) for row in self.rows.values() if row.token == token}

        taken = self.receive(next(row.worker for row in self.rows.values() if row.token == token), token, 4)

        assert {d.id for d in taken} == held

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), verdict=VERDICTS)
    def settle(self, data: st.DataObject, verdict: v.Verdict) -> None:
        self.end(data.draw(st.sampled_from(self.deliveries[-8:])), verdict)

    def end(self, delivery: Delivery, verdict: v.Verdict) -> None:
        row = self.rows.get(delivery.id)

        (answer,) = self.run_on_loop(self.store.settle([Settlement(delivery, verdict)]))

        if row is None or row.token != delivery.token:
            repeated = row is not None and delivery.token in row.settled
            if row is None or not repeated:
                assert answer is Settled.STALE or row is None
            elif row.settled[-1] == delivery.token:
                assert answer is Settled.OK
            return
        assert answer is Settled.OK
        self.apply(row, verdict)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), steps=st.lists(STEPS, min_size=1, max_size=3))
    def save(self, data: st.DataObject, steps: list[SavedStep]) -> None:
        delivery = data.draw(st.sampled_from(self.deliveries[-8:]))
        row = self.rows.get(delivery.id)

        answer = self.run_on_loop(self.store.save(delivery, steps))

        if row is None or row.token != delivery.token:
            assert answer is Settled.STALE
            return
        assert answer is Settled.OK
        for step in steps:
            row.steps.setdefault(step.name, replace(step, due=step.due_from(self.clock.now()), lasts=None))

    @rule(key=NEWS)
    def tell(self, key: str | None) -> None:
        self.numbers += 1
        now, event = (
            self.clock.now(),
            Message(id=MessageId(f"e{self.numbers}"), name="news", topic="news", key=key),
        )

        self.run_on_loop(self.store.publish([event]))

        for row in self.rows.values():
            for name, step in row.steps.items():
                if step.waits and step.key in (None, key) and (step.due or 0) > now:
                    row.steps[name] = replace(step, met=now, body=b"")
                    row.heard |= row.state is State.RUNNING
                    row.due = min(row.due, now) if row.state is State.SCHEDULED else row.due

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        self.renew(data.draw(st.sampled_from(self.deliveries[-8:])).token)

    def renew(self, token: Token) -> None:
        held = [d for d in self.deliveries if d.token == token]

        answers = self.run_on_loop(self.store.extend(held))

        for delivery, notice in zip(held, answers, strict=True):
            row = self.rows.get(delivery.id)
            if row is None or row.token != token:
                assert notice is Notice.LOST
            else:
                assert notice is (Notice.CANCEL if row.asked else Notice.KEPT)
                row.until = self.clock.now() + OPTIONS.timing.lease

    def sweep(self) -> None:
        lost = [row for row in self.rows.values() if row.token and row.until <= self.clock.now()]

        swept = self.run_on_loop(self.store.sweep(1_000))

        buried = sum(self.lose(row) for row in lost)
        assert (swept.lost, swept.quarantined, swept.expired, swept.deleted) == (len(lost), buried, 0, 0)

    def hand_back(self, worker: str) -> None:
        lost = [row for row in self.rows.values() if row.token and row.worker == worker]

        assert self.run_on_loop(self.store.steer(q.Selector(), q.HandBack(worker))).changed == len(lost)

        for row in lost:
            self.lose(row)

    def cancel(self, row: Row) -> None:
        changed = self.steer(row, q.CancelNow())

        if row.state in WAITING or (row.token and row.until <= self.clock.now()):
            assert changed == 1
            row.move(Event.CANCEL)
            row.token, row.heard = None, False
        else:
            assert changed == (row.state is State.RUNNING and not row.asked)
            row.asked |= row.state is State.RUNNING

    def redrive(self, row: Row) -> None:
        holder = self.holder(row.message.unique)
        may = after(row.state, Event.REDRIVE) is not None and holder in (None, row.message.id)
        due_now = row.state in TIMED and row.due <= self.clock.now()

        changed = self.steer(row, q.Redrive())

        if may and due_now and changed == 0:
            row.move(Event.DUE)  # It was ready already: whether the store had noticed is its own affair.
            return
        assert changed == may
        if may:
            row.move(Event.REDRIVE)
            row.attempts = row.crashes = row.releases = 0
            row.due, row.asked, row.since = self.clock.now(), False, None

    def delete(self, row: Row) -> None:
        assert self.steer(row, q.Delete()) == (row.state is not State.RUNNING)

        if row.state is not State.RUNNING:
            del self.rows[row.message.id]

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        command = q.Pause() if paused else q.Resume()

        assert self.run_on_loop(self.store.steer(q.Selector(queue="work"), command)).changed == (
            paused is not self.paused
        )

        self.paused = paused

    # -- what always holds

    @invariant()
    def the_store_knows_what_the_dictionary_knows(self) -> None:
        page = self.run_on_loop(self.store.find(q.Query(size=1_000, oldest_first=True)))
        now = self.clock.now()

        def facts(state: State, due: int | None) -> State:
            return State.READY if state in TIMED and due is not None and due <= now else state

        known = {
            str(r.id): (facts(r.state, r.due), r.attempts, r.crashes, r.releases, r.cancel_requested)
            for r in page.records
        }
        assert known == {
            name: (facts(row.state, row.due), row.attempts, row.crashes, row.releases, row.asked)
            for name, row in sorted(self.rows.items())
        }
        assert list(known) == sorted(self.rows)

    @invariant()
    def the_store_knows_the_steps_that_the_dictionary_knows(self) -> None:
        for name, row in self.rows.items():
            if not row.steps:
                continue
            found = self.run_on_loop(self.store.saved(EntryId(name)))
            assert [replace(step, number=0, at=0) for step in found] == list(row.steps.values())

    @invariant()
    def the_counts_are_the_records(self) -> None:
        counts = self.run_on_loop(self.store.count())
        page = self.run_on_loop(self.store.find(q.Query(size=1_000)))

        (work,) = counts.queues
        assert work.paused is self.paused
        assert {state: n for state, n in work.states.items() if n} == {
            state: n for state in State if (n := sum(record.state is state for record in page.records))
        }

    # -- the dictionary's own doing

    def holder(self, unique: str | None) -> str | None:
        rows = self.rows.items()
        return next(
            (name for name, r in rows if unique and r.message.unique == unique and r.state not in FINISHED),
            None,
        )

    def receive(self, worker: str, token: Token, limit: int, names: tuple[str, ...] = ()) -> list[Delivery]:
        return list(self.run_on_loop(self.stores[worker].receive([Ask(WORK, token, limit, names)], wait=0)))

    def steer(self, row: Row, command: q.Command) -> int:
        which = q.Selector(ids=(EntryId(row.message.id),))
        return self.run_on_loop(self.store.steer(which, command)).touched

    def promote(self) -> None:
        for row in self.rows.values():
            if row.state in TIMED and row.due <= self.clock.now():
                row.move(Event.DUE)

    def apply(self, row: Row, verdict: v.Verdict) -> None:
        row.settled.append(cast("Token", row.token))
        row.token = None
        row.attempts += v.spends_attempt(verdict)
        row.releases += isinstance(verdict, v.Release)
        row.move(v.event_of(verdict))
        if isinstance(verdict, v.Retry | v.Snooze):
            assert isinstance(verdict.at, After)
            woken = isinstance(verdict, v.Snooze) and verdict.awaits and row.heard
            row.due = self.clock.now() + (0 if woken else verdict.at.micros)
            unknown = isinstance(verdict, v.Snooze) and verdict.unknown
            row.since = None if not unknown else self.clock.now() if row.since is None else row.since
        row.heard = False
        self.cancel_if_asked(row)

    def lose(self, row: Row) -> bool:
        row.crashes += 1
        row.token, row.heard = None, False
        quarantined = row.crashes >= OPTIONS.timing.crashes
        row.move(Event.BURY if quarantined else Event.LOSE)
        self.cancel_if_asked(row)
        return quarantined

    def cancel_if_asked(self, row: Row) -> None:
        if row.asked and row.state in WAITING:
            row.move(Event.CANCEL)


class MemoryMachine(StoreMachine):
    """Held against the memory store."""

    def engine(self) -> Engine:
        return MemoryEngine(OPTIONS)


class SqliteMachine(StoreMachine):
    """Held against the SQLite store."""

    def engine(self) -> Engine:
        self.folder = TemporaryDirectory()
        return SqliteEngine(Path(self.folder.name) / "store.db", OPTIONS)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(
    max_examples=15, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
