"""A rate that handlers share by its name, over all processes: their turn comes in place, or with a later try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.model.outcome import Snooze
from forebay.model.rule import AHEAD, rate_limit
from forebay.model.when import SECOND, After, Micros, micros

if TYPE_CHECKING:
    from forebay.engine import Store
    from forebay.model.when import Duration
    from forebay.support.clock import Clock

PATIENCE: Final[Micros] = 5 * SECOND
"""How long a handler waits for its turn in place, if it does not say."""


async def take_turn(
    store: Store, clock: Clock, bucket: str, rate: str, *, burst: int | None, wait: Duration | None
) -> None:
    """Return when there is a token; raise `Snooze` until there is one, and take none, where that is longer than ``wait``."""
    limit = rate_limit(rate, "ctx.limit(rate)", burst)
    patience = PATIENCE if wait is None else min(micros(wait, "ctx.limit(wait=...)"), AHEAD)
    spent = await store.spend(bucket, limit, patience=patience)
    if not spent.taken:
        word = Snooze(0, f"the rate of {bucket!r}, {limit}, is used up")
        word.when = After(spent.wait)
        raise word
    if spent.wait:
        await clock.sleep(spent.wait)
