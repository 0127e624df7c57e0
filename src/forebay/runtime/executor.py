"""One try: read the message, call the handler, say what became of it. Does no I/O of its own and never raises.

Anything a handler raises becomes an outcome, `SystemExit` and `KeyboardInterrupt` included: user code does not end a worker.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from forebay.codec import json
from forebay.codec.signature import Arguments
from forebay.context import Context
from forebay.errors import InvalidOption, Unsupported, name_of, shown, text_of
from forebay.features.flows.gathering import LARGEST_GATHERED, parents_of
from forebay.features.limits import take_turn
from forebay.features.steps.desk import Desk
from forebay.features.steps.steps import Steps
from forebay.model import outcome as o
from forebay.model.fingerprint import fingerprint
from forebay.model.flow import Gather
from forebay.model.verdict import Failure, Reason
from forebay.model.when import After, At
from forebay.runtime.forks import Home, end_fork
from forebay.runtime.frames import user_frames
from forebay.runtime.in_flight import Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.compose import Composer
    from forebay.declaring.handler import Handler
    from forebay.middleware import Call
    from forebay.model.message import Message
    from forebay.model.query import Progress
    from forebay.model.survey import Parent
    from forebay.model.when import Duration, Micros
    from forebay.runtime.in_flight import InFlight, Run

LONGEST_TRACEBACK: Final = 16_384
LONGEST_ERROR: Final = 2_048
LONGEST_NAME: Final = 256
LARGEST_RESULT: Final = 1 << 20
"""A result is a return value, not a file: 1 MiB of JSON."""

_TIME_IS_UP: Final = (Why.TIMEOUT, Why.DEADLINE)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Live:
    """A handler with its middleware around it, ready to be called in this worker."""

    handler: Handler
    call: Call


class Tied:
    """A try's tie to its worker, for its context."""

    __slots__ = ("_desk", "_handler", "_in_flight", "_run")

    def __init__(self, run: Run, in_flight: InFlight, handler: Handler, desk: Desk) -> None:
        self._run, self._in_flight, self._handler, self._desk = run, in_flight, handler, desk

    @property
    def most(self) -> int:
        """How many tries there are in all."""
        handler = self._handler
        return handler.policy.most(None if handler.relays else self._run.delivery.message.max_attempts)

    @property
    def is_cut(self) -> bool:
        """Whether it is to stop."""
        return self._run.cut is not None

    @property
    def main(self) -> asyncio.Task[Any]:
        """What runs the handler."""
        return self._run.task

    @property
    def steps(self) -> Steps:
        """Its durable steps, from the first that is asked for."""
        run = self._run
        if run.steps is None:
            if self._handler.batch:
                raise InvalidOption(
                    f"{self._handler.name} takes batches, and steps are of one message: send a task for each, and give that one steps."
                )
            run.steps = Steps(self._desk, run.delivery, self)
        return run.steps

    @property
    def began(self) -> Micros:
        """When it was handed out, by the worker's monotonic clock: its limit tells."""
        run = self._run
        return (run.ends or 0) - limit_of(run, self._handler) - run.waited

    def lose(self) -> None:
        """Its lease is somebody else's."""
        self._run.cut = self._run.cut or Why.LOST

    def say(self, said: Progress) -> None:
        """Carry on how far it is."""
        self._in_flight.say(self._run, said)

    async def take_turn(self, bucket: str, rate: str, burst: int | None, wait: Duration | None) -> None:
        """Return when it has its turn in a rate that is shared."""
        desk = self._desk
        if desk.store is None:
            raise Unsupported(
                f"{self._run.delivery.message.name}: ctx.limit() shares a rate through a store that is out of reach here: run the handler "
                "in a worker of a store, such as sqlite:///forebay.db, without pool='process' if that is memory://."
            )
        # On a clock that stands still nobody waits in place.
        await take_turn(desk.store, desk.clock, bucket, rate, burst=burst, wait=wait if desk.in_place else 0)

    def take_turn_sync(self, bucket: str, rate: str, burst: int | None, wait: Duration | None) -> None:
        """`take_turn`, for a handler in a thread."""
        turn = self.take_turn(bucket, rate, burst, wait)
        asyncio.run_coroutine_threadsafe(turn, self.main.get_loop()).result()

    async def parents(self) -> list[Parent]:
        """The steps of its flow that it waited for."""
        store, delivery = self._desk.store, self._run.delivery
        if store is None:
            raise Unsupported(
                f"{delivery.message.name}: the steps before it are kept in a store that is out of reach of this process: take their "
                "results with gather=True, or use a store that is not, such as sqlite:///forebay.db."
            )
        return await parents_of(store, delivery.id)

    def parents_sync(self) -> list[Parent]:
        """`parents`, for a handler in a thread."""
        return asyncio.run_coroutine_threadsafe(self.parents(), self.main.get_loop()).result()


