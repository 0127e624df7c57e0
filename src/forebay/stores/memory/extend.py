"""What a worker says of tries under way: that it has them yet, how far they are, and which steps are to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.engine import Delivery, Notice, Settled
from forebay.stores.memory import upkeep

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from forebay.model import query as q
    from forebay.model.saved import SavedStep
    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger
    from forebay.support.ids import Token


def extend(ledger: Ledger, delivery: Delivery, now: Instant, progress: q.Progress | None) -> Notice:
    """Renew one lease, and keep what is said of its progress."""
    entry = ledger.entries.get(delivery.id)
    if entry is None or delivery.token not in ledger.leases or entry.token != delivery.token:
        return Notice.LOST
    extend_lease(ledger, delivery.token, now)
    if progress is not None:
        entry.progress = replace(progress, at=now)
    return Notice.CANCEL if entry.cancel_requested else Notice.KEPT


def extend_lease(ledger: Ledger, token: Token, now: Instant) -> None:
    """Renew what a token holds, if it holds anything."""
    if token in ledger.leases:
        ledger.leases[token].until = now + ledger.options.timing.lease


def take_back(
    ledger: Ledger, named: Sequence[Delivery], under_way: Collection[Token], now: Instant
) -> set[str]:
    """Lose what was taken a lease time ago under a token of ``named`` and is not named itself; returns its queues."""
    known = {delivery.id for delivery in named}
    leases = [ledger.leases.get(token) for token in {d.token for d in named}.difference(under_way)]
    lost = [
        entry
        for lease in leases
        if lease is not None
        for entry in map(ledger.entries.__getitem__, lease.entries - known)
        if (entry.started or now) + ledger.options.timing.lease <= now
    ]
    for entry in lost:
        upkeep.lose(ledger, entry, now)
    return {entry.queue for entry in lost}


def save(ledger: Ledger, delivery: Delivery, steps: Sequence[SavedStep], now: Instant) -> Settled:
    """Keep steps of a try, if its token still holds the entry."""
    entry = ledger.entries.get(delivery.id)
    if entry is None or entry.token != delivery.token:
        return Settled.STALE
    ledger.steps.save(entry.id, entry.tries + 1, steps, now)
    return Settled.OK
