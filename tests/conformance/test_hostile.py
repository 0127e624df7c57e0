"""The hostile bus keeps what a bus must, and breaks off in every way it says it does."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from forebay.engine import Ask, EngineOptions, LeaseKind, Losses, Notice, Settled, Settlement, Source, Stored
from forebay.errors import EngineUnavailable, OutcomeUnknown
from forebay.model import verdict as v
from forebay.model.message import Message, MessageId
from forebay.model.when import After
from forebay.support.ids import Token, new_token
from forebay.testing import conformance
from forebay.testing.clock import VirtualClock
from forebay.testing.hostile import Fault, Faults, HostileBroker, HostileBus, HostileQueue

WORK = Source(queue="work")
FIRST, SECOND = (Message(id=MessageId(name), name=name, queue="work") for name in ("first", "second"))


@pytest.mark.parametrize(
    ("lease", "claim"),
    [
        pytest.param(lease, claim, id=f"{lease}-{claim}")
        for lease in LeaseKind
        for claim in conformance.claims_for(HostileBus(lease=lease).traits)
    ],
)
def test_hostile(lease: LeaseKind, claim: conformance.Claim) -> None:
    def engine(place: str, options: EngineOptions) -> HostileBus:
        return HostileBus(options=options, lease=lease)

    asyncio.run(conformance.run(claim, engine))


async def _open(bus: HostileBus) -> HostileBroker:
    broker = bus.connect("one", VirtualClock())
    await broker.declare([WORK])
    return broker


@pytest.mark.parametrize(
    ("fault", "error", "there"),
    [
        (None, None, ["first", "second"]),
        (Fault.REFUSE, EngineUnavailable, []),
        (Fault.LOSE_CALL, OutcomeUnknown, []),
        (Fault.LOSE_REPLY, OutcomeUnknown, ["first", "second"]),
        (Fault.CUT, OutcomeUnknown, ["first", "second"]),
        (Fault.HALVE, None, ["first"]),
        (Fault.UNROUTE, None, ["first"]),
        (Fault.DOUBLE, None, ["first", "second", "first", "second"]),
    ],
)
def test_a_publish_breaks_off_as_planned(
    fault: Fault | None, error: type[Exception] | None, there: list[str]
) -> None:
    async def story() -> None:
        bus = HostileBus(Faults(publish=[fault]))
        broker = await _open(bus)

        if error is None:
            await broker.publish([FIRST, SECOND])
        else:
            with pytest.raises(error):
                await broker.publish([FIRST, SECOND])

        assert [message.id for message in bus.queued("work")] == there

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (None, [Stored.STORED] * 4),
        (Fault.HALVE, [Stored.STORED, *[Stored.UNKNOWN] * 3]),
        (Fault.UNROUTE, [Stored.STORED, Stored.STORED, Stored.UNROUTED, Stored.UNROUTED]),
    ],
)
def test_a_publish_is_answered_item_by_item(fault: Fault | None, said: list[Stored]) -> None:
    async def story() -> None:
        broker = await _open(HostileBus(Faults(publish=[fault])))

        answers = await broker.publish([replace(FIRST, id=MessageId(f"m{n}")) for n in range(4)])

        assert [answer.status for answer in answers] == said
        assert [answer.id for answer in answers] == [f"m{n}" for n in range(4)]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "error", "left"),
    [
        (None, None, ["second"]),
        (Fault.REFUSE, EngineUnavailable, ["first"]),
        (Fault.LOSE_CALL, OutcomeUnknown, ["first"]),
        (Fault.LOSE_REPLY, OutcomeUnknown, ["second"]),
        (Fault.HALVE, OutcomeUnknown, ["first", "second"]),
        (Fault.CUT, OutcomeUnknown, ["second"]),
    ],
)
def test_a_settle_breaks_off_as_planned(
    fault: Fault | None, error: type[Exception] | None, left: list[str]
) -> None:
    async def story() -> None:
        bus = HostileBus(Faults(settle=[fault]), lease=LeaseKind.CONNECTION)
        broker = await _open(bus)
        await broker.publish([FIRST])
        (delivery,) = await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)
        settlement = Settlement(delivery, v.Done(), (SECOND,))

        if error is None:
            await broker.settle([settlement])
        else:
            with pytest.raises(error):
                await broker.settle([settlement])
        await broker.close()

        assert [message.id for message in bus.queued("work")] == left

    asyncio.run(story())


def test_a_receive_whose_reply_was_lost_may_be_repeated() -> None:
    async def story() -> None:
        broker = await _open(HostileBus(Faults(receive=[Fault.LOSE_REPLY])))
        await broker.publish([FIRST])

        with pytest.raises(OutcomeUnknown):
            await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)

        assert list(await broker.receive([Ask(WORK, Token("other"), 1)], wait=0)) == []
        assert len(await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)) == 1

    asyncio.run(story())


def test_two_may_hold_one_message_and_either_may_end_it_or_bring_it_back() -> None:
    async def story() -> None:
        bus = HostileBus(Faults(receive=[Fault.DOUBLE]))
        broker = await _open(bus)
        await broker.publish([FIRST])
        (one,) = await broker.receive([Ask(WORK, Token("one"), 1)], wait=0)
        (two,) = await broker.receive([Ask(WORK, Token("two"), 1)], wait=0)

        assert one.id == two.id
        assert list(await broker.settle([Settlement(one, v.Done())])) == [Settled.OK]
        assert bus.queued("work") == ()
        assert list(await broker.settle([Settlement(two, v.Release())])) == [Settled.OK]
        assert [message.id for message in bus.queued("work")] == ["first"]

    asyncio.run(story())


def test_a_retry_is_a_new_copy_that_is_there_before_the_old_one_is_acknowledged() -> None:
    async def story() -> None:
        bus = HostileBus(Faults(settle=[Fault.HALVE]), lease=LeaseKind.CONNECTION)
        broker = await _open(bus)
        await broker.publish([FIRST])
        (delivery,) = await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)
        with pytest.raises(OutcomeUnknown):
            await broker.settle([Settlement(delivery, v.Retry(After(0), v.Failure("E", "no")))])

        bus.cut()

        copies = await broker.receive([Ask(WORK, Token("u"), 5)], wait=0)
        assert [(d.id, d.attempts, d.crashes) for d in copies] == [("first", 0, 1), ("first", 1, 0)]
        assert {d.created for d in copies} == {delivery.created}

    asyncio.run(story())


def test_who_holds_something_by_a_connection_that_is_cut_is_told_so() -> None:
    async def story() -> None:
        bus = HostileBus(lease=LeaseKind.CONNECTION)
        broker = await _open(bus)
        await broker.publish([FIRST])
        (delivery,) = await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)
        losses = broker.watch(Losses())
        await anext(losses)
        assert list(await broker.extend([delivery])) == [Notice.KEPT]

        bus.cut()

        await anext(losses)
        assert list(await broker.extend([delivery])) == [Notice.LOST]
        assert list(await broker.settle([Settlement(delivery, v.Done())])) == [Settled.STALE]
        assert [message.id for message in bus.queued("work")] == ["first"]

    asyncio.run(story())


def test_counters_that_a_sender_wrote_count_for_nothing() -> None:
    async def story() -> None:
        broker = await _open(HostileBus())
        await broker.publish([replace(FIRST, headers={"forebay-attempts": "7", "trace": "1"})])

        (delivery,) = await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)

        assert (delivery.attempts, delivery.message.headers) == (0, {"trace": "1"})

    asyncio.run(story())


def test_a_late_acknowledgement_is_accepted() -> None:
    async def story() -> None:
        bus = HostileBus()
        clock = VirtualClock()
        broker = bus.connect("one", clock)
        await broker.declare([WORK])
        await broker.publish([FIRST])
        (late,) = await broker.receive([Ask(WORK, Token("one"), 1)], wait=0)
        await clock.advance(bus.options.timing.lease)
        assert len(await broker.receive([Ask(WORK, Token("two"), 1)], wait=0)) == 1

        assert list(await broker.settle([Settlement(late, v.Done())])) == [Settled.OK]

        await clock.advance(bus.options.timing.lease)
        assert list(await broker.receive([Ask(WORK, Token("three"), 1)], wait=0)) == []

    asyncio.run(story())


def test_what_comes_back_more_often_than_its_queue_allows_is_a_dead_letter() -> None:
    async def story() -> None:
        bus = HostileBus(lease=LeaseKind.CONNECTION)
        broker = await _open(bus)
        await broker.declare([replace(WORK, native=HostileQueue(redeliveries=1))])
        await broker.publish([FIRST])
        for _ in range(2):
            assert len(await broker.receive([Ask(WORK, new_token(), 1)], wait=0)) == 1
            bus.cut()

        assert list(await broker.receive([Ask(WORK, new_token(), 1)], wait=0)) == []
        assert [message.id for message in bus.queued("work.dead")] == ["first"]

    asyncio.run(story())


def test_a_dead_letter_goes_to_a_queue_of_its_own() -> None:
    async def story() -> None:
        bus = HostileBus()
        broker = await _open(bus)
        await broker.publish([FIRST])
        (delivery,) = await broker.receive([Ask(WORK, Token("t"), 1)], wait=0)

        await broker.settle([Settlement(delivery, v.Dead(v.Reason.ASKED))])

        assert [message.id for message in bus.queued("work.dead")] == ["first"]

    asyncio.run(story())


def test_the_same_seed_fails_in_the_same_ways() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        faults = Faults.seeded(seed, rate=0.5)
        return [faults.draw(kind) for kind in ("publish", "receive", "settle") for _ in range(50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert set(drawn(7)) == {None, *Fault} - {Fault.UNROUTE}