class Executor:
    """Turns deliveries into outcomes."""

    def __init__(self, composer: Composer, in_flight: InFlight, desk: Desk) -> None:
        self._composer, self._in_flight, self._clock = composer, in_flight, desk.clock
        self._desk = desk
        self._home = Home()

    async def execute(self, run: Run, live: Live | None) -> tuple[o.Outcome, tuple[Message, ...]]:
        """One try of one delivery, and what it wants to send if it succeeded."""
        if (late := too_late(run)) is not None:
            return late, ()
        if live is None:
            return o.Nameless(run.delivery.message.name), ()
        if live.handler.batch:
            (one,) = await self.execute_batch([run], live)
            return one
        ctx = self._read(run, live.handler)
        if not isinstance(ctx, Context):
            return ctx, ()
        outcome = await self._call(run, live, ctx)
        return outcome, ctx.collected if isinstance(outcome, o.Returned) else ()

    async def execute_batch(
        self, runs: Sequence[Run], live: Live
    ) -> list[tuple[o.Outcome, tuple[Message, ...]]]:
        """One call for many deliveries; what became of each, in order. What cannot be read or came too late never gets into it."""
        outcomes: dict[Run, tuple[o.Outcome, tuple[Message, ...]]] = {}
        contexts: dict[Run, Context] = {}
        for run in runs:
            ctx = too_late(run) or self._read(run, live.handler)
            if run.cut is not None:
                outcomes[run] = cut_off(run.cut, live.handler), ()
            elif isinstance(ctx, Context):
                contexts[run] = ctx
            else:
                outcomes[run] = ctx, ()
        if contexts:
            said = await self._call_batch(contexts, live)
            for (run, ctx), outcome in zip(contexts.items(), said, strict=True):
                outcomes[run] = outcome, ctx.collected if isinstance(outcome, o.Returned) else ()
        return [outcomes[run] for run in runs]

    async def _call_batch(self, contexts: Mapping[Run, Context], live: Live) -> Sequence[o.Outcome]:
        """The call itself. Middleware is around all of it, with the context of the first message and the arguments of the batch."""
        handler, each = live.handler, list(contexts.values())
        task, first = asyncio.current_task(), each[0]
        given: dict[str, object] = {handler.items: [_only(ctx.arguments) for ctx in each]}
        if handler.context is not None:
            given[handler.context] = each
        ends = self._clock.monotonic() + min(limit_of(run, handler) for run in contexts)
        for run in contexts:
            run.in_company = len(each) > 1
            run.begin(task, ends)
        self._in_flight.watch(next(iter(contexts)))
        said: Sequence[o.Outcome]
        try:
            value = await live.call(first.called_with(Arguments((), given)))
            if self._home.left:
                end_fork(None)
            said = _verdicts(value, len(each), handler)
        except BaseException as error:  # noqa: BLE001  # whatever user code raises is an outcome, see the module
            said = self._raised(list(contexts), error, handler)
        finally:
            for run in contexts:
                run.end()
            if task is not None:
                _uncancel(task)
        return [_in_time(run, one, handler) for run, one in zip(contexts, said, strict=True)]

    def _read(self, run: Run, handler: Handler) -> Context | o.Buried:
        """The context of the call, or why the message cannot be read. `ValidationError` is a `DecodeError`, so it is asked for first."""
        delivery = run.delivery
        body = delivery.message.body
        if len(body) > self._composer.max_body and not handler.relays:
            step, limit = delivery.message.step, self._composer.max_body
            if step is not None and step.gather is not Gather.NONE:
                limit += LARGEST_GATHERED
            if len(body) > limit:
                failure = Failure("MessageTooLarge", f"the body has {len(body)} bytes, the limit is {limit}")
                return o.Buried(Reason.TOO_LARGE, failure, counts=False)
        try:
            return Context(
                delivery,
                self._composer,
                handler.decode(delivery.message),
                Tied(run, self._in_flight, handler, self._desk),
            )
        except msgspec.ValidationError as error:
            return o.Buried(Reason.ARGUMENTS, _failure(error), counts=False)
        except _UNREADABLE as error:
            return o.Buried(Reason.UNDECODABLE, _failure(error), counts=False)
        except BaseException as error:  # noqa: BLE001  # the __post_init__ or validator of a user's type may raise anything
            return o.Buried(Reason.ARGUMENTS, _failure(error), counts=False)

    def _raised(self, runs: Sequence[Run], error: BaseException, handler: Handler) -> Sequence[o.Outcome]:
        """What user code's error means for each it was called for. By the error's type: a user's class may refuse to be asked."""
        if self._home.left:
            end_fork(error)
        if issubclass(type(error), asyncio.CancelledError):
            # Cut off by us, or a handler that let its own cancellation out: a failure like any other.
            return [_failed(error, handler) if run.cut is None else cut_off(run.cut, handler) for run in runs]
        if issubclass(type(error), o.Steer):
            return [_steered(cast("o.Steer", error))] * len(runs)
        return [_failed(error, handler)] * len(runs)

    async def _call(self, run: Run, live: Live, ctx: Context) -> o.Outcome:
        if (cut := run.cut) is not None:
            return cut_off(cut, live.handler)
        task = asyncio.current_task()
        run.begin(task, self._clock.monotonic() + limit_of(run, live.handler))
        self._in_flight.watch(run)
        try:
            value = await live.call(ctx)
            if self._home.left:
                end_fork(None)
            outcome = _steered(value) if isinstance(value, o.Steer) else _returned(value, live.handler)
        except BaseException as error:  # noqa: BLE001  # whatever user code raises is an outcome, see the module
            outcome = self._raised([run], error, live.handler)[0]
        finally:
            run.end()
            if task is not None and task.cancelling():
                _uncancel(task)
        if (steps := run.steps) is not None:
            outcome = steps.ending or outcome
            await steps.close()
        return outcome if run.cut is None else _in_time(run, outcome, live.handler)


