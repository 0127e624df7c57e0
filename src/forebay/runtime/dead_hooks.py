"""Tells the application of its dead letters, one after the other and beside the work: what a hook does, or how long it takes, decides
nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from forebay.model.dead_letter import DeadLetter
from forebay.model.effect import effect
from forebay.model.state import State
from forebay.runtime.threads import Threads
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.engine import Delivery
    from forebay.model.query import TaskRecord
    from forebay.model.verdict import Reason, Verdict

log = Log("forebay.dead_hooks")

DeadHook: TypeAlias = Callable[[DeadLetter], Awaitable[object]] | Callable[[DeadLetter], object]
MOST: Final = 1_000
"""Letters that wait to be told of; beyond that they are only counted and logged. The store has them all."""
PATIENCE: Final = 10.0
"""Seconds that one hook may take for one letter; then the next is called."""


class DeadHooks:
    """``crashes``: lost leases after which a message is dead."""

    def __init__(self, hooks: Sequence[DeadHook], crashes: int) -> None:
        self._hooks, self._crashes = tuple(hooks), crashes
        self._waiting: deque[DeadLetter] = deque()
        self._some = asyncio.Event()
        self._threads = Threads(1)
        self._late: set[asyncio.Task[None]] = set()
        self._closing = False

    def hear(self, delivery: Delivery, verdict: Verdict) -> None:
        """A verdict that took effect. Only some are anybody's last."""
        if self._hooks and (letter := _letter(delivery, verdict, self._crashes)) is not None:
            self._add(letter)

    def hear_of(self, record: TaskRecord) -> None:
        """A message that died with its worker: what the store says of it."""
        if self._hooks and record.state is State.DEAD and record.reason is not None:
            self._add(_letter_of(record, record.reason))

    def _add(self, letter: DeadLetter) -> None:
        if len(self._waiting) >= MOST:
            log.error("dead.untold", extra={"task": letter.name, "id": letter.id})
            return
        self._waiting.append(letter)
        self._some.set()

    async def run(self) -> None:
        """Tell until closed, and of what waits then. Cancelled, what still waits is only logged."""
        try:
            while self._waiting or not self._closing:
                await self._some.wait()
                await self.tell()
                if not self._closing:
                    self._some.clear()
        finally:
            for letter in self._waiting:
                log.error("dead.untold", extra={"task": letter.name, "id": letter.id})
            self._threads.close()

    def close(self) -> None:
        """`run` ends when all that waits has been told; no thread is waited for."""
        self._closing = True
        self._some.set()
        if not self._waiting:
            self._threads.close()

    async def tell(self) -> None:
        """Call the hooks for each letter that waits."""
        while self._waiting:
            letter = self._waiting.popleft()
            for hook in self._hooks:
                await self._call(hook, letter)

    async def _call(self, hook: DeadHook, letter: DeadLetter) -> None:
        call = asyncio.get_running_loop().create_task(self._answered(hook, letter))  # waited for here
        _, late = await asyncio.wait([call], timeout=PATIENCE)
        if late:
            log.error("dead.hook_overdue", extra={"task": letter.name, "id": letter.id, "hook": _name(hook)})
            self._late.add(call)
            call.add_done_callback(self._late.discard)
            call.cancel()

    async def _answered(self, hook: DeadHook, letter: DeadLetter) -> None:
        try:
            if inspect.iscoroutinefunction(hook):
                await hook(letter)
            elif inspect.isawaitable(said := await self._threads.run(hook, letter)):
                await said
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a hook may raise anything, and that is all it can do
            log.error(  # noqa: TRY400  # with the traceback, too
                "dead.hook_failed",
                extra={"task": letter.name, "id": letter.id, "hook": _name(hook)},
                exc_info=error,
            )


def _letter(delivery: Delivery, verdict: Verdict, limit: int) -> DeadLetter | None:
    """What to tell, if this verdict was the last."""
    end = effect(verdict, crashes=delivery.crashes, most_crashes=limit, now=delivery.received)
    if end.state is not State.DEAD or end.reason is None:
        return None
    return DeadLetter(
        id=delivery.id,
        queue=delivery.source.queue,
        message=delivery.message,
        reason=end.reason,
        error=end.error,
        attempts=delivery.attempts + end.attempts,
        crashes=delivery.crashes + end.crashes,
    )


def _letter_of(record: TaskRecord, reason: Reason) -> DeadLetter:
    return DeadLetter(
        id=record.id,
        queue=record.queue,
        message=record.message,
        reason=reason,
        error=record.tries[-1].error if record.tries else None,
        attempts=record.attempts,
        crashes=record.crashes,
    )


def _name(hook: DeadHook) -> str:
    return getattr(hook, "__qualname__", type(hook).__name__)
