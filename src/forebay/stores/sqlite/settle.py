"""Ending deliveries. Runs inside a write transaction.

The first statement writes a try for each entry that is still under its lease, and so says which settlements take effect; the updates
that follow need not check again.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from forebay.engine import Finished, Ready, Settled
from forebay.model import verdict as v
from forebay.model.effect import effect
from forebay.model.query import TRIES_KEPT
from forebay.model.state import FINISHED
from forebay.stores.flows import has_steps
from forebay.stores.sqlite import arrivals, births, lines
from forebay.stores.sqlite.publish import publish
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.engine import Delivery, Settlement
    from forebay.model.effect import Effect
    from forebay.model.message import EntryId, Message
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Session, Value
    from forebay.support.ids import Token

_ID: Final[Callable[[Delivery], EntryId]] = attrgetter("id")
_TOKEN: Final[Callable[[Delivery], Token]] = attrgetter("token")


class Ended(NamedTuple):
    """A try that is over, and what that changes in its entry. ``name`` and ``started`` are for the rates: of the message, of the try."""

    seq: int
    queue: str
    token: Token
    effect: Effect
    name: str = ""
    started: Instant = 0


class _Batch:
    """Settlements by what becomes of their entries: the succeeded by token, as most are, and the rest."""

    __slots__ = ("done", "followed", "rest", "succeeded")

    def __init__(self, session: Session, settlements: Mapping[tuple[int, Token], Settlement]) -> None:
        self.done: dict[Token, list[int]] = {}
        self.rest: list[Ended] = []
        self.followed: list[tuple[int, v.Done, tuple[Message, ...]]] = []
        last, seqs = None, list[int]()
        for (seq, token), settlement in settlements.items():
            verdict = settlement.verdict
            if type(verdict) is v.Done:
                if token is not last:
                    last, seqs = token, self.done.setdefault(token, [])
                seqs.append(seq)
                if verdict.result is not None or settlement.then:
                    self.followed.append((seq, verdict, settlement.then))
            else:
                delivery, most = settlement.delivery, session.options.timing.crashes
                change = effect(verdict, crashes=delivery.crashes, most_crashes=most, now=session.now)
                place = (delivery.message.name, delivery.received)
                self.rest.append(Ended(seq, delivery.source.queue, token, change, *place))
        self.succeeded = [
            s.delivery for s in settlements.values() if not self.rest or type(s.verdict) is v.Done
        ]


def settle(session: Session, settlements: Sequence[Settlement]) -> list[Settled]:
    """End deliveries, with what follows from them; answers per item and in order."""
    deliveries = [s.delivery for s in settlements]
    places = list(zip(seqs_of(session, deliveries), map(_TOKEN, deliveries), strict=True))
    first = dict(zip(places, settlements, strict=True))
    if len(first) < len(places):
        # Of a delivery that is in the batch twice, the first settlement counts, and the second repeats it.
        first |= dict(zip(reversed(places), reversed(settlements), strict=True))
    batch = _Batch(session, first)
    if _tell_tries(session, batch) == len(first):
        _apply(session, batch, deliveries)
        return [Settled.OK] * len(settlements)
    known: dict[int, int] = dict(session.rows("settle_match", {"batch": encoded(list(first))}))
    told = {place: known.get(n) for n, place in enumerate(first)}
    _apply(session, _Batch(session, {place: s for place, s in first.items() if told[place]}), deliveries)
    answers = [Settled.STALE if told[place] is None else Settled.OK for place in places]
    if stale := answers.count(Settled.STALE):
        session.change("count_event", {"name": "stale", "n": stale})
    return answers


def seqs_of(session: Session, deliveries: Sequence[Delivery]) -> list[int]:
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
        done: dict[str, Value] = {"token": token, "entries": numbers(seqs), "now": session.now}
        matched += session.change("settle_try_done", done)
    if batch.rest:
        matched += tell_tries(session, batch.rest)
    return matched


def tell_tries(session: Session, ended: Sequence[Ended]) -> int:
    """Write the tries of what is under its lease; returns how many that were."""
    rows = [(e.seq, e.token, e.effect.event, _printable(e.effect.error)) for e in ended]
    return session.change("settle_try", {"batch": encoded(rows), "now": session.now})


def _printable(failure: v.Failure | None) -> v.Failure | None:
    """A failure that can be written as UTF-8: what a handler raised may hold half a surrogate pair."""
    if failure is None:
        return None
    texts = (failure.type, failure.message, failure.traceback, failure.fingerprint)
    return v.Failure(*(text.encode("utf-8", "backslashreplace").decode() for text in texts))


def _apply(session: Session, batch: _Batch, deliveries: Sequence[Delivery]) -> None:
    """Change the entries of a batch that is under its leases, which is what takes effect of ``deliveries``."""
    if not batch.done and not batch.rest:
        return
    session.news.add(Finished(frozenset(map(_ID, deliveries))))
    if batch.done:
        entries = numbers(chain.from_iterable(batch.done.values()))
        session.change("settle_done", {"entries": entries, "now": session.now})
        queues = session.sums.succeed(batch.succeeded, session.now)
        session.each("settle_kept", list(queues.items()))
        lines.freed(session, queues)
        loosen(session, Counter({token: len(seqs) for token, seqs in batch.done.items()}))
    if batch.rest:
        take_effect(session, batch.rest, settles=True)
    if results := [(seq, done.result) for seq, done, _ in batch.followed if done.result is not None]:
        session.each("settle_results", results)
    if then := [message for _, _, messages in batch.followed for message in messages]:
        if has_steps(then):
            births.follow(session, [(seq, messages) for seq, _, messages in batch.followed if messages])
            then = [message for message in then if message.step is None]
        publish(session, then)


def take_effect(session: Session, ended: Sequence[Ended], *, settles: bool) -> None:
    """Change entries whose tries have just been written, and take them off their leases. ``settles``: by their holders."""
    rows = [
        (
            e.seq,
            f.state,
            f.if_asked,
            f.state in FINISHED,
            f.attempts,
            f.crashes,
            f.releases,
            f.due,
            f.unknown,
            f.reason,
        )
        for e in ended
        for f in (e.effect,)
    ]
    session.change("settle_effects", {"batch": encoded(rows), "now": session.now, "settles": int(settles)})
    if waiting := [e.seq for e in ended if e.effect.awaits]:
        arrivals.settled(session, waiting)
    session.change("try_trim", {"entries": numbers(e.seq for e in ended), "keep": TRIES_KEPT})
    errors = [(e.seq, error) for e in ended if (error := _printable(e.effect.error)) is not None]
    if errors:
        session.each("failure_keep", [(seq, error.type, error.fingerprint) for seq, error in errors])
    for e in ended:
        session.sums.end(e.queue, e.name, e.effect, session.now - e.started)
    if crashed := sum(e.effect.crashes for e in ended):
        session.change("count_event", {"name": "crashed", "n": crashed})
    loosen(session, Counter(e.token for e in ended))
    back = [e.queue for e in ended if e.effect.state not in FINISHED]
    session.tallies.grow(back)
    session.news.update(map(Ready, back))
    lines.freed(session, (e.queue for e in ended))
    session.news.add(Finished())


def loosen(session: Session, counts: Counter[Token]) -> None:
    """Take entries off their leases."""
    held = {"batch": encoded(list(counts.items()))}
    session.change("lease_less", held)
    session.change("lease_empty", held)