def _uncancel(task: asyncio.Task[Any]) -> None:
    """User code is over: the task that ran it must still settle, though it was cut off."""
    while task.uncancel():
        pass


def _in_time(run: Run, outcome: o.Outcome, handler: Handler) -> o.Outcome:
    """What a try came to, if that was in time. What a coroutine that ignores its cancellation says after its timeout does not count, unless
    that is a failure of its own; a thread could not be stopped, so what it comes to does.
    """
    if run.cut not in _TIME_IS_UP or handler.threaded or isinstance(outcome, o.Failed):
        return outcome
    return cut_off(run.cut, handler)


def _only(arguments: Arguments) -> object:
    """The one argument of an item."""
    return next(iter((*arguments.args, *arguments.kwargs.values())), None)


def _verdicts(value: object, count: int, handler: Handler) -> Sequence[o.Outcome]:
    """What a batch handler says of each of its items."""
    if value is None:
        return [o.Returned(None)] * count
    if isinstance(value, list | tuple) and len(value) == count:
        return [_said(one, handler) for one in value]
    said = f"a list of {len(value)}" if isinstance(value, list | tuple) else name_of(value)
    failure = Failure(
        "BatchResult",
        f"{handler.name} was given {count} items and returned {said}: a batch handler returns None, or a list with one word for each item",
    )
    return [o.Failed(failure)] * count


def _said(word: object, handler: Handler) -> o.Outcome:
    if isinstance(word, o.Steer):
        return _steered(word)
    return _failed(word, handler) if isinstance(word, BaseException) else _returned(word, handler)


def too_late(run: Run) -> o.Outcome | None:
    """What becomes of a delivery whose time was over before it could begin."""
    delivery, now = run.delivery, run.delivery.received + run.waited
    if delivery.expires is not None and delivery.expires <= now:
        return o.TooLate()
    if delivery.deadline is not None and delivery.deadline <= now:
        failure = Failure("Deadline", "its deadline had passed before it could begin")
        return o.Buried(Reason.DEADLINE, failure, counts=False)
    return None


