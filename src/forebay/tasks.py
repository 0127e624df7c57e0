"""A declared task: still the function it was, and the ways to send it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
)

from forebay.compose import Composer, Draft, SendOptions
from forebay.handle import Handle, Ways
from forebay.model.when import Duration

if TYPE_CHECKING:
    from forebay.codec.signature import Signature, Unseen
    from forebay.model.message import Message

P = ParamSpec("P")
C = ParamSpec("C")
R = TypeVar("R")
T = TypeVar("T")
_ELSEWHERE: Final = frozenset(
    {"delay", "apply_async", "send_with_options", "enqueue", "defer", "defer_async", "kiq", "s", "si"}
)
"""How other task queues send."""


class SubscribeOptions(TypedDict, total=False):
    """What may be said of a subscription. Durations are seconds, text (``"30s"``) or timedeltas.

    ``name``: the function's, unless given. ``queue``: where it is sent to. ``timeout``: of one try, default 10 minutes. ``max_attempts``:
    default 20. ``backoff`` and ``backoff_cap``: the first and the longest ceiling of the random wait between tries, default 1 s and 1 h.
    ``no_retry_on``: exception types after which there is no other try. ``pool``: ``"thread"``, the default for plain functions, or
    ``"process"``: each try in a process of its own, which is killed at its timeout.
    """

    name: str
    queue: str
    timeout: Duration
    max_attempts: int
    backoff: Duration
    backoff_cap: Duration
    no_retry_on: type[BaseException] | tuple[type[BaseException], ...]
    pool: Literal["thread", "process"]


class BatchOptions(SubscribeOptions, total=False):
    """What may be said of a subscription that takes events in batches: ``batch``, how many at most, and ``within`` which time of the first
    (default 1 s).
    """

    batch: int
    within: Duration


class HandlerOptions(SubscribeOptions, total=False):
    """What may be said of a task: of a subscription all the same, and the ``priority`` of its messages, 0 to 9, higher first, default 4."""

    priority: int


@dataclass(frozen=True, slots=True)
class BoundTask(Generic[R]):
    """A task with its arguments, checked and encoded: ``task.bind(...)``. May be sent any number of times, each a message of its own."""

    task: Task[Any, R, Any, Any]
    draft: Draft
    body: bytes

    def message(self, composer: Composer) -> Message:
        """A new message for this call."""
        return composer.message(self.task.name, self.draft, self.body)


class Sender(Ways, Protocol):
    """What a task needs of its App."""

    async def send(self, call: BoundTask[R]) -> Handle[R]:
        """Send a bound task."""
        ...


class Task(Generic[P, R, C, T]):
    """What ``@app.task`` makes of a function. ``P`` are the parameters to send, ``R`` the result; calling it is calling the function.

    >>> @app.task(queue="mail")                               # doctest: +SKIP
    ... async def send_receipt(order_id: int, email: str) -> str: ...
    >>> handle = await send_receipt.send(7, "a@example.org")  # doctest: +SKIP
    >>> await send_receipt(7, "a@example.org")                # here and now  # doctest: +SKIP
    """

    def __init__(
        self, function: Callable[C, T], signature: Signature | Unseen, draft: Draft, name: str, client: Sender
    ) -> None:
        self.function, self.name, self.signature = function, name, signature
        self._draft, self._client = draft, client
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: C.args, **kwargs: C.kwargs) -> T:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    @property
    def queue(self) -> str:
        """Where it is sent to."""
        return str(self._draft.queue)

    @property
    def draft(self) -> Draft:
        """What its messages have beside the arguments."""
        return self._draft

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundTask[R]:
        """Check and encode the arguments. Raises `InvalidArguments` or `NotSerialisable`."""
        return BoundTask(self, self._draft, self.signature.encode(args, kwargs))

    async def send(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it: returns when the engine holds the message as durably as it promises to.

        Raises `SendError` (nothing was stored), `EngineUnavailable` (nothing was stored), or `OutcomeUnknown`. Cancelled, the message may
        still be sent.
        """
        return await self._client.send(self.bind(*args, **kwargs))

    def send_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """`send`, for callers without an event loop."""
        return self._client.sync(self._client.send(self.bind(*args, **kwargs)))

    def options(self, **options: Unpack[SendOptions]) -> Task[P, R, C, T]:
        """The same task with other options for its messages. Raises `InvalidOption` or `InvalidName`.

        >>> await send_receipt.options(delay="5m", priority=9).send(7, "a@example.org")  # doctest: +SKIP
        """
        draft = self._draft.with_options(options, f"{self.name}.options()")
        return Task(self.function, self.signature, draft, self.name, self._client)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Nothing: what is asked for is not here. Says what is, to those who come from other task queues."""
            if name not in _ELSEWHERE:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(
                f"Task {self.name!r} has no .{name}: write await {self.name}.send(...), or {self.name}.send_sync(...) "
                f"without a loop; with options, {self.name}.options(delay='5m', queue='...', priority=9).send(...); "
                f"{self.name}.bind(...) makes a call to send later."
            )

    def __repr__(self) -> str:
        """Name and queue."""
        return f"<task {self.name} on queue {self.queue}>"
