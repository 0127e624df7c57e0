"""Taking work: look without a lock, and only if there is something, promote, expire and take under one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Ready
from forebay.stores.sqlite.desk import numbers
from forebay.stores.sqlite.rows import delivery

if TYPE_CHECKING:
    from forebay.engine import Delivery, Source
    from forebay.ids import Token
    from forebay.model.when import Instant
    from forebay.stores.sqlite.desk import Desk, Row, Value

PROMOTED: Final = 1_000
"""Entries made ready, or expired, by one claim at most: the next one goes on where it stopped."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one receive asks for."""

    source: Source
    token: Token
    limit: int
    worker: str
    now: Instant


@dataclass(frozen=True, slots=True)
class Claimed:
    """What it got; whether there is something to take; when the next entry is due."""

    deliveries: list[Delivery] = field(default_factory=list)
    ready: bool = False
    due: Instant | None = None


@dataclass(frozen=True, slots=True)
class _Sight:
    """A row of `claim_look`."""

    leased: int
    paused: int
    ready: int
    late: int
    due: Instant | None


def look(desk: Desk, ask: Ask) -> Claimed | None:
    """The answer, if it can be given without changing anything."""
    sight = _look(desk, ask)
    if sight.late or (sight.due is not None and sight.due <= ask.now):
        return None
    if ask.limit and (sight.leased or (sight.ready and not sight.paused)):
        return None
    return Claimed(ready=bool(sight.ready and not sight.paused), due=sight.due)


def claim(desk: Desk, ask: Ask) -> Claimed:
    """Take up to the limit; what the token holds already, if it was used before."""
    sight = _look(desk, ask)
    if sight.leased and ask.limit:
        return Claimed(
            [delivery(row, ask.source, ask.token) for row in desk.rows("claim_held", {"token": ask.token})]
        )
    place: dict[str, Value] = {"queue": ask.source.queue, "now": ask.now, "limit": PROMOTED}
    if sight.due is not None and sight.due <= ask.now:
        desk.change("claim_promote", place)
        sight = _look(desk, ask)
    if sight.late:
        desk.change("claim_expire", place)
        desk.news.add(Finished())
    if not ask.limit or sight.paused:
        return Claimed(ready=bool(sight.ready and not sight.paused), due=sight.due)
    return Claimed(_take(desk, ask), due=sight.due)


def _take(desk: Desk, ask: Ask) -> list[Delivery]:
    rows: list[Row] = desk.rows(
        "claim_front", {"queue": ask.source.queue, "now": ask.now, "limit": ask.limit}
    )
    if not rows:
        return []
    entries = numbers(row[0] for row in rows)
    until = ask.now + desk.options.timing.lease
    desk.change("claim_take", {"token": ask.token, "now": ask.now, "entries": entries})
    desk.change(
        "claim_lease",
        {"token": ask.token, "worker": ask.worker, "until": until, "held": len(rows), "entries": entries},
    )
    return [delivery(row, ask.source, ask.token) for row in rows]


def put_back(desk: Desk, ask: Ask) -> None:
    """Undo a claim whose caller is gone."""
    if desk.change("claim_undo", {"token": ask.token, "now": ask.now}):
        desk.news.update((Ready(ask.source.queue), Finished()))
    desk.change("lease_drop", {"token": ask.token})


def _look(desk: Desk, ask: Ask) -> _Sight:
    return _Sight(*desk.row("claim_look", {"token": ask.token, "queue": ask.source.queue, "now": ask.now}))
