"""Unique keys that are held in ways of their own, and those of what is redriven. Runs inside a write transaction, a message at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forebay.engine import Published, Stored
from forebay.model.entry import birth
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.unique import UNFINISHED, Conflict, Hold, Place, bounded, effective, meet
from forebay.stores.sqlite.rows import changed_row, moments_of
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.model.message import Message
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Row, Session, Value


class Holder(NamedTuple):
    """A row of `hold_holder`."""

    seq: int
    id: EntryId
    state: str | None
    begun: int
    name: str | None
    key: str | None
    moments: str | None
    created: Instant
    since: Instant
    gathered: int | None

    @property
    def place(self) -> Place:
        step = moments_of(self.moments).step
        return Place(self.name or "", self.key, None if step is None else step.flow)


class _Taker(NamedTuple):
    """Who is given a key, and when it was stored; since when its series runs, and the id of the message that changed it last."""

    entry: int
    id: str
    created: Instant
    since: Instant
    last: str | None = None


def others(
    session: Session, keys: Iterable[tuple[object, object]]
) -> tuple[set[tuple[str, str]], list[tuple[str, str]]]:
    """Which keys of messages that hold theirs plainly are held otherwise, and which were."""
    held, free = set[tuple[str, str]](), list[tuple[str, str]]()
    for queue, key, holds in session.rows("hold_others", {"batch": encoded(list(keys)), "now": session.now}):
        if holds:
            held.add((queue, key))
        else:
            free.append((queue, key))
    return held, free


def supersede(session: Session, keys: Sequence[tuple[str | None, str]]) -> None:
    """Forget former holders of keys that are held plainly now."""
    if keys:
        session.change("hold_supersede", {"batch": encoded(keys)})


def find(session: Session, message: Message, hold: Hold) -> Published | Holder | None:
    """The answer to a message whose key is held, and what that changes in the holder; or the one it joins; None if nobody has it."""
    place = {"queue": message.queue, "key": message.unique}
    if before := session.rows("hold_before", {**place, "id": message.id}):
        return Published(Stored.DUPLICATE, EntryId(before[0][0]))
    holder = _holder(session, place)
    if holder is None:
        return None
    own = Place(message.name, message.key, None if message.step is None else message.step.flow)
    state = None if holder.state is None else effective(State(holder.state), begun=bool(holder.begun))
    match meet(hold, own, holder.place, state, gathers=holder.gathered is not None):
        case Conflict.REJECT:
            return Published(Stored.TAKEN, holder.id)
        case Conflict.JOIN:
            return holder
        case Conflict.REPLACE:
            _replace(session, message, hold, holder)
        case Conflict.RESCHEDULE:
            due = bounded(birth(message, session.now).due, hold, holder.since)
            _postpone(session, holder.seq, due)
            taker = _Taker(holder.seq, holder.id, holder.created, holder.since, message.id)
            session.change("hold_change", {**place, **taker._asdict(), "states": _states(UNFINISHED)})
        case Conflict.KEEP:
            pass
    return Published(Stored.DUPLICATE, holder.id)


def holder(session: Session, queue: str | None, key: str) -> EntryId | None:
    """The id of who has a key."""
    found = _holder(session, {"queue": queue, "key": key})
    return None if found is None else found.id


def _holder(session: Session, place: Mapping[str, Value], but: int = 0) -> Holder | None:
    found = session.rows("hold_holder", {**place, "now": session.now, "but": but})
    return Holder(*found[0]) if found else None


def join(session: Session, message: Message, hold: Hold, seq: int, holder: Holder) -> None:
    """Let what has just been stored gather with another: it is handed out with that one, or when that one would be at the latest."""
    place = {"queue": message.queue, "key": message.unique}
    _postpone(session, seq, holder.since + (hold.longest or 0))
    session.change("company_join", {"head": holder.seq, "entry": seq})
    full = (holder.gathered or 0) + 1 >= hold.most
    if holder.state == State.SCHEDULED:
        due = None if full else bounded(birth(message, session.now).due, hold, holder.since)
        _postpone(session, holder.seq, due)
    if full:
        session.change("hold_close", place)
    else:
        session.change("hold_join", place)


def _postpone(session: Session, seq: int, due: Instant | None) -> None:
    session.change("hold_postpone", {"entry": seq, "due": due, "now": session.now})


def _replace(session: Session, message: Message, hold: Hold, holder: Holder) -> None:
    """One that waits becomes another, in its place and with its id and history."""
    born = birth(message, session.now)
    since = session.now if holder.state == State.RETRYING else holder.since
    session.each("hold_replace", [(*changed_row(message), holder.seq)])
    session.change(
        "hold_renew",
        {
            "entry": holder.seq,
            "priority": message.priority,
            "expires": born.expires,
            "deadline": born.deadline,
        },
    )
    session.change("hold_renew_failure", {"entry": holder.seq})
    _postpone(session, holder.seq, bounded(born.due, hold, since))
    place = {"queue": message.queue, "key": message.unique}
    _take(session, place, hold, _Taker(holder.seq, holder.id, holder.created, since, message.id))


def take(session: Session, message: Message, hold: Hold, seq: int) -> None:
    """Give its key to a message that has just been stored."""
    place = {"queue": message.queue, "key": message.unique}
    _take(session, place, hold, _Taker(seq, message.id, session.now, session.now))


def _take(session: Session, place: Mapping[str, Value], hold: Hold, taker: _Taker) -> None:
    until = None if hold.window is None else taker.created + hold.window
    states = _states(hold.states)
    gathered = 1 if hold.conflict is Conflict.JOIN else None
    session.change(
        "hold_take", {**place, **taker._asdict(), "states": states, "until": until, "gathered": gathered}
    )


def _states(states: Iterable[State]) -> str:
    return " ".join(sorted(states))


def redrive(session: Session, seqs: Sequence[int], by: str = "redrive") -> int:
    """Make entries ready again, or steps wait again ``by`` another statement; how many. One whose unique key another has stays as it is."""
    keyed = session.rows("redrive_keyed", {"entries": numbers(seqs)})
    rest = set(seqs).difference(row[0] for row in keyed) if keyed else seqs
    changed = session.change(by, {"entries": numbers(rest), "now": session.now})
    return changed + sum(_redrive(session, by, row) for row in keyed)


def _redrive(session: Session, by: str, row: Row) -> int:
    """One that has a unique key: it takes it back, unless that is over with the moment of its sending."""
    seq, key, queue, unique, moments = row
    hold, place = moments_of(moments).hold, {"queue": queue, "key": unique}
    takes = hold is None or hold.keeps
    if takes and _holder(session, place, but=seq) is not None:
        return 0
    changed = session.change(by, {"entries": numbers([seq]), "now": session.now})
    if hold is None:
        supersede(session, [(queue, unique)])
    elif takes:
        _take(session, place, hold, _Taker(seq, key, session.now, session.now))
    return changed
