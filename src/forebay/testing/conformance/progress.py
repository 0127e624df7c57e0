"""Claims about what running handlers say of their progress, and about asking them to stop."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import Final

from forebay.engine import Cancels, Notice
from forebay.model import query as q, verdict as v
from forebay.model.when import After
from forebay.testing.clock import Probe
from forebay.testing.conformance.harness import FAILURE, Harness, any_engine, but, claims, fences, remembers

HALF: Final = q.Progress(share=0.5, note="half", overdue=False)


async def a_renewal_takes_progress_along(h: Harness) -> None:
    await h.publish(h.message())
    delivery = await h.take_one()
    broker = await h.broker()

    assert list(await broker.extend([delivery], progress={delivery.id: HALF})) == [Notice.KEPT]


async def what_is_said_of_progress_is_shown(h: Harness) -> None:
    message, silent = h.message(), h.message()
    await h.publish(message, silent)
    deliveries = await h.take()
    store = await h.store()

    await store.extend(deliveries, progress={deliveries[0].id: HALF})
    at = h.now()
    await store.extend(deliveries)

    shown = (await h.record(message.id)).progress
    assert shown is not None
    assert but(shown, at=0) == HALF
    assert shown.at <= at + h.tick
    assert (await h.record(silent.id)).progress is None

    late = but(HALF, share=None, overdue=True)
    await store.extend(deliveries[:1], progress={deliveries[0].id: late})
    again = (await h.record(message.id)).progress
    assert again is not None
    assert but(again, at=0) == late


async def a_new_try_begins_without_progress(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    delivery = await h.take_one()
    store = await h.store()
    await store.extend([delivery], progress={delivery.id: HALF})
    await h.settle(delivery, v.Retry(After(0), FAILURE))

    await h.advance(1)
    await h.take_one()

    assert (await h.record(message.id)).progress is None


async def progress_under_a_lost_lease_changes_nothing(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    late = await h.take_one("late")
    await h.lose()
    await h.take_one("one")

    broker = await h.broker("late")
    assert list(await broker.extend([late], progress={late.id: HALF})) == [Notice.LOST]

    assert (await h.record(message.id)).progress is None


async def what_is_deleted_leaves_no_progress_behind(h: Harness) -> None:
    message = h.message()
    await h.publish(message)
    delivery = await h.take_one()
    store = await h.store()
    await store.extend([delivery], progress={delivery.id: HALF})
    await h.settle(delivery, v.Done())
    await h.steer(q.Delete())
    await h.publish(message)

    assert (await h.record(message.id)).progress is None


async def who_watches_for_cancels_is_told_at_once(h: Harness) -> None:
    await h.publish(h.message())
    await h.take_one()
    store, told = await h.store("other"), Probe[None]("Cancels signals")

    async def watch() -> None:
        async for _ in store.watch(Cancels()):
            told.hit(None)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await told.wait()
        await h.steer(q.CancelNow())
        await told.wait(2)
        watching.cancel()


CLAIMS: Final = (
    *claims("progress", any_engine, a_renewal_takes_progress_along),
    *claims(
        "progress",
        remembers,
        what_is_said_of_progress_is_shown,
        a_new_try_begins_without_progress,
        what_is_deleted_leaves_no_progress_behind,
        who_watches_for_cancels_is_told_at_once,
    ),
    *claims("progress", lambda t: remembers(t) and fences(t), progress_under_a_lost_lease_changes_nothing),
)
