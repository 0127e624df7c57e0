"""Ending deliveries and renewing leases. Runs inside a write transaction.

The first statement writes a try for each entry that is still under its lease, and so says which settlements take effect; the updates
that follow need not check again.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Final, assert_never, cast

from forebay.engine import Finished, Notice, Ready, Settled
from forebay.model import verdict as v
from forebay.model.state import Event, State, after
from forebay.model.when import resolve
from forebay.stores.sqlite.publish import publish
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.engine import Delivery, Settlement
    from forebay.model.message import EntryId, Message
    from forebay.model.query import Progress
    from forebay.stores.sqlite.session import Session
    from forebay.support.ids import Token

KEPT: Final = 100
"""Tries kept per entry; older ones are dropped first."""
_KEEP, _BEGIN, _CLEAR = 0, 1, 2


class _Batch:
    """Settlements by what becomes of their entries: the succeeded by token, as most are, and the rest."""

    __slots__ = ("done", "followed", "rest")

    def __init__(self, settlements: Mapping[tuple[int, Token], Settlement]) -> None:
        self.done: dict[Token, list[int]] = {}
        self.rest: list[tuple[int, Settlement]] = []
        self.followed: list[tuple[int, v.Done, tuple[Message, ...]]] = []
        for (seq, token), settlement in settlements.items():
            verdict = settlement.verdict
            if type(verdict) is v.Done:
                self.done.setdefault(token, []).append(seq)
                if verdict.result is not None or settlement.then:
                    self.followed.append((seq, verdict, settlement.then))
            else:
                self.rest.append((seq, settlement))


def settle(session: Session, settlements: Sequence[Settlement]) -> list[Settled]:
    """End deliveries, with what follows from them; answers per item and in order."""
    seqs = _seqs(session, [s.delivery for s in settlements])
    places = [(seq, s.delivery.token) for seq, s in zip(seqs, settlements, strict=True)]
    # Of a delivery that is in the batch twice, the first settlement counts, and the second repeats it.
    first: dict[tuple[int, Token], Settlement] = {}
    for place, settlement in zip(places, settlements, strict=True):
        first.setdefault(place, settlement)
    batch = _Batch(first)
    if _tell_tries(session, batch) == len(first):
        _apply(session, batch)
        return [Settled.OK] * len(settlements)
    known: dict[int, int] = dict(session.rows("settle_match", {"batch": encoded(list(first))}))
    told = {place: known.get(n) for n, place in enumerate(first)}
    _apply(session, _Batch({place: s for place, s in first.items() if told[place]}))
    answers = [Settled.STALE if told[place] is None else Settled.OK for place in places]
    if stale := answers.count(Settled.STALE):
        session.change("count_event", {"name": "stale", "n": stale})
    return answers


def _seqs(session: Session, deliveries: Sequence[Delivery]) -> list[int]:
    """Where the entries are: our deliveries know; for one that was made up from its id the index does."""
    seqs = [d.native for d in deliveries]
    if lost := [d.id for d, seq in zip(deliveries, seqs, strict=True) if type(seq) is not int]:
        found: dict[str, int] = dict(session.rows("settle_find", {"batch": encoded(lost)}))
        seqs = [
            seq if type(seq) is int else found.get(d.id, 0) for d, seq in zip(deliveries, seqs, strict=True)
        ]
    return cast("list[int]", seqs)


def _tell_tries(session: Session, batch: _Batch) -> int:
    """Write the tries of all that are under their lease; returns how many."""
    matched = 0
    for token, seqs in batch.done.items():
        matched += session.change(
            "settle_try_done", {"token": token, "entries": numbers(seqs), "now": session.now}
        )
    if batch.rest:
        rows = [
            (seq, s.delivery.token, _event(session, s), _printable(v.failure_of(s.verdict)))
            for seq, s in batch.rest
        ]
        matched += session.change("settle_try", {"batch": encoded(rows), "now": session.now})
    return matched


def _event(session: Session, settlement: Settlement) -> Event:
    """What the verdict leads to: one crash too many is the last."""
    if isinstance(settlement.verdict, v.Crashed) and _is_last(session, settlement.delivery):
        return Event.BURY
    return v.event_of(settlement.verdict)


def _is_last(session: Session, delivery: Delivery) -> bool:
    return delivery.crashes + 1 >= session.options.timing.crashes


def _printable(failure: v.Failure | None) -> v.Failure | None:
    """A failure that can be written as UTF-8: what a handler raised may hold half a surrogate pair."""
    if failure is None:
        return None
    texts = (failure.type, failure.message, failure.traceback, failure.fingerprint)
    return v.Failure(*(text.encode("utf-8", "backslashreplace").decode() for text in texts))


def _apply(session: Session, batch: _Batch) -> None:
    """Change the entries of a batch that is under its leases."""
    if not batch.done and not batch.rest:
        return
    session.news.add(Finished())
    if batch.done:
        session.change(
            "settle_done", {"entries": numbers(chain.from_iterable(batch.done.values())), "now": session.now}
        )
    if batch.rest:
        _apply_rest(session, batch.rest)
    if results := [(seq, done.result) for seq, done, _ in batch.followed if done.result is not None]:
        session.each("settle_results", results)
    counts = Counter({token: len(seqs) for token, seqs in batch.done.items()})
    counts.update(s.delivery.token for _, s in batch.rest)
    loosen(session, counts)
    if then := [message for _, _, messages in batch.followed for message in messages]:
        publish(session, then)


def _apply_rest(session: Session, settlements: list[tuple[int, Settlement]]) -> None:
    waits: list[tuple[object, ...]] = []
    ends: list[tuple[object, ...]] = []
    for seq, settlement in settlements:
        verdict = settlement.verdict
        then, spent = after(State.RUNNING, v.event_of(verdict)), int(v.spends_attempt(verdict))
        match verdict:
            case v.Retry(at):
                waits.append((seq, then, spent, 0, resolve(at, session.now), _CLEAR, 0))
            case v.Snooze(at, unknown):
                waits.append(
                    (seq, then, spent, 0, resolve(at, session.now), _BEGIN if unknown else _CLEAR, 0)
                )
            case v.Release():
                waits.append((seq, then, spent, 1, None, _KEEP, 0))
            case v.Crashed() if _is_last(session, settlement.delivery):
                ends.append((seq, State.DEAD, spent, v.Reason.CRASHED, 1))
            case v.Crashed():
                waits.append((seq, then, spent, 0, None, _KEEP, 1))
            case v.Dead(reason):
                ends.append((seq, then, spent, reason, 0))
            case v.Cancelled() | v.Expired() | v.Done():
                ends.append((seq, then, spent, None, 0))
            case _:
                assert_never(verdict)
    if crashed := sum(isinstance(s.verdict, v.Crashed) for _, s in settlements):
        session.change("count_event", {"name": "crashed", "n": crashed})
    if waits:
        session.news.update(Ready(s.delivery.source.queue) for _, s in settlements)
        session.tallies.grow(s.delivery.source.queue for _, s in settlements)
        session.change("settle_wait", {"batch": encoded(waits), "now": session.now})
        session.change("try_trim", {"entries": numbers(seq for seq, _ in settlements), "keep": KEPT})
    if ends:
        session.change("settle_end", {"batch": encoded(ends), "now": session.now})


def loosen(session: Session, counts: Counter[Token]) -> None:
    """Take entries off their leases."""
    held = {"batch": encoded(list(counts.items()))}
    session.change("lease_less", held)
    session.change("lease_empty", held)


def extend(
    session: Session,
    deliveries: Sequence[Delivery],
    under_way: Sequence[Token],
    progress: Mapping[EntryId, Progress],
) -> list[Notice]:
    """Renew leases; answers per item and in order."""
    seqs = _seqs(session, deliveries)
    rows = [(seq, d.token) for seq, d in zip(seqs, deliveries, strict=True)]
    asked: dict[int, int] = dict(session.rows("extend_match", {"batch": encoded(rows)}))
    tokens = encoded(sorted({*under_way, *(deliveries[n].token for n in asked)}))
    session.change("extend", {"tokens": tokens, "until": session.now + session.options.timing.lease})
    if progress:
        told = [
            (seq, d.token, said.share, said.note, int(said.overdue))
            for seq, d in zip(seqs, deliveries, strict=True)
            if (said := progress.get(d.id)) is not None
        ]
        session.change("progress", {"batch": encoded(told), "now": session.now})
    return [
        Notice.LOST if n not in asked else Notice.CANCEL if asked[n] else Notice.KEPT
        for n in range(len(rows))
    ]
