"""Who may stand ready where a rule says so: lines of keys and names, and the buckets of queues. The caller holds the lock.

An entry that stands in a line is ready only while the rule leaves room for it, so a claim need not know of lines. Whatever moves such an
entry marks its line; before anybody else looks, `balance` makes marked lines keep their rules again.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

from forebay.engine import Spent
from forebay.model.rule import (
    AHEAD,
    FREE,
    MOST_AHEAD,
    TURN,
    Line as Measures,
    Room,
    spent,
    tokens,
    waits_for_room,
    waits_in_line,
    when,
)
from forebay.model.state import FINISHED, TIMED, Event, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.model.message import EntryId, Message
    from forebay.model.rule import Nanos, Place, RateLimit, Rules
    from forebay.model.waits import Waits
    from forebay.model.when import Instant, Micros


class Entry(Protocol):
    """What lines know of an entry, and keep with it: its line, and its turn there."""

    id: EntryId
    seq: int
    message: Message
    queue: str
    state: State
    started: Instant | None
    line: Line | None
    rank: int | None


@dataclass(slots=True, eq=False)
class Line:
    """Those of one place of a queue that are not over. ``finish``: the virtual time at which its last turn ends."""

    queue: str
    place: Place
    running: int = 0
    live: int = 0
    held: set[EntryId] = field(default_factory=set)
    standing: dict[EntryId, Entry] = field(default_factory=dict)
    waiting: list[tuple[int, int, Entry]] = field(default_factory=list)
    full: Nanos = 0
    finish: int = 0
    due: Instant | None = None

    def add(self, entry: Entry, sign: int) -> None:
        """Count an entry in (1) or out (-1), as it is."""
        if entry.state in FINISHED:
            return
        self.live += sign
        if entry.state is State.RUNNING:
            self.running += sign
        elif entry.state is State.READY:
            if sign > 0:
                self.standing[entry.id] = entry
            else:
                del self.standing[entry.id]
        elif entry.state is State.BLOCKED:
            if sign > 0:
                heapq.heappush(self.waiting, (-entry.message.priority, entry.seq, entry))
        elif entry.state in TIMED and entry.started is not None:
            (self.held.add if sign > 0 else self.held.discard)(entry.id)

    def front(self) -> Entry | None:
        """The first that waits for its turn."""
        while self.waiting and not self.keeps(*self.waiting[0]):
            heapq.heappop(self.waiting)
        return self.waiting[0][2] if self.waiting else None

    def keeps(self, place: int, _: int, entry: Entry) -> bool:
        """Whether an entry waits here, in the place that it is noted in: its priority may be another since."""
        return entry.state is State.BLOCKED and entry.line is self and entry.message.priority == -place


class Lines:
    """All lines of a ledger, and its buckets. ``happen`` moves an entry from state to state; by ``stand`` one that is ready has its place
    at the front of its queue.
    """

    def __init__(
        self, happen: Callable[[EntryId, Event, Instant], None], stand: Callable[[EntryId], None]
    ) -> None:
        self._happen, self._stand = happen, stand
        self.rules: dict[str, Rules] = {}
        self.running: Counter[str] = Counter()
        self._names: Counter[str] = Counter()
        self._lines: dict[tuple[str, Place], Line] = {}
        self._marked: dict[Line, None] = {}
        self._dues: dict[str, list[tuple[Instant, int, Line]]] = {}
        self._number = count()
        self._full: dict[str, Nanos] = {}
        self._turns: dict[str, int] = {}
        self._buckets: dict[str, Nanos] = {}

    # -- which entry stands where

    def declare(self, queue: str, rules: Rules, live: Sequence[Entry]) -> None:
        """What holds in a queue from now on, for those that are there too."""
        self.rules[queue] = rules
        if rules == FREE:
            del self.rules[queue]
        self.running[queue] = sum(entry.state is State.RUNNING for entry in live)
        for entry in live:
            place = rules.place(entry.message.key, entry.message.name)
            if place is not None and (entry.line is None or entry.line.place != place):
                self.leave(entry)
                self._join(entry, place)
            if entry.state is State.READY:
                self._stand(entry.id)
        self._marked.update((line, None) for line in self._lines.values() if line.queue == queue)

    def enter(self, entry: Entry) -> None:
        """A message that begins, or begins anew, stands in line where there is one for it."""
        rules = self.rules.get(entry.queue)
        if rules is None or (place := rules.place(entry.message.key, entry.message.name)) is None:
            return
        entry.started = None
        self._join(entry, place)

    def _join(self, entry: Entry, place: Place) -> None:
        line = self._lines.get((entry.queue, place))
        if line is None:
            line = self._lines[entry.queue, place] = Line(entry.queue, place)
        entry.line, entry.rank = line, None
        self.count(entry, 1)

    def leave(self, entry: Entry) -> None:
        """It stands in no line any more."""
        if entry.line is not None:
            self.count(entry, -1)
            entry.line = None

    def count(self, entry: Entry, sign: int) -> None:
        """Count an entry in or out of its line: before it is changed, and after."""
        if entry.line is None:
            return
        entry.line.add(entry, sign)
        self._names[entry.message.name] += sign * (entry.state is State.RUNNING)
        self._marked[entry.line] = None

    # -- who may stand ready

    def balance(self, now: Instant) -> set[str]:
        """Make all marked lines keep their rules; returns the queues in which somebody may be taken since, or is due."""
        moved: set[str] = set()
        while self._marked:
            line, _ = self._marked.popitem()
            rules = self.rules.get(line.queue, FREE)
            stand = rules.stand(line.place, Measures(line.running, bool(line.held), line.full), now)
            self._cut(line, stand.number, now)
            if self._fill(line, stand.number, now):
                moved.add(line.queue)
            if rules.rule.fair:
                self._rank(line, rules)
            due = stand.due if line.front() is not None else None
            if due is not None and due != line.due:
                moved.add(line.queue)
                heapq.heappush(self._dues.setdefault(line.queue, []), (due, next(self._number), line))
            line.due = due
            # What was moved here has marked the line again, and it is as it should be.
            self._marked.pop(line, None)
        return moved

    def _cut(self, line: Line, number: int, now: Instant) -> None:
        """Those that stand too many give way, the last first."""
        if len(line.standing) > number:
            for entry in sorted(line.standing.values(), key=order)[number:]:
                self._happen(entry.id, Event.BLOCK, now)

    def _fill(self, line: Line, number: int, now: Instant) -> bool:
        """The first in line stand, and not others."""
        changed = False
        while number and (front := line.front()) is not None:
            if len(line.standing) >= number:
                last = max(line.standing.values(), key=order)
                if last.started is not None or order(last)[1:] < order(front)[1:]:
                    break
                self._happen(last.id, Event.BLOCK, now)
            self._happen(front.id, Event.UNBLOCK, now)
            changed = True
        return changed

    def _rank(self, line: Line, rules: Rules) -> None:
        """Start-time fair queueing (Goyal, Vin and Cheng, 1996): a turn begins where the last one of its line ends, or now."""
        for entry in sorted(line.standing.values(), key=order):
            if entry.rank is None:
                entry.rank = max(line.finish, self._turns.get(line.queue, 0))
                line.finish = entry.rank + TURN // rules.rule.weight(line.place.key)
                self._stand(entry.id)

    def bounded(self) -> set[str]:
        """The queues in which an end makes room for others, whatever line these stand in."""
        return {queue for queue, rules in self.rules.items() if rules.rule.concurrency or rules.most}

    def are_fair(self, queue: str) -> bool:
        """Whether the keys of a queue take turns."""
        rules = self.rules.get(queue)
        return rules is not None and rules.rule.fair

    # -- how much may be taken

    def room(self, queue: str, now: Instant) -> int | None:
        """How many a claim may take; None: any number."""
        rule = self.rules.get(queue, FREE).rule
        room = None if rule.concurrency is None else max(rule.concurrency - self.running[queue], 0)
        if rule.rate is None:
            return room
        there = tokens(rule.rate, self._full.get(queue, 0), now)
        return there if room is None else min(room, there)

    def free(self, queue: str, name: str) -> bool:
        """Whether one more task of a name may run."""
        rules = self.rules.get(queue)
        return rules is None or name not in rules.most or self._names[name] < rules.most[name]

    def taken(self, queue: str, entries: Sequence[Entry], now: Instant) -> None:
        """These were taken: they have had their tokens and their turns."""
        rules = self.rules.get(queue)
        if rules is None or not entries:
            return
        rule = rules.rule
        if rule.rate is not None:
            self._full[queue] = spent(rule.rate, self._full.get(queue, 0), now, len(entries))
        for entry in entries:
            if entry.line is None or not entry.line.place.key:
                continue
            if rule.rate_per_key is not None:
                entry.line.full = spent(rule.rate_per_key, entry.line.full, now, 1)
        if rule.fair:
            self._turns[queue] = max(self._turns.get(queue, 0), *(entry.rank or 0 for entry in entries))
            for entry in entries:
                entry.rank = None

    def promote(self, queue: str, now: Instant) -> None:
        """Look again at the lines whose moment has come."""
        while (due := self.next_due(queue)) is not None and due <= now:
            line = heapq.heappop(self._dues[queue])[2]
            line.due = None
            self._marked[line] = None

    def refill(self, queue: str, now: Instant) -> Instant | None:
        """When the next may be taken where the bucket of the queue is empty."""
        rule = self.rules.get(queue, FREE).rule
        if rule.rate is None or (full := self._full.get(queue, 0)) <= now * 1_000:
            return None
        moment = when(rule.rate, full, now)
        return moment if moment > now else None

    def next_due(self, queue: str) -> Instant | None:
        """When the next entry of a line may stand that waits for the rate of its key."""
        heap = self._dues.get(queue, [])
        while heap and heap[0][2].due != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def waits(self, entry: Entry, now: Instant) -> Waits | None:
        """What an entry waits for that is ready or stands in line, if that is not a worker."""
        rules, line = self.rules.get(entry.queue), entry.line
        if rules is None:
            return None
        if entry.state is State.READY:
            refill = self.refill(entry.queue, now) if self.room(entry.queue, now) == 0 else None
            full = not self.free(entry.queue, entry.message.name)
            room = Room(self.room(entry.queue, now), refill, full)
            return waits_for_room(entry.queue, entry.message.name, rules, room)
        if entry.state is not State.BLOCKED or line is None:
            return None
        own = (-entry.message.priority, entry.seq)
        before = [e for place, seq, e in line.waiting if (place, seq) < own and line.keeps(place, seq, e)]
        ahead = min(len({e.id for e in before}), MOST_AHEAD) + len(line.standing)
        measures = Measures(line.running, bool(line.held), line.full)
        return waits_in_line(rules, line.place, measures, ahead, line.due)

    # -- buckets that handlers share

    def spend(self, bucket: str, rate: RateLimit, patience: Micros, now: Instant) -> Spent:
        """Take the next token, if it comes in time."""
        full = self._buckets.get(bucket, 0)
        wait = when(rate, full, now, ahead=AHEAD) - now
        if wait <= patience:
            self._buckets[bucket] = spent(rate, full, now, 1, ahead=AHEAD)
        return Spent(wait, taken=wait <= patience)

    def forget(self, now: Instant) -> None:
        """Forget lines in which nobody is and that owe nothing, and buckets that are full."""
        for key, line in list(self._lines.items()):
            owes = line.full > now * 1_000 or line.finish > self._turns.get(line.queue, 0)
            if not line.live and not owes:
                del self._lines[key]
                self._marked.pop(line, None)
        self._buckets = {name: full for name, full in self._buckets.items() if full > now * 1_000}


def order(entry: Entry) -> tuple[bool, int, int]:
    """Its place among those of its line that stand: what has begun is not overtaken."""
    return (entry.started is None, -entry.message.priority, entry.seq)
