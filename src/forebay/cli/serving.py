"""What a worker process does around its `Worker`: settings, log, banner, the loop, and the way out."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from forebay import __version__
from forebay.cli.exits import Exit, code_of
from forebay.cli.loading import load
from forebay.cli.orders import patience
from forebay.cli.output import Unread, clean_lines, let_go_of_streams, note, nowhere, sentence, span
from forebay.errors import ConfigError, ForebayError, name_of, text_of
from forebay.model.query import LONGEST_PAGE, Actor, HandBack, Query, Selector
from forebay.model.state import State
from forebay.model.when import seconds
from forebay.processes.health import Health
from forebay.processes.protocol import POOL_LOG
from forebay.runtime.worker import WorkerOptions
from forebay.support.clock import SystemClock
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence

    from forebay.app import App
    from forebay.cli.orders import Orders
    from forebay.cli.supervising import Supervision
    from forebay.processes.link import SupervisorLink
    from forebay.runtime.worker import Worker

log = Log("forebay.worker")


def serve(
    spec: str, include: Sequence[str], orders: Orders, supervision: Supervision, link: SupervisorLink | None
) -> Exit:
    """Run a worker for the App that ``spec`` names until it is told to stop. ``include``: see `load`. ``link``: to a supervisor."""
    if isinstance(sys.stdout, Unread):
        sys.stdout = nowhere()  # handlers that print, print to nobody
    app = load(spec, include)
    ours = orders.looks.set_up()
    # The children that try one message at a time log as this process does.
    os.environ[POOL_LOG] = orders.looks.words
    shares = _shares(spec, app, orders.options)
    if link is not None and not app.engine.traits.shared:
        raise ConfigError(
            f"{app.engine.url} lives inside one process: a worker in a process of its own, as under --processes and forebay dev, "
            "would share it with nobody. Use another engine, such as sqlite:///jobs.db."
        )
    if link is None or link.first:
        _announce(app, spec, orders, shares, ours=ours)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.get_loop().set_exception_handler(_complain)
        worker = app.worker(orders.options)
        code = _see_through(runner.get_loop(), worker, _work(app, worker, orders, supervision, link))
    let_go_of_streams()  # what handlers have printed is not this command's output
    return code


def _see_through(
    loop: asyncio.AbstractEventLoop, worker: Worker, work: Coroutine[object, object, Exit]
) -> Exit:
    """Run the worker to its end. A `SystemExit` in a task or callback of a handler's own comes out of the loop: it ends no worker."""
    working = loop.create_task(work)
    while True:
        try:
            return loop.run_until_complete(working)
        except SystemExit as error:
            if working.done():
                raise
            log.exception("worker.exit_refused", extra={"exit": error.code})
        except KeyboardInterrupt:
            if working.done():
                raise
            worker.stop()


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the loop has to say of a task or callback of a handler's own. A filter that raises at it does not end the loop."""
    try:
        loop.default_exception_handler(context)
    except Exception:
        log.exception("loop.error")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loops of uvloop where it is installed (``pip install forebay[uvloop]``), else asyncio's own."""
    try:
        import uvloop  # an extra
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _work(
    app: App, worker: Worker, orders: Orders, supervision: Supervision, link: SupervisorLink | None
) -> Exit:
    worker.on_blocked = _blocked
    code = Exit.OK
    try:
        async with AsyncExitStack() as stack:
            if link is not None:
                link.hold(worker, patience(orders), _left_alone)
                hand_back = partial(_hand_back, app, worker) if app.engine.traits.remembers else None
                attending = partial(link.attend, hand_back, supervision.fill, SystemClock())
                await stack.enter_async_context(_beside(worker, attending))
            else:
                await supervision.show(stack, partial(_health, worker))
            await worker.run(signals=True)
    except ExceptionGroup as faults:
        # Those of its own services the worker has logged, each with its traceback.
        fault = _first(faults)
        said, code = clean_lines(text_of(fault)), Exit.FAILED
        if isinstance(fault, ForebayError):
            said, code = sentence(fault), code_of(fault)
        note(f"forebay: the worker stopped because a part of it failed: {name_of(fault)}: {said}")
    if worker.stuck:
        _leave(worker.stuck)
    return code


