"""Taking work: look without a lock, and only if there is something, promote, expire and take under one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Ready
from forebay.stores.sqlite.rows import delivery
from forebay.stores.sqlite.session import numbers

if TYPE_CHECKING:
    from forebay.engine import Delivery, Source
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Session, Value
    from forebay.support.ids import Token

PROMOTED: Final = 1_000
"""Entries made ready, or expired, by one claim at most: the next one goes on where it stopped."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one receive asks for."""

    source: Source
    token: Token
    limit: int
    worker: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """What it got; whether there is something to take; when the next entry is due. ``repeated``: it was got before."""

    deliveries: list[Delivery] = field(default_factory=list)
    ready: bool = False
    due: Instant | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class _Sight:
    """A row of `claim_look`."""

    leased: int
    paused: int
    ready: int
    late: int
    due: Instant | None


@dataclass(slots=True)
class Claim:
    """The job of one look at a queue. What `work` does follows from what `look` saw, just before and in the same thread."""

    ask: Ask
    _sight: _Sight | None = None

    def look(self, session: Session) -> Claimed | None:
        """The answer, if it can be given without changing anything."""
        ask = self.ask
        seen: dict[str, Value] = {"token": ask.token, "queue": ask.source.queue, "now": session.now}
        self._sight = sight = _Sight(*session.row("claim_look", seen))
        ready = bool(sight.ready and not sight.paused)
        if sight.late or _is_due(sight, session) or (ask.limit and (ready or sight.leased)):
            return None
        return Claimed(ready=ready, due=sight.due)

    def work(self, session: Session) -> Claimed:
        """Take up to the limit; what the token holds already, if it was used before."""
        ask, sight = self.ask, self._sight
        place: dict[str, Value] = {"queue": ask.source.queue, "now": session.now, "limit": PROMOTED}
        if sight is None:
            raise AssertionError(ask)
        if _is_due(sight, session):
            session.change("claim_promote", place)
        late = session.change("claim_expire", place) if sight.late else 0
        if late:
            session.news.add(Finished())
        if sight.leased and ask.limit:
            return Claimed(_held(session, ask), repeated=True)
        if not ask.limit or late == PROMOTED:
            # Nothing taken though there was something to do: worth another look at once. While more may be late, the way to the first
            # that is not could be as long as the queue.
            return Claimed(due=session.now)
        return _take(session, ask)


def _is_due(sight: _Sight, session: Session) -> bool:
    return sight.due is not None and sight.due <= session.now


def _take(session: Session, ask: Ask) -> Claimed:
    rows = session.rows("claim_front", {"queue": ask.source.queue, "now": session.now, "limit": ask.limit})
    if not rows:
        return Claimed(due=session.now)
    entries = numbers(row[0] for row in rows)
    until = session.now + session.options.timing.lease
    lease: dict[str, Value] = {
        "token": ask.token,
        "worker": ask.worker,
        "until": until,
        "held": len(rows),
        "entries": entries,
    }
    if not session.change("claim_lease", lease):
        # The same receive, repeated, is in this very transaction.
        return Claimed(_held(session, ask), repeated=True)
    session.change("claim_take", {"token": ask.token, "now": session.now, "entries": entries})
    return Claimed([delivery(row, ask.source, ask.token) for row in rows])


def _held(session: Session, ask: Ask) -> list[Delivery]:
    return [delivery(row, ask.source, ask.token) for row in session.rows("claim_held", {"token": ask.token})]


def put_back(session: Session, ask: Ask) -> None:
    """Undo a claim whose caller is gone."""
    if back := session.change("claim_undo", {"token": ask.token, "now": session.now}):
        session.tallies.grow([ask.source.queue], back)
        session.news.update((Ready(ask.source.queue), Finished()))
    session.change("lease_drop", {"token": ask.token})
