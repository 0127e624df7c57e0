"""A declared task: still the function it was, and the ways to send it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from forebay.client.backpressure import refusal_of_many, taken, unrouted
from forebay.client.loop_client import statuses_of
from forebay.codec.signature import Signature, Unseen
from forebay.compose import Composer, Draft, SendOptions
from forebay.engine import Stored
from forebay.errors import InvalidArguments, InvalidOption
from forebay.features.flows.node import Node, Piece
from forebay.handle import Handle
from forebay.model.unique import Unique
from forebay.model.when import Duration

if TYPE_CHECKING:
    from forebay.client.client import Client
    from forebay.engine import Published
    from forebay.features.flows.plan import Place, Plan
    from forebay.model.message import Message

P = ParamSpec("P")
C = ParamSpec("C")
R = TypeVar("R")
T = TypeVar("T")
Q = ParamSpec("Q")
X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)
_ELSEWHERE: Final = frozenset(
    {"delay", "apply_async", "send_with_options", "enqueue", "defer", "defer_async", "kiq", "s", "si"}
)
"""How other task queues send."""
_REFUSED: Final = frozenset({Stored.FULL, Stored.TAKEN})


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
    """What may be said of a task: of a subscription all the same, and the ``priority`` of its messages, 0 to 9, higher first, default 4.
    ``max_running``: how many of its tries run at once, over all processes.
    """

    priority: int
    max_running: int


class CompanyOptions(HandlerOptions, total=False):
    """What may be said of a task that takes many messages in one call: ``batch`` and ``within``, as of a subscription; or ``gather``, how
    long the first of those of one ``key`` waits for others at the longest, ``gather_max``, how many they are at most (default 100), and
    ``gather_wait``, after how long without another the call begins (default: as long as ``gather``).
    """

    batch: int
    within: Duration
    gather: Duration
    gather_max: int
    gather_wait: Duration


@dataclass(frozen=True, slots=True)
class BoundTask(Piece[object, R]):
    """A task with its arguments, checked and encoded: ``task.bind(...)``. May be sent any number of times, each a message of its own."""

    task: Task[Any, R, Any, Any]
    draft: Draft
    body: bytes
    lacks: ClassVar[None] = None

    def message(self, composer: Composer) -> Message:
        """A new message for this call."""
        return composer.message(self.task.name, self.draft, self.body)

    async def send(self) -> Handle[R]:
        """Send it. As `Task.send`."""
        client = self.task.client
        return self.handle(await client.publish(self.message(client.ground.composer)))

    def lay(self, plan: Plan, place: Place, name: str | None) -> Node[R]:
        """Add it to the plan of a flow, as one step."""
        return Node(plan, (plan.add(self, place, name),))

    def handle(self, answer: Published) -> Handle[R]:
        """What its sender holds, after the engine has answered."""
        duplicate = answer.status is Stored.DUPLICATE
        return Handle(answer.id, self.task.signature.returns, self.task.client, duplicate=duplicate)


@dataclass(frozen=True, slots=True)
class Partial(Piece[X_contra, R]):
    """A task with all its arguments but one, which is left for the results of the steps before it in a flow: ``task.bind(...)`` without
    the parameter that it ``lacks``.
    """

    task: Task[Any, R, Any, Any]
    draft: Draft
    body: bytes
    lacks: str

    def lay(self, plan: Plan, place: Place, name: str | None) -> Node[R]:
        """Add it to the plan of a flow, as one step."""
        return Node(plan, (plan.add(self, place, name),))

    if not TYPE_CHECKING:

        def message(self, composer: Composer) -> Message:
            """None: raises `InvalidArguments`, to those whose types were not checked."""
            raise InvalidArguments(
                f"{self.task.name}() lacks {self.lacks!r}: give it in bind(), or add the call to a flow, behind what it takes that from."
            )


async def send_many(client: Client, calls: Iterable[BoundTask[R]]) -> list[Handle[R]]:
    """Send many bound tasks, in batches. Raises `QueueFull` or `DuplicateTask`, with the handles of what was stored, if anything was
    refused or rejected, and `Unrouted` if there is no queue for some.
    """
    bound, composer = list(calls), client.ground.composer
    try:
        largest = max((len(call.body) for call in bound), default=0)
    except AttributeError:
        raise InvalidOption(
            "send_many() takes bound tasks: [task.bind(...), ...]. A flow, a chain or a group is sent by itself: await flow.send()."
        ) from None
    if largest > composer.max_body:
        for call in bound:
            composer.check_size(call.task.name, call.body)
    answers = await client.publish_many(call.message(composer) for call in bound)
    statuses = statuses_of(answers)
    if Stored.UNROUTED in statuses:
        lost = [c for c, a in zip(bound, answers, strict=True) if a.status is Stored.UNROUTED]
        raise unrouted([call.draft.queue or "" for call in lost])
    if statuses.isdisjoint(_REFUSED):
        return [call.handle(answer) for call, answer in zip(bound, answers, strict=True)]
    handles = [None if a.status in _REFUSED else c.handle(a) for c, a in zip(bound, answers, strict=True)]
    for full in filter(None, (answer.refused for answer in answers)):
        raise refusal_of_many(full, handles)
    raise taken([answer for answer in answers if answer.status is Stored.TAKEN], handles)


class _Sends(Protocol[X_contra, Q, R]):
    """A task as a type checker sees it that is to tell its first parameter from the others."""

    def send_sync(self, first: X_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> Handle[R]:
        """As `Task.send_sync`."""
        ...


class Task(Generic[P, R, C, T]):
    """What ``@app.task`` makes of a function. ``P`` are the parameters to send, ``R`` the result; calling it is calling the function.

    >>> @app.task(queue="mail")                               # doctest: +SKIP
    ... async def send_receipt(order_id: int, email: str) -> str: ...
    >>> handle = await send_receipt.send(7, "a@example.org")  # doctest: +SKIP
    >>> await send_receipt(7, "a@example.org")                # here and now  # doctest: +SKIP
    """

    def __init__(
        self, function: Callable[C, T], signature: Signature | Unseen, draft: Draft, name: str, client: Client
    ) -> None:
        self.function, self.name, self.signature = function, name, signature
        self._draft, self.client = draft, client
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

    @overload
    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundTask[R]: ...  # type: ignore[overload-overlap]  # all given is more than all but one
    @overload
    def bind(self: _Sends[X, Q, R], *args: Q.args, **kwargs: Q.kwargs) -> Partial[X, R]: ...
    def bind(self, *args: Any, **kwargs: Any) -> BoundTask[Any] | Partial[Any, Any]:
        """Check and encode the arguments: all of them for a call that can be sent, or, for a step of a flow, all but the one that
        the results of the steps before it are given to. Raises `InvalidArguments` or `NotSerialisable`.

        >>> await app.send_many([send_receipt.bind(n, mail) for n, mail in orders])  # doctest: +SKIP
        >>> chain(download.bind(url), resize.bind(size=64))       # resize(image, size)  # doctest: +SKIP
        """
        try:
            return BoundTask(self, self._draft, self.signature.encode(args, kwargs))
        except InvalidArguments:
            if (lacks := self.signature.lacks(args, kwargs)) is None or isinstance(self.signature, Unseen):
                raise
            return Partial(self, self._draft, self.signature.without(lacks).encode(args, kwargs), lacks)

    def _bound(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> BoundTask[R]:
        return BoundTask(self, self._draft, self.signature.encode(args, kwargs))

    async def send(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it: returns when the engine holds the message as durably as it promises to.

        Raises `SendError` (nothing was stored), `EngineUnavailable` (nothing was stored), or `OutcomeUnknown`. Cancelled, the message may
        still be sent.
        """
        return await self._bound(args, kwargs).send()

    def send_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """`send`, for callers without an event loop."""
        return self.client.sync(self._bound(args, kwargs).send())

    def options(self, **options: Unpack[SendOptions]) -> Task[P, R, C, T]:
        """The same task with other options for its messages. Raises `InvalidOption` or `InvalidName`.

        >>> await send_receipt.options(delay="5m", priority=9).send(7, "a@example.org")  # doctest: +SKIP
        """
        draft = self._draft.with_options(options, f"{self.name}.options()")
        if isinstance(draft.rule, Unique):
            self.signature.check_named(draft.rule.args)
        return Task(self.function, self.signature, draft, self.name, self.client)

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
