"""Renewing leases. Runs inside a write transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Notice
from forebay.stores.sqlite.session import batch as encoded, numbers
from forebay.stores.sqlite.settle import seqs_of
from forebay.stores.sqlite.upkeep import lose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.engine import Delivery
    from forebay.model.message import EntryId
    from forebay.model.query import Progress
    from forebay.stores.sqlite.session import Session, Value
    from forebay.support.ids import Token


def extend(
    session: Session,
    deliveries: Sequence[Delivery],
    under_way: Sequence[Token],
    progress: Mapping[EntryId, Progress],
) -> list[Notice]:
    """Renew leases; answers per item and in order."""
    seqs = seqs_of(session, deliveries)
    rows = [(seq, d.token) for seq, d in zip(seqs, deliveries, strict=True)]
    asked: dict[int, int] = dict(session.rows("extend_match", {"batch": encoded(rows)}))
    named: dict[Token, set[int]] = {delivery.token: set() for delivery in deliveries}
    for n in asked:
        named[deliveries[n].token].add(seqs[n])
    tokens = encoded(sorted({*under_way, *(token for token, found in named.items() if found)}))
    session.change("extend", {"tokens": tokens, "until": session.now + session.options.timing.lease})
    _take_back(session, {token: found for token, found in named.items() if token not in set(under_way)})
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


def _take_back(session: Session, named: Mapping[Token, set[int]]) -> None:
    """What was taken under these tokens a lease time ago and is not named is nobody's. Mostly there is none: one look at each lease."""
    unnamed: dict[str, Value] = {
        "batch": encoded([(token, len(seqs)) for token, seqs in named.items()]),
        "named": numbers(seq for seqs in named.values() for seq in seqs),
        "before": session.now - session.options.timing.lease,
    }
    lose(session, session.rows("extend_unnamed", unnamed))
