"""Calls of `forebay.local` that must type-check. Never executed: mypy and basedpyright read it, with the types they are to find."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from forebay.local import (
    Background,
    Channel,
    Default,
    Ended,
    GaveUp,
    Group,
    Once,
    Received,
    ReceiveOnly,
    SendOnly,
    Sent,
    Shared,
    Singleflight,
    TimedOut,
    recover,
    select,
)

if TYPE_CHECKING:
    from forebay.local import Selected


async def channels(sender: SendOnly[int], receiver: ReceiveOnly[int]) -> None:
    channel = Channel[int](3)
    await channel.send(1)
    assert_type(await channel.receive(), int)
    assert_type(channel.try_receive(), int)
    async for item in channel:
        assert_type(item, int)
    await sender.send(1)
    wider: ReceiveOnly[float] = receiver
    narrower: SendOnly[bool] = sender
    assert_type(channel.from_thread.receive(1.0), int)


async def selects(numbers: Channel[int], words: Channel[str], off: Channel[int] | None) -> None:
    one: Selected[int] = await select(numbers.receiving())
    match one:
        case Received(0, value):
            assert_type(value, int)
        case Sent() | Ended() | TimedOut() | Default() | Received():
            pass
    two: Selected[int | str] = await select(numbers.receiving(), words.receiving(), timeout=1.0, default=True)
    match two:
        case Received(_, either):
            assert_type(either, int | str)
        case Sent() | Ended() | TimedOut() | Default():
            pass
    await select(numbers.sending(1), words.receiving())
    await select(off.receiving() if off else None, words.sending(""))


async def double(number: int) -> int:
    return 2 * number


async def groups() -> None:
    async with Group[int](limit=2) as group:
        await group.go(double, 1)
        assert_type(group.try_go(double, number=2), bool)
    assert_type(group.results, list[int])
    assert_type(await recover(double, 1), int | GaveUp)
    assert_type(await Singleflight[int]().do("key", double, 1), Shared[int])

    async def one() -> int:
        return 1

    assert_type(await Once(one)(), int)


background = Background()


@background.task
async def bare(line: str) -> None: ...


@background.task(max_attempts=2, timeout=1.0)
def configured(line: str, *, urgent: bool = False) -> None: ...


async def sends() -> None:
    await bare.send("line")
    await configured.send("line", urgent=True)
