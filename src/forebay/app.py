"""The public face and composition root: declares handlers, publishes, and builds workers. It wires; the work is done elsewhere."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from forebay.client.client import Client, Ground, calling_package
from forebay.codec.signature import Unseen
from forebay.compose import Composer, Draft, EventOptions, check_options
from forebay.context import Context
from forebay.declaring.declare import (
    BatchDecorator,
    Company,
    Declared,
    TaskDecorator,
    as_declared,
    bounded,
    check_hook,
    company_of,
    handler_of,
    leads,
    priority_of,
    signature_of,
    task_company,
    with_options,
)
from forebay.declaring.handler import Route, event_decoder, task_decoder
from forebay.declaring.including import Included
from forebay.declaring.options import BLOCK_FOR, QueueOptions, QueueSettings
from forebay.declaring.traits import (
    CLOCK,
    IDS,
    MEMORY,
    SCHEDULES,
    Need,
    check_all,
    check_native,
    for_engine,
    needs_of_handler,
    needs_of_queues,
    needs_room,
    needs_topics,
)
from forebay.engine import EngineOptions, Published, Retention, Source, Timing, timing_from
from forebay.engines import engine_for
from forebay.errors import InvalidOption, NameTaken
from forebay.features import rules
from forebay.features.schedules.keeping import Declaration
from forebay.flow_handle import FlowHandle
from forebay.flows import Flow, FlowOptions
from forebay.handle import Handle
from forebay.model.amounts import byte_size
from forebay.model.message import EntryId
from forebay.model.names import check_name, check_new_name, check_pattern
from forebay.model.query import LONGEST_PAGE, Actor, Selector
from forebay.model.rule import Rule, Settings
from forebay.model.survey import Groups
from forebay.model.when import Duration, Micros, micros
from forebay.processes.address import address_of
from forebay.runtime.bridge import OUTBOX
from forebay.runtime.dead_hooks import DeadHook
from forebay.runtime.worker import Plant, Worker, WorkerOptions
from forebay.schedules import ScheduleOptions, Schedules, ScheduleTimes, home_of, planned, template
from forebay.support.clock import Clock, SystemClock
from forebay.support.ids import Ids
from forebay.support.settings import read, read_all
from forebay.tasks import (
    BatchOptions,
    BoundTask,
    CompanyOptions,
    HandlerOptions,
    SubscribeOptions,
    Task,
    send_many,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from forebay.engine import Engine
    from forebay.middleware import Middleware
    from forebay.model.query import By, Command, Counts, Page, Query, Steered
    from forebay.model.saved import SavedStep
    from forebay.model.survey import Group, Survey
    from forebay.testing.stage import Testing

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
PATIENCE: Final = 30.0
"""Seconds of real time that a handler may take in a test."""
F = TypeVar("F", bound="Callable[..., Any]")
D = TypeVar("D", bound=DeadHook)
S = TypeVar("S", bound=Task[..., Any, ..., Any] | BoundTask[Any])


class App:
    """Tasks, subscriptions and the way to send, over one engine.

    >>> app = App("memory://")
    >>> @app.task(queue="mail", timeout="30s")
    ... async def greet(name: str) -> str:
    ...     return f"Hello {name}"
    >>> async def main() -> str:
    ...     async with app:
    ...         handle = await greet.send("Ada")
    ...         return handle.id

    ``url``: the engine (default: setting ``url``, which is ``sqlite:///forebay.db``). ``bus``: a bus to other services; events then leave
    by the store's outbox. ``include``: modules that declare handlers, see `include`. ``lifespan``: an async context manager entered around
    a worker's life. ``middleware``: outermost first. ``queues``: options by queue. ``max_body``: bytes, or text such as ``"4M"``. Raises
    `ConfigError` for anything that cannot be.
    """

    def __init__(  # noqa: PLR0913  # one keyword for each concern
        self,
        url: str | Engine | None = None,
        *,
        bus: str | Engine | None = None,
        name: str = "app",
        include: Sequence[str] = (),
        lifespan: Callable[[], AbstractAsyncContextManager[object]] | None = None,
        middleware: Sequence[Middleware] = (),
        queues: Mapping[str, QueueOptions] = MappingProxyType({}),
        timing: Timing | None = None,
        retention: Retention = Retention(),  # noqa: B008  # frozen value
        max_body: int | str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = check_name(name, "App name")
        self.timing = timing or timing_from({name: value.text for name, value in read_all().items()})
        options = EngineOptions(timing=self.timing, retention=retention)
        engine = engine_for(read("url", url), options) if url is None or isinstance(url, str) else url
        other = engine_for(bus, options) if isinstance(bus, str) else bus
        self._queues = {check_name(queue, "queue"): options for queue, options in queues.items()}
        self._lifespan, self._middleware = lifespan or nullcontext_async, tuple(middleware)
        limit = byte_size(read("max_body") if max_body is None else max_body, "max_body", 1)
        composer = Composer(Ids(), min(limit, engine.traits.max_body), None if other is None else OUTBOX)
        self._declared, self._included = Declared(), Included(self.name)
        self._included.add(include)
        self._on_dead: list[DeadHook] = []
        self._schedules: Schedules | None = None
        self._home = calling_package()
        self._client = Client(
            Ground(
                engine=engine,
                bus=other,
                clock=clock or SystemClock(),
                composer=composer,
                patience=self._patience(),
            ),
            self._sources,
            lambda traits: check_all(self._declared.needs, traits),
            Actor(name=self.name, via="app"),
        )
        if clock is not None:
            self._require(Need("App", "clock=", CLOCK))
        if max_body is not None:
            self._require(needs_room(limit))
        for feature in (MEMORY, IDS) if other is not None else ():
            self._require(Need("App", "bus=", feature))
        self._require(*needs_of_queues(self._queues))
        check_native(self._queues, [one.traits for one in (engine, other) if one is not None])

    @property
    def engine(self) -> Engine:
        """What it sends to and works from."""
        return self._client.ground.engine

    @property
    def bus(self) -> Engine | None:
        """The bus to other services, if there is one."""
        return self._client.ground.bus

    @property
    def schedules(self) -> Schedules:
        """The schedules of its store: those of its code, and those put from programs. See `Schedules`."""
        if self._schedules is None:
            self._schedules = Schedules(self._client, self.name, self._declaration)
        return self._schedules

    # -- declare

    def include(self, *modules: str) -> None:
        """Name modules that declare handlers of this App, so that a worker finds them: they may import the App, which does not import them.

        They are imported when the App is first opened, worked for or tested, not now. ``"shop.*.tasks"`` stands for the module ``tasks``
        of each package in ``shop``, ``"shop.tasks.**"`` for all modules in the package ``shop.tasks``.

        >>> app = App("memory://", include=["shop.tasks"])
        >>> app.include("shop.*.events")

        Raises `InvalidOption` for what is no name of a module. Those that import it: `IncludeFailed`, with what the module raised as cause.
        """
        self._included.add(modules)

    @overload
    def task(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R, Concatenate[Context, P], Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Task[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> Task[P, R, Concatenate[Context, P], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, P, R]: ...
    @overload
    def task(
        self, /, *, batch: int, within: Duration = 1, **options: Unpack[HandlerOptions]
    ) -> BatchDecorator: ...
    @overload
    def task(
        self,
        /,
        *,
        gather: Duration,
        gather_max: int = 100,
        gather_wait: Duration = ...,
        **options: Unpack[HandlerOptions],
    ) -> BatchDecorator: ...
    @overload
    def task(self, /, **options: Unpack[HandlerOptions]) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        **options: Unpack[CompanyOptions],
    ) -> Any:
        """Declare a task: ``@app.task`` or ``@app.task(queue="mail", ...)``; see `HandlerOptions`.

        With ``batch`` the handler takes a list: up to so many messages at once, those that come ``within`` a time of the first (default
        1 s). It returns None, or a list with one word for each: a result, `Retry`, `Snooze`, `Dead`, `Cancel` or an exception.

        >>> @app.task(batch=100, within="1s")                     # doctest: +SKIP
        ... async def index(documents: list[Document]) -> None: ...
        >>> await index.send(document)                            # one at a time  # doctest: +SKIP

        With ``gather`` it takes a list too: of messages of one ``key`` that have gathered in the store, over all senders, until they are
        ``gather_max`` (default 100), or none has come for ``gather_wait``, or the first has waited for ``gather``.

        >>> @app.task(gather="1m", gather_max=500, gather_wait="5s")     # doctest: +SKIP
        ... async def notify(changes: list[Change]) -> None: ...
        >>> await notify.options(key="user-7").send(change)              # doctest: +SKIP

        Raises `InvalidOption`, `InvalidName`, `NameTaken` or `ConfigError`, at import.
        """
        check_options(options, CompanyOptions.__annotations__, "@app.task")
        company = task_company(options)

        def declare(function: Callable[..., Any]) -> Task[Any, Any, Any, Any]:
            return self._declare_task(function, options, company)

        return declare if function is None else declare(function)

    def subscribe(
        self, topic: str, *, group: str | None = None, **options: Unpack[BatchOptions]
    ) -> Callable[[F], F]:
        """Declare a handler of the events that match ``topic`` (a name, or a pattern with ``*`` and ``**``) for one group.

        Each group gets a copy of each event; its workers share them. ``group`` defaults to the App's name.

        >>> @app.subscribe("orders.placed", group="billing")             # doctest: +SKIP
        ... async def bill(order: OrderPlaced, ctx: Context) -> None: ...
        """
        check_pattern(topic, "topic")
        chosen = check_new_name(self.name if group is None else group, "group")
        queue = check_new_name(options["queue"], "queue") if "queue" in options else None
        check_options(options, BatchOptions.__annotations__, "@app.subscribe")
        company = company_of(options.get("batch"), options.get("within"), options)

        def declare(function: F) -> F:
            self._declare_subscription(Source.subscription(topic, chosen, queue), function, options, company)
            return function

        return declare

    def schedule(self, cron: str, **options: Unpack[ScheduleOptions]) -> Callable[[S], S]:
        """Send a task by a cron expression: five fields, six with seconds first, or ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``,
        ``@yearly``; see `ScheduleOptions`. Above ``@app.task()``, or around a task with its arguments.

        >>> @app.schedule("*/5 * * * *", zone="Europe/Berlin", jitter="20s", overlap="skip")   # doctest: +SKIP
        ... @app.task()
        ... async def refresh() -> None: ...
        >>> app.schedule("0 6 * * mon", name="report-7")(report.bind(tenant=7))                # doctest: +SKIP

        Each tick is sent once, whatever the number of workers. Workers declare it when they start. Raises `InvalidOption`, `InvalidName`,
        `NameTaken` or `Unsupported`, at import.
        """
        check_options(options, ScheduleOptions.__annotations__, "@app.schedule")

        def declare(call: S) -> S:
            self._declare_schedule(call, options, cron=cron)
            return call

        return declare

    def every(
        self,
        every: Duration,
        call: BoundTask[Any] | Task[..., Any, ..., Any],
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Send a task every so often, counted from ``start=``, or else from the beginning of 1970 (so ``"1h"`` is on the hour of UTC).

        >>> app.every("90s", cleanup.bind(days=3), name="cleanup", start="2030-01-01T00:00Z")  # doctest: +SKIP

        As `schedule`.
        """
        check_options(options, ScheduleOptions.__annotations__, "app.every()")
        self._declare_schedule(call, options, every=every)

    def _declare_schedule(
        self,
        call: object,
        options: ScheduleOptions,
        *,
        cron: str | None = None,
        every: Duration | None = None,
    ) -> None:
        times = dict(options)
        named = (
            call.name if isinstance(call, Task) else call.task.name if isinstance(call, BoundTask) else "?"
        )
        name = times.pop("name", named)
        if named != "?":
            check_new_name(name, "schedule")
        task = template(str(name), cast("Task[..., Any, ..., Any]", call), self._client.ground.composer)
        plan = planned(str(name), task, cron, every, cast("ScheduleTimes", times))
        if name in self._declared.schedules:
            raise NameTaken(
                f"Two schedules are called {name!r}: give one of them another name with name=...."
            )
        self._require(Need(f"Schedule {name!r}", "a schedule", SCHEDULES))
        self._declared.schedules[str(name)] = home_of(call, self._home), plan

    def on_dead(self, hook: D) -> D:
        """Declare a function, async or not, that a worker calls with the `DeadLetter` of each message that it tried for the last time,
        after that is settled.

        >>> @app.on_dead                                                 # doctest: +SKIP
        ... def page(letter: DeadLetter) -> None:
        ...     sentry_sdk.capture_message(f"{letter.name}: {letter.error}")

        What it raises is logged, and it has ten seconds for each; neither changes what became of the message. What a process that is
        killed has settled but not told is not told again: ``forebay dead list`` has them all. Raises `InvalidOption`, at import.
        """
        check_hook(hook)
        self._on_dead.append(hook)
        return hook

    def _declare_task(
        self, function: Callable[..., Any], options: HandlerOptions, company: Company | None
    ) -> Task[Any, Any, Any, Any]:
        signature = signature_of(function, "@app.task", company)
        if company is None and signature.context is not None and not leads(function, signature.context):
            raise InvalidOption(f"{function.__name__}: a task takes its context as its first parameter.")
        name = check_new_name(options.get("name") or getattr(function, "__name__", "?"), "task")
        queue = check_new_name(options.get("queue", "default"), "queue")
        if name in self._declared.drafts:
            raise NameTaken(
                f"Two tasks are called {name!r}: give one of them another name with @app.task(name=...)."
            )
        if queue in self._declared.subscriptions:
            raise NameTaken(f"Queue {queue!r} belongs to a subscription: give task {name!r} another queue.")
        handler = bounded(handler_of(name, function, options, task_decoder(signature), signature), options)
        if company is not None:
            handler = company.of(handler, signature)
        fixed = {"priority": priority_of(options)} if "priority" in options else {}
        self._require(*needs_of_handler(name, options))
        draft = Draft(queue=queue, fixed=fixed, rule=None if company is None else company.rule)
        self._declared.tasks.setdefault(queue, {})[name] = handler
        self._declared.drafts[name], self._declared.signatures[name] = draft, signature
        return Task(function, signature, draft, name, self._client)

    def _declare_subscription(
        self, source: Source, function: Callable[..., Any], options: SubscribeOptions, company: Company | None
    ) -> None:
        signature = signature_of(function, "@app.subscribe(...)", company)
        if len(signature.parameters) > 1:
            raise InvalidOption(
                f"{function.__name__}: a subscriber takes the event and its context, nothing else."
            )
        if source.queue in self._declared.subscriptions or source.queue in self._declared.tasks:
            raise NameTaken(
                f"Queue {source.queue!r} is taken: group {source.group!r} has a handler for {source.pattern!r} already; "
                "use another group= or queue=."
            )
        parameter = next(iter(signature.parameters.values()), None)
        if parameter is not None and parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidOption(f"{function.__name__}: the event is one parameter, not {str(parameter)!r}.")
        name = check_new_name(options.get("name") or getattr(function, "__name__", "?"), "handler")
        handler = handler_of(name, function, options, event_decoder(parameter), signature)
        self._require(*needs_of_handler(name, options))
        topics = needs_topics(f"Handler {name!r}", source)
        if self.bus is None:
            self._require(topics)
        else:
            topics.check(self.bus.traits)
        self._declared.subscriptions[source.queue] = (
            source,
            handler if company is None else company.of(handler, signature),
        )

    def queue(self, name: str, /, **options: Unpack[QueueSettings]) -> None:
        """Say what holds in a queue: see `QueueOptions`, whose fields these are.

        >>> app.queue("mail", rate="100/s", concurrency=50)                 # over all processes
        >>> app.queue("tenants", per_key=2, fair=True, rate_per_key="5/s")   # by the key= of each message

        What was said with ``forebay queue set`` while it runs goes before. Raises `InvalidOption`, `NameTaken` for a queue of which
        something was said before, and `Unsupported` for what the engine cannot do. Before the App is opened.
        """
        check_options(options, QueueSettings.__annotations__, "app.queue()")
        if check_name(name, "queue") in self._queues:
            raise NameTaken(f"Queue {name!r} is declared twice: say all that holds in it in one place.")
        known = {name: QueueOptions(**options)}
        self._require(*needs_of_queues(known))
        check_native(known, [one.traits for one in (self.engine, self.bus) if one is not None])
        self._queues |= known
        self._client.be_patient(self._patience())

    # -- send

    def named(self, name: str, queue: str = "default") -> Task[..., Any, ..., Any]:
        """A task by name, without its code: ``app.named("greet").options(delay="5m").send("Ada")``.

        Where the task is declared in this App its signature is checked and its own queue used; else the arguments go as they are.
        """
        check_name(name, "task")
        draft = self._declared.drafts.get(name)
        if draft is None:
            return Task(
                _no_code, Unseen(name), Draft(queue=check_new_name(queue, "queue")), name, self._client
            )
        return Task(_no_code, self._declared.signatures[name], draft, name, self._client)

    async def send(
        self, name: str, /, *args: object, queue: str = "default", **kwargs: object
    ) -> Handle[Any]:
        """Send a task by name, without its code. Keyword arguments are the task's own; `named` takes options. As `Task.send`."""
        return await self.named(name, queue).send(*args, **kwargs)

    def send_sync(self, name: str, /, *args: object, queue: str = "default", **kwargs: object) -> Handle[Any]:
        """`send`, for callers without an event loop."""
        return self.named(name, queue).send_sync(*args, **kwargs)

    async def send_many(self, calls: Iterable[BoundTask[R]]) -> list[Handle[R]]:
        """Send many bound tasks, in batches, each of which is stored whole or not at all; answers in order.

        Where a queue is at its limit, what fits is stored, and `QueueFull` says what was not: see its ``handles``.

        >>> await app.send_many([send_receipt.bind(n, mail) for n, mail in orders])  # doctest: +SKIP
        """
        return await send_many(self._client, calls)

    async def publish(self, topic: str, event: object, **options: Unpack[EventOptions]) -> Published:
        """Publish an event to a topic: every subscribed group gets a copy. ``bytes`` go as they are, anything else as JSON.

        Returns when the engine holds it; ``groups`` says how many copies were made (0: nobody subscribed, nothing was kept).
        Raises `NotSerialisable`, `MessageTooLarge`, `InvalidName`, `InvalidOption`, `QueueFull` (one of the groups' queues is at its
        limit: nobody has a copy), `EngineUnavailable` or `OutcomeUnknown`.
        """
        return await self._client.publish(self._client.ground.composer.event(topic, event, options))

    def publish_sync(self, topic: str, event: object, **options: Unpack[EventOptions]) -> Published:
        """`publish`, for callers without an event loop."""
        return self.sync(self.publish(topic, event, **options))

    # -- look and steer

    def handle(self, key: str) -> Handle[Any]:
        """The handle of a task sent earlier, from its id."""
        return Handle(EntryId(key), Any, self._client)

    def flow(self, id: str | None = None, **options: Unpack[FlowOptions]) -> Flow:
        """Steps that wait for others, to be sent as one: see `Flow`, and `FlowOptions`. Two flows with one ``id`` are one.

        >>> flow = app.flow("order-42", deadline="1d", on_failed=alert.bind())   # doctest: +SKIP
        >>> fetch = flow.add(download.bind(url))                                 # doctest: +SKIP
        >>> flow.add(resize.bind(size=64), after=fetch, gather=True)             # doctest: +SKIP
        >>> handle = await flow.send()                                           # doctest: +SKIP

        Raises `InvalidOption`, and `Unsupported` on a bare bus.
        """
        return Flow(self._client, id, **options)

    def flow_handle(self, id: str) -> FlowHandle[Any]:
        """The handle of a flow sent earlier, from its id."""
        return FlowHandle(id, self._client)

    async def find(self, query: Query) -> Page:
        """One page of what the store knows."""
        return await (await self._client.link()).store.find(query)

    @overload
    async def count(self) -> Counts: ...
    @overload
    async def count(self, *, by: By, which: Selector = ..., limit: int = ...) -> tuple[Group, ...]: ...
    async def count(
        self,
        *,
        by: By | None = None,
        which: Selector = Selector(),  # noqa: B008  # frozen value
        limit: int = LONGEST_PAGE,
    ) -> Counts | tuple[Group, ...]:
        """All queues by state; or how many of the messages selected there are ``by`` something, the largest groups first.

        >>> from forebay.model.query import By, Selector
        >>> await app.count(by=By.FINGERPRINT, which=Selector(states=frozenset({State.DEAD})))  # doctest: +SKIP
        (Group(value='9f0c5a8ae0b7c2d1', number=314), Group(value='1b6e...', number=2))

        Raises `InvalidOption` where too many messages would have to be looked at, and says what narrows it.
        """
        store = (await self._client.link()).store
        return (
            await store.count() if by is None else await store.survey(Groups(by=by, which=which, limit=limit))
        )

    async def saved_steps(self, key: EntryId) -> tuple[SavedStep, ...]:
        """The durable steps that a message has saved, in the order in which it did: what each came to, in which try, how long it took."""
        return tuple(await (await self._client.link()).store.saved(key))

    async def set_queue(self, name: str, /, *, by: Actor | None = None, **settings: Unpack[Settings]) -> bool:
        """Change how much of a queue begins and runs, in all processes at once, over what its code says; whether that changed anything.

        >>> await app.set_queue("mail", rate="50/s")                # doctest: +SKIP

        It is kept until `reset_queue`. None: that is not limited. Raises `InvalidOption`, also where others change it all the time.
        """
        store = (await self._client.link()).store
        return await rules.say(store, name, settings, by or self._client.actor)

    async def reset_queue(self, name: str, /, *settings: str, by: Actor | None = None) -> bool:
        """Take back what `set_queue` has said, of some settings or of all: the code holds again; whether that changed anything."""
        store = (await self._client.link()).store
        return await rules.unsay(store, name, settings, by or self._client.actor)

    async def survey(self, about: Survey[T]) -> tuple[T, ...]:
        """What the store knows besides messages: `Workers` that are there, `Rates` by minute, queue and name.

        >>> from forebay.model.survey import Rates, Workers
        >>> await app.survey(Rates(queue="mail", limit=60))              # doctest: +SKIP
        """
        return await (await self._client.link()).store.survey(about)

    async def steer(self, which: Selector, command: Command, *, by: Actor | None = None) -> Steered:
        """Retry, cancel, delete, pause or resume. Returns how many messages (or queues) were changed, how many that run were asked to
        stop, and how many were skipped and why.
        """
        return await (await self._client.link()).store.steer(which, command, by=by or self._client.actor)

    # -- open, work, close

    def worker(self, options: WorkerOptions | None = None) -> Worker:
        """A worker for what this App declares."""
        return Worker(self.plant(), options or WorkerOptions())

    def plant(self) -> Plant:
        """What a worker works on."""
        ground = self._client.ground
        return Plant(
            name=self._client.identity,
            engine=ground.engine,
            bus=ground.bus,
            routes=self.routes(),
            composer=ground.composer,
            middleware=self._middleware,
            timing=self.timing,
            clock=ground.clock,
            opened=self._client.opened,
            lifespan=self._lifespan,
            address=lambda: address_of(self, self._modules()),
            on_dead=tuple(self._on_dead),
            schedules=self._declaration(),
        )

    def _declaration(self) -> Declaration:
        """The schedules of its code. Imports what it includes."""
        homes = {module.partition(".")[0] for module in self._modules()}
        plans = dict(self._declared.schedules)
        return Declaration(
            app=self.name,
            plans=plans,
            homes=frozenset({self._home, *homes, *(home for home, _ in plans.values())}),
        )

    def _require(self, *needs: Need) -> None:
        """Refuse what the engine cannot do by its class; what the server cannot is refused when it is opened."""
        check_all(needs, self.engine.traits)
        self._declared.needs.extend(needs)

    def _patience(self) -> dict[str, Micros]:
        """The queues for which senders wait, and how long."""
        return {
            queue: micros(BLOCK_FOR if options.block_for is None else options.block_for, "block_for")
            for queue, options in self._queues.items()
            if options.when_full == "block"
        }

    def _sources(self) -> list[Source]:
        """What the engine is told of: where work comes from, and limits of queues that are only sent to."""
        handled = {route.source.queue: route.source for route in self.routes()}
        loose = [
            as_declared(Source(queue=queue, loose=True), options)
            for queue, options in self._queues.items()
            if (options.limit is not None or options.native is not None or options.rule != Rule())
            and queue not in handled
        ]
        return [for_engine(source, self.engine.traits) for source in (*handled.values(), *loose)]

    def routes(self) -> list[Route]:
        """Where this App's work comes from, and who handles it. Imports what it includes. Raises `IncludeFailed`."""
        self._included.load()
        of_tasks = [
            Route(source=Source(queue=queue), handlers=handlers)
            for queue, handlers in self._declared.tasks.items()
        ]
        of_events = [
            Route(source=source, handler=handler) for source, handler in self._declared.subscriptions.values()
        ]
        routes = []
        for route in (*of_tasks, *of_events):
            known = self._queues.get(route.source.queue, QueueOptions())
            routes.append(with_options(route, known))
        return routes

    def _modules(self) -> tuple[str, ...]:
        """Where handlers are declared, for a process that has to import them all."""
        handlers = [
            handler.function
            for route in self.routes()
            for handler in (route.handler, *route.handlers.values())
            if handler is not None
        ]
        return tuple(sorted({function.__module__ for function in handlers} | self._included.modules))

    async def __aenter__(self) -> Self:
        """Open the engine for the running loop. May be nested."""
        await self._client.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what was given and let go."""
        await self._client.close()

    def __enter__(self) -> Self:
        """For callers without a loop: opens with the first ``..._sync`` call."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what the ``..._sync`` calls opened."""
        self._client.close_portal()

    def sync(self, work: Coroutine[Any, Any, R]) -> R:
        """Run one of this App's coroutines for a caller without a loop: ``app.sync(app.count())``."""
        return self._client.sync(work)

    def testing(
        self, *, eager: bool = False, propagate: bool = True, patience: Duration = PATIENCE
    ) -> Testing:
        """Put the App on a stage for a block of a test: in memory, on a clock turned by hand; its own engine is not touched.

        >>> async with app.testing() as t:                        # doctest: +SKIP
        ...     await place_order(7)                              # code of yours that sends
        ...     t.assert_sent(send_receipt, 7, "ada@example.org")
        ...     await t.run_all()                                 # works off what is due, in this process

        ``with app.testing() as t:`` is the same for tests without a loop. ``eager``: each send runs its task before it returns, and raises
        what the handler raised, unless ``propagate`` is False. ``patience``: of real time, for one handler. Raises `InUse` on entry while
        the App is open or on a stage.
        """
        from forebay.testing.stage import Known, Mode, Testing  # only tests import it

        mode = Mode(eager=eager, propagate=propagate, patience=micros(patience, "patience"))
        known = Known(self._declared.signatures, self._declared.drafts)
        return Testing(self._client, self.plant, known, mode)


def nullcontext_async() -> AbstractAsyncContextManager[object]:
    """A lifespan that does nothing."""
    return nullcontext()


def _no_code(*_: object, **__: object) -> None:
    raise NotImplementedError("this task was sent by name: its code is not here")
