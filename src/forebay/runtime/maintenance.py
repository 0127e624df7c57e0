"""Upkeep: every worker sweeps the store now and then. No leader; sweeping twice does no harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.errors import EngineError, told
from forebay.model.query import Query, Selector
from forebay.model.when import SECOND
from forebay.support.logs import Log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from forebay.engine import Store, Timing
    from forebay.model.query import TaskRecord
    from forebay.support.clock import Clock

log = Log("forebay.maintenance")

BUDGET: Final = 1_000
LEAST: Final = 20_000
"""Messages that may be swept in a row, while there is more to do; then the others get the store again."""
AHEAD: Final = 2
"""How many may be swept for each that this worker has ended meanwhile, if that is more: upkeep is never slower than the work."""
STEP: Final = SECOND
"""By how much the wall clock may part from the monotonic one from one sweep to the next; more, and it was set."""


async def keep(  # noqa: PLR0913  # one keyword for each concern
    store: Store,
    clock: Clock,
    timing: Timing,
    stop: asyncio.Event,
    roll: Callable[[], float],
    *,
    ended: Callable[[], int] = lambda: 0,
    on_dead: Callable[[TaskRecord], None] | None = None,
) -> None:
    """Sweep every so often, give or take a quarter so that many workers do not march in step, until ``stop`` is set.

    ``ended``: how many messages this worker has ended since it began. The more, the more may be swept. ``on_dead`` hears of those whose
    leases were lost once too often.

    When the wall clock was set forward, or the host slept, all leases may be over by it though their holders live. So a sweep is then put
    off by a lease: by its end those who live have renewed theirs, several times, and those who have not are dead.
    """
    offset = clock.now() - clock.monotonic()
    before = ended()
    while not await clock.wait(stop, int(timing.sweep * (0.75 + roll() / 2))):
        was, offset = offset, clock.now() - clock.monotonic()
        if offset - was > STEP:
            log.warning("clock.set", extra={"forward_seconds": (offset - was) // SECOND})
            await clock.wait(stop, timing.lease)
            continue
        since, before = ended() - before, ended()
        try:
            await _sweep(store, max(LEAST, AHEAD * since), on_dead)
        except EngineError as error:
            log.warning("sweep.failed", extra=told(error))


async def _sweep(store: Store, number: int, on_dead: Callable[[TaskRecord], None] | None) -> None:
    for _ in range(0, number, BUDGET):
        swept = await store.sweep(BUDGET)
        if swept.lost or swept.quarantined:
            log.warning("lease.swept", extra={"lost": swept.lost, "quarantined": swept.quarantined})
        if swept.dead and on_dead is not None:
            for record in (await store.find(Query(which=Selector(ids=swept.dead), size=BUDGET))).records:
                on_dead(record)
        if swept.expired or swept.deleted:
            log.info("sweep.done", extra={"expired": swept.expired, "deleted": swept.deleted})
        if not swept.more:
            return
