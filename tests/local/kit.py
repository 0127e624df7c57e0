"""A story on asyncio's own loop and on uvloop, and the ways to let others run."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")

CAP = 25.0
"""Seconds after which a story has failed. Almost none takes more than a tenth of one."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def story(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async test, run to its end or to its cap, on each kind of loop."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def capped() -> None:
            async with asyncio.timeout(CAP):
                await test(*args, **kwargs)

        for name, factory in LOOPS.items():
            try:
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(capped())
            except BaseException as error:
                error.add_note(f"on {name}")
                raise

    return run


async def settle(rounds: int = 8) -> None:
    """Let every task that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run beside; the test waits for it itself."""
    return asyncio.get_running_loop().create_task(work)
