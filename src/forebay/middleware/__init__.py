"""Functions around functions: what runs around every handler.

A middleware is ``async def mw(call, ctx): ...; return await call(ctx)``. Composed once, at start, outermost first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

from forebay.context import Context

Call: TypeAlias = Callable[[Context], Awaitable[object]]
Middleware: TypeAlias = Callable[[Call, Context], Awaitable[object]]


def compose(middleware: Sequence[Middleware], call: Call) -> Call:
    """One call with all of ``middleware`` around it."""
    for around in reversed(middleware):
        call = partial(around, call)
    return call
