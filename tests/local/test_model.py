"""Whatever is done to two channels by sends, receives, selects, closes and cancellations, they answer as plain lists would."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from forebay.local import Channel, ClosedError, Ended, Received, Sent, WouldBlock, select
from tests.local.kit import settle

if TYPE_CHECKING:
    from collections.abc import Coroutine

SIDES = st.sampled_from([0, 1])


@dataclass(eq=False)
class Hand:
    """One task at the channels: what it offers and wants, and what came of it."""

    sends: dict[int, int] = field(default_factory=dict)  # channel to item
    receives: tuple[int, ...] = ()
    task: asyncio.Task[None] | None = None
    sent: int | None = None
    got: int | None = None
    closed: bool = False


@dataclass
class Plain:
    """A channel as lists: what waits in it, and who waits at it, oldest first."""

    capacity: int
    items: list[int] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    closed: bool = False


class Channels(RuleBasedStateMachine):
    """Quiet steps are held against the lists exactly. Hasty ones leave tasks no time between them, and are held by their books."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.count = 0
        self.hands: list[Hand] = []
        self.taken: dict[int, list[int]] = {0: [], 1: []}
        self.hasty = False

    @initialize(one=st.integers(0, 3), two=st.integers(0, 3))
    def begin(self, one: int, two: int) -> None:
        self.channels = [Channel[int](one), Channel[int](two)]
        self.plain = [Plain(one), Plain(two)]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def act(self, hand: Hand) -> None:
        try:
            if len(hand.sends) + len(hand.receives) == 1:
                for side, item in hand.sends.items():
                    await self.channels[side].send(item)
                    hand.sent = side
                for side in hand.receives:
                    self.note(hand, side, await self.channels[side].receive())
                return
            cases = [self.channels[side].sending(item) for side, item in hand.sends.items()]
            sides = [*hand.sends, *hand.receives]
            more = [self.channels[side].receiving() for side in hand.receives]
            match await select(*cases, *more):
                case Received(number, item):
                    self.note(hand, sides[number], item)
                case Sent(number):
                    hand.sent = sides[number]
                case Ended():
                    hand.closed = True
                case other:
                    raise AssertionError(other)
        except ClosedError:
            hand.closed = True

    def note(self, hand: Hand, side: int, item: int) -> None:
        hand.got = item
        self.taken[side].append(item)

    def put(self, hand: Hand, *, quiet: bool) -> None:
        self.hands.append(hand)

        async def go() -> None:
            hand.task = asyncio.get_running_loop().create_task(self.act(hand))
            if quiet:
                await settle()

        self.run(go())
        self.follow(quiet=quiet)
        if quiet and not self.hasty:
            assert hand.task is not None
            self.expect(hand)

    def follow(self, *, quiet: bool) -> None:
        self.hasty = self.hasty or not quiet

    def expect(self, hand: Hand) -> None:
        """Do the same to the lists. Where select had a choice, they follow it, if it was one of those there were."""
        assert hand.task is not None
        ready = [side for side in hand.sends if self.can_send(side)]
        ready += [side for side in hand.receives if self.can_receive(side)]
        if not ready:
            assert not hand.task.done()
            for side in (*hand.sends, *hand.receives):
                self.plain[side].hands.append(hand)
            return
        assert hand.task.done()
        if hand.sent is not None:
            assert self.can_send(hand.sent)
            self.model_send(hand.sent, hand.sends[hand.sent])
        elif hand.got is not None:
            assert any(self.model_receive(side) == hand.got for side in self.sides_of(hand))
        else:
            assert any(self.plain[side].closed for side in ready)

    def sides_of(self, hand: Hand) -> list[int]:
        return [side for side in (0, 1) if self.taken[side][-1:] == [hand.got]]

    def waiting(self, side: int, *, sending: bool) -> list[Hand]:
        return [
            hand
            for hand in self.plain[side].hands
            if (side in hand.sends and sending) or (side in hand.receives and not sending)
        ]

    def can_send(self, side: int) -> bool:
        plain = self.plain[side]
        return plain.closed or len(plain.items) < plain.capacity or bool(self.waiting(side, sending=False))

    def can_receive(self, side: int) -> bool:
        plain = self.plain[side]
        return plain.closed or bool(plain.items) or bool(self.waiting(side, sending=True))

    def model_send(self, side: int, item: int) -> None:
        waiting = self.waiting(side, sending=False)
        if not waiting:
            self.plain[side].items.append(item)
            return
        assert waiting[0].got == item
        self.leave(waiting[0])

    def model_receive(self, side: int) -> int:
        plain = self.plain[side]
        if waiting := self.waiting(side, sending=True):
            assert waiting[0].sent == side
            plain.items.append(waiting[0].sends[side])
            self.leave(waiting[0])
        return plain.items.pop(0)

    def leave(self, hand: Hand) -> None:
        for plain in self.plain:
            plain.hands = [one for one in plain.hands if one is not hand]

    @rule(side=SIDES, quiet=st.booleans())
    def send(self, side: int, quiet: bool) -> None:
        self.count += 1
        self.put(Hand(sends={side: self.count}), quiet=quiet)

    @rule(side=SIDES, count=st.integers(2, 4))
    def receive_more(self, side: int, count: int) -> None:
        for _ in range(count):
            self.put(Hand(receives=(side,)), quiet=True)

    @rule(side=SIDES, quiet=st.booleans())
    def receive(self, side: int, quiet: bool) -> None:
        self.put(Hand(receives=(side,)), quiet=quiet)

    @rule(quiet=st.booleans())
    def choose_receives(self, quiet: bool) -> None:
        self.put(Hand(receives=(0, 1)), quiet=quiet)

    @rule(side=SIDES, quiet=st.booleans())
    def choose_either_way(self, side: int, quiet: bool) -> None:
        self.count += 1
        self.put(Hand(sends={side: self.count}, receives=(1 - side,)), quiet=quiet)

    @precondition(lambda self: any(hand.task and not hand.task.done() for hand in self.hands))
    @rule(data=st.data(), quiet=st.booleans())
    def cancel(self, data: st.DataObject, quiet: bool) -> None:
        alive = [hand for hand in self.hands if hand.task and not hand.task.done()]
        hand = data.draw(st.sampled_from(alive))
        assert hand.task is not None
        hand.task.cancel()
        self.follow(quiet=quiet)
        if quiet:
            self.run(settle())
        if quiet and not self.hasty:
            self.leave(hand)

    @rule(side=SIDES)
    def try_now(self, side: int) -> None:
        """Only while things are quiet: the lists know the answer."""
        if self.hasty:
            return
        ready = self.can_receive(side)

        async def go() -> None:
            if not ready:
                with pytest.raises(WouldBlock):
                    self.channels[side].try_receive()
            elif self.plain[side].closed and not self.plain[side].items:
                with pytest.raises(ClosedError):
                    self.channels[side].try_receive()
            else:
                self.taken[side].append(self.channels[side].try_receive())
                await settle()
                assert self.model_receive(side) == self.taken[side][-1]

        self.run(go())

    @precondition(lambda self: bool(self.alive()))
    @rule(
        data=st.data(), side=SIDES, sends=st.integers(0, 3), takes=st.integers(0, 3), rounds=st.integers(0, 1)
    )
    def rush(self, data: st.DataObject, side: int, sends: int, takes: int, rounds: int) -> None:
        """Serve those who wait, and cancel some of them before they can run."""
        here = [hand for hand in self.alive() if side in (*hand.sends, *hand.receives)] or self.alive()
        victims = data.draw(st.lists(st.sampled_from(here[:4]), max_size=3, unique=True))
        channel = self.channels[side]

        async def go() -> None:
            for _ in range(sends):
                self.count += 1
                hand = Hand(sends={side: self.count})
                with suppress(WouldBlock, ClosedError):
                    channel.try_send(self.count)
                    hand.sent = side
                    self.hands.append(hand)
            for victim in victims:
                assert victim.task is not None
                victim.task.cancel()
            await settle(rounds)
            for _ in range(takes):
                with suppress(WouldBlock, ClosedError):
                    self.taken[side].append(channel.try_receive())
            await settle()

        self.hasty = True
        self.run(go())
        self.calm()

    @precondition(lambda self: self.count > 6)
    @rule(side=SIDES)
    def close(self, side: int) -> None:
        if self.channels[side].closed:
            return

        async def go() -> None:
            self.channels[side].close()
            await settle()

        self.run(go())
        for hand in list(self.plain[side].hands):
            if not self.hasty:
                assert hand.closed
            self.leave(hand)
        self.plain[side].closed = True

    @rule()
    def calm(self) -> None:
        """Nobody waits in vain. Before any haste, the lists know who waits."""
        self.run(settle())
        for side, channel in enumerate(self.channels):
            there = channel.statistics()
            assert there.items >= 0
            assert not (there.items and there.receivers_waiting)
            assert not (there.senders_waiting and there.items < there.capacity)
            assert self.taken[side] == sorted(self.taken[side])
            both = [hand for hand in self.alive() if side in hand.sends and side in hand.receives]
            assert not (there.senders_waiting and there.receivers_waiting) or both
            if not self.hasty:
                assert there.items == len(self.plain[side].items)
                assert there.senders_waiting == len(self.waiting(side, sending=True))
                assert there.receivers_waiting == len(self.waiting(side, sending=False))

    def alive(self) -> list[Hand]:
        return [hand for hand in self.hands if hand.task and not hand.task.done()]

    def teardown(self) -> None:
        if not hasattr(self, "channels"):
            self.runner.close()
            return

        async def end() -> None:
            await settle()
            for hand in self.alive():
                assert hand.task is not None
                hand.task.cancel()
            await settle()
            for side, channel in enumerate(self.channels):
                while len(channel):
                    self.taken[side].append(channel.try_receive())
                assert channel.statistics()[2:4] == (0, 0)

        self.run(end())
        for side in (0, 1):
            taken = self.taken[side]
            assert taken == sorted(set(taken)), "first in first out, none twice"
            offered = {hand.sends[side] for hand in self.hands if side in hand.sends}
            accepted = {hand.sends[side] for hand in self.hands if hand.sent == side}
            assert accepted <= set(taken) <= offered, "all that was sent, and nothing else"
        for hand in self.hands:
            if hand.task is not None and not hand.task.cancelled():
                assert hand.task.exception() is None
        self.runner.close()


TestChannels = Channels.TestCase
TestChannels.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