async def _hand_back(app: App, worker: Worker, name: str) -> int:
    """Take back what a dead worker had, and tell of what is dead of it."""
    held = await app.find(Query(which=Selector(worker=name), size=LONGEST_PAGE))
    by = Actor(name=name, via="supervisor", why="its process died")
    changed = (await app.steer(Selector(), HandBack(name), by=by)).changed
    ids = tuple(record.id for record in held.records)
    if ids:
        gone = Selector(ids=ids, states=frozenset({State.DEAD}))
        for record in (await app.find(Query(which=gone, size=LONGEST_PAGE))).records:
            worker.on_dead(record)
    return changed


def _health(worker: Worker) -> Health:
    return Health(
        worker.condition == "working",
        {"worker": worker.name, "condition": worker.condition, "pid": os.getpid(), **worker.load},
    )


@asynccontextmanager
async def _beside(worker: Worker, service: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """A service that runs as long as the worker, which may be no time at all; if it fails the worker ends in order."""

    async def guarded() -> None:
        try:
            await service()
        except Exception:
            worker.stop()
            log.exception("worker.fault", extra={"worker": worker.name})

    task = asyncio.get_running_loop().create_task(guarded())  # ends below
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _blocked() -> NoReturn:
    """End the process, whose loop does not turn: its log has the stacks. What it held counts as crashed."""
    _end(Exit.BLOCKED)


def _left_alone() -> NoReturn:
    """End the process, whose supervisor is dead, and which does not stop."""
    _end(Exit.STUCK)


def _end(code: Exit) -> NoReturn:
    """Not by way of the log's end: whatever blocks may hold its lock."""
    os._exit(code)


def _leave(stuck: int) -> NoReturn:
    """End the process although handlers are still at work: closing the loop would wait for them for ever."""
    log.error("worker.stuck", extra={"handlers": stuck, "exit": Exit.STUCK.value})
    try:
        logging.shutdown()
        sys.stdout.flush()
    finally:  # whatever an application's handlers say to that
        os._exit(Exit.STUCK)


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _shares(spec: str, app: App, options: WorkerOptions) -> Mapping[str, int]:
    """The queues this worker takes from, with weights. Raises `ConfigError` for one that has no handler."""
    declared = {route.source.queue: route.weight for route in app.routes()}
    if options.queues is None:
        return declared
    for queue in options.queues.keys() - declared.keys():
        known = ", ".join(sorted(declared))
        raise ConfigError(f"Queue {queue!r} has no handler in {spec}, which declares {known}.")
    return options.queues


def _announce(app: App, spec: str, orders: Orders, shares: Mapping[str, int], *, ours: bool) -> None:
    """What this worker is about to do: a person's block of lines, or one more object in a log of objects."""
    options = orders.options
    if orders.looks.as_objects:
        log.info("worker.plan", extra={
            "app": spec, "engine": app.engine.url, "queues": shares, "strict": options.strict, "concurrency": options.concurrency,
            "lease_seconds": seconds(app.timing.lease), "stop_within_seconds": seconds(options.stop_within),
            "version": __version__, "pid": os.getpid(),
        })  # fmt: skip
        return
    bus = "" if app.bus is None else f", bus {app.bus.url}"
    manner = ", strictly in this order" if options.strict else ""
    note(f"forebay {__version__} works for {spec} (pid {os.getpid()})")
    note(f"  engine       {app.engine.url}{bus}")
    note(f"  queues       {', '.join(f'{queue}={weight}' for queue, weight in shares.items())}{manner}")
    note(f"  concurrency  {options.concurrency}, on {'asyncio' if _loop_factory() is None else 'uvloop'}")
    note(f"  lease        {span(app.timing.lease)}; a stop waits {span(options.stop_within)} for handlers")
    if not ours:
        hint = (
            ', which disables it: give its dictConfig "disable_existing_loggers": False'
            if log.logger.disabled
            else ""
        )
        note(f"  log          left to the application{hint}")
