"""What is declared: the options of queues, tasks and subscriptions, checked at import, and the handlers they make."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

import msgspec

from forebay.codec.signature import Signature
from forebay.compose import Draft, check_timeout
from forebay.context import Context
from forebay.declaring.handler import DEFAULT_TIMEOUT, Handler, Route
from forebay.declaring.options import QueueOptions
from forebay.engine import Source
from forebay.errors import InvalidOption, quoted
from forebay.model.amounts import check_count
from forebay.model.message import HIGHEST_PRIORITY, LOWEST_PRIORITY
from forebay.model.policy import RetryPolicy
from forebay.model.rule import MOST_AT_ONCE, Rules
from forebay.model.unique import MOST_GATHERED, Gather
from forebay.model.when import SECOND, Duration, Micros, micros
from forebay.tasks import CompanyOptions, HandlerOptions, SubscribeOptions, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from forebay.declaring.traits import Need
    from forebay.model.schedule import Schedule

P = ParamSpec("P")
R = TypeVar("R")
I = TypeVar("I")  # noqa: E741  # an item
LONGEST_GATHERING: Final = 60 * SECOND
"""The longest time a message may wait for others to be handled with."""


class TaskDecorator(Protocol):
    """What ``app.task(...)`` returns. The context, where wanted, is the first parameter; senders do not see it."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]
    ) -> Task[P, R, Concatenate[Context, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Task[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R]
    ) -> Task[P, R, Concatenate[Context, P], R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Task[P, R, P, R]: ...


class BatchDecorator(Protocol):
    """What ``app.task(batch=...)`` returns. The handler takes a list; senders send one. Contexts, where wanted, come first."""

    @overload
    def __call__(
        self, function: Callable[[list[Context], list[I]], Coroutine[Any, Any, Any]]
    ) -> Task[[I], Any, [list[Context], list[I]], Coroutine[Any, Any, Any]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], Coroutine[Any, Any, Any]]
    ) -> Task[[I], Any, [list[I]], Coroutine[Any, Any, Any]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Context], list[I]], R]
    ) -> Task[[I], Any, [list[Context], list[I]], R]: ...
    @overload
    def __call__(self, function: Callable[[list[I]], R]) -> Task[[I], Any, [list[I]], R]: ...


@dataclass(frozen=True, slots=True)
class Company:
    """How many messages a handler takes at once, and for how long the first waits for the others, in microseconds; or by what ``rule``
    they gather in the store.
    """

    size: int
    within: Micros
    rule: Gather | None = None

    def of(self, handler: Handler, signature: Signature) -> Handler:
        """``handler``, for batches."""
        (items,) = signature.parameters
        gathers = self.rule is not None
        return replace(handler, batch=self.size, within=self.within, items=items, gathers=gathers)


@dataclass(slots=True)
class Declared:
    """What an App has been told so far."""

    tasks: dict[str, dict[str, Handler]] = field(default_factory=dict)
    drafts: dict[str, Draft] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)
    subscriptions: dict[str, tuple[Source, Handler]] = field(default_factory=dict)
    needs: list[Need] = field(default_factory=list)
    schedules: dict[str, tuple[str, Schedule]] = field(default_factory=dict)
    """By name, each with the package it is from."""


def with_options(route: Route, known: QueueOptions) -> Route:
    """``route`` as the options of its queue say."""
    return Route(
        source=as_declared(
            route.source, known, {name: h.most for name, h in route.handlers.items() if h.most}
        ),
        handlers=route.handlers,
        handler=route.handler,
        weight=known.weight,
        concurrency=known.per_process,
    )


def as_declared(source: Source, known: QueueOptions, most: dict[str, int] | None = None) -> Source:
    """``source`` with the limit, the rule and the native value that its options say; ``most``: tasks of some names that run at once."""
    drops = known.when_full == "drop-expired"
    rules = Rules(known.rule, most or {})
    return msgspec.structs.replace(
        source, limit=known.limit, drops_expired=drops, rules=rules, native=known.native
    )


def handler_of(
    name: str, function: Callable[..., Any], options: SubscribeOptions, decode: Any, signature: Signature
) -> Handler:
    """A handler of one message at a time, from its options. Raises `InvalidOption` or `ConfigError`."""
    default, context = RetryPolicy(), signature.context
    policy = RetryPolicy(
        max_attempts=check_count(options.get("max_attempts", default.max_attempts), "max_attempts", 1, 1_000),
        base=micros(options["backoff"], "backoff") if "backoff" in options else default.base,
        cap=micros(options["backoff_cap"], "backoff_cap") if "backoff_cap" in options else default.cap,
    )
    return Handler(
        name=name,
        function=function,
        decode=decode,
        context=context,
        leads=context is not None and leads(function, context),
        threaded=not inspect.iscoroutinefunction(function),
        process=_pool(name, function, options) == "process",
        policy=policy,
        timeout=check_timeout(micros(options["timeout"], "timeout"))
        if "timeout" in options
        else DEFAULT_TIMEOUT,
        no_retry_on=_exceptions(options.get("no_retry_on", ())),
        result_change=signature.result_change,
        with_results=signature.with_results,
    )


