"""What the tests of the runtime and the App share: a capped story, a worker at work, an engine whose calls can be watched and broken."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from forebay.codec.signature import Signature
from forebay.compose import Composer
from forebay.context import Context
from forebay.declaring.handler import Handler, task_decoder
from forebay.engine import NOTHING, Ask, Broker, Delivery, R, Source
from forebay.features.steps.desk import desk_of
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.query import UNKNOWN
from forebay.runtime.executor import Executor, Live
from forebay.runtime.in_flight import InFlight, Run
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids, new_token
from forebay.testing.clock import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence

    from forebay import App, Handle, State, Worker, WorkerOptions
    from forebay.engine import Engine, Notice, Published, Settled, Settlement, Spent, Swept, Topic, Traits
    from forebay.middleware import Call
    from forebay.model.note import Revised, Revision
    from forebay.model.outcome import Outcome
    from forebay.model.query import (
        Actor,
        Command,
        Counts,
        Page,
        Progress,
        Query,
        Selector,
        Steered,
        TaskRecord,
    )
    from forebay.model.rule import RateLimit
    from forebay.model.saved import SavedStep
    from forebay.model.survey import Presence, Survey
    from forebay.model.when import Micros
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

P = ParamSpec("P")

CAP = 10.0
"""Seconds after which a story has failed. None takes more than one."""


def story(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async test, run to its end or to its cap."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def capped() -> None:
            async with asyncio.timeout(CAP):
                await test(*args, **kwargs)

        asyncio.run(capped())

    return run


@asynccontextmanager
async def working(app: App, options: WorkerOptions | None = None) -> AsyncIterator[Worker]:
    """The App open, and a worker of it at work; at the end it stops and is waited for."""
    async with app:
        worker = app.worker(options)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await worker.ready.wait()
            try:
                yield worker
            finally:
                worker.stop()


async def reaches(handle: Handle[Any], state: State) -> TaskRecord:
    """Wait until a task is in ``state``; its record then."""

    async def there() -> bool:
        return (await handle.status()).state is state

    check: Callable[[], bool | Awaitable[bool]] = there
    await eventually(check, what=f"{handle} is {state}")
    return await handle.status()


def a_delivery(body: bytes = b"{}", name: str = "job", queue: str = "default", **fields: Any) -> Delivery:
    """A delivery as a store hands it out. ``fields`` that only a message has are the message's, the others the delivery's."""
    of_message = {key: value for key, value in fields.items() if key not in Delivery.__struct_fields__}
    rest = {"received": 0, "created": 0} | {k: v for k, v in fields.items() if k not in of_message}
    message = Message(id=MessageId(f"id-{name}"), name=name, queue=queue, body=body, **of_message)
    return Delivery(
        id=EntryId(message.id), message=message, source=Source(queue=queue), token=new_token(), **rest
    )


def a_handler(function: Callable[..., Any], **options: Any) -> Handler:
    """A handler as ``@app.task`` makes it."""
    signature = Signature.of(function, context=Context)
    return Handler(
        name="job",
        function=function,
        decode=task_decoder(signature),
        context=signature.context,
        leads=signature.context is not None,
        result_change=signature.result_change,
        threaded=not inspect.iscoroutinefunction(function),
        **options,
    )


async def _in_line(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A thread that is none."""
    return function(*args, **kwargs)


def an_executor(
    clock: Clock | None = None, max_body: int = 1 << 20, store: Broker | None = None
) -> tuple[Executor, InFlight]:
    """An executor, and the running deliveries it works on."""
    clock = clock or SystemClock()
    in_flight = InFlight(clock)
    desk = desk_of(store, clock, _in_line)
    return Executor(Composer(Ids(), max_body), in_flight, desk), in_flight


async def one_try(call: Call, handler: Handler, delivery: Delivery, max_body: int = 1 << 20) -> Outcome:
    """What becomes of one try."""
    executor, in_flight = an_executor(max_body=max_body)
    run = in_flight.add(delivery)
    try:
        outcome, _ = await executor.execute(run, Live(handler, call))
    finally:
        in_flight.close()
    return outcome


