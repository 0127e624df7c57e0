"""Calls of `forebay.local` that must not type-check. Never executed: each error is expected, and one that is missing is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.local import Background, Channel, Group, select

if TYPE_CHECKING:
    from forebay.local import ReceiveOnly, SendOnly

background = Background()


@background.task
async def write(line: str) -> None: ...


async def double(number: int) -> int:
    return 2 * number


async def wrong(sender: SendOnly[int], receiver: ReceiveOnly[int]) -> None:
    channel = Channel[int]()
    await channel.send("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    channel.try_send(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    channel.sending("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    channel.from_thread.send("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sender.receive()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    await receiver.send(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    wider: SendOnly[float] = sender  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    narrower: ReceiveOnly[bool] = receiver  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await select(channel)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Group[int](on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with Group[int]() as group:
        await group.go(double, "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await write.send(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
