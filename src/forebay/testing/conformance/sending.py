"""Claims about publishing: what was accepted is there, as it was given, once."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from forebay.engine import Settled, Settlement, Source, Stored
from forebay.errors import NotOpen
from forebay.model import query as q, verdict as v
from forebay.model.state import State
from forebay.model.when import After
from forebay.testing.conformance.harness import FAILURE, Harness, any_engine, but, claims, ids, refused

if TYPE_CHECKING:
    from forebay.engine import Traits
    from forebay.model.message import Message

OTHER: Final = Source(queue="other")


async def _round_trip(h: Harness, message: Message) -> None:
    await h.publish(message)

    delivery = await h.take_one()

    assert delivery.message == message
    assert delivery.id == str(message.id)


async def a_message_arrives_as_it_was_sent(h: Harness) -> None:
    message = but(
        h.message("mail.send", b'{"to": 7}'),
        headers={"traceparent": "00-1-2-03"},
        key="7",
        max_attempts=3,
        timeout=5_000_000,
    )
    await _round_trip(h, message)


async def headers_of_any_script_arrive(h: Harness) -> None:
    await _round_trip(h, but(h.message(), headers={"naïve": "日本語 🌊", "empty": ""}, key="ключ"))


async def an_empty_body_arrives(h: Harness) -> None:
    await _round_trip(h, h.message(body=b""))


async def a_body_of_any_bytes_arrives(h: Harness) -> None:
    await _round_trip(h, but(h.message(body=bytes(range(256))), content_type="application/octet-stream"))


async def a_large_body_arrives(h: Harness) -> None:
    await _round_trip(h, h.message(body=b"x" * min(h.traits.max_body // 2, 512 << 10)))


async def a_batch_is_answered_item_by_item(h: Harness) -> None:
    broker = await h.broker()
    batch = h.messages(500)

    answers = await broker.publish(batch)

    assert ids(answers) == [message.id for message in batch]
    assert {answer.status for answer in answers} == {Stored.STORED}
    taken = [d.message.body for _ in range(5) for d in await h.take(100)]
    assert sorted(taken) == sorted(message.body for message in batch)


async def an_empty_batch_is_nothing(h: Harness) -> None:
    broker = await h.broker()

    assert list(await broker.publish([])) == []
    assert list(await broker.settle([])) == []
    assert list(await broker.extend([])) == []
    await h.nothing()


async def a_queue_nobody_declared_keeps_its_messages(h: Harness) -> None:
    await h.publish(but(h.message(), queue=OTHER.queue))

    await h.nothing()
    assert (await h.take_one(source=OTHER)).source == OTHER


async def a_broker_that_is_not_open_refuses(h: Harness) -> None:
    broker = h.engine.connect("early", h.clock)

    with refused(NotOpen, "publish before declare"):
        await broker.publish([h.message()])


async def the_same_id_is_stored_once(h: Harness) -> None:
    broker, message = await h.broker(), h.message()

    answers = await broker.publish([message, message])
    again = await broker.publish([but(message, body=b"other"), h.message()])

    assert [a.status for a in (*answers, *again)] == [
        Stored.STORED,
        Stored.DUPLICATE,
        Stored.DUPLICATE,
        Stored.STORED,
    ]
    assert ids([*answers, again[0]]) == [message.id] * 3
    taken = await h.take()
    assert [d.message.body for d in taken] == [message.body, b"{}"]


async def the_same_id_in_another_queue_is_a_duplicate(h: Harness) -> None:
    broker, message = await h.broker(), h.message()

    await broker.publish([message])
    (again,) = await broker.publish([but(message, queue=OTHER.queue)])

    assert again.status is Stored.DUPLICATE
    await h.nothing(OTHER)


async def the_same_id_is_a_duplicate_after_it_was_done(h: Harness) -> None:
    broker, message = await h.broker(), h.message()
    await broker.publish([message])
    await h.settle(await h.take_one(), v.Done())

    (again,) = await broker.publish([message])

    assert again.status is Stored.DUPLICATE
    await h.nothing()


async def a_cancelled_publish_can_be_repeated(h: Harness) -> None:
    broker = await h.broker()
    for turns in range(12):
        batch = h.messages(3)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(broker.publish(batch))
            for _ in range(turns):
                await asyncio.wait([task], timeout=0)
            task.cancel()

        await broker.publish(batch)

        assert sorted(ids(await h.take())) == [message.id for message in batch]


# -- unique keys


async def _sent(h: Harness, unique: str = "k", queue: str = "work") -> tuple[Message, Stored]:
    """A new message that wants a unique key, and what became of it."""
    message = but(h.message(), unique=unique, queue=queue)
    (answer,) = await (await h.broker()).publish([message])
    return message, answer.status


async def a_unique_key_has_one_holder(h: Harness) -> None:
    broker = await h.broker()
    first, second = but(h.message(), unique="k"), but(h.message(), unique="k")

    answers = await broker.publish([first, second, but(h.message(), unique="other"), h.message()])
    _, elsewhere = await _sent(h, queue=OTHER.queue)

    assert [a.status for a in answers] == [Stored.STORED, Stored.DUPLICATE, Stored.STORED, Stored.STORED]
    assert answers[1].id == str(first.id)
    assert elsewhere is Stored.STORED


async def a_unique_key_is_held_while_there_is_work_left(h: Harness) -> None:
    await _sent(h)
    for verdict in (v.Retry(After(0), FAILURE), v.Snooze(After(0)), v.Release()):
        delivery = await h.take_one()
        assert (await _sent(h))[1] is Stored.DUPLICATE
        await h.settle(delivery, verdict)
        assert (await _sent(h))[1] is Stored.DUPLICATE, verdict
    await h.take_one()
    await h.lose()
    assert (await _sent(h))[1] is Stored.DUPLICATE


async def a_unique_key_is_free_when_its_holder_has_ended(h: Harness) -> None:
    for verdict in (v.Done(), v.Dead(v.Reason.ASKED), v.Cancelled(), v.Expired()):
        assert (await _sent(h))[1] is Stored.STORED, verdict
        await h.settle(await h.take_one(), verdict)
    assert (await _sent(h))[1] is Stored.STORED


async def a_unique_key_is_free_when_its_holder_is_cancelled_or_deleted(h: Harness) -> None:
    for command in (q.CancelNow(), q.Delete()):
        message, status = await _sent(h)
        assert status is Stored.STORED
        assert await h.steer(command, (await h.record(message.id)).id) == 1
    assert (await _sent(h))[1] is Stored.STORED


async def a_unique_key_is_free_when_its_holder_has_expired(h: Harness) -> None:
    message = but(h.message(), unique="k", expires=After(h.tick))
    await h.publish(message)
    await h.advance(h.tick + 1)
    await (await h.store()).sweep(100)

    assert (await _sent(h))[1] is Stored.STORED


async def what_follows_finds_the_unique_keys_free_that_its_batch_held(h: Harness) -> None:
    await h.publish(h.message("first"), but(h.message("second"), unique="u"))
    first, second = await h.take(2)
    follow = but(h.message("third"), unique="u")
    broker = await h.broker()

    answers = await broker.settle([Settlement(first, v.Done(), (follow,)), Settlement(second, v.Done())])

    assert list(answers) == [Settled.OK, Settled.OK]
    assert [one.message.name for one in await h.take(5)] == ["third"]


async def a_redrive_takes_its_unique_key_back(h: Harness) -> None:
    message, _ = await _sent(h)
    dead = await h.bury()

    assert await h.steer(q.Redrive(), dead.id) == 1

    assert (await _sent(h))[1] is Stored.DUPLICATE
    assert (await h.take_one()).message == message


async def a_redrive_is_refused_while_another_holds_its_unique_key(h: Harness) -> None:
    await _sent(h)
    dead = await h.bury()
    holder, status = await _sent(h)
    assert status is Stored.STORED

    assert await h.steer(q.Redrive(), dead.id) == 0

    assert await h.state(dead.id) is State.DEAD
    delivery = await h.take_one()
    assert delivery.message == holder
    assert await h.settle(delivery, v.Done()) is Settled.OK
    assert await h.steer(q.Redrive(), dead.id) == 1


async def deleting_the_dead_leaves_another_holder_its_unique_key(h: Harness) -> None:
    await _sent(h)
    dead = await h.bury()
    await _sent(h)

    await h.steer(q.Delete(), dead.id)

    assert (await _sent(h))[1] is Stored.DUPLICATE


def _dedupes(traits: Traits) -> bool:
    return traits.dedupes


def _unique(traits: Traits) -> bool:
    return traits.unique


CLAIMS: Final = (
    *claims(
        "send",
        any_engine,
        a_message_arrives_as_it_was_sent,
        headers_of_any_script_arrive,
        an_empty_body_arrives,
        a_body_of_any_bytes_arrives,
        a_large_body_arrives,
        a_batch_is_answered_item_by_item,
        an_empty_batch_is_nothing,
        a_queue_nobody_declared_keeps_its_messages,
        a_broker_that_is_not_open_refuses,
    ),
    *claims(
        "send",
        _dedupes,
        the_same_id_is_stored_once,
        the_same_id_in_another_queue_is_a_duplicate,
        the_same_id_is_a_duplicate_after_it_was_done,
        a_cancelled_publish_can_be_repeated,
    ),
    *claims(
        "unique",
        _unique,
        a_unique_key_has_one_holder,
        a_unique_key_is_held_while_there_is_work_left,
        a_unique_key_is_free_when_its_holder_has_ended,
    ),
    *claims(
        "unique",
        lambda t: t.unique and t.remembers,
        a_unique_key_is_free_when_its_holder_is_cancelled_or_deleted,
        what_follows_finds_the_unique_keys_free_that_its_batch_held,
        a_redrive_takes_its_unique_key_back,
        a_redrive_is_refused_while_another_holds_its_unique_key,
        deleting_the_dead_leaves_another_holder_its_unique_key,
    ),
    *claims(
        "unique",
        lambda t: t.unique and t.remembers and t.expiry,
        a_unique_key_is_free_when_its_holder_has_expired,
    ),
)
