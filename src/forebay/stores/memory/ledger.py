"""What is true of every message in a memory store, and the few moves everything that happens to one is made of. Synchronous; the caller
holds the lock. No waiting, no signals, no clock reading.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from forebay.model import query as q, verdict as v
from forebay.model.effect import Effect, Unknown
from forebay.model.state import ENDED_BY_WORK, FINISHED, TIMED, WAITING, Event, State, after
from forebay.model.unique import effective
from forebay.stores.memory.flows import Flows
from forebay.stores.memory.holds import Holds
from forebay.stores.memory.lines import Lines
from forebay.stores.memory.sight import Sight
from forebay.stores.memory.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.engine import EngineOptions, Published, Source
    from forebay.model.message import EntryId, Message
    from forebay.model.rule import Override
    from forebay.model.when import Instant
    from forebay.stores.memory.entry import Entry, Lease, Level
    from forebay.support.ids import Token


class Ledger:
    """All entries, and the indexes over them that claims and sweeps read."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.heard: Callable[[Message, Published, Instant], None] | None = None
        """Is told of each message that was stored, if anybody is to know: also of an event to which nobody has subscribed."""
        self.sight = Sight(options.timing.lease)
        self.steps = Steps()
        self.woken: set[str] = set()
        """Queues of what an event has made due, to be told of."""
        self.entries: dict[EntryId, Entry] = {}
        self.seq = 0
        """The number of the latest entry."""
        self.bindings: dict[str, Source] = {}
        self.said: dict[str, Override] = {}
        """What was said of queues while they ran."""
        self.levels: dict[str, Level] = {}
        """Of queues with a limit."""
        self.dropped = 0
        """How many have expired for others to have room."""
        self.paused: set[str] = set()
        self.counters: dict[str, int] = {"stale": 0, "unrouted": 0, "crashed": 0}
        self.leases: dict[Token, Lease] = {}
        self.ready: dict[str, list[tuple[int, int, int, EntryId]]] = {}
        """The places of what is ready, by queue: the front first. Those that are left over are skipped when they are met."""
        self.timed: dict[str, list[tuple[Instant, int, EntryId]]] = {}
        """What waits for its time, by queue: the soonest first, with what is left over as well."""
        self.nameless: dict[tuple[str, str], dict[EntryId, Entry]] = {}
        """What is put off because a worker did not know its name, by queue and name."""
        self.known: dict[tuple[str, str], Instant] = {}
        """When somebody who knows the name has last asked for what was put off."""
        self.holds = Holds(self.state_of)
        self.company: dict[int, list[tuple[EntryId, int]]] = {}
        """What has gathered with an entry, by its number: their ids and numbers."""
        self.flows = Flows()
        self.lines = Lines(
            lambda key, event, now: self.happen(self.entries[key], event, now),
            lambda key: self.stand(self.entries[key]),
        )
        self.late: dict[str, list[tuple[Instant, int, EntryId]]] = {}
        """Of queues with rules: what expires, soonest first."""

    def end_try(self, entry: Entry, change: Effect, now: Instant) -> None:
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
        self.enter(entry, change.if_asked if entry.cancel_requested else change.state, now)

    def happen(self, entry: Entry, event: Event, now: Instant) -> None:
        """What is not the end of a try: the state follows from the table."""
        then = after(entry.state, event)
        if then is None:
            raise AssertionError(f"{event} in state {entry.state}")
        self.enter(entry, then, now)

    def enter(self, entry: Entry, state: State, now: Instant) -> None:
        """The one way into a state. A message that is over passes here, however that came."""
        if entry.line is not None:
            self.lines.count(entry, -1)
        if self.lines.rules:
            self.lines.running[entry.queue] += (state is State.RUNNING) - (entry.state is State.RUNNING)
        level = self.levels.get(entry.queue) if self.levels else None
        if level is not None:
            level.waiting += (state in WAITING) - (entry.state in WAITING)
        if entry.unknown_since is not None:
            self.file(entry, put_off=state is State.SCHEDULED)
        entry.state = state
        if state in FINISHED:
            entry.finished = now
            if level is not None and state in ENDED_BY_WORK:
                level.finished.append(now)
        elif state is State.READY:
            entry.ready_since = now
            heapq.heappush(self.ready.setdefault(entry.queue, []), self.place(entry))
        elif state in TIMED:
            heapq.heappush(self.timed.setdefault(entry.queue, []), (entry.due or 0, entry.seq, entry.id))
        if entry.expires is not None and entry.queue in self.late and state in WAITING:
            heapq.heappush(self.late[entry.queue], (entry.expires, entry.seq, entry.id))
        if entry.line is not None:
            self.lines.count(entry, 1)
        if entry.message.step is not None:
            self.flows.note(entry.id, state, entry.reason)

    def forget(self, entry: Entry, now: Instant, *, let_go: bool = False) -> None:
        """Remove it. ``let_go``: its unique key too, though its window is not over."""
        if (unique := entry.message.unique) is not None:
            self.holds.forget((entry.queue, unique), entry.seq, now, let_go=let_go)
            self.company.pop(entry.seq, None)
        if (level := self.levels.get(entry.queue)) is not None:
            level.waiting -= entry.state in WAITING
        self.file(entry, put_off=False)
        self.lines.leave(entry)
        self.steps.forget(entry.id)
        del self.entries[entry.id]

    def _let_go(self, entry: Entry) -> None:
        """Take the entry from under its lease."""
        if entry.token is not None and (lease := self.leases.get(entry.token)) is not None:
            lease.entries.discard(entry.id)
            if not lease.entries:
                del self.leases[entry.token]
        entry.token = None

    def _record(self, entry: Entry, event: Event, error: v.Failure | None, now: Instant) -> None:
        """Keep of a try what is told of it later."""
        lease = self.leases.get(entry.token) if entry.token is not None else None
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

    def file(self, entry: Entry, *, put_off: bool) -> None:
        """Whether it is among those that wait for a worker that knows their name."""
        place = (entry.queue, entry.message.name)
        if put_off:
            self.nameless.setdefault(place, {})[entry.id] = entry
        elif (some := self.nameless.get(place)) is not None:
            some.pop(entry.id, None)
            if not some:
                del self.nameless[place]

    def stand(self, entry: Entry) -> None:
        """Take its place among what is ready."""
        heapq.heappush(self.ready.setdefault(entry.queue, []), self.place(entry))

    def place(self, entry: Entry) -> tuple[int, int, int, EntryId]:
        """Where it stands in its queue once it is ready."""
        rank = 0
        if entry.line is not None and self.lines.are_fair(entry.queue):
            rank = entry.rank or 0
        return (-entry.message.priority, rank, entry.seq, entry.id)

    def state_of(self, key: EntryId, seq: int) -> State | None:
        """How one that has a unique key stands, None if it is gone."""
        entry = self.entries.get(key)
        if entry is None or entry.seq != seq:
            return None
        return effective(self.stands(entry), begun=bool(self.steps.saved(key)))

    def stands(self, entry: Entry) -> State:
        """Its state; who stands in line is as good as ready."""
        return State.READY if entry.state is State.BLOCKED and entry.line is not None else entry.state
