"""Taking work: look without a lock, and only if there is something, promote, expire and take under one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Ready
from forebay.stores.face import Claimed
from forebay.stores.sqlite.rows import delivery
from forebay.stores.sqlite.session import batch, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Ask, Delivery
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Session, Value
    from forebay.support.ids import Token

PROMOTED: Final = 1_000
"""Entries made ready, or expired, by one claim at most: the next one goes on where it stopped."""


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
    """The job of one look at all queues of a receive. What `work` does follows from what `look` saw, just before and in the same thread."""

    asks: Sequence[Ask]
    most: int | None
    worker: str
    _sights: list[_Sight] = field(default_factory=list)

    def room(self, held: int) -> int:
        """How many new ones may be taken when so many are held already."""
        wanted = sum(ask.limit for ask in self.asks)
        return wanted if self.most is None else min(self.most - held, wanted)

    def look(self, session: Session) -> Claimed | None:
        """The answer, if it can be given without changing anything."""
        self._sights = []
        idle, room = True, self.room(0) > 0
        for ask in self.asks:
            seen: dict[str, Value] = {"token": ask.token, "queue": ask.source.queue, "now": session.now}
            sight = _Sight(*session.row("claim_look", seen))
            self._sights.append(sight)
            takes = room and ask.limit > 0 and sight.ready and not sight.paused
            idle = idle and not (takes or sight.leased or sight.late or _is_due(sight, session))
        if not idle:
            return None
        return Claimed(due=min((sight.due for sight in self._sights if sight.due is not None), default=None))

    def work(self, session: Session) -> Claimed:
        """What the tokens hold already, and what that leaves room for."""
        held = _held(session, self.asks) if any(sight.leased for sight in self._sights) else {}
        room = self.room(sum(map(len, held.values())))
        # Nothing taken though there was something to do: worth another look at once.
        claimed = Claimed(due=session.now)
        for ask, sight in zip(self.asks, self._sights, strict=True):
            if ask.token in held:
                claimed.deliveries.extend(held[ask.token])
                continue
            some = _tidy(session, ask, sight)
            if (limit := min(ask.limit, room)) > 0 and some:
                room -= self._take(session, ask, limit, claimed)
        return claimed

    def _take(self, session: Session, ask: Ask, limit: int, claimed: Claimed) -> int:
        """Up to ``limit`` entries of the front; how many."""
        rows = session.rows("claim_front", {"queue": ask.source.queue, "now": session.now, "limit": limit})
        if not rows:
            return 0
        entries = numbers(row[0] for row in rows)
        lease: dict[str, Value] = {
            "token": ask.token,
            "worker": self.worker,
            "until": session.now + session.options.timing.lease,
            "held": len(rows),
            "entries": entries,
        }
        if not session.change("claim_lease", lease):
            # The same receive, repeated, is in this very transaction.
            held = _held(session, [ask])[ask.token]
            claimed.deliveries.extend(held)
            return len(held)
        session.change("claim_take", {"token": ask.token, "now": session.now, "entries": entries})
        claimed.deliveries.extend([delivery(row, ask.source, ask.token) for row in rows])
        claimed.fresh.append(ask)
        return len(rows)


def _is_due(sight: _Sight, session: Session) -> bool:
    return sight.due is not None and sight.due <= session.now


def _tidy(session: Session, ask: Ask, sight: _Sight) -> bool:
    """Make ready what is due, and end what is late; whether the front is to be read then."""
    place: dict[str, Value] = {"queue": ask.source.queue, "now": session.now, "limit": PROMOTED}
    promoted = session.change("claim_promote", place) if _is_due(sight, session) else 0
    late = session.change("claim_expire", place) if sight.late else 0
    if late:
        session.news.add(Finished())
    # While more may be late, the way to the first that is not could be as long as the queue.
    return late < PROMOTED and bool(promoted or sight.ready)


def _held(session: Session, asks: Sequence[Ask]) -> dict[Token, list[Delivery]]:
    """What is under the tokens already."""
    by_token = {ask.token: ask for ask in asks}
    held: dict[Token, list[Delivery]] = {}
    for token, *row in session.rows("claim_held", {"tokens": batch(list(by_token))}):
        held.setdefault(token, []).append(delivery(tuple(row), by_token[token].source, token))
    return held


def put_back(session: Session, asks: Sequence[Ask]) -> None:
    """Undo claims whose caller is gone."""
    for ask in asks:
        if back := session.change("claim_undo", {"token": ask.token, "now": session.now}):
            session.tallies.grow([ask.source.queue], back)
            session.news.update((Ready(ask.source.queue), Finished()))
        session.change("lease_drop", {"token": ask.token})
