"""A process that dies at any line between the beginning of a try and its end: a step is run again only if its save was not committed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from forebay import Context
from forebay.engine import Ask, Settlement, Source
from forebay.model import outcome as o, verdict as v
from forebay.model.message import Message, MessageId
from forebay.model.query import HandBack, Selector
from forebay.runtime.executor import Live
from forebay.stores.memory import MemoryEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token
from tests.runtime.kit import a_handler, an_executor

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from forebay.engine import Delivery, Settled, Store
    from forebay.model.saved import SavedStep

WORK = Source(queue="work")


class Death(BaseException):
    """The process is gone."""


class Reaper:
    """Ends everything at the ``n``-th line of Forebay's code on this side of the store, whose calls happen whole or not at all: after it
    nothing has an effect any more.
    """

    def __init__(self, n: int) -> None:
        self._left, self.dead = n, False

    def trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith("forebay.") or name.startswith("forebay.stores."):
            return None
        if event == "line":
            self._left -= 1
            if self._left <= 0:
                self.dead = True  # not raised from here, which the interpreter counts wrong
        return self.trace

    def check(self) -> None:
        if self.dead:
            raise Death


class Mortal:
    """A store whose caller may be dead."""

    def __init__(self, store: Store, reaper: Reaper) -> None:
        self._store, self._reaper = store, reaper
        self.traits = store.traits

    async def save(self, delivery: Delivery, steps: list[SavedStep]) -> Settled:
        self._reaper.check()
        return await self._store.save(delivery, steps)

    async def saved(self, key: Any) -> Any:
        self._reaper.check()
        return await self._store.saved(key)


async def one_try(
    store: Store, reaper: Reaper, delivery: Delivery, effects: Counter[str]
) -> o.Outcome | None:
    """A try by a process that ``reaper`` ends; None if it did."""

    async def act(what: str) -> str:
        reaper.check()
        effects[what] += 1
        return f"{what} done"

    async def job(ctx: Context) -> list[str]:
        first = await ctx.step("charge", act, "charge")
        new = await ctx.version("v2")
        parts = [part async for part in ctx.step_map("parts", act, ["parts[0]", "parts[1]"], concurrency=2)]
        return [first, str(new), *parts, await ctx.step("ship", act, what="ship")]

    executor, in_flight = an_executor(store=Mortal(store, reaper))  # type: ignore[arg-type]  # as much of one as it takes
    handler = a_handler(job)
    run = in_flight.add(delivery)

    async def live() -> o.Outcome:
        outcome, _ = await executor.execute(run, Live(handler, handler.call(None)))  # type: ignore[arg-type]  # no threads
        return outcome

    before = sys.gettrace()
    sys.settrace(reaper.trace)
    try:
        outcome = await live()
    except Death:
        outcome = o.Interrupted()
    finally:
        sys.settrace(before)
    return None if reaper.dead else outcome


async def story(store: Store) -> int:
    """Die at every line in turn, until one is past the end; how many there were."""
    await store.declare([WORK])
    n = 0
    while True:
        n += 1
        effects, reaper = Counter[str](), Reaper(n)
        message = Message(id=MessageId(f"m{n}"), name="job", queue="work", body=b"{}")
        await store.publish([message])
        (delivery,) = await store.receive([Ask(WORK, new_token(), 1)], wait=0)
        outcome = await one_try(store, reaper, delivery, effects)
        if outcome is not None:
            assert effects == {"charge": 1, "parts[0]": 1, "parts[1]": 1, "ship": 1}
            return n
        there = {step.name for step in await store.saved(delivery.id)}
        done = dict(effects)
        await store.steer(Selector(), HandBack("one"))
        (delivery,) = await store.receive([Ask(WORK, new_token(), 1)], wait=0)
        again = await one_try(store, Reaper(sys.maxsize), delivery, effects)
        parts = ["parts[0] done", "parts[1] done"]
        assert again == o.Returned(
            b'["charge done","True","%s","%s","ship done"]' % tuple(p.encode() for p in parts)
        )
        for what in ("charge", "parts[0]", "parts[1]", "ship"):
            expected = 1 if what in there else done.get(what, 0) + 1
            assert effects[what] == expected, f"{what}, killed at line {n}"
        await store.settle([Settlement(delivery, v.Done())])


def test_a_step_is_run_again_only_if_its_save_was_not_committed() -> None:
    async def told() -> None:
        assert await story(MemoryEngine().connect("one", SystemClock())) > 200, "lines at which it died"

    asyncio.run(told())
