"""What the durable steps of a worker's handlers stand on: its store, its clock, its threads; and what they know of a try and of a flow."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast, runtime_checkable
from weakref import WeakKeyDictionary

from forebay.codec.results import ResultType, bare
from forebay.model.when import SECOND, Micros

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from forebay.engine import Broker, Store
    from forebay.support.clock import Clock

T_co = TypeVar("T_co", covariant=True)

IN_PLACE: Final = SECOND
"""A sleep that has no more left is slept here: to put the message off and take it again would cost as much."""


class Tie(Protocol):
    """What ties a try to its worker."""

    @property
    def is_cut(self) -> bool:
        """Whether it is to stop."""
        ...

    @property
    def main(self) -> asyncio.Task[Any]:
        """What runs the handler."""
        ...

    @property
    def began(self) -> Micros:
        """When it was handed out, by the worker's monotonic clock."""
        ...

    def lose(self) -> None:
        """Its lease is somebody else's."""
        ...


@runtime_checkable
class Flow(Protocol[T_co]):
    """A flow that was sent: what a handler may wait for."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    async def is_over(self) -> bool:
        """Whether all its steps have ended."""
        ...

    async def result(self) -> T_co:
        """What it came to, once it is over."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Desk:
    """What the steps of a worker's handlers stand on. ``store``: None where there is none. ``thread`` calls a plain function in a thread.

    ``in_place``: the longest sleep that keeps its slot.
    """

    store: Store | None
    clock: Clock
    thread: Callable[..., Awaitable[Any]]
    in_place: Micros
    _types: WeakKeyDictionary[Callable[..., object], ResultType] = field(default_factory=WeakKeyDictionary)

    def type_of(self, function: Callable[..., object]) -> ResultType:
        """How results of ``function`` are written and read. Found once for each function. Raises `ConfigError`."""
        plain = bare(function)
        plain = getattr(plain, "__func__", plain)
        if not inspect.isroutine(plain):
            return _ANYTHING
        if (known := self._types.get(plain)) is None:
            known = self._types[plain] = ResultType.of(plain)
        return known


_ANYTHING: Final = ResultType(Any)


def desk_of(
    broker: Broker | None, clock: Clock, thread: Callable[..., Awaitable[Any]], in_place: Micros = IN_PLACE
) -> Desk:
    """For handlers of what ``broker`` hands out, which may be no store."""
    remembers = broker is not None and broker.traits.remembers
    return Desk(cast("Store", broker) if remembers else None, clock, thread, in_place)
