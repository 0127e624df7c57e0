"""The durable steps of one try: what a handler awaits is saved under its lease before it is returned, and not done again by a later try.

A handler leaves its try by `Suspended`. User code may swallow that, or wrap it in a group: what counts is `Steps.ending`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Sized
from contextlib import contextmanager
from contextvars import ContextVar
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from forebay.codec.results import ResultType, bare
from forebay.engine import Settled
from forebay.errors import (
    EngineUnavailable,
    InvalidOption,
    NotSerialisable,
    OutcomeUnknown,
    StepChanged,
    StepError,
    StepRefused,
    Unsupported,
    name_of,
    quoted,
    told,
)
from forebay.features.steps.desk import Flow
from forebay.features.steps.history import History, Place
from forebay.model import outcome as o
from forebay.model.flow import OVER
from forebay.model.names import check_new_name, check_text
from forebay.model.saved import Kind, SavedStep
from forebay.model.verdict import Failure, Reason
from forebay.model.when import SECOND, After, At, Instant, Micros, When, micros
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping

    from forebay.engine import Delivery
    from forebay.features.steps.desk import Desk, Tie
    from forebay.model.when import Duration

log = Log("forebay.steps")
T = TypeVar("T")

FIRST_PAUSE: Final = SECOND // 20
LONGEST_PAUSE: Final = 2 * SECOND
TURNS: Final = 10
"""Turns of the loop in which nothing of a try may be at work before it is left."""
CLEAN_UP: Final = 5.0
"""Seconds of real time that items of a map have to end in, after their handler has."""
WIDEST: Final = 1_000
"""Items of a map that are worked on at the same time."""
_INSIDE: ContextVar[Steps | None] = ContextVar("forebay_inside_step", default=None)


class Steps:
    """The steps of one try. For the loop its handler belongs to; the ``..._sync`` calls for the handler's own thread."""

    def __init__(self, desk: Desk, delivery: Delivery, tie: Tie) -> None:
        if desk.store is None:
            raise Unsupported(
                f"{delivery.message.name}: steps are kept in a store, and there is none here: a bus alone remembers nothing, and a memory "
                "store is out of reach of other processes. Use one that is not, as in App('sqlite:///forebay.db', bus=...)."
            )
        self._desk, self._store, self._clock = desk, desk.store, desk.clock
        self._delivery, self._tie = delivery, tie
        self._main, self._loop = tie.main, tie.main.get_loop()
        self._history = History()
        self._loading, self._loaded = asyncio.Lock(), False
        self._answers: dict[str, bool] = {}
        self._versions: dict[str, SavedStep] = {}
        """Those that the next save takes along."""
        self._running = 0
        self._quiet = asyncio.Event()
        self._ends: list[tuple[Micros, Instant | None]] = []
        self._awaits = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread: int | None = None
        self.ending: o.Outcome | None = None
        """What the try comes to, whatever the handler does from here on."""

    # -- what a handler calls

    async def run(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The result of ``function``, from a try before this one if that has saved it."""
        _check_function(name, function)
        place = await self._opened(name)
        return await self._step(place, function, args, kwargs)

    async def sleep(self, when: When, name: str, *, beside: bool | None = None) -> None:
        """Go on at a moment: here, if that is near, else in a later try."""
        place = await self._opened(name, beside=beside)
        saved = self._checked(lambda: self._history.find(place, Kind.SLEEP))
        if saved is None:
            due, lasts = (when.instant, None) if isinstance(when, At) else (None, when.micros)
            saved = SavedStep(name=place.name, kind=Kind.SLEEP, position=place.position, due=due, lasts=lasts)
            await self._save(place, saved)
        if (left := self._left(saved)) > self._desk.in_place:
            await self._leave(saved)
        elif left > 0:
            with self._at_work():
                await self._clock.sleep(left)

    async def wait(  # one parameter for each concern
        self,
        topic: str,
        key: str | None,
        timeout: Duration,
        name: str,
        kind: Any,
        *,
        beside: bool | None = None,
    ) -> Any:
        """The event that came on ``topic`` since this was first asked; TimeoutError if none did in time."""
        check_new_name(topic, "topic")
        saved = await self._event_of((topic, key), timeout, name, beside=beside)
        return None if saved is None else self._event(saved, kind)

    async def over(self, flow: Flow[T], timeout: Duration, name: str, *, beside: bool | None = None) -> T:
        """The result of a flow, once it is over; TimeoutError if it was not in time."""
        if not isinstance(flow, Flow):
            raise InvalidOption(
                f"ctx.wait_flow() takes the handle of a flow, as in await flow.send(), not {quoted(flow)}."
            )
        await self._event_of((OVER, flow.id), timeout, name, beside=beside, already=flow.is_over)
        return await flow.result()

    async def _event_of(
        self, event: tuple[str, str | None], timeout: Duration, name: str, *, beside: bool | None,
        already: Callable[[], Awaitable[bool]] | None = None,
    ) -> SavedStep | None:  # fmt: skip
        """The step whose event has come, on a topic and with a key; None if ``already``, asked once an event would be seen, says that none
        is needed.
        """
        topic, key = event
        if key is not None:
            check_text(key, "key")
        place = await self._opened(name, beside=beside)
        saved = self._checked(lambda: self._history.find(place, Kind.WAIT))
        if saved is None:
            lasts = micros(timeout, "timeout")
            saved = SavedStep(
                name=place.name, kind=Kind.WAIT, position=place.position, lasts=lasts, topic=topic, key=key
            )
            await self._save(place, saved)
        elif (saved.topic, saved.key) != (topic, key):
            raise self._end(
                StepChanged(
                    f"{place.name!r} waits for an event on {saved.topic!r} with key {saved.key!r}, and this code asks for {topic!r} "
                    f"with key {key!r}."
                )
            )
        if saved.met is not None:
            return saved
        if already is not None and await already():
            return None
        # The store's own clock when it handed this out, and no estimate: from then on no event meets this.
        if saved.due is not None and self._delivery.received >= saved.due:
            raise TimeoutError(f"no event came on {topic!r} within the time of step {name!r}")
        await self._leave(saved, awaits=True)
        return None

    async def version(self, name: str, *, beside: bool | None = None) -> bool:
        """Whether the code of ``name`` is for this message."""
        key = f"version:{check_new_name(name, 'version')}"
        self._go_on()
        if self._is_beside(beside):
            raise InvalidOption(
                f"ctx.version({name!r}) is asked for beside other steps, where nobody can say what came after it: ask in the handler's own "
                "task, before the tasks that it starts."
            )
        await self._load()
        if key not in self._answers:
            self._answers[key], known = self._history.version(key)
            if self._answers[key] and not known:
                self._checked(lambda: self._history.check_room(Place(key, 0)))
                self._versions[key] = SavedStep(name=key, kind=Kind.VERSION)
        return self._answers[key]

    async def map(
        self, name: str, function: Callable[[T], Any], items: Iterable[T], concurrency: int
    ) -> AsyncIterator[Any]:
        """Results in the order of ``items``, up to ``concurrency`` of them ahead."""
        if type(concurrency) is not int or not 1 <= concurrency <= WIDEST:
            raise InvalidOption(f"concurrency must be 1 to {WIDEST:,}, not {quoted(concurrency)}.")
        _check_function(name, function)
        place = await self._opened(name)
        number = len(items) if isinstance(items, Sized) else 0
        self._checked(lambda: self._history.check_map(place, number))
        ahead: deque[asyncio.Task[Any]] = deque()
        left = enumerate(items)
        try:
            while True:
                while len(ahead) < concurrency and not _have_failed(ahead):
                    if (pair := next(left, None)) is None:
                        break
                    ahead.append(self._spawn(self._step(place.item(pair[0]), function, (pair[1],), {})))
                if not ahead:
                    return
                await asyncio.wait([ahead[0]])
                if _has_failed(ahead[0]) and self.ending is None:
                    # What is under way ends first: it is saved, and not done again.
                    await asyncio.wait(ahead)
                yield await ahead.popleft()
        finally:
            await _dismiss(ahead)

    # -- the same for plain functions, from their threads

    def run_sync(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """As `run`; a plain ``function`` is called in this thread."""
        _check_function(name, function)
        place = self._from_thread(lambda beside: self._opened(name, beside=beside))
        if inspect.iscoroutinefunction(bare(function)):
            return self._from_thread(lambda _: self._step(place, function, args, kwargs))
        results = self._desk.type_of(function)
        if (saved := self._new(place)) is not None:
            return self._read(saved, results)
        inside, began = _INSIDE.set(self), self._clock.monotonic()
        try:
            value = _said(function(*args, **kwargs))
        finally:
            _INSIDE.reset(inside)
        took = self._clock.monotonic() - began
        return self._from_thread(lambda _: self._kept(place, results, value, took))

    def sleep_sync(self, when: When, name: str) -> None:
        """As `sleep`."""
        self._from_thread(lambda beside: self.sleep(when, name, beside=beside))

    def wait_sync(self, topic: str, key: str | None, timeout: Duration, name: str, kind: Any) -> Any:
        """As `wait`."""
        return self._from_thread(lambda beside: self.wait(topic, key, timeout, name, kind, beside=beside))

    def over_sync(self, flow: Flow[T], timeout: Duration, name: str) -> T:
        """As `over`."""
        result: T = self._from_thread(lambda beside: self.over(flow, timeout, name, beside=beside))
        return result

    def version_sync(self, name: str) -> bool:
        """As `version`."""
        return self._from_thread(lambda beside: self.version(name, beside=beside))

    # -- what the worker calls

    async def close(self) -> None:
        """The try is over: what its maps still do ends with it."""
        self.ending = self.ending or o.Interrupted()
        await _dismiss(self._tasks)

    # -- what the above is made of

    async def _step(
        self, place: Place, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        results = self._desk.type_of(function)
        if (saved := self._new(place)) is not None:
            return self._read(saved, results)
        with self._at_work():
            began = self._clock.monotonic()
            value = _said(await self._call(function, args, kwargs))
            return await self._kept(place, results, value, self._clock.monotonic() - began)

    def _new(self, place: Place) -> SavedStep | None:
        """What was saved of a step; None if it is to be run, and may be."""
        saved = self._checked(lambda: self._history.find(place, Kind.STEP))
        if saved is None:
            self._checked(lambda: self._history.check_room(place))
        return saved

    async def _kept(self, place: Place, results: ResultType, value: object, took: Micros) -> Any:
        """Save what a step came to, and read it as a later try will."""
        try:
            body = results.write(value)
        except NotSerialisable as error:
            raise self._end(
                StepRefused(f"the result of step {place.name!r} cannot be saved: {error}.")
            ) from error
        await self._save(place, SavedStep(name=place.name, position=place.position, body=body, took=took))
        if self._tie.is_cut:
            # A thread was waited for, though the try was cut off: what it did is kept, and that is all.
            raise asyncio.CancelledError
        return results.read(body)

    async def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        inside = _INSIDE.set(self)
        try:
            if inspect.iscoroutinefunction(bare(function)):
                return await function(*args, **kwargs)
            value = await self._desk.thread(function, *args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        finally:
            _INSIDE.reset(inside)

    def _place(self, name: str, *, beside: bool) -> Place:
        """Counted when it is called, before anything is waited for: the order of calls is the handler's."""
        check_new_name(name, "step")
        self._go_on()
        if _INSIDE.get() is self:
            raise InvalidOption(
                f"Step {name!r} is asked for inside another step: steps do not nest. Make it a step of the handler."
            )
        return self._history.place(name, beside=beside)

    async def _opened(self, name: str, *, beside: bool | None = None) -> Place:
        """The place of a call, after what was saved has been read. ``beside``: None if the running task says it."""
        place = self._place(name, beside=self._is_beside(beside))
        with self._at_work():
            await self._load()
        return place

    def _is_beside(self, said: bool | None) -> bool:  # noqa: FBT001  # None is the third answer
        return asyncio.current_task() is not self._main if said is None else said

    def _go_on(self) -> None:
        """Raise what takes a handler out of a try that is over, or stands in the way of a call from another loop."""
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidOption(
                "A step is awaited on another loop than its handler's: a plain handler calls ctx.step_sync() and its like."
            )
        if self.ending is not None:
            raise o.Suspended

    async def _load(self) -> None:
        """Read what tries before have saved; once, when the first step is asked for."""
        if self._loaded:
            return
        async with self._loading:
            if not self._loaded:
                self._history.load(await self._patiently(lambda: self._store.saved(self._delivery.id)))
                self._loaded = True
        self._go_on()

    async def _save(self, place: Place, step: SavedStep) -> None:
        """Save a step, and which versions the code has taken since the last. Raises what ends a try whose lease is lost."""
        if step.kind is not Kind.STEP:
            self._checked(lambda: self._history.check_room(place))
        self._checked(lambda: self._history.check_size(step))
        batch = [*self._versions.values(), step]
        with self._at_work():
            answer = await self._patiently(lambda: self._store.save(self._delivery, batch))
        if answer is Settled.STALE:
            self._tie.lose()
            self.ending = o.Interrupted()
            raise o.Suspended
        for one in batch:
            self._history.keep(one)
            self._versions.pop(one.name, None)

    async def _patiently(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask until the engine answers: its lease is kept meanwhile, and the try has its time. Repeating has no second effect."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await call()
            except (EngineUnavailable, OutcomeUnknown) as error:
                log.warning(
                    "step.waits",
                    extra={"task": self._delivery.message.name, "id": self._delivery.id, **told(error)},
                )
                await self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _leave(self, saved: SavedStep, *, awaits: bool = False) -> Any:
        """Leave the try until a step is due, or until an event comes. What runs beside this ends first, and need not run again; what is
        asked for beside it is asked for.
        """
        self._ends.append((self._clock.monotonic() + self._left(saved), saved.due))
        self._awaits = self._awaits or awaits
        turns = 0
        while turns < TURNS:
            # Whoever has just begun, or got a result, may ask for another step.
            await asyncio.sleep(0)  # noqa: TID251  # as said above
            turns += 1
            while self._running:
                self._quiet.clear()
                await self._quiet.wait()
                turns = 0
        end, due = min(self._ends, key=itemgetter(0))
        # What has just been saved has its time by the store's clock: it is never due before that.
        at = After(max(end - self._clock.monotonic(), 0)) if due is None else At(due)
        self.ending = self.ending or o.Put(at, awaits=self._awaits)
        raise o.Suspended

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    def _left(self, saved: SavedStep) -> Micros:
        """How long a step has still to wait: by the store's clock when it handed this out, carried forward, and so rather too long."""
        if saved.due is None:
            return saved.lasts or 0
        return saved.due - self._delivery.received - (self._clock.monotonic() - self._tie.began)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)  # awaited by its map, or when the try is over
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _read(self, saved: SavedStep, results: ResultType) -> Any:
        try:
            return results.read(saved.body or b"null", saved.content_type)
        except NotSerialisable as error:
            raise self._end(
                StepChanged(f"what was saved of {saved.name!r} is not what this code expects: {error}")
            ) from error

    def _event(self, saved: SavedStep, kind: Any) -> Any:
        if saved.body is None:
            raise self._end(
                StepRefused(f"the event that step {saved.name!r} waited for is larger than a step may be.")
            )
        if kind is bytes:
            return saved.body
        try:
            return ResultType(kind).read(saved.body, saved.content_type)
        except NotSerialisable as error:
            raise self._end(
                StepRefused(f"the event that step {saved.name!r} waited for cannot be read: {error}.")
            ) from error

    def _checked(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except StepError as error:
            raise self._end(error) from None

    def _end(self, error: StepError) -> StepError:
        """The try ends with ``error``, even if the handler catches it."""
        self.ending = o.Buried(Reason.STEPS, Failure(name_of(error), str(error)), counts=True)
        return error

    def _from_thread(self, run: Callable[[bool], Coroutine[Any, Any, T]]) -> T:
        """Run on the handler's loop, and wait for it here. ``run`` is told whether this is another thread than the first that called."""
        if _is_in_a_loop():
            raise InvalidOption(
                "ctx.step_sync() and its like are for plain functions: in a coroutine await ctx.step()."
            )
        self._thread = self._thread or threading.get_ident()
        work = run(threading.get_ident() != self._thread)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _check_function(name: str, function: object) -> None:
    """Raise `InvalidOption` for what cannot be called, such as a coroutine: it would be gone when it is to run again."""
    if callable(function):
        return
    if inspect.iscoroutine(function):
        function.close()
    raise InvalidOption(
        f"Step {name!r} takes a function and its arguments, as in ctx.step('charge', charge_card, order), not {quoted(function)}."
    )


def _said(value: object) -> object:
    """What a function came to; the words that steer a handler are for the handler, returned or raised."""
    if isinstance(value, o.Steer):
        raise value
    return value


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _have_failed(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Whether any has; all are looked at, so that none is said never to have been."""
    return True in list(map(_has_failed, tasks))


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _dismiss(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """End what of them is not over, and look at what they came to."""
    all_ = list(tasks)
    left = [task for task in all_ if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=CLEAN_UP)
    _have_failed(all_)
