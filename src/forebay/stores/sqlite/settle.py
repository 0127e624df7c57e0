"""Ending deliveries and renewing leases. Runs inside a write transaction.

The first statement writes a try for each entry that is still under its lease, and so says which settlements take effect; the updates
that follow need not check again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Finished, Notice, Ready, Settled
from forebay.model import verdict as v
from forebay.model.state import State, after
from forebay.model.when import resolve
from forebay.stores.sqlite.desk import batch as encoded, numbers
from forebay.stores.sqlite.publish import publish
from forebay.stores.sqlite.rows import LARGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Delivery, Settlement
    from forebay.model.message import Message
    from forebay.model.when import Instant
    from forebay.stores.sqlite.desk import Desk

KEPT: Final = 100
"""Tries kept per entry; older ones are dropped first."""
_KEEP, _BEGIN, _CLEAR = 0, 1, 2


@dataclass(slots=True)
class _Moves:
    """What a batch comes to: rows for the statements, by kind."""

    done: list[int] = field(default_factory=list)
    waits: list[tuple[object, ...]] = field(default_factory=list)
    ends: list[tuple[object, ...]] = field(default_factory=list)
    results: list[tuple[int, bytes]] = field(default_factory=list)
    then: list[Message] = field(default_factory=list)


def settle(desk: Desk, settlements: Sequence[Settlement], now: Instant) -> list[Settled]:
    """End deliveries, with what follows from them; answers per item and in order."""
    first: dict[tuple[int, str], int] = {}
    seqs = _seqs(desk, [s.delivery for s in settlements])
    places = [
        first.setdefault((seq, s.delivery.token), n)
        for n, (seq, s) in enumerate(zip(seqs, settlements, strict=True))
    ]
    chosen = list(first.values())
    rows = [_try_row(seqs[n], settlements[n]) for n in chosen]
    matched = desk.change("settle_try", {"batch": encoded(rows), "now": now})
    answers: dict[int, Settled] = dict.fromkeys(chosen, Settled.OK)
    effective = chosen
    if matched < len(rows):
        known: dict[int, int] = dict(desk.rows("settle_match", {"batch": encoded(rows)}))
        answers = {n: Settled.OK if k in known else Settled.STALE for k, n in enumerate(chosen)}
        effective = [n for k, n in enumerate(chosen) if known.get(k)]
    if effective:
        _apply(desk, [(seqs[n], settlements[n]) for n in effective], now)
    said = [answers[n] for n in places]
    if stale := said.count(Settled.STALE):
        desk.change("count_event", {"name": "stale", "n": stale})
    return said


def _seqs(desk: Desk, deliveries: Sequence[Delivery]) -> list[int]:
    """Where the entries are: our deliveries know; for one that was made up from its id the index does."""
    lost = [d.id for d in deliveries if not isinstance(d.native, int)]
    found: dict[str, int] = dict(desk.rows("settle_find", {"batch": encoded(lost)})) if lost else {}
    return [d.native if isinstance(d.native, int) else found.get(d.id, 0) for d in deliveries]


def _try_row(seq: int, settlement: Settlement) -> tuple[object, ...]:
    delivery, verdict = settlement.delivery, settlement.verdict
    return seq, delivery.id, delivery.token, v.event_of(verdict).value, v.failure_of(verdict)


def _apply(desk: Desk, settlements: list[tuple[int, Settlement]], now: Instant) -> None:
    moves = _Moves()
    for seq, settlement in settlements:
        _move(moves, seq, settlement, now)
        if type(settlement.verdict) in (v.Retry, v.Snooze, v.Release):
            desk.news.add(Ready(settlement.delivery.source.queue))
    desk.news.add(Finished())
    if moves.done:
        desk.change("settle_done", {"entries": numbers(moves.done), "now": now})
    if moves.waits:
        desk.change("settle_wait", {"batch": encoded(moves.waits), "now": now})
        desk.change("try_trim", {"entries": numbers(seq for seq, _ in settlements), "keep": KEPT})
    if moves.ends:
        desk.change("settle_end", {"batch": encoded(moves.ends), "now": now})
    if moves.results:
        _keep_results(desk, moves.results)
    loosen(desk, Counter(s.delivery.token for _, s in settlements))
    if moves.then:
        publish(desk, moves.then, now)


def _move(moves: _Moves, seq: int, settlement: Settlement, now: Instant) -> None:
    """One settlement as a row of the statement for its kind."""
    verdict = settlement.verdict
    then = after(State.RUNNING, v.event_of(verdict))
    spent = int(v.spends_attempt(verdict))
    match verdict:
        case v.Done(result):
            moves.done.append(seq)
            moves.then.extend(settlement.then)
            if result is not None:
                moves.results.append((seq, result))
        case v.Retry(at):
            moves.waits.append((seq, then, spent, 0, resolve(at, now), _CLEAR))
        case v.Snooze(at, unknown):
            moves.waits.append((seq, then, spent, 0, resolve(at, now), _BEGIN if unknown else _CLEAR))
        case v.Release():
            moves.waits.append((seq, then, spent, 1, None, _KEEP))
        case v.Dead(reason):
            moves.ends.append((seq, then, spent, reason))
        case v.Cancelled() | v.Expired():
            moves.ends.append((seq, then, spent, None))


def _keep_results(desk: Desk, results: list[tuple[int, bytes]]) -> None:
    rows: list[tuple[int, str]] = []
    for seq, result in results:
        if len(result) < LARGE and result.isascii() and b"\0" not in result:
            rows.append((seq, result.decode()))
        else:
            desk.change("result_large", {"entry": seq, "body": result})
    if rows:
        desk.change("settle_results", {"batch": encoded(rows)})


def loosen(desk: Desk, counts: Counter[str]) -> None:
    """Take entries off their leases."""
    held = {"batch": encoded(list(counts.items()))}
    desk.change("lease_less", held)
    desk.change("lease_empty", held)


def extend(desk: Desk, deliveries: Sequence[Delivery], now: Instant) -> list[Notice]:
    """Renew leases; answers per item and in order."""
    seqs = _seqs(desk, deliveries)
    rows = [(seq, d.id, d.token) for seq, d in zip(seqs, deliveries, strict=True)]
    asked: dict[int, int] = dict(desk.rows("extend_match", {"batch": encoded(rows)}))
    tokens = encoded(sorted({deliveries[n].token for n in asked}))
    desk.change("extend", {"tokens": tokens, "until": now + desk.options.timing.lease})
    return [
        Notice.LOST if n not in asked else Notice.CANCEL if asked[n] else Notice.KEPT
        for n in range(len(rows))
    ]
