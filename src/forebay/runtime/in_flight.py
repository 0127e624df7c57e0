"""The deliveries this process has: how they are cut off when their time is up, and what the heartbeat keeps alive."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from forebay.errors import InvalidOption
from forebay.model.query import Progress
from forebay.model.when import SECOND, Micros
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.engine import Delivery
    from forebay.features.steps.steps import Steps
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

log = Log("forebay.in_flight")


class Why(StrEnum):
    """Why a running handler is cut off."""

    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    STOP = "stop"
    LOST = "lost"
    CANCEL = "cancel"


_ALONE: Final = (Why.LOST, Why.CANCEL)
"""What concerns one message of a batch alone."""


class Run:
    """One delivery at work. Lives from its receipt until it is settled."""

    __slots__ = (
        "_task", "cut", "delivery", "ends", "in_company", "overdue", "said", "steps", "told", "waited",
    )  # fmt: skip

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.cut: Why | None = None
        self.ends: Micros | None = None
        self.overdue = False
        self.in_company = False
        self.waited: Micros = 0
        """How long it has waited here since its receipt, for company or for a process."""
        self.said: Progress | None = None
        self.told: Progress | None = None
        self.steps: Steps | None = None
        """Its durable steps, once its handler has asked for any."""
        self._task: asyncio.Task[None] | None = None

    def begin(self, task: asyncio.Task[None] | None, ends: Micros | None) -> None:
        """User code starts in ``task``; ``ends`` (monotonic) is when it will have taken too long."""
        self._task, self.ends = task, ends

    def end(self) -> None:
        """User code is over: from here on nothing may cancel the task, which still has to settle."""
        self._task = self.ends = None

    @property
    def task(self) -> asyncio.Task[Any]:
        """What runs its user code. Raises `InvalidOption` if nothing does any more."""
        if self._task is None:
            raise InvalidOption(
                f"The try of {self.delivery.message.name} {self.delivery.id} is over: what it has started asks for a step too late."
            )
        return self._task

    def is_in(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether its user code is what ``task`` runs."""
        return task is not None and self._task is task

    @property
    def progress(self) -> Progress | None:
        """What the store has not been told yet of how far it is."""
        said = self.said
        if self.overdue:
            said = replace(said or Progress(), overdue=True)
        return None if said == self.told else said

    def stop(self, why: Why) -> None:
        """Cut off user code, for the first reason given. Called before it began, it will not begin.

        What concerns one message alone does not cut off those it is handled with, in a batch.
        """
        if self.cut is not None and not (self.in_company and self.cut in _ALONE):
            return
        self.cut = self.cut or why
        if self._task is not None and not (self.in_company and why in _ALONE):
            self._task.cancel(why.value)


class InFlight:
    """All runs of this process, and one timer for the one whose time is up next.

    One timer for all, not one each: a run's limit is usually minutes and its work milliseconds, so almost no timer would ever fire.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[int, Run] = {}
        self.under_way: set[Token] = set()
        """Tokens of the `receive` calls whose answer has not been seen: what they may have taken is kept alive as well."""
        self._timer: asyncio.TimerHandle | None = None
        self._rings: Micros | None = None
        self.empty = asyncio.Event()
        self.empty.set()
        self.on_news: Callable[[], None] = _nobody
        """Called, from any thread, when there is progress to tell of."""

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, delivery: Delivery) -> Run:
        """A new run, whose lease the heartbeat will keep."""
        run = Run(delivery)
        self._runs[id(run)] = run
        self.empty.clear()
        return run

    def remove(self, run: Run) -> None:
        """The run is settled, or lost. Doing it twice does no harm: what was handed back at a stop may still come to its own end."""
        self._runs.pop(id(run), None)
        if not self._runs:
            self.empty.set()

    def snapshot(self) -> list[Run]:
        """All runs. Safe to call from any thread: copying a dict's values is one step of the interpreter."""
        return list(self._runs.values())

    def stop_all(self, why: Why) -> None:
        """Cut off every run."""
        for run in self.snapshot():
            run.stop(why)

    def watch(self, run: Run) -> None:
        """Cut ``run`` off when its time is up."""
        if run.ends is not None and (self._rings is None or run.ends < self._rings):
            self._ring_at(run.ends)

    def say(self, run: Run, said: Progress) -> None:
        """Its handler says how far it is. From any thread; the heartbeat carries on what was said last."""
        run.said = said
        self.on_news()

    @property
    def overdue(self) -> int:
        """How many go on though their time is up."""
        return sum(run.overdue and run.ends is not None for run in self.snapshot())

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._rings = None

    def _ring_at(self, when: Micros) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = when
        delay = max(0.0, (when - self._clock.monotonic()) / SECOND)
        self._timer = asyncio.get_running_loop().call_later(delay, self.ring)

    def ring(self) -> None:
        """Cut off those whose time is up, and ring again for the next."""
        self._timer = self._rings = None
        now = self._clock.monotonic()
        ends: list[Micros] = []
        for run in self.snapshot():
            if run.ends is not None and not run.overdue:
                if run.ends <= now:
                    self._time_is_up(run)
                else:
                    ends.append(run.ends)
        if ends:
            self._ring_at(min(ends))

    def _time_is_up(self, run: Run) -> None:
        run.overdue = True
        run.stop(Why.TIMEOUT)
        self.on_news()
        message = run.delivery.message
        log.warning("task.overdue", extra={"task": message.name, "id": run.delivery.id})


def _nobody() -> None:
    """Nobody carries on what handlers say."""


def stopper(loop: asyncio.AbstractEventLoop, run: Run, why: Why) -> Callable[[], None]:
    """A call that cuts off ``run`` from another thread."""

    def stop() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(run.stop, why)

    return stop
