"""Ending deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Settled, Settlement
from forebay.model import verdict as v
from forebay.model.effect import effect
from forebay.stores.flows import has_steps
from forebay.stores.memory import births
from forebay.stores.memory.entry import flow_of
from forebay.stores.memory.publish import publish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.model.message import Message
    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger


def settle(ledger: Ledger, batch: Sequence[Settlement], now: Instant) -> list[Settled]:
    """End deliveries, then publish what follows from them: it finds the unique keys free that they held."""
    for settlement in batch:
        if has_steps(settlement.then):
            births.check_following(ledger, settlement)
    then: list[tuple[str | None, Sequence[Message]]] = []
    answers = [_settle(ledger, settlement, then, now) for settlement in batch]
    for own, messages in then:
        if has_steps(messages):
            births.follow(ledger, own, messages, now)
        for message in messages:
            if message.step is None:
                publish(ledger, message, now)
    return answers


def _settle(
    ledger: Ledger, settlement: Settlement, then: list[tuple[str | None, Sequence[Message]]], now: Instant
) -> Settled:
    """End one delivery, if its token still holds the entry; what follows goes to ``then``."""
    delivery, verdict = settlement.delivery, settlement.verdict
    entry = ledger.entries.get(delivery.id)
    if entry is None or entry.token != delivery.token:
        if entry is not None and entry.settled_by == delivery.token:
            return Settled.OK
        ledger.counters["stale"] += 1
        return Settled.STALE
    most = ledger.options.timing.crashes
    ledger.end_try(entry, effect(verdict, crashes=entry.crashes, most_crashes=most, now=now), now)
    entry.settled_by = delivery.token
    if isinstance(verdict, v.Done):
        entry.result = verdict.result
        if settlement.then:
            then.append((flow_of(entry), settlement.then))
    return Settled.OK
