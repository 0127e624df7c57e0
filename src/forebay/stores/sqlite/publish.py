"""Storing messages: what they are, then where they stand. Runs inside a write transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.engine import Published, Ready, Stored
from forebay.model.entry import birth, routed
from forebay.model.message import EntryId, Message, entry_id
from forebay.model.state import State
from forebay.stores.face import check_hold
from forebay.stores.flows import by_flow, has_steps
from forebay.stores.sqlite import admission, arrivals, births, lines, unique
from forebay.stores.sqlite.rows import message_row, moments
from forebay.stores.sqlite.rules import catch_up, catch_up_limits
from forebay.stores.sqlite.session import batch as encoded, numbers, parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.model.rule import Place, Rules
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Session

_PLACE: Final = attrgetter("queue", "name")
_SAID: Final = attrgetter("topic", "due", "expires", "deadline", "unique", "step", "hold")
_NOTHING: Final = (None,) * 7
_QUEUE: Final = 3
_UNIQUE: Final = 10
"""Columns of a row of `publish_entries`."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where each message of a batch goes: its queues, and the sequence numbers of its places in them; the ``lines`` that it stands in
    where there are ``rules``.
    """

    messages: Sequence[Message]
    queues: list[list[str]]
    seqs: list[range]
    rules: dict[str, Rules] = field(default_factory=dict)
    lines: dict[tuple[str, Place], int] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> _Plan:
        """Some of it."""
        return _Plan(self.messages[start:stop], self.queues[start:stop], self.seqs[start:stop])

    def entries(self, now: Instant) -> list[tuple[object, ...]]:
        """The rows of `publish_entries`."""
        return [
            row
            for m, queues, seqs in zip(self.messages, self.queues, self.seqs, strict=True)
            for row in self._places(m, queues, seqs, now)
        ]

    def _places(
        self, message: Message, queues: list[str], seqs: range, now: Instant
    ) -> Iterator[tuple[object, ...]]:
        born, due, expires, deadline = birth(message, now)
        unique_key = message.unique if message.hold is None else None
        for seq, queue in zip(seqs, queues, strict=True):
            line = self._line(queue, message) if self.lines else None
            # Who stands in line is called from there.
            state = State.BLOCKED if line is not None and born is State.READY else born
            since = now if state is State.READY else None
            key = entry_id(message.id, queue, copied=message.topic is not None)
            yield (
                seq, seqs.start, key, queue, state, message.priority, due, expires, deadline, since, unique_key, message.name,
                message.key, line,
            )  # fmt: skip

    def _line(self, queue: str, message: Message) -> int | None:
        rules = self.rules.get(queue)
        place = None if rules is None else rules.place(message.key, message.name)
        return None if place is None else self.lines[queue, place]


def admit(session: Session, messages: Sequence[Message]) -> list[Published]:
    """Store a batch of senders from outside, who have to respect limits; answers per item and in order."""
    if not messages:
        return []
    if has_steps(messages):
        return _with_flows(session, messages)
    first, mark = session.row("publish_next")
    queues = _queues(session, messages)
    catch_up(session, mark)
    catch_up_limits(session, mark)
    if not session.caps.by_queue or not (refused := admission.turned_away(session, messages, queues)):
        return _store(session, _plan(messages, queues, first))
    kept = [n for n in range(len(messages)) if n not in refused]
    plan = _plan([messages[n] for n in kept], [queues[n] for n in kept], first)
    answers = refused | dict(zip(kept, _store(session, plan), strict=True))
    return [answers[n] for n in range(len(messages))]


def _with_flows(session: Session, messages: Sequence[Message]) -> list[Published]:
    """Store a batch some of which are steps: flows first, whole or not at all."""
    plain, flows = by_flow(messages)
    begun = births.admit(session, {flow: [messages[n] for n in places] for flow, places in flows.items()})
    answers = {
        n: answer for flow, places in flows.items() for n, answer in zip(places, begun[flow], strict=True)
    }
    answers |= zip(plain, admit(session, [messages[n] for n in plain]), strict=True)
    return [answers[n] for n in range(len(messages))]


def publish(session: Session, messages: Sequence[Message]) -> list[Published]:
    """Store a batch, whatever the limits; answers per item and in order."""
    if not messages:
        return []
    first, mark = session.row("publish_next")
    queues = _queues(session, messages)
    catch_up(session, mark)
    session.tallies.grow(queue for places in queues for queue in places)
    return _store(session, _plan(messages, queues, first))


def _store(session: Session, plan: _Plan) -> list[Published]:
    """Store a batch: messages that hold a unique key in a way of their own one by one, the others together, in their order."""
    messages = plan.messages
    plain = _are_plain(messages)
    if plain or all(m.hold is None for m in messages):
        return _store_together(session, plan, plain=plain)
    answers: list[Published] = []
    for together, places in groupby(range(len(messages)), lambda n: messages[n].hold is None):
        some = list(places)
        if together:
            answers += _store_together(session, plan.part(some[0], some[-1] + 1), plain=False)
        else:
            answers += [_store_alone(session, plan.part(n, n + 1), messages[n]) for n in some]
    return answers


def _store_alone(session: Session, plan: _Plan, message: Message) -> Published:
    """Store a message that holds its key in a way of its own, if nobody has the key."""
    hold = check_hold(message)
    found = unique.find(session, message, hold)
    if isinstance(found, Published):
        session.news.update(Ready(queue) for queue in plan.queues[0])
        return found
    (answer,) = _store_together(session, plan, plain=False)
    if found is None:
        unique.take(session, message, hold, plan.seqs[0].start)
    else:
        unique.join(session, message, hold, plan.seqs[0].start, found)
    return answer


def _store_together(session: Session, plan: _Plan, *, plain: bool) -> list[Published]:
    messages = plan.messages
    if not messages:
        return []
    rows = [
        message_row(seqs.start, m, len(seqs), None if plain else moments(m))
        for m, seqs in zip(messages, plan.seqs, strict=True)
        if seqs
    ]
    session.each("publish_messages", rows)
    refused: dict[int, str] = {}
    _open_lines(session, plan)
    plain = plain and len(rows) == len(messages) and not plan.lines
    if plan.lines:
        session.change("line_mark", {"lines": numbers(set(plan.lines.values()))})
    if plain:
        first, last = plan.seqs[0].start, plan.seqs[-1].start
        if session.change("publish_plain", {"first": first, "last": last, "now": session.now}) < len(rows):
            refused = _refused(session, plan)
    else:
        stored = sum(_stand(session, chunk) for chunk in parts(plan.entries(session.now)))
        if stored < sum(map(len, plan.seqs)):
            refused = _refused(session, plan)
    if plain and not refused:
        return _as_usual(session, messages)
    session.sums.arrive(_stored(plan, refused))
    session.news.update(Ready(queue) for queue in {queue for queues in plan.queues for queue in queues})
    answers = [_answer(m, seqs, refused) for m, seqs in zip(messages, plan.seqs, strict=True)]
    if unrouted := sum(a.groups == 0 for a in answers):
        session.change("count_event", {"name": "unrouted", "n": unrouted})
    events = [
        m for m, a in zip(messages, answers, strict=True) if m.topic is not None and a.status is Stored.STORED
    ]
    if events and (had := arrivals.meet(session, events)):
        return [
            replace(a, awaited=True) if m.id in had else a for m, a in zip(messages, answers, strict=True)
        ]
    return answers


def _as_usual(session: Session, messages: Sequence[Message]) -> list[Published]:
    """All are stored, each in a queue of its own choice, as most batches are."""
    places = Counter(map(_PLACE, messages)) if len(messages) > 1 else {_PLACE(messages[0]): 1}
    session.sums.arrive(places)
    session.news.update([Ready(queue) for queue in {queue for queue, _ in places}])
    stored = Stored.STORED
    return [Published(stored, EntryId(message.id)) for message in messages]


def _stored(plan: _Plan, refused: dict[int, str]) -> Counter[tuple[str, str]]:
    """How many were stored, by queue and name."""
    return Counter(
        (queue, m.name)
        for m, queues, seqs in zip(plan.messages, plan.queues, plan.seqs, strict=True)
        for queue, seq in zip(queues, seqs, strict=True)
        if seq not in refused
    )


def _queues(session: Session, messages: Sequence[Message]) -> list[list[str]]:
    routes = session.rows("bindings") if any(m.queue is None for m in messages) else []
    return [[m.queue] if m.queue is not None else routed(m, routes) for m in messages]


def _plan(messages: Sequence[Message], queues: list[list[str]], first: int) -> _Plan:
    ends = list(accumulate(map(len, queues), initial=first))
    return _Plan(messages, queues, list(map(range, ends, ends[1:])))


def _are_plain(messages: Sequence[Message]) -> bool:
    """Tasks that are ready at once and for ever, as most are: their places follow from their messages. Asked of every message there is, so
    without a call for each.
    """
    return list(map(_SAID, messages)).count(_NOTHING) == len(messages)


def _open_lines(session: Session, plan: _Plan) -> None:
    """Where there are rules, messages stand in line."""
    if not (rules := session.caps.rules):
        return
    wanted = [
        (queue, place)
        for m, queues in zip(plan.messages, plan.queues, strict=True)
        for queue in queues
        if queue in rules and (place := rules[queue].place(m.key, m.name)) is not None
    ]
    if wanted:
        plan.lines.update(lines.places(session, wanted))
        plan.rules.update(rules)


def _stand(session: Session, rows: Sequence[tuple[object, ...]]) -> int:
    """Give messages their places, but for those whose unique key is held in another way than theirs; how many have one."""
    if not (keys := {(row[_QUEUE], row[_UNIQUE]) for row in rows if row[_UNIQUE] is not None}):
        return session.change("publish_entries", {"batch": encoded(rows), "now": session.now})
    held, free = unique.others(session, keys)
    some = [row for row in rows if (row[_QUEUE], row[_UNIQUE]) not in held]
    stored = session.change("publish_entries", {"batch": encoded(some), "now": session.now})
    unique.supersede(session, free)
    return stored


def _refused(session: Session, plan: _Plan) -> dict[int, str]:
    """The entries that were duplicates, and whose; what was stored of their messages is taken back."""
    refused: dict[int, str] = {}
    for chunk in parts(plan.entries(session.now)):
        refused.update(
            (seq, holder)
            for seq, holder in session.rows("publish_refused", {"batch": encoded(chunk), "now": session.now})
        )
    less = [(seqs.start, n) for seqs in plan.seqs if (n := sum(seq in refused for seq in seqs))]
    session.change("publish_copies", {"batch": encoded(less)})
    session.change("message_forget", {"batch": numbers(seq for seq, _ in less)})
    return refused


def _answer(message: Message, seqs: range, refused: dict[int, str]) -> Published:
    if message.queue is not None:
        holder = refused.get(seqs.start) if refused else None
        key = entry_id(message.id, message.queue, copied=message.topic is not None)
        return (
            Published(Stored.STORED, key) if holder is None else Published(Stored.DUPLICATE, EntryId(holder))
        )
    duplicate = bool(seqs) and all(seq in refused for seq in seqs)
    return Published(Stored.DUPLICATE if duplicate else Stored.STORED, EntryId(message.id), len(seqs))
