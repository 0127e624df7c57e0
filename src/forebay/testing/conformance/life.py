"""Claims about opening and closing, and about asking for what was not promised."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Final

from forebay.engine import Ask, Settled, Settlement, Source
from forebay.errors import NotOpen, Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.when import SECOND, After
from forebay.support.ids import new_token
from forebay.testing.clock import eventually
from forebay.testing.conformance.harness import (
    FAILURE,
    WORK,
    Harness,
    any_engine,
    but,
    claims,
    ids,
    refused,
    survives,
)

EVENTS: Final = Source.subscription("orders.*", "billing")


async def closing_twice_is_closing_once(h: Harness) -> None:
    broker = h.engine.connect("short", h.clock)
    await broker.declare([WORK])

    await broker.close()
    await broker.close()

    with refused(NotOpen, "publish after close"):
        await broker.publish([h.message()])


async def closing_what_was_never_opened_is_nothing(h: Harness) -> None:
    await h.engine.connect("never", h.clock).close()


async def declaring_again_changes_nothing(h: Harness) -> None:
    broker = await h.broker()
    await h.publish(h.message())

    await broker.declare([WORK])
    await broker.declare([])

    assert len(await h.take()) == 1


async def two_brokers_of_one_engine_see_the_same(h: Harness) -> None:
    await h.broker("two")
    await h.publish(h.message())

    delivery = await h.take_one("two")

    assert await h.settle(delivery, v.Done(), worker="two") is Settled.OK
    await h.nothing()


async def brokers_in_other_threads_see_the_same(h: Harness) -> None:
    messages = h.messages(40)
    await h.publish(*messages)

    async def drain(worker: str) -> list[str]:
        broker, got = h.engine.connect(worker, h.clock), []
        await broker.declare([WORK])
        while taken := await broker.receive([Ask(WORK, new_token(), 5)], wait=h.wait):
            await broker.settle([Settlement(delivery, v.Done()) for delivery in taken])
            got += ids(taken)
        await broker.close()
        return got

    drained = await asyncio.gather(*[asyncio.to_thread(asyncio.run, drain(f"thread {i}")) for i in range(4)])

    assert sorted(message for part in drained for message in part) == [message.id for message in messages]


async def two_engines_do_not_touch_each_other(h: Harness) -> None:
    other = h.elsewhere()
    try:
        message = h.message()
        await h.publish(message)

        await other.nothing()
        await other.publish(but(message, body=b"other"))
        assert (await h.take_one()).message.body == message.body
        assert (await other.take_one()).message.body == b"other"
    finally:
        await other.close()


async def two_engines_at_one_place_see_the_same(h: Harness) -> None:
    other = Harness(h.factory, h.options, h.clock, h.factory(h.place, h.options), h.place)
    try:
        await other.broker("two")
        await h.publish(h.message())
        delivery = await other.take_one("two")
        assert await other.settle(delivery, v.Done(), worker="two") is Settled.OK
        await h.nothing()
    finally:
        await other.close()


async def opening_again_finds_every_message(h: Harness) -> None:
    batch = h.messages(3)
    late = but(h.message(), due=After(h.tick))
    await h.publish(*batch, late)
    await h.settle(await h.take_one(), v.Retry(After(0), FAILURE))

    await h.reopen()

    taken = {d.id: d for d in await h.take()}
    assert sorted(taken) == [str(message.id) for message in batch]
    assert [taken[EntryId(m.id)].message for m in batch] == batch
    assert sorted(d.attempts for d in taken.values()) == [0, 0, 1]
    await h.advance(h.tick)
    assert ids(await h.take()) == [late.id]


async def opening_again_finds_leases_history_and_controls(h: Harness) -> None:
    await h.broker("one", (EVENTS,))
    await h.publish(*h.messages(2))
    done, held = await h.take(2)
    await h.settle(done, v.Done(b'"yes"'))
    await (await h.store()).steer(q.Selector(queue="other"), q.Pause())
    before = await h.record(done.id)

    await h.reopen()

    assert await h.record(done.id) == before
    assert await h.state(held.id) is State.RUNNING
    await h.nothing()
    assert await h.settle(held, v.Done()) is Settled.OK
    assert await h.settle(done, v.Done(b'"yes"')) is Settled.OK
    (answer,) = await (await h.broker()).publish([h.event("orders.placed")])
    assert answer.groups == 1
    await h.publish(but(h.message(), queue="other"))
    await h.nothing(Source(queue="other"))


async def nothing_is_left_running_or_open(h: Harness) -> None:
    async def one_life() -> None:
        await h.publish(*h.messages(5))
        for delivery in await h.take():
            await h.settle(delivery, v.Done())
        await h.broker("two")
        await h.reopen()

    await one_life()
    threads, files = threading.active_count(), _open_files()
    for _ in range(3):
        await one_life()

    await eventually(lambda: threading.active_count() <= threads, what=f"no more than {threads} threads")
    await eventually(lambda: _open_files() <= files, what=f"no more than {files} open files")


def _open_files() -> int:
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.is_dir() else 0


# -- what was not promised


async def without_delay_a_delay_is_refused(h: Harness) -> None:
    with refused(Unsupported, "publish with due"):
        await h.publish(but(h.message(), due=After(SECOND)))
    await h.nothing()


async def without_priorities_a_priority_is_refused(h: Harness) -> None:
    with refused(Unsupported, "publish with a priority"):
        await h.publish(but(h.message(), priority=9))
    await h.nothing()


async def without_expiry_an_expiry_is_refused(h: Harness) -> None:
    with refused(Unsupported, "publish with expires"):
        await h.publish(but(h.message(), expires=After(SECOND)))
    await h.nothing()


async def without_unique_keys_one_is_refused(h: Harness) -> None:
    with refused(Unsupported, "publish with unique"):
        await h.publish(but(h.message(), unique="k"))
    await h.nothing()


async def without_topics_a_subscription_is_refused(h: Harness) -> None:
    with refused(Unsupported, "declare a subscription"):
        await h.broker("one", (EVENTS,))


async def without_transactions_one_is_refused(h: Harness) -> None:
    broker = await h.broker()
    with refused(Unsupported, "publish with tx"):
        await broker.publish([h.message()], tx=object())
    await h.nothing()


async def what_is_native_to_another_engine_is_refused(h: Harness) -> None:
    with refused(Unsupported, "declare with native=object()"):
        await h.broker("one", (but(EVENTS if h.traits.fan_out else WORK, native=object()),))


async def without_memory_there_is_nothing_to_ask(h: Harness) -> None:
    broker = await h.broker()

    assert [verb for verb in ("sweep", "steer", "find", "count") if hasattr(broker, verb)] == []


CLAIMS: Final = (
    *claims(
        "life",
        any_engine,
        closing_twice_is_closing_once,
        closing_what_was_never_opened_is_nothing,
        declaring_again_changes_nothing,
        two_brokers_of_one_engine_see_the_same,
        brokers_in_other_threads_see_the_same,
        two_engines_do_not_touch_each_other,
    ),
    *claims("life", lambda t: t.shared, two_engines_at_one_place_see_the_same),
    *claims("life", lambda t: survives(t) and t.delay, opening_again_finds_every_message),
    *claims(
        "life",
        lambda t: survives(t) and t.remembers and t.fences and t.fan_out,
        opening_again_finds_leases_history_and_controls,
    ),
    *claims("resource", any_engine, nothing_is_left_running_or_open),
    *claims("refusal", any_engine, what_is_native_to_another_engine_is_refused),
    *claims("refusal", lambda t: not t.delay, without_delay_a_delay_is_refused),
    *claims("refusal", lambda t: not t.priorities, without_priorities_a_priority_is_refused),
    *claims("refusal", lambda t: not t.expiry, without_expiry_an_expiry_is_refused),
    *claims("refusal", lambda t: not t.unique, without_unique_keys_one_is_refused),
    *claims("refusal", lambda t: not t.fan_out, without_topics_a_subscription_is_refused),
    *claims("refusal", lambda t: not t.joins_transaction, without_transactions_one_is_refused),
    *claims("refusal", lambda t: not t.remembers, without_memory_there_is_nothing_to_ask),
)