def limit_of(run: Run, handler: Handler) -> Micros:
    """How long a try may take: its timeout, or what is left until the deadline."""
    delivery = run.delivery
    asked = None if handler.relays else delivery.message.timeout
    timeout = asked or handler.timeout
    if delivery.deadline is None:
        return timeout
    return max(0, min(timeout, delivery.deadline - delivery.received - run.waited))


def _returned(value: object, handler: Handler) -> o.Outcome:
    if value is None:
        return o.Returned(None)
    try:
        result = json.encode(value)
        change = handler.result_change(value, result) if len(result) <= LARGEST_RESULT else None
    except Exception as error:  # noqa: BLE001  # a user's type may raise anything while it is written
        return o.Buried(
            Reason.RESULT,
            Failure("NotSerialisable", f"the result cannot be written as JSON: {_message(error)}"),
            counts=True,
        )
    if len(result) > LARGEST_RESULT:
        failure = Failure(
            "ResultTooLarge", f"the result has {len(result)} bytes, the limit is {LARGEST_RESULT}"
        )
        return o.Buried(Reason.RESULT, failure, counts=True)
    if change is not None:
        failure = Failure("NotSerialisable", f"the result would not be read as it was returned: {change}")
        return o.Buried(Reason.RESULT, failure, counts=True)
    return o.Returned(result)


def _steered(word: o.Steer) -> o.Outcome:
    match word:
        case o.Retry(when=At() | After() | None as when):
            return o.Failed(Failure("Retry", _message(word)), at=when)
        case o.Snooze(when=At() | After() as when):
            return o.Put(when)
        case o.Dead():
            return o.Buried(Reason.ASKED, Failure("Dead", _message(word)), counts=True)
        case o.Cancel():
            return o.CalledOff()
        case _:
            return o.Failed(Failure(name_of(word), "a handler steers by Retry, Snooze, Dead or Cancel"))


def cut_off(why: Why, handler: Handler) -> o.Outcome:
    """What a try comes to that was cut off."""
    match why:
        case Why.TIMEOUT | Why.DEADLINE:
            failure = Failure("Timeout", f"{handler.name} ran out of time")
            return o.Failed(failure, retryable=not _is_one_of(TimeoutError(), handler.no_retry_on))
        case Why.STOP | Why.LOST:
            return o.Interrupted()
        case Why.CANCEL:
            return o.CalledOff()


def _failed(error: BaseException, handler: Handler) -> o.Outcome:
    return o.Failed(_failure(error), retryable=not _is_one_of(error, handler.no_retry_on))


def _is_one_of(error: BaseException, types: tuple[type[BaseException], ...]) -> bool:
    try:
        return isinstance(error, types)
    except BaseException:  # noqa: BLE001  # a user's metaclass may do anything while it is asked; then it is not known to be one
        return False


def mistaken(error: BaseException) -> o.Outcome:
    """What a try comes to that a mistake of ours broke off: a failure like any other."""
    return o.Failed(_failure(error))


def _failure(error: BaseException) -> Failure:
    """An error as data, bounded. A user's class may do anything while it is read."""
    kind, message = _storable(name_of(error)[:LONGEST_NAME]), _message(error)
    traced = shown(lambda: _storable(_traceback(error)[-LONGEST_TRACEBACK:]))
    try:
        frames = user_frames(error)
    except BaseException:  # noqa: BLE001  # as said
        frames = []
    return Failure(kind, message, traced, fingerprint(kind, message, frames))


def _message(error: BaseException) -> str:
    return _storable(text_of(error)[:LONGEST_ERROR])


def _traceback(error: BaseException) -> str:
    """Where it happened. It begins in user code: our own frames above it tell nothing."""
    own = error.__traceback__
    while own is not None and "forebay" in own.tb_frame.f_globals.get("__name__", "").split(".")[:1]:
        own = own.tb_next
    if own is None:
        return ""
    try:
        return "".join(traceback.format_exception(type(error), error, own))
    except BaseException:  # noqa: BLE001  # its class may do anything while its causes and notes are read; the frames are the interpreter's
        return f"{''.join(traceback.format_tb(own))}{name_of(error)}: {text_of(error)}"


def _storable(text: str) -> str:
    """Lone surrogates (of undecodable file names, say) have no UTF-8, and NUL ends a text in some engines."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
