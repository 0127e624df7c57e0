"""Taking work: look without a lock, and only if there is something, promote, expire and take under one."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Ready
from forebay.model.unique import MOST_GATHERED, Conflict
from forebay.model.when import Instant
from forebay.stores.face import Claimed
from forebay.stores.sqlite import lines
from forebay.stores.sqlite.rows import MOMENTS, NAME, PRIORITY, UNKNOWN_SINCE, delivery
from forebay.stores.sqlite.rules import catch_up
from forebay.stores.sqlite.session import Row, batch, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Ask, Delivery
    from forebay.model.rule import Rules
    from forebay.stores.sqlite.session import Session, Value
    from forebay.support.ids import Token

_JOINS: Final = f'"{Conflict.JOIN}"'
"""Is in the moments of what others may have joined."""
PROMOTED: Final = 1_000
"""Entries made ready, or expired, by one claim at most: the next one goes on where it stopped."""


def _place(row: Row) -> tuple[int, int]:
    """Where a row of `claim_front` stands in its queue."""
    return -row[PRIORITY], row[0]


@dataclass(frozen=True, slots=True)
class _Sight:
    """A row of `claim_look`. ``known``: whether something was put off though the caller knows its name."""

    leased: int
    paused: int
    ready: int
    late: int
    due: Instant | None
    mark: int
    _: KW_ONLY
    known: int


@dataclass(slots=True)
class Claim:
    """The job of one look at all queues of a receive. What `work` does follows from what `look` saw, just before and in the same thread."""

    asks: Sequence[Ask]
    most: int | None
    worker: str
    _sights: list[_Sight] = field(default_factory=list)
    _due: Instant | None = None

    def room(self, held: int) -> int:
        """How many new ones may be taken when so many are held already."""
        wanted = sum(ask.limit for ask in self.asks)
        return wanted if self.most is None else min(self.most - held, wanted)

    def look(self, session: Session) -> Claimed | None:
        """The answer, if it can be given without changing anything."""
        self._sights = []
        idle, tells, room = True, False, self.room(0) > 0
        dues = list[Instant | None]()
        for ask in self.asks:
            seen: dict[str, Value] = {"token": ask.token, "queue": ask.source.queue, "now": session.now}
            known = _is_known(session, ask) if ask.names else 0
            sight = _Sight(*session.row("claim_look", seen), known=known)
            self._sights.append(sight)
            takes = room and ask.limit > 0 and (sight.ready or known) and not sight.paused
            catch_up(session, sight.mark)
            if (rules := session.caps.rules.get(ask.source.queue)) is not None:
                seen_ruled = lines.sight(session, ask.source.queue, rules)
                takes = takes and (bool(known) or lines.gives(session, ask.source.queue, seen_ruled))
                idle = idle and not lines.is_due(session, seen_ruled)
                dues += [seen_ruled.due, seen_ruled.refill if sight.ready else None]
            tells = tells or bool(known)
            idle = idle and not (takes or sight.leased or sight.late or _is_due(sight, session))
            dues.append(sight.due)
        self._due = min((due for due in dues if due is not None), default=None)
        if not idle:
            # Nothing taken though there is something to do will be worth another look at once.
            self._due = session.now
        return Claimed(due=self._due) if idle and not tells else None

    def work(self, session: Session) -> Claimed:
        """What the tokens hold already, and what that leaves room for."""
        held = _held(session, self.asks) if any(sight.leased for sight in self._sights) else {}
        room = self.room(sum(map(len, held.values())))
        # What was seen without a lock may be older than a rule.
        catch_up(session, session.row("rules_mark")[0])
        claimed = Claimed(due=self._due)
        for ask, sight in zip(self.asks, self._sights, strict=True):
            if ask.token in held:
                claimed.deliveries.extend(held[ask.token])
                continue
            rows, limit = list[Row](), min(ask.limit, room)
            tidy = _tidy(session, ask, sight)
            if (rules := session.caps.rules.get(ask.source.queue)) is not None:
                rows = _ruled(session, ask, sight, rules, limit)
            elif tidy and limit > 0:
                place: dict[str, Value] = {"queue": ask.source.queue, "now": session.now, "limit": limit}
                rows = session.rows("claim_front", place)
            if sight.known and rules is None:
                rows = sorted([*rows, *_put_off(session, ask, limit)], key=_place)[: max(limit, 0)]
            if rows:
                room -= self._take(session, ask, rows, claimed)
        return claimed

    def _take(self, session: Session, ask: Ask, rows: list[Row], claimed: Claimed) -> int:
        """Put entries under the token, with what has gathered with them; how many they are without it."""
        fronts = len(rows)
        if heads := [row[0] for row in rows if row[MOMENTS] is not None and _JOINS in row[MOMENTS]]:
            rows, fronts = _in_company(session, rows, heads)
        if strange := [
            row[0] for row in rows if row[UNKNOWN_SINCE] is not None and row[NAME] not in ask.names
        ]:
            rows = _dated(session, rows, strange)
        entries = numbers(row[0] for row in rows)
        lease: dict[str, Value] = {
            "token": ask.token,
            "worker": self.worker,
            "until": session.now + session.options.timing.lease,
            "held": len(rows),
            "entries": entries,
            "queue": lines.counted_in(session, ask.source.queue),
        }
        if not session.change("claim_lease", lease):
            # The same receive, repeated, is in this very transaction.
            held = _held(session, [ask])[ask.token]
            claimed.deliveries.extend(held)
            return len(held)
        session.change("claim_take", {"token": ask.token, "now": session.now, "entries": entries})
        if (rules := session.caps.rules.get(ask.source.queue)) is not None:
            lines.taken(session, ask.source.queue, rules, numbers(row[0] for row in rows[:fronts]))
        claimed.deliveries.extend([delivery(row, ask.source, ask.token) for row in rows])
        claimed.fresh.append(ask)
        return fronts


def _in_company(session: Session, rows: list[Row], heads: list[int]) -> tuple[list[Row], int]:
    """Rows that are taken together with what has gathered with them, and how many they are without it: fewer, if it would be too many."""
    some: dict[str, Value] = {"entries": numbers(heads), "now": session.now, "limit": MOST_GATHERED + 1}
    by_head: dict[int, list[Row]] = {}
    for row in session.rows("claim_company", some):
        by_head.setdefault(row[0], []).append(row[1:])
    company: list[Row] = []
    for n, row in enumerate(rows):
        joined = by_head.get(row[0], [])
        if company and len(company) + len(joined) > MOST_GATHERED:
            rows = rows[:n]
            break
        company += joined
    own = {row[0] for row in rows}
    return [*rows, *(row for row in company if row[0] not in own)], len(rows)


def _is_known(session: Session, ask: Ask) -> int:
    named: dict[str, Value] = {"queue": ask.source.queue, "names": batch(ask.names), "now": session.now}
    return int(session.row("claim_known", named)[0])


def _put_off(session: Session, ask: Ask, limit: int) -> list[Row]:
    """Keep that somebody knows what was put off; the first of it that there is room for."""
    named: dict[str, Value] = {"queue": ask.source.queue, "names": batch(ask.names), "now": session.now}
    session.change("claim_tell_known", named)
    return session.rows("claim_put_off", {**named, "limit": limit}) if limit > 0 else []


def _dated(session: Session, rows: Sequence[Row], strange: Sequence[int]) -> list[Row]:
    """Since when nobody knows the names of the ``strange``: not since before somebody did."""
    known = {seq for (seq,) in session.rows("claim_date", {"entries": numbers(strange)})}
    return [
        (*row[:UNKNOWN_SINCE], None, *row[UNKNOWN_SINCE + 1 :]) if row[0] in known else row for row in rows
    ]


def _ruled(session: Session, ask: Ask, sight: _Sight, rules: Rules, limit: int) -> list[Row]:
    """The front of a queue with rules. What was put off though its name is known stands in line there."""
    queue = ask.source.queue
    if sight.known:
        named: dict[str, Value] = {"queue": queue, "names": batch(ask.names), "now": session.now}
        session.change("claim_tell_known", named)
        if limit > 0:
            session.change("claim_ready_known", {**named, "limit": limit})
    lines.tidy(session, queue)
    return lines.front(session, queue, rules, lines.sight(session, queue, rules), limit)


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
