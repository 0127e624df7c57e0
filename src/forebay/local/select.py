"""Waits on several channels at once, and lets exactly one case take effect."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from dataclasses import dataclass
from random import random
from typing import Any, TypeAlias, TypeVar, overload

from forebay.local.cases import Case, Ended, ReceiveCase, Received, SendCase, Sent
from forebay.local.errors import MisuseError

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class TimedOut:
    """No case was ready in time; none took effect."""


@dataclass(frozen=True, slots=True)
class Default:
    """No case was ready at once; none took effect."""


Selected: TypeAlias = Received[A] | Sent | Ended | TimedOut | Default


@overload
async def select(
    a: Case[A] | None, /, *, timeout: float | None = None, default: bool = False
) -> Selected[A]: ...
@overload
async def select(
    a: Case[A] | None, b: Case[B] | None, /, *, timeout: float | None = None, default: bool = False
) -> Selected[A | B]: ...
@overload
async def select(
    a: Case[A] | None,
    b: Case[B] | None,
    c: Case[C] | None,
    /,
    *,
    timeout: float | None = None,
    default: bool = False,
) -> Selected[A | B | C]: ...
@overload
async def select(
    a: Case[A] | None,
    b: Case[B] | None,
    c: Case[C] | None,
    d: Case[D] | None,
    /,
    *,
    timeout: float | None = None,
    default: bool = False,
) -> Selected[A | B | C | D]: ...
@overload
async def select(
    *cases: Case[Any] | None, timeout: float | None = None, default: bool = False
) -> Selected[Any]: ...


async def select(
    *cases: Case[Any] | None, timeout: float | None = None, default: bool = False
) -> Selected[Any]:
    """Let exactly one of ``cases`` take effect, and say which.

    Of several that are ready one is chosen at random, each as likely as the others. If none is, it waits: at most ``timeout`` seconds,
    not at all with ``default``. A case that is ``None`` is switched off; with no case at all it waits for ever.

    ```python
    while True:
        match await select(jobs.receiving(), log.sending(line), timeout=5.0):
            case Received(0, job):
                print(job)
            case Sent(1):
                line = next(lines)
            case Ended(0) | TimedOut():
                break
    ```

    Raises `ClosedError` if the case chosen sends to a closed channel, `MisuseError` when it comes upon a case that is none.
    Cancelled, no case received anything, and at most one sent.
    """
    loop = get_running_loop()
    try:
        # One drawn blindly that is ready is as good as one drawn among the ready, and in a busy loop it mostly is.
        number = int(random() * len(cases))
        if cases and (case := cases[number]) is not None and case.ready(loop):
            return case.act(number)
        ready = [(number, case) for number, case in enumerate(cases) if case is not None and case.ready(loop)]
    except AttributeError:
        _check(cases)
        raise
    if ready:
        number, chosen = ready[int(random() * len(ready))]
        return chosen.act(number)
    if default:
        return Default()
    return await _wait(
        [(number, case) for number, case in enumerate(cases) if case is not None], loop, timeout
    )


def _check(cases: tuple[object, ...]) -> None:
    for number, case in enumerate(cases):
        if case is not None and not isinstance(case, (ReceiveCase, SendCase)):
            raise MisuseError(
                f"Case {number} of select is {case!r}: write channel.receiving(), channel.sending(item), or None."
            ) from None


async def _wait(
    cases: list[tuple[int, Case[Any]]], loop: asyncio.AbstractEventLoop, timeout: float | None
) -> Selected[Any]:
    """Stand in every row until another task serves one of them; then leave all the others."""
    future: asyncio.Future[Any] = loop.create_future()
    entered = [(case, case.enter(future, number)) for number, case in cases]
    timer = None if timeout is None else loop.call_later(timeout, _expire, future)
    try:
        await future
    except BaseException:
        if future.done() and not future.cancelled():
            for case, ticket in entered:
                if future.result() is ticket:
                    case.abandon(ticket)
        raise
    finally:
        if timer is not None:
            timer.cancel()
        for case, ticket in entered:
            case.leave(ticket)
    for case, ticket in entered:
        if future.result() is ticket:
            return case.finish(ticket)
    return TimedOut()


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
