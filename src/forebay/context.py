"""What a handler may know of its message and do beside its own work."""

from __future__ import annotations

import logging
import math
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar, Unpack, overload

from forebay.codec.signature import Arguments
from forebay.errors import InvalidOption, SendError, Unsupported, quoted
from forebay.features.flows.running import ParentResult, RunningFlow, parent_results
from forebay.model.names import check_name
from forebay.model.query import Progress
from forebay.model.when import moment
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Generator,
        Iterable,
        Mapping,
        Sequence,
    )
    from datetime import datetime

    from forebay.compose import Composer, EventOptions
    from forebay.engine import Delivery
    from forebay.features.steps.desk import Flow
    from forebay.model.message import EntryId, Message
    from forebay.model.survey import Parent
    from forebay.model.when import Duration, When

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MOST_FOLLOW_UPS: Final = 1_000
"""Messages one handler may collect. More belong into a loop of `app.send_many`, or into batches of their own tasks."""

LONGEST_NOTE: Final = 200
"""Characters of a note of progress; the rest is cut off."""


class Bound(Protocol):
    """A task with its arguments, ready to become a message (what ``task.bind(...)`` returns)."""

    def message(self, composer: Composer) -> Message:
        """A new message for this call."""
        ...


class Bundle(Protocol):
    """Several messages that leave together: a flow, a chain, a group, a chord."""

    def messages(self, composer: Composer) -> Sequence[Message]:
        """All of them."""
        ...


