"""Storing flows: all steps of one, or none. Runs inside the write transaction of a publish or a settle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.engine import Published, Ready, Stored
from forebay.model.entry import birth, blocked, delay_of, earliest
from forebay.model.flow import HOOKS, End, Move, Role, stands
from forebay.model.message import EntryId
from forebay.model.saved import wait_of
from forebay.model.state import State
from forebay.model.verdict import Reason
from forebay.stores.face import check_hold, exclusive
from forebay.stores.flows import by_flow, check_free, check_steps, step_of
from forebay.stores.sqlite import admission, lines, unique
from forebay.stores.sqlite.flows import DROPPED, drop
from forebay.stores.sqlite.rows import message_row, moments, step_row
from forebay.stores.sqlite.rules import catch_up
from forebay.stores.sqlite.session import batch as encoded, numbers, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.model.message import Message
    from forebay.stores.sqlite.session import Session, Value


@dataclass(frozen=True, slots=True)
class _Known:
    """A step that others may come after: where it is, and what it has told."""

    seq: int
    told: End = End.OPEN
    role: Role = Role.WORK


@dataclass(slots=True)
class _Rows:
    """What is written for a batch of steps. ``dropped``: by why their flow cancels them at once. ``keyed``: those that have a unique key;
    ``holders``: who has those keys; ``taken``: who has the key of a step instead of it.
    """

    messages: list[tuple[Value, ...]] = field(default_factory=list)
    entries: list[tuple[object, ...]] = field(default_factory=list)
    steps: list[tuple[Value, ...]] = field(default_factory=list)
    edges: list[tuple[Value, ...]] = field(default_factory=list)
    states: Counter[State] = field(default_factory=Counter)
    dropped: dict[Reason, list[int]] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    waits: list[tuple[Value, ...]] = field(default_factory=list)
    keyed: list[tuple[int, str, Message]] = field(default_factory=list)
    holders: dict[tuple[str, str], EntryId] = field(default_factory=dict)
    taken: dict[int, EntryId] = field(default_factory=dict)


def admit(session: Session, flows: Mapping[str, Sequence[Message]]) -> dict[str, list[Published]]:
    """Begin flows of senders from outside: those that are not there, and that the limits of their queues leave room for."""
    there = _there(session, flows)
    _check_new(session, [steps for flow, steps in flows.items() if flow not in there])
    answers = {flow: _all(steps, Stored.DUPLICATE) for flow, steps in flows.items() if flow in there}
    for flow, steps in flows.items():
        if flow in there:
            continue
        if (full := admission.no_room(session, session.row("publish_next")[1], steps)) is not None:
            answers[flow] = [Published(Stored.FULL, EntryId(message.id), full=full) for message in steps]
        else:
            answers[flow] = _begin(session, flow, steps)
    return answers


def follow(session: Session, followed: Iterable[tuple[int, Sequence[Message]]]) -> None:
    """Store the steps among what follows from entries: those of an entry's own flow are added to it."""
    chosen = [(seq, by_flow(messages)[1], messages) for seq, messages in followed]
    own = {
        seq: (flow, name)
        for seq, flow, name in session.rows("flow_own", {"entries": numbers(s for s, _, _ in chosen)})
    }
    for seq, flows, messages in chosen:
        for name, places in flows.items():
            steps = [messages[n] for n in places]
            session.tallies.grow(message.queue or "" for message in steps)
            if seq in own and own[seq][1] == name:
                _add(session, own[seq][0], steps)
            elif name not in _there(session, [name]):
                _check_new(session, [steps])
                _begin(session, name, steps)


def _there(session: Session, flows: Iterable[str]) -> dict[str, int]:
    return dict(session.rows("flow_find", {"ids": encoded(list(flows))}))


def _all(steps: Sequence[Message], status: Stored) -> list[Published]:
    return [Published(status, EntryId(message.id)) for message in steps]


def _check_new(session: Session, flows: Sequence[Sequence[Message]]) -> None:
    """Raise `InvalidOption` for flows that could never run."""
    named = Counter(message.id for steps in flows for message in steps)
    taken = _taken(session, list(named))
    for steps in flows:
        check_steps(steps)
        for message in steps:
            check_free(message, taken=named[message.id] > 1 or message.id in taken)


def _taken(session: Session, ids: Sequence[str]) -> set[str]:
    return {key for part in parts(ids) for (key,) in session.rows("flow_taken", {"ids": encoded(part)})}


def _begin(session: Session, flow: str, steps: Sequence[Message]) -> list[Published]:
    session.change("flow_begin", {"id": flow, "now": session.now})
    return _store(session, session.conn.last_insert_rowid(), steps, {})