def bounded(handler: Handler, options: HandlerOptions) -> Handler:
    """``handler``, of which no more tries run at once than its options say. Raises `InvalidOption`."""
    if (most := options.get("max_running")) is None:
        return handler
    return replace(handler, most=check_count(most, f"{handler.name}: max_running", 1, MOST_AT_ONCE))


def _pool(name: str, function: Callable[..., Any], options: SubscribeOptions) -> str | None:
    """Where its tries run. Raises `InvalidOption` for a pool that is none, or that coroutines do not run in."""
    pool = options.get("pool")
    if pool not in (None, "thread", "process"):
        raise InvalidOption(f"{name}: pool must be 'thread' or 'process', not {pool!r}.")
    if pool == "thread" and inspect.iscoroutinefunction(function):
        raise InvalidOption(
            f"{name} is a coroutine function and runs in the event loop: leave out pool='thread', or make it a plain function."
        )
    return pool


def task_company(options: CompanyOptions) -> Company | None:
    """How many messages a task takes at once, in batches or as they gather. Raises `InvalidOption`."""
    if "gather" not in options:
        if late := [name for name in ("gather_max", "gather_wait") if name in options]:
            raise InvalidOption(f"{late[0]} says how messages gather: it goes with gather=...")
        return company_of(options.get("batch"), options.get("within"), options)
    if "batch" in options or "within" in options:
        raise InvalidOption(
            "gather= and batch= do not go together: messages gather in the store, or in the worker."
        )
    if options.get("pool") == "process":
        raise InvalidOption(
            "gather= and pool='process' do not go together: a group is handled in the worker."
        )
    longest = micros(options["gather"], "gather")
    quiet = micros(options["gather_wait"], "gather_wait") if "gather_wait" in options else longest
    if longest == 0:
        raise InvalidOption("gather must be longer than 0.")
    if not 0 < quiet <= longest:
        raise InvalidOption(
            f"gather_wait must be longer than 0 and no longer than gather, {quoted(options['gather'])}: it was "
            f"{quoted(options.get('gather_wait'))}."
        )
    most = check_count(options.get("gather_max", 100), "gather_max", 2, MOST_GATHERED)
    return Company(most, 0, Gather(longest, most, quiet))


def company_of(batch: int | None, within: Duration | None, options: SubscribeOptions) -> Company | None:
    """How many messages a handler takes at once. Raises `InvalidOption`."""
    if batch is None:
        if within is not None:
            raise InvalidOption("within says how long a batch gathers: it goes with batch=...")
        return None
    if options.get("pool") == "process":
        raise InvalidOption("batch= and pool='process' do not go together: a batch is handled in the worker.")
    size = check_count(batch, "batch", 2, 10_000)
    wait = micros(1 if within is None else within, "within")
    if wait > LONGEST_GATHERING:
        raise InvalidOption(f"within must be at most {LONGEST_GATHERING // SECOND} s, not {within!r}.")
    return Company(size, wait)


def signature_of(function: Callable[..., Any], where: str, company: Company | None) -> Signature:
    """The signature of what can be a handler."""
    given: object = function
    if isinstance(given, Task):
        raise InvalidOption(f"Task {given.name!r} is a handler already: {where} takes a plain function.")
    if not callable(given) or isinstance(given, type) or not hasattr(given, "__annotations__"):
        raise InvalidOption(
            f"{where} decorates a function, not {given!r}: write one around it; options are given by name."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidOption(f"{function.__name__}() yields, and a handler returns: {where} cannot take it.")
    return (Signature.of if company is None else Signature.of_items)(function, context=Context)


def check_hook(hook: object) -> None:
    """Raise `InvalidOption` for what cannot be called with a dead letter."""
    try:
        inspect.signature(cast("Callable[..., object]", hook)).bind(None)
    except (TypeError, ValueError):
        raise InvalidOption(
            f"@app.on_dead takes a function with one parameter, the dead letter, not {hook!r}."
        ) from None


def leads(function: Callable[..., Any], context: str) -> bool:
    """Whether the context is the first parameter, and one that can be given by position."""
    first = next(iter(inspect.signature(function).parameters.values()))
    return first.name == context and first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def _exceptions(given: object) -> tuple[type[BaseException], ...]:
    types = given if isinstance(given, tuple) else (given,)
    for one in types:
        if not isinstance(one, type) or not issubclass(one, BaseException):
            raise InvalidOption(f"no_retry_on takes exception types, not {one!r}.")
    return types


def priority_of(options: HandlerOptions) -> int:
    """The priority a task's messages have unless their sender says another. Raises `InvalidOption`."""
    return check_count(options["priority"], "priority", LOWEST_PRIORITY, HIGHEST_PRIORITY)
