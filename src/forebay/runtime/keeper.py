"""Upkeep: every worker sweeps the store now and then. No leader; sweeping twice does no harm."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from forebay.errors import EngineError, told

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from forebay.clock import Clock
    from forebay.engine import Store
    from forebay.model.when import Micros

log = logging.getLogger("forebay.keeper")

BUDGET: Final = 1_000
MOST_ROUNDS: Final = 20
"""Sweeps in a row while there is more to do; then the others get the store again."""


async def keep(
    store: Store, clock: Clock, every: Micros, stop: asyncio.Event, roll: Callable[[], float]
) -> None:
    """Sweep ``every`` so many microseconds, give or take a quarter so that many workers do not march in step, until ``stop`` is set."""
    while not await clock.wait(stop, int(every * (0.75 + roll() / 2))):
        try:
            await _sweep(store)
        except EngineError as error:
            log.warning("sweep.failed", extra=told(error))


async def _sweep(store: Store) -> None:
    for _ in range(MOST_ROUNDS):
        swept = await store.sweep(BUDGET)
        if swept.lost or swept.quarantined:
            log.warning("lease.swept", extra={"lost": swept.lost, "quarantined": swept.quarantined})
        if swept.expired or swept.deleted:
            log.info("sweep.done", extra={"expired": swept.expired, "deleted": swept.deleted})
        if not swept.more:
            return
