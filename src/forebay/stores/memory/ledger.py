"""What is true of every message in a memory store. Synchronous; the caller holds the lock. No waiting, no signals, no clock reading."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.engine import Delivery, Finished, Full, Notice, Published, Ready, Settled, Stored, Swept
from forebay.model import query as q, verdict as v
from forebay.model.effect import CANCELLED, Unknown, effect, lost
from forebay.model.entry import birth, blocked, earliest, routed
from forebay.model.flow import HOOKS, End, Move, Role
from forebay.model.message import EntryId, Message, entry_id
from forebay.model.policy import NAMES_KEPT
from forebay.model.rule import FREE, Override, amended
from forebay.model.saved import event_result, wait_of, waited_for
from forebay.model.state import ENDED_BY_WORK, FINISHED, TIMED, WAITING, Event, State, after
from forebay.model.survey import Parent, StepRecord
from forebay.model.unique import MOST_GATHERED, Conflict, Place, bounded, effective, meet
from forebay.model.when import resolve
from forebay.stores.counting import counted
from forebay.stores.face import check_hold, exclusive
from forebay.stores.flows import (
    LOOKED_AT,
    by_flow,
    check_fits,
    check_free,
    check_steps,
    has_steps,
    is_whole,
    newest_first,
    over,
    step_of,
)
from forebay.stores.limits import SAMPLE, WINDOW, admitted, retry_after
from forebay.stores.memory.flows import Flow, Flows
from forebay.stores.memory.holds import Held, Holds, held_by
from forebay.stores.memory.lines import Line, Lines
from forebay.stores.memory.sight import Sight
from forebay.stores.memory.steps import Steps
from forebay.stores.sums import minute_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from forebay.engine import Ask, EngineOptions, Settlement, Source
    from forebay.model.effect import Effect
    from forebay.model.saved import SavedStep
    from forebay.model.waits import Waits
    from forebay.model.when import Instant
    from forebay.stores.memory.flows import Node
    from forebay.support.ids import Token


KEPT: Final = Override(said={})
"""What was said of a queue before."""


@dataclass(slots=True)
class Entry:
    """One message in one queue. Changed only by the `Ledger`."""

    id: EntryId
    seq: int
    message: Message
    queue: str
    state: State
    created: Instant
    due: Instant | None
    expires: Instant | None
    deadline: Instant | None
    ready_since: Instant | None = None
    token: Token | None = None
    started: Instant | None = None
    finished: Instant | None = None
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    tries: int = 0
    unknown_since: Instant | None = None
    cancel_requested: bool = False
    reason: v.Reason | None = None
    result: bytes | None = None
    settled_by: Token | None = None
    progress: q.Progress | None = None
    failure: v.Failure | None = None
    line: Line | None = None
    rank: int | None = None
    history: list[q.Try] = field(default_factory=list)


@dataclass(slots=True)
class Lease:
    """What one `receive` took: whose it is and how long it holds."""

    worker: str
    until: Instant
    entries: set[EntryId]


@dataclass(slots=True)
class Level:
    """How full a queue with a limit is, and when the latest of its messages were finished."""

    limit: int
    drops_expired: bool
    waiting: int
    finished: deque[Instant] = field(default_factory=lambda: deque(maxlen=SAMPLE))


class Ledger:
    """All entries, and the few indexes that `receive` and `sweep` read."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.sight = Sight(options.timing.lease)
        self.steps = Steps()
        self.woken: set[str] = set()
        """Queues of what an event has made due, to be told of."""
        self.entries: dict[EntryId, Entry] = {}
        self.bindings: dict[str, Source] = {}
        self.paused: set[str] = set()
        self.counters: dict[str, int] = {"stale": 0, "unrouted": 0, "crashed": 0}
        self._leases: dict[Token, Lease] = {}
        self._ready: dict[str, list[tuple[int, int, int, EntryId]]] = {}
        self._timed: dict[str, list[tuple[Instant, int, EntryId]]] = {}
        self._nameless: dict[tuple[str, str], dict[EntryId, Entry]] = {}
        """What is put off because a worker did not know its name, by queue and name."""
        self._known: dict[tuple[str, str], Instant] = {}
        """When somebody who knows the name has last asked for what was put off."""
        self._holds = Holds(self._state_of)
        self._company: dict[int, list[tuple[EntryId, int]]] = {}
        """What has gathered with an entry, by its number: their ids and numbers."""
        self.flows = Flows()
        self.lines = Lines(
            lambda key, event, now: self._happen(self.entries[key], event, now),
            lambda key: self._stand(self.entries[key]),
        )
        self._said: dict[str, Override] = {}
        """What was said of queues while they ran."""
        self._late: dict[str, list[tuple[Instant, int, EntryId]]] = {}
        """Of queues with rules: what expires, soonest first."""
        self.dropped = 0
        self._levels: dict[str, Level] = {}
        self._seq = 0

    # -- bind

    def bind(self, source: Source) -> None:
        """What was said last of a queue holds."""
        known = self.bindings.get(source.queue)
        if source.loose and known is not None:
            source = replace(source, pattern=known.pattern, group=known.group)
        self.bindings[source.queue] = source
        self.rule(source.queue)
        if source.limit is None:
            self._levels.pop(source.queue, None)
            return
        level = self._levels.get(source.queue)
        waiting = self._waiting(source.queue) if level is None else level.waiting
        self._levels[source.queue] = made = Level(source.limit, source.drops_expired, waiting)
        if level is not None:
            made.finished.extend(level.finished)

    def rule(self, queue: str, override: Override | None = KEPT) -> None:
        """What is said of a queue while it runs, over what was declared, holds from now on, for those that are there too."""
        if override is None:
            self._said.pop(queue, None)
        elif override is not KEPT:
            self._said[queue] = override
        source = self.bindings.get(queue)
        rules = amended(FREE if source is None else source.rules, self._said.get(queue))
        if self.lines.rules.get(queue, FREE) == rules:
            return
        live = [e for e in self.entries.values() if e.queue == queue and e.state not in FINISHED]
        self.lines.declare(queue, rules, live)
        self._late.pop(queue, None)
        if rules != FREE:
            self._late[queue] = sorted((e.expires, e.seq, e.id) for e in live if e.expires is not None)

    def _waiting(self, queue: str) -> int:
        return sum(e.queue == queue and e.state in WAITING for e in self.entries.values())

    # -- publish

    def admit(self, batch: Sequence[Message], now: Instant) -> list[Published]:
        """Store what senders from outside publish; answers per item and in order."""
        if not has_steps(batch):
            return [self._admit(message, now) for message in batch]
        plain, flows = by_flow(batch)
        steps = {flow: [batch[n] for n in places] for flow, places in flows.items()}
        self._check_flows(steps.values())
        for flow, some in steps.items():
            if flow not in self.flows.flows:
                check_fits(some, self._limits())
        answers: dict[int, Published] = {}
        for flow, places in flows.items():
            answers.update(zip(places, self._admit_flow(flow, steps[flow], now), strict=True))
        answers |= {n: self._admit(batch[n], now) for n in plain}
        return [answers[n] for n in range(len(batch))]

    def _admit(self, message: Message, now: Instant) -> Published:
        """`publish`, for senders from outside: nothing is stored, of an event no copy, if that took a queue over its limit."""
        if self._levels:
            queues = self._queues(message)
            fresh = [queue for queue in queues if not self._is_known(message, queue, now)]
            if (
                refused := admitted(message, queues, fresh, lambda queue: self._full(queue, now))
            ) is not None:
                return refused
        return self.publish(message, now)

    def _full(self, queue: str, now: Instant, wanted: int = 1) -> Full | None:
        level = self._levels.get(queue)
        if level is None or level.waiting + wanted <= level.limit:
            return None
        if level.drops_expired:
            self._expire(queue, now)
        if level.waiting + wanted <= level.limit:
            return None
        recent = [at for at in level.finished if at > now - WINDOW]
        after = retry_after(level.limit, len(recent), recent[0] if recent else None, now)
        return Full(queue, level.limit, after)

    def _end_late(self, queue: str, now: Instant) -> None:
        """End what waits in a queue with rules and was not started in time: before others stand in its place."""
        heap = self._late.get(queue, [])
        while heap and heap[0][0] <= now:
            expires, seq, key = heapq.heappop(heap)
            entry = self.entries.get(key)
            if entry is not None and (entry.seq, entry.expires) == (seq, expires) and entry.state in WAITING:
                self._happen(entry, Event.EXPIRE, now)

    def _expire(self, queue: str, now: Instant) -> None:
        for entry in self.entries.values():
            if (
                entry.queue == queue
                and entry.state in WAITING
                and entry.expires is not None
                and entry.expires <= now
            ):
                self._happen(entry, Event.EXPIRE, now)
                self.dropped += 1

    def _is_known(self, message: Message, queue: str, now: Instant) -> bool:
        """Whether this would be a duplicate there."""
        if entry_id(message.id, queue, copied=message.topic is not None) in self.entries:
            return True
        if (unique := exclusive(message)) is None:
            return False
        latest = self._holds.latest((queue, unique))
        return latest is not None and (
            latest.last == message.id or self._holds.holder((queue, unique), now) is not None
        )

    def _queues(self, message: Message) -> list[str]:
        return routed(message, ((s.queue, s.pattern) for s in self.bindings.values()))

    def publish(self, message: Message, now: Instant) -> Published:
        """Store one message in its queue, or a copy in each queue bound to its topic."""
        if message.queue is not None:
            answer = self._store(message, message.queue, now, copied=message.topic is not None)
        else:
            queues = self._queues(message)
            answers = [self._store(message, queue, now, copied=True) for queue in queues]
            if not answers:
                self.counters["unrouted"] += 1
            stored = any(a.status is Stored.STORED for a in answers) or not answers
            status = Stored.STORED if stored else Stored.DUPLICATE
            answer = Published(status, EntryId(message.id), len(queues))
        if message.topic is not None and answer.status is Stored.STORED and self._meet(message, now):
            return replace(answer, awaited=True)
        return answer

    def _meet(self, event: Message, now: Instant) -> bool:
        """Wake those that wait for an event, and say whether anybody did; what still runs is woken when its try ends."""
        met = self.steps.meet(event, now)
        for key in met:
            entry = self.entries[key]
            if entry.state is State.RUNNING:
                self.steps.met_at_work(key)
            elif entry.state is State.SCHEDULED and (entry.due or 0) > now:
                entry.due = now
                self._enter(entry, State.SCHEDULED, now)
                self.woken.add(entry.queue)
            elif entry.state is State.BLOCKED and (entry.expires is None or entry.expires > now):
                self._come(key, now)
        return bool(met)

    def _come(self, key: EntryId, now: Instant) -> None:
        """A step of a flow has succeeded if the event has come that it waits for."""
        if (event := self.steps.came(key)) is not None:
            self.happened(key, event_result(event.body, event.content_type), now)

    def _store(self, message: Message, queue: str, now: Instant, *, copied: bool) -> Published:
        key = entry_id(message.id, queue, copied=copied)
        if key in self.entries:
            return Published(Stored.DUPLICATE, key)
        found = self._find_holder(message, queue, now) if message.unique or message.hold else None
        if isinstance(found, Published):
            return found
        self._seq += 1
        born = birth(message, now)
        entry = Entry(
            key, self._seq, message, queue, State.BLOCKED, now, born.due, born.expires, born.deadline
        )
        self.entries[key] = entry
        if message.unique is not None and found is None:
            self._holds.take((queue, message.unique), held_by(key, self._seq, message, now))
        if (level := self._levels.get(queue)) is not None:
            level.waiting += 1
        self._enter(entry, born.state, now)
        if self.lines.rules:
            self.lines.enter(entry)
        if found is not None:
            self._join(entry, found, now)
        self.sight.sums(now).arrive({(queue, message.name): 1})
        return Published(Stored.STORED, key)

    # -- flows

    def _check_flows(self, flows: Iterable[Sequence[Message]]) -> None:
        """Raise `InvalidOption` for flows that are not there and could never run."""
        begun = [steps for steps in flows if step_of(steps[0]).flow not in self.flows.flows]
        named = Counter(message.id for steps in begun for message in steps)
        for steps in begun:
            check_steps(steps)
            for message in steps:
                check_free(message, taken=named[message.id] > 1 or EntryId(message.id) in self.entries)

    def _limits(self) -> dict[str, int]:
        return {queue: level.limit for queue, level in self._levels.items()}

    def _admit_flow(self, flow: str, steps: Sequence[Message], now: Instant) -> list[Published]:
        """Begin a flow; of one that is there, or that is too large for one of its queues, nothing is stored."""
        if flow in self.flows.flows:
            return [Published(Stored.DUPLICATE, EntryId(message.id)) for message in steps]
        wanted = check_fits(steps, self._limits())
        if full := next(filter(None, (self._full(queue, now, n) for queue, n in wanted.items())), None):
            return [Published(Stored.FULL, EntryId(message.id), full=full) for message in steps]
        return [self._store_step(message, now) for message in steps]

    def _follow(self, own: str | None, batch: Sequence[Message], now: Instant) -> None:
        """Store what follows from a delivery, which is a step of its ``own`` flow or of none."""
        plain, flows = by_flow(batch)
        for flow, places in flows.items():
            if flow == own or flow not in self.flows.flows:
                for message in (batch[n] for n in places):
                    if EntryId(message.id) not in self.flows.nodes:
                        self._store_step(message, now)
        for n in plain:
            self.publish(batch[n], now)

    def _check_following(self, settlement: Settlement) -> None:
        """Raise `InvalidOption` for steps that could never run, as all that they could wait for is known."""
        _, flows = by_flow(settlement.then)
        steps = {flow: [settlement.then[n] for n in places] for flow, places in flows.items()}
        own = self._flow_of(self.entries.get(settlement.delivery.id))
        if own in steps:
            nodes = self.flows.nodes
            new = [message for message in steps.pop(own) if EntryId(message.id) not in nodes]
            named = {EntryId(key) for message in new for key in step_of(message).after}
            known: dict[str, Role] = {
                key: node.step.role for key in named if (node := nodes.get(key)) and node.flow.id == own
            }
            if new:
                check_steps(new, known)
                for message in new:
                    check_free(message, taken=EntryId(message.id) in self.entries)
        self._check_flows(steps.values())

    def _flow_of(self, entry: Entry | None) -> str | None:
        step = None if entry is None else entry.message.step
        return None if step is None else step.flow

    def _store_step(self, message: Message, now: Instant) -> Published:
        """Store one step of a flow, after those that it waits for."""
        self._seq += 1
        step, node, queue = step_of(message), self.flows.add(message, now), message.queue or ""
        kept = replace(message, step=replace(step, after=()))
        born = blocked(message, step, now)
        entry = Entry(node.id, self._seq, kept, queue, born.state, now, born.due, born.expires, born.deadline)
        self.entries[node.id] = entry
        if (level := self._levels.get(queue)) is not None:
            level.waiting += 1
        self.sight.sums(now).arrive({(queue, message.name): 1})
        if step.role is Role.EVENT:
            self.steps.save(node.id, 0, [wait_of(message)], now)
        move = Move.WAIT if step.role in HOOKS else node.move
        if move in (Move.FAIL, Move.SKIP):
            self._turn(node, move, now)
        elif (holder := self._holder(entry, now, stored=True)) != node.id:
            self._drop(entry, v.Reason.DUPLICATE, now)
            return Published(Stored.DUPLICATE, holder)
        elif move is Move.RUN:
            self._turn(node, move, now)
        return Published(Stored.STORED, node.id)

    def work_off(self, now: Instant) -> bool:
        """Let a bounded part of what follows in flows happen; whether that leaves anything."""
        if self.flows.left:
            self.flows.work(
                now,
                lambda node, move: self._turn(node, move, now),
                lambda key: self._forget(self.entries[key], now),
            )
            while self.flows.over:
                self._meet(over(self.flows.over.pop()), now)
                self.flows.news.update(map(Ready, self.woken))
        return self.flows.left

    def _turn(self, node: Node, move: Move, now: Instant) -> None:
        entry = self.entries[node.id]
        match move:
            case Move.FAIL:
                self._drop(entry, v.Reason.PARENT_FAILED, now)
            case Move.SKIP:
                self._drop(entry, v.Reason.SKIPPED, now)
            case Move.WAIT:
                self._block(entry, now)
            case Move.RUN:
                if entry.state is State.BLOCKED or self._block(entry, now):
                    self._release(entry, node, now)

    def _drop(self, entry: Entry, reason: v.Reason, now: Instant) -> None:
        """Its flow cancels a step, or says why it did anew."""
        entry.reason = reason
        if entry.state is State.BLOCKED:
            self._happen(entry, Event.CANCEL, now)
            self.flows.news.add(Finished(frozenset({entry.id})))
        else:
            self.flows.note(entry.id, entry.state, reason)

    def _block(self, entry: Entry, now: Instant) -> bool:
        """A step that was over waits again, if nobody has its unique key."""
        if self._holder(entry, now) != entry.id:
            self._drop(entry, v.Reason.DUPLICATE, now)
            return False
        entry.finished = entry.reason = None
        self.lines.leave(entry)
        self.flows.nodes[entry.id].released = False
        self._happen(entry, Event.BLOCK, now)
        return True

    def _release(self, entry: Entry, node: Node, now: Instant) -> None:
        """A step that has waited may run, or waits for its event from now on."""
        node.released = True
        later = None if node.delay is None else now + node.delay
        if node.step.role is Role.EVENT:
            entry.expires = earliest(entry.expires, later)
            self._come(entry.id, now)
            return
        entry.due = entry.due if later is None else later
        self._happen(
            entry, Event.SCHEDULE if entry.due is not None and entry.due > now else Event.UNBLOCK, now
        )
        self.lines.enter(entry)
        self.flows.news.add(Ready(entry.queue))

    def happened(self, key: EntryId, result: bytes | None, now: Instant) -> bool:
        """What a step waited for has happened, and it has succeeded with ``result``; whether it did wait."""
        node = self.flows.nodes.get(key)
        if node is None or not node.released or node.kind is not State.BLOCKED:
            return False
        entry = self.entries[key]
        entry.result = result
        self._happen(entry, Event.DONE, now)
        self.flows.news.add(Finished(frozenset({key})))
        return True

    def _delete_flow(self, name: str) -> q.Steered:
        flow = self.flows.flows.get(name)
        if flow is None or flow.going:
            return q.Steered(skipped={q.NOT_FOUND: 1})
        if flow.finished is None:
            return q.Steered(skipped={q.FLOW_RUNS: len(flow.nodes)})
        return q.Steered(changed=self.flows.go(flow))

    # -- unique keys

    def _state_of(self, key: EntryId, seq: int) -> State | None:
        entry = self.entries.get(key)
        if entry is None or entry.seq != seq:
            return None
        return effective(self._stands(entry), begun=bool(self.steps.saved(key)))

    def _stands(self, entry: Entry) -> State:
        """Its state; who stands in line is as good as ready."""
        return State.READY if entry.state is State.BLOCKED and entry.line is not None else entry.state

    def _holder(self, entry: Entry, now: Instant, *, stored: bool = False) -> EntryId:
        """Who has its unique key: itself, if it was free or there is none. A window is opened by what has just been ``stored`` alone."""
        unique, hold = exclusive(entry.message), entry.message.hold
        if unique is None or not (stored or hold is None or hold.keeps):
            return entry.id
        held = self._holds.holder((entry.queue, unique), now)
        if held is not None and held.seq != entry.seq:
            return held.id
        since = entry.created if hold is None else now
        self._holds.take((entry.queue, unique), held_by(entry.id, entry.seq, entry.message, since))
        return entry.id

    def _find_holder(self, message: Message, queue: str, now: Instant) -> Published | Held | None:
        """The answer to a message whose key is held, and what that changes in the holder; or the one it joins; None if nobody has it."""
        hold = None if message.hold is None else check_hold(message)
        key = (queue, message.unique or "")
        latest = self._holds.latest(key)
        if hold is not None and latest is not None and latest.last == message.id:
            return Published(Stored.DUPLICATE, latest.id)
        if (held := self._holds.holder(key, now)) is None:
            return None
        state = self._state_of(held.id, held.seq)
        if hold is None or state is None:
            rejects = hold is not None and hold.conflict is Conflict.REJECT
            return Published(Stored.TAKEN if rejects else Stored.DUPLICATE, held.id)
        entry = self.entries[held.id]
        gathers = held.gathered is not None
        match meet(hold, _belongs(message), _belongs(entry.message), state, gathers=gathers):
            case Conflict.REJECT:
                return Published(Stored.TAKEN, held.id)
            case Conflict.JOIN:
                return held
            case Conflict.REPLACE:
                since = now if state is State.RETRYING else held.since
                self._replace(entry, message, bounded(resolve(message.due, now), hold, since), now)
                held = held_by(held.id, held.seq, message, entry.created)
                held.since, held.last = since, message.id
                self._holds.take(key, held)
            case Conflict.RESCHEDULE:
                self._postpone(entry, bounded(resolve(message.due, now), hold, held.since), now)
                held.last = message.id
            case Conflict.KEEP:
                pass
        return Published(Stored.DUPLICATE, held.id)

    def _join(self, entry: Entry, held: Held, now: Instant) -> None:
        """Gather with another: it is handed out with that one, or when that one would be at the latest."""
        message, head = entry.message, self.entries[held.id]
        hold = check_hold(message)
        self._postpone(entry, held.since + (hold.longest or 0), now)
        self._company.setdefault(held.seq, []).append((entry.id, entry.seq))
        held.gathered = (held.gathered or 0) + 1
        full = held.gathered >= hold.most
        if head.state is State.SCHEDULED:
            self._postpone(head, None if full else bounded(resolve(message.due, now), hold, held.since), now)
        if full:
            self._holds.close((entry.queue, message.unique or ""))

    def _replace(self, entry: Entry, message: Message, due: Instant | None, now: Instant) -> None:
        """One that waits becomes another, in its place and with its id and history."""
        born = birth(message, now)
        self._file(entry, put_off=False)
        self.lines.count(entry, -1)
        entry.message = replace(message, id=entry.message.id)
        self.lines.count(entry, 1)
        entry.expires, entry.deadline = born.expires, born.deadline
        entry.attempts = entry.crashes = entry.releases = 0
        entry.reason = entry.unknown_since = entry.failure = None
        self._postpone(entry, due, now)

    def _postpone(self, entry: Entry, due: Instant | None, now: Instant) -> None:
        """One that waits gets another time."""
        entry.due = due
        if entry.state is State.BLOCKED:
            self._happen(entry, Event.UNBLOCK, now)  # it stands in line
        if due is not None and due > now:
            self._happen(entry, Event.POSTPONE, now)
        elif entry.state is not State.READY:
            self._happen(entry, Event.DUE, now)
        else:
            self._stand(entry)

    # -- claim

    def receive(self, asks: Sequence[Ask], most: int | None, worker: str, now: Instant) -> list[Delivery]:
        """What is under the tokens of ``asks`` already, and what they and ``most`` leave room for."""
        held = {ask.token: self._held(ask) for ask in asks if ask.token in self._leases}
        room = sum(ask.limit for ask in asks) if most is None else most - sum(map(len, held.values()))
        taken: list[Delivery] = []
        for ask in asks:
            if ask.token in held:
                taken += held[ask.token]
                continue
            fresh, fronts = self._claim(ask, min(ask.limit, room), worker, now)
            room -= fronts
            taken += fresh
        return taken

    def _held(self, ask: Ask) -> list[Delivery]:
        held = (self.entries[key] for key in self._leases[ask.token].entries)
        return [
            self._delivery(e, ask.source) for e in sorted(held, key=lambda e: (-e.message.priority, e.seq))
        ]

    def _claim(self, ask: Ask, limit: int, worker: str, now: Instant) -> tuple[list[Delivery], int]:
        """Take up to ``limit`` ready entries, with what has gathered with them; and how many they were without it."""
        queue, taken, company = ask.source.queue, list[Entry](), list[Entry]()
        self.promote(queue, now)
        put_off = self._put_off(ask, now) if ask.names else []
        if queue in self.lines.rules:
            limit = self._tidy(queue, put_off, limit, now)
        if queue not in self.paused:
            if limit <= 0:
                put_off.clear()
            for entry in self._next_ready(queue, now, put_off):
                if len(taken) >= limit:
                    break
                some = self._company_of(entry, ask.token, now) if entry.message.hold is not None else []
                if company and len(company) + len(some) > MOST_GATHERED:
                    break
                company += some
                heapq.heappop(self._ready[queue])
                self._take(entry, ask, now)
                taken.append(entry)
                if len(taken) == limit:
                    put_off.clear()  # the rest of it waits on
        fronts = len(taken)
        for entry in company:
            if entry.token != ask.token:
                if entry.state is not State.READY:
                    self._happen(entry, Event.DUE if entry.state is State.SCHEDULED else Event.UNBLOCK, now)
                self._take(entry, ask, now)
                taken.append(entry)
        if taken:
            self.lines.taken(queue, taken[:fronts], now)
            self._leases[ask.token] = Lease(worker, now + self.options.timing.lease, {e.id for e in taken})
        return [self._delivery(e, ask.source) for e in taken], fronts

    def _take(self, entry: Entry, ask: Ask, now: Instant) -> None:
        """Put one that is ready under a lease."""
        self._happen(entry, Event.CLAIM, now)
        entry.token, entry.started, entry.progress = ask.token, now, None
        if entry.unknown_since is not None and entry.message.name not in ask.names:
            self._date(entry)

    def _company_of(self, head: Entry, token: Token, now: Instant) -> list[Entry]:
        """What has gathered with one, and is taken with it: what has not failed yet, and waits or is under ``token`` already."""
        hold = head.message.hold
        if hold is None or hold.conflict is not Conflict.JOIN:
            return []
        found = [(self.entries.get(key), seq) for key, seq in self._company.get(head.seq, ())]
        return [
            entry
            for entry, seq in found
            if entry is not None
            and entry.seq == seq
            and (self._stands(entry) in (State.SCHEDULED, State.READY) or entry.token == token)
            and entry.attempts == 0
            and (entry.expires is None or entry.expires > now)
        ]

    def _tidy(self, queue: str, put_off: list[Entry], limit: int, now: Instant) -> int:
        """Before the front of a queue with rules is read: what is late is over, and who may stands, also of what was put off; how many
        may be taken.
        """
        if limit > 0 and queue not in self.paused:
            for entry in put_off[-limit:]:
                self._happen(entry, Event.DUE, now)
            put_off.clear()
        self._end_late(queue, now)
        self.lines.balance(now)
        room = self.lines.room(queue, now)
        return limit if room is None else min(limit, room)

    def _put_off(self, ask: Ask, now: Instant) -> list[Entry]:
        """What was put off though its name is known, the first last; and that it is known."""
        found = list[Entry]()
        for place in [(ask.source.queue, name) for name in ask.names]:
            some = [e for e in self._nameless.get(place, {}).values() if e.expires is None or e.expires > now]
            if some:
                self._known[place] = now
                found += some
        return sorted(found, key=self._place, reverse=True)

    def _date(self, entry: Entry) -> None:
        """Since when nobody knows its name: not since before somebody did."""
        known = self._known.get((entry.queue, entry.message.name))
        if known is not None and entry.unknown_since is not None and entry.unknown_since <= known:
            entry.unknown_since = None

    def front(self, queue: str, now: Instant) -> Entry | None:
        """What a claim would take first."""
        self.promote(queue, now)
        self.lines.balance(now)
        if queue in self.paused or self.lines.room(queue, now) == 0:
            return None
        return next(self._next_ready(queue, now, []), None)

    def next_due(self, queue: str, now: Instant) -> Instant | None:
        """When the next of the queue may be taken that may not be taken now."""
        dues = [self._next_timed(queue), self.lines.next_due(queue)]
        refill = self.lines.refill(queue, now)
        if refill is not None and queue not in self.paused and next(self._next_ready(queue, now, []), None):
            dues.append(refill)
        return min((due for due in dues if due is not None), default=None)

    def _next_timed(self, queue: str) -> Instant | None:
        """When the next timed entry of the queue is due."""
        heap = self._timed.get(queue, [])
        while heap and not self._is_timed(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def promote(self, queue: str, now: Instant) -> None:
        """Make ready what is due."""
        while (due := self._next_timed(queue)) is not None and due <= now:
            entry = self.entries[heapq.heappop(self._timed[queue])[2]]
            self._happen(entry, Event.DUE, due)
        self.lines.promote(queue, now)

    def _next_ready(self, queue: str, now: Instant, put_off: list[Entry]) -> Iterator[Entry]:
        """The ready entry at the front, again and again until the caller takes it; expired ones are ended on the way. What was ``put_off``
        (the first last) becomes ready when it is its turn.
        """
        heap, full = self._ready.setdefault(queue, []), list[tuple[int, int, int, EntryId]]()
        try:
            while heap or put_off:
                if put_off and (not heap or self._place(put_off[-1]) < heap[0]):
                    self._happen(put_off.pop(), Event.DUE, now)
                entry = self.entries.get(heap[0][3])
                if entry is None or entry.state is not State.READY or self._place(entry) != heap[0]:
                    heapq.heappop(heap)
                elif entry.expires is not None and entry.expires <= now:
                    self._happen(entry, Event.EXPIRE, now)
                elif not self.lines.rules or self.lines.free(queue, entry.message.name):
                    yield entry
                else:
                    full.append(heapq.heappop(heap))
        finally:
            for place in full:
                heapq.heappush(heap, place)

    def _place(self, entry: Entry) -> tuple[int, int, int, EntryId]:
        """Where it stands in its queue once it is ready."""
        rank = 0
        if entry.line is not None and self.lines.are_fair(entry.queue):
            rank = entry.rank or 0
        return (-entry.message.priority, rank, entry.seq, entry.id)

    def _delivery(self, entry: Entry, source: Source) -> Delivery:
        if entry.token is None or entry.started is None:
            raise AssertionError(entry)
        return Delivery(
            id=entry.id, message=entry.message, source=source, token=entry.token, received=entry.started, created=entry.created,
            expires=entry.expires, deadline=entry.deadline, attempts=entry.attempts, crashes=entry.crashes, releases=entry.releases,
            unknown_since=entry.unknown_since,
        )  # fmt: skip

    # -- settle and extend

    def settle(self, batch: Sequence[Settlement], now: Instant) -> list[Settled]:
        """End deliveries, then publish what follows from them: it finds the unique keys free that they held."""
        for settlement in batch:
            if has_steps(settlement.then):
                self._check_following(settlement)
        then: list[tuple[str | None, Sequence[Message]]] = []
        answers = [self._settle(settlement, then, now) for settlement in batch]
        for own, messages in then:
            self._follow(own, messages, now)
        return answers

    def _settle(
        self, settlement: Settlement, then: list[tuple[str | None, Sequence[Message]]], now: Instant
    ) -> Settled:
        """End one delivery, if its token still holds the entry; what follows goes to ``then``."""
        delivery, verdict = settlement.delivery, settlement.verdict
        entry = self.entries.get(delivery.id)
        if entry is None or entry.token != delivery.token:
            if entry is not None and entry.settled_by == delivery.token:
                return Settled.OK
            self.counters["stale"] += 1
            return Settled.STALE
        most = self.options.timing.crashes
        self._end_try(entry, effect(verdict, crashes=entry.crashes, most_crashes=most, now=now), now)
        entry.settled_by = delivery.token
        if isinstance(verdict, v.Done):
            entry.result = verdict.result
            if settlement.then:
                then.append((self._flow_of(entry), settlement.then))
        return Settled.OK

    def save(self, delivery: Delivery, steps: Sequence[SavedStep], now: Instant) -> Settled:
        """Keep steps of a try, if its token still holds the entry."""
        entry = self.entries.get(delivery.id)
        if entry is None or entry.token != delivery.token:
            return Settled.STALE
        self.steps.save(entry.id, entry.tries + 1, steps, now)
        return Settled.OK

    def extend(self, delivery: Delivery, now: Instant, progress: q.Progress | None) -> Notice:
        """Renew one lease, and keep what is said of its progress."""
        entry = self.entries.get(delivery.id)
        if entry is None or delivery.token not in self._leases or entry.token != delivery.token:
            return Notice.LOST
        self.extend_lease(delivery.token, now)
        if progress is not None:
            entry.progress = replace(progress, at=now)
        return Notice.CANCEL if entry.cancel_requested else Notice.KEPT

    def extend_lease(self, token: Token, now: Instant) -> None:
        """Renew what a token holds, if it holds anything."""
        if token in self._leases:
            self._leases[token].until = now + self.options.timing.lease

    def take_back(self, named: Sequence[Delivery], under_way: Collection[Token], now: Instant) -> set[str]:
        """Lose what was taken a lease time ago under a token of ``named`` and is not named itself; returns its queues."""
        known = {delivery.id for delivery in named}
        leases = [self._leases.get(token) for token in {d.token for d in named}.difference(under_way)]
        lost = [
            entry
            for lease in leases
            if lease is not None
            for entry in map(self.entries.__getitem__, lease.entries - known)
            if (entry.started or now) + self.options.timing.lease <= now
        ]
        for entry in lost:
            self._lose(entry, now)
        return {entry.queue for entry in lost}

    # -- upkeep

    def sweep(self, budget: int, now: Instant) -> Swept:
        """Take back lost leases, end what expired, forget what is past its retention."""
        over = [lease for lease in self._leases.values() if lease.until <= now]
        lost = [self.entries[key] for lease in over for key in lease.entries][:budget]
        dead = tuple(sorted(entry.id for entry in lost if self._lose(entry, now)))
        late = [
            e
            for e in self.entries.values()
            if e.state in WAITING and e.expires is not None and e.expires <= now
        ][:budget]
        for entry in late:
            self._happen(entry, Event.EXPIRE, now)
        deleted = self._forget_old(budget, now)
        self.sight.forget(now)
        self._tend(now)
        self._known = {place: at for place, at in self._known.items() if at >= now - NAMES_KEPT}
        more = budget in (len(lost), len(late), self._holds.sweep(budget, now)) or deleted >= budget
        return Swept(lost=len(lost), dead=dead, expired=len(late), deleted=deleted, more=more)

    def _tend(self, now: Instant) -> None:
        """Look again at lines whose moment has come, and forget those in which nobody is."""
        for queue in self.lines.rules:
            self.lines.promote(queue, now)
        self.lines.balance(now)
        self.lines.forget(now)

    def ended(self, now: Instant) -> set[str]:
        """Some have come to an end or were put elsewhere: the queues in which others may be taken for it."""
        return self.lines.balance(now) | self.lines.bounded() if self.lines.rules else set()

    def hand_back(self, worker: str, now: Instant) -> int:
        """Treat all leases of a dead worker as lost."""
        self.sight.attend(worker, None, now)
        lost = [
            self.entries[key]
            for lease in self._leases.values()
            if lease.worker == worker
            for key in lease.entries
        ]
        for entry in lost:
            self._lose(entry, now)
        return len(lost)

    def _lose(self, entry: Entry, now: Instant) -> bool:
        """A lease is lost: the worker crashed or was cut off. Whether that was once too often."""
        change = lost(crashes=entry.crashes, most_crashes=self.options.timing.crashes)
        self._end_try(entry, change, now)
        return change.state in FINISHED

    def _forget_old(self, budget: int, now: Instant) -> int:
        """Forget what is past its retention, or over the cap of its state; a flow as a whole, as if all its steps had ended as it did."""
        deleted = 0
        for state, units in sorted(self._kept().items()):
            age, cap = self.options.retention.of(state)
            surplus = sum(weight for _, _, _, weight, _ in units) - cap
            for finished, _, _, weight, unit in sorted(units, key=itemgetter(0, 1, 2)):
                if deleted >= budget or not (surplus > 0 or (age is not None and finished + age <= now)):
                    break
                if isinstance(unit, Flow):
                    self.flows.go(unit)
                else:
                    self._forget(unit, now)
                surplus -= weight
                deleted += weight
        return deleted

    def _kept(self) -> dict[State, list[tuple[Instant, int, int, int, Entry | Flow]]]:
        """What is over: when, in which order, how many it counts for, and what it is."""
        kept: dict[State, list[tuple[Instant, int, int, int, Entry | Flow]]] = {}
        for entry in self.entries.values():
            if entry.finished is not None and entry.message.step is None:
                kept.setdefault(entry.state, []).append((entry.finished, 0, entry.seq, 1, entry))
        for state, finished, weight, flow in self.flows.kept():
            kept.setdefault(state, []).append((finished, 1, flow.number, weight, flow))
        return kept

    # -- steer and look

    def steer(self, which: q.Selector, command: q.Change, now: Instant) -> q.Steered:
        """Carry out a command that concerns messages."""
        can, done, found = q.changeable(command), q.Steered(), 0
        if isinstance(command, q.Delete) and (flow := is_whole(which)) is not None:
            return self._delete_flow(flow)
        entries = list(self.selected(which))
        for entry in reversed(entries) if newest_first(which, command) else entries:
            found += 1
            if entry.state in can:
                if which.limit is None or done.touched < which.limit:
                    done += self._change(entry, command, now)
            elif which.ids:
                done += q.Steered(skipped={entry.state.value: 1})
        if which.ids and (absent := len(set(which.ids)) - found):
            done += q.Steered(skipped={q.NOT_FOUND: absent})
        return done

    def _change(self, entry: Entry, command: q.Change, now: Instant) -> q.Steered:
        match command:
            case q.Redrive():
                return self._redrive(entry, now)
            case q.CancelNow():
                return self._cancel(entry, now)
            case q.Delete():
                if entry.message.step is not None:
                    return q.Steered(skipped={q.PART_OF_FLOW: 1})
                self._forget(entry, now, let_go=True)
                return q.Steered(changed=1)

    def selected(self, which: q.Selector) -> Iterator[Entry]:
        """The entries a selector means, oldest first."""
        found: Iterable[Entry] = self.entries.values()
        if which.flow is not None:
            flow = self.flows.flows.get(which.flow)
            found = [] if flow is None else [self.entries[key] for key in flow.nodes]
        if which.ids:
            found = sorted(filter(None, map(self.entries.get, set(which.ids))), key=lambda e: e.seq)
        return (entry for entry in found if self._is_meant(which, entry))

    def _is_meant(self, which: q.Selector, entry: Entry) -> bool:
        failure = entry.failure
        return (
            which.queue in (None, entry.queue)
            and which.name in (None, entry.message.name)
            and which.key in (None, entry.message.key)
            and which.flow in (None, self._flow_of(entry))
            and (not which.states or entry.state in which.states)
            and (which.worker is None or which.worker == self.worker_of(entry))
            and (which.error is None or (failure is not None and failure.type == which.error))
            and (
                which.fingerprint is None
                or (failure is not None and failure.fingerprint == which.fingerprint)
            )
            and _lies_in(entry.created, which.created_since, which.created_before)
            and _lies_in(entry.finished, which.finished_since, which.finished_before)
        )

    def value(self, entry: Entry, by: q.By) -> str | int | None:
        """What an entry is grouped by, if it has that."""
        match by:
            case q.By.QUEUE:
                return entry.queue
            case q.By.NAME:
                return entry.message.name
            case q.By.STATE:
                return entry.state.value
            case q.By.WORKER:
                return self.worker_of(entry)
            case q.By.ERROR:
                return None if entry.failure is None else entry.failure.type
            case q.By.FINGERPRINT:
                return None if entry.failure is None else entry.failure.fingerprint
            case q.By.MINUTE:
                return None if entry.finished is None else minute_of(entry.finished)

    def worker_of(self, entry: Entry) -> str | None:
        """Who has it now."""
        lease = None if entry.token is None else self._leases.get(entry.token)
        return None if lease is None else lease.worker

    def record(self, entry: Entry, now: Instant) -> q.TaskRecord:
        """An entry as a value."""
        return q.TaskRecord(
            id=entry.id, message=entry.message, queue=entry.queue, state=entry.state, created=entry.created, due=entry.due,
            expires=entry.expires, deadline=entry.deadline, started=entry.started, finished=entry.finished, attempts=entry.attempts,
            crashes=entry.crashes, releases=entry.releases, cancel_requested=entry.cancel_requested, reason=entry.reason,
            progress=entry.progress, result=entry.result, tries=tuple(entry.history), waits=self._waits(entry, now),
        )  # fmt: skip

    def _waits(self, entry: Entry, now: Instant) -> Waits | None:
        if entry.state is State.SCHEDULED and entry.due is not None and entry.due > now:
            return waited_for(self.steps.saved(entry.id), now)
        if entry.state is State.READY or entry.line is not None:
            return self.lines.waits(entry, now)
        if entry.state is not State.BLOCKED:
            return None
        if (parents := self.flows.waits(entry.id)) is not None:
            return parents
        steps = self.steps.saved(entry.id)
        return waited_for((replace(step, due=entry.expires or step.due) for step in steps), now)

    def step_record(self, node: Node) -> StepRecord:
        """A step as a value."""
        entry, step, parents = self.entries[node.id], node.step, node.parents
        return StepRecord(
            id=entry.id, name=step.name, task=entry.message.name, queue=entry.queue, state=entry.state, when=step.when, role=step.role,
            after=step.after[:LOOKED_AT], open=parents[End.OPEN], failed=parents[End.FAILED], skipped=parents[End.SKIPPED],
            attempts=entry.attempts, reason=entry.reason, error=entry.failure, started=entry.started, finished=entry.finished,
        )  # fmt: skip

    def parent(self, node: Node) -> Parent:
        """A step as its child sees it."""
        entry = self.entries[node.id]
        error = None if entry.state is State.SUCCEEDED else entry.failure
        return Parent(
            id=entry.id,
            name=node.step.name,
            state=entry.state,
            result=entry.result,
            reason=entry.reason,
            error=None if error is None else replace(error, traceback=""),
        )

    def counts(self, now: Instant) -> q.Counts:
        """All queues by state."""
        numbers = Counter((entry.queue, entry.state) for entry in self.entries.values())
        oldest: dict[str, Instant] = {}
        for entry in self.entries.values():
            if entry.state is State.READY and entry.ready_since is not None:
                oldest[entry.queue] = min(entry.ready_since, oldest.get(entry.queue, entry.ready_since))
        declared = [
            (s.queue, s.queue in self.paused, s.pattern, s.group, s.limit) for s in self.bindings.values()
        ]
        declared += [(queue, True, None, None, None) for queue in self.paused - self.bindings.keys()]
        found = [
            (queue, state, n, oldest.get(queue) if state is State.READY else None)
            for (queue, state), n in numbers.items()
        ]
        return counted(now, declared, found, self.counters, self.lines.rules)

    # -- the moves everything above is made of

    def _end_try(self, entry: Entry, change: Effect, now: Instant) -> None:
        """A try is over: it is told, its lease is let go, and its effect written."""
        self._record(entry, change.event, change.error, now)
        ran = now - (entry.started or now)
        self.sight.sums(now).end(entry.queue, entry.message.name, change, ran)
        self._let_go(entry)
        entry.attempts += change.attempts
        entry.crashes += change.crashes
        entry.releases += change.releases
        self.counters["crashed"] += change.crashes
        entry.due = entry.due if change.due is None else change.due
        if self.steps.end_try(entry.id) and change.awaits:
            entry.due = min(entry.due or now, now)
        entry.reason = entry.reason if change.reason is None else change.reason
        entry.failure = entry.failure if change.error is None else change.error
        match change.unknown:
            case Unknown.BEGIN:
                entry.unknown_since = entry.unknown_since or now
            case Unknown.CLEAR:
                entry.unknown_since = None
            case Unknown.KEEP:
                pass
        self._enter(entry, change.if_asked if entry.cancel_requested else change.state, now)

    def _happen(self, entry: Entry, event: Event, now: Instant) -> None:
        """What is not the end of a try: the state follows from the table."""
        then = after(entry.state, event)
        if then is None:
            raise AssertionError(f"{event} in state {entry.state}")
        self._enter(entry, then, now)

    def _enter(self, entry: Entry, state: State, now: Instant) -> None:
        """The one way into a state. A message that is over passes here, however that came."""
        if entry.line is not None:
            self.lines.count(entry, -1)
        if self.lines.rules:
            self.lines.running[entry.queue] += (state is State.RUNNING) - (entry.state is State.RUNNING)
        level = self._levels.get(entry.queue) if self._levels else None
        if level is not None:
            level.waiting += (state in WAITING) - (entry.state in WAITING)
        if entry.unknown_since is not None:
            self._file(entry, put_off=state is State.SCHEDULED)
        entry.state = state
        if state in FINISHED:
            entry.finished = now
            if level is not None and state in ENDED_BY_WORK:
                level.finished.append(now)
        elif state is State.READY:
            entry.ready_since = now
            heapq.heappush(self._ready.setdefault(entry.queue, []), self._place(entry))
        elif state in TIMED:
            heapq.heappush(self._timed.setdefault(entry.queue, []), (entry.due or 0, entry.seq, entry.id))
        if entry.expires is not None and entry.queue in self._late and state in WAITING:
            heapq.heappush(self._late[entry.queue], (entry.expires, entry.seq, entry.id))
        if entry.line is not None:
            self.lines.count(entry, 1)
        if entry.message.step is not None:
            self.flows.note(entry.id, state, entry.reason)

    def _file(self, entry: Entry, *, put_off: bool) -> None:
        """Whether it is among those that wait for a worker that knows their name."""
        place = (entry.queue, entry.message.name)
        if put_off:
            self._nameless.setdefault(place, {})[entry.id] = entry
        elif (some := self._nameless.get(place)) is not None:
            some.pop(entry.id, None)
            if not some:
                del self._nameless[place]

    def _stand(self, entry: Entry) -> None:
        """Take its place among what is ready."""
        heapq.heappush(self._ready.setdefault(entry.queue, []), self._place(entry))

    def _let_go(self, entry: Entry) -> None:
        """Take the entry from under its lease."""
        if entry.token is not None and (lease := self._leases.get(entry.token)) is not None:
            lease.entries.discard(entry.id)
            if not lease.entries:
                del self._leases[entry.token]
        entry.token = None

    def _record(self, entry: Entry, event: Event, error: v.Failure | None, now: Instant) -> None:
        lease = self._leases.get(entry.token) if entry.token is not None else None
        entry.tries += 1
        entry.history.append(
            q.Try(
                number=entry.tries,
                worker=lease.worker if lease else "",
                started=entry.started or now,
                ended=now,
                verdict=event.value,
                error=error,
            )
        )
        del entry.history[: -q.TRIES_KEPT]

    def _redrive(self, entry: Entry, now: Instant) -> q.Steered:
        node = self.flows.nodes.get(entry.id)
        if node is not None and node.flow.going:
            return q.Steered(skipped={q.NOT_FOUND: 1})
        if node is not None and isinstance(node.kind, v.Reason):
            return q.Steered(skipped={node.kind.value: 1})
        if self._holder(entry, now) != entry.id:
            return q.Steered(skipped={q.KEY_TAKEN: 1})
        self._file(entry, put_off=False)
        entry.attempts = entry.crashes = entry.releases = 0
        entry.due = entry.expires = entry.deadline = entry.finished = entry.reason = entry.result = (
            entry.unknown_since
        ) = entry.failure = None
        entry.cancel_requested = False
        self.lines.leave(entry)
        if node is None or entry.state in TIMED:
            self._happen(entry, Event.REDRIVE, now)
            self.lines.enter(entry)
            return q.Steered(changed=1)
        # Whether it may run its parents say, who may have been opened with it.
        self.flows.open(node)
        self._happen(entry, Event.BLOCK, now)
        return q.Steered(changed=1)

    def _cancel(self, entry: Entry, now: Instant) -> q.Steered:
        if entry.state is not State.RUNNING:
            self._happen(entry, Event.CANCEL, now)
            return q.Steered(changed=1)
        if entry.token is not None and self._leases[entry.token].until <= now:
            self._end_try(entry, CANCELLED, now)
            return q.Steered(changed=1)
        if entry.cancel_requested:
            return q.Steered(skipped={q.ASKED_BEFORE: 1})
        entry.cancel_requested = True
        return q.Steered(asked=1)

    def _forget(self, entry: Entry, now: Instant, *, let_go: bool = False) -> None:
        """Remove it. ``let_go``: its unique key too, though its window is not over."""
        if (unique := entry.message.unique) is not None:
            self._holds.forget((entry.queue, unique), entry.seq, now, let_go=let_go)
            self._company.pop(entry.seq, None)
        if (level := self._levels.get(entry.queue)) is not None:
            level.waiting -= entry.state in WAITING
        self._file(entry, put_off=False)
        self.lines.leave(entry)
        self.steps.forget(entry.id)
        del self.entries[entry.id]

    def _is_timed(self, place: tuple[Instant, int, EntryId]) -> bool:
        entry = self.entries.get(place[2])
        return entry is not None and entry.seq == place[1] and entry.state in TIMED and entry.due == place[0]


def _belongs(message: Message) -> Place:
    return Place(message.name, message.key, None if message.step is None else message.step.flow)


def _lies_in(when: Instant | None, since: Instant | None, before: Instant | None) -> bool:
    """Whether it lies in a span; what has no moment lies in the boundless one only."""
    if when is None:
        return since is None and before is None
    return (since is None or since <= when) and (before is None or when < before)