class Spied:
    """An engine around another: counts its calls, and lets a test break into them before and after they happen."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str, Any], Awaitable[None] | None] = lambda _kind, _given: None
        self.after: Callable[[str, Any], Awaitable[None] | None] = lambda _kind, _answer: None

    @property
    def traits(self) -> Traits:
        return self.inner.traits

    @property
    def url(self) -> str:
        return self.inner.url

    def connect(self, worker: str, clock: Clock) -> SpiedStore:
        return SpiedStore(self, self.inner.connect(worker, clock))

    async def call(self, kind: str, given: Any, work: Coroutine[Any, Any, Any]) -> Any:
        """One port call."""
        self.calls[kind] += 1
        try:
            if (pause := self.before(kind, given)) is not None:
                await pause
        except BaseException:
            work.close()
            raise
        answer = await work
        if (pause := self.after(kind, answer)) is not None:
            await pause
        return answer


class SpiedStore:
    """One loop's face of a `Spied` engine."""

    def __init__(self, engine: Spied, inner: Any) -> None:
        self._engine, self.inner = engine, inner

    @property
    def traits(self) -> Traits:
        return self._engine.traits

    async def declare(self, sources: Sequence[Source]) -> None:
        await self._engine.call("declare", sources, self.inner.declare(sources))

    async def publish(self, batch: Sequence[Message], *, tx: object | None = None) -> Sequence[Published]:
        answer: Sequence[Published] = await self._engine.call(
            "publish", batch, self.inner.publish(batch, tx=tx)
        )
        return answer

    async def receive(
        self, asks: Sequence[Ask], *, wait: Micros, most: int | None = None
    ) -> Sequence[Delivery]:
        answer: Sequence[Delivery] = await self._engine.call(
            "receive", asks, self.inner.receive(asks, wait=wait, most=most)
        )
        return answer

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Settled]:
        answer: Sequence[Settled] = await self._engine.call("settle", batch, self.inner.settle(batch))
        return answer

    async def extend(
        self,
        batch: Sequence[Delivery],
        *,
        under_way: Sequence[Token] = (),
        progress: Mapping[EntryId, Progress] = NOTHING,
    ) -> Sequence[Notice]:
        answer: Sequence[Notice] = await self._engine.call(
            "extend", batch, self.inner.extend(batch, under_way=under_way, progress=progress)
        )
        return answer

    async def close(self) -> None:
        await self._engine.call("close", None, self.inner.close())

    async def sweep(self, budget: int) -> Swept:
        answer: Swept = await self._engine.call("sweep", budget, self.inner.sweep(budget))
        return answer

    async def steer(self, which: Selector, command: Command, *, by: Actor = UNKNOWN) -> Steered:
        work = self.inner.steer(which, command, by=by)
        answer: Steered = await self._engine.call("steer", command, work)
        return answer

    async def save(self, delivery: Delivery, steps: Sequence[SavedStep]) -> Settled:
        answer: Settled = await self._engine.call("save", steps, self.inner.save(delivery, steps))
        return answer

    async def saved(self, key: EntryId) -> Sequence[SavedStep]:
        answer: Sequence[SavedStep] = await self._engine.call("saved", key, self.inner.saved(key))
        return answer

    async def spend(self, bucket: str, rate: RateLimit, *, patience: Micros) -> Spent:
        answer: Spent = await self._engine.call(
            "spend", bucket, self.inner.spend(bucket, rate, patience=patience)
        )
        return answer

    async def find(self, query: Query) -> Page:
        answer: Page = await self._engine.call("find", query, self.inner.find(query))
        return answer

    async def count(self) -> Counts:
        answer: Counts = await self._engine.call("count", None, self.inner.count())
        return answer

    async def survey(self, about: Survey[R]) -> tuple[R, ...]:
        answer: tuple[R, ...] = await self._engine.call("survey", about, self.inner.survey(about))
        return answer

    async def note(self, batch: Sequence[Revision], *, by: Actor = UNKNOWN) -> Sequence[Revised]:
        answer: Sequence[Revised] = await self._engine.call("note", batch, self.inner.note(batch, by=by))
        return answer

    async def attend(self, presence: Presence | None) -> None:
        await self._engine.call("attend", presence, self.inner.attend(presence))

    def watch(self, topic: Topic) -> AsyncIterator[None]:
        signals: AsyncIterator[None] = self.inner.watch(topic)
        return signals


def a_run(delivery: Delivery | None = None) -> Run:
    """A run that nobody has started."""
    return Run(delivery or a_delivery())