def _add(session: Session, flow: int, steps: Sequence[Message]) -> None:
    """Add to a flow those steps that are not there."""
    ids = {key for message in steps for key in (message.id, *step_of(message).after)}
    rows = [
        row
        for part in parts(list(ids))
        for row in session.rows("flow_known", {"flow": flow, "ids": encoded(part)})
    ]
    known = {key: _Known(seq, End(told), Role(role)) for key, seq, told, role in rows}
    new = [message for message in steps if message.id not in known]
    if not new:
        return
    check_steps(new, {key: one.role for key, one in known.items()})
    taken = _taken(session, [message.id for message in new])
    for message in new:
        check_free(message, taken=message.id in taken)
    _store(session, flow, new, known)


def _store(
    session: Session, flow: int, steps: Sequence[Message], known: dict[str, _Known]
) -> list[Published]:
    """Store steps of a flow: after ``known`` ones, and after each other."""
    first, mark = session.row("publish_next")
    catch_up(session, mark)
    rows, hooks = _Rows(), dict[Role, int]()
    for n, message in enumerate(steps):
        step, seq = step_of(message), first + n
        _lay_out(session, rows, seq, message, Counter(known[key].told for key in step.after))
        rows.edges += [(seq, place, known[key].seq) for place, key in enumerate(step.after)]
        known[message.id] = _Known(seq, role=step.role)
        if step.role in HOOKS:
            hooks[step.role] = seq
    _write(session, flow, rows)
    grown = {
        "flow": flow, "n": len(steps), "on_done": hooks.get(Role.ON_DONE), "on_failed": hooks.get(Role.ON_FAILED)
    }  # fmt: skip
    session.change("flow_grow", grown)
    session.sums.arrive(Counter((message.queue or "", message.name) for message in steps))
    session.news.update(map(Ready, rows.ready))
    for reason, seqs in rows.dropped.items():
        drop(session, seqs, reason)
    return [
        Published(Stored.STORED, EntryId(message.id))
        if (holder := rows.taken.get(first + n)) is None
        else Published(Stored.DUPLICATE, holder)
        for n, message in enumerate(steps)
    ]


def _lay_out(session: Session, rows: _Rows, seq: int, message: Message, told: Counter[End]) -> None:
    """The rows of one step, whose parents are so many of each end."""
    step, now = step_of(message), session.now
    numbers_ = (told[End.OPEN], told[End.FAILED], told[End.SKIPPED])
    move = (
        Move.WAIT
        if step.role in HOOKS
        else stands(step.when, open_=numbers_[0], failed=numbers_[1], skipped=numbers_[2])
    )
    if (reason := DROPPED.get(move)) is None and _is_taken(session, rows, seq, message):
        reason, move = Reason.DUPLICATE, Move.WAIT
    delay, born = delay_of(message, step), blocked(message, step, now)
    if reason is not None:
        rows.dropped.setdefault(reason, []).append(seq)
    elif move is Move.RUN and step.role is Role.EVENT:
        born = born._replace(expires=earliest(born.expires, None if delay is None else now + delay))
    elif move is Move.RUN:
        born = birth(message, now)
    ready = born.state is State.READY
    if ready:
        rows.ready.add(message.queue or "")
    key = exclusive(message)
    if reason is None and key is not None:
        rows.keyed.append((seq, key, message))
    rows.states[born.state] += 1
    rows.messages.append(message_row(seq, message, 1, moments(message)))
    rows.entries.append(
        (
            seq, message.id, message.queue, born.state, message.priority, born.due, born.expires, born.deadline, now if ready else None,
            key if reason is None and message.hold is None else None, message.name, message.key,
        )
    )  # fmt: skip
    rows.steps.append((seq, step.name, step.when, step.role, *numbers_, int(move is Move.RUN), delay))
    if step.role is Role.EVENT:
        rows.waits.append(step_row(seq, 0, now, wait_of(message)))


def _is_taken(session: Session, rows: _Rows, seq: int, message: Message) -> bool:
    """Whether another has its unique key: a message that is there, or a step before it."""
    if message.hold is not None:
        check_hold(message)
    if (key := exclusive(message)) is None:
        return False
    place, own = (message.queue or "", key), EntryId(message.id)
    if place not in rows.holders:
        rows.holders[place] = unique.holder(session, *place) or own
    if rows.holders[place] == own:
        return False
    rows.taken[seq] = rows.holders[place]
    return True


def _write(session: Session, flow: int, rows: _Rows) -> None:
    session.each("publish_messages", rows.messages)
    for part in parts(rows.entries):
        session.change("flow_entries", {"batch": encoded(part), "now": session.now, "flow": flow})
    for some in parts([seq for seq, *_ in rows.messages]):
        lines.enter(session, encoded(some))
    session.each("flow_steps_add", rows.steps)
    if rows.edges:
        session.each("flow_edges_add", rows.edges)
    if rows.waits:
        session.each("steps_save", rows.waits)
    session.each("flow_count_add", [(flow, state, n) for state, n in rows.states.items()])
    for seq, key, message in rows.keyed:
        if message.hold is not None:
            unique.take(session, message, message.hold, seq)
        else:
            unique.supersede(session, [(message.queue, key)])
