"""Who is let into queues with a limit, and who is not. Runs inside the write transaction of a publish, before anything is written.

A count is never taken on trust by more than it can be: what this process lets in or sees come back is added to it, so that one process
is exact; others are, until the count is old, out by a share of the limit at most (see `Tally`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Full, Published
from forebay.model.message import entry_id
from forebay.stores.face import exclusive
from forebay.stores.flows import check_fits
from forebay.stores.limits import SAMPLE, WINDOW, admitted, retry_after
from forebay.stores.sqlite import lines
from forebay.stores.sqlite.rules import catch_up_limits, known
from forebay.stores.sqlite.session import batch as encoded
from forebay.stores.sqlite.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.model.message import Message
    from forebay.stores.sqlite.session import Session, Value
    from forebay.stores.sqlite.tally import Cap

EXPIRED: Final = 1_000
"""Messages ended to make room by one publish at most; the next one goes on."""
CHUNK: Final = 1_000
"""Places looked up by one statement at most."""


def bind(session: Session, batch: str) -> bool:
    """Declare queues; see the statement `bind` for the batch."""
    limits, rules = session.rows("limits"), known(session)
    for statement in ("bind", "bind_loose"):
        session.change(statement, {"batch": batch})
    if session.rows("limits") != limits:
        session.change("limits_changed")
    lines.follow(session, rules)
    return True


def turned_away(
    session: Session, messages: Sequence[Message], queues: Sequence[list[str]]
) -> dict[int, Published]:
    """The answers, by their place in the batch, to those who are not let in. The others' places are taken."""
    wanted = Counter(queue for places in queues for queue in places if queue in session.caps.by_queue)
    tallies = {queue: _tally(session, queue, number) for queue, number in wanted.items()}
    short = {queue for queue, tally in tallies.items() if tally.room < wanted[queue]}
    if not short:
        for queue, tally in tallies.items():
            tally.let(wanted[queue])
        return {}
    concerned = [n for n, places in enumerate(queues) if not short.isdisjoint(places)]
    entrance = _Entrance(session, tallies, _known(session, messages, queues, concerned))
    for n, (message, places) in enumerate(zip(messages, queues, strict=True)):
        entrance.meet(n, message, places)
    return entrance.refused


def no_room(session: Session, mark: int, steps: Sequence[Message]) -> Full | None:
    """Why the steps of a flow, which come all or none, are not let in; None: their places are taken."""
    catch_up_limits(session, mark)
    if not session.caps.by_queue:
        return None
    wanted = check_fits(steps, {queue: cap.limit for queue, cap in session.caps.by_queue.items()})
    tallies = {
        queue: _tally(session, queue, n) for queue, n in wanted.items() if queue in session.caps.by_queue
    }
    for queue, tally in tallies.items():
        if tally.room < wanted[queue]:
            return _full(session, queue, tally)
    for queue, tally in tallies.items():
        tally.let(wanted[queue])
    return None


@dataclass(slots=True)
class _Entrance:
    """Lets a batch in, one by one. ``known``: the places that are taken already, of those that want into a queue that is short of room."""

    session: Session
    tallies: dict[str, Tally]
    known: set[tuple[str, str]]
    refused: dict[int, Published] = field(default_factory=dict)
    _full: dict[str, Full] = field(default_factory=dict)

    def meet(self, n: int, message: Message, places: list[str]) -> None:
        """Let one in, or refuse it as a whole."""
        fresh = [queue for queue in places if self.known.isdisjoint(_names(message, queue))]
        if (refused := admitted(message, places, fresh, self._reason)) is not None:
            self.refused[n] = refused
            return
        for queue in fresh:
            self.known.update(_names(message, queue))
            if queue in self.tallies:
                self.tallies[queue].let(1)

    def _reason(self, queue: str) -> Full | None:
        """Why the queue takes no more, if that is so."""
        if queue not in self.tallies or self.tallies[queue].room > 0:
            return None
        if queue not in self._full:
            self._full[queue] = _full(self.session, queue, self.tallies[queue])
        return self._full[queue]


def _full(session: Session, queue: str, tally: Tally) -> Full:
    recent: dict[str, Value] = {"queue": queue, "since": session.now - WINDOW, "most": SAMPLE}
    finished, oldest = session.row("limit_drain", recent)
    return Full(queue, tally.cap.limit, retry_after(tally.cap.limit, finished, oldest, session.now))


def _names(message: Message, queue: str) -> set[tuple[str, str]]:
    """What there can be only one of: the entry, and its unique key in the queue if it has one."""
    names: set[tuple[str, str]] = {("", entry_id(message.id, queue, copied=message.topic is not None))}
    if (unique := exclusive(message)) is not None:
        names.add((queue, unique))
    return names


def _known(
    session: Session, messages: Sequence[Message], queues: Sequence[list[str]], concerned: list[int]
) -> set[tuple[str, str]]:
    places = [(messages[n], queue) for n in concerned for queue in queues[n]]
    known: set[tuple[str, str]] = set()
    for start in range(0, len(places), CHUNK):
        chunk = places[start : start + CHUNK]
        rows = [(entry_id(m.id, q, copied=m.topic is not None), q, exclusive(m)) for m, q in chunk]
        for n, by_id, by_key in session.rows("limit_known", {"batch": encoded(rows), "now": session.now}):
            key, queue, unique = rows[n]
            if by_id:
                known.add(("", key))
            if by_key and unique is not None:
                known.add((queue, unique))
    return known


def _tally(session: Session, queue: str, wanted: int) -> Tally:
    """How full a queue is, counted anew if that is due."""
    cap = session.caps.by_queue[queue]
    tally = session.tallies.by_queue.get(queue)
    if tally is not None and tally.cap == cap and not tally.is_old(session.now):
        return tally
    waiting = _count(session, queue, cap)
    if cap.drops_expired and cap.limit - waiting < wanted:
        place: dict[str, Value] = {"queue": queue, "now": session.now, "limit": EXPIRED}
        if session.change("limit_expire", place):
            session.news.add(Finished())
            waiting = _count(session, queue, cap)
    tally = session.tallies.by_queue[queue] = Tally(cap, waiting, waiting, session.now)
    return tally


def _count(session: Session, queue: str, cap: Cap) -> int:
    waiting: int = session.row("limit_count", {"queue": queue, "most": cap.limit})[0]
    return waiting