class Steps(Protocol):
    """The durable steps of a try: see `Context.step` and those after it."""

    async def run(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any: ...
    async def sleep(self, when: When, name: str) -> None: ...
    async def wait(self, topic: str, key: str | None, timeout: Duration, name: str, kind: Any) -> Any: ...
    async def over(self, flow: Flow[T], timeout: Duration, name: str) -> T: ...
    async def version(self, name: str) -> bool: ...
    def map(
        self, name: str, function: Callable[[T], Any], items: Iterable[T], concurrency: int
    ) -> AsyncIterator[Any]: ...
    def run_sync(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any: ...
    def sleep_sync(self, when: When, name: str) -> None: ...
    def wait_sync(self, topic: str, key: str | None, timeout: Duration, name: str, kind: Any) -> Any: ...
    def over_sync(self, flow: Flow[T], timeout: Duration, name: str) -> T: ...
    def version_sync(self, name: str) -> bool: ...


class Tether(Protocol):
    """What ties a try to its worker."""

    @property
    def steps(self) -> Steps:
        """Its durable steps. Raises `Unsupported` or `InvalidOption` where there can be none."""
        ...

    @property
    def is_cut(self) -> bool:
        """Whether it is to stop."""
        ...

    @property
    def most(self) -> int:
        """How many tries it has in all."""
        ...

    def say(self, said: Progress) -> None:
        """Carry on how far it is."""
        ...

    async def take_turn(self, bucket: str, rate: str, burst: int | None, wait: Duration | None) -> None:
        """Return when it has its turn in a rate that is shared. Raises `Snooze`, and `Unsupported` without a store."""
        ...

    def take_turn_sync(self, bucket: str, rate: str, burst: int | None, wait: Duration | None) -> None:
        """`take_turn`, for a handler in a thread."""
        ...

    async def parents(self) -> Sequence[Parent]:
        """The steps before it, and what they returned."""
        ...

    def parents_sync(self) -> Sequence[Parent]:
        """`parents`, for a handler in a thread."""
        ...


class Context:
    """One try of one message. Ask for it with a parameter annotated ``Context``.

    >>> @app.subscribe("orders.placed", group="billing")          # doctest: +SKIP
    ... async def bill(order: OrderPlaced, ctx: Context) -> None:
    ...     ctx.publish("orders.billed", OrderBilled(order.id))   # leaves with this handler's success, or not at all
    """

    __slots__ = ("_composer", "_flow", "_tether", "_then", "arguments", "delivery")

    def __init__(
        self, delivery: Delivery, composer: Composer, arguments: Arguments, tether: Tether | None = None
    ) -> None:
        self.delivery, self._composer, self.arguments = delivery, composer, arguments
        self._tether = tether
        self._then: list[Message] = []
        self._flow: RunningFlow | None = None

    @property
    def id(self) -> EntryId:
        """The id of this message in this queue; the same at every try."""
        return self.delivery.id

    @property
    def attempt(self) -> int:
        """Which try this is, from 1. Hand-backs and crashes do not count."""
        return self.delivery.attempts + 1

    @property
    def is_last(self) -> bool:
        """Whether no other try follows if this one fails, as far as attempts go: its deadline may make an earlier one the last."""
        return self._tether is not None and self.attempt >= self._tether.most

    @property
    def name(self) -> str:
        """The task's name, or the event's topic."""
        return self.delivery.message.name

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.delivery.source.queue

    @property
    def key(self) -> str | None:
        """The key it was sent with."""
        return self.delivery.message.key

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was sent with."""
        return self.delivery.message.headers

    @property
    def message(self) -> Message:
        """The message itself, body and all."""
        return self.delivery.message

    @property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger that names this message in every line. Its calls never raise, whatever an application's filters do."""
        return Log("forebay.task", {"task": self.name, "id": self.id, "attempt": self.attempt})

    @property
    def cancelled(self) -> bool:
        """Whether this try is asked to stop: somebody cancelled it, its time is up, its lease is lost, or its worker must end now.

        For plain functions, which nothing else can stop; a coroutine is cancelled anyway.
        """
        return self._tether is not None and self._tether.is_cut

    def check_cancelled(self) -> None:
        """Raise what ends this try, if it is asked to stop; a call for loops in plain functions.

        >>> for row in rows:                                       # doctest: +SKIP
        ...     ctx.check_cancelled()
        ...     work(row)
        """
        if self.cancelled:
            raise CancelledError

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far this try is: ``progress(0.4)``, or ``progress(40, 100, "orders")``. Cheap; may be said as often as one likes.

        The store, and whoever looks, hears of the latest about once a second. Raises `InvalidOption` for a share that is not
        between 0 and 1.
        """
        try:
            share = done if total is None else done / total if total else 1.0
        except OverflowError:
            share = math.inf
        if not 0 <= share <= 1:
            raise InvalidOption(
                f"progress must lie between 0 and 1, or 0 and its total, not {quoted(done)} of {quoted(total)}."
            )
        if self._tether is not None:
            self._tether.say(Progress(share=round(float(share), 4), note=str(note)[:LONGEST_NOTE]))

    # -- durable steps

    @overload
    async def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``function``, async or not, once: its result is saved before it is returned, and a later try gets it without a call.

        >>> paid = await ctx.step("charge", charge_card, order)     # doctest: +SKIP
        >>> await ctx.step("ship", ship, order, paid)               # a crash here charges nobody twice  # doctest: +SKIP

        The result is JSON of the type that ``function`` is annotated to return, at most 1 MiB; a message has at most 1,000 steps. What
        raises is not saved: the try fails, and the next one calls it again. A plain function is called in a thread. In between, the code of
        the handler has to do the same at every try: see docs/steps.md. Cancelled, it is saved or it will be called again.

        Raises what ``function`` raises; `StepChanged` if the handler's code is not what began this message, `StepRefused` for what cannot
        be saved, and then the message is a dead letter; `InvalidName`; `Unsupported` without a store; `InvalidOption` inside another step.
        """
        return await self._steps.run(name, function, args, kwargs)

    async def sleep(self, duration: Duration | datetime, *, name: str = "sleep") -> None:
        """Go on after ``duration``, or at a moment, without a slot or a worker until then. No attempt is spent.

        >>> await ctx.sleep("2d")                                   # doctest: +SKIP

        The moment is fixed when it is first asked for. The handler leaves its try here and is called anew, so its timeout is of each try.
        """
        await self._steps.sleep(moment(duration, "ctx.sleep()"), name)

    @overload
    async def wait_event(
        self, topic: str, *, key: str | None = None, timeout: Duration, name: str | None = None
    ) -> Any: ...
    @overload
    async def wait_event(
        self, topic: str, *, type: type[R], key: str | None = None, timeout: Duration, name: str | None = None
    ) -> R: ...
    async def wait_event(
        self,
        topic: str,
        *,
        type: Any = Any,
        key: str | None = None,
        timeout: Duration,
        name: str | None = None,
    ) -> Any:
        """The next event on ``topic`` (with ``key``, if one is given), as ``type``; without a slot or a worker until it comes.

        >>> approval = await ctx.wait_event("approval", key=order.id, timeout="3d", type=Approval)   # doctest: +SKIP

        Events count that come into the store after this was first asked for. Raises TimeoutError if none has come in time, at every try.
        """
        return await self._steps.wait(topic, key, timeout, topic if name is None else name, type)

    @overload
    def step_map(
        self, name: str, function: Callable[[T], Awaitable[R]], items: Iterable[T], *, concurrency: int = 10
    ) -> AsyncIterator[R]: ...
    @overload
    def step_map(
        self, name: str, function: Callable[[T], R], items: Iterable[T], *, concurrency: int = 10
    ) -> AsyncIterator[R]: ...
    def step_map(
        self, name: str, function: Callable[[T], Any], items: Iterable[T], *, concurrency: int = 10
    ) -> AsyncIterator[Any]:
        """A step for each item, ``concurrency`` of them at a time; their results in the order of the items.

        >>> async for thumb in ctx.step_map("thumbs", resize, sizes, concurrency=4):   # doctest: +SKIP
        ...     ctx.send(publish.bind(thumb))

        The items have to be the same, in the same order, at every try. When one raises, no other is begun; those under way end and are
        saved, and then it is raised here.
        """
        return self._steps.map(name, function, items, concurrency)

    def version(self, name: str) -> Version:
        """Whether this message goes the way of newer code: ``if await ctx.version("v2"): ...``.

        True for a message that comes here for the first time, and from then on for that message; False for one whose saved steps go on
        after this place, for it was begun by code that did not have it.
        """
        return Version(self._steps.version(name))

    @overload
    def step_sync(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def step_sync(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def step_sync(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `step`, for handlers that are plain functions; a plain ``function`` is called in their thread."""
        return self._steps.run_sync(name, function, args, kwargs)

    def sleep_sync(self, duration: Duration | datetime, *, name: str = "sleep") -> None:
        """As `sleep`, for handlers that are plain functions."""
        self._steps.sleep_sync(moment(duration, "ctx.sleep_sync()"), name)

    def wait_event_sync(
        self,
        topic: str,
        *,
        type: Any = Any,
        key: str | None = None,
        timeout: Duration,
        name: str | None = None,
    ) -> Any:
        """As `wait_event`, for handlers that are plain functions."""
        return self._steps.wait_sync(topic, key, timeout, topic if name is None else name, type)

    def version_sync(self, name: str) -> bool:
        """As `version`, for handlers that are plain functions."""
        return self._steps.version_sync(name)

    async def wait_flow(self, flow: Flow[R], *, timeout: Duration, name: str = "flow") -> R:
        """Wait for the end of a flow, without a slot or a worker until it comes, and return its result. So a step waits for a flow that it
        starts:

        >>> handle = await group(resize.bind(image, size=s) for s in sizes).send(f"{ctx.id}-thumbs")  # doctest: +SKIP
        >>> thumbs = await ctx.wait_flow(handle, timeout="1h")    # doctest: +SKIP

        A durable step, as `wait_event`: whatever stands before it runs again when the flow is over, so give the flow an id that is the same
        at every try. Raises TimeoutError if the flow is not over in time, and what `FlowHandle.result` raises.
        """
        return await self._steps.over(flow, timeout, name)

    def wait_flow_sync(self, flow: Flow[R], *, timeout: Duration, name: str = "flow") -> R:
        """As `wait_flow`, for handlers that are plain functions."""
        return self._steps.over_sync(flow, timeout, name)

    @property
    def _steps(self) -> Steps:
        if self._tether is None:
            raise Unsupported(
                f"{self.name}: steps are for a handler at work, and no worker has called this one."
            )
        return self._tether.steps

    # -- what follows

    def publish(self, topic: str, event: object, **options: Unpack[EventOptions]) -> None:
        """Publish an event if, and only if, this handler succeeds: in the same transaction. A plain call; it collects.

        Raises `SendError` for an event that cannot be sent or one too many, `InvalidName` and `InvalidOption` as `App.publish` does.
        """
        self._collect(self._composer.event(topic, event, options))

    def send(self, call: Bound | Bundle) -> None:
        """Send a task (``ctx.send(task.bind(...))``), or a whole flow, if, and only if, this handler succeeds. As `publish`."""
        messages: Callable[[Composer], Sequence[Message]] | None = getattr(call, "messages", None)
        if messages is not None:
            self._collect(*messages(self._composer))
        elif callable(message := getattr(call, "message", None)):
            self._collect(message(self._composer))
        else:
            raise InvalidOption(
                "ctx.send() takes a bound task, a flow, a chain, a group or a chord: ctx.send(task.bind(...))."
            )

    @property
    def flow(self) -> RunningFlow:
        """The flow that this message is a step of. Raises `InvalidOption` if it is none.

        >>> for page in pages:                                    # doctest: +SKIP
        ...     ctx.flow.add(fetch_page.bind(page))               # runs if, and only if, this handler succeeds
        """
        if self._flow is None:
            step = self.delivery.message.step
            if step is None:
                raise InvalidOption(f"{self.name} {self.id} is no step of a flow: it was sent by itself.")
            self._flow = RunningFlow(self.delivery, step, self._composer, self._collect)
        return self._flow

    async def limit(
        self, name: str, rate: str, *, burst: int | None = None, wait: Duration | None = None
    ) -> None:
        """Go on when it is this handler's turn in a rate that all who say ``name`` share, in all processes.

        >>> await ctx.limit("stripe", "25/s")                       # doctest: +SKIP

        ``rate``: ``"100/s"``, ``"5/min"``, ``"30/h"``; ``burst``: how many may go on at one moment, what a second brings if it is not said.
        A turn that comes within ``wait`` (5 s if it is not said, an hour at most) is waited for here, with the slot; for a later one the
        try ends here, and the handler is called anew when it comes, with no attempt spent: so call this before there is anything to lose.

        Raises `InvalidOption`, `InvalidName`; `EngineUnavailable` if the store cannot be asked; `Unsupported` where there is none in this
        process. Cancelled, the turn may be lost, and is nobody's.
        """
        check_name(name, "limit")
        if self._tether is not None:
            await self._tether.take_turn(name, rate, burst, wait)

    def limit_sync(
        self, name: str, rate: str, *, burst: int | None = None, wait: Duration | None = None
    ) -> None:
        """As `limit`, for handlers that are plain functions."""
        check_name(name, "limit")
        if self._tether is not None:
            self._tether.take_turn_sync(name, rate, burst, wait)

    async def parents(self) -> tuple[ParentResult, ...]:
        """The steps that this one waited for, in the order in which it names them, and what they returned. Empty for what is no step.

        >>> for parent in await ctx.parents():                    # doctest: +SKIP
        ...     print(parent.name, parent.state, parent.result(Thumbnail), parent.error and parent.error.message)

        Raises `EngineUnavailable` if the store cannot be asked, and `Unsupported` where there is none in this process.
        """
        if self._tether is None or self.delivery.message.step is None:
            return ()
        return parent_results(await self._tether.parents())

    def parents_sync(self) -> tuple[ParentResult, ...]:
        """`parents`, for plain functions."""
        if self._tether is None or self.delivery.message.step is None:
            return ()
        return parent_results(self._tether.parents_sync())

    def called_with(self, arguments: Arguments) -> Context:
        """The same try, called with other arguments, as a batch is; what is sent through either leaves with both."""
        other = Context(self.delivery, self._composer, arguments, self._tether)
        other._then = self._then
        if self.delivery.message.step is not None:
            other._flow = self.flow  # of one plan: what is added through either has names of its own
        return other

    @property
    def collected(self) -> tuple[Message, ...]:
        """What `send` and `publish` have collected so far."""
        return tuple(self._then)

    def _collect(self, *messages: Message) -> None:
        if len(self._then) + len(messages) > MOST_FOLLOW_UPS:
            raise SendError(
                f"A handler may send {MOST_FOLLOW_UPS} messages with its success; use app.send_many() for more."
            )
        self._then += messages


class Version:
    """The answer of `Context.version`, to be awaited. Asked for its truth without that, it raises `InvalidOption`."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Coroutine[Any, Any, bool]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._answer.__await__()

    def __bool__(self) -> bool:
        self._answer.close()
        raise InvalidOption("ctx.version() is to be awaited: if await ctx.version(...).")
